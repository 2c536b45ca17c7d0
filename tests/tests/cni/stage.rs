//! A pod, the plugin, and a call whose every part a test can change.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use berth_tests::{Attachment, CniError, Node, Plugin, Pod, Reply, Result, ensure};
use serde_json::{Value, json};

/// Every version, oldest first.
pub(crate) const VERSIONS: [&str; 7] = [
    "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
];
/// The codes of the specification and of the plugin's documentation.
pub(crate) mod code {
    pub(crate) const VERSION: u64 = 1;
    pub(crate) const UNSUPPORTED: u64 = 2;
    pub(crate) const ENV: u64 = 4;
    pub(crate) const IO: u64 = 5;
    pub(crate) const DECODE: u64 = 6;
    pub(crate) const CONFIG: u64 = 7;
    pub(crate) const NETNS: u64 = 8;
    pub(crate) const TRY_AGAIN: u64 = 11;
    pub(crate) const NOT_AVAILABLE: u64 = 50;
    pub(crate) const INCOMPLETE: u64 = 102;
}

/// What a test works on.
pub(crate) struct Stage {
    pub(crate) plugin: Plugin,
    pub(crate) pod: Pod,
}

impl Stage {
    pub(crate) fn set(node: &Node) -> Result<Self> {
        Ok(Self {
            plugin: Plugin::find("cni-bridge-vlan")?,
            pod: node.pod("pod")?,
        })
    }

    pub(crate) fn attachment(&self) -> Attachment {
        Attachment::of(&self.pod, "c1", "eth0")
    }

    /// A call with all that `verb` needs.
    pub(crate) fn call(&self, verb: &str) -> Call<'_> {
        let netns = self.pod.path().display().to_string();
        let variables = [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_NETNS", &netns),
            ("CNI_IFNAME", "eth0"),
        ];
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Call {
            plugin: &self.plugin,
            env: variables.map(own).into(),
            stdin: conf().to_string(),
        }
    }
}

/// One call, ready but for what a test changes.
#[derive(Clone)]
pub(crate) struct Call<'a> {
    plugin: &'a Plugin,
    env: BTreeMap<String, String>,
    stdin: String,
}

impl Call<'_> {
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    pub(crate) fn conf(self, conf: &Value) -> Self {
        self.text(&conf.to_string())
    }

    pub(crate) fn text(mut self, stdin: &str) -> Self {
        stdin.clone_into(&mut self.stdin);
        self
    }

    pub(crate) fn reply(&self) -> Result<Reply> {
        let env: Vec<(&str, &str)> = self
            .env
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        self.plugin.raw(&env, self.stdin.as_bytes())
    }

    /// A success; its document, `Null` when there is none.
    pub(crate) fn succeeds(&self) -> Result<Value> {
        self.reply()?.result()
    }

    /// A failure; its error, which is one document, has an exit status of 1 and words.
    pub(crate) fn fails(&self) -> Result<CniError> {
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
    pub(crate) fn fails_with(&self, code: u64, msg: &str) -> Result<CniError> {
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

/// An untagged bridge, layer 2 only.
pub(crate) fn conf() -> Value {
    json!({"cniVersion": "1.1.0", "name": "net1", "type": "cni-bridge-vlan",
           "bridge": "br0", "announce": false})
}

pub(crate) fn conf_with(key: &str, value: Value) -> Value {
    let mut conf = conf();
    conf[key] = value;
    conf
}

/// `ipam` of these addresses, gateways being the first of each subnet.
pub(crate) fn fixed(addresses: &[&str]) -> Value {
    let list: Vec<Value> = addresses
        .iter()
        .map(|address| {
            let gateway = if address.contains(':') {
                "fd00:9::1"
            } else {
                "10.9.0.1"
            };
            json!({"address": address, "gateway": gateway})
        })
        .collect();
    json!({"type": "static", "addresses": list})
}

/// Installs an executable shell script as a plugin in `/run/plugins`.
pub(crate) fn install(name: &str, script: &str) -> Result<()> {
    fs::create_dir_all("/run/plugins")?;
    let path = Path::new("/run/plugins").join(name);
    fs::write(&path, script)?;
    fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    Ok(())
}
