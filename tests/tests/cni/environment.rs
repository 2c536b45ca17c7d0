//! Which variables each verb needs, what they may hold, and calls without a verb.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use berth_tests::{Need, Node, Plugin, Result, Space, Test, call, ensure, poll, test};
use serde_json::json;

use crate::stage::{Stage, VERSIONS, code, conf, conf_with};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    vec![
        test("required_variables", ROOT, required_variables),
        test("empty_is_missing", ROOT, empty_is_missing),
        test("invalid_values", ROOT, invalid_values),
        test("unknown_command", ROOT, unknown_command),
        test("no_command", ROOT, no_command),
        test("version_reads_nothing", ROOT, version_reads_nothing),
        test("any_binary_name", ROOT, any_binary_name),
        test("own_namespace", ROOT, own_namespace),
        test("own_namespace_overridden", ROOT, own_namespace_overridden),
        test("no_namespace", ROOT, no_namespace),
        test("closed_stdout", ROOT, closed_stdout),
        test("closed_descriptors", ROOT, closed_descriptors),
    ]
}

/// Per verb: the variables it needs, and whether a call with just these gets past the
/// environment (it then fails for its configuration, whose text is none).
const TABLE: [(&str, &[&str]); 5] = [
    ("ADD", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
    ("CHECK", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
    ("DEL", &["CNI_CONTAINERID", "CNI_IFNAME"]),
    ("GC", &[]),
    ("STATUS", &[]),
];
const ALL: [&str; 5] = [
    "CNI_CONTAINERID",
    "CNI_NETNS",
    "CNI_IFNAME",
    "CNI_ARGS",
    "CNI_PATH",
];

fn required_variables(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    for (verb, needed) in TABLE {
        let whole = stage.call(verb).text("no JSON");
        for name in ALL {
            let call = whole.clone().without(name);
            if needed.contains(&name) {
                let msg = format!("required env variables [{name}] missing");
                let error = call.fails_with(code::ENV, &msg)?;
                assert_eq!(error.msg, msg, "{verb}");
            } else {
                call.fails_with(code::DECODE, "")?;
            }
        }
        let bare = ALL.iter().fold(whole, |call, name| call.without(name));
        if needed.is_empty() {
            bare.fails_with(code::DECODE, "")?;
        } else {
            let msg = format!("required env variables [{}] missing", needed.join(","));
            assert_eq!(bare.fails_with(code::ENV, &msg)?.msg, msg, "{verb}");
        }
    }
    Ok(())
}

/// Runtimes set every variable for every verb, empty where they have nothing.
fn empty_is_missing(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    let emptied = |verb: &str| {
        let call = stage.call(verb);
        ALL.iter().fold(call, |call, name| call.with(name, ""))
    };
    for (verb, needed) in TABLE {
        let call = emptied(verb).text("no JSON");
        if needed.is_empty() {
            call.fails_with(code::DECODE, "")?;
        } else {
            let msg = format!("required env variables [{}] missing", needed.join(","));
            call.fails_with(code::ENV, &msg)?;
        }
    }
    let gc = conf_with("cni.dev/valid-attachments", json!([]));
    assert!(emptied("GC").conf(&gc).succeeds()?.is_null());
    assert!(emptied("STATUS").succeeds()?.is_null());
    emptied("VERSION").succeeds()?;
    let mut off = emptied("DEL");
    for (name, value) in [("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0")] {
        off = off.with(name, value);
    }
    assert!(off.succeeds()?.is_null());
    // An empty verb is no verb.
    let reply = emptied("").reply()?;
    ensure!(reply.status.success() && reply.stdout.is_empty());
    Ok(())
}

fn invalid_values(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    const ID: &str = "invalid characters in containerID";
    const WORDS: &str = "interface name contains / or : or whitespace characters";
    let table = [
        ("CNI_CONTAINERID", "_a", ID),
        ("CNI_CONTAINERID", "-a", ID),
        ("CNI_CONTAINERID", "a/b", ID),
        ("CNI_CONTAINERID", "a b", ID),
        ("CNI_CONTAINERID", "ä", ID),
        (
            "CNI_IFNAME",
            "sixteen-letters-",
            "interface name is too long",
        ),
        ("CNI_IFNAME", ".", "interface name is . or .."),
        ("CNI_IFNAME", "..", "interface name is . or .."),
        ("CNI_IFNAME", "a/b", WORDS),
        ("CNI_IFNAME", "a:b", WORDS),
        ("CNI_IFNAME", "a b", WORDS),
        ("CNI_IFNAME", "a\tb", WORDS),
    ];
    for verb in ["ADD", "CHECK", "DEL"] {
        for (name, value, msg) in table {
            let call = stage.call(verb).with(name, value);
            let error = call.fails_with(code::ENV, msg)?;
            assert_eq!(error.msg, msg);
            let told =
                error.details.contains(value) || error.details.contains(&format!("{value:?}"));
            ensure!(told, "{value:?} not in {error:?}");
            // What is there and wrong is told before what is missing.
            call.without("CNI_NETNS").fails_with(code::ENV, msg)?;
        }
        for id in ["a", "A1", "0_.-", &"x".repeat(64)] {
            let call = stage.call(verb).with("CNI_CONTAINERID", id).text("");
            call.fails_with(code::DECODE, "")?;
        }
        let call = stage.call(verb).with("CNI_IFNAME", "fifteen-letters");
        call.text("").fails_with(code::DECODE, "")?;
    }
    ensure!(!Path::new("/run/berth").exists(), "something was written");
    Ok(())
}

fn unknown_command(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    for verb in ["ATTACH", "add", "ADD ", "Del"] {
        // Also before everything else is looked at.
        let call = stage.call(verb).without("CNI_CONTAINERID").text("no JSON");
        let error = call.fails_with(code::ENV, "unknown CNI_COMMAND: ")?;
        assert_eq!(error.msg, format!("unknown CNI_COMMAND: {verb}"));
    }
    Ok(())
}

fn no_command(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    let reply = stage.plugin.raw(&[], b"")?;
    assert_eq!(reply.status.code(), Some(0));
    assert_eq!(reply.stdout, "");
    assert_eq!(reply.stderr.lines().count(), 1, "{:?}", reply.stderr);
    let version = reply.stderr.trim().rsplit(' ').next().unwrap_or_default();
    let numbers = version.trim_start_matches('v').split('.');
    let numbers: Vec<bool> = numbers.map(|n| n.parse::<u32>().is_ok()).collect();
    assert_eq!(numbers, [true; 3], "no version in {:?}", reply.stderr);
    ensure!(
        reply.stderr.contains("cni-bridge-vlan"),
        "{:?}",
        reply.stderr
    );
    Ok(())
}

/// A runtime may leave the input open for ever.
fn version_reads_nothing(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    let mut command = stage.plugin.command("VERSION", &stage.attachment());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let input = child.stdin.take();
    let ended = poll("end of VERSION", Duration::from_secs(10), || {
        Ok(child.try_wait()?)
    });
    if ended.is_err() {
        child.kill()?;
    }
    drop(input);
    ensure!(ended?.success());
    let said = child.wait_with_output()?.stdout;
    let document: serde_json::Value = serde_json::from_slice(&said)?;
    assert_eq!(
        document,
        json!({"cniVersion": "1.1.0", "supportedVersions": VERSIONS})
    );
    // No other variable is looked at, nor what stands in the input.
    let reply = stage
        .plugin
        .raw(&[("CNI_COMMAND", "VERSION")], b"no JSON")?;
    assert_eq!(reply.result()?, document);
    Ok(())
}

fn any_binary_name(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    fs::create_dir_all("/run/plugins")?;
    fs::copy(stage.plugin.path(), "/run/plugins/bridge")?;
    let other = Plugin::at(Path::new("/run/plugins/bridge"));
    let mut conf = conf_with("type", json!("bridge"));
    node.as_before(|| {
        let result = other.add(&stage.attachment(), &conf)?;
        conf["prevResult"] = result;
        other.check(&stage.attachment(), &conf)?;
        other.del(&stage.attachment(), &conf)
    })?;
    let versions = other.raw(&[("CNI_COMMAND", "VERSION")], b"")?.result()?;
    assert_eq!(versions["supportedVersions"], json!(VERSIONS));
    Ok(())
}

const OWN: &str = "plugin's netns and netns from CNI_NETNS should not be the same";

fn own_namespace(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    node.as_before(|| {
        for verb in ["ADD", "DEL"] {
            let call = stage.call(verb).with("CNI_NETNS", "/proc/self/ns/net");
            assert_eq!(call.fails_with(code::NETNS, OWN)?.msg, OWN);
            call.with("CNI_NETNS_OVERRIDE", "0")
                .fails_with(code::NETNS, OWN)?;
        }
        Ok(())
    })?;
    ensure!(
        !Path::new("/run/berth").exists(),
        "it acted before it refused"
    );
    Ok(())
}

fn own_namespace_overridden(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    for yes in ["1", "true", "TRUE"] {
        node.as_before(|| {
            let call = |verb| {
                let call = stage.call(verb).with("CNI_NETNS", "/proc/self/ns/net");
                call.with("CNI_NETNS_OVERRIDE", yes)
            };
            call("ADD").succeeds()?;
            ensure!(node.has_link("eth0")?, "no interface here");
            call("DEL").succeeds().map(drop)
        })?;
    }
    Ok(())
}

fn no_namespace(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    node.as_before(|| {
        for path in ["/run/netns/none", "/proc/self/status", "/run"] {
            let error = stage.call("ADD").with("CNI_NETNS", path).fails()?;
            assert_eq!(error.code, code::NETNS, "{error:?}");
            ensure!(error.msg.contains(path), "{path} is not in {error:?}");
            ensure!(!error.details.is_empty(), "no next step in {error:?}");
            stage.call("DEL").with("CNI_NETNS", path).succeeds()?;
        }
        Ok(())
    })
}

/// A result nobody hears is an ADD that did not happen.
fn closed_stdout(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    node.as_before(|| {
        let mut command = stage.plugin.command("ADD", &stage.attachment());
        fs::write("/run/conf", conf().to_string())?;
        let full = File::options().write(true).open("/dev/full")?;
        let status = command
            .stdin(File::open("/run/conf")?)
            .stdout(full)
            .stderr(Stdio::null())
            .status()?;
        assert_eq!(status.code(), Some(1));
        ensure!(!stage.pod.has_link("eth0")?, "it was not taken back");
        Ok(())
    })
}

/// What is opened by who is started without standard output and error is not taken for
/// them: a delegate sees that they are the null device.
fn closed_descriptors(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    call::install("peek", PEEK)?;
    let conf = conf_with("ipam", json!({"type": "peek"}));
    fs::write("/run/conf", conf.to_string())?;
    let mut at = stage.attachment();
    at.cni_path = Some(call::PLUGINS.into());
    node.as_before(|| {
        for verb in ["ADD", "DEL"] {
            let call = stage.plugin.command(verb, &at);
            let given = call
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?)));
            let status = Command::new("sh")
                .args(["-c", "exec \"$0\" </run/conf >&- 2>&-"])
                .arg(call.get_program())
                .env_clear()
                .envs(given)
                .env("PATH", "/usr/bin:/bin")
                .status()?;
            assert_eq!(status.code(), Some(0), "{verb}");
            assert_eq!(stage.pod.has_link("eth0")?, verb == "ADD");
            let seen = fs::read_to_string("/run/peeked")?;
            assert_eq!(seen, "/dev/null\n/dev/null\n", "{verb}");
            fs::remove_file("/run/peeked")?;
        }
        Ok(())
    })
}

/// Notes where its caller's output and errors go.
const PEEK: &str = r#"#!/bin/sh
cat >/dev/null
for number in 1 2; do
    readlink "/proc/$PPID/fd/$number" >>/run/peeked
done
if [ "$CNI_COMMAND" = ADD ]; then
    echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.9.0.7/24"}]}'
fi
"#;
