//! What masquerading and the spoof check share of nf_tables: tables named `berth`, and
//! elements that carry the key of their attachment as a comment.

use berth_kernel::names::Invalid;
use berth_kernel::netlink::nft::{Comment, Element, Expr, Family, Name, Nft, Table};
use berth_kernel::{Error, Kind, Result};
use berth_state::Key;
use nix::errno::Errno;

/// Our table of a family.
pub(crate) fn table(family: Family) -> Result<Table> {
    Ok(Table {
        family,
        name: name("berth")?,
    })
}

/// A name made of what was checked before; the longest is far from the limit.
pub(crate) fn name(text: &str) -> Result<Name> {
    text.parse().map_err(|e| refused(text, e))
}

/// A comment made of what was checked before: a key fits, as it fits an alias.
pub(crate) fn comment(text: &str) -> Result<Comment> {
    text.parse().map_err(|e| refused(text, e))
}

fn refused(text: &str, Invalid(reason): Invalid) -> Error {
    Error::malformed("name in nf_tables", text, reason)
}

/// The attachment an element is for; `None` if it carries no key.
pub(crate) fn owner(element: &Element) -> Option<Key> {
    element.comment.as_deref()?.parse().ok()
}

/// How a chain stands to the one rule it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has that rule alone. So it is there, and so are the sets of the rule.
    Right,
    /// It has other rules.
    Wrong,
    /// It has none, or it is not there.
    Empty,
}

impl Standing {
    pub(crate) fn read(nft: &Nft, table: &Table, chain: &Name, wish: &[Expr]) -> Result<Self> {
        Ok(match nft.rules(table, chain)?.as_slice() {
            [] => Self::Empty,
            [rule] if rule.exprs == wish => Self::Right,
            _ => Self::Wrong,
        })
    }
}

/// The error of a transaction that makes all it refers to: if something is not there, it
/// is the kernel that lacks it. `options` are those it needs.
pub(crate) fn lacking(error: Error, options: &str) -> Error {
    match error.kind() {
        Kind::NotFound => Error::errno(error.op, error.object, Errno::EOPNOTSUPP)
            .because(Some(format!("this kernel lacks {options}"))),
        _ => error,
    }
}
