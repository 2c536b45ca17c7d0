//! GC: attachments by record, and by the mark on their port.

use berth_cni::error::CniError;
use berth_cni::gc;
use berth_cni::request::GcRequest;
use berth_kernel::Root;
use berth_kernel::netlink::Net;

use crate::del;

/// Cleans up after attachments whose DEL never came.
pub fn gc(root: &Root, request: &GcRequest) -> Result<(), CniError> {
    let network = &request.config.name;
    let ports = || {
        gc::marked_links(&Net::open()?, network, |link, key| {
            link.name == key.port_name()
        })
    };
    gc::collect(root, request, del::is_own, ports, |request| {
        del::del(root, request)
    })
}
