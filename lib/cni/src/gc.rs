//! GC: removes every attachment of the network that the runtime does not list as
//! valid, by record and by mark on an interface; goes on past errors.

use std::collections::BTreeSet;

use berth_kernel::Root;
use berth_kernel::netlink::{Link, Net};
use berth_state::Key;
use berth_state::record::{Host, Phase, Record, Records, SavedRequest};
use serde_json::Value;

use crate::error::{CniError, code};
use crate::ipam::Ipam;
use crate::request::{GcRequest, Request};

/// Cleans up after attachments whose DEL never came, and lets IPAM do the same.
/// `is_own` tells the plugin's records from those of another one that serves the same
/// network. `marked` finds those of the network that show on the node without a record; it is
/// called after the records were listed, so that an ADD in between is not taken for
/// one. `remove` is the plugin's DEL.
///
/// # Errors
/// Code 102 with all that failed; what `marked` says, or why records cannot be listed.
pub fn collect(
    root: &Root,
    request: &GcRequest,
    is_own: fn(&Host) -> bool,
    marked: impl FnOnce() -> Result<Vec<Key>, CniError>,
    remove: impl Fn(&Request) -> Result<(), CniError>,
) -> Result<(), CniError> {
    let network = &request.config.name;
    let mut failed = Vec::new();
    for key in stale((root, request), is_own, marked, &mut failed)? {
        log::info!("{key} is not valid any more: removing it");
        if let Err(error) = del_request(request, &key).and_then(|del| remove(&del)) {
            failed.push(error.to_string());
        }
    }
    // What a killed ADD wrote before it was a record.
    if let Err(error) = Records::new(root).sweep(network) {
        failed.push(error.to_string());
    }
    if let Err(error) = Ipam::of(root, request).and_then(|ipam| ipam.gc(request)) {
        failed.push(error.to_string());
    }
    if failed.is_empty() {
        return Ok(());
    }
    let msg = format!(
        "network {network} is not wholly cleaned: {}",
        failed.join("; ")
    );
    Err(CniError::new(code::INCOMPLETE, msg)
        .details("remedy the reasons named; the next GC goes on where this one stopped"))
}

/// The attachments to be removed; records that cannot be read go to `failed`.
fn stale(
    (root, request): (&Root, &GcRequest),
    is_own: fn(&Host) -> bool,
    marked: impl FnOnce() -> Result<Vec<Key>, CniError>,
    failed: &mut Vec<String>,
) -> Result<BTreeSet<Key>, CniError> {
    let records = Records::new(root);
    let mut stale = BTreeSet::new();
    let mut known = BTreeSet::new();
    for record in records.list(&request.config.name)? {
        match record {
            Ok(record) => {
                known.insert(record.key.clone());
                if is_own(&record.host) && !is_coming(root, &records, &record)? {
                    stale.insert(record.key);
                }
            }
            Err(error) => failed.push(error.to_string()),
        }
    }
    for key in marked()? {
        // A record that was not there a moment ago is that of an ADD that came between.
        if !known.contains(&key) && !matches!(records.load(&key), Ok(Some(_))) {
            stale.insert(key);
        }
    }
    stale.retain(|key| !request.is_valid(key));
    Ok(stale)
}

/// Whether the attachment's ADD still ran when `seen` was read: the runtime cannot have
/// listed it yet. Its writer may have finished since and be gone.
fn is_coming(root: &Root, records: &Records, seen: &Record) -> Result<bool, CniError> {
    if seen.phase == Phase::Committed {
        return Ok(false);
    }
    if seen.is_being_added(root)? {
        return Ok(true);
    }
    let now = records.load(&seen.key)?;
    Ok(now.is_some_and(|now| now.phase == Phase::Committed))
}

/// The attachments of `network` whose alias is on a link of the namespace of `net`,
/// if `fits` says that the link is one of theirs. One dump.
///
/// # Errors
/// What the kernel refused.
pub fn marked_links(
    net: &Net,
    network: &str,
    fits: impl Fn(&Link, &Key) -> bool,
) -> Result<Vec<Key>, CniError> {
    let links = net.links()?;
    let keys = links.iter().filter_map(|link| {
        let key = Key::from_alias(link.alias.as_deref()?)?;
        fits(link, &key).then_some(key)
    });
    Ok(keys.filter(|key| key.network() == network).collect())
}

/// A DEL by this call's configuration; with a record, DEL goes by that one's.
fn del_request(request: &GcRequest, key: &Key) -> Result<Request, CniError> {
    let config = Value::Object(request.config.raw.clone());
    let saved = SavedRequest {
        config,
        ..SavedRequest::default()
    };
    request.del_of(key, &saved, None)
}

#[cfg(test)]
mod tests;
