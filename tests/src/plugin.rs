//! CNI plugins run the way a runtime runs them: environment, configuration on stdin,
//! result on stdout (CNI SPEC, section 2).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::command::{self, COMMAND_LIMIT, Started};
use crate::pod::Pod;
use crate::trace::{self, Strike, Traced};

/// What a runtime says about one attachment, in `CNI_*` variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_NETNS`; `None` leaves the variable out.
    pub netns: Option<PathBuf>,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_ARGS`; `None` leaves the variable out.
    pub args: Option<String>,
    /// `CNI_PATH`; `None` leaves the variable out.
    pub cni_path: Option<PathBuf>,
}

impl Attachment {
    /// An attachment of `pod` with nothing optional set.
    pub fn of(pod: &Pod, container_id: &str, ifname: &str) -> Self {
        Self {
            container_id: container_id.to_owned(),
            netns: Some(pod.path().to_owned()),
            ifname: ifname.to_owned(),
            args: None,
            cni_path: None,
        }
    }

    /// The same attachment without a namespace, as a runtime calls DEL after its pod died.
    #[must_use]
    pub fn without_netns(&self) -> Self {
        Self {
            netns: None,
            ..self.clone()
        }
    }
}

/// A plugin binary, perhaps behind another program such as `strace`.
#[derive(Debug, Clone)]
pub struct Plugin {
    words: Vec<OsString>,
}

impl Plugin {
    /// The built plugin of this name: in `BERTH_BIN_DIR` if that is set, otherwise where
    /// this test was built, in the same profile.
    pub fn find(name: &str) -> Result<Self> {
        Ok(Self::at(&binary(name)?))
    }

    /// The plugin at `path`.
    pub fn at(path: &Path) -> Self {
        Self {
            words: vec![path.into()],
        }
    }

    /// The same plugin started by another program: `&["strace", "-f", "-o", "/run/t"]`.
    #[must_use]
    pub fn behind(&self, program: &[&str]) -> Self {
        let mut words: Vec<OsString> = program.iter().map(OsString::from).collect();
        words.extend(self.words.iter().cloned());
        Self { words }
    }

    /// The plugin's own path.
    pub fn path(&self) -> &Path {
        self.words.last().map_or(Path::new(""), Path::new)
    }

    /// The command with exactly the variables a runtime would set.
    pub fn command(&self, verb: &str, attachment: &Attachment) -> Command {
        let mut command = self.bare(&[
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", &attachment.container_id),
            ("CNI_IFNAME", &attachment.ifname),
        ]);
        if let Some(netns) = &attachment.netns {
            command.env("CNI_NETNS", netns);
        }
        if let Some(args) = &attachment.args {
            command.env("CNI_ARGS", args);
        }
        if let Some(path) = &attachment.cni_path {
            command.env("CNI_PATH", path);
        }
        command
    }

    /// Starts it and returns at once: for calls in parallel, or to be killed.
    pub fn start(&self, verb: &str, attachment: &Attachment, conf: &Value) -> Result<Running> {
        let stdin = conf.to_string();
        let started = command::start(&mut self.command(verb, attachment), stdin.as_bytes())?;
        Ok(Running { started })
    }

    /// Runs it to its end.
    pub fn call(&self, verb: &str, attachment: &Attachment, conf: &Value) -> Result<Reply> {
        self.start(verb, attachment, conf)?.finish()
    }

    /// Runs it traced, to its end or to `strike`; see [`trace::run`].
    pub fn traced(
        &self,
        verb: &str,
        attachment: &Attachment,
        conf: &Value,
        strike: Option<Strike>,
    ) -> Result<Traced> {
        let stdin = conf.to_string();
        trace::run(
            &mut self.command(verb, attachment),
            stdin.as_bytes(),
            strike,
        )
    }

    /// ADD that must succeed: its result.
    pub fn add(&self, attachment: &Attachment, conf: &Value) -> Result<Value> {
        self.call("ADD", attachment, conf)?.result()
    }

    /// DEL that must succeed.
    pub fn del(&self, attachment: &Attachment, conf: &Value) -> Result<()> {
        self.call("DEL", attachment, conf)?.result().map(|_| ())
    }

    /// CHECK that must succeed; `conf` needs `prevResult`.
    pub fn check(&self, attachment: &Attachment, conf: &Value) -> Result<()> {
        self.call("CHECK", attachment, conf)?.result().map(|_| ())
    }

    /// Runs it with these variables (and PATH) and this input, whatever they are.
    pub fn raw(&self, env: &[(&str, &str)], stdin: &[u8]) -> Result<Reply> {
        let started = command::start(&mut self.bare(env), stdin)?;
        Running { started }.finish()
    }

    fn bare(&self, env: &[(&str, &str)]) -> Command {
        let (program, rest) = match self.words.split_first() {
            Some((program, rest)) => (program.clone(), rest),
            None => (OsString::new(), &[][..]),
        };
        let mut command = Command::new(program);
        command.args(rest).env_clear().envs(env.iter().copied());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
    }
}

/// A plugin at work.
#[derive(Debug)]
pub struct Running {
    started: Started,
}

impl Running {
    /// Its process id (that of the program before it, if any).
    pub fn pid(&self) -> u32 {
        self.started.pid()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> Result<bool> {
        self.started.is_running()
    }

    /// Kills it with SIGKILL, as an out-of-memory killer or a runtime's timeout does.
    pub fn kill(mut self) -> Result<ExitStatus> {
        self.started.kill()
    }

    /// Waits for its end; killed and an error after 60 s.
    pub fn finish(self) -> Result<Reply> {
        self.finish_within(COMMAND_LIMIT)
    }

    /// Waits for its end; killed and an error after `limit`.
    pub fn finish_within(self, limit: Duration) -> Result<Reply> {
        let done = self.started.finish(limit)?;
        Ok(Reply {
            status: done.status,
            stdout: done.stdout,
            stderr: done.stderr,
        })
    }
}

/// What a plugin answered.
#[derive(Debug, Clone)]
pub struct Reply {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output as text.
    pub stdout: String,
    /// Its standard error as text.
    pub stderr: String,
}

/// The error object a plugin prints (CNI SPEC, section 5, "Error").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniError {
    /// `cniVersion`, if given.
    pub cni_version: Option<String>,
    /// `code`.
    pub code: u64,
    /// `msg`.
    pub msg: String,
    /// `details`, empty if not given.
    pub details: String,
}

impl Reply {
    /// The result of a success: the object on stdout, `Null` when nothing was printed.
    /// A failure is an error with all the plugin said.
    pub fn result(&self) -> Result<Value> {
        ensure!(self.status.success(), "the plugin failed: {}", self.all());
        if self.stdout.trim().is_empty() {
            return Ok(Value::Null);
        }
        self.json()
    }

    /// The error object of a failure. A success, or a failure without such an object, is
    /// an error with all the plugin said.
    pub fn failure(&self) -> Result<CniError> {
        ensure!(
            !self.status.success(),
            "the plugin succeeded: {}",
            self.all()
        );
        let object = self.json()?;
        let text = |key: &str| object[key].as_str().map(str::to_owned);
        Ok(CniError {
            cni_version: text("cniVersion"),
            code: object["code"]
                .as_u64()
                .ok_or_else(|| anyhow!("an error without a code: {}", self.all()))?,
            msg: text("msg").ok_or_else(|| anyhow!("an error without msg: {}", self.all()))?,
            details: text("details").unwrap_or_default(),
        })
    }

    /// Stdout as one JSON value.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("stdout is not one JSON value: {}", self.all()))
    }

    fn all(&self) -> String {
        let (out, err) = (self.stdout.trim(), self.stderr.trim());
        format!("{}; stdout: {out}; stderr: {err}", self.status)
    }
}

/// The built binary of this name; see [`Plugin::find`].
pub fn binary(name: &str) -> Result<PathBuf> {
    let dir = match std::env::var_os("BERTH_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => build_dir(&std::env::current_exe().context("find this test's own path")?),
    };
    let path = dir.join(name);
    ensure!(
        path.is_file(),
        "no built {name} in {}: run `cargo build --workspace`, or set BERTH_BIN_DIR",
        dir.display()
    );
    Ok(path)
}

/// `target/TRIPLE/PROFILE` for a test at `target/TRIPLE/PROFILE/deps/NAME`.
fn build_dir(test: &Path) -> PathBuf {
    let dir = test.ancestors().nth(2);
    dir.unwrap_or(Path::new("")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Reply {
        let plugin = Plugin::at(Path::new("/bin/sh")).behind(&[]);
        let mut command = plugin.command("ADD", &attachment());
        let started = command::start(command.args(["-c", script]), b"").unwrap();
        Running { started }.finish().unwrap()
    }

    fn attachment() -> Attachment {
        Attachment {
            container_id: "c1".into(),
            netns: None,
            ifname: "eth0".into(),
            args: Some("K=V".into()),
            cni_path: None,
        }
    }

    #[test]
    fn the_environment_is_the_runtimes_and_nothing_else() {
        let reply = shell("printf '{\"v\": \"%s %s\"}' \"$CNI_COMMAND$CNI_ARGS\" \"${HOME-none}\"");
        assert_eq!(reply.result().unwrap()["v"], "ADDK=V none");
    }

    #[test]
    fn errors_are_read_and_neither_kind_passes_for_the_other() {
        let failed = shell("echo '{\"code\": 7, \"msg\": \"no\"}'; exit 1");
        let error = failed.failure().unwrap();
        assert_eq!(
            (error.code, error.msg.as_str(), error.details.as_str()),
            (7, "no", "")
        );
        assert!(failed.result().is_err());
        let silent = shell("exit 0");
        assert_eq!(silent.result().unwrap(), Value::Null);
        assert!(silent.failure().is_err());
        assert!(shell("echo oops; exit 1").failure().is_err());
    }

    #[test]
    fn binaries_are_looked_for_beside_the_test() {
        let test = Path::new("/t/x86_64-unknown-linux-gnu/debug/deps/bridge-1234");
        assert_eq!(
            build_dir(test),
            Path::new("/t/x86_64-unknown-linux-gnu/debug")
        );
    }
}
