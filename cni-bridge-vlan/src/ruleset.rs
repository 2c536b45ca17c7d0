//! What masquerading, the spoof check and the filter of frames share of nf_tables: names,
//! and what is said of refusals; of the first two also tables named `berth`, and elements
//! that carry the key of their attachment as a comment.

use berth_kernel::names::Invalid;
use berth_kernel::netlink::nft::{Comment, Element, Expr, Family, Name, Nft, Table};
use berth_kernel::{Error, Result};
use berth_state::Key;
use nix::errno::Errno;

/// `NF_BR_PRI_FILTER_BRIDGED` (include/uapi/linux/netfilter_bridge.h), `nft`'s `filter`.
pub(crate) const FILTER_BRIDGED: i32 = -200;

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

/// The error of a transaction that makes all it refers to, in words an operator can act
/// on: if something is not there, it is the kernel that lacks it. `options` are those it
/// needs.
pub(crate) fn explained(error: Error, options: &str) -> Error {
    match error.errno {
        Some(Errno::ENOENT) => Error::errno(error.op, error.object, Errno::EOPNOTSUPP)
            .because(Some(format!("this kernel lacks {options}"))),
        Some(Errno::E2BIG) => error.because(Some(
            "the kernel has room for 1024 chains there, those of others counted: masquerade \
             fewer subnets"
                .into(),
        )),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_kernel::Kind;
    use berth_kernel::netlink::nft::ElementKey;

    #[test]
    fn what_the_kernel_lacks_is_named_and_other_refusals_stay() {
        let error = |errno| Error::errno("add", "chain x of table ip berth", errno);
        let lacking = explained(error(Errno::ENOENT), "CONFIG_X");
        assert_eq!(lacking.kind(), Kind::Unsupported);
        assert!(lacking.to_string().ends_with("this kernel lacks CONFIG_X"));
        let full = explained(error(Errno::E2BIG), "CONFIG_X");
        assert_eq!(full.errno, Some(Errno::E2BIG));
        assert!(full.to_string().contains("1024 chains"), "{full}");
        assert_eq!(explained(error(Errno::EPERM), ""), error(Errno::EPERM));
    }

    #[test]
    fn the_longest_key_is_a_comment_and_read_back() {
        let id = "c".repeat(255 - "berth1 blue  eth0".len());
        let key = Key::new("blue", &id, "eth0".parse().unwrap()).unwrap();
        let mark = comment(&key.to_string()).unwrap();
        let element = |comment: Option<&str>| Element {
            key: ElementKey::ip("10.1.0.5".parse().unwrap()),
            comment: comment.map(str::to_owned),
        };
        assert_eq!(owner(&element(Some(mark.as_str()))), Some(key));
        assert_eq!(owner(&element(Some("not a key"))), None);
        assert_eq!(owner(&element(None)), None);
    }
}
