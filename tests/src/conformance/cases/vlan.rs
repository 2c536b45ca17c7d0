//! `vlan.*`: who is in which VLAN, by the port's state and by real frames.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::port::mac;
use crate::attached::Attached;
use crate::conformance::stage::{IFNAME, port, same};
use crate::conformance::{Case, Feature, Layout, Stage, case};
use crate::frames::{marked, marks};
use crate::node::foreign_bridge;
use crate::space::Space;

const BRIDGE: &str = "plugins, bridge_test.go";

pub(super) fn cases() -> Vec<Case> {
    [access(), ports(), trunks()].concat()
}

fn access() -> Vec<Case> {
    let vlan = |case: Case| case.claims(&[Feature::Vlan]);
    vec![
        vlan(case(
            "vlan.port",
            "the port is on the bridge of its VLAN",
            BRIDGE,
            on_bridge,
        )),
        vlan(case(
            "vlan.isolation",
            "a broadcast reaches the same VLAN and no other",
            "plugins#667, #863",
            isolation,
        )),
        vlan(case(
            "vlan.own-tags",
            "a container's own tags open no other VLAN",
            "plugins#863",
            own_tags,
        )),
        vlan(case(
            "vlan.range",
            "a VLAN below 0 or above 4094 is refused, and nothing is left",
            BRIDGE,
            range,
        )),
        vlan(case(
            "vlan.clean",
            "after DEL the node is as before ADD",
            "SPEC, DEL",
            clean,
        )),
    ]
}

fn ports() -> Vec<Case> {
    let aware = |case: Case| case.claims(&[Feature::Vlan]).only(Layout::VlanAware);
    vec![
        aware(case(
            "vlan.filtering",
            "a bridge that is made filters VLANs",
            BRIDGE,
            filtering,
        )),
        aware(case(
            "vlan.access",
            "the port is in its VLAN alone, untagged: VLAN 1 is kept off it",
            "plugins#667, #1181",
            |s| only_in_100(s, ""),
        )),
        aware(case(
            "vlan.access-existing",
            "also on a bridge that puts every port into VLAN 1",
            "plugins#667, #863",
            |s| only_in_100(s, "vlan_filtering 1"),
        )),
        aware(case(
            "vlan.default-kept",
            "the bridge's default VLAN stays on the port by wish",
            "plugins, preserveDefaultVlan",
            default_kept,
        ))
        .claims(&[Feature::DefaultVlan]),
        aware(case(
            "vlan.unfiltered-bridge",
            "on a bridge that does not filter, two VLANs are apart, or ADD is refused",
            "plugins#231",
            unfiltered,
        )),
    ]
}

fn trunks() -> Vec<Case> {
    let trunk = |case: Case| case.claims(&[Feature::Trunk]);
    vec![
        trunk(case(
            "vlan.trunk",
            "ids and ranges are on the port, tagged",
            BRIDGE,
            trunk_vlans,
        )),
        trunk(case(
            "vlan.trunk-native",
            "with vlan beside it, that is the untagged one",
            BRIDGE,
            native,
        ))
        .claims(&[Feature::Vlan]),
        trunk(case(
            "vlan.trunk-all",
            "2 to 4094 as one range",
            "plugins: a message for each VLAN",
            trunk_all,
        )),
        trunk(case(
            "vlan.trunk-range",
            "ranges that are none are refused, and nothing is left",
            BRIDGE,
            trunk_range,
        )),
    ]
}

fn on_bridge(stage: &Stage<'_>) -> Result<()> {
    for vlan in [100, 200] {
        let pod = stage.add(&format!("c{vlan}"), stage.in_vlan(stage.conf(), vlan))?;
        let master = stage.node.link(&port(&pod)?)?["master"].clone();
        same("master of the port", json!(stage.bridge_of(vlan)), master)?;
        same(
            "bridge in the result",
            &json!(stage.bridge_of(vlan)),
            &pod.result["interfaces"][0]["name"],
        )?;
    }
    Ok(())
}

/// Two in VLAN 100 and one in 200.
fn three(stage: &Stage<'_>) -> Result<[Attached; 3]> {
    let add = |id: &str, vlan| stage.add(id, stage.in_vlan(stage.conf(), vlan));
    Ok([add("near", 100)?, add("same", 100)?, add("other", 200)?])
}

fn isolation(stage: &Stage<'_>) -> Result<()> {
    let [near, neighbour, other] = three(stage)?;
    let (inside, outside) = (neighbour.pod.capture(IFNAME)?, other.pod.capture(IFNAME)?);
    near.pod.send_frame(IFNAME, &marked(mac(&near)?, &[], 1))?;
    same("in VLAN 100", vec![1], marks(&inside, 1)?)?;
    same("in VLAN 200", Vec::<u8>::new(), marks(&outside, 1)?)
}

fn own_tags(stage: &Stage<'_>) -> Result<()> {
    let [near, _, other] = three(stage)?;
    let outside = other.pod.capture(IFNAME)?;
    let source = mac(&near)?;
    let tags: [&[u16]; 5] = [&[200], &[1], &[100, 200], &[200, 200], &[0]];
    for (number, tags) in (1u8..).zip(tags) {
        near.pod.send_frame(IFNAME, &marked(source, tags, number))?;
    }
    same("in VLAN 200", Vec::<u8>::new(), marks(&outside, 5)?)
}

fn range(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("c1")?;
    stage.as_before(|| {
        for vlan in [-100, 5000, 4095] {
            let conf = stage.asking_for(stage.conf(), Feature::Vlan, vlan);
            stage.refused(&pod, &conf)?;
        }
        Ok(())
    })?;
    same("interfaces", vec!["lo".to_owned()], pod.link_names()?)
}

fn clean(stage: &Stage<'_>) -> Result<()> {
    stage.as_before(|| {
        let pod = stage.add("c1", stage.in_vlan(stage.addressed(&["10.9.0.7/24"]), 100))?;
        pod.del()
    })
}

fn filtering(stage: &Stage<'_>) -> Result<()> {
    stage.add("c1", stage.in_vlan(stage.conf(), 100))?;
    let bridge = stage.node.link(&stage.bridge_of(100))?;
    same(
        "vlan_filtering",
        &json!(1),
        &bridge["linkinfo"]["info_data"]["vlan_filtering"],
    )
}

/// The VLANs of the attachment's port with their flags.
fn vlans(stage: &Stage<'_>, pod: &Attached) -> Result<Vec<(u16, Vec<String>)>> {
    stage.node.port_vlans(&port(pod)?)
}

fn ids(stage: &Stage<'_>, pod: &Attached) -> Result<Vec<u16>> {
    Ok(vlans(stage, pod)?.into_iter().map(|(vid, _)| vid).collect())
}

fn untagged(vid: u16) -> (u16, Vec<String>) {
    (vid, ["PVID", "Egress Untagged"].map(str::to_owned).to_vec())
}

fn only_in_100(stage: &Stage<'_>, existing: &str) -> Result<()> {
    if !existing.is_empty() {
        foreign_bridge(stage.node, &stage.bridge_of(100), existing)?;
    }
    let pod = stage.add("c1", stage.in_vlan(stage.conf(), 100))?;
    same(
        "VLANs of the port",
        vec![untagged(100)],
        vlans(stage, &pod)?,
    )
}

fn default_kept(stage: &Stage<'_>) -> Result<()> {
    foreign_bridge(stage.node, &stage.bridge_of(100), "vlan_filtering 1")?;
    let conf = stage.in_vlan(stage.conf(), 100);
    let pod = stage.add("c1", stage.asking(conf, Feature::DefaultVlan))?;
    same("VLANs of the port", vec![1, 100], ids(stage, &pod)?)
}

fn unfiltered(stage: &Stage<'_>) -> Result<()> {
    foreign_bridge(stage.node, &stage.bridge_of(100), "")?;
    let (one, two) = (stage.node.pod("c1")?, stage.node.pod("c2")?);
    let add = |pod, id: &str, vlan| {
        let at = stage.attachment(pod, id);
        let reply = stage
            .plugin
            .call("ADD", &at, &stage.in_vlan(stage.conf(), vlan))?;
        if !reply.status.success() {
            reply.failure()?;
        }
        anyhow::Ok(reply.status.success())
    };
    if !(add(&one, "c1", 100)? && add(&two, "c2", 200)?) {
        return Ok(());
    }
    let seen = two.capture(IFNAME)?;
    let source = crate::node::mac_bytes(one.link(IFNAME)?["address"].as_str().unwrap_or_default())?;
    one.send_frame(IFNAME, &marked(source, &[], 1))?;
    same(
        "frames of VLAN 100 in VLAN 200",
        Vec::<u8>::new(),
        marks(&seen, 1)?,
    )
}

/// 101 and 200 to 210.
fn list() -> Value {
    json!([{"id": 101}, {"minID": 200, "maxID": 210}])
}

fn trunk_vlans(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.asking_for(stage.conf(), Feature::Trunk, list()))?;
    let native = stage.template.native_vlan;
    let mut wish: Vec<_> = native.into_iter().map(untagged).collect();
    wish.extend(
        std::iter::once(101)
            .chain(200..=210)
            .map(|vid| (vid, Vec::new())),
    );
    same("VLANs of the port", wish, vlans(stage, &pod)?)
}

fn native(stage: &Stage<'_>) -> Result<()> {
    let conf = stage.asking_for(stage.conf(), Feature::Trunk, list());
    let pod = stage.add("c1", stage.in_vlan(conf, 100))?;
    let mut wish = vec![untagged(100)];
    wish.extend(
        std::iter::once(101)
            .chain(200..=210)
            .map(|vid| (vid, Vec::new())),
    );
    same("VLANs of the port", wish, vlans(stage, &pod)?)
}

fn trunk_all(stage: &Stage<'_>) -> Result<()> {
    let all = json!([{"minID": 2, "maxID": 4094}]);
    let pod = stage.add("c1", stage.asking_for(stage.conf(), Feature::Trunk, all))?;
    let has: Vec<u16> = ids(stage, &pod)?
        .into_iter()
        .filter(|vid| *vid != 1)
        .collect();
    same("number of VLANs", 4093, has.len())
}

fn trunk_range(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("c1")?;
    stage.as_before(|| {
        for bad in [
            json!([{"minID": 10}]),
            json!([{"maxID": 10}]),
            json!([{"minID": 20, "maxID": 10}]),
            json!([{"minID": 0, "maxID": 10}]),
            json!([{"minID": 10, "maxID": 4095}]),
            json!([{"id": 0}]),
            json!([{"id": 4095}]),
        ] {
            let conf = stage.asking_for(stage.conf(), Feature::Trunk, bad.clone());
            let reply = stage.call("ADD", &pod).conf(&conf).reply()?;
            ensure!(
                !reply.status.success(),
                "expected an error for {bad}, got success"
            );
        }
        Ok(())
    })
}
