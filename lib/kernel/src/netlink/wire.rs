//! Netlink messages as bytes: requests framed, datagrams taken apart, the kernel's
//! acknowledgements understood. Nothing here does I/O.

use netlink_packet_core::NetlinkSerializable;
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;

use super::attr::{Attrs, align, u16_at, u32_at};

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
const NLMSG_NOOP: u16 = 1;
pub(super) const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
/// `enum nlmsgerr_attrs`: the kernel's sentence.
const NLMSGERR_ATTR_MSG: u16 = 1;
/// include/linux/errno.h; meant for the kernel itself, yet some drivers let it out.
const ENOTSUPP: i32 = 524;

/// A request without its frame: message type and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// `RTM_*`.
    pub(super) kind: u16,
    /// What follows the netlink header.
    pub(super) body: Vec<u8>,
}

impl From<RouteNetlinkMessage> for Request {
    fn from(message: RouteNetlinkMessage) -> Self {
        let mut body = vec![0; message.buffer_len()];
        message.serialize(&mut body);
        Self {
            kind: message.message_type(),
            body,
        }
    }
}

impl Request {
    /// The request as it goes to the kernel; `None` if it is longer than a netlink
    /// message can be.
    pub(super) fn frame(&self, flags: u16, sequence: u32) -> Option<Vec<u8>> {
        let len = u32::try_from(HEADER + self.body.len()).ok()?;
        let mut bytes = Vec::with_capacity(HEADER + self.body.len());
        bytes.extend(len.to_ne_bytes());
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]); // port: the kernel fills in the sender's
        bytes.extend(&self.body);
        Some(bytes)
    }
}

/// What ends the answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// An acknowledgement.
    Ack,
    /// The first message: a look-up of one object.
    First,
    /// The end mark of a dump.
    Done,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The kernel refused, perhaps with a sentence.
    Refused(Errno, Option<String>),
    /// The socket failed.
    Socket(Errno),
    /// The table changed while it was dumped: what came is inconsistent.
    Interrupted,
    /// What came is not netlink.
    Malformed(&'static str),
}

/// The answer to one request, while it arrives.
#[derive(Debug)]
pub(super) struct Answer {
    sequence: u32,
    end: End,
    interrupted: bool,
    /// Bodies of the messages that came.
    pub(super) bodies: Vec<Vec<u8>>,
    /// What the kernel remarked although it did what was asked.
    pub(super) remark: Option<String>,
}

impl Answer {
    /// An answer nothing of which has come yet.
    pub(super) fn new(sequence: u32, end: End) -> Self {
        Self {
            sequence,
            end,
            interrupted: false,
            bodies: Vec::new(),
            remark: None,
        }
    }

    /// Takes in one datagram; `true` once the answer is complete. Messages of other
    /// sequence numbers belong to requests given up earlier and are passed over.
    pub(super) fn take(&mut self, mut datagram: &[u8]) -> Result<bool, Fault> {
        while !datagram.is_empty() {
            let (message, rest) = Message::split(datagram)?;
            datagram = rest;
            if message.sequence == self.sequence && self.take_message(&message)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn take_message(&mut self, message: &Message<'_>) -> Result<bool, Fault> {
        self.interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
        match message.kind {
            NLMSG_NOOP => return Ok(false),
            NLMSG_ERROR => {
                self.remark = message.acknowledged()?;
                return Ok(true);
            }
            NLMSG_DONE => {
                // The kernel may leave the status out.
                let status = if message.body.is_empty() { 0 } else { 4 };
                self.remark = message.verdict(status)?;
                return if self.interrupted {
                    Err(Fault::Interrupted)
                } else {
                    Ok(true)
                };
            }
            _ => self.bodies.push(message.body.to_vec()),
        }
        Ok(self.end == End::First)
    }
}

/// What the kernel tells without having been asked: message type and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    /// `RTM_*`.
    pub(super) kind: u16,
    /// What follows the netlink header.
    pub(super) body: Vec<u8>,
}

/// The messages of one datagram nobody asked for.
pub(super) fn notices(mut datagram: &[u8]) -> Result<Vec<Notice>, Fault> {
    let mut told = Vec::new();
    while !datagram.is_empty() {
        let (message, rest) = Message::split(datagram)?;
        datagram = rest;
        told.push(Notice {
            kind: message.kind,
            body: message.body.to_vec(),
        });
    }
    Ok(told)
}

/// One message of a datagram.
pub(super) struct Message<'a> {
    /// `RTM_*`, `NLMSG_*`.
    pub(super) kind: u16,
    flags: u16,
    /// The number of the request it answers.
    pub(super) sequence: u32,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The first message of a datagram, and what follows it.
    pub(super) fn split(datagram: &'a [u8]) -> Result<(Self, &'a [u8]), Fault> {
        let cut = Fault::Malformed("the kernel's message is cut short");
        let parsed = (|| {
            let len = usize::try_from(u32_at(datagram, 0)?).ok()?;
            let message = Self {
                kind: u16_at(datagram, 4)?,
                flags: u16_at(datagram, 6)?,
                sequence: u32_at(datagram, 8)?,
                body: datagram.get(HEADER..len)?,
            };
            Some((message, datagram.get(align(len)..).unwrap_or_default()))
        })();
        parsed.ok_or(cut)
    }

    /// What an NLMSG_ERROR says: success with the kernel's remark, or its refusal.
    pub(super) fn acknowledged(&self) -> Result<Option<String>, Fault> {
        self.verdict(self.echo())
    }

    /// Where the attributes of an NLMSG_ERROR begin: after the status and what the
    /// kernel repeats of the request, its header alone if it says so.
    fn echo(&self) -> usize {
        let request = u32_at(self.body, 4).and_then(|len| usize::try_from(len).ok());
        if self.flags & NLM_F_CAPPED == 0 {
            4 + align(request.unwrap_or(HEADER))
        } else {
            4 + HEADER
        }
    }

    /// Success with the kernel's remark, or its refusal; the attributes with the
    /// text begin at `attributes`.
    fn verdict(&self, attributes: usize) -> Result<Option<String>, Fault> {
        let text = if self.flags & NLM_F_ACK_TLVS == 0 {
            None
        } else {
            Attrs::after(self.body, attributes)
                .find(|attr| attr.kind == NLMSGERR_ATTR_MSG)
                .map(|attr| attr.text())
        };
        let status = match u32_at(self.body, 0) {
            Some(status) => status.cast_signed(),
            None if self.kind == NLMSG_DONE => 0,
            None => return Err(Fault::Malformed("the kernel's verdict is cut short")),
        };
        if status == 0 {
            Ok(text)
        } else {
            let errno = match status.saturating_neg() {
                ENOTSUPP => Errno::EOPNOTSUPP,
                errno => Errno::from_raw(errno),
            };
            Err(Fault::Refused(errno, text))
        }
    }
}

#[cfg(test)]
mod tests;
