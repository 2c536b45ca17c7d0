//! nf_tables (include/uapi/linux/netfilter/nf_tables.h), spoken over netlink by an
//! encoder of our own: no `nft` process, no library.
//!
//! A change is a [`Batch`], which the kernel takes whole or not at all. What is read
//! before it is decided on may be old by then; [`Nft::transact`] has the kernel refuse
//! the batch if anything of the namespace's ruleset changed in between, and decides
//! anew. So no lock is needed, whoever else changes the ruleset.

mod batch;
mod expr;
mod object;
mod socket;
mod writer;

use std::fmt;
use std::str::FromStr;

pub use batch::Batch;
pub use expr::{Base, CmpOp, Expr, Meta, Register, Verdict};
pub use object::{BaseChain, ChainType, Element, ElementKey, Hook, NewSet, Rule, Set, SetKey};
pub use socket::Nft;

use crate::names::Invalid;

/// Which packets a table sees; a table belongs to one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// What a bridge forwards.
    Bridge,
}

impl Family {
    /// `NFPROTO_*` (include/uapi/linux/netfilter.h).
    fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Bridge => 7,
            Self::Ip6 => 10,
        }
    }
}

impl fmt::Display for Family {
    /// As `nft` writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Bridge => "bridge",
        })
    }
}

/// Name of a table, chain or set: 1 to 255 bytes (NFT_NAME_MAXLEN less the NUL) that
/// `nft` can read back: a letter, then letters, digits, `/`, `\`, `_`, `.` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let first = text.starts_with(|c: char| c.is_ascii_alphabetic());
        let rest = text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"/\\_.-".contains(&b));
        if first && rest && text.len() <= 255 {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid(format!(
            "nf_tables name {text:?} is not a letter and up to 254 letters, digits, /, \\, _, . or -"
        )))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A remark on a set, a rule or an element, which `nft` shows as its comment: at most
/// 251 bytes, without a NUL. So much an element keeps beside what is `nft`'s own; of two
/// more (NFT_USERDATA_MAXLEN) kernels keep nothing and say nothing. On a set, which
/// holds more there, the kernel refuses more than 247.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Comment(String);

impl Comment {
    /// The comment as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Comment {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.len() > 251 || text.contains('\0') {
            return Err(Invalid(format!(
                "nf_tables comment {text:?} has a NUL or more than 251 bytes"
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Comment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A table by family and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Table {
    /// Its packets.
    pub family: Family,
    /// Its name, unique in the family.
    pub name: Name,
}

impl fmt::Display for Table {
    /// As `nft` writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {} {}", self.family, self.name)
    }
}

#[cfg(test)]
mod tests;
