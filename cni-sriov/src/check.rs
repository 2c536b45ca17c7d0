//! CHECK: compares everything ADD set with what the kernel shows now, and names each
//! difference.

use std::collections::BTreeMap;
use std::mem::discriminant;

use berth_cni::check::{self, Drift};
use berth_cni::container::Container;
use berth_cni::error::CniError;
use berth_cni::request::Request;
use berth_kernel::error::AbsentIsFine;
use berth_kernel::ethtool::Ethtool;
use berth_kernel::irq::{self, Irq};
use berth_kernel::netlink::{Link, VfChange};
use berth_kernel::pci;
use berth_kernel::sysfs::queues::NetSysfs;
use berth_kernel::{CpuSet, Root};
use berth_state::record::Host;
use berth_state::steered::{Steer, Steered};
use berth_state::vf::{self, SriovHost};

use crate::node::Node;

/// Succeeds only if the attachment is as ADD left it, but for the packet work that the
/// agent has taken over: that is the agent's to place and to keep.
pub fn check(root: &Root, request: &Request) -> Result<(), CniError> {
    let node = Node::open(root, request.key())?;
    check::check(&node.attachment, request, |record, container, drift| {
        let Host::Sriov(host) = &record.host else {
            drift.found("the record is that of another kind of attachment");
            return Ok(());
        };
        claim_drift(&node, host, drift)?;
        pf_drift(&node, host, drift)?;
        let steered = Steered::load(root)?;
        let steer = steered.of(node.key(), host.vf);
        irq_drift(root, &host.set.irqs, steer, drift)?;
        if let Some(link) = container.net.find_link(&container.ifname)? {
            link_drift(&node, host, &link, drift);
            channel_drift(host, container, drift)?;
            queue_drift(host, container, steer, drift)?;
        }
        Ok(())
    })
}

fn claim_drift(node: &Node, host: &SriovHost, drift: &mut Drift) -> Result<(), CniError> {
    let claim = node.claims.load(host.vf)?;
    let ours = claim.as_ref().and_then(|claim| claim.owner()) == Some(node.key());
    drift.unless(ours, || match claim {
        Some(claim) => format!("VF {} is {claim}", host.vf),
        None => format!("VF {} is not claimed any more", host.vf),
    });
    Ok(())
}

fn pf_drift(node: &Node, host: &SriovHost, drift: &mut Drift) -> Result<(), CniError> {
    let Some(pf) = pci::physical_function(&node.root, host.pf)? else {
        drift.found(format!("PF {} is gone", host.pf));
        return Ok(());
    };
    match vf::side(&node.net, &pf, host.index) {
        Ok((_, now)) => {
            let seen = now.changes_from(&host.set.side);
            for wish in host.set.side.changes_from(&now) {
                let same = |seen: &&VfChange| discriminant(*seen) == discriminant(&wish);
                let is = seen.iter().find(same);
                let is = is.map_or_else(|| "nothing".to_owned(), ToString::to_string);
                let (name, index) = (&host.pf_name, host.index);
                drift.found(format!(
                    "PF {name} has {is} for VF {index}, was set to {wish}"
                ));
            }
        }
        Err(error) => drift.found(error.to_string()),
    }
    Ok(())
}

fn irq_drift(
    root: &Root,
    set: &BTreeMap<u32, CpuSet>,
    steer: Option<&Steer>,
    drift: &mut Drift,
) -> Result<(), CniError> {
    let taken = |number| steer.is_some_and(|steer| steer.irqs.contains_key(number));
    for (number, wish) in set {
        if taken(number) {
            continue;
        }
        let now = irq::affinity(root, Irq(*number)).absent_is_fine()?;
        drift.unless(now.as_ref() == Some(wish), || {
            let now = now.map_or_else(|| "gone".to_owned(), |cpus| format!("at CPUs {cpus}"));
            format!("interrupt {number} is {now}, was set to {wish}")
        });
    }
    Ok(())
}

fn link_drift(node: &Node, host: &SriovHost, link: &Link, drift: &mut Drift) {
    let name = &link.name;
    drift.unless(link.pci() == Some(host.vf), || {
        format!("{name} is not VF {}", host.vf)
    });
    drift.unless(link.alias.as_deref() == Some(&node.key().alias()), || {
        format!("{name} has lost its alias")
    });
    let modes = [
        ("promiscuous mode", host.set.promisc, link.promisc),
        ("all multicast", host.set.allmulti, link.allmulti),
    ];
    for (what, wish, now) in modes {
        drift.unless(wish.is_none_or(|wish| wish == now), || {
            format!("{what} of {name} is {}", if now { "on" } else { "off" })
        });
    }
}

fn channel_drift(
    host: &SriovHost,
    container: &Container,
    drift: &mut Drift,
) -> Result<(), CniError> {
    let Some(wish) = host.set.channels else {
        return Ok(());
    };
    let name = &container.ifname;
    let now = Ethtool::open_in(&container.netns)?.channels(name)?;
    let now = now.map(|channels| channels.current.combined);
    drift.unless(now == Some(wish), || {
        let now = now.map_or_else(|| "not reported".to_owned(), |count| count.to_string());
        format!("combined channels of {name} are {now}, were set to {wish}")
    });
    Ok(())
}

fn queue_drift(
    host: &SriovHost,
    container: &Container,
    steer: Option<&Steer>,
    drift: &mut Drift,
) -> Result<(), CniError> {
    let (name, set) = (&container.ifname, &host.set);
    let taken = steer.is_some_and(|steer| steer.queues);
    if set.rps.iter().chain(&set.xps).all(Option::is_none) {
        return Ok(());
    }
    let sysfs = NetSysfs::of(&container.netns)?;
    for (queue, wish) in (0..).zip(&set.rps) {
        let Some(wish) = wish else { continue };
        if !taken {
            let now = sysfs.rps_cpus(name, queue).absent_is_fine()?;
            mask_drift(&format!("rps_cpus of {name} rx-{queue}"), wish, now, drift);
        }
        if let Some(flows) = set.rps_flow_cnt {
            let now = sysfs.rps_flow_cnt(name, queue).absent_is_fine()?;
            let rounded = flows.checked_next_power_of_two();
            drift.unless(now == rounded, || {
                format!("rps_flow_cnt of {name} rx-{queue} is not {flows} any more")
            });
        }
    }
    for (queue, wish) in (0..).zip(&set.xps) {
        let Some(wish) = wish.as_ref().filter(|_| !taken) else {
            continue;
        };
        let now = sysfs.xps_cpus(name, queue).absent_is_fine()?;
        mask_drift(&format!("xps_cpus of {name} tx-{queue}"), wish, now, drift);
    }
    Ok(())
}

fn mask_drift(what: &str, wish: &CpuSet, now: Option<CpuSet>, drift: &mut Drift) {
    drift.unless(now.as_ref() == Some(wish), || {
        let now = now.map_or_else(|| "gone".to_owned(), |cpus| format!("\"{cpus}\""));
        format!("{what} is {now}, was set to \"{wish}\"")
    });
}

#[cfg(test)]
mod tests;
