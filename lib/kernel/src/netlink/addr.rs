//! IP addresses of links (rtnetlink(7), RTM_*ADDR).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use netlink_packet_route::address::{AddressHeaderFlags, AddressMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::AddressMessageBuilder;

use super::attr::{Attr, Attrs, u32_at};
use super::socket::{NLM_F_CREATE, NLM_F_EXCL, Net, Object};
use crate::Result;

/// Length of `struct ifaddrmsg`.
const IFADDR: usize = 8;
/// include/uapi/linux/if_addr.h
const IFA_FLAGS: u16 = 8;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;
const IFA_F_PERMANENT: u32 = 0x80;

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address with its prefix length.
    pub net: IpNetwork,
    /// How far it is valid (RT_SCOPE_*): 0 everywhere, 253 link, 254 host.
    pub scope: u8,
    /// Whether it has no end of life; router advertisements and DHCP set one.
    pub permanent: bool,
    /// Whether duplicate address detection still runs; it cannot be used yet.
    pub tentative: bool,
    /// Whether duplicate address detection found it in use elsewhere.
    pub dad_failed: bool,
}

impl Address {
    /// Whether it is valid everywhere, unlike link-local and loopback addresses.
    pub fn is_global(&self) -> bool {
        self.scope == libc::RT_SCOPE_UNIVERSE
    }
}

/// How an address is added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AddressFlags {
    /// Skip duplicate address detection (IPv6), so that it can be used at once.
    pub nodad: bool,
}

impl Net {
    /// The addresses of the link with this index, IPv4 before IPv6; ENODEV if there
    /// is no such link.
    pub fn addresses(&self, index: u32) -> Result<Vec<Address>> {
        let mut addresses = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = AddressMessage::default();
            message.header.family = family;
            message.header.index = index;
            let request = RouteNetlinkMessage::GetAddress(message);
            let bodies = self.dump("list addresses of", Object::Index(index), request)?;
            // A kernel without IPv6 answers with those of all other families.
            let ours = bodies
                .iter()
                .filter(|body| body.first().copied().map(AddressFamily::from) == Some(family));
            addresses.extend(ours.filter_map(|body| decode(body, index)));
        }
        Ok(addresses)
    }

    /// Adds an address; an IPv4 one with its broadcast address. EEXIST if the link
    /// has it.
    pub fn add_address(&self, index: u32, net: IpNetwork, flags: AddressFlags) -> Result<()> {
        let message = RouteNetlinkMessage::NewAddress(message(index, net, flags));
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.act(
            format!("add address {net} to"),
            Object::Index(index),
            message,
            flags,
        )
    }

    /// Removes an address; EADDRNOTAVAIL if the link does not have it.
    pub fn del_address(&self, index: u32, net: IpNetwork) -> Result<()> {
        let message = message(index, net, AddressFlags::default());
        let message = RouteNetlinkMessage::DelAddress(message);
        self.act(
            format!("remove address {net} from"),
            Object::Index(index),
            message,
            0,
        )
    }
}

fn message(index: u32, net: IpNetwork, flags: AddressFlags) -> AddressMessage {
    let mut message = match net {
        IpNetwork::V4(v4) => AddressMessageBuilder::<Ipv4Addr>::new()
            .address(v4.ip(), v4.prefix())
            .build(),
        IpNetwork::V6(v6) => AddressMessageBuilder::<Ipv6Addr>::new()
            .address(v6.ip(), v6.prefix())
            .build(),
    };
    message.header.index = index;
    message
        .header
        .flags
        .set(AddressHeaderFlags::Nodad, flags.nodad);
    message
}

/// Reads an RTM_NEWADDR body; `None` if it is about another link.
fn decode(body: &[u8], index: u32) -> Option<Address> {
    let &[_family, prefix, header_flags, scope, ..] = body else {
        return None;
    };
    if u32_at(body, 4)? != index {
        return None;
    }
    let mut flags = u32::from(header_flags);
    let (mut local, mut address): (Option<IpAddr>, Option<IpAddr>) = (None, None);
    for attr in Attrs::after(body, IFADDR) {
        match attr.kind {
            // With a peer address IFA_ADDRESS is the peer, IFA_LOCAL always us.
            libc::IFA_LOCAL => local = attr.ip(),
            libc::IFA_ADDRESS => address = attr.ip(),
            // All 32 bits; the header has room for 8.
            IFA_FLAGS => flags = Attr::u32(attr).unwrap_or(flags),
            _ => {}
        }
    }
    let has = |flag| flags & flag != 0;
    Some(Address {
        net: IpNetwork::new(local.or(address)?, prefix).ok()?,
        scope,
        permanent: has(IFA_F_PERMANENT),
        tentative: has(IFA_F_TENTATIVE),
        dad_failed: has(IFA_F_DADFAILED),
    })
}

#[cfg(test)]
mod tests {
    use super::super::wire::Request;
    use super::*;

    fn body(net: &str, flags: AddressFlags) -> Vec<u8> {
        let message = message(5, net.parse().unwrap(), flags);
        Request::from(RouteNetlinkMessage::NewAddress(message)).body
    }

    #[test]
    fn an_ipv4_address_is_sent_with_its_broadcast_address() {
        let expected = [
            2, 24, 0, 0, 5, 0, 0, 0, // AF_INET, /24, universe, index 5
            8, 0, 1, 0, 10, 7, 0, 2, // IFA_ADDRESS
            8, 0, 2, 0, 10, 7, 0, 2, // IFA_LOCAL
            8, 0, 4, 0, 10, 7, 0, 255, // IFA_BROADCAST
        ];
        assert_eq!(body("10.7.0.2/24", AddressFlags::default()), expected);
    }

    #[test]
    fn detection_of_duplicates_can_be_skipped() {
        let sent = body("fd00::2/64", AddressFlags { nodad: true });
        assert_eq!(sent[..8], [10, 64, 2, 0, 5, 0, 0, 0]);
    }

    #[test]
    fn with_a_peer_the_local_address_counts() {
        let sent = [
            2, 32, 0x80, 253, 5, 0, 0, 0, // permanent, scope link
            8, 0, 1, 0, 10, 7, 0, 1, // IFA_ADDRESS: the peer
            8, 0, 2, 0, 10, 7, 0, 2, // IFA_LOCAL
        ];
        let address = decode(&sent, 5).unwrap();
        assert_eq!(address.net, "10.7.0.2/32".parse().unwrap());
        assert!(address.permanent && !address.is_global());
        assert_eq!(decode(&sent, 6), None, "another link's");
    }

    #[test]
    fn the_long_flags_win() {
        let mut sent = body("fd00::2/64", AddressFlags::default());
        sent.extend([8, 0, 8, 0, 0x48, 0, 0, 0]); // IFA_FLAGS: tentative, dadfailed
        let address = decode(&sent, 5).unwrap();
        assert!(address.tentative && address.dad_failed && !address.permanent);
    }
}
