//! The uplink of a bridge for one VLAN: an 802.1Q device on the physical link, made on
//! first use and removed with the last.

use berth_cni::error::{CniError, code};
use berth_cni::steps::Steps;
use berth_kernel::IfName;
use berth_kernel::error::AbsentIsFine;
use berth_kernel::netlink::{Link, Net, NewDot1q};
use berth_state::bridge::{BridgeRecord, UplinkDevice};
use berth_state::undo::Undo;

use crate::conf::{Lower, Uplink};
use crate::dot1q;
use crate::node::Node;

/// Makes the device if it is not there; does nothing for an uplink of another kind.
pub(super) fn ensure(
    node: &Node,
    uplink: &Uplink,
    record: &mut BridgeRecord,
    undo: &mut Undo,
) -> Result<(), CniError> {
    let Some(lower) = &uplink.lower else {
        return Ok(());
    };
    let link = usable(&node.net, lower)?;
    let alias = dot1q::alias("uplink", &link.name, lower.vlan);
    let device = match node.net.find_link(&uplink.name)? {
        Some(device) => {
            dot1q::must_be_of(&device, &link, lower.vlan)?;
            device
        }
        None => make(node, (&uplink.name, &link), lower, record, undo)?,
    };
    let made = record.uplink.as_ref().is_some_and(|u| u.device.is_some());
    if made && device.alias.is_none() {
        undo.covered("uplink device alias", || {
            node.net.set_alias(device.index, &alias)
        })?;
        node.deafen_to_routers(&uplink.name)?;
    }
    Ok(())
}

fn make(
    node: &Node,
    (name, link): (&IfName, &Link),
    lower: &Lower,
    record: &mut BridgeRecord,
    undo: &mut Undo,
) -> Result<Link, CniError> {
    record.uplink_mut(name).device = Some(UplinkDevice {
        lower: link.name.clone(),
        vlan: lower.vlan,
    });
    undo.covered("uplink device intent", || node.bridges.store(record))?;
    let new = NewDot1q {
        name,
        lower: link.index,
        vlan: lower.vlan,
    };
    let instead = "\"layout\": \"per-vlan\"";
    undo.covered("uplink device", || {
        let made = node.net.create_dot1q(&new);
        made.map_err(|error| dot1q::no_8021q(error, instead))
    })?;
    Ok(node.net.link(name)?)
}

/// The physical link, if the VLAN's frames can be had from it. It is not changed.
pub(super) fn usable(net: &Net, lower: &Lower) -> Result<Link, CniError> {
    let name = &lower.name;
    let refuse = |msg: String, next: String| Err(CniError::new(code::CONFIG, msg).details(next));
    let Some(link) = net.find_link(name)? else {
        return refuse(
            format!("uplink {name} does not exist"),
            "name an existing link in key \"uplink\"; `ip -br link` lists them".to_owned(),
        );
    };
    if !link.up {
        return refuse(
            format!("uplink {name} is down"),
            format!("`ip link set {name} up`"),
        );
    }
    if let Some(master) = link.master {
        let master = net.find_link_at(master)?;
        let master = master.map_or_else(|| "another link".to_owned(), |m| m.name.to_string());
        return refuse(
            format!(
                "uplink {name} belongs to {master}: a device for VLAN {} would take its frames",
                lower.vlan
            ),
            format!(
                "name {master} as \"uplink\", if it is a bond; with a bridge use \"layout\": \
                 \"vlan-aware\""
            ),
        );
    }
    Ok(link)
}

/// Removes a device that an ADD made; whether `device` was one.
pub(super) fn remove(node: &Node, device: &Link, made: &UplinkDevice) -> Result<(), CniError> {
    let alias = dot1q::alias("uplink", &made.lower, made.vlan);
    if dot1q::is_made(device, made.vlan, &alias) {
        node.net.delete_link(device.index).absent_is_fine()?;
    }
    Ok(())
}
