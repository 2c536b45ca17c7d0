//! DEL: a sweep. Every step is tried, absence is success, and it can be repeated
//! any number of times; the record goes last.

use berth_cni::attachment::release_addresses;
use berth_cni::error::{CniError, code};
use berth_cni::request::Request;
use berth_kernel::{NetNs, PciAddr, Root};
use berth_state::record::{Host, NetnsRef, Record};
use berth_state::vf::{self, SriovHost};

use crate::node::Node;

/// Removes the attachment, whatever is left of it.
pub fn del(root: &Root, request: &Request) -> Result<(), CniError> {
    let node = Node::open(root, request.key())?;
    let record = node.attachment.settled()?;
    sweep(&node, request, record)
}

/// What ADD does first: leaves an attachment of its key that lives alone, sweeps what a
/// dead ADD or a former namespace left, also where only a claim is left.
pub fn settle(node: &Node, request: &Request, netns: &NetNs) -> Result<(), CniError> {
    node.attachment
        .settle(netns, |record| sweep(node, request, Some(record)))
}

/// Undoes everything the attachment may have on the node. What fails is listed, the
/// rest is done all the same, and the record stays for the next try. With a record,
/// the DEL of its own ADD is run; `request` serves where there is none.
fn sweep(node: &Node, request: &Request, record: Option<Record>) -> Result<(), CniError> {
    let record = record.as_ref();
    let saved = node.attachment.del_request(request, record);
    let vf = match record {
        Some(record) => give_back(node, record),
        None => give_back_unrecorded(node, request),
    };
    let addresses = release_addresses(&saved, record);
    node.attachment.released([("VF", vf), ("addresses", addresses)])
}
