//! The blocking netlink socket: send a request, wait for its answer, and put the
//! kernel's own words into the error.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::AsFd;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use super::wire::{Answer, End, Fault, Request};
use crate::names::IfName;
use crate::netns::NetNs;
use crate::{Error, Result};

pub(super) const NLM_F_REQUEST: u16 = 1;
pub(super) const NLM_F_ACK: u16 = 4;
/// Tell of the change the one who asked for it, too.
const NLM_F_ECHO: u16 = 8;
const NLM_F_DUMP: u16 = 0x300;
/// Create the object.
pub(super) const NLM_F_CREATE: u16 = 0x400;
/// Refuse if it exists.
pub(super) const NLM_F_EXCL: u16 = 0x200;
/// Replace it if it exists.
pub(super) const NLM_F_REPLACE: u16 = 0x100;

/// How long the kernel may keep us waiting before we call it hung. Its slowest
/// answers wait for the rtnl lock behind namespace moves of some 30 ms each.
const PATIENCE_SECONDS: i64 = 10;
/// How often a dump that raced with a change is started again. Each lost race
/// means that another process got its change done.
pub(super) const DUMP_TRIES: usize = 20;
/// Dumps come in pieces as large as the largest buffer offered so far, 32 KiB at
/// most; larger pieces mean fewer chances to be interrupted.
const BUFFER: usize = 32 * 1024;
/// More than an acknowledgement takes: a status, the request's header, and a sentence.
const VERDICT: usize = 4096;

/// A connection to the kernel's routing tables and links of one network namespace.
/// It stays in the namespace it was opened in, whoever uses it from wherever.
pub struct Net {
    channel: Channel,
}

/// One netlink socket, of whatever protocol, and the number of its last request.
pub(super) struct Channel {
    pub(super) socket: Socket,
    sequence: Cell<u32>,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net").finish_non_exhaustive()
    }
}

/// What a request is about, for the error.
#[derive(Debug, Clone, Copy)]
pub(super) enum Object<'a> {
    /// A link by name.
    Name(&'a IfName),
    /// A link by index; an error looks its name up.
    Index(u32),
    /// Anything else in words.
    Text(&'a str),
}

impl Net {
    /// Opens a connection in the calling thread's namespace.
    pub fn open() -> Result<Self> {
        Self::open_with(TimeVal::seconds(PATIENCE_SECONDS))
    }

    fn open_with(patience: TimeVal) -> Result<Self> {
        let channel = Channel::open_with(NETLINK_ROUTE, patience)?;
        // Filters of dumps are honoured, and fields we got wrong refused.
        let strict = channel.socket.set_netlink_get_strict_chk(true);
        strict.map_err(|error| Error::io("open", "netlink socket", &error))?;
        Ok(Self { channel })
    }

    /// Opens a connection in namespace `ns`, to be used from outside.
    pub fn open_in(ns: &NetNs) -> Result<Self> {
        let net = ns.run(Self::open)??;
        ns.learn_cookie(net.channel.socket.as_fd());
        Ok(net)
    }

    /// Asks for a change and waits until it is done. `op` is the wish as a verb
    /// phrase, with its value.
    pub(super) fn act(
        &self,
        op: impl Into<String>,
        object: Object<'_>,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<()> {
        let op = op.into();
        let flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        match self.channel.exchange(&message.into(), flags, End::Ack) {
            Ok(answer) => {
                log::debug!("{op} {object}");
                if let Some(remark) = answer.remark {
                    log::warn!("{op} {object}: the kernel remarks: {remark}");
                }
                Ok(())
            }
            Err(fault) => Err(self.error(op, object, fault)),
        }
    }

    /// Asks for one object; the body of its message. `None`: there is no such
    /// device.
    pub(super) fn find(
        &self,
        object: Object<'_>,
        message: RouteNetlinkMessage,
    ) -> Result<Option<Vec<u8>>> {
        match self
            .channel
            .exchange(&message.into(), NLM_F_REQUEST, End::First)
        {
            Ok(mut answer) => Ok(answer.bodies.pop()),
            Err(Fault::Refused(Errno::ENODEV, _)) => Ok(None),
            // By index alone: the name is what could not be found out.
            Err(fault) => Err(fault.into_error("look up".into(), object.to_string())),
        }
    }

    /// Asks for one object of those whose look-up the kernel answers like a change: with
    /// an echo, if it tells of them at all, and then an acknowledgement (queueing
    /// disciplines). `None`: there is no such object, or it is not told of.
    pub(super) fn find_echoed(
        &self,
        object: Object<'_>,
        message: RouteNetlinkMessage,
    ) -> Result<Option<Vec<u8>>> {
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_ECHO;
        match self.channel.exchange(&message.into(), flags, End::Ack) {
            Ok(mut answer) => Ok(answer.bodies.pop()),
            Err(Fault::Refused(Errno::ENODEV | Errno::ENOENT, _)) => Ok(None),
            Err(fault) => Err(fault.into_error("look up".into(), object.to_string())),
        }
    }

    /// Asks for a whole table; the bodies of its messages. A dump that raced with a
    /// change is repeated (`NLM_F_DUMP_INTR`); one that keeps racing ends in EINTR,
    /// which is of the kind "try again".
    pub(super) fn dump(
        &self,
        op: &str,
        object: Object<'_>,
        request: impl Into<Request>,
    ) -> Result<Vec<Vec<u8>>> {
        let dumped = self.channel.dump(&request.into());
        dumped.map_err(|fault| self.error(op.into(), object, fault))
    }

    /// Asks for a table until `wished` says so of one of its messages; whether it did. What
    /// is left of the table stays unread, so the connection ends here.
    pub(super) fn search(
        self,
        op: &str,
        object: Object<'_>,
        request: impl Into<Request>,
        wished: impl FnMut(&[u8]) -> bool,
    ) -> Result<bool> {
        let found = self.channel.search(&request.into(), wished);
        found.map_err(|fault| self.error(op.into(), object, fault))
    }

    /// The error for a failed request; a link known by index gets its name added.
    fn error(&self, op: String, object: Object<'_>, fault: Fault) -> Error {
        let object = match (object, &fault) {
            (Object::Index(index), Fault::Refused(..)) => match self.find_link_at(index) {
                Ok(Some(link)) => link.name.to_string(),
                _ => object.to_string(),
            },
            _ => object.to_string(),
        };
        fault.into_error(op, object)
    }
}

impl Channel {
    /// Opens a socket in the calling thread's namespace.
    pub(super) fn open(protocol: isize) -> Result<Self> {
        Self::open_with(protocol, TimeVal::seconds(PATIENCE_SECONDS))
    }

    fn open_with(protocol: isize, patience: TimeVal) -> Result<Self> {
        let failed = |e: io::Error| Error::io("open", "netlink socket", &e);
        let socket = Socket::new(protocol).map_err(failed)?;
        // Connected to the kernel, which binds it, it takes no message from another process.
        socket.connect(&SocketAddr::new(0, 0)).map_err(failed)?;
        // The kernel's reason in words, without the request repeated before it.
        socket.set_ext_ack(true).map_err(failed)?;
        socket.set_cap_ack(true).map_err(failed)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience)
            .map_err(|errno| Error::errno("set timeout of", "netlink socket", errno))?;
        Ok(Self {
            socket,
            sequence: Cell::new(0),
        })
    }

    /// Takes `count` numbers for requests; the first of them.
    pub(super) fn number(&self, count: u32) -> u32 {
        let last = self.sequence.get();
        self.sequence.set(last.wrapping_add(count));
        last.wrapping_add(1)
    }

    /// Sends bytes that are whole messages.
    pub(super) fn send(&self, frames: &[u8]) -> std::result::Result<(), Fault> {
        retry_interrupted(|| self.socket.send(frames, 0)).map(|_| ())
    }

    /// Sends a request and waits for its answer.
    pub(super) fn exchange(
        &self,
        request: &Request,
        flags: u16,
        end: End,
    ) -> std::result::Result<Answer, Fault> {
        let mut answer = self.ask(request, flags, end)?;
        let receive = match end {
            End::Ack if flags & NLM_F_ECHO == 0 => receive_verdict,
            _ => receive,
        };
        while !answer.take(&receive(&self.socket)?)? {}
        Ok(answer)
    }

    /// Sends a request; its answer, nothing of which has come yet.
    fn ask(&self, request: &Request, flags: u16, end: End) -> std::result::Result<Answer, Fault> {
        let sequence = self.number(1);
        let frame = request.frame(flags, sequence);
        self.send(&frame.ok_or(Fault::Socket(Errno::EMSGSIZE))?)?;
        Ok(Answer::new(sequence, end))
    }

    /// Asks for a whole table; the bodies of its messages. One that raced with a
    /// change is asked for again.
    pub(super) fn dump(&self, request: &Request) -> std::result::Result<Vec<Vec<u8>>, Fault> {
        let flags = NLM_F_REQUEST | NLM_F_DUMP;
        again_if_interrupted(|| Ok(self.exchange(request, flags, End::Done)?.bodies))
    }

    /// As [`Channel::dump`], until `wished` says so of a message; whether it did.
    fn search(
        &self,
        request: &Request,
        mut wished: impl FnMut(&[u8]) -> bool,
    ) -> std::result::Result<bool, Fault> {
        again_if_interrupted(|| {
            let mut answer = self.ask(request, NLM_F_REQUEST | NLM_F_DUMP, End::Done)?;
            loop {
                let whole = answer.take(&receive(&self.socket)?);
                if answer.bodies.drain(..).any(|body| wished(&body)) {
                    return Ok(true);
                }
                if whole? {
                    return Ok(false);
                }
            }
        })
    }
}

fn again_if_interrupted<T>(
    mut read: impl FnMut() -> std::result::Result<T, Fault>,
) -> std::result::Result<T, Fault> {
    for _ in 1..DUMP_TRIES {
        match read() {
            Err(Fault::Interrupted) => {
                log::debug!("the table changed while it was read, asking again");
            }
            other => return other,
        }
    }
    read()
}

/// One datagram from the kernel, whole, however long it is.
pub(super) fn receive(socket: &Socket) -> std::result::Result<Vec<u8>, Fault> {
    let mut buffer = Vec::with_capacity(BUFFER);
    let peek = libc::MSG_PEEK | libc::MSG_TRUNC;
    let (len, _) = retry_interrupted(|| {
        buffer.clear();
        socket.recv_from(&mut buffer, peek)
    })?;
    buffer.clear();
    buffer.reserve(len);
    retry_interrupted(|| socket.recv_from(&mut buffer, 0))?;
    Ok(buffer)
}

/// One datagram that acknowledges or refuses a change: a few words, for which it is not
/// worth asking how long it is.
fn receive_verdict(socket: &Socket) -> std::result::Result<Vec<u8>, Fault> {
    let mut buffer = Vec::with_capacity(VERDICT);
    retry_interrupted(|| {
        buffer.clear();
        socket.recv_from(&mut buffer, 0)
    })?;
    Ok(buffer)
}

fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> std::result::Result<T, Fault> {
    loop {
        match call() {
            Ok(value) => return Ok(value),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // What SO_RCVTIMEO makes of a wait that was too long.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                return Err(Fault::Socket(Errno::ETIMEDOUT));
            }
            Err(e) => {
                let errno = e.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
                return Err(Fault::Socket(errno));
            }
        }
    }
}

impl Fault {
    pub(super) fn into_error(self, op: String, object: String) -> Error {
        match self {
            Self::Refused(errno, text) => Error::errno(op, object, errno).because(text),
            Self::Socket(errno) => Error::errno(op, object, errno)
                .because(Some("no usable answer on the netlink socket".into())),
            Self::Interrupted => Error::errno(op, object, Errno::EINTR).because(Some(format!(
                "the table changed during each of {DUMP_TRIES} readings"
            ))),
            Self::Malformed(reason) => Error::malformed(op, object, reason),
        }
    }
}

impl fmt::Display for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Index(index) => write!(f, "interface {index}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests;
