//! What the tests share: the program run by a line as it is typed, configurations,
//! processes with a namespace of their own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use berth_tests::command::{self, COMMAND_LIMIT, Finished, Started};
use berth_tests::{Context, Node, Pod, Result, Space, ensure, plugin};
use serde_json::{Value, json};

/// Where lines are typed: configurations are named without a directory.
pub(crate) const HERE: &str = "/run/here";

/// A directory for plugins of the tests' own.
pub(crate) const OWN_PLUGINS: &str = "/run/plugins";

/// Runs `program` with the words of `line`, to its end, whatever that is.
pub(crate) fn run(program: &Path, line: &str) -> Result<Finished> {
    fs::create_dir_all(HERE)?;
    let mut command = Command::new(program);
    command.args(line.split_whitespace()).current_dir(HERE);
    command::start(&mut command, b"")?.finish(COMMAND_LIMIT)
}

/// `berth LINE`. An attach and a detach look for plugins where the built ones are and
/// nowhere else, unless the line says where.
pub(crate) fn berth(line: &str) -> Result<Finished> {
    let program = plugin::binary("berth")?;
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let runs_plugins = matches!(verb, "attach" | "detach");
    if !runs_plugins || rest.contains("--cni-path") {
        return run(&program, line);
    }
    let dir = plugins()?;
    run(&program, &format!("{verb} --cni-path {dir} {rest}"))
}

/// The directory of the built plugins.
pub(crate) fn plugins() -> Result<String> {
    let plugin = plugin::binary("cni-bridge-vlan")?;
    let dir = plugin.parent().context("the plugin is in no directory")?;
    Ok(dir.display().to_string())
}

/// `berth LINE` that must succeed: what it printed.
pub(crate) fn done(line: &str) -> Result<Finished> {
    let done = berth(line)?;
    ensure!(done.status.success(), "`berth {line}`: {}", all(&done));
    Ok(done)
}

/// `berth attach LINE` that must succeed and say nothing but its result.
pub(crate) fn attach(line: &str) -> Result<Value> {
    let done = done(&format!("attach {line}"))?;
    ensure!(done.stderr.is_empty(), "not only a result: {}", all(&done));
    serde_json::from_str(&done.stdout)
        .with_context(|| format!("no JSON on standard output: {}", all(&done)))
}

/// `berth detach LINE` that must succeed without a word.
pub(crate) fn detach(line: &str) -> Result<()> {
    let said = noted(&format!("detach {line}"))?;
    ensure!(said.is_empty(), "detach {line} said {said:?}");
    Ok(())
}

/// `berth LINE` that must succeed and print no result: its notes.
pub(crate) fn noted(line: &str) -> Result<String> {
    let done = done(line)?;
    ensure!(done.stdout.is_empty(), "a result: {}", all(&done));
    Ok(done.stderr)
}

/// `berth LINE` that must end with 1, no result and one error that says all of this.
pub(crate) fn refused(line: &str, says: &[&str]) -> Result<String> {
    let done = berth(line)?;
    let all = all(&done);
    ensure!(done.status.code() == Some(1), "`berth {line}`: {all}");
    ensure!(done.stdout.is_empty(), "a result beside an error: {all}");
    ensure!(done.stderr.starts_with("berth: "), "{all}");
    for part in says {
        ensure!(done.stderr.contains(part), "{part:?} is not in: {all}");
    }
    Ok(done.stderr)
}

/// A refusal by a plugin or the protocol: wish, code, reason and next step, each once.
pub(crate) fn told(line: &str, code: u32, says: &[&str]) -> Result<()> {
    let text = refused(line, says)?;
    let mut lines = text.lines();
    let wish = lines.next().unwrap_or_default();
    ensure!(
        wish.starts_with("berth: cannot ") && wish.ends_with(&format!(" (code {code})")),
        "not a wish with code {code}: {text}"
    );
    for label in ["  reason: ", "  next:   "] {
        let line = lines.next().unwrap_or_default();
        let rest = line.strip_prefix(label);
        ensure!(
            rest.is_some_and(|rest| !rest.trim().is_empty()),
            "no {label:?} in: {text}"
        );
    }
    Ok(())
}

/// How a program ended, for messages.
pub(crate) fn all(done: &Finished) -> String {
    format!(
        "{}; stdout: {}; stderr: {}",
        done.status, done.stdout, done.stderr
    )
}

/// Network `name` on bridge `br0`, with these keys beside the mandatory ones.
pub(crate) fn network(name: &str, keys: Value) -> Value {
    let mut conf = json!({
        "cniVersion": "1.0.0", "name": name, "type": "cni-bridge-vlan", "bridge": "br0",
        "ipam": {"type": "static"}, "rps": {"cpus": "off"},
    });
    if let (Value::Object(conf), Value::Object(keys)) = (&mut conf, keys) {
        conf.extend(keys);
    }
    conf
}

/// Network `net` with addresses as wished on the command line.
pub(crate) fn net() -> Value {
    network("net", json!({"capabilities": {"ips": true, "mac": true}}))
}

/// Puts a configuration where lines are typed.
pub(crate) fn write_conf(file: &str, conf: &Value) -> Result<()> {
    fs::create_dir_all(HERE)?;
    fs::write(Path::new(HERE).join(file), conf.to_string())?;
    Ok(())
}

/// Puts a plugin of the tests' own beside the built one: its name and the body of its
/// script. Gives a value for `--cni-path`.
pub(crate) fn own_plugin(name: &str, script: &str) -> Result<String> {
    fs::create_dir_all(OWN_PLUGINS)?;
    let path = Path::new(OWN_PLUGINS).join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(format!("{OWN_PLUGINS}:{}", plugins()?))
}

/// A process alone in a network namespace, which ends with it.
pub(crate) struct Process {
    started: Started,
}

impl Process {
    /// Starts it in a new namespace.
    pub(crate) fn start(node: &Node) -> Result<Self> {
        let pod = node.pod("of-a-process")?;
        let started = command::start(pod.command("sleep").arg("600"), b"")?;
        Ok(Self { started })
    }

    /// As it is typed.
    pub(crate) fn pid(&self) -> String {
        self.started.pid().to_string()
    }

    /// What `ip ARGS` says in its namespace.
    pub(crate) fn ip(&self, node: &Node, args: &str) -> Result<String> {
        node.run(&format!("nsenter -t {} -n ip {args}", self.pid()))
    }

    /// Kills it and waits for its end.
    pub(crate) fn end(mut self) -> Result<()> {
        self.started.kill().map(drop)
    }
}

/// The files that remember attachments: the plugin's records and the client's results.
pub(crate) fn remembered() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut dirs = ["attachments", "client"]
        .map(|dir| Path::new("/run/berth").join(dir))
        .to_vec();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|kind| kind == "json") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Attaches `pod` to network `net` with this address; its interface is up and has it.
pub(crate) fn attached(pod: &Pod, address: &str) -> Result<Value> {
    write_conf("net.conf", &net())?;
    let path = pod.path().display();
    let result = attach(&format!("--netns {path} --ip {address} net.conf"))?;
    let seen = pod.addresses("eth0")?;
    ensure!(seen.iter().any(|a| a == address), "{address} in {seen:?}");
    Ok(result)
}
