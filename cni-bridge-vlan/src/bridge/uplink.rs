//! The uplink: made a port of the bridge and given its VLANs, and taken back.

use std::collections::BTreeSet;

use berth_cni::error::CniError;
use berth_cni::steps::Steps;
use berth_kernel::VlanId;
use berth_kernel::error::AbsentIsFine;
use berth_kernel::netlink::{Link, On, VlanFlags, VlanRange};
use berth_state::bridge::{BridgeRecord, UplinkRecord};
use berth_state::undo::Undo;

use super::device;
use crate::node::Node;
use crate::plan::UplinkStep;

pub(super) fn join(
    node: &Node,
    step: &UplinkStep,
    bridge: u32,
    record: &mut BridgeRecord,
    undo: &mut Undo,
) -> Result<(), CniError> {
    if step.is_idle() {
        return Ok(());
    }
    let uplink = record.uplink_mut(&step.name);
    uplink.enslaved |= step.enslave;
    uplink.raised |= step.raise;
    let missing = step.add_vlans.iter().flat_map(|range| range.ids());
    uplink.vlans.extend(missing);
    undo.covered("uplink intent", || node.bridges.store(record))?;
    if step.enslave {
        undo.covered("enslave uplink", || {
            node.net.set_master(step.index, Some(bridge))
        })?;
    }
    if !step.add_vlans.is_empty() {
        let tagged = step
            .add_vlans
            .iter()
            .map(|vids| (*vids, VlanFlags::default()));
        let tagged: Vec<_> = tagged.collect();
        undo.covered("uplink VLANs", || {
            node.net.add_vlans(step.index, &tagged, On::Port)
        })?;
    }
    if step.raise {
        undo.covered("uplink up", || node.net.set_up(step.index))?;
    }
    Ok(())
}

/// With the last attachment on a bridge that stays, the uplink is what it was before
/// the first: no port of it, or down.
pub(super) fn give_back(
    node: &Node,
    bridge: u32,
    mut record: BridgeRecord,
) -> Result<BridgeRecord, CniError> {
    let Some(uplink) = record.uplink.as_mut() else {
        return Ok(record);
    };
    if uplink.enslaved || uplink.device.is_some() {
        release(node, uplink, bridge)?;
        record.uplink = None;
    } else if uplink.raised {
        let link = node.net.find_link(&uplink.name)?;
        if let Some(port) = link.filter(|link| link.master == Some(bridge)) {
            node.net.set_down(port.index)?;
        }
        uplink.raised = false;
    } else {
        return Ok(record);
    }
    node.bridges.store(&record)?;
    Ok(record)
}

pub(super) fn release(node: &Node, uplink: &UplinkRecord, bridge: u32) -> Result<(), CniError> {
    let Some(link) = node.net.find_link(&uplink.name)? else {
        return Ok(());
    };
    if link.master == Some(bridge) {
        for vids in VlanRange::of(uplink.vlans.iter().copied()) {
            node.net
                .del_vlan(link.index, vids, On::Port)
                .absent_is_fine()?;
        }
        if uplink.enslaved {
            node.net.set_master(link.index, None)?;
        }
    }
    lower(node, uplink)
}

/// Sets an uplink down again that an ADD had set up, and removes one that it had made,
/// unless it has a new master.
pub(super) fn lower(node: &Node, uplink: &UplinkRecord) -> Result<(), CniError> {
    let link = node.net.find_link(&uplink.name)?;
    let Some(link) = link.filter(|link| link.master.is_none()) else {
        return Ok(());
    };
    match &uplink.device {
        Some(made) => device::remove(node, &link, made),
        None if uplink.raised => Ok(node.net.set_down(link.index)?),
        None => Ok(()),
    }
}

/// Takes those VLANs off the uplink that an ADD put there and no other port is in.
pub(super) fn release_vlans(
    node: &Node,
    bridge: &Link,
    mut record: BridgeRecord,
) -> Result<(), CniError> {
    let Some(uplink) = record.uplink.as_mut().filter(|u| !u.vlans.is_empty()) else {
        return Ok(());
    };
    let port = node
        .net
        .find_link(&uplink.name)?
        .filter(|port| port.master == Some(bridge.index));
    let Some(port) = port else {
        uplink.vlans.clear();
        return Ok(node.bridges.store(&record)?);
    };
    let used = used_vlans(node, bridge, &port)?;
    let (kept, unused): (Vec<_>, Vec<_>) = std::mem::take(&mut uplink.vlans)
        .into_iter()
        .partition(|vlan| used.contains(vlan));
    uplink.vlans = kept;
    if unused.is_empty() {
        return Ok(());
    }
    for vids in VlanRange::of(unused) {
        node.net.del_vlan(port.index, vids, On::Port)?;
    }
    Ok(node.bridges.store(&record)?)
}

/// The VLANs that ports of the bridge are in, without its uplink.
fn used_vlans(node: &Node, bridge: &Link, uplink: &Link) -> Result<BTreeSet<VlanId>, CniError> {
    let ports = node.net.ports_of(bridge.index)?;
    let ports: BTreeSet<u32> = ports.iter().map(|port| port.index).collect();
    let all = node.net.vlans_of_ports()?.into_iter();
    let own = all.filter(|(index, _)| *index != uplink.index && ports.contains(index));
    Ok(own
        .flat_map(|(_, entries)| entries.into_iter().map(|entry| entry.vid))
        .collect())
}
