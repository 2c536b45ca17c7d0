//! `bridge.*`, too: what a port of the bridge does, and the container's end.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::bridge::{BRIDGE, flags, has};
use crate::attached::Attached;
use crate::conformance::stage::{IFNAME, port, same};
use crate::conformance::{Case, Feature, Stage, case};
use crate::frames::{marked, marks};
use crate::need::Need;
use crate::node::mac_bytes;
use crate::space::Space;

pub(super) fn cases() -> Vec<Case> {
    [ports(), container_ends()].concat()
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

/// A setting of the attachment's port.
fn flag(stage: &Stage<'_>, pod: &Attached, name: &str) -> Result<bool> {
    let link = stage.node.link(&port(pod)?)?;
    Ok(link["linkinfo"]["info_slave_data"][name] == json!(true))
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
