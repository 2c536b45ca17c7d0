//! The containers' gateway on the node: its address on the bridge, or, in a VLAN, on an
//! 802.1Q device on top of the bridge. Counted by use, from the bridge's record.

use berth_cni::error::{CniError, code};
use berth_cni::result::AddResult;
use berth_cni::steps::Steps;
use berth_kernel::error::AbsentIsFine;
use berth_kernel::netlink::{AddressFlags, Link, NewDot1q, On, VlanFlags};
use berth_kernel::{IfName, Kind, VlanId, sysctl};
use berth_state::bridge::{BridgeRecord, GatewayAddress, GatewayRecord};
use berth_state::key::vlan_link_name;
use berth_state::undo::Undo;
use ipnetwork::IpNetwork;

use crate::conf::{Conf, Gateway};
use crate::node::Node;
use crate::{dot1q, plan};

mod addresses;

use addresses::{Found, look};
pub use addresses::{complete, gateways};

/// What a device of ours is for, as its mark says it.
const GATEWAY: &str = "gateway";

/// What the users of a gateway's address are counted under.
fn thing(device: &IfName, net: IpNetwork) -> String {
    format!("{device}_{}_{}", net.ip(), net.prefix())
}

/// Gives the node the gateway addresses of `result`; the device that has them, `None`
/// if there are none. Takes the bridge's lock: the inverse is the bridge's own,
/// registered when the port was made.
pub fn ensure(
    node: &Node,
    conf: &Conf,
    wish: Gateway,
    result: &AddResult,
    undo: &mut Undo,
) -> Result<Option<Link>, CniError> {
    let wished = gateways(result);
    if wished.is_empty() {
        log::warn!("\"isGateway\" has no effect: the container has no address");
        return Ok(None);
    }
    let _lock = node.lock_bridge(&conf.bridge)?;
    let bridge = node.net.link(&conf.bridge)?;
    let mut record = node.bridges.load(&conf.bridge)?;
    let device = match conf.vlan {
        None => bridge.clone(),
        Some(vlan) => device(node, &bridge, vlan, &mut record, undo)?,
    };
    let mut place = Place {
        node,
        bridge: &bridge,
        device: &device,
        vlan: conf.vlan,
        record: &mut record,
    };
    for net in &wished {
        place.put(*net, wish.force, undo)?;
    }
    forward(node, &wished, undo)?;
    Ok(Some(device))
}

/// The 802.1Q device of `vlan` on the bridge, made and set up if it is not there, and
/// the bridge itself in that VLAN.
fn device(
    node: &Node,
    bridge: &Link,
    vlan: VlanId,
    record: &mut BridgeRecord,
    undo: &mut Undo,
) -> Result<Link, CniError> {
    let name = vlan_link_name(&bridge.name, vlan);
    let found = node.net.find_link(&name)?;
    if let Some(link) = &found {
        dot1q::must_be_of(link, bridge, vlan)?;
    }
    let whole = found.as_ref().is_some_and(|link| link.up);
    let own = node.net.vlans_of(bridge.index)?;
    let joined = own.iter().any(|entry| entry.vid == vlan);
    if let (Some(link), true, true) = (&found, whole, joined) {
        return Ok(link.clone());
    }
    let part = record.gateway_mut(&name, Some(vlan));
    part.created |= found.is_none();
    part.joined |= !joined;
    undo.covered("gateway device intent", || node.bridges.store(record))?;
    if !joined {
        undo.covered("bridge's own VLAN", || {
            let tagged = VlanFlags::default();
            node.net
                .add_vlan(bridge.index, vlan.into(), tagged, On::Bridge)
        })?;
    }
    if found.is_none() {
        let new = NewDot1q {
            name: &name,
            lower: bridge.index,
            vlan,
        };
        undo.covered("gateway device", || {
            let made = node.net.create_dot1q(&new);
            made.map_err(|error| dot1q::no_8021q(error, "\"isGateway\""))
        })?;
    }
    let link = node.net.link(&name)?;
    if link.alias.is_none() && record.gateway_mut(&name, Some(vlan)).created {
        undo.covered("gateway device alias", || {
            node.net
                .set_alias(link.index, &dot1q::alias(GATEWAY, &bridge.name, vlan))
        })?;
        node.deafen_to_routers(&name)?;
    }
    undo.covered("gateway device up", || node.net.set_up(link.index))?;
    Ok(link)
}

/// Where gateway addresses go.
struct Place<'a> {
    node: &'a Node,
    bridge: &'a Link,
    device: &'a Link,
    vlan: Option<VlanId>,
    record: &'a mut BridgeRecord,
}

impl Place<'_> {
    fn put(&mut self, net: IpNetwork, force: bool, undo: &mut Undo) -> Result<(), CniError> {
        let (node, device) = (self.node, self.device);
        let live = node.net.addresses(device.index)?;
        let live: Vec<_> = live.iter().map(|address| address.net).collect();
        let uses = node.uses(&self.bridge.name);
        let port = node.key().port_name();
        let name = thing(&device.name, net);
        let in_the_way = match look(net, &live) {
            Found::It => {
                return undo.covered("gateway's user", || uses.join(&name, &port));
            }
            Found::Others(others) if !force => return Err(self.taken(net, &others)),
            Found::Others(others) => others,
            Found::Room => vec![],
        };
        undo.covered("gateway's user", || uses.join(&name, &port))?;
        self.replace(net, &in_the_way, undo)?;
        if net.is_ipv6() {
            self.speak_ipv6(undo)?;
        }
        undo.covered(format!("gateway {net}"), || {
            let nodad = AddressFlags { nodad: true };
            node.net.add_address(device.index, net, nodad)
        })
    }

    /// Puts the address on record, and takes those away that it replaces.
    fn replace(
        &mut self,
        net: IpNetwork,
        others: &[IpNetwork],
        undo: &mut Undo,
    ) -> Result<(), CniError> {
        let (node, device) = (self.node, self.device);
        let part = self.record.gateway_mut(&device.name, self.vlan);
        part.addresses.retain(|address| address.net != net);
        part.addresses.push(GatewayAddress {
            net,
            replaced: others.to_vec(),
        });
        undo.covered("gateway intent", || node.bridges.store(self.record))?;
        for other in others {
            log::warn!("{}: {other} is replaced by gateway {net}", device.name);
            undo.covered(format!("address {other} off"), || {
                node.net.del_address(device.index, *other).absent_is_fine()
            })?;
        }
        Ok(())
    }

    /// On a device of ours IPv6 is switched on, whatever new ones have by default.
    fn speak_ipv6(&self, undo: &mut Undo) -> Result<(), CniError> {
        let name = &self.device.name;
        let made = self
            .record
            .gateways
            .iter()
            .any(|g| g.device == *name && g.created);
        let ours = match self.vlan {
            Some(_) => made,
            None => plan::is_made_by_add(self.device, self.record),
        };
        if !ours {
            return Ok(());
        }
        let key = format!("net/ipv6/conf/{name}/disable_ipv6");
        undo.covered("IPv6 of gateway", || {
            sysctl::set(&self.node.root, &key, "0").absent_is_fine()
        })?;
        Ok(())
    }

    fn taken(&self, net: IpNetwork, others: &[IpNetwork]) -> CniError {
        let others: Vec<String> = others.iter().map(ToString::to_string).collect();
        let msg = format!(
            "{} is to be gateway {net}, but has another address in that subnet already ({})",
            self.device.name,
            others.join(", ")
        );
        CniError::new(code::CONFIG, msg).details(
            "give the gateway in \"ipam\" as the node has it, remove the other address, or \
             replace it with \"forceAddress\": true",
        )
    }
}

/// Switches forwarding on for the families that have a gateway. As with the reference
/// plugin it stays on: others on the node may rely on it by the time it is not needed.
fn forward(node: &Node, gateways: &[IpNetwork], undo: &mut Undo) -> Result<(), CniError> {
    for (key, is_wished) in FORWARDING {
        if gateways.iter().any(is_wished) {
            undo.covered("forwarding", || sysctl::set(&node.root, key, "1"))?;
        }
    }
    Ok(())
}

type OfFamily = fn(&IpNetwork) -> bool;

/// The parameter that makes the node forward packets of a family.
pub const FORWARDING: [(&str, OfFamily); 2] = [
    ("net/ipv4/ip_forward", IpNetwork::is_ipv4),
    ("net/ipv6/conf/all/forwarding", IpNetwork::is_ipv6),
];

/// Takes gateways away that nobody uses any more, and their devices with the last one.
/// The caller holds the bridge's lock.
pub fn release(
    node: &Node,
    bridge: &Link,
    mut record: BridgeRecord,
) -> Result<BridgeRecord, CniError> {
    let mut parts = std::mem::take(&mut record.gateways);
    let before = parts.clone();
    for part in &mut parts {
        release_part(node, bridge, part)?;
    }
    parts.retain(|part| !part.addresses.is_empty());
    let changed = parts != before;
    record.gateways = parts;
    if changed {
        node.bridges.store(&record)?;
    }
    Ok(record)
}

fn release_part(node: &Node, bridge: &Link, part: &mut GatewayRecord) -> Result<(), CniError> {
    let uses = node.uses(&bridge.name);
    let device = node.net.find_link(&part.device)?;
    let mut kept = Vec::new();
    for address in std::mem::take(&mut part.addresses) {
        if uses.has_users(&thing(&part.device, address.net))? {
            kept.push(address);
        } else if let Some(device) = &device {
            put_back(node, device, &address)?;
        }
    }
    part.addresses = kept;
    let Some(vlan) = part.vlan.filter(|_| part.addresses.is_empty()) else {
        return Ok(());
    };
    let alias = dot1q::alias(GATEWAY, &bridge.name, vlan);
    let is_made = |link: &Link| part.created && dot1q::is_made(link, vlan, &alias);
    if let Some(device) = device.filter(is_made) {
        node.net.delete_link(device.index).absent_is_fine()?;
    }
    if part.joined {
        let own = node.net.del_vlan(bridge.index, vlan.into(), On::Bridge);
        own.absent_is_fine()?;
    }
    Ok(())
}

/// An address off the device, and those it had replaced back on.
fn put_back(node: &Node, device: &Link, address: &GatewayAddress) -> Result<(), CniError> {
    node.net
        .del_address(device.index, address.net)
        .absent_is_fine()?;
    for net in &address.replaced {
        let nodad = AddressFlags { nodad: true };
        match node.net.add_address(device.index, *net, nodad) {
            Err(error) if error.kind() != Kind::Exists => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}
