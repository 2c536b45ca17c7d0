//! Receive packet steering of both ends: which CPUs, and writing them.

use std::path::Path;

use berth_cni::error::{CniError, code};
use berth_kernel::cgroup::cpuset;
use berth_kernel::cpu::{self, CpuSet};
use berth_kernel::error::AbsentIsFine;
use berth_kernel::placement::{Auto, AutoInput, auto_cpus, usable_for_rps};
use berth_kernel::sysfs::queues::NetSysfs;
use berth_kernel::{IfName, Kind, Root};
use berth_state::node::NodeFile;

use crate::conf::{Rps, RpsCpus};

/// Decides the CPUs of `wish`. None: steering is left as the kernel has it.
/// `cgroup` is the container's, as the runtime gave it; `uplink` tells which NUMA
/// node is near.
pub fn decide(
    root: &Root,
    wish: &Rps,
    cgroup: Option<&Path>,
    uplink: Option<&IfName>,
) -> Result<Option<CpuSet>, CniError> {
    let cpus = match &wish.cpus {
        RpsCpus::Off => None,
        RpsCpus::List(cpus) => Some(listed(root, cpus)?),
        RpsCpus::Auto => auto(root, cgroup, uplink)?,
    };
    let Some(cpus) = cpus else { return Ok(None) };
    let (usable, note) = usable_for_rps(&cpus, &cpu::isolated(root)?);
    if let Some(note) = note {
        log::warn!("rps.cpus: {note}");
    }
    Ok(Some(usable).filter(|cpus| !cpus.is_empty()))
}

fn listed(root: &Root, cpus: &CpuSet) -> Result<CpuSet, CniError> {
    let online = cpu::online(root)?;
    if cpus.is_subset(&online) {
        return Ok(cpus.clone());
    }
    let missing = cpus.difference(&online);
    let msg = format!("invalid configuration: rps.cpus = {cpus}: CPUs {missing} are not online");
    Err(CniError::new(code::CONFIG, msg).details(format!(
        "this node has CPUs {online}; name some of them, or \"auto\""
    )))
}

fn auto(
    root: &Root,
    cgroup: Option<&Path>,
    uplink: Option<&IfName>,
) -> Result<Option<CpuSet>, CniError> {
    let numa_local = match uplink {
        Some(name) => {
            // An uplink that does not exist is refused where all its faults are.
            let node = NetSysfs::at(root)?.numa_node(name).absent_is_fine()?;
            cpu::local_to(root, node.flatten())?
        }
        None => None,
    };
    let node_online = cpu::online(root)?;
    let input = AutoInput {
        container: container_cpus(root, cgroup)?,
        root_effective: root_effective(root, &node_online)?,
        node_online,
        numa_local,
        housekeeping: NodeFile::load(root)?.and_then(|node| node.housekeeping),
    };
    match auto_cpus(&input) {
        Auto::Container(cpus) | Auto::Local(cpus) => Ok(Some(cpus)),
        Auto::Nothing(reason) => {
            log::info!("rps.cpus is auto and nothing is pinned: {reason}");
            Ok(None)
        }
    }
}

/// The cpuset of the container's cgroup; without cgroup v2 it is not known.
fn container_cpus(root: &Root, cgroup: Option<&Path>) -> Result<Option<CpuSet>, CniError> {
    match cgroup.map(|path| cpuset::effective(root, path)).transpose() {
        Err(error) if error.kind() == Kind::Unsupported => {
            log::info!("the container's cpuset is not used: {error}");
            Ok(None)
        }
        other => Ok(other?),
    }
}

/// Without cgroup v2 there are no exclusive cores to keep off.
fn root_effective(root: &Root, online: &CpuSet) -> Result<CpuSet, CniError> {
    match cpuset::root_effective(root) {
        Err(error) if error.kind() == Kind::Unsupported => Ok(online.clone()),
        other => Ok(other?),
    }
}

/// Writes the CPUs and the flow table size to every receive queue of `link`.
pub fn apply(
    sysfs: &NetSysfs,
    link: &IfName,
    cpus: &CpuSet,
    flow_entries: u32,
) -> Result<(), CniError> {
    for queue in sysfs.rx_queues(link)? {
        sysfs.set_rps_cpus(link, queue, cpus)?;
        if flow_entries > 0 {
            sysfs.set_rps_flow_cnt(link, queue, flow_entries)?;
        }
    }
    Ok(())
}

/// The first queue of `link` whose CPUs are not `wish`, in words.
pub fn drift(sysfs: &NetSysfs, link: &IfName, wish: &CpuSet) -> Result<Option<String>, CniError> {
    for queue in sysfs.rx_queues(link)? {
        let live = sysfs.rps_cpus(link, queue)?;
        if live != *wish {
            return Ok(Some(format!(
                "rps_cpus of {link} rx-{queue} is {live}, was set to {wish}"
            )));
        }
    }
    Ok(None)
}
