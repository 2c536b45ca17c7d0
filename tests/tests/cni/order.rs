//! The order of the checks, and each check's text and code.

use std::fs::File;
use std::process::Stdio;

use berth_tests::{Need, Node, Result, Test, ensure, test};
use serde_json::{Value, json};

use crate::stage::{Stage, VERSIONS, code, conf, conf_with};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    vec![
        test("checks_come_in_order", ROOT, checks_come_in_order),
        test("unreadable_stdin", ROOT, unreadable_stdin),
        test("documents_that_are_none", ROOT, documents_that_are_none),
        test("network_names", ROOT, network_names),
        test("versions_that_are_none", ROOT, versions_that_are_none),
        test("verbs_need_their_version", ROOT, verbs_need_their_version),
        test("errors_carry_the_version", ROOT, errors_carry_the_version),
        test("keys", ROOT, keys),
        test("del_and_gc_mind_no_key", ROOT, del_and_gc_mind_no_key),
    ]
}

const VERBS: [&str; 5] = ["ADD", "DEL", "CHECK", "GC", "STATUS"];

/// A call with every fault at once; mending the one that is told shows the next.
fn checks_come_in_order(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    let mut call = stage
        .call("ADDD")
        .without("CNI_IFNAME")
        .with("CNI_CONTAINERID", "_")
        .with("CNI_NETNS", "/proc/self/ns/net")
        .with("CNI_ARGS", "FOO=1")
        .text("{");
    call.fails_with(code::ENV, "unknown CNI_COMMAND: ADDD")?;
    call = call.with("CNI_COMMAND", "ADD");
    call.fails_with(code::ENV, "invalid characters in containerID")?;
    call = call.with("CNI_CONTAINERID", "c1");
    call.fails_with(code::ENV, "required env variables [CNI_IFNAME] missing")?;
    call = call.with("CNI_IFNAME", "eth0");
    call.fails_with(code::DECODE, "error unmarshall network config: ")?;
    let mut conf = json!({"cniVersion": "7.0.0", "vlann": 1, "ipam": 5, "bridge": "no/name", "announce": false});
    call = call.conf(&conf);
    call.fails_with(code::CONFIG, "missing network name")?;
    conf["name"] = json!("net 1");
    call = call.conf(&conf);
    call.fails_with(code::CONFIG, "invalid characters found in network name")?;
    conf["name"] = json!("net1");
    call = call.conf(&conf);
    call.fails_with(code::VERSION, "incompatible CNI versions")?;
    conf["cniVersion"] = json!("1.1.0");
    call = call.conf(&conf);
    call.fails_with(code::CONFIG, "invalid configuration: ipam = 5")?;
    conf["ipam"] = json!({});
    call = call.conf(&conf);
    call.fails_with(code::CONFIG, "invalid configuration: vlann = 1")?;
    if let Some(object) = conf.as_object_mut() {
        object.remove("vlann");
    }
    call = call.conf(&conf);
    call.fails_with(code::ENV, "CNI_ARGS: unknown args")?;
    call = call.without("CNI_ARGS");
    call.fails_with(code::NETNS, "plugin's netns and netns from CNI_NETNS")?;
    call = call.with("CNI_NETNS", &stage.pod.path().display().to_string());
    call.fails_with(code::CONFIG, "invalid configuration: bridge = \"no/name\"")?;
    conf["bridge"] = json!("br0");
    call.conf(&conf).succeeds()?;
    Ok(())
}

fn unreadable_stdin(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    let mut command = stage.plugin.command("ADD", &stage.attachment());
    // A directory opens, and cannot be read.
    command.stdin(File::open("/")?).stderr(Stdio::null());
    let output = command.output()?;
    assert_eq!(output.status.code(), Some(1));
    let error: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(error["code"], code::IO);
    let msg = error["msg"].as_str().unwrap_or_default();
    ensure!(msg.starts_with("error reading from stdin: "), "{msg}");
    Ok(())
}

fn documents_that_are_none(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    for verb in VERBS {
        for text in [
            "",
            "no JSON",
            "{\"name\": \"net1\"",
            "[]",
            "null",
            "5",
            "{\"name\": \"net1\"} {}",
            "{\"name\": 5}",
            "{\"name\": \"net1\", \"cniVersion\": 1}",
        ] {
            let call = stage.call(verb).text(text);
            call.fails_with(code::DECODE, "error unmarshall network config: ")?;
        }
    }
    Ok(())
}

fn network_names(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    for verb in VERBS {
        for conf in [json!({}), json!({"name": ""}), json!({"name": null})] {
            let error = stage.call(verb).conf(&conf).fails()?;
            assert_eq!(
                (error.code, error.msg.as_str()),
                (7, "missing network name")
            );
        }
        for name in ["a b", "_a", "-", "a/b", "ä", "a:b", ".", ".."] {
            let call = stage.call(verb).conf(&conf_with("name", json!(name)));
            let error = call.fails()?;
            assert_eq!(error.code, code::CONFIG, "{name}");
            assert_eq!(error.msg, "invalid characters found in network name");
        }
    }
    Ok(())
}

fn versions_that_are_none(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    for verb in VERBS {
        for version in ["1.2.0", "1.1.1", "1.1", "2", "01.1.0"] {
            let call = stage
                .call(verb)
                .conf(&conf_with("cniVersion", json!(version)));
            let error = call.fails_with(code::VERSION, "")?;
            if error.msg != format!("config version does not allow {verb}") {
                assert_eq!(error.msg, "incompatible CNI versions", "{verb} {version}");
                let listed = error.details.contains(&format!("config is \"{version}\""));
                ensure!(listed && error.details.contains("\"0.3.1\""), "{error:?}");
            }
        }
        for version in ["x", "1.x.0", "1.1.0.0", "v1.1.0", "-1.0.0"] {
            let call = stage
                .call(verb)
                .conf(&conf_with("cniVersion", json!(version)));
            // Only where a least version is asked for are its numbers read.
            let expected = match verb {
                "ADD" | "DEL" => code::VERSION,
                _ => code::DECODE,
            };
            let error = call.fails()?;
            assert_eq!(error.code, expected, "{verb} {version}: {error:?}");
        }
    }
    Ok(())
}

fn verbs_need_their_version(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    for (verb, since) in [("CHECK", "0.4.0"), ("GC", "1.1.0"), ("STATUS", "1.1.0")] {
        for version in VERSIONS.iter().chain(&[""]) {
            let call = stage
                .call(verb)
                .conf(&conf_with("cniVersion", json!(version)));
            let refusal = format!("config version does not allow {verb}");
            let old = *version < since;
            let error = call.reply()?.failure().ok();
            let refused = error.is_some_and(|e| e.code == code::VERSION && e.msg == refusal);
            assert_eq!(refused, old, "{verb} of {version}");
        }
    }
    Ok(())
}

fn errors_carry_the_version(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    for version in VERSIONS {
        let mut conf = conf_with("cniVersion", json!(version));
        conf["bridge"] = json!("no/name");
        let error = stage.call("ADD").conf(&conf).fails()?;
        assert_eq!(error.cni_version.as_deref(), Some(version));
    }
    // As long as none is known, the newest.
    for call in [
        stage.call("NONE"),
        stage.call("ADD").text("{"),
        stage
            .call("ADD")
            .conf(&conf_with("cniVersion", json!("9.9.9"))),
    ] {
        assert_eq!(call.fails()?.cni_version.as_deref(), Some("1.1.0"));
    }
    Ok(())
}

fn keys(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    node.as_before(|| {
        for (wrong, right, value) in [
            ("VLAN", "vlan", json!(100)),
            ("Bridge", "bridge", json!("br0")),
            ("uplink_mode", "uplinkMode", json!("verify")),
            ("MTU", "mtu", json!(1400)),
        ] {
            for verb in ["ADD", "CHECK", "STATUS"] {
                let mut conf = conf_with(wrong, value.clone());
                conf["prevResult"] = json!({});
                let error = stage.call(verb).conf(&conf).fails()?;
                assert_eq!(error.code, code::CONFIG, "{error:?}");
                for part in [wrong, &format!("\"{right}\""), &value.to_string()] {
                    ensure!(error.msg.contains(part), "{part} is not in {error:?}");
                }
            }
        }
        let conf = conf_with("ipMasqBackend", json!("iptables"));
        let error = stage.call("ADD").conf(&conf).fails()?;
        assert_eq!(error.code, code::UNSUPPORTED, "{error:?}");
        ensure!(error.msg.contains("ipMasqBackend") && error.msg.contains("\"iptables\""));
        Ok(())
    })?;
    // What others put there is no reason to refuse.
    let mut conf = conf_with("bpduFilter", json!(false));
    for (key, value) in [
        ("capabilities", json!({"mac": true})),
        ("deviceID", json!("0000:01:10.0")),
        ("cni.dev/extra", json!(1)),
        ("somebodyElses", json!({"a": 1})),
        ("disableCheck", json!(true)),
    ] {
        conf[key] = value;
    }
    stage.call("ADD").conf(&conf).succeeds()?;
    stage.call("DEL").conf(&conf).succeeds()?;
    Ok(())
}

/// What an older configuration made can always be removed.
fn del_and_gc_mind_no_key(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    node.as_before(|| {
        let mut broken = conf();
        for (key, value) in [
            ("VLAN", json!("x")),
            ("vlan", json!("many")),
            ("isGateway", json!(true)),
            ("ipam", json!([])),
            ("logLevel", json!(7)),
            ("prevResult", json!("none")),
        ] {
            broken[key] = value;
        }
        stage.call("ADD").succeeds()?;
        let off = stage.call("DEL").with("CNI_ARGS", "FOO=1;=;x");
        off.conf(&broken).succeeds()?;
        broken["cni.dev/valid-attachments"] = json!([]);
        broken["ipam"] = json!(null);
        stage.call("ADD").succeeds()?;
        stage.call("GC").conf(&broken).succeeds().map(drop)
    })
}
