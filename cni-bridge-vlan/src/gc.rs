//! GC: attachments by record, and by the mark on their links and in nf_tables.

use berth_cni::error::CniError;
use berth_cni::gc;
use berth_cni::request::GcRequest;
use berth_kernel::Root;
use berth_kernel::netlink::Net;

use crate::{del, rules};

/// Cleans up after attachments whose DEL never came.
pub fn gc(root: &Root, request: &GcRequest) -> Result<(), CniError> {
    let network = &request.config.name;
    let marked = || {
        let mut keys = gc::marked_links(&Net::open()?, network, |link, key| {
            link.name == key.port_name() || link.name == key.ifb_name()
        })?;
        keys.extend(rules::marked(network)?);
        Ok(keys)
    };
    let collected = gc::collect(root, request, del::is_own, marked, |request| {
        del::del(root, request)
    });
    // Of a DEL that was killed between its record and these.
    collected.and(rules::release_frames(root, None))
}
