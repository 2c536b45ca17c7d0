//! Writing nf_tables messages: `struct nfgenmsg` and attributes, numbers in network
//! order (include/uapi/linux/netfilter/nfnetlink.h).

use super::Family;
use crate::netlink::attr::{Attr, align, find};

/// Length of `struct nfgenmsg`.
pub(super) const HEADER: usize = 4;
/// The subsystem's number, in the upper byte of every message type.
const NFNL_SUBSYS_NFTABLES: u8 = 10;
const NLA_F_NESTED: u16 = 0x8000;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;

/// `enum nf_tables_msg_types`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    NewTable = 0,
    GetTable = 1,
    DelTable = 2,
    NewChain = 3,
    DelChain = 5,
    NewRule = 6,
    GetRule = 7,
    DelRule = 8,
    NewSet = 9,
    GetSet = 10,
    DelSet = 11,
    NewSetElem = 12,
    GetSetElem = 13,
    DelSetElem = 14,
    GetGen = 16,
}

impl Kind {
    /// The netlink message type.
    pub(super) fn number(self) -> u16 {
        u16::from_be_bytes([NFNL_SUBSYS_NFTABLES, self as u8])
    }
}

/// Attributes one after the other, in a message or in another attribute.
#[derive(Debug)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// A message about `family`, or about none.
    pub(super) fn message(family: Option<Family>) -> Self {
        Self(vec![family.map_or(0, Family::number), 0, 0, 0])
    }

    /// What is at a batch's ends: it names the subsystem the batch is for.
    pub(super) fn batch_end() -> Self {
        Self(vec![0, 0, 0, NFNL_SUBSYS_NFTABLES])
    }

    /// The body of the message.
    pub(super) fn into_body(self) -> Vec<u8> {
        self.0
    }

    /// An attribute with these bytes.
    pub(super) fn put(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |bytes| bytes.extend(value));
    }

    /// A number of 32 bits.
    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// Text, with its NUL.
    pub(super) fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |bytes| {
            bytes.extend(value.as_bytes());
            bytes.push(0);
        });
    }

    /// Attributes in an attribute.
    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        self.attribute(kind | NLA_F_NESTED, |bytes| {
            let mut inner = Self(std::mem::take(bytes));
            fill(&mut inner);
            *bytes = inner.0;
        });
    }

    /// One entry of a list.
    pub(super) fn entry(&mut self, fill: impl FnOnce(&mut Self)) {
        self.nest(NFTA_LIST_ELEM, fill);
    }

    /// Bytes as nf_tables keeps them in registers and sets: `struct nft_data`.
    pub(super) fn data(&mut self, kind: u16, value: &[u8]) {
        self.nest(kind, |data| data.put(NFTA_DATA_VALUE, value));
    }

    fn attribute(&mut self, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.0.len();
        self.0.extend([0; 4]);
        fill(&mut self.0);
        // Nothing we write comes near 64 KiB; the kernel would refuse a length cut short.
        let len = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        let head = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
        self.0.splice(start..start + 4, head);
        self.0.resize(align(self.0.len()), 0);
    }
}

/// The entries of a list.
pub(super) fn entries(list: Attr<'_>) -> impl Iterator<Item = Attr<'_>> {
    list.nested().filter(|attr| attr.kind == NFTA_LIST_ELEM)
}

/// The bytes of a `struct nft_data`.
pub(super) fn data(attr: Attr<'_>) -> Option<&[u8]> {
    find(attr.nested(), NFTA_DATA_VALUE).map(|attr| attr.value)
}
