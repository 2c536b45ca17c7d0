//! Packet steering, RPS and XPS: the keys of a configuration, what `auto` is decided
//! from, and writing and comparing receive queues
//! (Documentation/networking/scaling.rst).

use std::fmt;
use std::path::Path;

use berth_kernel::cgroup::cpuset;
use berth_kernel::cpu::{self, CpuSet};
use berth_kernel::placement::{Auto, AutoInput, auto_cpus, usable_for_rps};
use berth_kernel::sysfs::queues::NetSysfs;
use berth_kernel::{IfName, Kind, Root};
use berth_state::node::NodeFile;

use crate::error::{CniError, code};
use crate::fields::Fields;

/// Most flows RFS can be asked to remember for one queue.
const FLOW_ENTRIES_MAX: u32 = 1 << 20;

/// Which CPUs are to share the packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cpus {
    /// The container's cpuset, else CPUs near the device.
    Auto,
    /// This list.
    List(CpuSet),
    /// No steering.
    Off,
}

impl fmt::Display for Cpus {
    /// As the configuration has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::List(cpus) => cpus.fmt(f),
            Self::Off => f.write_str("off"),
        }
    }
}

impl Cpus {
    /// Key `xps` {`cpus`}; without it, `auto`.
    ///
    /// # Errors
    /// Code 7.
    pub fn of_xps(fields: &Fields<'_>) -> Result<Self, CniError> {
        match fields.object("xps")? {
            None => Ok(Self::Auto),
            Some(xps) => {
                only(&xps, &["cpus"], "\"xps\" takes \"cpus\"")?;
                Self::of(&xps)
            }
        }
    }

    fn of(fields: &Fields<'_>) -> Result<Self, CniError> {
        let want = "want \"auto\", \"off\" or a list of CPUs like \"2-5,8\"";
        match fields.text("cpus")? {
            None | Some("auto") => Ok(Self::Auto),
            Some("off") => Ok(Self::Off),
            Some(list) => match list.parse::<CpuSet>() {
                Ok(cpus) if !cpus.is_empty() => Ok(Self::List(cpus)),
                _ => Err(fields.invalid("cpus", want)),
            },
        }
    }

    /// Refuses a list with CPUs that are not online. `key` is its full name, as an
    /// error should have it.
    ///
    /// # Errors
    /// Code 7 naming the CPUs.
    pub fn must_be_online(&self, key: &str, online: &CpuSet) -> Result<(), CniError> {
        let missing = match self {
            Self::List(cpus) => cpus.difference(online),
            Self::Auto | Self::Off => return Ok(()),
        };
        if missing.is_empty() {
            return Ok(());
        }
        let msg = format!("invalid configuration: {key} = {self}: CPUs {missing} are not online");
        Err(CniError::new(code::CONFIG, msg).details(format!(
            "this node has CPUs {online}; name some of them, or \"auto\""
        )))
    }
}

/// Receive packet steering, as wished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rps {
    /// The CPUs.
    pub cpus: Cpus,
    /// `rps_flow_cnt` of each receive queue; 0 leaves receive flow steering off.
    pub flow_entries: u32,
}

impl Rps {
    /// Key `rps` {`cpus`, `flowEntries`}; without it, `auto` and 0.
    ///
    /// # Errors
    /// Code 7.
    pub fn of(fields: &Fields<'_>) -> Result<Self, CniError> {
        let Some(rps) = fields.object("rps")? else {
            return Ok(Self {
                cpus: Cpus::Auto,
                flow_entries: 0,
            });
        };
        let known = "\"rps\" takes \"cpus\" and \"flowEntries\"";
        only(&rps, &["cpus", "flowEntries"], known)?;
        let flow_entries = rps.whole("flowEntries")?.unwrap_or(0);
        let flow_entries = u32::try_from(flow_entries)
            .ok()
            .filter(|flows| *flows <= FLOW_ENTRIES_MAX)
            .ok_or_else(|| {
                let want = "want 0 to 1048576; 0 leaves receive flow steering off";
                rps.invalid("flowEntries", want)
            })?;
        Ok(Self {
            cpus: Cpus::of(&rps)?,
            flow_entries,
        })
    }
}

fn only(fields: &Fields<'_>, known: &[&str], told: &str) -> Result<(), CniError> {
    match fields.keys().find(|key| !known.contains(key)) {
        None => Ok(()),
        Some(key) => Err(fields.invalid(key, format_args!("unknown; {told}"))),
    }
}

/// Decides the CPUs of one device's RPS. `inputs` is called for `auto` only. None:
/// steering is left as the kernel has it.
///
/// # Errors
/// Code 7 for CPUs that are not online; else what cannot be read.
pub fn decide_rps(
    root: &Root,
    wish: &Rps,
    inputs: impl FnOnce() -> Result<AutoInput, CniError>,
) -> Result<Option<CpuSet>, CniError> {
    let cpus = match &wish.cpus {
        Cpus::Off => None,
        Cpus::List(cpus) => {
            wish.cpus.must_be_online("rps.cpus", &cpu::online(root)?)?;
            Some(cpus.clone())
        }
        Cpus::Auto => match auto_cpus(&inputs()?) {
            Auto::Container(cpus) | Auto::Local(cpus) => Some(cpus),
            Auto::Nothing(reason) => {
                log::info!("rps.cpus is auto and nothing is pinned: {reason}");
                None
            }
        },
    };
    let Some(cpus) = cpus else { return Ok(None) };
    let (usable, note) = usable_for_rps(&cpus, &cpu::isolated(root)?);
    if let Some(note) = note {
        log::warn!("rps.cpus: {note}");
    }
    Ok(Some(usable).filter(|cpus| !cpus.is_empty()))
}

/// Reads what `auto` is decided from. `cgroup` is the container's, as the runtime gave
/// it; `near` are the CPUs near the device ([`cpu::local_to`]), if there is one.
///
/// # Errors
/// What cannot be read; a cgroup that does not exist. A node without cgroup v2 is fine.
pub fn inputs(
    root: &Root,
    cgroup: Option<&Path>,
    near: Option<CpuSet>,
) -> Result<AutoInput, CniError> {
    let node_online = cpu::online(root)?;
    Ok(AutoInput {
        container: container_cpus(root, cgroup)?,
        root_effective: root_effective(root, &node_online)?,
        node_online,
        numa_local: near,
        housekeeping: NodeFile::load(root)?.and_then(|node| node.housekeeping),
    })
}

/// As [`inputs`], for a device of which nothing but steering is decided.
///
/// # Errors
/// As [`inputs`].
pub fn rps_inputs(
    root: &Root,
    cgroup: Option<&Path>,
    near: Option<CpuSet>,
) -> Result<AutoInput, CniError> {
    if cgroup.is_none() && near.is_none() {
        // Nothing comes of it, whatever the node is like.
        return Ok(AutoInput::default());
    }
    inputs(root, cgroup, near)
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
///
/// # Errors
/// What the kernel refused.
pub fn apply_rps(
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

/// The first receive queue of `link` whose CPUs are not `wish`, or whose flow table is not
/// of the size the kernel made of `flow_entries`, in words.
///
/// # Errors
/// What cannot be read.
pub fn rps_drift(
    sysfs: &NetSysfs,
    link: &IfName,
    wish: &CpuSet,
    flow_entries: u32,
) -> Result<Option<String>, CniError> {
    for queue in sysfs.rx_queues(link)? {
        let live = sysfs.rps_cpus(link, queue)?;
        if live != *wish {
            return Ok(Some(format!(
                "rps_cpus of {link} rx-{queue} is {live}, was set to {wish}"
            )));
        }
        if flow_entries == 0 {
            continue;
        }
        let (live, wish) = (
            sysfs.rps_flow_cnt(link, queue)?,
            flow_entries.next_power_of_two(),
        );
        if live != wish {
            return Ok(Some(format!(
                "rps_flow_cnt of {link} rx-{queue} is {live}, was set to {wish}"
            )));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
