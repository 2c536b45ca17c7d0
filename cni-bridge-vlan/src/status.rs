//! STATUS: whether an ADD of this configuration could be served now. Reads only.

use berth_cni::error::{CniError, code};
use berth_cni::ipam::Ipam;
use berth_cni::request::Call;
use berth_kernel::Root;
use berth_kernel::netlink::Net;
use berth_kernel::release::Release;
use berth_state::bridge::BridgeRecords;

use crate::conf::Conf;
use crate::features::{self, Feature};
use crate::plan::{BridgeStep, Plan};
use crate::{bandwidth, bridge, port, rules};

/// Succeeds if bridge, uplink and IPAM are ready or can be made so.
pub fn status(root: &Root, call: &Call) -> Result<(), CniError> {
    let conf = Conf::of(call, None)?;
    let limits = bandwidth::is_wished(call)?;
    let record = BridgeRecords::new(root).load(&conf.bridge)?;
    let net = Net::open()?;
    bridge::foresee(root, &net, &conf, &record)
        .and_then(|plan| {
            for feature in needed(&conf, &plan, limits) {
                feature.possible(root)?;
            }
            has_room(&net, &conf)?;
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

/// What the kernel must have that nothing on the node shows yet.
fn needed(conf: &Conf, plan: &Plan, limits: bool) -> Vec<Feature> {
    let makes_filter = conf.filters() && plan.bridge == BridgeStep::Create;
    let wished = [
        (makes_filter, features::FILTERING),
        (conf.needs_dot1q(), features::DOT1Q),
        (limits, bandwidth::LIMITS),
    ];
    let needed = wished.into_iter().filter(|(is_needed, _)| *is_needed);
    needed.map(|(_, feature)| feature).collect()
}

/// Whether the bridge, if it is there, can have one more port.
fn has_room(net: &Net, conf: &Conf) -> Result<(), CniError> {
    let Some(link) = net.find_link(&conf.bridge)? else {
        return Ok(());
    };
    if net.ports_of(link.index)?.len() < port::MOST {
        return Ok(());
    }
    Err(port::full(format!("bridge {}: {}", link.name, port::FULL)))
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
