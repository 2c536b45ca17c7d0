//! GC: attachments by record, by a claim whose ADD died before there was a record, and
//! by the mark on a VF that came back to the host.

use berth_cni::error::CniError;
use berth_cni::gc;
use berth_cni::request::GcRequest;
use berth_kernel::Root;
use berth_kernel::netlink::Net;
use berth_state::Key;
use berth_state::claim::{Claim, Claims};

use crate::del;

/// Cleans up after attachments whose DEL never came.
pub fn gc(root: &Root, request: &GcRequest) -> Result<(), CniError> {
    let network = &request.config.name;
    let marked = || {
        let mut keys = gc::marked_links(&Net::open()?, network, |link, _| link.pci().is_some())?;
        keys.extend(claimed(root, network)?);
        Ok(keys)
    };
    gc::collect(root, request, del::is_own, marked, |request| {
        del::del(root, request)
    })
}

/// The attachments of the network that hold a claim, unless their ADD still runs.
fn claimed(root: &Root, network: &str) -> Result<Vec<Key>, CniError> {
    let mut keys = Vec::new();
    for (_, claim) in Claims::new(root).list()? {
        if let Ok(Claim::Claimed { owner, writer }) = claim
            && owner.network() == network
            && !writer.is_alive(root)?
        {
            keys.push(owner);
        }
    }
    Ok(keys)
}
