//! What has to be done to the uplink, or why it cannot be one.

use std::collections::BTreeSet;

use berth_cni::error::CniError;
use berth_kernel::netlink::{Link, VlanRange};
use berth_kernel::{IfName, VlanId};

use super::{Observed, UplinkSeen, UplinkStep, refuse};
use crate::conf::{Conf, Uplink, UplinkMode};

/// `BR_STATE_DISABLED` (include/uapi/linux/if_bridge.h): by itself the kernel leaves only
/// a port in it that cannot carry frames, or whose bridge is down.
const DISABLED: u8 = 0;

pub(super) fn step(conf: &Conf, wish: &Uplink, seen: &Observed) -> Result<UplinkStep, CniError> {
    let (name, bridge) = (&wish.name, &conf.bridge);
    let Some(uplink) = &seen.uplink else {
        return Err(refuse(
            format!("uplink {name} of bridge {bridge} does not exist"),
            "name an existing link in key \"uplink\"; `ip -br link` lists them",
        ));
    };
    let step = UplinkStep {
        // The configuration may have an alternative name, which no list of ports shows.
        name: uplink.link.name.clone(),
        index: uplink.link.index,
        enslave: uplink.master.is_none(),
        raise: !uplink.link.up,
        add_vlans: missing(conf, uplink),
    };
    if let Some(master) = uplink.master.as_ref().filter(|master| *master != bridge) {
        return Err(refuse(
            format!("uplink {name} already belongs to {master}, so bridge {bridge} cannot have it"),
            format!(
                "name {master} in key \"bridge\" (or as \"uplink\", if it is a bond), or choose another uplink"
            ),
        ));
    }
    let wished = conf.vlans();
    let is_wished = |id: u16| {
        wished
            .iter()
            .any(|r| (r.first.get()..=r.last.get()).contains(&id))
    };
    let thief = uplink.stacked.iter().find(|(_, id)| is_wished(*id));
    if let Some((device, vlan)) = thief {
        return Err(refuse(
            format!(
                "{device} takes all frames of VLAN {vlan} off uplink {name}: bridge {bridge} would get none"
            ),
            format!("remove it (`ip link delete {device}`) or choose another VLAN"),
        ));
    }
    if let Some(rival) = seen.rival.as_ref().filter(|_| !step.is_idle()) {
        return Err(second_uplink(&step.name, rival, bridge));
    }
    if let Some(error) = shut_off(conf, &step, seen, &uplink.link) {
        return Err(error);
    }
    match wish.mode {
        UplinkMode::Verify => verify_only(&step, bridge)?,
        UplinkMode::Ensure => bare_enough(&step, uplink)?,
    }
    Ok(step)
}

/// The wished VLANs that the uplink does not carry.
fn missing(conf: &Conf, uplink: &UplinkSeen) -> Vec<VlanRange> {
    let carried: BTreeSet<VlanId> = uplink.vlans.iter().map(|entry| entry.vid).collect();
    let wished = conf.vlans();
    let ids = wished.iter().flat_map(|range| range.ids());
    VlanRange::of(ids.filter(|id| !carried.contains(id)))
}

/// The bridge's record holds what was done to one uplink, and with the spanning tree
/// protocol off a second one may close a loop.
fn second_uplink(name: &IfName, rival: &IfName, bridge: &IfName) -> CniError {
    refuse(
        format!("bridge {bridge} has uplink {rival} already, so {name} cannot be another"),
        format!(
            "name {rival} in key \"uplink\", name another bridge, or join both links in a bond"
        ),
    )
}

/// Settings of a port that would keep the containers' frames from the uplink.
fn shut_off(conf: &Conf, step: &UplinkStep, seen: &Observed, uplink: &Link) -> Option<CniError> {
    let (name, bridge, port) = (&step.name, &conf.bridge, uplink.port?);
    let can = uplink.running && seen.bridge.as_ref().is_some_and(|bridge| bridge.up);
    if can && port.state == DISABLED {
        return Some(refuse(
            format!("uplink {name} is a disabled port of bridge {bridge}: it lets nothing pass"),
            format!("`bridge link set dev {name} state 3`, or find who disabled it"),
        ));
    }
    if port.isolated && conf.flags.isolated {
        return Some(refuse(
            format!(
                "key \"portIsolation\" is on, and uplink {name} is an isolated port of bridge \
                 {bridge}, too: nothing would pass between them"
            ),
            format!("`bridge link set dev {name} isolated off`, or \"portIsolation\": false"),
        ));
    }
    None
}

fn verify_only(step: &UplinkStep, bridge: &IfName) -> Result<(), CniError> {
    let name = &step.name;
    if step.enslave {
        return Err(refuse(
            format!("uplink {name} is not a port of bridge {bridge}"),
            format!(
                "`ip link set {name} master {bridge}`, or \"uplinkMode\": \"ensure\" for a bare uplink"
            ),
        ));
    }
    if step.raise {
        return Err(refuse(
            format!("uplink {name} of bridge {bridge} is down"),
            format!("`ip link set {name} up`"),
        ));
    }
    Ok(())
}

/// A link with addresses carries the node's own traffic; enslaving it would cut that.
fn bare_enough(step: &UplinkStep, uplink: &UplinkSeen) -> Result<(), CniError> {
    let name = &step.name;
    if step.enslave && !uplink.addresses.is_empty() {
        return Err(refuse(
            format!(
                "uplink {name} has addresses ({}): as a bridge port it would lose them",
                uplink.addresses.join(", ")
            ),
            "choose a link without addresses, or move them to the bridge and use \"uplinkMode\": \"verify\"",
        ));
    }
    if step.enslave && !uplink.stacked.is_empty() {
        let devices: Vec<String> = uplink
            .stacked
            .iter()
            .map(|(dev, _)| dev.to_string())
            .collect();
        return Err(refuse(
            format!(
                "uplink {name} carries {}: not a bare link",
                devices.join(", ")
            ),
            "remove these devices, or enslave it yourself and use \"uplinkMode\": \"verify\"",
        ));
    }
    Ok(())
}
