//! DEL: a sweep. Every step is tried, absence is success, and it can be repeated
//! any number of times; the record goes last.

use std::thread::sleep;
use std::time::{Duration, Instant};

use berth_cni::attachment::foreign;
use berth_cni::error::{CniError, code};
use berth_cni::request::Request;
use berth_kernel::netlink::{Link, Net};
use berth_kernel::{NetNs, PciAddr, Root};
use berth_state::Kind;
use berth_state::claim::Claim;
use berth_state::record::{Host, Record};
use berth_state::vf::{self, Ended, Failed, Place};

use crate::node::Node;

/// How long to wait for an ADD that has claimed a VF and written no record yet.
const CLAIMER_WAIT: Duration = Duration::from_secs(30);
/// How often to look meanwhile.
const CLAIMER_POLL: Duration = Duration::from_millis(20);

/// Removes the attachment, whatever is left of it.
pub fn del(root: &Root, request: &Request) -> Result<(), CniError> {
    let node = Node::open(root, request.key())?;
    let mut record = node.attachment.settled()?;
    if record.is_none() && wait_for_claimer(&node)? {
        record = node.attachment.settled()?;
    }
    sweep(&node, request, record.as_ref())
}

/// Whether there was a living ADD of this attachment without a record.
fn wait_for_claimer(node: &Node) -> Result<bool, CniError> {
    let start = Instant::now();
    let mut waited = false;
    while let Some(pid) = claimer(node)? {
        if start.elapsed() > CLAIMER_WAIT {
            let msg = format!(
                "attachment {} is still being added by process {pid}",
                node.key()
            );
            return Err(CniError::try_again(msg).details("wait for it to end, then try again"));
        }
        waited = true;
        sleep(CLAIMER_POLL);
    }
    Ok(waited)
}

/// The living process that claimed a VF for this attachment and has no record yet.
fn claimer(node: &Node) -> Result<Option<u32>, CniError> {
    for (_, claim) in node.claims.list()? {
        if let Ok(Claim::Claimed { owner, writer }) = claim
            && owner == *node.key()
            && writer.is_alive(&node.root)?
            && !is_on_record(node)
        {
            return Ok(Some(writer.pid));
        }
    }
    Ok(None)
}

/// Whether there is a record, readable or not.
fn is_on_record(node: &Node) -> bool {
    !matches!(node.attachment.records().load(node.key()), Ok(None))
}

/// What ADD does first: leaves an attachment of its key that lives alone, sweeps what a
/// dead ADD or a former namespace left, also where only a claim is left.
pub fn settle(node: &Node, request: &Request, netns: &NetNs) -> Result<(), CniError> {
    node.attachment
        .settle(netns, |record| sweep(node, request, Some(&record)))?;
    match claimer(node)? {
        Some(pid) => {
            let msg = format!("attachment {} is being added by process {pid}", node.key());
            Err(CniError::try_again(msg).details("wait for it to end, then try again"))
        }
        // A VF with the mark alone is DEL's to look for: that takes a list of all links.
        None => give_back_all_claimed(node),
    }
}

/// Undoes everything the attachment may have on the node. What fails is listed, the
/// rest is done all the same, and the record stays for the next try. With a record,
/// the DEL of its own ADD is run; `request` serves where there is none.
fn sweep(node: &Node, request: &Request, record: Option<&Record>) -> Result<(), CniError> {
    if record.is_some_and(|record| !is_own(&record.host)) {
        return Err(foreign(node.key()));
    }
    let saved = node.attachment.del_request(request, record);
    let vf = match record {
        // Another ADD of the attachment may have died before it found this record.
        Some(record) => all([give_back(node, record), give_back_all_claimed(node)]),
        None => give_back_unrecorded(node, request),
    };
    let addresses = node.attachment.release_addresses(&saved, record);
    node.attachment
        .released(record, [("VF", vf), ("addresses", addresses)])
}

/// Whether a record is one of this plugin's.
pub fn is_own(host: &Host) -> bool {
    matches!(host, Host::Sriov(_))
}

/// The VF of the record back to its baseline, under its lock. What is another's by now
/// is not touched: that is how a late DEL leaves the new owner alone.
fn give_back(node: &Node, record: &Record) -> Result<(), CniError> {
    let Host::Sriov(host) = &record.host else {
        return Err(foreign(node.key()));
    };
    let _lock = node.lock_vf(host.vf)?;
    let netns = Some(&record.netns);
    let ended = vf::release(&node.root, &node.locks, node.key(), host, netns);
    said(node, host.vf, ended)
}

/// The same on ADD's way back, by the record as it is written by then.
pub fn give_back_recorded(node: &Node) -> Result<(), CniError> {
    match node.attachment.records().load(node.key())? {
        Some(record) => give_back(node, &record),
        None => Ok(()),
    }
}

fn said(node: &Node, vf: PciAddr, ended: Result<Ended, Failed>) -> Result<(), CniError> {
    match ended {
        Ok(Ended::Free) => log::debug!("VF {vf} is as it was before {}", node.key()),
        Ok(Ended::Quarantined(reason)) => {
            log::warn!("VF {vf} is in quarantine: {reason}; `berth vf release {vf}` tries again")
        }
        Ok(Ended::NotOurs(claim)) => log::info!("VF {vf} is left alone: it is {claim}"),
        Err(failed) => return Err(CniError::new(code::INCOMPLETE, failed.to_string())),
    }
    Ok(())
}

/// Where no record tells of a VF: those claimed by the attachment, and those that bear
/// its mark.
fn give_back_unrecorded(node: &Node, request: &Request) -> Result<(), CniError> {
    let claimed = give_back_all_claimed(node);
    let marked = marked(node, request)?;
    let marked = all(marked.into_iter().map(|vf| give_back_marked(node, vf)));
    node.claims.sweep()?;
    all([claimed, marked])
}

/// Those claimed by the attachment, but for the one that its record tells of.
fn give_back_all_claimed(node: &Node) -> Result<(), CniError> {
    let claimed = node.claims.of_key(node.key())?;
    all(claimed.into_iter().map(|vf| give_back_claimed(node, vf)))
}

/// Every failure in one.
fn all(done: impl IntoIterator<Item = Result<(), CniError>>) -> Result<(), CniError> {
    let failed = done.into_iter().filter_map(Result::err);
    let texts: Vec<String> = failed.map(|error| error.msg).collect();
    match texts.is_empty() {
        true => Ok(()),
        false => Err(CniError::new(code::INCOMPLETE, texts.join("; "))),
    }
}

/// The record comes before the first change: without one the VF was only claimed. But
/// where one cannot be read, or the VF bears the mark, what it was is lost, and it gets
/// its driver's defaults.
fn give_back_claimed(node: &Node, vf: PciAddr) -> Result<(), CniError> {
    let _lock = node.lock_vf(vf)?;
    let record = node.attachment.records().load(node.key());
    // Before the lock was held it may have become another's, or an ADD's that has just
    // begun and is alone to end it.
    let is_left = match node.claims.load(vf)? {
        Some(Claim::Claimed { owner, writer }) => {
            owner == *node.key() && (record.is_err() || !writer.is_alive(&node.root)?)
        }
        _ => false,
    };
    let is_recorded = matches!(&record, Ok(Some(record)) if is_of(&record.host, vf));
    if !is_left || is_recorded {
        return Ok(());
    }
    if record.is_ok() && !bears_mark(node, vf)? {
        return Ok(node.claims.release(vf, node.key())?);
    }
    log::warn!(
        "what VF {vf} was before {} is not on record: it gets defaults",
        node.key()
    );
    let ended = vf::release_unrecorded(&node.root, &node.locks, node.key(), vf);
    said(node, vf, ended)
}

fn is_of(host: &Host, vf: PciAddr) -> bool {
    matches!(host, Host::Sriov(host) if host.vf == vf)
}

fn bears_mark(node: &Node, vf: PciAddr) -> Result<bool, CniError> {
    let alias = node.key().alias();
    let is_ours = |link: &Link| link.alias.as_deref() == Some(&alias);
    Ok(match vf::locate(&node.root, &node.net, vf, None)? {
        Place::Home(link) => is_ours(&link),
        Place::Inside(_, link) => is_ours(&link),
        Place::Nowhere => true,
    })
}

/// A VF with our mark and nobody's claim: it gets defaults too, as ours.
fn give_back_marked(node: &Node, vf: PciAddr) -> Result<(), CniError> {
    let _lock = node.lock_vf(vf)?;
    if node.claims.load(vf)?.is_some() || !bears_mark(node, vf)? {
        return Ok(());
    }
    let writer = berth_state::boot::Writer::current(&node.root)?;
    match node.claims.claim(vf, node.key(), writer) {
        Err(error) if error.kind() == Kind::Taken => Ok(()),
        Err(error) => Err(error.into()),
        Ok(()) => {
            let ended = vf::release_unrecorded(&node.root, &node.locks, node.key(), vf);
            said(node, vf, ended)
        }
    }
}

/// VFs with the attachment's alias, here and in the namespace the runtime names.
fn marked(node: &Node, request: &Request) -> Result<Vec<PciAddr>, CniError> {
    let alias = node.key().alias();
    let mut links = node.net.links()?;
    let inside = request.netns.as_deref().map(NetNs::open);
    if let Some(Ok(ns)) = inside {
        links.extend(Net::open_in(&ns)?.links()?);
    }
    let marked = links
        .iter()
        .filter(|link| link.alias.as_deref() == Some(&alias));
    Ok(marked.filter_map(Link::pci).collect())
}

#[cfg(test)]
mod tests;
