//! One call of a plugin whose every part a test can change.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::plugin::{Attachment, CniError, Plugin, Reply};

/// Every version of the specification, oldest first.
pub const VERSIONS: [&str; 7] = [
    "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
];

/// One call, ready but for what a test changes.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    plugin: &'a Plugin,
    env: BTreeMap<String, String>,
    stdin: String,
}

impl<'a> Call<'a> {
    /// A call with all that `attachment` says, and nothing on standard input.
    pub fn of(plugin: &'a Plugin, verb: &str, attachment: &Attachment) -> Self {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
        let variables = [
            ("CNI_COMMAND", Some(verb.to_owned())),
            ("CNI_CONTAINERID", Some(attachment.container_id.clone())),
            ("CNI_NETNS", path(&attachment.netns)),
            ("CNI_IFNAME", Some(attachment.ifname.clone())),
            ("CNI_ARGS", attachment.args.clone()),
            ("CNI_PATH", path(&attachment.cni_path)),
        ];
        let given = |(name, value): (&str, Option<String>)| Some((name.to_owned(), value?));
        Self {
            plugin,
            env: variables.into_iter().filter_map(given).collect(),
            stdin: String::new(),
        }
    }

    /// With this variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Without this variable.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    /// With this configuration on standard input.
    #[must_use]
    pub fn conf(self, conf: &Value) -> Self {
        self.text(&conf.to_string())
    }

    /// With this text on standard input.
    #[must_use]
    pub fn text(mut self, stdin: &str) -> Self {
        stdin.clone_into(&mut self.stdin);
        self
    }

    /// Runs it, whatever comes of it.
    pub fn reply(&self) -> Result<Reply> {
        let env: Vec<(&str, &str)> = self
            .env
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        self.plugin.raw(&env, self.stdin.as_bytes())
    }

    /// A success; its document, `Null` when there is none.
    pub fn succeeds(&self) -> Result<Value> {
        self.reply()?.result()
    }

    /// A failure; its error, which is one document, has an exit status of 1 and words.
    pub fn fails(&self) -> Result<CniError> {
        let reply = self.reply()?;
        let error = reply.failure()?;
        assert_eq!(reply.status.code(), Some(1), "{error:?}");
        ensure!(!error.msg.is_empty(), "an error without words");
        ensure!(
            reply.stdout.ends_with("}\n") && reply.stdout.lines().count() == 1,
            "not one line: {:?}",
            reply.stdout
        );
        Ok(error)
    }

    /// A failure of this code whose message begins so.
    pub fn fails_with(&self, code: u64, msg: &str) -> Result<CniError> {
        let error = self.fails()?;
        ensure!(
            error.code == code && error.msg.starts_with(msg),
            "expected code {code} and {msg:?}..., got {error:?} for {:?} and {}",
            self.env,
            self.stdin
        );
        Ok(error)
    }
}

/// Where [`install`] puts plugins.
pub const PLUGINS: &str = "/run/plugins";

/// Installs an executable shell script as a plugin in [`PLUGINS`].
pub fn install(name: &str, script: &str) -> Result<()> {
    fs::create_dir_all(PLUGINS)?;
    let path = Path::new(PLUGINS).join(name);
    fs::write(&path, script)?;
    fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    Ok(())
}
