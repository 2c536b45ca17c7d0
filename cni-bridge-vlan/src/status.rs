//! STATUS: whether an ADD of this configuration could be served now. Reads only.

use berth_cni::error::{CniError, code};
use berth_cni::ipam::Ipam;
use berth_cni::request::Call;
use berth_kernel::Root;
use berth_kernel::netlink::Net;
use berth_kernel::release::Release;
use berth_state::bridge::BridgeRecords;

use crate::conf::Conf;
use crate::{bandwidth, bridge, port, rules};

/// Succeeds if bridge, uplink and IPAM are ready or can be made so.
pub fn status(root: &Root, call: &Call) -> Result<(), CniError> {
    let conf = Conf::of(call, None)?;
    let limits = bandwidth::is_wished(call)?;
    let record = BridgeRecords::new(root).load(&conf.bridge)?;
    let net = Net::open()?;
    bridge::foresee(root, &net, &conf, &record)
        .and_then(|_plan| {
            if limits {
                bandwidth::possible(root)?;
            }
            let rules = rules::wished(root, &conf)?;
            rules::possible(&conf, rules)?;
            if rules.senders {
                Ok(())
            } else {
                lockable(root, &net, &conf)
            }
        })
        .map_err(|reason| CniError {
            code: code::NOT_AVAILABLE,
            ..reason
        })?;
    Ipam::of(root, call)?.status(call)
}

/// Whether the kernel can lock a port. One that is there knows; else the kernel's
/// version must do, though a distribution may have brought it to an older one.
fn lockable(root: &Root, net: &Net, conf: &Conf) -> Result<(), CniError> {
    if !conf.flags.locked {
        return Ok(());
    }
    let uplink = match &conf.uplink {
        Some(uplink) => net.find_link(&uplink.name)?,
        None => None,
    };
    let can = match uplink.and_then(|link| link.port) {
        Some(port) => port.locked.is_some(),
        None => Release::running(root)?.version() >= port::LOCKED_SINCE,
    };
    can.then_some(()).ok_or_else(|| port::cannot_lock(root))
}
