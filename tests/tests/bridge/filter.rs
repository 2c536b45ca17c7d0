//! Frames a container has no business to send: bridge protocol frames and VLAN tags.

use std::fs;

use berth_kernel::netlink::nft::{Batch, Family, Name, Nft, Table};
use berth_tests::{Capture, Need, Node, Pod, Result, Space, Test, ensure, test};
use cni_bridge_vlan::frames;
use serde_json::json;

use crate::frames::{AD, BROADCAST, Q, marked_to, marks};
use crate::gc::{of_network, valid};
use crate::kit::{
    Attached, IFNAME, conf, fixed, foreign_bridge, record_file, refused, untagged, with,
};

pub(crate) fn tests() -> Vec<Test> {
    const RULES: &[Need] = &[Need::BridgeRules];
    const VLAN: &[Need] = &[Need::BridgeRules, Need::VlanFiltering];
    vec![
        test("foreign_frames_of_a_plain_port_are_dropped", RULES, plain),
        test("foreign_frames_of_vlan_ports_are_dropped", VLAN, vlans),
        test("filter_is_checked_and_comes_back", RULES, checked),
        test("filter_goes_by_gc_too", RULES, swept),
        test("filter_is_shared_by_networks", RULES, networks),
    ]
}

const STP: [u8; 6] = [1, 0x80, 0xc2, 0, 0, 0];
const LLDP: [u8; 6] = [1, 0x80, 0xc2, 0, 0, 0x0e];
const PVST: [u8; 6] = [1, 0, 0x0c, 0xcc, 0xcc, 0xcd];

/// Receiver and tags of a frame; its number is its place.
type Sent = ([u8; 6], &'static [(u16, u16)]);

const ALL: [Sent; 11] = [
    (BROADCAST, &[]),
    (BROADCAST, &[(Q, 100)]),
    (BROADCAST, &[(Q, 200)]),
    (BROADCAST, &[(Q, 0)]),
    (BROADCAST, &[(AD, 100)]),
    (BROADCAST, &[(Q, 100), (Q, 200)]),
    (BROADCAST, &[(Q, 200), (AD, 100)]),
    (STP, &[]),
    (STP, &[(Q, 100)]),
    (LLDP, &[]),
    (PVST, &[]),
];
/// The number of the frame that ends each round.
const LAST: u8 = 99;

/// What comes out at `far` of all those frames that `pod` sends.
fn come_through(pod: &Attached, last: &[(u16, u16)], far: &Capture) -> Result<Vec<u8>> {
    let source = pod.mac()?;
    let send = |(to, tags): Sent, number| {
        let frame = marked_to(to, source, tags, number);
        pod.pod.send_frame(IFNAME, &frame)
    };
    for (number, sent) in (0u8..).zip(ALL) {
        send(sent, number)?;
    }
    let frame = marked_to(BROADCAST, source, last, LAST);
    pod.pod.send_frame(IFNAME, &frame)?;
    marks(far, LAST)
}

/// A host behind the uplink `up0` of an operator's bridge that forwards LLDP.
fn outside(node: &Node, options: &str) -> Result<Pod> {
    let outside = node.veth_pod("outside", "up0", IFNAME)?;
    foreign_bridge(node, "br0", &format!("group_fwd_mask 0x4000 {options}"))?;
    node.ip("link set up0 master br0")?;
    Ok(outside)
}

fn plain(node: &Node) -> Result<()> {
    let outside = outside(node, "")?;
    node.as_before(|| {
        let far = outside.capture(IFNAME)?;
        for (keys, passes) in [
            (json!({}), vec![0, LAST]),
            (json!({"bpduFilter": true}), vec![0, LAST]),
            (json!({"bpduFilter": false}), vec![0, 7, 9, 10, LAST]),
        ] {
            let pod = Attached::new(node, "one", with(untagged("10.1.0.1/24"), keys.clone()))?;
            let other = Attached::new(node, "two", untagged("10.1.0.2/24"))?;
            assert_eq!(come_through(&pod, &[], &far)?, passes, "{keys}");
            pod.must_hold()?;
            // What others send reaches it, and whatever goes the other way.
            let seen = pod.pod.capture(IFNAME)?;
            outside.send_frame(IFNAME, &marked_to(STP, [2, 0, 0, 0, 0, 9], &[(Q, 7)], 5))?;
            assert_eq!(marks(&seen, 5)?, [5], "{keys}");
            other.del()?;
            pod.must_hold()?;
            pod.del()?;
            pod.del()?;
        }
        Ok(())
    })
}

fn vlans(node: &Node) -> Result<()> {
    let outside = outside(node, "vlan_filtering 1")?;
    node.run("bridge vlan add dev up0 vid 100")?;
    node.run("bridge vlan add dev up0 vid 200")?;
    node.as_before(|| {
        let far = outside.capture(IFNAME)?;
        let access = json!({"bridge": "br0", "vlan": 100, "uplink": "up0"});
        let one = Attached::new(node, "one", conf("access", access.clone()))?;
        assert_eq!(come_through(&one, &[], &far)?, [0, LAST], "access");
        let trunk = with(access, json!({"vlanTrunk": [{"id": 200}]}));
        let two = Attached::new(node, "two", conf("trunk", trunk.clone()))?;
        let open = with(trunk, json!({"bpduFilter": false}));
        let three = Attached::new(node, "three", conf("open", open))?;
        // Without a tag, with one of its VLANs', with one that says priority alone.
        let passes = [0, 1, 2, 3, LAST];
        assert_eq!(come_through(&two, &[(Q, 200)], &far)?, passes, "trunk");
        let passes = [0, 1, 2, 3, 7, 8, 9, 10, LAST];
        assert_eq!(come_through(&three, &[(Q, 200)], &far)?, passes, "open");
        for pod in [&one, &two, &three] {
            pod.must_hold()?;
        }
        [one, two, three].iter().try_for_each(|pod| pod.del())
    })
}

fn table() -> Result<Table> {
    Ok(Table {
        family: Family::Bridge,
        name: "berth-frames".parse()?,
    })
}

/// What another program does to the table.
fn meddle(change: impl FnOnce(&mut Batch, &Table)) -> Result<()> {
    let (mut batch, table) = (Batch::new(), table()?);
    change(&mut batch, &table);
    Ok(Nft::open()?.apply(&batch, None)?)
}

fn checked(node: &Node) -> Result<()> {
    node.as_before(|| {
        let one = Attached::new(node, "one", untagged("10.1.0.1/24"))?;
        let port = one.port()?;
        node.ip(&format!("link set {port} group 0"))?;
        let error = refused(&one.check()?, 105, &[&port, "is in group 0"])?;
        ensure!(!error.msg.contains("; "), "more than one: {}", error.msg);
        node.ip(&format!("link set {port} group 1650815491"))?;
        one.must_hold()?;
        let input: Name = "input".parse()?;
        meddle(|batch, table| batch.flush_chain(table, &input))?;
        refused(&one.check()?, 105, &["berth-frames", "has not the rules"])?;
        // The next ADD of anyone puts the rules right, for all.
        let two = Attached::new(node, "two", untagged("10.1.0.2/24"))?;
        one.must_hold()?;
        two.must_hold()?;
        meddle(|batch, table| batch.delete_table(table))?;
        refused(&one.check()?, 105, &["has not the rules"])?;
        two.del()?;
        one.del()
    })
}

/// By DEL without a record, also where the port is gone, and by GC.
fn swept(node: &Node) -> Result<()> {
    node.as_before(|| {
        let one = Attached::new(node, "one", untagged("10.1.0.1/24"))?;
        fs::remove_file(record_file("net", "one"))?;
        one.del()
    })?;
    node.as_before(|| {
        let lost = Attached::new(node, "lost", untagged("10.1.0.2/24"))?;
        node.ip(&format!("link del {}", lost.port()?))?;
        fs::remove_file(record_file("net", "lost"))?;
        lost.del()
    })?;
    // As a DEL leaves them that was killed behind its record.
    node.as_before(|| {
        frames::ensure(&Nft::open()?)?;
        let list = valid("net", "cni.dev/valid-attachments", &[]);
        of_network("GC", &list)?.result()?;
        Ok(())
    })
}

fn networks(node: &Node) -> Result<()> {
    let of = |network: &str, bridge: &str, address: &str| {
        conf(
            network,
            json!({"bridge": bridge, "ipam": fixed(&[address])}),
        )
    };
    node.as_before(|| {
        let one = Attached::new(node, "one", of("blue", "br0", "10.1.0.1/24"))?;
        let two = Attached::new(node, "two", of("red", "br1", "10.1.0.1/24"))?;
        one.del()?;
        two.must_hold()?;
        let list = valid("blue", "cni.dev/valid-attachments", &[]);
        of_network("GC", &list)?.result()?;
        two.must_hold()?;
        two.del()
    })
}
