//! Telling the neighbours where an address is now: a gratuitous ARP announcement
//! (RFC 5227 section 3) and an unsolicited neighbour advertisement (RFC 4861 section
//! 7.2.6), so that switches and peers forget an earlier holder at once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::NetNs;
use crate::error::{Error, Result};
use crate::names::MacAddr;

#[cfg(test)]
mod tests;

const BROADCAST: MacAddr = MacAddr([0xff; 6]);
/// Where ff02::1, all nodes, goes on Ethernet (RFC 2464 section 7).
const ALL_NODES_MAC: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;
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
    let fail = |op: &str, errno| {
        let object = format!("interface {ifindex} of namespace {}", ns.path().display());
        Error::errno(op, object, errno)
    };
    let socket = ns
        .run(packet_socket)?
        .map_err(|errno| fail("open a packet socket for", errno))?;
    for frame in &frames {
        send(socket.as_fd(), ifindex, frame)
            .map_err(|errno| fail("send an announcement from", errno))?;
    }
    Ok(())
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
    // Ethernet, IPv4, lengths 6 and 4, request.
    frame.extend([0, 1, 0x08, 0, 6, 4, 0, 1]);
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

fn ethernet(to: MacAddr, from: MacAddr, ethertype: [u8; 2]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(86);
    frame.extend(to.0);
    frame.extend(from.0);
    frame.extend(ethertype);
    frame
}

/// The Internet checksum over the pseudo header of RFC 8200 section 8.1 and a message
/// of even length whose own checksum field is zero.
fn icmpv6_checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let addresses = from.segments().into_iter().chain(to.segments());
    let header = [u16::from(ADVERTISEMENT_LEN), u16::from(ICMPV6)];
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

/// A packet socket of the calling thread's namespace. Protocol 0 receives nothing.
fn packet_socket() -> nix::Result<OwnedFd> {
    socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
}

/// Sends a whole Ethernet frame from interface `ifindex`, packet(7).
fn send(socket: BorrowedFd<'_>, ifindex: u32, frame: &[u8]) -> nix::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(|_e| Errno::EAFNOSUPPORT)?,
        sll_protocol: u16::from_ne_bytes([frame[12], frame[13]]),
        sll_ifindex: i32::try_from(ifindex).map_err(|_e| Errno::ENODEV)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    };
    let len = libc::socklen_t::try_from(size_of_val(&address)).map_err(|_e| Errno::EINVAL)?;
    // SAFETY: `frame` is readable for its length and `address` for `len` bytes, its
    // own size; both outlive the call, which only reads them.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const address).cast(),
            len,
        )
    };
    Errno::result(sent).map(drop)
}
