//! What a container sends out of its subnets leaves with the node's address, as long as
//! the attachment is there and no longer.

use std::fs;

use berth_tests::{Need, Node, Result, Space, Test, ensure, test};
use serde_json::{Value, json};

use crate::gateway::{forwarding, gated};
use crate::gc::{of_network, valid};
use crate::kit::{Attached, IFNAME, plugin, record_file, refused};

pub(crate) fn tests() -> Vec<Test> {
    const NEEDS: &[Need] = &[Need::Nftables, Need::Tool("ping")];
    vec![
        test("masquerade_hides_the_container", NEEDS, hides),
        test("masquerade_goes_without_a_record", NEEDS, swept),
        test("one_backend_masquerades", &[Need::Root], backends),
    ]
}

fn masqueraded(addresses: &[&str]) -> Value {
    let keys = json!({"isDefaultGateway": true, "ipMasq": true, "ipMasqBackend": "nftables"});
    gated("net", addresses, keys)
}

/// A host outside that knows no way back to the containers.
fn hides(node: &Node) -> Result<()> {
    forwarding(node)?;
    let world = node.veth_pod("world", "w0", IFNAME)?;
    node.ip("addr add 192.0.2.1/24 dev w0")?;
    world.ip("addr add 192.0.2.2/24 dev eth0")?;
    node.as_before(|| {
        let keys = json!({"isDefaultGateway": true});
        let plain = Attached::new(node, "plain", gated("net", &["10.1.0.7/24"], keys))?;
        let conf = masqueraded(&["10.1.0.8/24", "fd00:1::8/64"]);
        let one = Attached::new(node, "one", conf)?;
        ensure!(plain.is_cut_off_from("192.0.2.2")?, "it has an answer");
        ensure!(one.reaches("192.0.2.2")?, "no answer from outside");
        ensure!(one.reaches("10.1.0.7")?, "no answer inside");
        one.must_hold()?;
        plain.must_hold()?;
        let ruleset = node.run("nft list ruleset")?;
        ensure!(ruleset.contains("net/one:eth0"), "{ruleset}");
        node.run("nft delete table ip6 berth")?;
        refused(&one.check()?, 105, &["fd00:1::8", "not masqueraded"])?;
        one.del()?;
        one.del()?;
        plain.del()
    })
}

/// By DEL, and by GC where the port is gone, too.
fn swept(node: &Node) -> Result<()> {
    forwarding(node)?;
    node.as_before(|| {
        let one = Attached::new(node, "one", masqueraded(&["10.1.0.8/24"]))?;
        fs::remove_file(record_file("net", "one"))?;
        one.del()
    })?;
    node.as_before(|| {
        let kept = Attached::new(node, "kept", masqueraded(&["10.1.0.9/24"]))?;
        let lost = Attached::new(node, "lost", masqueraded(&["10.1.0.8/24"]))?;
        node.ip(&format!("link del {}", lost.port()?))?;
        fs::remove_file(record_file("net", "lost"))?;
        let list = valid("net", "cni.dev/valid-attachments", &["kept"]);
        of_network("GC", &list)?.result()?;
        kept.must_hold()?;
        let ruleset = node.run("nft list ruleset")?;
        ensure!(!ruleset.contains("net/lost"), "{ruleset}");
        kept.del()
    })
}

fn backends(node: &Node) -> Result<()> {
    let conf = gated(
        "net",
        &["10.1.0.8/24"],
        json!({"ipMasqBackend": "iptables"}),
    );
    let pod = node.pod("one")?;
    let at = berth_tests::Attachment::of(&pod, "one", IFNAME);
    let reply = plugin()?.call("ADD", &at, &conf)?;
    refused(&reply, 2, &["ipMasqBackend", "iptables", "nftables"])?;
    Ok(())
}
