//! Whole Ethernet frames in and out of one link, packet(7).

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::NetNs;
use crate::error::{Error, Result};

/// More than any frame that is looked at here; the rest of a longer one is cut off.
const LONGEST: usize = 2048;

/// What a socket is to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receive {
    /// Nothing: it only sends.
    Nothing,
    /// Frames of every kind, those this node sends among them.
    All,
}

/// A packet socket on one link of a namespace; it stays there, whoever uses it.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    fd: OwnedFd,
    ifindex: u32,
    object: String,
}

impl PacketSocket {
    /// Opens one on interface `ifindex` of `ns`.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the socket not be opened (`CAP_NET_RAW`).
    pub(crate) fn open(ns: &NetNs, ifindex: u32, receive: Receive) -> Result<Self> {
        let object = format!("interface {ifindex} of namespace {}", ns.path().display());
        // Protocol 0 receives nothing, until it is bound to another.
        let raw = || {
            socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                None,
            )
        };
        let fd = ns
            .run(raw)?
            .map_err(|errno| Error::errno("open a packet socket for", &object, errno))?;
        let this = Self {
            fd,
            ifindex,
            object,
        };
        if receive == Receive::All {
            let all = u16::try_from(libc::ETH_P_ALL).unwrap_or_default().to_be();
            this.bind(all)
                .map_err(|errno| Error::errno("listen on", &this.object, errno))?;
        }
        Ok(this)
    }

    fn bind(&self, protocol: u16) -> nix::Result<()> {
        let (address, len) = address(self.ifindex, protocol)?;
        // SAFETY: `address` is readable for `len` bytes, its own size, and outlives the
        // call, which only reads it.
        let bound = unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), len) };
        Errno::result(bound).map(drop)
    }

    /// Sends a whole frame, Ethernet header included.
    ///
    /// # Errors
    /// ENETDOWN: the interface is down; else what the kernel refused.
    pub(crate) fn send(&self, frame: &[u8]) -> Result<()> {
        self.transmit(frame)
            .map_err(|errno| Error::errno("send a frame from", &self.object, errno))
    }

    fn transmit(&self, frame: &[u8]) -> nix::Result<()> {
        let ethertype = frame.get(12..14).and_then(|b| b.try_into().ok());
        let ethertype = u16::from_ne_bytes(ethertype.ok_or(Errno::EINVAL)?);
        let (address, len) = address(self.ifindex, ethertype)?;
        // SAFETY: `frame` is readable for its length and `address` for `len` bytes, its
        // own size; both outlive the call, which only reads them.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                len,
            )
        };
        Errno::result(sent).map(drop)
    }

    /// The next frame, its first 2048 bytes; `None` if none comes until `end`.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(crate) fn receive(&self, end: Instant) -> Result<Option<Vec<u8>>> {
        self.wait_and_take(end)
            .map_err(|errno| Error::errno("receive from", &self.object, errno))
    }

    fn wait_and_take(&self, end: Instant) -> nix::Result<Option<Vec<u8>>> {
        loop {
            let left = end.saturating_duration_since(Instant::now()).as_micros();
            if left == 0 {
                return Ok(None);
            }
            let patience = TimeVal::microseconds(i64::try_from(left).unwrap_or(i64::MAX));
            setsockopt(&self.fd, sockopt::ReceiveTimeout, &patience)?;
            let mut frame = vec![0; LONGEST];
            match recv(self.fd.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                Ok(len) => {
                    frame.truncate(len);
                    return Ok(Some(frame));
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// A link's address for a packet socket, with its length; `protocol` in network order.
fn address(ifindex: u32, protocol: u16) -> nix::Result<(libc::sockaddr_ll, libc::socklen_t)> {
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(|_e| Errno::EAFNOSUPPORT)?,
        sll_protocol: protocol,
        sll_ifindex: i32::try_from(ifindex).map_err(|_e| Errno::ENODEV)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    };
    let len = libc::socklen_t::try_from(size_of_val(&address)).map_err(|_e| Errno::EINVAL)?;
    Ok((address, len))
}
