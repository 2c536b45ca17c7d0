//! Frames as they pass a link, with their VLAN tags, to say what was on the wire.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::sys::{self, Received};

/// An 802.1Q or 802.1ad tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanTag {
    /// 0x8100 (802.1Q) or 0x88a8 (802.1ad).
    pub tpid: u16,
    /// VLAN id, 0 to 4095.
    pub vid: u16,
    /// Priority, 0 to 7.
    pub pcp: u8,
}

/// One Ethernet frame, its outermost tag apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Destination address.
    pub destination: [u8; 6],
    /// Source address.
    pub source: [u8; 6],
    /// The outermost VLAN tag, whether the NIC took it off or not.
    pub vlan: Option<VlanTag>,
    /// Ethertype after that tag: 0x0800, 0x0806, 0x86dd.
    pub ethertype: u16,
    /// What follows the ethertype.
    pub payload: Vec<u8>,
    /// Whether this node sent it out of the link (packet type `PACKET_OUTGOING`).
    pub outgoing: bool,
}

/// A recording of one link since [`Capture::open`]; the kernel keeps the frames until
/// they are asked for.
#[derive(Debug)]
pub struct Capture {
    socket: OwnedFd,
}

impl Capture {
    /// Starts to record `link` of the calling thread's namespace; use
    /// [`crate::Space::capture`] for that of a pod.
    pub fn open(link: &str) -> Result<Self> {
        let socket = sys::open(link)?;
        Ok(Self { socket })
    }

    /// Every frame seen until now and for `more`.
    pub fn frames(&self, more: Duration) -> Result<Vec<Frame>> {
        let mut seen = Vec::new();
        self.until(more, |frame| {
            seen.push(frame.clone());
            false
        })?;
        Ok(seen)
    }

    /// The first frame that `wanted` accepts, or `None` after `limit`.
    pub fn until(
        &self,
        limit: Duration,
        mut wanted: impl FnMut(&Frame) -> bool,
    ) -> Result<Option<Frame>> {
        let end = Instant::now() + limit.max(sys::WAKE);
        while Instant::now() < end {
            let frame = sys::receive(&self.socket)?.and_then(Frame::from_received);
            if let Some(frame) = frame.filter(|f| wanted(f)) {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }
}

impl Frame {
    fn from_received(received: Received) -> Option<Self> {
        let outgoing = received.packet_type == libc::PACKET_OUTGOING;
        let mut frame = Self::parse(&received.bytes)?;
        frame.outgoing = outgoing;
        if let Some((tpid, tci)) = received.stripped {
            frame.vlan = Some(VlanTag::new(tpid, tci));
        }
        Some(frame)
    }

    /// A frame from its bytes; `None` when it is shorter than its headers.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let tpid = word(12)?;
        let tagged = matches!(tpid, 0x8100 | 0x88a8);
        let vlan = if tagged {
            Some(VlanTag::new(tpid, word(14)?))
        } else {
            None
        };
        let body = if tagged { 16 } else { 12 };
        Some(Self {
            destination: bytes.get(0..6)?.try_into().ok()?,
            source: bytes.get(6..12)?.try_into().ok()?,
            vlan,
            ethertype: word(body)?,
            payload: bytes.get(body + 2..)?.to_vec(),
            outgoing: false,
        })
    }

    /// The VLAN id of the outermost tag.
    pub fn vid(&self) -> Option<u16> {
        self.vlan.map(|tag| tag.vid)
    }
}

impl VlanTag {
    fn new(tpid: u16, tci: u16) -> Self {
        let [high, _] = tci.to_be_bytes();
        Self {
            tpid,
            vid: tci & 0x0fff,
            pcp: high >> 5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: [u8; 12] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1];

    #[test]
    fn tagged_and_untagged_frames_are_told_apart() {
        let plain = [&HEAD[..], &[0x08, 0x06, 1, 2]].concat();
        let frame = Frame::parse(&plain).unwrap();
        assert_eq!((frame.vid(), frame.ethertype), (None, 0x0806));
        assert_eq!(frame.payload, [1, 2]);

        let tagged = [&HEAD[..], &[0x81, 0x00, 0x60, 0x64, 0x08, 0x00, 9]].concat();
        let frame = Frame::parse(&tagged).unwrap();
        let tag = VlanTag {
            tpid: 0x8100,
            vid: 100,
            pcp: 3,
        };
        assert_eq!((frame.vlan, frame.ethertype), (Some(tag), 0x0800));
    }

    #[test]
    fn short_frames_are_nothing() {
        for len in 0..HEAD.len() {
            assert_eq!(Frame::parse(&HEAD[..len]), None);
        }
        let cut = [&HEAD[..], &[0x81, 0x00, 0x00]].concat();
        assert_eq!(Frame::parse(&cut), None);
    }

    #[test]
    fn a_tag_the_nic_took_off_is_put_back() {
        let received = Received {
            bytes: [&HEAD[..], &[0x08, 0x00, 5]].concat(),
            stripped: Some((0x8100, 0x0064)),
            packet_type: libc::PACKET_OUTGOING,
        };
        let frame = Frame::from_received(received).unwrap();
        assert_eq!(frame.vid(), Some(100));
        assert!(frame.outgoing);
    }
}
