//! GC: removes every attachment of the network that the runtime does not list as
//! valid, by record and by mark on an interface; goes on past errors.

use std::collections::BTreeSet;

use berth_cni::error::{CniError, code};
use berth_cni::ipam::Ipam;
use berth_cni::request::GcRequest;
use berth_kernel::Root;
use berth_kernel::netlink::Net;
use berth_state::Key;
use berth_state::record::{Phase, Record, Records, SavedRequest};
use serde_json::Value;

use crate::del;

/// Cleans up after attachments whose DEL never came.
pub fn gc(root: &Root, request: &GcRequest) -> Result<(), CniError> {
    let network = &request.config.name;
    let records = Records::new(root);
    let mut failed = Vec::new();
    let mut stale = BTreeSet::new();
    let mut known = BTreeSet::new();
    for record in records.list(network)? {
        match record {
            Ok(record) => {
                known.insert(record.key.clone());
                if !is_coming(root, &records, &record)? {
                    stale.insert(record.key);
                }
            }
            Err(error) => failed.push(error.to_string()),
        }
    }
    for key in marked(network)? {
        // A record that was not there a moment ago is that of an ADD that came between.
        if !known.contains(&key) && !matches!(records.load(&key), Ok(Some(_))) {
            stale.insert(key);
        }
    }
    stale.retain(|key| !request.is_valid(key));
    for key in stale {
        if let Err(error) = remove(root, request, &key) {
            failed.push(error.to_string());
        }
    }
    if let Err(error) = Ipam::of(request).and_then(|ipam| ipam.gc(request)) {
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

/// Attachments of the network that show as a marked port.
fn marked(network: &str) -> Result<Vec<Key>, CniError> {
    let links = Net::open()?.links()?;
    let keys = links.iter().filter_map(|link| {
        let key = Key::from_alias(link.alias.as_deref()?)?;
        (link.name == key.port_name()).then_some(key)
    });
    Ok(keys.filter(|key| key.network() == network).collect())
}

fn remove(root: &Root, request: &GcRequest, key: &Key) -> Result<(), CniError> {
    log::info!("{key} is not valid any more: removing it");
    let config = Value::Object(request.config.raw.clone());
    let saved = SavedRequest {
        config,
        ..SavedRequest::default()
    };
    del::del(root, &request.del_of(key, &saved, None)?)
}
