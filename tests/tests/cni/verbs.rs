//! What each verb does and prints: silence on success, repetition, GC's list.

use std::fs;

use berth_tests::{Need, Node, Result, Space, Test, ensure, test};
use serde_json::{Value, json};

use crate::stage::{Call, Stage, code, conf, conf_with};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    vec![
        test("stdout_is_the_protocols", ROOT, stdout_is_the_protocols),
        test("log_file", ROOT, log_file),
        test("add_twice", ROOT, add_twice),
        test("add_finds_the_name_taken", ROOT, add_finds_the_name_taken),
        test("del_any_number_of_times", ROOT, del_any_number_of_times),
        test("del_without_namespace", ROOT, del_without_namespace),
        test("status", ROOT, status),
        test("gc_without_its_key", ROOT, gc_without_its_key),
        test("gc_keeps_what_is_listed", ROOT, gc_keeps_what_is_listed),
        test("gc_with_an_empty_list", ROOT, gc_with_an_empty_list),
        test("gc_with_a_malformed_list", ROOT, gc_with_a_malformed_list),
    ]
}

const VALID: &str = "cni.dev/valid-attachments";
const OLD_VALID: &str = "cni.dev/attachments";

fn stdout_is_the_protocols(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    let mut conf = conf_with("logLevel", json!("debug"));
    let call = stage.call("ADD").with("TRACEPARENT", "00-4bf9-00f0-01");
    let reply = call.conf(&conf).reply()?;
    conf["prevResult"] = reply.result()?;
    ensure!(reply.stdout.ends_with("}\n"), "{:?}", reply.stdout);
    assert_eq!(reply.stdout.lines().count(), 1);
    ensure!(!reply.stderr.is_empty(), "debug says nothing");
    for line in reply.stderr.lines() {
        for part in [
            "network=net1",
            "container=c1",
            "ifname=eth0",
            "traceparent=00-4bf9-00f0-01",
        ] {
            ensure!(line.contains(part), "{part} is not in {line:?}");
        }
    }
    conf[VALID] = json!([{"containerID": "c1", "ifname": "eth0"}]);
    for verb in ["CHECK", "STATUS", "GC", "DEL", "DEL"] {
        let reply = stage.call(verb).conf(&conf).reply()?;
        assert!(reply.result()?.is_null(), "{verb}");
        assert_eq!(reply.stdout, "", "{verb}");
    }
    // A failure is told on both, once as a document.
    conf["bridge"] = json!("no/name");
    let reply = stage.call("ADD").conf(&conf).reply()?;
    let error = reply.failure()?;
    ensure!(reply.stderr.contains(&error.msg), "{:?}", reply.stderr);
    Ok(())
}

fn log_file(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    let mut conf = conf_with("logLevel", json!("debug"));
    conf["logFile"] = json!("/run/plugin.log");
    let reply = stage.call("ADD").conf(&conf).reply()?;
    reply.result()?;
    assert_eq!(reply.stderr, "");
    let text = fs::read_to_string("/run/plugin.log")?;
    ensure!(text.contains("container=c1"), "{text:?}");
    conf["logFile"] = json!("plugin.log");
    let error = stage.call("ADD").conf(&conf).fails()?;
    ensure!(
        error.code == code::CONFIG && error.msg.contains("logFile"),
        "{error:?}"
    );
    stage.call("DEL").conf(&conf).succeeds()?;
    Ok(())
}

fn add_twice(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    // A link-local address of the bridge would come in the middle of the comparison.
    node.write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?;
    node.as_before(|| {
        stage.call("ADD").succeeds()?;
        let before = node.snapshot()?;
        let error = stage.call("ADD").fails()?;
        assert_eq!(error.code, code::CONFIG, "{error:?}");
        let record = "/run/berth/attachments/net1/c1:eth0.json";
        ensure!(error.msg.contains(record), "{error:?}");
        before.must_equal(&node.snapshot()?)?;
        ensure!(
            stage.pod.has_link("eth0")?,
            "the first went with the second"
        );
        stage.call("DEL").succeeds().map(drop)
    })
}

fn add_finds_the_name_taken(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    stage.pod.ip("link add eth0 type bridge")?;
    node.as_before(|| {
        let error = stage.call("ADD").fails()?;
        assert_eq!(error.code, code::CONFIG, "{error:?}");
        ensure!(error.msg.contains("eth0 already exists"), "{error:?}");
        // Nor does DEL touch what is somebody else's.
        stage.call("DEL").succeeds()?;
        ensure!(stage.pod.has_link("eth0")?, "DEL took another's interface");
        Ok(())
    })
}

fn del_any_number_of_times(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    node.as_before(|| {
        stage.call("DEL").succeeds()?;
        let result = stage.call("ADD").succeeds()?;
        let conf = conf_with("prevResult", result);
        for _ in 0..3 {
            stage.call("DEL").conf(&conf).succeeds()?;
            ensure!(!stage.pod.has_link("eth0")?, "it is still there");
        }
        stage
            .call("DEL")
            .with("CNI_CONTAINERID", "other")
            .succeeds()?;
        Ok(())
    })
}

fn del_without_namespace(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    let before = node.snapshot()?;
    stage.call("ADD").succeeds()?;
    stage.call("DEL").without("CNI_NETNS").succeeds()?;
    before.must_return(std::time::Duration::from_secs(2))?;
    stage.call("ADD").succeeds()?;
    stage.pod.unbind()?;
    stage.call("DEL").succeeds()?;
    before
        .without("file /run/netns/pod")
        .without("mount /run/netns/pod")
        .must_return(std::time::Duration::from_secs(2))
}

fn status(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    node.as_before(|| {
        stage.call("STATUS").succeeds()?;
        let call = stage
            .call("STATUS")
            .conf(&conf_with("uplink", json!("none0")));
        let error = call.fails()?;
        assert_eq!(error.code, code::NOT_AVAILABLE, "{error:?}");
        ensure!(error.msg.contains("none0"), "{error:?}");
        Ok(())
    })
}

fn gc<'a>(stage: &'a Stage, key: &str, list: Value) -> Call<'a> {
    let call = stage.call("GC").without("CNI_CONTAINERID");
    let call = call.without("CNI_NETNS").without("CNI_IFNAME");
    call.conf(&conf_with(key, list))
}

fn gc_without_its_key(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    stage.call("ADD").succeeds()?;
    let before = node.snapshot()?;
    let error = gc(&stage, "somebodyElses", json!([])).fails()?;
    assert_eq!(error.code, code::CONFIG, "{error:?}");
    for key in [VALID, OLD_VALID] {
        ensure!(error.msg.contains(key), "{key} is not in {error:?}");
    }
    before.must_equal(&node.snapshot()?)
}

/// Three attachments of this network and one of another; `c1` and `c2` live in the
/// same pod.
fn four(stage: &Stage) -> Result<()> {
    stage.call("ADD").succeeds()?;
    for (id, ifname) in [("c1", "eth1"), ("c2", "eth2")] {
        let call = stage.call("ADD").with("CNI_CONTAINERID", id);
        call.with("CNI_IFNAME", ifname).succeeds()?;
    }
    let call = stage.call("ADD").with("CNI_IFNAME", "eth3");
    call.conf(&conf_with("name", json!("net2"))).succeeds()?;
    Ok(())
}

fn left(stage: &Stage) -> Result<Vec<String>> {
    let mut names = stage.pod.link_names()?;
    names.retain(|name| name.starts_with("eth"));
    names.sort_unstable();
    Ok(names)
}

fn gc_keeps_what_is_listed(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    node.as_before(|| {
        four(&stage)?;
        let one = |id: &str, ifname: &str| json!({"containerID": id, "ifname": ifname});
        let all = json!([one("c1", "eth0"), one("c1", "eth1"), one("c2", "eth2")]);
        gc(&stage, VALID, all).succeeds()?;
        assert_eq!(left(&stage)?, ["eth0", "eth1", "eth2", "eth3"]);
        // A pair counts as a whole: c1 with eth2 is nobody.
        let two = json!([one("c1", "eth0"), one("c1", "eth2"), one("c2", "eth2")]);
        gc(&stage, OLD_VALID, two).succeeds()?;
        assert_eq!(left(&stage)?, ["eth0", "eth2", "eth3"]);
        // The newer spelling wins over the older.
        let mut both = conf_with(VALID, json!([one("c1", "eth0")]));
        both[OLD_VALID] = json!([one("c2", "eth2")]);
        stage.call("GC").conf(&both).succeeds()?;
        assert_eq!(left(&stage)?, ["eth0", "eth3"]);
        gc(&stage, VALID, json!([])).succeeds()?;
        let mut other = conf_with("name", json!("net2"));
        other[VALID] = json!([]);
        stage.call("GC").conf(&other).succeeds().map(drop)
    })
}

fn gc_with_an_empty_list(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    for list in [json!([]), json!(null)] {
        four(&stage)?;
        gc(&stage, VALID, list).succeeds()?;
        assert_eq!(
            left(&stage)?,
            ["eth3"],
            "another network's attachment stays"
        );
        let call = stage.call("DEL").with("CNI_IFNAME", "eth3");
        call.conf(&conf_with("name", json!("net2"))).succeeds()?;
    }
    Ok(())
}

fn gc_with_a_malformed_list(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    stage.call("ADD").succeeds()?;
    let before = node.snapshot()?;
    for list in [
        json!({}),
        json!("c1"),
        json!(["c1"]),
        json!([{"containerID": "c1"}]),
        json!([{"containerID": "c1", "ifname": 0}]),
    ] {
        let error = gc(&stage, VALID, list).fails()?;
        ensure!(
            error.code == code::CONFIG && error.msg.contains(VALID),
            "{error:?}"
        );
    }
    before.must_equal(&node.snapshot()?)?;
    let plain = conf();
    stage.call("DEL").conf(&plain).succeeds()?;
    Ok(())
}
