//! Telling the neighbours where an address is now: a gratuitous ARP announcement
//! (RFC 5227 section 3) and an unsolicited neighbour advertisement (RFC 4861 section
//! 7.2.6), so that switches and peers forget an earlier holder at once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::NetNs;
use crate::error::Result;
use crate::names::MacAddr;
use crate::packet::{PacketSocket, Receive};

#[cfg(test)]
mod tests;

pub(crate) const BROADCAST: MacAddr = MacAddr([0xff; 6]);
/// Where ff02::1, all nodes, goes on Ethernet (RFC 2464 section 7).
const ALL_NODES_MAC: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
pub(crate) const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
pub(crate) const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// How an ARP packet for IPv4 on Ethernet begins: both kinds of address, their lengths.
pub(crate) const ARP_ETHERNET_IPV4: [u8; 6] = [0, 1, 0x08, 0, 6, 4];
pub(crate) const ICMPV6: u8 = 58;
/// Type, code, checksum, flags, target and the link-layer address option.
const ADVERTISEMENT_LEN: u8 = 32;

/// Sends one announcement for each address from interface `ifindex` of namespace
/// `ns`, which must be up. Addresses no single interface holds (unspecified,
/// multicast, loopback) are skipped.
///
/// # Errors
/// When the namespace cannot be entered, the socket not opened (`CAP_NET_RAW`), or a
/// frame not sent (ENETDOWN: the interface is down). Frames before it were sent.
pub fn announce(ns: &NetNs, ifindex: u32, mac: MacAddr, addresses: &[IpAddr]) -> Result<()> {
    let frames: Vec<_> = addresses.iter().filter_map(|ip| frame(mac, *ip)).collect();
    if frames.is_empty() {
        return Ok(());
    }
    let socket = PacketSocket::open(ns, ifindex, Receive::Nothing)?;
    frames.iter().try_for_each(|frame| socket.send(frame))
}

/// The frame that announces `ip` at `mac`, if such an address can be announced.
pub fn frame(mac: MacAddr, ip: IpAddr) -> Option<Vec<u8>> {
    if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
        return None;
    }
    match ip {
        IpAddr::V4(ip) if ip.is_broadcast() => None,
        IpAddr::V4(ip) => Some(gratuitous_arp(mac, ip)),
        IpAddr::V6(ip) => Some(neighbour_advertisement(mac, ip)),
    }
}

/// An ARP announcement: a broadcast request for the address itself, from itself.
/// Every host updates the entry it has; none answers.
fn gratuitous_arp(mac: MacAddr, ip: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, ETHERTYPE_ARP);
    frame.extend(ARP_ETHERNET_IPV4);
    // Request.
    frame.extend([0, 1]);
    frame.extend(mac.0);
    frame.extend(ip.octets());
    frame.extend([0; 6]);
    frame.extend(ip.octets());
    frame
}

/// An advertisement nobody asked for, to all nodes, with the override flag.
fn neighbour_advertisement(mac: MacAddr, ip: Ipv6Addr) -> Vec<u8> {
    let mut icmp = vec![136, 0, 0, 0];
    // Not a router, not solicited, override.
    icmp.extend([0x20, 0, 0, 0]);
    icmp.extend(ip.octets());
    // Option 2, target link-layer address, one unit of eight bytes.
    icmp.extend([2, 1]);
    icmp.extend(mac.0);
    let sum = icmpv6_checksum(ip, ALL_NODES, &icmp).to_be_bytes();
    icmp[2..4].copy_from_slice(&sum);

    let mut frame = ethernet(ALL_NODES_MAC, mac, ETHERTYPE_IPV6);
    // Version 6; hop limit 255 proves to the receiver that no router passed it on.
    frame.extend([0x60, 0, 0, 0, 0, ADVERTISEMENT_LEN, ICMPV6, 255]);
    frame.extend(ip.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(icmp);
    frame
}

pub(crate) fn ethernet(to: MacAddr, from: MacAddr, ethertype: [u8; 2]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(86);
    frame.extend(to.0);
    frame.extend(from.0);
    frame.extend(ethertype);
    frame
}

/// The Internet checksum over the pseudo header of RFC 8200 section 8.1 and a message
/// of even length whose own checksum field is zero.
pub(crate) fn icmpv6_checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let addresses = from.segments().into_iter().chain(to.segments());
    // No message here is longer than a frame.
    let len = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let header = [len, u16::from(ICMPV6)];
    let words = message
        .chunks_exact(2)
        .map(|w| u16::from_be_bytes([w[0], w[1]]));
    let sum = addresses
        .chain(header)
        .chain(words)
        .fold(0_u16, |sum, word| {
            let (sum, carry) = sum.overflowing_add(word);
            // With a carry the sum is at most 0xfffe.
            sum + u16::from(carry)
        });
    !sum
}
