//! The help: each subcommand has examples, and every one of them works as printed.

use std::process::Command;

use berth_tests::command::{self, COMMAND_LIMIT, Finished};
use berth_tests::{Context, Need, Node, Result, Test, bail, ensure, plugin, test};
use serde_json::json;

use crate::kit::{self, HERE, Process, network, write_conf};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    vec![
        test("help_says_what_there_is", ROOT, says),
        test("examples_work_as_printed", ROOT, examples),
    ]
}

/// What `berth LINE` prints.
fn printed(line: &str) -> Result<String> {
    let done = kit::run(&plugin::binary("berth")?, line)?;
    ensure!(
        done.status.success() && done.stderr.is_empty(),
        "berth {line}: {}",
        kit::all(&done)
    );
    Ok(done.stdout)
}

/// Verbs with what their help names.
const OPTIONS: [(&str, &[&str]); 7] = [
    ("attach", &["--netns", "--pid", "--ifname", "--ip", "--mac"]),
    (
        "detach",
        &["--netns", "--pid", "--ifname", "--all", "--container-id"],
    ),
    (
        "doctor",
        &["--output", "--area", "--strict", "--verbose", "json"],
    ),
    (
        "bootstrap vfs",
        &["--mtu", "--macs", "--dry-run", "PF=COUNT", "stable"],
    ),
    (
        "apply",
        &[
            "--file",
            "--dry-run",
            "--if-match",
            "FILE",
            "standard input",
        ],
    ),
    (
        "resize",
        &["--cores", "--memory", "--disk", "--io-share", "PATH=SIZE"],
    ),
    (
        "vf show",
        &["--output", "ADDRESS", "text", "json", "PCI address"],
    ),
];

fn says(_: &Node) -> Result<()> {
    let top = printed("--help")?;
    for part in [
        "apply",
        "attach",
        "bootstrap",
        "capacity",
        "delete",
        "detach",
        "diff",
        "doctor",
        "events",
        "explain",
        "get",
        "release",
        "resize",
        "vf",
        "--version",
        "Examples:",
    ] {
        ensure!(top.contains(part), "{part} in {top}");
    }
    let version = printed("--version")?;
    let version = version
        .trim()
        .strip_prefix("berth ")
        .context("no version")?;
    ensure!(version.split('.').count() == 3, "{version}");
    for (verb, options) in OPTIONS {
        let text = printed(&format!("{verb} --help"))?;
        for option in options {
            ensure!(text.contains(*option), "{option} in {text}");
        }
    }
    let none = kit::run(&plugin::binary("berth")?, "")?;
    assert_eq!(none.status.code(), Some(2), "{}", kit::all(&none));
    ensure!(none.stderr.contains("Usage: berth"), "{}", none.stderr);
    Ok(())
}

/// The lines below "Examples:" in the help of `berth VERB`.
fn examples_of(verb: &str) -> Result<Vec<String>> {
    let text = printed(&format!("{verb} --help"))?;
    let (_, rest) = text.split_once("Examples:\n").context("no examples")?;
    let lines = rest.lines().map(str::trim);
    Ok(lines
        .take_while(|line| line.starts_with("berth "))
        .map(str::to_owned)
        .collect())
}

/// Types `line` into a shell that finds the built programs.
fn type_in(line: &str) -> Result<Finished> {
    let dir = kit::plugins()?;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).current_dir(HERE);
    shell.env("PATH", format!("{dir}:{path}"));
    command::start(&mut shell, b"")?.finish(COMMAND_LIMIT)
}

/// With files and containers of the names they use; process 4711 is another one here.
/// Examples with functions of network cards are those of the suite `bootstrap`; those
/// that ask the agent are those of the suites with one.
fn examples(node: &Node) -> Result<()> {
    for (file, name) in [("game.conflist", "game"), ("vlan100.conf", "vlan100")] {
        let keys = json!({
            "capabilities": {"ips": true},
            "ipam": {"type": "static", "addresses": [{"address": "10.1.0.9/24"}]},
        });
        write_conf(file, &network(name, keys))?;
    }
    let _blue = node.pod("blue")?;
    let process = Process::start(node)?;
    let pid = process.pid();
    for verb in ["", "attach", "detach", "doctor", "vf list"] {
        let lines = examples_of(verb)?;
        ensure!(lines.len() >= 2, "examples of {verb:?}: {lines:?}");
        for line in lines.iter().filter(|line| is_for_here(line)) {
            let line = line.replace("4711", &pid);
            node.as_before(|| example(&line, &pid))
                .with_context(|| line.clone())?;
        }
    }
    process.end()
}

/// Whether an example needs neither network cards nor an agent.
fn is_for_here(line: &str) -> bool {
    let verb = line.split(' ').nth(1);
    !matches!(verb, Some("bootstrap" | "apply" | "get" | "capacity"))
}

fn example(line: &str, pid: &str) -> Result<()> {
    let done = type_in(line)?;
    // With --strict the node itself may be wanting.
    let is_fine = match done.status.code() {
        Some(0) => true,
        Some(1) => line.contains("--strict") && !done.stdout.is_empty(),
        _ => false,
    };
    ensure!(is_fine, "{}", kit::all(&done));
    if !line.contains(" attach ") {
        return Ok(());
    }
    let result: serde_json::Value = serde_json::from_str(&done.stdout)?;
    ensure!(result["interfaces"].is_array(), "{result}");
    let undo = match line {
        _ if line.contains("--pid") => format!("detach --pid {pid}"),
        _ if line.contains("blue") => "detach --netns /run/netns/blue".to_owned(),
        _ => bail!("an example with a container this test does not know"),
    };
    kit::done(&undo).map(drop)
}
