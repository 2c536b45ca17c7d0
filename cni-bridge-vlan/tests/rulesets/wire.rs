//! Frames out of and into a container, as a program with CAP_NET_RAW sends and receives
//! them.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use berth_kernel::MacAddr;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::node::Host;

/// Of local experiments (IEEE 802): nobody else's frames are of this kind.
const EXPERIMENT: u16 = 0x88b5;
/// `ETH_P_ALL`: with every tag.
const ALL: u16 = 3;

pub(crate) const BROADCAST: MacAddr = MacAddr([0xff; 6]);
/// A link-local group the bridge keeps to itself: 802.1X.
pub(crate) const EAPOL: MacAddr = MacAddr([1, 0x80, 0xc2, 0, 0, 3]);

/// A socket on a container's `eth0`.
pub(crate) struct Wire {
    socket: OwnedFd,
    eth0: u32,
}

impl Wire {
    pub(crate) fn of(host: &Host) -> Self {
        let kind = i32::from(ALL.to_be());
        let open = || {
            // SAFETY: no pointer is passed.
            let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, kind) };
            assert!(socket >= 0, "{}", std::io::Error::last_os_error());
            // SAFETY: it was just opened and nobody else has it.
            unsafe { OwnedFd::from_raw_fd(socket) }
        };
        let socket = host.ns.run(open).unwrap();
        let patience = TimeVal::milliseconds(200);
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience).unwrap();
        Self {
            socket,
            eth0: host.eth0,
        }
    }

    /// Sends a frame under these tags, outermost first, each a type and a VLAN.
    pub(crate) fn send(&self, from: MacAddr, to: MacAddr, tags: &[(u16, u16)]) {
        let mut frame = [to.0, from.0].concat();
        for (kind, vlan) in tags {
            frame.extend(kind.to_be_bytes());
            frame.extend(vlan.to_be_bytes());
        }
        frame.extend(EXPERIMENT.to_be_bytes());
        frame.resize(64, 0);
        // SAFETY: all zero is a value of this structure of numbers.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
        address.sll_ifindex = i32::try_from(self.eth0).unwrap();
        let len = u32::try_from(size_of_val(&address)).unwrap();
        // SAFETY: both pointers are to values that live, of the lengths given.
        let sent = unsafe {
            let (socket, address) = (self.socket.as_raw_fd(), (&raw const address).cast());
            libc::sendto(socket, frame.as_ptr().cast(), frame.len(), 0, address, len)
        };
        assert_eq!(sent, 64, "{}", std::io::Error::last_os_error());
    }

    /// The senders of what comes in before the frame of `last`, which must come.
    pub(crate) fn senders_until(&self, last: MacAddr) -> Vec<MacAddr> {
        let mut senders = Vec::new();
        let mut frame = [0; 128];
        loop {
            let got = recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::empty());
            got.unwrap_or_else(|errno| panic!("{last} does not come: {errno}, only {senders:?}"));
            let [_, _, _, _, _, _, from @ ..] = frame;
            let from = MacAddr(*from.first_chunk().unwrap());
            if from == last {
                return senders;
            }
            senders.push(from);
        }
    }

    /// Whether a frame of this sender comes in. Its own are not meant.
    pub(crate) fn came_from(&self, from: MacAddr) -> bool {
        let mut frame = [0; 128];
        loop {
            match recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                Ok(_) if frame[6..12] == from.0 => return true,
                Ok(_) => {}
                Err(Errno::EAGAIN) => return false,
                Err(errno) => panic!("receive: {errno}"),
            }
        }
    }
}
