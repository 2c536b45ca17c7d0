//! What an attachment has in nf_tables, as far as it is wished or needed: frames it has
//! no business to send dropped, its addresses masqueraded, its port's senders checked
//! where the kernel cannot lock a port.

use berth_cni::check::Drift;
use berth_cni::error::{CniError, code};
use berth_cni::steps::Steps;
use berth_kernel::netlink::nft::Nft;
use berth_kernel::release::Release;
use berth_kernel::{Kind, MacAddr, Root};
use berth_state::Key;
use berth_state::record::{BridgeHost, Host, PacketRules, Record, Records};
use berth_state::undo::Undo;
use ipnetwork::IpNetwork;

use crate::conf::Conf;
use crate::node::Node;
use crate::port::{self, LOCKED_SINCE};
use crate::{antispoof, frames, masquerade};

/// What the configuration asks for on this kernel.
pub fn wished(root: &Root, conf: &Conf) -> Result<PacketRules, CniError> {
    let needs_check = conf.flags.locked && !Release::running(root)?.is_at_least(LOCKED_SINCE);
    Ok(PacketRules {
        masquerade: conf.masquerade,
        senders: needs_check,
        tags: true,
        bpdus: conf.frame_filter().bpdus,
    })
}

/// Whether the kernel can do what is wished.
pub fn possible(conf: &Conf, wish: PacketRules) -> Result<(), CniError> {
    let nft = Nft::open();
    if wish.masquerade || wish.senders {
        let asked = nft.as_ref().map_err(Clone::clone).and_then(Nft::generation);
        asked.map(drop).map_err(|error| {
            CniError::from(error).details(
                "load nf_tables (CONFIG_NF_TABLES), or do without \"ipMasq\" and, on a kernel \
                 without locked ports, with \"macspoofchk\": false",
            )
        })?;
    }
    if let (true, Ok(nft)) = (wish.masquerade, &nft) {
        masquerade::possible(nft)?;
    }
    unless_unsupported(conf.bpdu_filter, nft.and_then(|nft| frames::possible(&nft))).map(drop)
}

/// Has the rules be there that drop frames the container has no business to send; whether
/// they are: where the configuration leaves it open, a kernel that cannot is no error.
pub fn filter_frames(node: &Node, conf: &Conf, undo: &mut Undo) -> Result<bool, CniError> {
    let inverse = node.clone();
    undo.change(
        "frame filter",
        move || release_frames(&inverse.root, Some(inverse.key())),
        || {
            let done = node.nft().and_then(|nft| frames::ensure(&nft));
            unless_unsupported(conf.bpdu_filter, done)
        },
    )
}

/// Takes the rules away that drop frames, if no attachment on record is filtered any more
/// but `leaving`.
pub fn release_frames(root: &Root, leaving: Option<&Key>) -> Result<(), CniError> {
    let records = Records::new(root);
    let is_used = || {
        records.any(|record| {
            let is_filtered = matches!(&record.host, Host::Bridge(host) if host.rules.tags);
            is_filtered && Some(&record.key) != leaving
        })
    };
    if is_used()? {
        return Ok(());
    }
    let gone = Nft::open().and_then(|nft| {
        // Says of a kernel without nf_tables that it is one.
        nft.generation()?;
        // What cannot be listed may hold a user.
        frames::release(&nft, || is_used().unwrap_or(true))
    });
    none_without_tables(gone)
}

/// Whether it is done, or left undone because the kernel cannot and nobody insists.
fn unless_unsupported(
    wish: Option<bool>,
    done: berth_kernel::Result<()>,
) -> Result<bool, CniError> {
    let error = match done {
        Ok(()) => return Ok(true),
        Err(error) if error.kind() == Kind::Unsupported => error,
        Err(error) => return Err(error.into()),
    };
    if wish == Some(true) {
        let msg = format!("key \"bpduFilter\" is on, but the kernel cannot: {error}");
        return Err(CniError::new(code::KERNEL, msg).details(format!(
            "load nf_tables of a kernel with {}, or leave \"bpduFilter\" out to do without",
            frames::OPTIONS
        )));
    }
    log::warn!(
        "bridge protocol frames and VLAN tags of the container's own are not dropped: {error}; \
         that needs a kernel with {}",
        frames::OPTIONS
    );
    Ok(false)
}

/// Masquerades the container's addresses.
pub fn masquerade(node: &Node, addresses: &[IpNetwork], undo: &mut Undo) -> Result<(), CniError> {
    let inverse = node.clone();
    undo.change(
        "masquerade",
        move || Ok(masquerade::remove(&*inverse.nft()?, inverse.key())?),
        || masquerade::add(&*node.nft()?, node.key(), addresses),
    )
}

/// Has only frames from `mac` pass from the container's port.
pub fn check_senders(node: &Node, mac: MacAddr, undo: &mut Undo) -> Result<(), CniError> {
    let inverse = node.clone();
    undo.change(
        "spoof check",
        move || Ok(antispoof::remove(&*inverse.nft()?, inverse.key())?),
        || antispoof::add(&*node.nft()?, node.key(), mac),
    )
}

/// Takes away what is on record, without a record whatever there may be, once nothing
/// passes the port any more.
///
/// The kernel frees what leaves a set after a grace period, and waits for that when the
/// socket is closed, which `node` does at its end: the port's deletion, which waits for
/// one, too, comes before.
pub fn remove(node: &Node, on_record: Option<PacketRules>) -> Result<(), CniError> {
    let all = PacketRules {
        masquerade: true,
        senders: true,
        ..PacketRules::default()
    };
    let there = on_record.unwrap_or(all);
    if !there.masquerade && !there.senders {
        return Ok(());
    }
    port::silence(node, on_record.is_some())?;
    none_without_tables(take_away(node, there))
}

fn take_away(node: &Node, there: PacketRules) -> berth_kernel::Result<()> {
    let nft = node.nft()?;
    if there.senders {
        antispoof::remove(&nft, node.key())?;
    }
    if there.masquerade {
        masquerade::remove(&nft, node.key())?;
    }
    Ok(())
}

/// The attachments of `network` that have anything there.
pub fn marked(network: &str) -> Result<Vec<Key>, CniError> {
    let keys = Nft::open().and_then(|nft| {
        let mut keys = masquerade::marked(&nft, network)?;
        keys.extend(antispoof::marked(&nft, network)?);
        Ok(keys)
    });
    none_without_tables(keys)
}

/// What is missing of it.
pub fn drift(record: &Record, host: &BridgeHost, drift: &mut Drift) -> Result<(), CniError> {
    let PacketRules {
        masquerade,
        senders,
        tags,
        bpdus: _,
    } = host.rules;
    if !masquerade && !senders && !tags {
        return Ok(());
    }
    let nft = Nft::open()?;
    let mut missing = Vec::new();
    if masquerade {
        missing = masquerade::check(&nft, &record.key, &record.container.ips)?;
    }
    if let (true, Some(mac)) = (senders, record.container.mac) {
        missing.extend(antispoof::check(&nft, &record.key, mac)?);
    }
    if tags {
        missing.extend(frames::check(&nft)?);
    }
    for sentence in missing {
        drift.found(sentence);
    }
    Ok(())
}

/// A kernel without nf_tables has nothing of ours there.
fn none_without_tables<T: Default>(outcome: berth_kernel::Result<T>) -> Result<T, CniError> {
    match outcome {
        Err(error) if error.kind() == Kind::Unsupported => Ok(T::default()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    fn outcome(wish: Option<bool>, errno: Errno) -> Result<bool, CniError> {
        let refused = berth_kernel::Error::errno("add", "chain prerouting", errno);
        unless_unsupported(wish, Err(refused))
    }

    #[test]
    fn a_kernel_that_cannot_filter_is_an_error_only_where_that_is_wished() {
        for wish in [None, Some(true), Some(false)] {
            assert_eq!(unless_unsupported(wish, Ok(())), Ok(true));
            assert!(outcome(wish, Errno::ENOBUFS).is_err());
        }
        for wish in [None, Some(false)] {
            assert_eq!(outcome(wish, Errno::EOPNOTSUPP), Ok(false));
        }
        let error = outcome(Some(true), Errno::EOPNOTSUPP).unwrap_err();
        assert_eq!(error.code, code::KERNEL);
        assert!(error.msg.contains("bpduFilter"), "{error}");
        assert!(error.details.contains("CONFIG_NF_TABLES_BRIDGE"), "{error}");
    }
}
