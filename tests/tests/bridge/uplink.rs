//! The way out of the node: taken, shared by VLANs, given back, and never stolen.

use std::time::Duration;

use berth_tests::{
    Attachment, Frame, Need, Node, Pod, Port, Result, Space, Test, ensure, poll, test,
};
use serde_json::{Value, json};

use crate::kit::{Attached, IFNAME, conf, fixed, foreign_bridge, ip, plugin, quiet, refused};

pub(crate) fn tests() -> Vec<Test> {
    const WIRE: &[Need] = &[Need::Wire, Need::VlanFiltering, Need::Vlan8021q];
    const VLAN: &[Need] = &[Need::VlanFiltering, Need::Tool("ping")];
    const BOND: &[Need] = &[Need::Bonding, Need::VlanFiltering, Need::Tool("ping")];
    const ROOT: &[Need] = &[Need::Root];
    const PING: &[Need] = &[Need::Tool("ping")];
    vec![
        test("wire_carries_each_vlan_and_no_other", WIRE, wire),
        test("uplink_vlans_go_with_their_last_user", VLAN, verify),
        test("uplink_is_shared_by_networks", VLAN, shared),
        test("bare_uplink_is_taken_and_given_back", PING, bare),
        test("uplink_of_a_foreign_bridge_stays", PING, foreign),
        test(
            "uplink_taken_for_a_foreign_bridge_goes",
            ROOT,
            taken_for_foreign,
        ),
        test(
            "uplink_by_an_alternative_name_is_given_back",
            ROOT,
            by_altname,
        ),
        test("second_uplink_is_refused", ROOT, second),
        test("bond_is_an_uplink_and_its_ports_are_not", BOND, bond),
    ]
}

const LIMIT: Duration = Duration::from_secs(15);

fn out(uplink: &str, mode: &str, vlan: u16, address: &str) -> Value {
    let keys = json!({"bridge": "br0", "uplink": uplink, "uplinkMode": mode, "vlan": vlan,
        "ipam": fixed(&[address])});
    conf(&format!("vlan{vlan}"), keys)
}

/// Two hosts behind the peer port: 10.1.0.200 on VLAN 100 and 10.1.0.201 on 200. The
/// second is what makes the peer's NIC take VLAN 200 at all.
fn outside(node: &Node) -> Result<[Pod; 2]> {
    let outside = node.outside()?;
    let second = node.pod("second")?;
    for vid in [100, 200] {
        outside.ip(&format!(
            "link add link peer0 name peer0.{vid} type vlan id {vid}"
        ))?;
    }
    let path = second.path().display().to_string();
    outside.ip(&format!("link set peer0.200 netns {path}"))?;
    outside.ip("addr add 10.1.0.200/24 dev peer0.100")?;
    outside.ip("link set peer0.100 up")?;
    second.ip("addr add 10.1.0.201/24 dev peer0.200")?;
    second.ip("link set peer0.200 up")?;
    Ok([outside, second])
}

/// The real wire: a bare uplink, and hosts with 802.1Q devices behind the peer port.
fn wire(node: &Node) -> Result<()> {
    let [outside, second] = outside(node)?;
    let wire = Port::Uplink.name();
    node.as_before(|| {
        let ours = Attached::new(node, "ours", out(wire, "ensure", 100, "10.1.0.1/24"))?;
        let other = Attached::new(node, "other", out(wire, "ensure", 200, "10.1.0.2/24"))?;
        node.port_up(Port::Uplink)?;
        let seen = outside.capture("peer0")?;
        poll("an answer over the wire", LIMIT, || {
            Ok(ours.reaches("10.1.0.200")?.then_some(()))
        })?;
        ensure!(other.reaches("10.1.0.201")?, "200 to outside's 200");
        ensure!(
            outside.ping(ip("10.1.0.1")?, 2)?.reached(),
            "outside to 100"
        );
        ensure!(other.is_cut_off_from("10.1.0.200")?, "200 to outside's 100");
        ensure!(ours.is_cut_off_from("10.1.0.201")?, "100 to outside's 200");
        ensure!(
            outside.ping(ip("10.1.0.2")?, 2)?.isolated(),
            "outside's 100 to 200"
        );
        ensure!(
            second.ping(ip("10.1.0.1")?, 2)?.isolated(),
            "outside's 200 to 100"
        );
        let frames = seen.frames(Duration::from_millis(300))?;
        for (pod, vid) in [(&ours, 100), (&other, 200)] {
            let source = pod.mac()?;
            let sent = frames.iter().filter(|frame| frame.source == source);
            let tags: Vec<_> = sent.map(Frame::vid).collect();
            ensure!(!tags.is_empty(), "nothing of VLAN {vid} on the wire");
            ensure!(
                tags.iter().all(|tag| *tag == Some(vid)),
                "VLAN {vid}: {tags:?}"
            );
        }
        assert_eq!(vids_of(node, wire)?, [100, 200]);
        ours.must_hold()?;
        ours.del()?;
        assert_eq!(vids_of(node, wire)?, [200]);
        other.del()?;
        let link = node.link(wire)?;
        ensure!(link.get("master").is_none(), "{link}");
        ensure!(!is_up(&link), "{link}");
        ensure!(!node.has_link("br0")?, "the bridge is left");
        assert_eq!(vids_of(node, wire)?, [0u16; 0]);
        Ok(())
    })
}

fn vids_of(node: &Node, port: &str) -> Result<Vec<u16>> {
    let vlans = node.port_vlans(port)?;
    Ok(vlans.into_iter().map(|(vid, _)| vid).collect())
}

fn is_up(link: &Value) -> bool {
    let flags = link["flags"].as_array().into_iter().flatten();
    flags.into_iter().any(|flag| flag == "UP")
}

/// A link that can serve as an uplink, and the host behind it, on one subnet with the
/// pods; the uplink itself is left down.
fn behind(node: &Node, uplink: &str) -> Result<Pod> {
    let host = node.veth_pod("outside", uplink, IFNAME)?;
    node.ip(&format!("link set {uplink} down"))?;
    quiet(node)?;
    host.ip("addr add 10.1.0.200/24 dev eth0")?;
    Ok(host)
}

/// A bridge of an operator, its uplink a port of it with VLANs 1 and 300.
fn verify(node: &Node) -> Result<()> {
    let _outside = behind(node, "up0")?;
    foreign_bridge(node, "br0", "vlan_filtering 1")?;
    node.ip("link set up0 master br0 up")?;
    node.run("bridge vlan add dev up0 vid 300")?;
    node.as_before(|| {
        let of = |vlan, address| out("up0", "verify", vlan, address);
        let one = Attached::new(node, "one", of(100, "10.1.0.1/24"))?;
        let two = Attached::new(node, "two", of(100, "10.1.0.2/24"))?;
        let old = Attached::new(node, "old", of(300, "10.1.0.3/24"))?;
        let tagged: Vec<_> = node
            .port_vlans("up0")?
            .into_iter()
            .filter(|v| v.0 != 1)
            .collect();
        assert_eq!(tagged, [(100, vec![]), (300, vec![])], "tagged, no pvid");
        for pod in [&one, &two, &old] {
            pod.must_hold()?;
        }
        one.del()?;
        assert_eq!(vids_of(node, "up0")?, [1, 100, 300], "one still uses 100");
        two.del()?;
        assert_eq!(vids_of(node, "up0")?, [1, 300]);
        old.del()?;
        assert_eq!(vids_of(node, "up0")?, [1, 300], "300 was there before");
        Ok(())
    })
}

/// Two networks on two VLANs take one bare uplink; it goes with the last of both.
fn shared(node: &Node) -> Result<()> {
    let outside = behind(node, "up0")?;
    node.as_before(|| {
        let one = Attached::new(node, "one", out("up0", "ensure", 100, "10.1.0.1/24"))?;
        let two = Attached::new(node, "two", out("up0", "ensure", 200, "10.1.0.2/24"))?;
        // Once it is a port, `verify` is content too.
        let three = Attached::new(node, "three", out("up0", "verify", 200, "10.1.0.3/24"))?;
        assert_eq!(vids_of(node, "up0")?, [100, 200]);
        let seen = outside.capture(IFNAME)?;
        ensure!(one.is_cut_off_from("10.1.0.200")?, "outside takes no tag");
        let source = one.mac()?;
        let frames = seen.frames(Duration::from_millis(100))?;
        let from_one: Vec<_> = frames.iter().filter(|f| f.source == source).collect();
        ensure!(!from_one.is_empty(), "nothing went out");
        ensure!(
            from_one.iter().all(|f| f.vid() == Some(100)),
            "{from_one:?}"
        );
        two.del()?;
        assert_eq!(vids_of(node, "up0")?, [100, 200], "three is left in it");
        three.del()?;
        assert_eq!(vids_of(node, "up0")?, [100]);
        one.del()?;
        assert_eq!(vids_of(node, "up0")?, [0u16; 0]);
        ensure!(!is_up(&node.link("up0")?), "it was down before");
        Ok(())
    })
}

fn plain(uplink: &str, mode: &str, address: &str) -> Value {
    let keys = json!({"bridge": "br0", "uplink": uplink, "uplinkMode": mode,
        "ipam": fixed(&[address])});
    conf("net", keys)
}

/// Without VLANs: enslaved, raised, its MTU passed on, then as bare as before.
fn bare(node: &Node) -> Result<()> {
    let outside = behind(node, "up0")?;
    outside.ip("link set eth0 mtu 1400")?;
    node.ip("link set up0 mtu 1400")?;
    node.as_before(|| {
        let one = Attached::new(node, "one", plain("up0", "ensure", "10.1.0.1/24"))?;
        let two = Attached::new(node, "two", plain("up0", "ensure", "10.1.0.2/24"))?;
        assert_eq!(one.pod.link(IFNAME)?["mtu"], 1400, "the uplink's");
        assert_eq!(node.link(&one.port()?)?["mtu"], 1400);
        assert_eq!(node.link("up0")?["master"], "br0");
        poll("an answer from outside", LIMIT, || {
            Ok(one.reaches("10.1.0.200")?.then_some(()))
        })?;
        ensure!(
            outside.ping(ip("10.1.0.2")?, 2)?.reached(),
            "outside to pod"
        );
        one.must_hold()?;
        node.ip("link set up0 down")?;
        refused(&one.check()?, 105, &["uplink up0 is down"])?;
        node.ip("link set up0 up nomaster")?;
        refused(&one.check()?, 105, &["uplink up0 is not on bridge br0"])?;
        node.ip("link set up0 master br0")?;
        one.must_hold()?;
        one.del()?;
        assert_eq!(node.link("up0")?["master"], "br0", "two still needs it");
        ensure!(two.reaches("10.1.0.200")?, "after one's DEL");
        two.del()
    })?;
    // An uplink that was up stays up.
    node.ip("link set up0 up")?;
    node.as_before(|| {
        let one = Attached::new(node, "one", plain("up0", "ensure", "10.1.0.1/24"))?;
        one.del()
    })
}

fn foreign(node: &Node) -> Result<()> {
    let _outside = behind(node, "up0")?;
    foreign_bridge(node, "br0", "")?;
    node.ip("link set up0 master br0 up")?;
    node.as_before(|| {
        for mode in ["verify", "ensure"] {
            let one = Attached::new(node, "one", plain("up0", mode, "10.1.0.1/24"))?;
            ensure!(one.reaches("10.1.0.200")?, "{mode}: outside");
            one.del()?;
        }
        Ok(())
    })
}

/// An operator's bridge, with a port of the operator's, lends itself to attachments
/// and gets the uplink for as long as there are any.
fn taken_for_foreign(node: &Node) -> Result<()> {
    let _outside = behind(node, "up0")?;
    let _guest = node.veth_pod("guest", "v0", IFNAME)?;
    foreign_bridge(node, "br0", "")?;
    node.ip("link set v0 master br0")?;
    node.as_before(|| {
        let one = Attached::new(node, "one", plain("up0", "ensure", "10.1.0.1/24"))?;
        let two = Attached::new(node, "two", plain("up0", "ensure", "10.1.0.2/24"))?;
        one.del()?;
        assert_eq!(node.link("up0")?["master"], "br0", "two still needs it");
        two.del()?;
        ensure!(!is_up(&node.link("up0")?), "it was down before");
        two.del()
    })?;
    // A port of the operator's that was down is set up meanwhile, no more.
    node.ip("link set up0 master br0")?;
    node.as_before(|| {
        let one = Attached::new(node, "one", plain("up0", "ensure", "10.1.0.1/24"))?;
        ensure!(is_up(&node.link("up0")?), "an uplink must be up");
        one.del()
    })?;
    node.ip("link set up0 nomaster")?;
    // An ADD that fails after it took the uplink.
    node.as_before(|| {
        let pod = node.pod("three")?;
        let mut bad = plain("up0", "ensure", "10.1.0.3/24");
        bad["ipam"]["routes"] = json!([{"dst": "10.9.0.0/16", "gw": "192.0.2.1"}]);
        let at = Attachment::of(&pod, "three", IFNAME);
        refused(&plugin()?.call("ADD", &at, &bad)?, 100, &["10.9.0.0/16"]).map(drop)
    })
}

fn by_altname(node: &Node) -> Result<()> {
    let _outside = behind(node, "up0")?;
    node.ip("link property add dev up0 altname the-uplink")?;
    node.as_before(|| {
        let conf = plain("the-uplink", "ensure", "10.1.0.1/24");
        let one = Attached::new(node, "one", conf)?;
        one.must_hold()?;
        one.del()?;
        ensure!(!node.has_link("br0")?, "the bridge is left");
        Ok(())
    })?;
    foreign_bridge(node, "br1", "")?;
    node.ip("link property add dev br1 altname the-bridge")?;
    let pod = node.pod("two")?;
    let conf = conf("net", json!({"bridge": "the-bridge"}));
    let at = Attachment::of(&pod, "two", IFNAME);
    let reply = plugin()?.call("ADD", &at, &conf)?;
    refused(&reply, 7, &["alternative name of bridge br1"]).map(drop)
}

fn second(node: &Node) -> Result<()> {
    let _outside = behind(node, "up0")?;
    node.ip("link add up1 type veth peer name up1-far")?;
    node.as_before(|| {
        let one = Attached::new(node, "one", plain("up0", "ensure", "10.1.0.1/24"))?;
        let pod = node.pod("two")?;
        let at = Attachment::of(&pod, "two", IFNAME);
        let conf = plain("up1", "ensure", "10.1.0.2/24");
        refused(
            &plugin()?.call("ADD", &at, &conf)?,
            7,
            &["br0 has uplink up0 already", "up1"],
        )?;
        one.must_hold()?;
        one.del()
    })
}

/// Two links in an active-backup bond, each with a port of one bridge at its far end, and
/// a host in VLAN 100 behind that: the loss of one link cuts nobody off.
fn bond(node: &Node) -> Result<()> {
    let far = node.pod("far")?;
    quiet(node)?;
    far.ip("link add sw type bridge vlan_filtering 1")?;
    far.ip("link set sw up")?;
    node.ip("link add bond0 type bond mode active-backup miimon 50")?;
    for name in ["a", "b"] {
        let path = far.path().display();
        node.ip(&format!(
            "link add {name}0 type veth peer name {name}1 netns {path}"
        ))?;
        far.ip(&format!("link set {name}1 master sw up"))?;
        far.run(&format!("bridge vlan add dev {name}1 vid 100"))?;
        node.ip(&format!("link set {name}0 down"))?;
        node.ip(&format!("link set {name}0 master bond0"))?;
        node.ip(&format!("link set {name}0 up"))?;
    }
    far.run("bridge vlan add dev sw vid 100 self")?;
    far.ip("link add link sw name sw100 type vlan id 100")?;
    far.ip("addr add 10.1.0.200/24 dev sw100")?;
    far.ip("link set sw100 up")?;
    node.as_before(|| {
        let pod = node.pod("port")?;
        let at = Attachment::of(&pod, "port", IFNAME);
        let reply = plugin()?.call("ADD", &at, &out("a0", "ensure", 100, "10.1.0.1/24"))?;
        refused(&reply, 7, &["a0 already belongs to bond0", "as \"uplink\""])?;
        let one = Attached::new(node, "one", out("bond0", "ensure", 100, "10.1.0.1/24"))?;
        poll("an answer over the bond", LIMIT, || {
            Ok(one.reaches("10.1.0.200")?.then_some(()))
        })?;
        one.must_hold()?;
        far.ip("link set a1 down")?;
        poll("an answer over the other link", LIMIT, || {
            Ok(one.reaches("10.1.0.200")?.then_some(()))
        })?;
        one.must_hold()?;
        one.del()
    })
}
