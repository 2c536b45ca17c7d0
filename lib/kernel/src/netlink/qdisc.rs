//! Queueing disciplines (rtnetlink(7), RTM_*QDISC): the token bucket that holds what a
//! link sends to a rate (tc-tbf(8)), and the place where what it receives is looked at.

use netlink_packet_core::DefaultNla;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcHeader, TcMessage, TcOption};
use nix::errno::Errno;

use super::attr::{Attrs, find, u32_at};
use super::socket::{NLM_F_CREATE, NLM_F_EXCL, Net, Object};
use crate::{Error, Result};

/// Length of `struct tcmsg`.
pub(super) const TCMSG: usize = 20;
/// include/uapi/linux/rtnetlink.h, in every message about queueing.
pub(super) const TCA_KIND: u16 = 1;
pub(super) const TCA_OPTIONS: u16 = 2;
/// include/uapi/linux/pkt_sched.h, inside TCA_OPTIONS of a `tbf`.
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
/// Length of `struct tc_ratespec`, the rate in its last four bytes.
const RATESPEC: usize = 12;
/// `TC_LINKLAYER_ETHERNET`: what a frame costs is its length, no table is needed.
const LINKLAYER_ETHERNET: u8 = 1;

/// Handle of the root discipline: `1:`, as tc(8) writes it.
const ROOT_HANDLE: TcHandle = TcHandle { major: 1, minor: 0 };
/// Handle of the discipline for what is received: `ffff:`.
pub(super) const INGRESS_HANDLE: TcHandle = TcHandle {
    major: u16::MAX,
    minor: 0,
};

/// The unit in which the kernel tells times of a discipline: `PSCHED_SHIFT` of
/// include/net/pkt_sched.h; the second word of `/proc/net/psched`.
const NANOSECONDS_PER_TICK: u128 = 64;
const NANOSECONDS_PER_SECOND: u128 = 1_000_000_000;

/// A token bucket: what is sent in any time is at most `burst` and the time times
/// `rate`; what has to wait for it is queued up to `limit`, and lost beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tbf {
    /// In bytes a second, 1 at least.
    pub rate: u64,
    /// The bucket's size in bytes. A frame longer than that is never sent.
    pub burst: u32,
    /// In bytes.
    pub limit: u32,
}

/// A token bucket as the kernel tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveTbf {
    /// In bytes a second.
    pub rate: u64,
    /// In bytes.
    pub limit: u32,
    /// The time in which the bucket fills, in ticks of 64 ns, modulo 2^32.
    ticks: u32,
}

impl Tbf {
    /// Whether `live` is what adding `self` makes.
    pub fn is_met_by(&self, live: &LiveTbf) -> bool {
        let ticks = self.ticks();
        // The kernel computes with a factor of 31 valid bits.
        let slack = 2 + (ticks >> 30);
        let modulus = 1 << 32;
        let ahead = (u128::from(live.ticks) + modulus - ticks % modulus) % modulus;
        let is_near = ahead.min(modulus - ahead) <= slack;
        self.rate == live.rate && self.limit == live.limit && is_near
    }

    /// The time in which the bucket fills.
    fn ticks(&self) -> u128 {
        let rate = u128::from(self.rate.max(1));
        u128::from(self.burst) * NANOSECONDS_PER_SECOND / rate / NANOSECONDS_PER_TICK
    }
}

impl LiveTbf {
    /// The bucket's size in bytes, nearly; too small for one that takes more than 274 s
    /// to fill.
    pub fn burst(&self) -> u64 {
        let time = u128::from(self.ticks) * NANOSECONDS_PER_TICK;
        let bytes = u128::from(self.rate) * time / NANOSECONDS_PER_SECOND;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

impl Net {
    /// Holds what the link sends to a rate. EEXIST if it was given another discipline
    /// already.
    ///
    /// # Errors
    /// Of the kind `Unsupported` with the option the kernel lacks; else what it refused.
    pub fn add_tbf(&self, index: u32, tbf: &Tbf) -> Result<()> {
        let op = format!("add tbf of {} bytes/s to", tbf.rate);
        self.add_discipline(index, op, new_tbf(index, tbf))
            .map_err(|error| lacking(error, "tbf (CONFIG_NET_SCH_TBF)"))
    }

    /// Has filters look at what the link receives. EEXIST if they do already.
    ///
    /// # Errors
    /// As [`Net::add_tbf`].
    pub fn add_ingress(&self, index: u32) -> Result<()> {
        let place = (INGRESS_HANDLE, TcHandle::INGRESS);
        let message = message(index, place, vec![TcAttribute::Kind("ingress".into())]);
        self.add_discipline(index, "add ingress discipline to", message)
            .map_err(|error| lacking(error, "ingress discipline (CONFIG_NET_SCH_INGRESS)"))
    }

    fn add_discipline(&self, index: u32, op: impl Into<String>, message: TcMessage) -> Result<()> {
        let message = RouteNetlinkMessage::NewQueueDiscipline(message);
        self.act(op, Object::Index(index), message, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// The token bucket by which the link sends; `None` if it sends by another
    /// discipline.
    ///
    /// # Errors
    /// What the kernel refused to tell.
    pub fn find_tbf(&self, index: u32) -> Result<Option<LiveTbf>> {
        let message = message(index, (TcHandle::UNSPEC, TcHandle::ROOT), Vec::new());
        let message = RouteNetlinkMessage::GetQueueDiscipline(message);
        let body = self.find_echoed(Object::Index(index), message)?;
        Ok(body.and_then(|body| decode(&body)))
    }
}

/// A message about what is at a place of the link, which is its own handle and that of
/// what is above it.
pub(super) fn message(
    index: u32,
    (handle, parent): (TcHandle, TcHandle),
    attributes: Vec<TcAttribute>,
) -> TcMessage {
    let header = TcHeader {
        index: index.cast_signed(),
        handle,
        parent,
        ..TcHeader::default()
    };
    TcMessage::from_parts(header, attributes)
}

/// The kernel says of a part that it lacks that it is not there (ENOENT).
pub(super) fn lacking(error: Error, what: &str) -> Error {
    match error.errno {
        Some(Errno::ENOENT) => Error::errno(error.op, error.object, Errno::EOPNOTSUPP)
            .because(Some(format!("no {what}"))),
        _ => error,
    }
}

fn new_tbf(index: u32, tbf: &Tbf) -> TcMessage {
    let mut options = vec![
        (TCA_TBF_PARMS, parameters(tbf)),
        (TCA_TBF_BURST, tbf.burst.to_ne_bytes().to_vec()),
    ];
    if u32::try_from(tbf.rate).is_err() {
        options.push((TCA_TBF_RATE64, tbf.rate.to_ne_bytes().to_vec()));
    }
    let options = options
        .into_iter()
        .map(|(kind, value)| TcOption::Other(DefaultNla::new(kind, value)));
    let attributes = vec![
        TcAttribute::Kind("tbf".into()),
        TcAttribute::Options(options.collect()),
    ];
    message(index, (ROOT_HANDLE, TcHandle::ROOT), attributes)
}

/// `struct tc_tbf_qopt`: two `struct tc_ratespec`, of which the second, a peak rate, is
/// not used; limit, the bucket in ticks, and the peak's bucket.
fn parameters(tbf: &Tbf) -> Vec<u8> {
    let mut bytes = vec![0, LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0];
    bytes.extend(saturating(tbf.rate.into()).to_ne_bytes());
    bytes.extend([0; RATESPEC]);
    bytes.extend(tbf.limit.to_ne_bytes());
    bytes.extend(saturating(tbf.ticks()).to_ne_bytes());
    bytes.extend([0; 4]);
    bytes
}

fn saturating(number: u128) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Reads the body of an RTM_NEWQDISC; `None` unless it is a token bucket.
fn decode(body: &[u8]) -> Option<LiveTbf> {
    let top = Attrs::after(body, TCMSG);
    if find(top, TCA_KIND)?.text() != "tbf" {
        return None;
    }
    let options = find(top, TCA_OPTIONS)?.nested();
    let parameters = find(options, TCA_TBF_PARMS)?.value;
    let rate = u32_at(parameters, RATESPEC - 4)?.into();
    let whole = find(options, TCA_TBF_RATE64).and_then(|attr| attr.value.try_into().ok());
    Some(LiveTbf {
        rate: whole.map_or(rate, u64::from_ne_bytes),
        limit: u32_at(parameters, 2 * RATESPEC)?,
        ticks: u32_at(parameters, 2 * RATESPEC + 4)?,
    })
}

#[cfg(test)]
mod tests;
