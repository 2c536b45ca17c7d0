//! The uplink: made a port of the bridge and given its VLANs, and taken back.

use berth_cni::error::CniError;
use berth_cni::steps::Steps;
use berth_kernel::VlanId;
use berth_kernel::error::AbsentIsFine;
use berth_kernel::netlink::{Link, On, VlanFlags};
use berth_state::bridge::{BridgeRecord, UplinkRecord};
use berth_state::undo::Undo;

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
    uplink.vlans.extend(step.add_vlan);
    undo.covered("uplink intent", || node.bridges.store(record))?;
    if step.enslave {
        undo.covered("enslave uplink", || {
            node.net.set_master(step.index, Some(bridge))
        })?;
    }
    if let Some(vlan) = step.add_vlan {
        let tagged = VlanFlags {
            pvid: false,
            untagged: false,
        };
        undo.covered("uplink VLAN", || {
            node.net.add_vlan(step.index, vlan.into(), tagged, On::Port)
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
    if uplink.enslaved {
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
        for vlan in &uplink.vlans {
            node.net
                .del_vlan(link.index, (*vlan).into(), On::Port)
                .absent_is_fine()?;
        }
        if uplink.enslaved {
            node.net.set_master(link.index, None)?;
        }
    }
    lower(node, uplink)
}

/// Sets an uplink down again that an ADD had set up, unless it has a new master.
pub(super) fn lower(node: &Node, uplink: &UplinkRecord) -> Result<(), CniError> {
    match node.net.find_link(&uplink.name)? {
        Some(link) if uplink.raised && link.master.is_none() => {
            Ok(node.net.set_down(link.index)?)
        }
        _ => Ok(()),
    }
}

/// Takes `vlan` off the uplink if an ADD put it there and no other port is in it.
pub(super) fn release_vlan(
    node: &Node,
    link: &Link,
    vlan: VlanId,
    mut record: BridgeRecord,
) -> Result<(), CniError> {
    let Some(uplink) = record
        .uplink
        .as_mut()
        .filter(|uplink| uplink.vlans.contains(&vlan))
    else {
        return Ok(());
    };
    let port = node
        .net
        .find_link(&uplink.name)?
        .filter(|port| port.master == Some(link.index));
    if let Some(port) = port {
        let ports = node.net.ports_of(link.index)?;
        let members = node.net.ports_in_vlan(vlan)?;
        if ports
            .iter()
            .any(|p| p.index != port.index && members.contains(&p.index))
        {
            return Ok(());
        }
        node.net
            .del_vlan(port.index, vlan.into(), On::Port)
            .absent_is_fine()?;
    }
    uplink.vlans.retain(|kept| *kept != vlan);
    Ok(node.bridges.store(&record)?)
}
