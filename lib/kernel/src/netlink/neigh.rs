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
    /// that is there is replaced. Without a VLAN it is pinned for frames without one
    /// and in every VLAN the port is in now, also while the bridge does not filter.
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

    /// Removes the entry for `mac` from a bridge port, without a VLAN all of them;
    /// ENOENT if it is not there.
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

#[cfg(test)]
mod tests {
    use super::super::wire::Request;
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    #[test]
    fn an_fdb_entry_is_for_the_bridge_table() {
        let vlan = VlanId::try_from(100).ok();
        let message = RouteNetlinkMessage::DelNeighbour(fdb_message(5, MAC, vlan));
        let expected = [
            7, 0, 0, 0, 5, 0, 0, 0, 0, 0, 4, 0, // AF_BRIDGE, index 5, NTF_MASTER
            10, 0, 2, 0, 2, 0, 0, 0, 0, 1, 0, 0, // NDA_LLADDR
            6, 0, 5, 0, 100, 0, 0, 0, // NDA_VLAN
        ];
        assert_eq!(Request::from(message).body, expected);
    }

    #[test]
    fn fdb_entries_are_told_apart_by_their_state() {
        let mut body = vec![7, 0, 0, 0, 5, 0, 0, 0, 0x40, 0, 0, 0];
        body.extend([10, 0, 2, 0, 2, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(decode_fdb(&body, 5), None, "the port's own address filter");
        body.extend([8, 0, 9, 0, 3, 0, 0, 0]); // NDA_MASTER
        body.extend([6, 0, 5, 0, 100, 0, 0, 0]); // NDA_VLAN
        let entry = decode_fdb(&body, 5).unwrap();
        assert_eq!((entry.mac, entry.vlan.map(VlanId::get)), (MAC, Some(100)));
        assert!(entry.fixed && !entry.local);
        body[8] = 0x80;
        let entry = decode_fdb(&body, 5).unwrap();
        assert!(!entry.fixed && entry.local);
        body[8] = 2;
        let entry = decode_fdb(&body, 5).unwrap();
        assert!(!entry.fixed && !entry.local);
        assert_eq!(decode_fdb(&body, 6), None, "another port's");
    }

    #[test]
    fn a_neighbour_may_have_no_address_yet() {
        let mut body = vec![2, 0, 0, 0, 5, 0, 0, 0, 0x20, 0, 0, 1];
        body.extend([8, 0, 1, 0, 10, 7, 0, 1]);
        let neighbour = decode_neighbour(&body, 5).unwrap();
        assert_eq!(neighbour.ip, IpAddr::from([10, 7, 0, 1]));
        assert!(neighbour.failed && neighbour.mac.is_none());
    }
}
