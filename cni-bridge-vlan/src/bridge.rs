//! The bridge and its uplink: made and adjusted before a port joins, released with
//! the last port. Both happen under the bridge's lock, from the bridge's record.

use berth_cni::error::{CniError, code};
use berth_cni::steps::Steps;
use berth_kernel::error::AbsentIsFine;
use berth_kernel::netlink::{Link, Net, NewBridge};
use berth_kernel::{IfName, Kind, MacAddr, Root};
use berth_state::Key;
use berth_state::bridge::BridgeRecord;
use berth_state::mac;
use berth_state::undo::Undo;

use crate::conf::Conf;
use crate::gateway;
use crate::node::Node;
use crate::plan::{self, BRIDGE_ALIAS, BridgeStep, Plan};

mod device;
mod observe;
mod uplink;

pub use observe::packet_filters;
use observe::{observe, own_uplink};

/// A bridge that is ready for a port.
#[derive(Debug)]
pub struct Ready {
    /// Interface index of the bridge.
    pub index: u32,
    /// The bridge's MAC address.
    pub mac: Option<MacAddr>,
    /// What was decided.
    pub plan: Plan,
}

/// Verifies or makes what `conf` wishes. The caller holds the bridge's lock; the
/// inverse, [`release`], takes it itself, as it runs when the lock is free again.
pub fn ensure(node: &Node, conf: &Conf, undo: &mut Undo) -> Result<Ready, CniError> {
    let mut record = node.bridges.load(&conf.bridge)?;
    let inverse = || {
        let (node, bridge) = (node.clone(), conf.bridge.clone());
        move || release(&node, &bridge)
    };
    // A refusal changes nothing and has nothing to take back, but for a device made
    // before it.
    let lower = conf.uplink.as_ref().filter(|uplink| uplink.lower.is_some());
    if let Some(uplink) = lower {
        undo.before("uplink device", inverse());
        device::ensure(node, uplink, &mut record, undo)?;
    }
    let seen = observe(&node.root, &node.net, conf, &record)?;
    let plan = plan::decide(conf, &seen, &record)?;
    if lower.is_none() {
        undo.before("bridge", inverse());
    }
    let link = match (&plan.bridge, seen.bridge) {
        (BridgeStep::Keep, Some(link)) => link,
        _ => make(node, conf, &plan, &mut record, undo)?,
    };
    if let Some(step) = &plan.uplink {
        uplink::join(node, step, link.index, &mut record, undo)?;
    }
    if conf.flags.promisc {
        listen_to_all(node, &link, &mut record, undo)?;
    }
    // Up last: nothing is forwarded before filtering and the uplink are right.
    if plan.bridge != BridgeStep::Keep {
        undo.covered("bridge up", || node.net.set_up(link.index))?;
    }
    Ok(Ready {
        index: link.index,
        mac: link.mac,
        plan,
    })
}

/// Reads what there is and decides what to do. Changes nothing.
pub fn decide(
    root: &Root,
    net: &Net,
    conf: &Conf,
    record: &BridgeRecord,
) -> Result<Plan, CniError> {
    let seen = observe(root, net, conf, record)?;
    plan::decide(conf, &seen, record)
}

/// As [`decide`], for who will not make the uplink's device now.
pub fn foresee(
    root: &Root,
    net: &Net,
    conf: &Conf,
    record: &BridgeRecord,
) -> Result<Plan, CniError> {
    let lower = conf.uplink.as_ref().and_then(|uplink| {
        let lower = uplink.lower.as_ref()?;
        Some((&uplink.name, lower))
    });
    let Some((name, lower)) = lower else {
        return decide(root, net, conf, record);
    };
    device::usable(net, lower)?;
    if net.find_link(name)?.is_some() {
        return decide(root, net, conf, record);
    }
    let without = Conf {
        uplink: None,
        ..conf.clone()
    };
    decide(root, net, &without, record)
}

/// The address a bridge of ours is created with. It holds the boot id, so that two
/// nodes with a bridge of one name never share an address on one wire.
fn fresh_mac(root: &Root, bridge: &IfName) -> Result<MacAddr, CniError> {
    let boot = berth_state::boot::boot_id(root)?;
    Ok(mac::derived(&format!("berth1 bridge\0{boot}\0{bridge}")))
}

fn make(
    node: &Node,
    conf: &Conf,
    plan: &Plan,
    record: &mut BridgeRecord,
    undo: &mut Undo,
) -> Result<Link, CniError> {
    let filter = match plan.bridge {
        BridgeStep::Create => {
            let name = &conf.bridge;
            let mac = fresh_mac(&node.root, name)?;
            record.created_with = Some(mac);
            undo.covered("bridge intent", || node.bridges.store(record))?;
            let vlan_filtering = conf.filters();
            let new = NewBridge {
                name,
                mac,
                mtu: None,
                vlan_filtering,
            };
            undo.covered("create bridge", || {
                node.net.create_bridge(&new).map_err(no_filtering)
            })?;
            false
        }
        BridgeStep::Finish { filter } => filter,
        BridgeStep::Keep => false,
    };
    let link = node.net.link(&conf.bridge)?;
    let index = link.index;
    if filter {
        undo.covered("bridge default VLAN", || {
            node.net.set_default_pvid(index, 0).map_err(no_filtering)
        })?;
        undo.covered("bridge filtering", || {
            node.net.set_vlan_filtering(index, true)
        })?;
    }
    // The mark of the node's bootstrap says more than ours: it stays.
    if link.alias.is_none() {
        node.deafen_to_routers(&conf.bridge)?;
        undo.covered("bridge alias", || node.net.set_alias(index, BRIDGE_ALIAS))?;
    }
    Ok(link)
}

/// A kernel without VLAN filtering says only EOPNOTSUPP.
fn no_filtering(error: berth_kernel::Error) -> CniError {
    if error.kind() != Kind::Unsupported {
        return error.into();
    }
    CniError::new(code::KERNEL, error.to_string()).details(
        "VLANs on a bridge need a kernel with CONFIG_BRIDGE_VLAN_FILTERING: boot one that \
         has it, or leave out \"vlan\"",
    )
}

/// What the users of a promiscuous bridge are counted under.
const PROMISC: &str = "promisc";

/// Makes the bridge promiscuous, as the reference plugin does, for as long as anybody
/// wishes it.
fn listen_to_all(
    node: &Node,
    bridge: &Link,
    record: &mut BridgeRecord,
    undo: &mut Undo,
) -> Result<(), CniError> {
    let (uses, port) = (node.uses(&bridge.name), node.key().port_name());
    undo.covered("promiscuous bridge's user", || uses.join(PROMISC, &port))?;
    if bridge.promisc {
        return Ok(());
    }
    record.promisc = true;
    undo.covered("promiscuous bridge intent", || node.bridges.store(record))?;
    undo.covered("promiscuous bridge", || {
        node.net.set_promisc(bridge.index, true)
    })
}

/// The bridge listens as before once nobody wishes otherwise.
fn listen_as_before(
    node: &Node,
    bridge: &Link,
    mut record: BridgeRecord,
) -> Result<BridgeRecord, CniError> {
    if !record.promisc || node.uses(&bridge.name).has_users(PROMISC)? {
        return Ok(record);
    }
    node.net.set_promisc(bridge.index, false)?;
    record.promisc = false;
    node.bridges.store(&record)?;
    Ok(record)
}

/// Gives back what nobody uses any more: VLANs on the uplink, and with the last
/// port the bridge itself, if an ADD made it. Safe to repeat at any point.
pub fn release(node: &Node, bridge: &IfName) -> Result<(), CniError> {
    let _lock = node.lock_bridge(bridge)?;
    node.bridges.sweep()?;
    node.uses(bridge).leave(&node.key().port_name())?;
    let record = node.bridges.load(bridge)?;
    let link = node.net.find_link(bridge)?;
    let Some(link) = link.filter(|link| link.bridge.is_some()) else {
        return bridge_is_gone(node, record);
    };
    let made = plan::is_made_by_add(&link, &record);
    let own = own_uplink(&record);
    // Any port keeps a bridge that an ADD made; on another one attachments count.
    let used = Net::open()?.any_port(link.index, |port| {
        own != Some(&port.name) && (made || is_attachment(port))
    })?;
    let record = match (made, used) {
        (true, false) => return remove(node, &link, record),
        (false, false) => uplink::give_back(node, link.index, record)?,
        (_, true) => record,
    };
    let record = listen_as_before(node, &link, record)?;
    let record = gateway::release(node, &link, record)?;
    uplink::release_vlans(node, &link, record)
}

fn is_attachment(port: &Link) -> bool {
    let alias = port.alias.as_deref();
    alias.and_then(Key::from_alias).is_some()
}

/// Somebody removed the bridge (or it never came to be): only the uplink's state and
/// the record are left to clean.
fn bridge_is_gone(node: &Node, record: BridgeRecord) -> Result<(), CniError> {
    if let Some(uplink) = &record.uplink {
        uplink::lower(node, uplink)?;
    }
    forget(node, record)
}

/// The bridge is gone, and with it what was done to it.
fn forget(node: &Node, record: BridgeRecord) -> Result<(), CniError> {
    node.uses(&record.bridge).clear()?;
    let untouched = BridgeRecord::untouched(&record.bridge);
    Ok(node.bridges.store(&untouched)?)
}

fn remove(node: &Node, link: &Link, record: BridgeRecord) -> Result<(), CniError> {
    if let Some(uplink) = &record.uplink {
        uplink::release(node, uplink, link.index)?;
    }
    node.net.delete_link(link.index).absent_is_fine()?;
    forget(node, record)
}
