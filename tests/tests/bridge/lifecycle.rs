//! ADD and DEL in every order a runtime, an operator or an accident can bring about.

use std::fs;

use berth_tests::{Attachment, Need, Node, Result, Space, Test, ensure, test};
use serde_json::{Value, json};

use crate::kit::{Attached, IFNAME, conf, foreign_bridge, plugin, record_file, refused, untagged};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    vec![
        test("a_second_add_is_refused", ROOT, add_twice),
        test("del_can_be_repeated", ROOT, del_twice),
        test("del_works_without_a_record", ROOT, without_record),
        test("del_ignores_the_configuration", ROOT, odd_configuration),
        test("an_add_that_died_is_swept", ROOT, dead_add),
        test("bridge_stays_for_a_foreign_port", ROOT, foreign_port),
        test("a_record_of_the_future_is_kept", ROOT, newer_record),
        test("a_record_of_garbage_is_named", ROOT, garbage_record),
        test("del_of_what_never_was_succeeds", ROOT, never_added),
    ]
}

fn add_twice(node: &Node) -> Result<()> {
    node.as_before(|| {
        let pod = Attached::new(node, "one", untagged("10.1.0.1/24"))?;
        let reply = plugin()?.call("ADD", &pod.at, &pod.conf)?;
        let record = record_file("net", "one");
        let path = record.display().to_string();
        refused(&reply, 7, &["net/one:eth0", "exists already", &path, "DEL"])?;
        pod.must_hold()?;
        pod.del()
    })
}

fn del_twice(node: &Node) -> Result<()> {
    node.as_before(|| {
        let pod = Attached::new(node, "one", untagged("10.1.0.1/24"))?;
        pod.del()?;
        assert_eq!(pod.pod.link_names()?, ["lo"]);
        pod.del()?;
        // Never added, in a namespace that never was.
        let mut other = pod.at.clone();
        other.container_id = "never".into();
        other.netns = Some("/run/netns/never".into());
        plugin()?.del(&other, &pod.conf)?;
        // Without a namespace, and without the result of ADD.
        let again = plugin()?.add(&pod.at, &pod.conf)?;
        ensure!(again["ips"].is_array(), "{again}");
        plugin()?.del(&pod.at.without_netns(), &pod.conf)?;
        assert_eq!(pod.pod.link_names()?, ["lo"]);
        Ok(())
    })
}

fn without_record(node: &Node) -> Result<()> {
    node.as_before(|| {
        let one = Attached::new(node, "one", untagged("10.1.0.1/24"))?;
        let two = Attached::new(node, "two", untagged("10.1.0.2/24"))?;
        fs::remove_file(record_file("net", "one"))?;
        plugin()?.del(&one.at.without_netns(), &one.conf)?;
        assert_eq!(one.pod.link_names()?, ["lo"]);
        two.must_hold()?;
        two.del()
    })?;
    // The configuration names another bridge by now: the port itself tells.
    node.as_before(|| {
        let one = Attached::new(node, "one", untagged("10.1.0.1/24"))?;
        fs::remove_dir_all("/run/berth/attachments/net")?;
        plugin()?.del(&one.at, &conf("net", json!({"bridge": "br7"})))?;
        assert_eq!(one.pod.link_names()?, ["lo"]);
        Ok(())
    })?;
    // A link of that name which is not marked as ours is somebody else's.
    let one = Attached::new(node, "one", untagged("10.1.0.1/24"))?;
    let port = one.port()?;
    one.del()?;
    node.ip(&format!("link add {port} type bridge"))?;
    node.as_before(|| plugin()?.del(&one.at, &one.conf))
}

fn odd_configuration(node: &Node) -> Result<()> {
    let odd: [Value; 3] = [
        conf(
            "net",
            json!({"bridge": 17, "vlan": "x", "VLAN": [], "ipam": {"type": "no/such"}}),
        ),
        conf(
            "net",
            json!({"bridge": "br7", "vlan": 9, "ipMasq": true, "prevResult": null}),
        ),
        conf("net", json!({})),
    ];
    for later in odd {
        node.as_before(|| {
            let pod = Attached::new(node, "one", untagged("10.1.0.1/24"))?;
            let mut at = pod.at.clone();
            at.args = Some("NOT A PAIR;A=B=C".into());
            plugin()?.del(&at, &later)?;
            assert_eq!(pod.pod.link_names()?, ["lo"], "after {later}");
            Ok(())
        })?;
    }
    Ok(())
}

/// A `prepared` record whose writer is dead, as a killed ADD leaves it.
fn dead_add(node: &Node) -> Result<()> {
    node.as_before(|| {
        let pod = Attached::new(node, "one", untagged("10.1.0.1/24"))?;
        let file = record_file("net", "one");
        let mut record: Value = serde_json::from_slice(&fs::read(&file)?)?;
        assert_eq!(record["phase"], "committed");
        record["phase"] = "prepared".into();
        fs::write(&file, record.to_string())?;
        // The runtime tries again: what is left is taken for nobody's.
        let again = plugin()?.add(&pod.at, &pod.conf)?;
        assert_eq!(again["interfaces"], pod.result["interfaces"]);
        assert_eq!(pod.pod.link_names()?, ["lo", IFNAME]);
        pod.must_hold()?;
        pod.del()
    })
}

fn foreign_port(node: &Node) -> Result<()> {
    node.as_before(|| {
        let pod = Attached::new(node, "one", untagged("10.1.0.1/24"))?;
        let guest = node.veth_pod("guest", "v0", IFNAME)?;
        node.ip("link set v0 master br0")?;
        pod.del()?;
        assert_eq!(node.link("v0")?["master"], "br0", "the bridge is in use");
        node.ip("link del v0")?;
        drop(guest);
        pod.del()?;
        ensure!(!node.has_link("br0")?, "the next DEL finds it unused");
        Ok(())
    })?;
    // One that the node's own set-up made and marked to stay, also when it is down.
    foreign_bridge(node, "br0", "")?;
    node.write("/sys/class/net/br0/ifalias", "berth1 bridge keep")?;
    node.ip("link set br0 down")?;
    let pod = Attached::new(node, "kept", untagged("10.1.0.1/24"))?;
    pod.must_hold()?;
    pod.del()?;
    assert_eq!(node.link("br0")?["ifalias"], "berth1 bridge keep");
    node.as_before(|| {
        let pod = Attached::new(node, "one", untagged("10.1.0.1/24"))?;
        pod.must_hold()?;
        pod.del()
    })
}

/// What no ADD can have made is gone already, whatever the configuration names.
fn never_added(node: &Node) -> Result<()> {
    let pod = node.pod("one")?;
    let at = Attachment::of(&pod, "one", IFNAME);
    node.as_before(|| {
        for ipam in [json!({"type": "nobody"}), json!({"type": ""}), json!([])] {
            let conf = conf("net", json!({"bridge": "br0", "ipam": ipam}));
            plugin()?.call("ADD", &at, &conf)?.failure()?;
            plugin()?.del(&at, &conf)?;
        }
        Ok(())
    })
}

/// The rest is released all the same; the file is a person's to look at.
fn garbage_record(node: &Node) -> Result<()> {
    node.as_before(|| {
        let pod = Attached::new(node, "one", untagged("10.1.0.1/24"))?;
        let file = record_file("net", "one");
        fs::write(&file, "{\"format\": 1, \"key\"")?;
        let reply = plugin()?.call("DEL", &pod.at, &pod.later())?;
        let path = file.display().to_string();
        refused(&reply, 102, &["not wholly released", &path, "by hand"])?;
        ensure!(!pod.pod.has_link(IFNAME)?, "the interface is released");
        ensure!(!node.has_link("br0")?, "the bridge is released");
        fs::remove_file(&file)?;
        pod.del()
    })
}

fn newer_record(node: &Node) -> Result<()> {
    node.as_before(|| {
        let pod = Attached::new(node, "one", untagged("10.1.0.1/24"))?;
        let file = record_file("net", "one");
        let path = file.display().to_string();
        let own = fs::read_to_string(&file)?;
        let mut record: Value = serde_json::from_str(&own)?;
        record["format"] = 99.into();
        let newer = record.to_string();
        fs::write(&file, &newer)?;
        for verb in ["DEL", "ADD", "CHECK"] {
            let reply = plugin()?.call(verb, &pod.at, &pod.later())?;
            let error = reply.failure()?;
            let text = format!("{}: {}", error.msg, error.details);
            ensure!(
                text.contains(&path) && text.contains("99"),
                "{verb}: {text}"
            );
            assert_eq!(fs::read_to_string(&file)?, newer, "{verb} keeps it");
            ensure!(pod.pod.has_link(IFNAME)?, "{verb} leaves the pod alone");
        }
        fs::write(&file, own)?;
        pod.must_hold()?;
        pod.del()
    })
}
