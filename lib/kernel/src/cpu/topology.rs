//! Physical cores, the NUMA nodes they are on and the caches they share
//! (Documentation/admin-guide/cputopology.rst, Documentation/ABI/testing/sysfs-devices-system-cpu).

use std::path::Path;

use super::{CpuSet, nodes, of_node, online, siblings};
use crate::error::{AbsentIsFine, Result};
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
