//! Frames made by hand and recognised when they come out somewhere.

use std::time::Duration;

use anyhow::Result;

use crate::capture::{Capture, Frame};

/// Local experimental ethertype 1 (IEEE 802): nobody else here sends it.
pub const MARK: u16 = 0x88b5;
/// Ethertype of ARP.
pub const ARP: u16 = 0x0806;
/// Ethertype of IPv6.
pub const IPV6: u16 = 0x86dd;
/// To all stations.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// Type of an 802.1Q tag.
pub const Q: u16 = 0x8100;
/// Type of an 802.1ad tag.
pub const AD: u16 = 0x88a8;

/// A broadcast marked with `number`, under these VLAN tags, outermost first.
pub fn marked(source: [u8; 6], tags: &[u16], number: u8) -> Vec<u8> {
    let tags: Vec<_> = tags.iter().map(|vid| (Q, *vid)).collect();
    marked_to(BROADCAST, source, &tags, number)
}

/// The same to `destination`, each tag of a type of its own.
pub fn marked_to(
    destination: [u8; 6],
    source: [u8; 6],
    tags: &[(u16, u16)],
    number: u8,
) -> Vec<u8> {
    let mut frame = [destination, source].concat();
    for (tag, vid) in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend(vid.to_be_bytes());
    }
    frame.extend(MARK.to_be_bytes());
    frame.push(number);
    frame.resize(64.max(frame.len()), 0);
    frame
}

/// The number of a frame of [`marked`], also behind a second tag.
pub fn mark_of(frame: &Frame) -> Option<u8> {
    let (kind, rest) = match (frame.ethertype, frame.payload.as_slice()) {
        (Q | AD, [_, _, high, low, rest @ ..]) => (u16::from_be_bytes([*high, *low]), rest),
        (kind, rest) => (kind, rest),
    };
    let number = rest.first().copied();
    number.filter(|_| kind == MARK && !frame.outgoing)
}

/// The marks seen until `last`, or within half a second.
pub fn marks(capture: &Capture, last: u8) -> Result<Vec<u8>> {
    let mut seen = Vec::new();
    capture.until(Duration::from_millis(500), |frame| {
        seen.extend(mark_of(frame));
        seen.last() == Some(&last)
    })?;
    Ok(seen)
}

/// Whether a frame is an ARP packet that tells of `address` unasked: sender and target
/// are the same (RFC 5227, section 3).
pub fn is_gratuitous_arp(frame: &Frame, address: [u8; 4]) -> bool {
    let field = |at: usize| frame.payload.get(at..at + 4) == Some(&address[..]);
    frame.ethertype == ARP && !frame.outgoing && field(14) && field(24)
}

/// Whether a frame is a neighbour advertisement for `target` with the solicited flag
/// clear (RFC 4861, section 4.4).
pub fn is_unsolicited_na(frame: &Frame, target: [u8; 16]) -> bool {
    const NEXT_HEADER: usize = 6;
    const ICMP: usize = 40;
    let byte = |at: usize| frame.payload.get(at).copied();
    let solicited = byte(ICMP + 4).is_none_or(|flags| flags & 0x40 != 0);
    frame.ethertype == IPV6
        && !frame.outgoing
        && byte(NEXT_HEADER) == Some(58)
        && byte(ICMP) == Some(136)
        && !solicited
        && frame.payload.get(ICMP + 8..ICMP + 24) == Some(&target[..])
}
