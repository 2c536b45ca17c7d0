//! Frames: the VF's VLAN is real on the wire, and other VLANs are not reached.

use std::time::Duration;

use berth_tests::{Context, Need, Pod, Port, Result, Space, Test, ensure, poll, test};
use serde_json::json;

use crate::kit::{Attached, IFNAME, fixed, of_vf};
use crate::stage::{Case, Stage};

pub(crate) fn tests() -> Vec<Test> {
    const NEEDS: &[Need] = &[Need::Sriov, Need::Wire, Need::Vlan8021q];
    vec![
        test("vlans_on_the_wire", NEEDS, |node| {
            Stage::set(node, &[(Port::Pf0, 2), (Port::Pf1, 1)])?.run(&CASES)
        })
        .at_home()
        .limit(crate::LIMIT),
    ]
}

const CASES: [Case; 2] = [("vlans", vlans), ("announcement", announcement)];

/// The host outside, in VLAN 100, VLAN 200 and none.
fn outside(stage: &Stage<'_>) -> Result<Pod> {
    let outside = stage.node.outside()?;
    outside.ip("addr add 10.0.0.9/24 dev peer0")?;
    for vlan in [100, 200] {
        outside.ip(&format!(
            "link add link peer0 name peer0.{vlan} type vlan id {vlan}"
        ))?;
        outside.ip(&format!("addr add 10.{vlan}.0.9/24 dev peer0.{vlan}"))?;
        outside.ip(&format!("link set peer0.{vlan} up"))?;
    }
    Ok(outside)
}

fn reached(pod: &Attached, to: &str) -> Result<()> {
    let what = format!("answer of {to} to {}", pod.at.container_id);
    poll(&what, Duration::from_secs(15), || {
        Ok(pod.reaches(to)?.then_some(()))
    })
}

/// Three VFs in VLANs 100, 100 on the other PF, and 200, with the same subnet in both
/// VLANs, so that only the tag keeps them apart.
fn vlans(stage: &Stage<'_>) -> Result<()> {
    let outside = outside(stage)?;
    outside.ip("addr add 10.7.0.100/24 dev peer0.100")?;
    outside.ip("addr add 10.7.0.200/32 dev peer0.200")?;
    let add = |id: &str, vf: usize, vlan: u16, qos: u8, address: &str| {
        let keys = json!({"vlan": vlan, "vlanQoS": qos, "ipam": fixed(&[address])});
        Attached::new(stage, id, of_vf(&stage.vfs[vf], keys))
    };
    let red = add("red", 0, 100, 3, "10.7.0.1/24")?;
    let far = add("far", 2, 100, 0, "10.7.0.2/24")?;
    let blue = add("blue", 1, 200, 0, "10.7.0.3/24")?;
    let seen = outside.capture("peer0")?;
    reached(&red, "10.7.0.100")?;
    let source = mac_bytes(&red.mac()?)?;
    let frame = seen.until(Duration::from_secs(2), |frame| {
        frame.source == source && frame.ethertype == 0x0800
    })?;
    let tag = frame.context("no IPv4 frame of red at peer0")?.vlan;
    let tag = tag.context("red's frame has no tag")?;
    assert_eq!((tag.tpid, tag.vid, tag.pcp), (0x8100, 100, 3));
    reached(&red, "10.7.0.2")?;
    reached(&far, "10.7.0.100")?;
    for to in ["10.7.0.1", "10.7.0.100"] {
        ensure!(blue.is_cut_off_from(to)?, "blue reaches {to} in VLAN 100");
    }
    ensure!(red.is_cut_off_from("10.7.0.3")?, "red reaches VLAN 200");
    own_tag_does_not_help(&blue)?;
    for pod in [&red, &far, &blue] {
        pod.must_hold()?;
        pod.del()?;
    }
    untagged_again(stage)
}

/// A tag that the container puts on itself is no way into another VLAN.
fn own_tag_does_not_help(blue: &Attached) -> Result<()> {
    let pod = &blue.pod;
    pod.ip(&format!("link add link {IFNAME} name own type vlan id 100"))?;
    pod.ip("addr add 10.7.1.1/24 dev own")?;
    pod.ip("link set own up")?;
    pod.ip("route add 10.7.0.100/32 dev own")?;
    ensure!(
        blue.is_cut_off_from("10.7.0.100")?,
        "blue reaches VLAN 100 by its own tag"
    );
    pod.ip("link del own")?;
    Ok(())
}

/// The next user of the VF is not in the last one's VLAN.
fn untagged_again(stage: &Stage<'_>) -> Result<()> {
    let keys = json!({"ipam": fixed(&["10.0.0.1/24"])});
    let pod = Attached::new(stage, "plain", of_vf(&stage.vfs[0], keys))?;
    reached(&pod, "10.0.0.9")?;
    pod.del()
}

/// Neighbours are told of the address, unless that is not wished.
fn announcement(stage: &Stage<'_>) -> Result<()> {
    let outside = stage.node.outside()?;
    for (announce, limit) in [(true, 5), (false, 1)] {
        let heard = outside.capture("peer0")?;
        let keys = json!({"announce": announce, "mac": "02:00:5e:10:00:05",
            "ipam": fixed(&["10.0.0.1/24"])});
        let pod = Attached::new(stage, "one", of_vf(&stage.vfs[0], keys))?;
        let arp = heard.until(Duration::from_secs(limit), |frame| {
            // Sender and target are the same address (RFC 5227).
            frame.source == [2, 0, 0x5e, 0x10, 0, 5]
                && frame.ethertype == 0x0806
                && frame.payload.get(14..18) == Some(&[10, 0, 0, 1])
                && frame.payload.get(24..28) == Some(&[10, 0, 0, 1])
        })?;
        ensure!(
            arp.is_some() == announce,
            "gratuitous ARP {}, wish {announce}",
            arp.is_some()
        );
        pod.del()?;
    }
    Ok(())
}

fn mac_bytes(text: &str) -> Result<[u8; 6]> {
    let bytes = text.split(':').map(|part| u8::from_str_radix(part, 16));
    let bytes: Vec<u8> = bytes.collect::<std::result::Result<_, _>>()?;
    <[u8; 6]>::try_from(bytes)
        .ok()
        .with_context(|| format!("{text} is no MAC address"))
}
