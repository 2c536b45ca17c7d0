//! Expressions: the steps of a rule. Each loads something into a register, changes or
//! judges what is in one, or does something to the packet; the first judgement that
//! fails ends the rule.

use super::Name;
use super::writer::{Writer, data};
use crate::netlink::attr::{Attr, find};

const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_PAYLOAD_SREG: u16 = 5;
const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_BITWISE_OP: u16 = 6;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_LOOKUP_SET: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
const NFTA_LOOKUP_DREG: u16 = 3;
const NFTA_LOOKUP_FLAGS: u16 = 5;
const NFT_LOOKUP_F_INV: u32 = 1;
const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
/// The register that holds the verdict.
const NFT_REG_VERDICT: u32 = 0;

/// A register of 16 bytes. What is longer goes on in the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Register {
    /// `NFT_REG_1`.
    One = 1,
    /// `NFT_REG_2`.
    Two = 2,
    /// `NFT_REG_3`.
    Three = 3,
    /// `NFT_REG_4`.
    Four = 4,
}

/// What is known of a packet beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meta {
    /// The EtherType, 2 bytes; of a frame with a VLAN tag the one behind its first tag.
    Protocol = 1,
    /// The name of the interface it came in by, 16 bytes filled up with NUL.
    IifName = 6,
    /// The group of the interface it came in by, 4 bytes in the host's order.
    IifGroup = 21,
}

/// Where a packet's bytes are counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// The link layer's header, as it came in: with its first VLAN tag, though the kernel
    /// keeps that elsewhere.
    Link = 0,
    /// The IP header.
    Network = 1,
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CmpOp {
    /// Goes on if they are equal.
    Equal = 0,
    /// Goes on if they differ.
    Differs = 1,
}

/// The end of a packet's way through a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is lost (`NF_DROP`).
    Drop = 0,
    /// This chain has nothing against it (`NF_ACCEPT`).
    Accept = 1,
}

/// One step of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// Loads what is known of the packet.
    Meta {
        /// What.
        key: Meta,
        /// Into where.
        to: Register,
    },
    /// Loads bytes of the packet.
    Payload {
        /// Counted from here.
        base: Base,
        /// First byte.
        offset: u32,
        /// Number of bytes.
        len: u32,
        /// Into where.
        to: Register,
    },
    /// Keeps the bits of `mask` alone; `mask` is as long as what was loaded.
    Mask {
        /// In this register.
        on: Register,
        /// What stays.
        mask: Vec<u8>,
    },
    /// Compares.
    Cmp {
        /// What is here.
        from: Register,
        /// In this way.
        op: CmpOp,
        /// With this.
        value: Vec<u8>,
    },
    /// Looks for it in a set of the rule's table.
    Lookup {
        /// What is here, and in the registers after it as far as the key is long.
        from: Register,
        /// In this set.
        set: Name,
        /// Goes on if it is *not* there.
        absent: bool,
    },
    /// Gives the packet's connection the address of the interface it leaves by.
    Masquerade,
    /// Ends the way through the chain.
    Verdict(Verdict),
    /// Read only: an expression, by the kernel's name, that none of the above is.
    Other(String),
}

impl Expr {
    /// The kernel's name of it.
    fn name(&self) -> &str {
        match self {
            Self::Meta { .. } => "meta",
            Self::Payload { .. } => "payload",
            Self::Mask { .. } => "bitwise",
            Self::Cmp { .. } => "cmp",
            Self::Lookup { .. } => "lookup",
            Self::Masquerade => "masq",
            Self::Verdict(_) => "immediate",
            Self::Other(name) => name,
        }
    }

    /// Writes it into an entry of a rule's list.
    pub(super) fn write(&self, entry: &mut Writer) {
        entry.text(NFTA_EXPR_NAME, self.name());
        entry.nest(NFTA_EXPR_DATA, |into| self.write_data(into));
    }

    fn write_data(&self, into: &mut Writer) {
        match self {
            Self::Meta { key, to } => {
                into.number(NFTA_META_KEY, *key as u32);
                into.number(NFTA_META_DREG, *to as u32);
            }
            Self::Payload {
                base,
                offset,
                len,
                to,
            } => {
                into.number(NFTA_PAYLOAD_DREG, *to as u32);
                into.number(NFTA_PAYLOAD_BASE, *base as u32);
                into.number(NFTA_PAYLOAD_OFFSET, *offset);
                into.number(NFTA_PAYLOAD_LEN, *len);
            }
            Self::Mask { on, mask } => {
                into.number(NFTA_BITWISE_SREG, *on as u32);
                into.number(NFTA_BITWISE_DREG, *on as u32);
                into.number(NFTA_BITWISE_LEN, u32::try_from(mask.len()).unwrap_or(0));
                into.data(NFTA_BITWISE_MASK, mask);
                into.data(NFTA_BITWISE_XOR, &vec![0; mask.len()]);
            }
            Self::Cmp { from, op, value } => {
                into.number(NFTA_CMP_SREG, *from as u32);
                into.number(NFTA_CMP_OP, *op as u32);
                into.data(NFTA_CMP_DATA, value);
            }
            Self::Lookup { from, set, absent } => {
                into.number(NFTA_LOOKUP_SREG, *from as u32);
                into.text(NFTA_LOOKUP_SET, set.as_str());
                if *absent {
                    into.number(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
                }
            }
            Self::Verdict(verdict) => {
                into.number(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
                into.nest(NFTA_IMMEDIATE_DATA, |data| {
                    data.nest(NFTA_DATA_VERDICT, |inner| {
                        inner.number(NFTA_VERDICT_CODE, *verdict as u32);
                    });
                });
            }
            Self::Masquerade | Self::Other(_) => {}
        }
    }

    /// Reads an entry of a rule's list. What has a part we would not write is
    /// [`Expr::Other`].
    pub(super) fn read(entry: Attr<'_>) -> Self {
        let name = find(entry.nested(), NFTA_EXPR_NAME).map_or_else(String::new, Attr::text);
        let data = find(entry.nested(), NFTA_EXPR_DATA);
        let read = match name.as_str() {
            "meta" => data.and_then(read_meta),
            "payload" => data.and_then(read_payload),
            "bitwise" => data.and_then(read_mask),
            "cmp" => data.and_then(read_cmp),
            "lookup" => data.and_then(read_lookup),
            "immediate" => data.and_then(read_verdict),
            // Without an option, it has no data.
            "masq" => data
                .is_none_or(|data| data.nested().next().is_none())
                .then_some(Self::Masquerade),
            _ => None,
        };
        read.unwrap_or(Self::Other(name))
    }
}

fn number(data: Attr<'_>, kind: u16) -> Option<u32> {
    find(data.nested(), kind)?.u32_be()
}

fn register(data: Attr<'_>, kind: u16) -> Option<Register> {
    match number(data, kind)? {
        1 => Some(Register::One),
        2 => Some(Register::Two),
        3 => Some(Register::Three),
        4 => Some(Register::Four),
        _ => None,
    }
}

fn read_meta(from: Attr<'_>) -> Option<Expr> {
    let keys = [Meta::Protocol, Meta::IifName, Meta::IifGroup];
    let number = number(from, NFTA_META_KEY)?;
    Some(Expr::Meta {
        key: keys.into_iter().find(|key| *key as u32 == number)?,
        to: register(from, NFTA_META_DREG)?,
    })
}

fn read_payload(from: Attr<'_>) -> Option<Expr> {
    if find(from.nested(), NFTA_PAYLOAD_SREG).is_some() {
        return None;
    }
    Some(Expr::Payload {
        base: match number(from, NFTA_PAYLOAD_BASE)? {
            0 => Base::Link,
            1 => Base::Network,
            _ => return None,
        },
        offset: number(from, NFTA_PAYLOAD_OFFSET)?,
        len: number(from, NFTA_PAYLOAD_LEN)?,
        to: register(from, NFTA_PAYLOAD_DREG)?,
    })
}

fn read_mask(from: Attr<'_>) -> Option<Expr> {
    let on = register(from, NFTA_BITWISE_SREG)?;
    let same = register(from, NFTA_BITWISE_DREG)? == on;
    // Kernels before 5.6 have no other operation and do not say so.
    let masks = number(from, NFTA_BITWISE_OP).is_none_or(|op| op == 0);
    let xor = data(find(from.nested(), NFTA_BITWISE_XOR)?)?;
    let mask = data(find(from.nested(), NFTA_BITWISE_MASK)?)?.to_vec();
    (same && masks && xor.iter().all(|byte| *byte == 0)).then_some(Expr::Mask { on, mask })
}

fn read_cmp(from: Attr<'_>) -> Option<Expr> {
    Some(Expr::Cmp {
        from: register(from, NFTA_CMP_SREG)?,
        op: match number(from, NFTA_CMP_OP)? {
            0 => CmpOp::Equal,
            1 => CmpOp::Differs,
            _ => return None,
        },
        value: data(find(from.nested(), NFTA_CMP_DATA)?)?.to_vec(),
    })
}

fn read_lookup(from: Attr<'_>) -> Option<Expr> {
    if find(from.nested(), NFTA_LOOKUP_DREG).is_some() {
        return None;
    }
    let set = find(from.nested(), NFTA_LOOKUP_SET)?.text();
    Some(Expr::Lookup {
        from: register(from, NFTA_LOOKUP_SREG)?,
        set: set.parse().ok()?,
        absent: match number(from, NFTA_LOOKUP_FLAGS).unwrap_or(0) {
            0 => false,
            NFT_LOOKUP_F_INV => true,
            _ => return None,
        },
    })
}

fn read_verdict(from: Attr<'_>) -> Option<Expr> {
    if number(from, NFTA_IMMEDIATE_DREG)? != NFT_REG_VERDICT {
        return None;
    }
    let data = find(from.nested(), NFTA_IMMEDIATE_DATA)?;
    let verdict = find(data.nested(), NFTA_DATA_VERDICT)?;
    match number(verdict, NFTA_VERDICT_CODE)? {
        0 => Some(Expr::Verdict(Verdict::Drop)),
        1 => Some(Expr::Verdict(Verdict::Accept)),
        _ => None,
    }
}
