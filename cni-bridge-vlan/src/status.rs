//! STATUS: whether an ADD of this configuration could be served now. Reads only.

use berth_cni::error::{CniError, code};
use berth_cni::ipam::Ipam;
use berth_cni::request::Call;
use berth_kernel::Root;
use berth_kernel::netlink::Net;
use berth_state::bridge::BridgeRecords;

use crate::bridge;
use crate::conf::Conf;

/// Succeeds if bridge, uplink and IPAM are ready or can be made so.
pub fn status(root: &Root, call: &Call) -> Result<(), CniError> {
    let conf = Conf::of(call, None)?;
    let record = BridgeRecords::new(root).load(&conf.bridge)?;
    bridge::decide(root, &Net::open()?, &conf, &record).map_err(|reason| CniError {
        code: code::NOT_AVAILABLE,
        ..reason
    })?;
    Ipam::of(root, call)?.status(call)
}
