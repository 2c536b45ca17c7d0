//! Physical cores, the NUMA nodes they are on and the caches they share
//! (Documentation/admin-guide/cputopology.rst, Documentation/ABI/testing/sysfs-devices-system-cpu).

use std::collections::BTreeMap;
use std::path::Path;

use super::{CpuSet, isolated, nodes, of_node, online, siblings};
use crate::error::{AbsentIsFine, Error, Result};
use crate::{Root, file};

#[cfg(test)]
mod tests;

/// A physical core with at least one online CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Core {
    /// Its online CPUs (hardware threads).
    pub cpus: CpuSet,
    /// Its NUMA node.
    pub node: u32,
    /// Its last-level cache, called by the lowest CPU that shares it; the node's lowest
    /// CPU where the machine does not tell of caches.
    pub llc: u32,
}

/// All that sysfs tells of the machine's CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// The cores with online CPUs, by their lowest CPU.
    pub cores: Vec<Core>,
    /// Where each of [`Topology::cores`] is in its socket, in the same order.
    pub sockets: Vec<Socket>,
    /// CPUs that are plugged in and do not run, with their NUMA node. The kernel does
    /// not say which core an offline CPU belongs to.
    pub offline: BTreeMap<u32, u32>,
    /// CPUs kept from general work by `isolcpus=` and `nohz_full=`.
    pub isolated: CpuSet,
    /// From each node to each: 10 is the node itself, more is farther
    /// (`devices/system/node/nodeN/distance`). Empty without NUMA.
    pub distances: BTreeMap<u32, BTreeMap<u32, u32>>,
}

/// A core's place in its socket: `topology/{physical_package_id,die_id}`; none where
/// the kernel does not know (-1, or no such file).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Socket {
    /// The package: what is put into one socket.
    pub package: Option<u32>,
    /// The die in it.
    pub die: Option<u32>,
}

/// Reads the machine's topology.
///
/// # Errors
/// When it cannot be read.
pub fn topology(root: &Root) -> Result<Topology> {
    let cores = cores(root)?;
    let sockets = cores.iter().map(|core| socket(root, core));
    let sockets = sockets.collect::<Result<_>>()?;
    // What went offline since the list was read is offline; so it is asked by the cores.
    let running: CpuSet = cores.iter().flat_map(|core| core.cpus.iter()).collect();
    let present: Option<CpuSet> =
        file::parse(&root.sys.join("devices/system/cpu/present")).absent_is_fine()?;
    let mut offline = BTreeMap::new();
    for cpu in present.unwrap_or_default().difference(&running).iter() {
        offline.insert(cpu, node_of(root, cpu)?);
    }
    Ok(Topology {
        cores,
        sockets,
        offline,
        isolated: isolated(root)?,
        distances: distances(root)?,
    })
}

/// Where a core is in its socket.
fn socket(root: &Root, core: &Core) -> Result<Socket> {
    let Some(cpu) = core.cpus.first() else {
        return Ok(Socket::default());
    };
    let dir = root
        .sys
        .join(format!("devices/system/cpu/cpu{cpu}/topology"));
    let number = |name: &str| -> Result<Option<u32>> {
        // Absent: offline meanwhile, or not known on this architecture; so is -1.
        let number: Option<i64> = file::parse(&dir.join(name)).absent_is_fine()?;
        Ok(number.and_then(|number| u32::try_from(number).ok()))
    };
    Ok(Socket {
        package: number("physical_package_id")?,
        die: number("die_id")?,
    })
}

/// The NUMA node of a CPU, online or not: its link `nodeN`; 0 without NUMA.
fn node_of(root: &Root, cpu: u32) -> Result<u32> {
    let dir = root.sys.join(format!("devices/system/cpu/cpu{cpu}"));
    let names = file::names(&dir).absent_is_fine()?.unwrap_or_default();
    let node = names
        .iter()
        .find_map(|name| name.strip_prefix("node")?.parse().ok());
    Ok(node.unwrap_or_default())
}

/// The distances between all nodes.
fn distances(root: &Root) -> Result<BTreeMap<u32, BTreeMap<u32, u32>>> {
    let nodes = nodes(root)?;
    let mut all = BTreeMap::new();
    for node in &nodes {
        let path = root
            .sys
            .join(format!("devices/system/node/node{node}/distance"));
        let Some(text) = file::read(&path).absent_is_fine()? else {
            continue;
        };
        let row: std::result::Result<Vec<u32>, _> =
            text.split_whitespace().map(str::parse).collect();
        let row = row
            .map_err(|e| Error::malformed("read", path.display(), format!("{text:?} has a {e}")))?;
        // One number for each online node, in their order.
        all.insert(*node, nodes.iter().copied().zip(row).collect());
    }
    Ok(all)
}

/// The machine's cores with online CPUs, by their lowest CPU.
///
/// # Errors
/// When the topology cannot be read.
pub fn cores(root: &Root) -> Result<Vec<Core>> {
    let online = online(root)?;
    let mut cores = Vec::new();
    for node in nodes(root)? {
        let mut left = of_node(root, node)?.intersection(&online);
        let lowest = left.first().unwrap_or_default();
        // A cache is read once for all its cores: large machines have hundreds.
        let mut cache = CpuSet::new();
        while let Some(cpu) = left.first() {
            if !cache.contains(cpu) {
                cache = last_level_cache(root, cpu)?.unwrap_or_default();
            }
            // A CPU that went offline meanwhile has no siblings file.
            let core = siblings(root, cpu).absent_is_fine()?.unwrap_or_default();
            let core = core.intersection(&left);
            left = left.difference(&core);
            left.remove(cpu);
            if !core.is_empty() {
                let llc = cache.first().unwrap_or(lowest);
                cores.push(Core {
                    cpus: core,
                    node,
                    llc,
                });
            }
        }
    }
    cores.sort_by_key(|core| core.cpus.first());
    Ok(cores)
}

/// The CPUs that share the cache of the highest level with `cpu`.
fn last_level_cache(root: &Root, cpu: u32) -> Result<Option<CpuSet>> {
    let dir = root.sys.join(format!("devices/system/cpu/cpu{cpu}/cache"));
    let mut last: Option<(u32, CpuSet)> = None;
    for name in file::names(&dir).absent_is_fine()?.unwrap_or_default() {
        if !name.starts_with("index") {
            continue;
        }
        let Some(found) = cache(&dir.join(name)).absent_is_fine()? else {
            continue;
        };
        if last.as_ref().is_none_or(|(level, _cpus)| found.0 > *level) {
            last = Some(found);
        }
    }
    Ok(last.map(|(_level, cpus)| cpus))
}

/// Level and CPUs of one cache.
fn cache(dir: &Path) -> Result<(u32, CpuSet)> {
    let level = file::parse(&dir.join("level"))?;
    Ok((level, file::parse(&dir.join("shared_cpu_list"))?))
}
