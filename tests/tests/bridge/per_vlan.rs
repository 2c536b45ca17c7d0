//! A bridge for each VLAN, on an 802.1Q device of the uplink.

use berth_tests::{Attachment, Need, Node, Pod, Result, Space, Test, ensure, test};
use serde_json::{Value, json};

use crate::gateway::forwarding;
use crate::gc::of_network;
use crate::kit::{Attached, IFNAME, conf, fixed, plugin, quiet, refused, with};

pub(crate) fn tests() -> Vec<Test> {
    // No VLAN filtering: that is what this layout does without.
    const DOT1Q: &[Need] = &[Need::Vlan8021q, Need::Tool("ping")];
    const ALL: &[Need] = &[Need::VlanFiltering, Need::Vlan8021q, Need::Nftables];
    const ROOT: &[Need] = &[Need::Root];
    vec![
        test("per_vlan_bridges_are_apart", DOT1Q, apart),
        test("per_vlan_takes_what_is_there", DOT1Q, taken),
        test("per_vlan_refuses_what_it_cannot_have", DOT1Q, refusals),
        test("gc_gives_back_what_vlans_took", ALL, collected),
        test("per_vlan_without_an_uplink", ROOT, without_uplink),
        test("per_vlan_needs_8021q", ROOT, kernel),
    ]
}

fn wish(vlan: u16, address: &str, more: Value) -> Value {
    let keys = json!({"bridge": "br0", "layout": "per-vlan", "vlan": vlan, "uplink": "up0",
        "ipam": fixed(&[address])});
    conf(&format!("vlan{vlan}"), with(keys, more))
}

/// A host behind the uplink, with 802.1Q devices for 100 and 200.
fn outside(node: &Node) -> Result<Pod> {
    let outside = node.veth_pod("outside", "up0", IFNAME)?;
    quiet(node)?;
    for (vid, address) in [(100, "10.1.0.200/24"), (200, "10.2.0.200/24")] {
        outside.ip(&format!(
            "link add link eth0 name v{vid} type vlan id {vid}"
        ))?;
        outside.ip(&format!("addr add {address} dev v{vid}"))?;
        outside.ip(&format!("link set v{vid} up"))?;
    }
    Ok(outside)
}

fn apart(node: &Node) -> Result<()> {
    let _outside = outside(node)?;
    node.as_before(|| {
        let one = Attached::new(node, "one", wish(100, "10.1.0.1/24", json!({})))?;
        let two = Attached::new(node, "two", wish(100, "10.1.0.2/24", json!({})))?;
        let other = Attached::new(node, "other", wish(200, "10.2.0.3/24", json!({})))?;
        assert_eq!(one.result["interfaces"][0]["name"], "br0.100");
        let device = node.link("up0.100")?;
        assert_eq!(device["linkinfo"]["info_data"]["id"], 100);
        assert_eq!(device["master"], "br0.100");
        assert_eq!(node.link(&other.port()?)?["master"], "br0.200");
        ensure!(one.reaches("10.1.0.2")?, "in one VLAN");
        ensure!(one.reaches("10.1.0.200")?, "outside's 100");
        ensure!(other.reaches("10.2.0.200")?, "outside's 200");
        for pod in [&one, &two, &other] {
            pod.must_hold()?;
        }
        // Also with an address of the other's subnet it stays apart.
        other.pod.ip("addr add 10.1.0.9/24 dev eth0")?;
        ensure!(other.is_cut_off_from("10.1.0.1")?, "200 to 100");
        one.del()?;
        ensure!(node.has_link("up0.100")?, "two still uses it");
        two.del()?;
        two.del()?;
        ensure!(!node.has_link("up0.100")?, "nobody uses it");
        ensure!(!node.has_link("br0.100")?, "nobody uses it");
        ensure!(other.reaches("10.2.0.200")?, "200 is another bridge");
        other.del()
    })
}

/// Devices, VLANs of the uplink, gateways and masquerade go with the attachments that
/// nobody sent a DEL for.
fn collected(node: &Node) -> Result<()> {
    let _outside = outside(node)?;
    forwarding(node)?;
    let gate = json!({"isGateway": true, "ipMasq": true});
    let aware = json!({"bridge": "br1", "uplink": "up1", "uplinkMode": "ensure", "vlan": 100,
        "ipam": fixed(&["10.3.0.7/24"])});
    let _other = node.veth_pod("beyond", "up1", IFNAME)?;
    quiet(node)?;
    for conf in [
        wish(100, "10.1.0.7/24", gate.clone()),
        conf("aware", with(aware, gate)),
    ] {
        node.as_before(|| {
            // Its namespace dies with the pod.
            drop(Attached::new(node, "one", conf.clone())?);
            let list = json!({"cni.dev/valid-attachments": []});
            of_network("GC", &with(conf, list))?.result().map(drop)
        })?;
    }
    Ok(())
}

/// A device of the operator's is used and stays, and the node may be the gateway.
fn taken(node: &Node) -> Result<()> {
    let _outside = outside(node)?;
    node.write("/proc/sys/net/ipv4/ip_forward", "1")?;
    node.ip("link add link up0 name up0.100 type vlan id 100")?;
    node.as_before(|| {
        let gate = json!({"isGateway": true});
        let one = Attached::new(node, "one", wish(100, "10.1.0.7/24", gate))?;
        assert_eq!(node.addresses("br0.100")?, ["10.1.0.1/24"]);
        ensure!(one.reaches("10.1.0.1")?, "the gateway");
        ensure!(one.reaches("10.1.0.200")?, "outside");
        one.must_hold()?;
        one.del()
    })
}

fn refusals(node: &Node) -> Result<()> {
    let _outside = outside(node)?;
    node.ip("link add sw type bridge")?;
    node.ip("link add down0 type veth peer name down1")?;
    let pod = node.pod("pod")?;
    let at = Attachment::of(&pod, "pod", IFNAME);
    let call = |more: Value| plugin()?.call("ADD", &at, &wish(100, "10.1.0.1/24", more));
    node.as_before(|| {
        refused(
            &call(json!({"uplink": "none0"}))?,
            7,
            &["none0 does not exist"],
        )?;
        refused(&call(json!({"uplink": "down0"}))?, 7, &["down0 is down"])?;
        let trunk = json!({"vlanTrunk": [{"id": 7}]});
        refused(&call(trunk)?, 7, &["vlanTrunk", "vlan-aware"])?;
        // What comes after the device takes it back.
        let far = json!({"ipam": {"type": "static", "addresses": [{"address": "10.1.0.1/24"}],
            "routes": [{"dst": "10.9.0.0/16", "gw": "192.0.2.1"}]}});
        refused(&call(far)?, 100, &["10.9.0.0/16"])?;
        refused(&call(json!({"mtu": 9000}))?, 7, &["9000", "1500"]).map(drop)
    })?;
    node.ip("link set up0 master sw")?;
    node.as_before(|| {
        let reply = call(json!({}))?;
        refused(&reply, 7, &["up0 belongs to sw", "vlan-aware"]).map(drop)
    })?;
    node.ip("link set up0 nomaster")?;
    node.ip("link add link up0 name other type vlan id 100")?;
    node.as_before(|| refused(&call(json!({}))?, 7, &["another name"]).map(drop))
}

/// A bridge of one VLAN with nothing outside needs nothing of the kernel.
fn without_uplink(node: &Node) -> Result<()> {
    node.as_before(|| {
        let keys = json!({"uplink": null});
        let one = Attached::new(node, "one", wish(100, "10.1.0.1/24", keys.clone()))?;
        assert_eq!(node.link(&one.port()?)?["master"], "br0.100");
        one.must_hold()?;
        // Its DEL finds the bridge without a record, too.
        std::fs::remove_file(crate::kit::record_file("vlan100", "one"))?;
        node.ip(&format!("link del {}", one.port()?))?;
        one.del()?;
        ensure!(!node.has_link("br0.100")?, "the bridge is left");
        Ok(())
    })
}

/// A kernel without 802.1Q devices says so; with them the wish is granted.
fn kernel(node: &Node) -> Result<()> {
    let _far = node.veth_pod("outside", "up0", IFNAME)?;
    quiet(node)?;
    let pod = node.pod("pod")?;
    let at = Attachment::of(&pod, "pod", IFNAME);
    let conf = wish(100, "10.1.0.1/24", json!({}));
    node.as_before(|| {
        let reply = plugin()?.call("ADD", &at, &conf)?;
        if Need::Vlan8021q.check().is_ok() {
            reply.result()?;
            return plugin()?.del(&at, &conf);
        }
        refused(&reply, 100, &["CONFIG_VLAN_8021Q", "per-vlan"]).map(drop)
    })
}
