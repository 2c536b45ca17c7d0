//! DEL: a sweep. Every step is tried, absence is success, and it can be repeated
//! any number of times; the record goes last.

use berth_cni::attachment::foreign;
use berth_cni::error::{CniError, code};
use berth_cni::fields::Fields;
use berth_cni::request::Request;
use berth_kernel::{IfName, Root};
use berth_state::Key;
use berth_state::record::{Host, Record};

use crate::node::Node;
use crate::{bandwidth, bridge, conf, port, rules};

/// Removes the attachment, whatever is left of it.
pub fn del(root: &Root, request: &Request) -> Result<(), CniError> {
    let node = Node::open(root, request.key())?;
    let record = node.attachment.settled()?;
    sweep(&node, request, record.as_ref())
}

/// Undoes everything the attachment may have on the node. What fails is listed, the
/// rest is done all the same, and the record stays for the next try. With a record,
/// the DEL of its own ADD is run; `request` serves where there is none.
pub fn sweep(node: &Node, request: &Request, record: Option<&Record>) -> Result<(), CniError> {
    if record.is_some_and(|record| !is_own(&record.host)) {
        return Err(foreign(node.key()));
    }
    let saved = node.attachment.del_request(request, record);
    let bridge = bridge_of(node, &saved, record);
    let on_record = record.and_then(|record| match &record.host {
        Host::Bridge(host) => Some((host.rules, host.bandwidth)),
        _ => None,
    });
    // While frames pass the port its senders are checked, and an address that goes to the
    // next container is in no rule any more.
    let rules = on_record.map(|(rules, _)| rules);
    let packet_rules = rules::remove(node, rules);
    let port = port::remove(node, record.is_some());
    let limits = bandwidth::remove(node, on_record.map(|(_, bandwidth)| bandwidth));
    let ipam = node.attachment.release_addresses(&saved, record);
    let is_gone = port.is_ok();
    let steps = [
        ("port", port),
        ("packet rules", packet_rules),
        ("bandwidth", limits),
        (
            "bridge",
            bridge.map_or(Ok(()), |bridge| bridge::release(node, &bridge)),
        ),
        ("addresses", ipam),
    ];
    let released = node.attachment.released(record, steps);
    // Only without its record it is no user of them: of those that go at once the last
    // finds no other. A record that has to stay is none either, once the port is gone.
    let leaving = (released.is_err() && is_gone).then_some(node.key());
    released.and(release_filter(node, leaving))
}

fn release_filter(node: &Node, leaving: Option<&Key>) -> Result<(), CniError> {
    rules::release_frames(&node.root, leaving).map_err(|error| {
        let error = error.context(format!("filter of frames, beside {}", node.key()));
        CniError {
            code: code::INCOMPLETE,
            ..error
        }
        .details("remedy the reason, then send DEL again")
    })
}

/// Whether a record is one of this plugin's.
pub fn is_own(host: &Host) -> bool {
    matches!(host, Host::Bridge(_))
}

/// The attachment's bridge: by its record, else by its port, else by the configuration
/// as far as it can be read.
fn bridge_of(node: &Node, request: &Request, record: Option<&Record>) -> Option<IfName> {
    if let Some(Host::Bridge(host)) = record.map(|record| &record.host) {
        return Some(host.bridge.clone());
    }
    match port::place(node) {
        Ok(Some(bridge)) => return Some(bridge),
        Ok(None) => {}
        Err(error) => log::warn!("{error}; going by the configuration"),
    }
    conf::bridge_name(&Fields::of(&request.config.raw)).ok()
}
