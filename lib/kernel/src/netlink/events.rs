//! What happens to links, told by the kernel as it happens (rtnetlink(7), group
//! RTNLGRP_LINK), and the bounded wait for one to be able to carry frames.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use super::link;
use super::socket::{Net, receive};
use super::wire::{Fault, Notice, notices};
use crate::error::{Error, Result};
use crate::names::IfName;
use crate::netns::NetNs;

/// A subscription to what happens to the links of one network namespace, from its
/// opening on. It stays in that namespace, whoever uses it from wherever.
pub struct LinkEvents {
    socket: Socket,
    waiting: VecDeque<LinkEvent>,
}

/// A link that came, changed or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkEvent {
    /// Index in its namespace.
    pub index: u32,
    /// Name; of an unspeakable one what [`Link::name`](super::Link::name) has.
    pub name: IfName,
    /// Whether it is gone: deleted, or moved to another namespace.
    pub deleted: bool,
    /// Whether it can carry frames, see [`Link::running`](super::Link::running).
    pub running: bool,
}

impl fmt::Debug for LinkEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkEvents").finish_non_exhaustive()
    }
}

impl LinkEvents {
    /// Subscribes in the calling thread's namespace.
    ///
    /// # Errors
    /// When the socket cannot be opened.
    pub fn open() -> Result<Self> {
        let failed = |e: io::Error| Error::io("open", "netlink socket for link events", &e);
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed)?;
        let group = libc::RTMGRP_LINK.cast_unsigned();
        socket.bind(&SocketAddr::new(0, group)).map_err(failed)?;
        Ok(Self {
            socket,
            waiting: VecDeque::new(),
        })
    }

    /// Subscribes in namespace `ns`, to be used from outside.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the socket not be opened.
    pub fn open_in(ns: &NetNs) -> Result<Self> {
        ns.run(Self::open)?
    }

    /// The next event; `None` if there was none for `timeout`.
    ///
    /// # Errors
    /// ENOBUFS, which is of the kind "try again": events were lost because nobody
    /// read them. What is known of the links is to be read anew; later calls go on.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<LinkEvent>> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(Some(event));
            }
            if !self.fill(deadline.saturating_duration_since(Instant::now()))? {
                return Ok(None);
            }
        }
    }

    /// Waits until link `index` of the namespace `net` is in can carry frames, no
    /// longer than `limit`; whether it can. To be opened before the link is set up:
    /// what happened before that is asked of `net`.
    ///
    /// # Errors
    /// When the kernel cannot be asked; ENODEV when the link is gone.
    pub fn wait_running(&mut self, net: &Net, index: u32, limit: Duration) -> Result<bool> {
        let deadline = Instant::now() + limit;
        if net.link_at(index)?.running {
            return Ok(true);
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.next(left) {
                Ok(None) => return Ok(false),
                Ok(Some(event)) if event.index != index => continue,
                Ok(Some(event)) if !event.running && !event.deleted => continue,
                // An event is of the past, and lost ones say nothing: look.
                Ok(Some(_)) => {}
                Err(error) if error.errno == Some(Errno::ENOBUFS) => {}
                Err(error) => return Err(error),
            }
            if net.link_at(index)?.running {
                return Ok(true);
            }
        }
    }

    /// One datagram's events into the queue; `false` if none came for `timeout`.
    fn fill(&mut self, timeout: Duration) -> Result<bool> {
        // No time at all would mean any time to the kernel.
        let micros = timeout.as_micros().max(1);
        let patience = TimeVal::microseconds(i64::try_from(micros).unwrap_or(i64::MAX));
        setsockopt(&self.socket, sockopt::ReceiveTimeout, &patience)
            .map_err(|errno| Error::errno("set timeout of", "link events", errno))?;
        let told = match receive(&self.socket) {
            Err(Fault::Socket(Errno::ETIMEDOUT)) => return Ok(false),
            received => received.and_then(|datagram| notices(&datagram)),
        };
        let told = told.map_err(unread)?;
        self.waiting.extend(told.iter().filter_map(LinkEvent::of));
        Ok(true)
    }
}

fn unread(fault: Fault) -> Error {
    let error = fault.into_error("read".into(), "link events".into());
    if error.errno == Some(Errno::ENOBUFS) {
        let reason = "they came faster than they were read and some are lost";
        return error.because(Some(reason.into()));
    }
    error
}

impl AsFd for LinkEvents {
    /// Readable when there are events, for poll(2); one wake-up may bring several.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl LinkEvent {
    fn of(notice: &Notice) -> Option<Self> {
        let deleted = match notice.kind {
            libc::RTM_NEWLINK => false,
            libc::RTM_DELLINK => true,
            _ => return None,
        };
        match link::decode(&notice.body) {
            Ok(link) => Some(Self {
                index: link.index,
                running: link.running && !deleted,
                name: link.name,
                deleted,
            }),
            Err(error) => {
                log::warn!("{error}; passing over this event");
                None
            }
        }
    }
}

/// Waits until link `index` of namespace `ns` can carry frames, no longer than `limit`;
/// whether it can.
///
/// # Errors
/// When the namespace cannot be entered or the kernel not be asked; ENODEV when there is
/// no such link, or no longer.
pub fn wait_running(ns: &NetNs, index: u32, limit: Duration) -> Result<bool> {
    // Subscribed first: what changes between the two is not missed.
    let mut events = LinkEvents::open_in(ns)?;
    events.wait_running(&Net::open_in(ns)?, index, limit)
}

#[cfg(test)]
mod tests;
