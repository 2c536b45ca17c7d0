//! What an attachment has in nf_tables, as far as it is wished or needed: its addresses
//! masqueraded, its port's senders checked where the kernel cannot lock a port.

use std::rc::Rc;

use berth_cni::check::Drift;
use berth_cni::error::CniError;
use berth_cni::steps::Steps;
use berth_kernel::netlink::nft::Nft;
use berth_kernel::release::Release;
use berth_kernel::{Kind, MacAddr, Root};
use berth_state::Key;
use berth_state::record::{BridgeHost, PacketRules, Record};
use berth_state::undo::Undo;
use ipnetwork::IpNetwork;

use crate::conf::Conf;
use crate::node::Node;
use crate::port::LOCKED_SINCE;
use crate::{antispoof, masquerade};

/// What the configuration asks for on this kernel.
pub fn wished(root: &Root, conf: &Conf) -> Result<PacketRules, CniError> {
    let needs_check = conf.flags.locked && !Release::running(root)?.is_at_least(LOCKED_SINCE);
    Ok(PacketRules {
        masquerade: conf.masquerade,
        senders: needs_check,
    })
}

/// Whether the kernel can do what is wished.
pub fn possible(wish: PacketRules) -> Result<(), CniError> {
    if wish == PacketRules::default() {
        return Ok(());
    }
    let asked = Nft::open().and_then(|nft| nft.generation());
    asked.map(drop).map_err(|error| {
        CniError::from(error).details(
            "load nf_tables (CONFIG_NF_TABLES), or do without \"ipMasq\" and, on a kernel \
             without locked ports, with \"macspoofchk\": false",
        )
    })
}

/// Masquerades the container's addresses.
pub fn masquerade(node: &Node, addresses: &[IpNetwork], undo: &mut Undo) -> Result<(), CniError> {
    let nft = Rc::new(Nft::open()?);
    let (inverse, key) = (Rc::clone(&nft), node.key().clone());
    undo.change(
        "masquerade",
        move || Ok(masquerade::remove(&inverse, &key)?),
        || masquerade::add(&nft, node.key(), addresses),
    )
}

/// Has only frames from `mac` pass from the container's port.
pub fn check_senders(node: &Node, mac: MacAddr, undo: &mut Undo) -> Result<(), CniError> {
    let nft = Rc::new(Nft::open()?);
    let (inverse, key) = (Rc::clone(&nft), node.key().clone());
    undo.change(
        "spoof check",
        move || Ok(antispoof::remove(&inverse, &key)?),
        || antispoof::add(&nft, node.key(), mac),
    )
}

/// Takes away what is on record; without a record, whatever there may be.
pub fn remove(node: &Node, on_record: Option<PacketRules>) -> Result<(), CniError> {
    let all = PacketRules {
        masquerade: true,
        senders: true,
    };
    let there = on_record.unwrap_or(all);
    if there == PacketRules::default() {
        return Ok(());
    }
    let gone = Nft::open().and_then(|nft| {
        if there.senders {
            antispoof::remove(&nft, node.key())?;
        }
        if there.masquerade {
            masquerade::remove(&nft, node.key())?;
        }
        Ok(())
    });
    none_without_tables(gone)
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
    } = host.rules;
    if !masquerade && !senders {
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
