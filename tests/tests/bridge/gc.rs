//! STATUS and GC: whether an ADD could be served, and cleaning up after lost DELs.

use std::fs;

use berth_kernel::Root;
use berth_state::boot::Writer;
use berth_tests::{Attachment, Need, Node, Reply, Result, Space, Test, ensure, test};
use serde_json::{Value, json};

use crate::kit::{Attached, conf, fixed, has_vlans, plugin, record_file, refused, with};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    vec![
        test("status_tells_what_is_missing", ROOT, status).varies(),
        test("gc_keeps_what_is_valid", ROOT, gc),
        test("gc_works_without_records", ROOT, marks),
        test("gc_leaves_an_add_that_runs", ROOT, running),
    ]
}

/// STATUS or GC: no container, no namespace.
pub(crate) fn of_network(verb: &str, conf: &Value) -> Result<Reply> {
    let env = [("CNI_COMMAND", verb), ("CNI_PATH", "/run/plugins")];
    plugin()?.raw(&env, conf.to_string().as_bytes())
}

fn status(node: &Node) -> Result<()> {
    node.ip("link add down0 type bridge")?;
    let ask = |keys: Value| of_network("STATUS", &conf("net", keys));
    node.as_before(|| {
        for fine in [
            json!({"bridge": "br0"}),
            json!({"bridge": "br0", "ipam": {"type": "static"}}),
        ] {
            let reply = ask(fine)?;
            assert_eq!(reply.result()?, Value::Null);
        }
        if has_vlans() {
            let gateway = json!({"bridge": "br0", "vlan": 100, "isGateway": true,
                "ipMasq": true, "ipam": fixed(&["10.1.0.1/24"])});
            assert_eq!(ask(gateway)?.result()?, Value::Null);
        }
        refused(
            &ask(json!({"bridge": "down0"}))?,
            50,
            &["down0", "ip link set down0 up"],
        )?;
        let uplink = json!({"bridge": "br0", "uplink": "none0", "uplinkMode": "ensure"});
        refused(&ask(uplink)?, 50, &["none0", "does not exist"])?;
        refused(
            &ask(json!({"bridge": "br0", "ipMasqBackend": "iptables"}))?,
            2,
            &["ipMasqBackend"],
        )?;
        refused(&ask(json!({"bridge": "br0", "vlan": 5000}))?, 7, &["5000"])?;
        let old = conf("net", json!({"cniVersion": "1.0.0"}));
        let error = of_network("STATUS", &old)?.failure()?;
        assert_eq!(
            (error.code, error.msg.as_str()),
            (1, "config version does not allow STATUS")
        );
        Ok(())
    })
}

fn on(network: &str, address: &str) -> Value {
    conf(network, json!({"bridge": "br0", "ipam": fixed(&[address])}))
}

/// The list of a runtime: what is valid by container id.
pub(crate) fn valid(network: &str, key: &str, ids: &[&str]) -> Value {
    let list: Vec<Value> = ids
        .iter()
        .map(|id| json!({"containerID": id, "ifname": "eth0"}))
        .collect();
    with(conf(network, json!({"bridge": "br0"})), json!({key: list}))
}

fn gc(node: &Node) -> Result<()> {
    const KEY: &str = "cni.dev/valid-attachments";
    node.as_before(|| {
        let a = Attached::new(node, "a", on("net", "10.1.0.1/24"))?;
        let b = Attached::new(node, "b", on("net", "10.1.0.2/24"))?;
        let other = Attached::new(node, "a2", on("other", "10.1.0.3/24"))?;

        let absent = conf("net", json!({"bridge": "br0"}));
        refused(&of_network("GC", &absent)?, 7, &[KEY])?;
        for pod in [&a, &b, &other] {
            pod.must_hold()?;
        }
        of_network("GC", &valid("net", KEY, &["a", "b"]))?.result()?;
        b.must_hold()?;
        assert_eq!(
            of_network("GC", &valid("net", KEY, &["b"]))?.result()?,
            Value::Null
        );
        assert_eq!(a.pod.link_names()?, ["lo"]);
        ensure!(!record_file("net", "a").exists(), "the record is left");
        b.must_hold()?;
        other.must_hold()?;
        // The older name of the list is understood too.
        of_network("GC", &valid("net", "cni.dev/attachments", &[]))?.result()?;
        assert_eq!(b.pod.link_names()?, ["lo"]);
        other.must_hold()?;
        // With GC of its own network the last port goes, and the bridge with it.
        of_network("GC", &valid("other", KEY, &[]))?.result()?;
        ensure!(!node.has_link("br0")?, "the bridge is left");
        of_network("GC", &valid("other", KEY, &[]))?
            .result()
            .map(drop)
    })
}

/// Ports are found by their marks, also when the bridge's name is not the
/// configuration's any more.
fn marks(node: &Node) -> Result<()> {
    node.as_before(|| {
        let a = Attached::new(node, "a", on("net", "10.1.0.1/24"))?;
        let b = Attached::new(node, "b", on("other", "10.1.0.2/24"))?;
        fs::remove_file(record_file("net", "a"))?;
        fs::remove_file(record_file("other", "b"))?;
        let list = json!({"bridge": "br7", "cni.dev/valid-attachments": []});
        of_network("GC", &conf("net", list.clone()))?.result()?;
        assert_eq!(a.pod.link_names()?, ["lo"]);
        assert_eq!(b.pod.link_names()?, ["lo", "eth0"], "another network's");
        of_network("GC", &conf("other", list))?.result()?;
        assert_eq!(b.pod.link_names()?, ["lo"]);
        let never = Attachment::of(&a.pod, "never", "eth0");
        plugin()?.del(&never, &a.conf)
    })
}

/// The runtime cannot have listed what is still being added.
fn running(node: &Node) -> Result<()> {
    let root = Root::host();
    node.as_before(|| {
        let one = Attached::new(node, "one", on("net", "10.1.0.1/24"))?;
        let file = record_file("net", "one");
        let own = fs::read_to_string(&file)?;
        let mut record: Value = serde_json::from_str(&own)?;
        record["phase"] = "prepared".into();
        record["writer"] = serde_json::to_value(Writer::current(&root)?)?;
        fs::write(&file, record.to_string())?;
        let nothing = valid("net", "cni.dev/valid-attachments", &[]);
        of_network("GC", &nothing)?.result()?;
        fs::write(&file, own)?;
        one.must_hold()?;
        of_network("GC", &nothing)?.result()?;
        assert_eq!(one.pod.link_names()?, ["lo"]);
        Ok(())
    })
}
