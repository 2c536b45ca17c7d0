//! Which core comes first, and how cores are shared out among queues.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::cpu::{Core, CpuSet};

/// The cores that have CPUs in `allowed`, with those CPUs only, best first: those of the
/// device's NUMA node `near` first; in turn one of each last-level cache, the cache with
/// the most cores first, so that queues get caches of their own while there are any.
pub(super) fn ordered(cores: &[Core], allowed: &CpuSet, near: Option<u32>) -> Vec<Core> {
    let allowed = |core: &Core| Core {
        cpus: core.cpus.intersection(allowed),
        ..*core
    };
    let kept = cores
        .iter()
        .map(allowed)
        .filter(|core| !core.cpus.is_empty());
    let mut seen: BTreeMap<u32, u32> = BTreeMap::new();
    let mut placed: Vec<(u32, Core)> = Vec::new();
    for core in kept {
        let count = seen.entry(core.llc).or_default();
        placed.push((*count, core));
        *count += 1;
    }
    placed.sort_by_key(|(position, core)| {
        let far = near.is_some_and(|near| near != core.node);
        let size = seen.get(&core.llc).copied();
        (far, *position, Reverse(size), core.llc, core.cpus.first())
    });
    placed.into_iter().map(|(_position, core)| core).collect()
}

/// The CPUs of `cores`, one of each core before the second of any.
pub(super) fn threads(cores: &[Core]) -> Vec<u32> {
    let widest = cores.iter().map(|core| core.cpus.len()).max();
    let thread = |n| cores.iter().filter_map(move |core| core.cpus.iter().nth(n));
    (0..widest.unwrap_or_default()).flat_map(thread).collect()
}

/// Shares `cores` out among `queues`: queue i gets core i, and every further core goes
/// to the queue with the fewest CPUs among those whose own core is nearest to it (same
/// cache, else same node). With more queues than cores they take turns.
pub(super) fn share(cores: &[Core], queues: usize) -> Vec<CpuSet> {
    let seeds: Vec<&Core> = cores.iter().cycle().take(queues).collect();
    let mut groups: Vec<CpuSet> = seeds.iter().map(|core| core.cpus.clone()).collect();
    groups.resize(queues, CpuSet::new());
    for core in cores.iter().skip(queues) {
        let cost = |(seed, group): &(&&Core, &mut CpuSet)| {
            (seed.llc != core.llc, seed.node != core.node, group.len())
        };
        if let Some((_seed, group)) = seeds.iter().zip(&mut groups).min_by_key(cost) {
            group.extend(core.cpus.iter());
        }
    }
    groups
}
