//! `bridge.*`: the bridge itself, without VLANs.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::conformance::stage::{port, same};
use crate::conformance::{Case, Feature, Layout, Stage, case};
use crate::need::Need;
use crate::node::foreign_bridge;
use crate::space::Space;

pub(super) const BRIDGE: &str = "plugins, bridge_test.go";

pub(super) fn cases() -> Vec<Case> {
    [links(), members()].concat()
}

fn links() -> Vec<Case> {
    vec![
        case(
            "bridge.created",
            "a bridge that is missing is made, up, not promiscuous",
            BRIDGE,
            created,
        ),
        case(
            "bridge.existing",
            "a bridge that is there is used and stays the same",
            BRIDGE,
            existing,
        )
        .only(Layout::VlanAware),
        case(
            "bridge.existing-kept",
            "and is there after the last DEL, as it was",
            BRIDGE,
            existing_kept,
        )
        .only(Layout::VlanAware),
        case(
            "bridge.not-a-bridge",
            "a link of that name that is no bridge is refused and left alone",
            BRIDGE,
            not_a_bridge,
        )
        .only(Layout::VlanAware),
        case(
            "bridge.name-too-long",
            "a bridge name longer than Linux allows is refused, and nothing is left",
            "IFNAMSIZ",
            too_long,
        )
        .claims(&[Feature::Bridge]),
    ]
}

fn members() -> Vec<Case> {
    vec![
        case(
            "bridge.ports",
            "the host's end is a port of the bridge, up",
            BRIDGE,
            on_bridge,
        ),
        case(
            "bridge.reach",
            "two containers reach each other",
            BRIDGE,
            reach,
        )
        .needs(&[Need::Tool("ping")]),
        case(
            "bridge.mac-stable",
            "the bridge keeps its MAC address while ports come and go",
            BRIDGE,
            stable_mac,
        ),
        case(
            "bridge.mac-after-last",
            "a bridge that stays after the last port keeps a valid MAC address",
            "Linux: an unpinned one becomes 00:00:00:00:00:00",
            mac_after_last,
        ),
        case(
            "bridge.unfiltered",
            "without VLANs the bridge does not filter",
            BRIDGE,
            unfiltered,
        )
        .only(Layout::VlanAware)
        .needs(&[Need::VlanFiltering]),
        case(
            "bridge.stp-off",
            "spanning tree is off: a port forwards at once",
            "30 s of silence",
            |s| {
                s.add("c1", s.conf())?;
                let bridge = s.node.link(s.bridge())?;
                same(
                    "stp_state",
                    &json!(0),
                    &bridge["linkinfo"]["info_data"]["stp_state"],
                )
            },
        ),
    ]
}

pub(super) fn flags(stage: &Stage<'_>, link: &str) -> Result<Vec<String>> {
    let flags = stage.node.link(link)?["flags"].clone();
    let flags = flags.as_array().into_iter().flatten();
    Ok(flags
        .filter_map(|f| f.as_str().map(str::to_owned))
        .collect())
}

pub(super) fn has(flags: &[String], flag: &str) -> bool {
    flags.iter().any(|one| one == flag)
}

fn created(stage: &Stage<'_>) -> Result<()> {
    stage.add("c1", stage.conf())?;
    let link = stage.node.link(stage.bridge())?;
    same("kind", &json!("bridge"), &link["linkinfo"]["info_kind"])?;
    let flags = flags(stage, stage.bridge())?;
    same("up", true, has(&flags, "UP"))?;
    same("promiscuous", false, has(&flags, "PROMISC"))
}

fn existing(stage: &Stage<'_>) -> Result<()> {
    foreign_bridge(stage.node, stage.bridge(), "")?;
    let index = stage.node.link(stage.bridge())?["ifindex"].clone();
    let pod = stage.add("c1", stage.conf())?;
    same(
        "index",
        &index,
        &stage.node.link(stage.bridge())?["ifindex"],
    )?;
    let master = stage.node.link(&port(&pod)?)?["master"].clone();
    same("master of the port", json!(stage.bridge()), master)
}

fn existing_kept(stage: &Stage<'_>) -> Result<()> {
    foreign_bridge(stage.node, stage.bridge(), "")?;
    let before = stage.node.link(stage.bridge())?;
    stage.add("c1", stage.conf())?.del()?;
    let after = stage.node.link(stage.bridge())?;
    for key in ["ifindex", "address", "mtu", "promiscuity"] {
        same(key, &before[key], &after[key])?;
    }
    Ok(())
}

fn not_a_bridge(stage: &Stage<'_>) -> Result<()> {
    let name = stage.bridge();
    stage
        .node
        .ip(&format!("link add {name} type veth peer name other0"))?;
    let pod = stage.node.pod("c1")?;
    stage.as_before(|| stage.refused(&pod, &stage.conf()))
}

fn too_long(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("c1")?;
    let conf = stage.asking_for(stage.conf(), Feature::Bridge, "sixteen-letters-");
    stage.as_before(|| stage.refused(&pod, &conf))?;
    same("interfaces", vec!["lo".to_owned()], pod.link_names()?)
}

fn on_bridge(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.conf())?;
    let name = port(&pod)?;
    let master = stage.node.link(&name)?["master"].clone();
    same("master", json!(stage.bridge()), master)?;
    same("up", true, has(&flags(stage, &name)?, "UP"))
}

fn reach(stage: &Stage<'_>) -> Result<()> {
    let one = stage.add("c1", stage.addressed(&["10.9.0.7/24"]))?;
    let _two = stage.add("c2", stage.addressed(&["10.9.0.8/24"]))?;
    same("an answer", true, one.reaches("10.9.0.8")?)
}

/// The bridge's own address is still this one.
fn same_mac(stage: &Stage<'_>, bridge: &str, mac: &Value) -> Result<()> {
    let now = &stage.node.link(bridge)?["address"];
    ensure!(
        now == mac,
        "expected the bridge's address kept, got another"
    );
    Ok(())
}

/// Two containers of `conf` on `bridge`, of which the first, whose port gets the lowest
/// address there is, goes: a bridge whose address is not pinned has that of this port.
pub(super) fn mac_outlives_a_port(stage: &Stage<'_>, conf: &Value, bridge: &str) -> Result<()> {
    let first = stage.add("c1", conf.clone())?;
    let mac = stage.node.link(bridge)?["address"].clone();
    let is_told = first.result["interfaces"][0]["mac"] == mac;
    ensure!(
        is_told,
        "expected the bridge's address in the result, got another"
    );
    let _second = stage.add("c2", conf.clone())?;
    let lowest = format!("link set {} address 02:00:00:00:00:01", port(&first)?);
    stage.node.ip(&lowest)?;
    first.del()?;
    same_mac(stage, bridge, &mac)
}

fn stable_mac(stage: &Stage<'_>) -> Result<()> {
    mac_outlives_a_port(stage, &stage.conf(), stage.bridge())
}

fn mac_after_last(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.conf())?;
    let mac = stage.node.link(stage.bridge())?["address"].clone();
    pod.del()?;
    if !stage.node.has_link(stage.bridge())? {
        return Ok(());
    }
    same_mac(stage, stage.bridge(), &mac)
}

fn unfiltered(stage: &Stage<'_>) -> Result<()> {
    stage.add("c1", stage.conf())?;
    let bridge = stage.node.link(stage.bridge())?;
    same(
        "vlan_filtering",
        &json!(0),
        &bridge["linkinfo"]["info_data"]["vlan_filtering"],
    )
}
