//! `bridge.*`: the bridge itself and what a port of it does, without VLANs.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::attached::Attached;
use crate::conformance::stage::{IFNAME, port, same};
use crate::conformance::{Case, Feature, Layout, Stage, case};
use crate::frames::{marked, marks};
use crate::need::Need;
use crate::node::{foreign_bridge, mac_bytes};
use crate::space::Space;

const BRIDGE: &str = "plugins, bridge_test.go";

pub(super) fn cases() -> Vec<Case> {
    [links(), members(), ports(), container_ends()].concat()
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

fn ports() -> Vec<Case> {
    vec![
        case(
            "bridge.promiscuous",
            "the bridge is promiscuous",
            BRIDGE,
            promiscuous,
        )
        .claims(&[Feature::Promiscuous]),
        case(
            "bridge.hairpin",
            "a frame comes back by its port, and only by wish",
            BRIDGE,
            hairpin,
        )
        .claims(&[Feature::Hairpin]),
        case(
            "bridge.hairpin-promiscuous",
            "hairpin and promiscuous together are refused",
            BRIDGE,
            hairpin_promiscuous,
        )
        .claims(&[Feature::Hairpin, Feature::Promiscuous]),
        case(
            "bridge.isolation",
            "isolated ports do not get each other's frames, others do",
            "plugins, portIsolation",
            isolation,
        )
        .claims(&[Feature::Isolation]),
        case(
            "bridge.isolation-off",
            "a port is not isolated unless asked",
            BRIDGE,
            |s| {
                let pod = s.add("c1", s.conf())?;
                same("isolated", false, flag(s, &pod, "isolated")?)
            },
        ),
    ]
}

fn container_ends() -> Vec<Case> {
    vec![
        case("bridge.mtu", "both ends have the MTU", "plugins, mtu", mtu).claims(&[Feature::Mtu]),
        case(
            "bridge.interface-down",
            "the container's end is left down",
            "plugins, disableContainerInterface",
            interface_down,
        )
        .claims(&[Feature::InterfaceDown]),
        case(
            "bridge.interface-down-ipam",
            "and that together with ipam is refused",
            "plugins, disableContainerInterface",
            interface_down_ipam,
        )
        .claims(&[Feature::InterfaceDown]),
        case(
            "bridge.spoofcheck",
            "frames from another MAC address are dropped, the container's own pass",
            "plugins, macspoofchk",
            spoof_check,
        )
        .claims(&[Feature::SpoofCheck])
        .needs(&[Need::Nftables]),
    ]
}

fn flags(stage: &Stage<'_>, link: &str) -> Result<Vec<String>> {
    let flags = stage.node.link(link)?["flags"].clone();
    let flags = flags.as_array().into_iter().flatten();
    Ok(flags
        .filter_map(|f| f.as_str().map(str::to_owned))
        .collect())
}

fn has(flags: &[String], flag: &str) -> bool {
    flags.iter().any(|one| one == flag)
}

/// A setting of the attachment's port.
fn flag(stage: &Stage<'_>, pod: &Attached, name: &str) -> Result<bool> {
    let link = stage.node.link(&port(pod)?)?;
    Ok(link["linkinfo"]["info_slave_data"][name] == json!(true))
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

fn promiscuous(stage: &Stage<'_>) -> Result<()> {
    stage.add("c1", stage.asking(stage.conf(), Feature::Promiscuous))?;
    same(
        "promiscuous",
        true,
        has(&flags(stage, stage.bridge())?, "PROMISC"),
    )
}

fn hairpin(stage: &Stage<'_>) -> Result<()> {
    for (id, conf, wish) in [
        ("c1", stage.conf(), vec![]),
        ("c2", stage.asking(stage.conf(), Feature::Hairpin), vec![1]),
    ] {
        let pod = stage.add(id, conf)?;
        let seen = pod.pod.capture(IFNAME)?;
        pod.pod.send_frame(IFNAME, &marked(mac(&pod)?, &[], 1))?;
        same("frames that came back", wish, marks(&seen, 1)?)?;
    }
    Ok(())
}

fn hairpin_promiscuous(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("c1")?;
    let conf = stage.asking(stage.conf(), Feature::Hairpin);
    stage.refused(&pod, &stage.asking(conf, Feature::Promiscuous))
}

/// The container's own address, live.
pub(super) fn mac(pod: &Attached) -> Result<[u8; 6]> {
    mac_bytes(
        pod.pod.link(IFNAME)?["address"]
            .as_str()
            .unwrap_or_default(),
    )
}

fn isolation(stage: &Stage<'_>) -> Result<()> {
    let alone = || stage.asking(stage.conf(), Feature::Isolation);
    let (one, two) = (stage.add("c1", alone())?, stage.add("c2", alone())?);
    let open = stage.add("c3", stage.conf())?;
    let (near, far) = (two.pod.capture(IFNAME)?, open.pod.capture(IFNAME)?);
    one.pod.send_frame(IFNAME, &marked(mac(&one)?, &[], 1))?;
    same("at a port that is not isolated", vec![1], marks(&far, 1)?)?;
    same("at an isolated port", Vec::<u8>::new(), marks(&near, 1)?)
}

fn mtu(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.asking_for(stage.conf(), Feature::Mtu, 1400))?;
    same(
        "host's end",
        &json!(1400),
        &stage.node.link(&port(&pod)?)?["mtu"],
    )?;
    same(
        "container's end",
        &json!(1400),
        &pod.pod.link(IFNAME)?["mtu"],
    )
}

fn interface_down(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.asking(stage.conf(), Feature::InterfaceDown))?;
    let flags = pod.pod.link(IFNAME)?["flags"].clone();
    let up = flags
        .as_array()
        .is_some_and(|list| list.contains(&json!("UP")));
    same("up", false, up)
}

fn interface_down_ipam(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("c1")?;
    let conf: Value = stage.addressed(&["10.9.0.7/24"]);
    stage.refused(&pod, &stage.asking(conf, Feature::InterfaceDown))
}

fn spoof_check(stage: &Stage<'_>) -> Result<()> {
    let conf = stage.asking(stage.conf(), Feature::SpoofCheck);
    let one = stage.add("c1", conf.clone())?;
    let two = stage.add("c2", conf)?;
    let seen = two.pod.capture(IFNAME)?;
    let own = mac(&one)?;
    for (number, source) in [
        (1, own),
        (2, [2, 0, 0, 0, 0, 0x66]),
        (3, mac(&two)?),
        (9, own),
    ] {
        one.pod.send_frame(IFNAME, &marked(source, &[], number))?;
    }
    let got = marks(&seen, 9)?;
    ensure!(got == [1, 9], "expected frames 1 and 9, got {got:?}");
    Ok(())
}
