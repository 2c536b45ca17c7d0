//! Trunks: several VLANs of one port, by their tags, and the untagged one beside them.

use berth_tests::{Need, Node, Result, Space, Test, ensure, test};
use serde_json::{Value, json};

use crate::frames::{marked, marks};
use crate::kit::{Attached, IFNAME, conf, foreign_bridge, refused, tagged, with};

pub(crate) fn tests() -> Vec<Test> {
    const VLAN: &[Need] = &[Need::VlanFiltering];
    vec![
        test("trunk_carries_its_vlans_and_no_other", VLAN, frames),
        test("trunk_has_a_native_vlan_by_wish", VLAN, native),
        test("trunk_keeps_the_default_vlan_by_wish", VLAN, default_vlan),
        test("trunk_vlans_of_the_uplink_are_counted", VLAN, uplink),
    ]
}

/// 101 and 200 to 210 on `br0`.
fn trunk(name: &str, more: Value) -> Value {
    let list = json!([{"id": 101}, {"minID": 200, "maxID": 210}]);
    conf(
        name,
        with(json!({"bridge": "br0", "vlanTrunk": list}), more),
    )
}

fn vids(node: &Node, port: &str) -> Result<Vec<u16>> {
    let vlans = node.port_vlans(port)?;
    Ok(vlans.into_iter().map(|(vid, _)| vid).collect())
}

fn ids(first: &[u16]) -> Vec<u16> {
    first.iter().copied().chain(200..=210).collect()
}

fn frames(node: &Node) -> Result<()> {
    node.as_before(|| {
        let wide = Attached::new(node, "wide", trunk("wide", json!({})))?;
        let port = wide.port()?;
        assert_eq!(vids(node, &port)?, ids(&[101]));
        let flags = node.port_vlans(&port)?;
        ensure!(flags.iter().all(|(_, f)| f.is_empty()), "{flags:?}");
        let one = Attached::new(node, "one", tagged(205, "10.1.0.1/24"))?;
        let other = Attached::new(node, "other", tagged(300, "10.1.0.2/24"))?;
        let (near, far) = (one.pod.capture(IFNAME)?, other.pod.capture(IFNAME)?);
        let source = wide.mac()?;
        let tags: [&[u16]; 7] = [&[205], &[300], &[], &[0], &[211], &[101], &[205, 300]];
        for (number, tags) in (1u8..).zip(tags) {
            wide.pod.send_frame(IFNAME, &marked(source, tags, number))?;
        }
        wide.pod.send_frame(IFNAME, &marked(source, &[205], 9))?;
        assert_eq!(marks(&near, 9)?, [1, 9], "in VLAN 205");
        assert_eq!(marks(&far, 9)?, [0u8; 0], "in VLAN 300");
        // What comes back has its tag; another's address is dropped here too.
        let seen = wide.pod.capture(IFNAME)?;
        one.pod.send_frame(IFNAME, &marked(one.mac()?, &[], 7))?;
        other
            .pod
            .send_frame(IFNAME, &marked(other.mac()?, &[], 8))?;
        let back = seen.until(std::time::Duration::from_secs(2), |frame| {
            frame.source == one.mac().unwrap_or_default() && frame.payload.first() == Some(&7)
        })?;
        assert_eq!(back.and_then(|frame| frame.vid()), Some(205));
        wide.pod
            .send_frame(IFNAME, &marked([2, 0, 0, 0, 0, 0x66], &[205], 3))?;
        wide.pod.send_frame(IFNAME, &marked(source, &[205], 9))?;
        assert_eq!(marks(&near, 9)?, [9], "a spoofed address");
        wide.must_hold()?;
        [wide, one, other].iter().try_for_each(|pod| pod.del())
    })
}

fn native(node: &Node) -> Result<()> {
    node.as_before(|| {
        let wide = Attached::new(node, "wide", trunk("wide", json!({"vlan": 205})))?;
        let port = wide.port()?;
        assert_eq!(vids(node, &port)?, ids(&[101]));
        let untagged = node.port_vlans(&port)?;
        let untagged: Vec<_> = untagged.iter().filter(|(_, f)| !f.is_empty()).collect();
        let access = ["PVID", "Egress Untagged"].map(str::to_owned).to_vec();
        assert_eq!(untagged, [&(205, access)]);
        let one = Attached::new(node, "one", tagged(205, "10.1.0.1/24"))?;
        let near = one.pod.capture(IFNAME)?;
        wide.pod.send_frame(IFNAME, &marked(wide.mac()?, &[], 9))?;
        assert_eq!(marks(&near, 9)?, [9], "untagged in VLAN 205");
        wide.must_hold()?;
        node.run(&format!("bridge vlan del dev {port} vid 203"))?;
        refused(
            &wide.check()?,
            105,
            &["205 untagged, 101, 200-202, 204, 206-210"],
        )?;
        node.run(&format!("bridge vlan add dev {port} vid 203"))?;
        wide.must_hold()?;
        wide.del()?;
        one.del()
    })
}

fn default_vlan(node: &Node) -> Result<()> {
    foreign_bridge(node, "br0", "vlan_filtering 1")?;
    node.as_before(|| {
        for (keys, wish) in [
            (json!({}), ids(&[101])),
            (json!({"preserveDefaultVlan": true}), ids(&[1, 101])),
            (
                json!({"preserveDefaultVlan": true, "vlan": 5}),
                ids(&[1, 5, 101]),
            ),
        ] {
            let pod = Attached::new(node, "one", trunk("net", keys.clone()))?;
            assert_eq!(vids(node, &pod.port()?)?, wish, "{keys}");
            pod.must_hold()?;
            pod.del()?;
        }
        let access = json!({"bridge": "br0", "vlan": 5, "preserveDefaultVlan": true});
        let pod = Attached::new(node, "one", conf("net", access))?;
        assert_eq!(vids(node, &pod.port()?)?, [1, 5]);
        pod.must_hold()?;
        pod.del()
    })
}

fn uplink(node: &Node) -> Result<()> {
    let _outside = node.veth_pod("outside", "up0", IFNAME)?;
    node.ip("link set up0 down")?;
    let out = json!({"uplink": "up0", "uplinkMode": "ensure"});
    node.as_before(|| {
        let wide = Attached::new(node, "wide", trunk("wide", out.clone()))?;
        assert_eq!(vids(node, "up0")?, ids(&[101]));
        let keys = with(json!({"bridge": "br0", "vlan": 205}), out);
        let one = Attached::new(node, "one", conf("one", keys))?;
        node.run("bridge vlan del dev up0 vid 202")?;
        refused(&wide.check()?, 105, &["up0 does not carry VLAN 202"])?;
        node.run("bridge vlan add dev up0 vid 202")?;
        wide.must_hold()?;
        wide.del()?;
        assert_eq!(vids(node, "up0")?, [205], "one still uses it");
        one.must_hold()?;
        one.del()
    })
}
