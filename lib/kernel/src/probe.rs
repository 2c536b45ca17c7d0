//! Asking whether another station has an address before it is used: ARP probes (RFC 5227
//! section 2.1) and the neighbour solicitations of duplicate address detection (RFC 4862
//! section 5.4), faster than these have it and not before, but beside other work.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::NetNs;
use crate::announce::{ARP_ETHERNET_IPV4, BROADCAST, ETHERTYPE_ARP, ETHERTYPE_IPV6, ICMPV6};
use crate::announce::{ethernet, icmpv6_checksum};
use crate::error::Result;
use crate::names::MacAddr;
use crate::packet::{PacketSocket, Receive};

#[cfg(test)]
mod tests;

/// Probes for each address, and the time between them.
const PROBES: u32 = 3;
const GAP: Duration = Duration::from_millis(50);
/// How long answers to the last one are waited for.
const PATIENCE: Duration = Duration::from_millis(100);

const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// Another station that has, or is about to take, one of the addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The address.
    pub ip: IpAddr,
    /// The station's MAC address.
    pub mac: MacAddr,
}

/// Asks from interface `ifindex` of `ns`, which must be up and has the address `mac`, for
/// each of `addresses`; who has one first. `None` after 200 ms: nobody answered. Needs
/// none of the addresses to be set.
///
/// # Errors
/// When the namespace cannot be entered, the socket not opened (`CAP_NET_RAW`), or a
/// frame not sent (ENETDOWN: the interface is down).
pub fn holder_of(
    ns: &NetNs,
    ifindex: u32,
    mac: MacAddr,
    addresses: &[IpAddr],
) -> Result<Option<Holder>> {
    let frames: Vec<_> = addresses.iter().map(|ip| probe(mac, *ip)).collect();
    if frames.is_empty() {
        return Ok(None);
    }
    let socket = PacketSocket::open(ns, ifindex, Receive::All)?;
    for number in 1..=PROBES {
        for frame in &frames {
            socket.send(frame)?;
        }
        let wait = if number == PROBES { PATIENCE } else { GAP };
        let end = Instant::now() + wait;
        while let Some(frame) = socket.receive(end)? {
            let found = claim(&frame).filter(|claim| claim.mac != mac);
            if let Some(holder) = found.filter(|claim| addresses.contains(&claim.ip)) {
                return Ok(Some(holder));
            }
        }
    }
    Ok(None)
}

/// The question for one address.
fn probe(mac: MacAddr, ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => arp_probe(mac, ip),
        IpAddr::V6(ip) => neighbour_solicitation(mac, ip),
    }
}

/// A request whose sender has no address yet, so that nobody's table changes.
fn arp_probe(mac: MacAddr, ip: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, ETHERTYPE_ARP);
    frame.extend(ARP_ETHERNET_IPV4);
    frame.extend([0, 1]);
    frame.extend(mac.0);
    frame.extend([0; 4]);
    frame.extend([0; 6]);
    frame.extend(ip.octets());
    frame
}

/// From the unspecified address to the target's solicited-node group (RFC 4291 section
/// 2.7.1), without a link-layer address: the answer goes to all nodes.
fn neighbour_solicitation(mac: MacAddr, ip: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = ip.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    let mut icmp = vec![NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    icmp.extend(ip.octets());
    let sum = icmpv6_checksum(Ipv6Addr::UNSPECIFIED, group, &icmp).to_be_bytes();
    icmp[2..4].copy_from_slice(&sum);

    let to = MacAddr([0x33, 0x33, 0xff, a, b, c]);
    let mut frame = ethernet(to, mac, ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0, 0, 24, ICMPV6, 255]);
    frame.extend(Ipv6Addr::UNSPECIFIED.octets());
    frame.extend(group.octets());
    frame.extend(icmp);
    frame
}

/// The address that a frame claims for its sender, or asks for to take it.
fn claim(frame: &[u8]) -> Option<Holder> {
    let mac = MacAddr(frame.get(6..12)?.try_into().ok()?);
    let body = frame.get(14..)?;
    match frame.get(12..14)?.try_into().ok()? {
        ETHERTYPE_ARP => arp_claim(body),
        ETHERTYPE_IPV6 => ndp_claim(body).map(|ip| Holder { ip, mac }),
        _ => None,
    }
}

fn arp_claim(body: &[u8]) -> Option<Holder> {
    let address = |at: usize| -> Option<Ipv4Addr> {
        let octets: [u8; 4] = body.get(at..at + 4)?.try_into().ok()?;
        Some(octets.into())
    };
    body.starts_with(&ARP_ETHERNET_IPV4).then_some(())?;
    let mac = MacAddr(body.get(8..14)?.try_into().ok()?);
    let (sender, target) = (address(14)?, address(24)?);
    // Another's probe: it is about to take the address.
    let ip = if sender.is_unspecified() {
        target
    } else {
        sender
    };
    Some(Holder { ip: ip.into(), mac })
}

fn ndp_claim(body: &[u8]) -> Option<IpAddr> {
    const NEXT_HEADER: usize = 6;
    const SOURCE: std::ops::Range<usize> = 8..24;
    const MESSAGE: usize = 40;
    const TARGET: std::ops::Range<usize> = 48..64;
    (*body.get(NEXT_HEADER)? == ICMPV6).then_some(())?;
    let target: [u8; 16] = body.get(TARGET)?.try_into().ok()?;
    let source: [u8; 16] = body.get(SOURCE)?.try_into().ok()?;
    let claims = match *body.get(MESSAGE)? {
        NEIGHBOUR_ADVERTISEMENT => true,
        NEIGHBOUR_SOLICITATION => source == [0; 16],
        _ => false,
    };
    claims.then(|| Ipv6Addr::from(target).into())
}
