//! STATUS: whether an ADD of this configuration could be served now. Reads only; that
//! every VF is taken at the moment is no reason to keep containers away.

use berth_cni::error::{CniError, code};
use berth_cni::ipam::Ipam;
use berth_cni::request::{Argument, Call};
use berth_kernel::Root;

use crate::claim;
use crate::conf::{Conf, Given};

/// Succeeds if the PFs are there with VFs, and IPAM is ready.
pub fn status(root: &Root, call: &Call) -> Result<(), CniError> {
    let device = call.config.raw.get("deviceID").filter(|id| !id.is_null());
    let device = device.map(|id| Argument {
        value: id.clone(),
        origin: "deviceID".to_owned(),
    });
    // Without either, a scheduler gives the device at ADD: nothing to look at before.
    if device.is_some() || call.config.raw.contains_key("master") {
        let conf = Conf::of(call, Given { device, mac: None })?;
        conf.work.must_be_online(root)?;
        claim::exists(root, &conf.device).map_err(|reason| CniError {
            code: code::NOT_AVAILABLE,
            ..reason
        })?;
    }
    Ipam::of(root, call)?.status(call)
}
