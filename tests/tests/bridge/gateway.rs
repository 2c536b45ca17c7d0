//! The node as the containers' gateway: its address, who counts on it, what it forwards.

use berth_tests::{Attachment, Need, Node, Pod, Result, Space, Test, ensure, test};
use serde_json::{Value, json};

use crate::kit::{
    Attached, IFNAME, conf, fixed, foreign_bridge, has_vlans, plugin, refused, sysctl, with,
};

pub(crate) fn tests() -> Vec<Test> {
    const PING: &[Need] = &[Need::Tool("ping")];
    const VLAN: &[Need] = &[Need::VlanFiltering, Need::Vlan8021q, Need::Tool("ping")];
    const ROOT: &[Need] = &[Need::Root];
    vec![
        test("gateway_is_the_nodes_and_counted", PING, counted),
        test("gateway_forwards_to_the_world", PING, forwards),
        test(
            "default_route_only_where_there_is_none",
            ROOT,
            default_route,
        ),
        test("gateway_in_the_way_is_refused_or_replaced", ROOT, conflicts),
        test("operators_gateway_stays", ROOT, operators),
        test("gateway_in_a_vlan_is_a_device", VLAN, in_vlan),
        test("gateway_of_a_long_bridge_name", VLAN, long_name),
        test("gateway_changes_are_found", ROOT, found).varies(),
        test("failed_add_takes_its_gateway_back", ROOT, failed),
    ]
}

/// Forwarding stays on, as with the reference plugin: not what is looked at here.
pub(crate) fn forwarding(node: &Node) -> Result<()> {
    node.write("/proc/sys/net/ipv4/ip_forward", "1")?;
    node.write("/proc/sys/net/ipv6/conf/all/forwarding", "1")
}

pub(crate) fn gated(name: &str, addresses: &[&str], more: Value) -> Value {
    let keys = json!({"bridge": "br0", "isGateway": true, "ipam": fixed(addresses)});
    conf(name, with(keys, more))
}

const BOTH: [&str; 2] = ["10.1.0.7/24", "fd00:1::7/64"];

fn counted(node: &Node) -> Result<()> {
    forwarding(node)?;
    foreign_bridge(node, "br0", "")?;
    node.ip("link set br0 addrgenmode none")?;
    node.write("/proc/sys/net/ipv6/conf/br0/disable_ipv6", "0")?;
    node.as_before(|| {
        let one = Attached::new(node, "one", gated("net", &BOTH, json!({})))?;
        let ips = &one.result["ips"];
        assert_eq!(ips[0]["gateway"], "10.1.0.1");
        assert_eq!(ips[1]["gateway"], "fd00:1::1");
        assert_eq!(one.result["interfaces"].as_array().map(Vec::len), Some(3));
        ensure!(one.result.get("routes").is_none(), "{}", one.result);
        let shown = node.ip("-6 addr show dev br0 scope global")?;
        ensure!(shown.contains("fd00:1::1/64"), "{shown}");
        ensure!(!shown.contains("tentative"), "DAD runs: {shown}");
        ensure!(one.reaches("10.1.0.1")?, "the gateway, IPv4");
        ensure!(one.reaches("fd00:1::1")?, "the gateway, IPv6");
        let two = Attached::new(node, "two", gated("net", &["10.1.0.8/24"], json!({})))?;
        // Another network on the same bridge has a gateway of its own.
        let other = Attached::new(node, "other", gated("other", &["10.2.0.7/24"], json!({})))?;
        one.must_hold()?;
        one.del()?;
        let left = node.addresses("br0")?;
        ensure!(
            left.contains(&"10.1.0.1/24".into()),
            "two needs it: {left:?}"
        );
        ensure!(
            !left.contains(&"fd00:1::1/64".into()),
            "nobody needs it: {left:?}"
        );
        ensure!(two.reaches("10.1.0.1")?, "the gateway after one's DEL");
        two.del()?;
        two.del()?;
        let left = node.addresses("br0")?;
        ensure!(!left.contains(&"10.1.0.1/24".into()), "{left:?}");
        other.must_hold()?;
        other.del()
    })
}

/// A host behind another link of the node, and the way back through it.
fn world(node: &Node) -> Result<Pod> {
    let world = node.veth_pod("world", "w0", IFNAME)?;
    node.ip("addr add 192.0.2.1/24 dev w0")?;
    world.ip("addr add 192.0.2.2/24 dev eth0")?;
    world.ip("route add default via 192.0.2.1")?;
    Ok(world)
}

fn forwards(node: &Node) -> Result<()> {
    let world = world(node)?;
    node.write("/proc/sys/net/ipv4/ip_forward", "0")?;
    let keys = json!({"isGateway": false, "isDefaultGateway": true});
    let one = Attached::new(node, "one", gated("net", &["10.1.0.7/24"], keys))?;
    assert_eq!(sysctl(node, "net/ipv4/ip_forward")?, "1");
    assert_eq!(sysctl(node, "net/ipv4/conf/br0/forwarding")?, "1");
    assert_eq!(
        one.result["routes"],
        json!([{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}])
    );
    ensure!(one.reaches("192.0.2.2")?, "pod to world");
    ensure!(
        world.ping("10.1.0.7".parse()?, 3)?.reached(),
        "world to pod"
    );
    one.must_hold()?;
    node.write("/proc/sys/net/ipv4/ip_forward", "0")?;
    refused(&one.check()?, 105, &["net/ipv4/ip_forward is off"])?;
    one.del()?;
    ensure!(!node.has_link("br0")?, "the bridge is left");
    Ok(())
}

fn default_route(node: &Node) -> Result<()> {
    forwarding(node)?;
    node.as_before(|| {
        let ipam = json!({"type": "static",
            "addresses": [{"address": "10.1.0.7/24"}, {"address": "fd00:1::7/64"}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.254"}]});
        let keys = json!({"isDefaultGateway": true, "ipam": ipam});
        let one = Attached::new(node, "one", gated("net", &[], keys))?;
        assert_eq!(
            one.result["routes"],
            json!([{"dst": "0.0.0.0/0", "gw": "10.1.0.254"}, {"dst": "::/0", "gw": "fd00:1::1"}])
        );
        let v6 = one.pod.ip("-6 route show default")?;
        ensure!(v6.contains("default via fd00:1::1"), "{v6}");
        one.must_hold()?;
        one.del()
    })
}

fn conflicts(node: &Node) -> Result<()> {
    forwarding(node)?;
    foreign_bridge(node, "br0", "")?;
    node.ip("addr add 10.1.0.254/24 dev br0")?;
    let pod = node.pod("pod")?;
    let at = Attachment::of(&pod, "pod", IFNAME);
    node.as_before(|| {
        let reply = plugin()?.call("ADD", &at, &gated("net", &["10.1.0.7/24"], json!({})))?;
        let says = ["br0", "10.1.0.1/24", "10.1.0.254/24", "forceAddress"];
        refused(&reply, 7, &says)?;
        // The address itself is welcome.
        let ipam = json!({"type": "static",
            "addresses": [{"address": "10.1.0.7/24", "gateway": "10.1.0.254"}]});
        let keys = json!({"ipam": ipam});
        Attached::new(node, "same", gated("net", &[], keys))?.del()?;
        assert_eq!(node.addresses("br0")?, ["10.1.0.254/24"]);
        let force = json!({"forceAddress": true});
        let one = Attached::new(node, "one", gated("net", &["10.1.0.7/24"], force))?;
        assert_eq!(node.addresses("br0")?, ["10.1.0.1/24"]);
        one.must_hold()?;
        one.del()
    })
}

fn operators(node: &Node) -> Result<()> {
    forwarding(node)?;
    foreign_bridge(node, "br0", "")?;
    node.ip("addr add 10.1.0.1/24 dev br0")?;
    node.as_before(|| {
        let one = Attached::new(node, "one", gated("net", &["10.1.0.7/24"], json!({})))?;
        one.must_hold()?;
        one.del()?;
        assert_eq!(node.addresses("br0")?, ["10.1.0.1/24"]);
        Ok(())
    })
}

fn in_vlan(node: &Node) -> Result<()> {
    forwarding(node)?;
    let _guest = node.veth_pod("guest", "v0", IFNAME)?;
    foreign_bridge(node, "br0", "vlan_filtering 1")?;
    node.ip("link set v0 master br0")?;
    node.as_before(|| {
        let of = |vlan: u16, address: &str| {
            let name = format!("vlan{vlan}");
            gated(&name, &[address], json!({"vlan": vlan}))
        };
        let one = Attached::new(node, "one", of(100, "10.1.0.7/24"))?;
        let two = Attached::new(node, "two", of(100, "10.1.0.8/24"))?;
        let other = Attached::new(node, "other", of(200, "10.2.0.7/24"))?;
        let device = node.link("br0.100")?;
        let listed = &one.result["interfaces"][3];
        assert_eq!(
            *listed,
            json!({"name": "br0.100", "mac": device["address"]})
        );
        assert_eq!(one.result["ips"][0]["interface"], 2);
        assert_eq!(device["linkinfo"]["info_data"]["id"], 100);
        assert_eq!(node.addresses("br0.100")?, ["10.1.0.1/24"]);
        let own = node.port_vlans("br0")?;
        let own: Vec<u16> = own.into_iter().map(|(vid, _)| vid).collect();
        assert_eq!(own, [1, 100, 200]);
        ensure!(one.reaches("10.1.0.1")?, "the gateway");
        ensure!(other.reaches("10.2.0.1")?, "the other VLAN's gateway");
        for pod in [&one, &two, &other] {
            pod.must_hold()?;
        }
        one.del()?;
        ensure!(two.reaches("10.1.0.1")?, "two still counts on it");
        node.run("bridge vlan del dev br0 vid 100 self")?;
        refused(&two.check()?, 105, &["br0 itself is not in VLAN 100"])?;
        node.run("bridge vlan add dev br0 vid 100 self")?;
        node.ip("link set br0.100 down")?;
        refused(&two.check()?, 105, &["br0.100 is down"])?;
        two.del()?;
        ensure!(!node.has_link("br0.100")?, "nobody counts on it");
        other.must_hold()?;
        other.del()
    })
}

fn long_name(node: &Node) -> Result<()> {
    forwarding(node)?;
    node.as_before(|| {
        let keys = json!({"bridge": "bridge-of-all", "vlan": 100});
        let one = Attached::new(node, "one", gated("net", &["10.1.0.7/24"], keys))?;
        let name = one.result["interfaces"][3]["name"].clone();
        let name = name.as_str().unwrap_or_default();
        ensure!(name.starts_with("bd") && name.len() == 14, "{name}");
        let has = node.addresses(name)?;
        ensure!(has.contains(&"10.1.0.1/24".into()), "{has:?}");
        ensure!(one.reaches("10.1.0.1")?, "the gateway");
        one.must_hold()?;
        one.del()
    })
}

fn found(node: &Node) -> Result<()> {
    forwarding(node)?;
    let vlan = if has_vlans() {
        json!({"vlan": 100})
    } else {
        json!({})
    };
    node.as_before(|| {
        let one = Attached::new(node, "one", gated("net", &["10.1.0.7/24"], vlan))?;
        let device = if has_vlans() { "br0.100" } else { "br0" };
        node.ip(&format!("addr del 10.1.0.1/24 dev {device}"))?;
        refused(
            &one.check()?,
            105,
            &["gateway 10.1.0.1/24 is gone from", device],
        )?;
        node.ip(&format!("addr add 10.1.0.1/24 dev {device}"))?;
        one.must_hold()?;
        one.del()
    })
}

/// The container's routes come after the gateway.
fn failed(node: &Node) -> Result<()> {
    forwarding(node)?;
    foreign_bridge(node, "br0", "")?;
    let pod = node.pod("pod")?;
    let at = Attachment::of(&pod, "pod", IFNAME);
    node.as_before(|| {
        let ipam = json!({"type": "static", "addresses": [{"address": "10.1.0.7/24"}],
            "routes": [{"dst": "10.9.0.0/16", "gw": "192.0.2.1"}]});
        let keys = json!({"ipam": ipam});
        let reply = plugin()?.call("ADD", &at, &gated("net", &[], keys))?;
        refused(&reply, 100, &["10.9.0.0/16"])?;
        let narrow = gated("net", &["10.1.0.7/32"], json!({}));
        let reply = plugin()?.call("ADD", &at, &narrow)?;
        refused(&reply, 7, &["10.1.0.7/32", "\"gateway\" in \"ipam\""]).map(drop)
    })
}
