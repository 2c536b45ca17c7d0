//! Neighbours of links, and the forwarding database (FDB) of bridges
//! (rtnetlink(7), RTM_*NEIGH).

use std::net::IpAddr;

use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::attr::{Attr, Attrs, u16_at, u32_at};
use super::socket::{NLM_F_CREATE, NLM_F_REPLACE, Net, Object};
use crate::Result;
use crate::names::{MacAddr, VlanId};

/// Length of `struct ndmsg`.
const NDMSG: usize = 12;

/// An IP address on a link and who has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// The address.
    pub ip: IpAddr,
    /// Who has it, if that is known.
    pub mac: Option<MacAddr>,
    /// Whether it was configured, not learned.
    pub permanent: bool,
    /// Whether it was asked for in vain.
    pub failed: bool,
}

/// An entry of a bridge's forwarding database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FdbEntry {
    /// The address.
    pub mac: MacAddr,
    /// The VLAN it is valid in; `None` for frames without VLAN.
    pub vlan: Option<VlanId>,
    /// Whether it is the address of the port itself; frames to it end here.
    pub local: bool,
    /// Whether it was configured, and neither learned nor local.
    pub fixed: bool,
}

impl Net {
    /// The IPv4 and IPv6 neighbours on the link with this index; ENODEV if there is
    /// no such link.
    pub fn neighbours(&self, index: u32) -> Result<Vec<Neighbour>> {
        let bodies = self.dump_neigh("list neighbours of", index, AddressFamily::Unspec)?;
        let decoded = bodies
            .iter()
            .filter_map(|body| decode_neighbour(body, index));
        Ok(decoded.collect())
    }

    /// The forwarding database entries that lead to a bridge port. ENODEV if there is
    /// no such link.
    pub fn fdb(&self, port: u32) -> Result<Vec<FdbEntry>> {
        let bodies = self.dump_neigh("list FDB entries of", port, AddressFamily::Bridge)?;
        let decoded = bodies.iter().filter_map(|body| decode_fdb(body, port));
        Ok(decoded.collect())
    }

    /// Pins `mac` to a bridge port: it is neither aged out nor learned elsewhere. One
    /// that is there is replaced. Without a VLAN, on a filtering bridge, it is pinned
    /// in every VLAN of the port.
    pub fn add_fdb(&self, port: u32, mac: MacAddr, vlan: Option<VlanId>) -> Result<()> {
        let mut message = fdb_message(port, mac, vlan);
        message.header.state = NeighbourState::Noarp;
        let message = RouteNetlinkMessage::NewNeighbour(message);
        let op = format!("pin {} to", InVlan(mac, vlan));
        self.act(
            op,
            Object::Index(port),
            message,
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    /// Removes the entry for `mac` from a bridge port; ENOENT if it is not there.
    pub fn del_fdb(&self, port: u32, mac: MacAddr, vlan: Option<VlanId>) -> Result<()> {
        let message = RouteNetlinkMessage::DelNeighbour(fdb_message(port, mac, vlan));
        let op = format!("remove FDB entry {} from", InVlan(mac, vlan));
        self.act(op, Object::Index(port), message, 0)
    }

    fn dump_neigh(&self, op: &str, index: u32, family: AddressFamily) -> Result<Vec<Vec<u8>>> {
        let mut message = NeighbourMessage::default();
        message.header.family = family;
        message.attributes.push(NeighbourAttribute::IfIndex(index));
        let request = RouteNetlinkMessage::GetNeighbour(message);
        self.dump(op, Object::Index(index), request)
    }
}

/// An address with its VLAN, in words.
struct InVlan(MacAddr, Option<VlanId>);

impl std::fmt::Display for InVlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.1 {
            Some(vlan) => write!(f, "{} in VLAN {vlan}", self.0),
            None => self.0.fmt(f),
        }
    }
}

fn fdb_message(port: u32, mac: MacAddr, vlan: Option<VlanId>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = port;
    // NTF_MASTER: the bridge's table, not the port's own address filter.
    message.header.flags = NeighbourFlags::Controller;
    let address = NeighbourAttribute::LinkLayerAddress(mac.0.to_vec());
    message.attributes.push(address);
    let vlan = vlan.map(|vlan| NeighbourAttribute::Vlan(vlan.get()));
    message.attributes.extend(vlan);
    message
}

fn find(body: &[u8], kind: u16) -> Option<Attr<'_>> {
    Attrs::after(body, NDMSG).find(|attr| attr.kind == kind)
}

/// Reads an RTM_NEWNEIGH body; `None` if it is about another link or no IP address.
fn decode_neighbour(body: &[u8], index: u32) -> Option<Neighbour> {
    let state = u16_at(body, 8)?;
    let neighbour = Neighbour {
        ip: find(body, libc::NDA_DST)?.ip()?,
        mac: find(body, libc::NDA_LLADDR).and_then(Attr::mac),
        permanent: state & libc::NUD_PERMANENT != 0,
        failed: state & libc::NUD_FAILED != 0,
    };
    (u32_at(body, 4)? == index).then_some(neighbour)
}

/// Reads an RTM_NEWNEIGH body of the bridge family; `None` if it leads elsewhere or
/// is of the port's own address filter, which is listed along with the FDB.
fn decode_fdb(body: &[u8], port: u32) -> Option<FdbEntry> {
    let state = u16_at(body, 8)?;
    find(body, libc::NDA_MASTER)?;
    let vlan = find(body, libc::NDA_VLAN).and_then(Attr::u16);
    let entry = FdbEntry {
        mac: find(body, libc::NDA_LLADDR)?.mac()?,
        vlan: vlan.and_then(|id| VlanId::try_from(id).ok()),
        local: state & libc::NUD_PERMANENT != 0,
        fixed: state & libc::NUD_NOARP != 0,
    };
    (u32_at(body, 4)? == port).then_some(entry)
}
