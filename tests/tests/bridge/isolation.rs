//! VLANs on one bridge, by real frames: who gets which, and who must not.

use std::time::Duration;

use berth_tests::{Need, Node, Result, Space, Test, ensure, test};
use serde_json::json;

use crate::frames::{ARP, marked, marks};
use crate::kit::{Attached, IFNAME, conf, fixed, foreign_bridge, tagged};

pub(crate) fn tests() -> Vec<Test> {
    const VLAN: &[Need] = &[Need::VlanFiltering, Need::Tool("ping")];
    vec![
        test("vlans_do_not_reach_each_other", VLAN, reach),
        test("broadcasts_stay_in_their_vlan", VLAN, broadcasts),
        test("a_tag_of_the_pods_own_opens_no_vlan", VLAN, own_tags),
        test("vlan_1_is_kept_off_ports", VLAN, vlan_1),
        test("explicit_vlan_1_works", VLAN, explicit_vlan_1),
        test(
            "filtering_is_switched_on_where_it_harms_nobody",
            VLAN,
            late_filtering,
        ),
    ]
}

/// Two pods on VLAN 100 and one on 200, all in one subnet: 10.1.0.1 to 10.1.0.3.
fn three(node: &Node) -> Result<[Attached; 3]> {
    Ok([
        Attached::new(node, "near", tagged(100, "10.1.0.1/24"))?,
        Attached::new(node, "same", tagged(100, "10.1.0.2/24"))?,
        Attached::new(node, "other", tagged(200, "10.1.0.3/24"))?,
    ])
}

fn reach(node: &Node) -> Result<()> {
    node.as_before(|| {
        let pods = three(node)?;
        let [near, same, other] = &pods;
        near.must_be_in_vlan(node, 100)?;
        same.must_be_in_vlan(node, 100)?;
        other.must_be_in_vlan(node, 200)?;
        let bridge = &node.link("br0")?["linkinfo"]["info_data"];
        assert_eq!(bridge["vlan_filtering"], 1);
        assert_eq!(bridge["vlan_default_pvid"], 0);
        assert_eq!(bridge["stp_state"], 0);
        ensure!(near.reaches("10.1.0.2")?, "100 to 100");
        ensure!(same.reaches("10.1.0.1")?, "100 to 100, the other way");
        ensure!(near.is_cut_off_from("10.1.0.3")?, "100 to 200");
        ensure!(other.is_cut_off_from("10.1.0.1")?, "200 to 100");
        // Also when nobody has to ask for addresses.
        let mac = other.pod.link(IFNAME)?["address"].clone();
        let mac = mac.as_str().unwrap_or_default();
        near.pod
            .ip(&format!("neigh replace 10.1.0.3 lladdr {mac} dev eth0"))?;
        ensure!(near.is_cut_off_from("10.1.0.3")?, "100 to 200 by unicast");
        pods.iter().try_for_each(|pod| pod.must_hold())?;
        pods.iter().try_for_each(|pod| pod.del())
    })
}

fn broadcasts(node: &Node) -> Result<()> {
    node.as_before(|| {
        let pods = three(node)?;
        let [near, same, other] = &pods;
        let source = near.mac()?;
        let (inside, outside) = (same.pod.capture(IFNAME)?, other.pod.capture(IFNAME)?);
        ensure!(near.is_cut_off_from("10.1.0.3")?, "100 to 200");
        let asked = inside.until(Duration::from_secs(2), |frame| {
            frame.ethertype == ARP && frame.source == source
        })?;
        ensure!(
            asked.is_some_and(|frame| frame.vlan.is_none()),
            "no question came in VLAN 100"
        );
        let leaked = outside.frames(Duration::from_millis(300))?;
        let leaked = leaked.iter().find(|frame| frame.source == source);
        ensure!(leaked.is_none(), "in VLAN 200: {leaked:?}");
        pods.iter().try_for_each(|pod| pod.del())
    })
}

fn own_tags(node: &Node) -> Result<()> {
    node.as_before(|| {
        let pods = three(node)?;
        let [near, same, other] = &pods;
        let source = near.mac()?;
        let (inside, outside) = (same.pod.capture(IFNAME)?, other.pod.capture(IFNAME)?);
        let tags: [&[u16]; 7] = [&[], &[0], &[100], &[200], &[1], &[100, 200], &[200, 200]];
        for (number, tags) in (0u8..).zip(tags) {
            near.pod.send_frame(IFNAME, &marked(source, tags, number))?;
        }
        // Sent last and untagged: what was to come before it has come.
        near.pod.send_frame(IFNAME, &marked(source, &[], 99))?;
        let seen = marks(&inside, 99)?;
        // What has no tag, and nothing else.
        assert_eq!(seen, [0, 99], "in VLAN 100");
        other
            .pod
            .send_frame(IFNAME, &marked(other.mac()?, &[100], 98))?;
        assert_eq!(marks(&outside, 99)?, [0u8; 0], "in VLAN 200");
        assert_eq!(marks(&inside, 99)?, [0u8; 0], "from VLAN 200 in 100");
        pods.iter().try_for_each(|pod| pod.del())
    })
}

/// A bridge somebody else made, with VLAN 1 on every port, and a host on it.
fn foreign(node: &Node) -> Result<berth_tests::Pod> {
    foreign_bridge(node, "br0", "vlan_filtering 1")?;
    let host = node.veth_pod("host", "v0", IFNAME)?;
    node.ip("link set v0 master br0")?;
    host.ip("addr add 10.1.0.9/24 dev eth0")?;
    Ok(host)
}

fn vlan_1(node: &Node) -> Result<()> {
    let host = foreign(node)?;
    node.as_before(|| {
        let pod = Attached::new(node, "one", tagged(100, "10.1.0.1/24"))?;
        pod.must_be_in_vlan(node, 100)?;
        let seen = pod.pod.capture(IFNAME)?;
        ensure!(
            host.ping("10.1.0.1".parse()?, 2)?.isolated(),
            "VLAN 1 to 100"
        );
        let leaked = seen.frames(Duration::from_millis(200))?;
        ensure!(
            leaked.iter().all(|f| f.outgoing),
            "VLAN 1 in the pod: {leaked:?}"
        );
        ensure!(pod.is_cut_off_from("10.1.0.9")?, "VLAN 100 to 1");
        pod.must_hold()?;
        pod.del()
    })
}

fn explicit_vlan_1(node: &Node) -> Result<()> {
    node.as_before(|| {
        let one = Attached::new(node, "one", tagged(1, "10.1.0.1/24"))?;
        let two = Attached::new(node, "two", tagged(1, "10.1.0.2/24"))?;
        one.must_be_in_vlan(node, 1)?;
        ensure!(one.reaches("10.1.0.2")?, "on a bridge of ours");
        one.del()?;
        two.del()
    })?;
    let _host = foreign(node)?;
    node.as_before(|| {
        let pod = Attached::new(node, "one", tagged(1, "10.1.0.1/24"))?;
        pod.must_be_in_vlan(node, 1)?;
        ensure!(pod.reaches("10.1.0.9")?, "on a foreign bridge");
        // Without a VLAN it is in the foreign bridge's default one, as any port.
        let keys = json!({"bridge": "br0", "ipam": fixed(&["10.1.0.2/24"])});
        let plain = Attached::new(node, "two", conf("net", keys))?;
        ensure!(plain.reaches("10.1.0.9")?, "the default VLAN");
        pod.del()?;
        plain.del()
    })
}

fn late_filtering(node: &Node) -> Result<()> {
    node.as_before(|| {
        // As an ADD leaves it that died before it could set filtering.
        node.ip("link add br0 type bridge")?;
        node.write("/sys/class/net/br0/ifalias", "berth1 bridge")?;
        let pod = Attached::new(node, "one", tagged(100, "10.1.0.1/24"))?;
        pod.must_be_in_vlan(node, 100)?;
        let bridge = &node.link("br0")?["linkinfo"]["info_data"];
        assert_eq!(bridge["vlan_filtering"], 1);
        assert_eq!(bridge["vlan_default_pvid"], 0);
        pod.del()
    })
}
