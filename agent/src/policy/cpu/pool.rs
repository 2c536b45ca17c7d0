//! The shared pool: the CPUs all shared workloads have in common; and what is free of
//! the machine.

use berth_kernel::CpuSet;

use super::gaps::{Piece, Unit, claimed, free, groups};
use super::machine::count;
use super::{Ask, Booked, Machine, Unplaced, Want, explain};
use crate::spec::{CpuMode, CpuSpec};

/// What is free on a NUMA node. Free numbers are what one more workload could get; they
/// leave the shared pool what it was promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeFree {
    /// The node.
    pub(crate) node: u32,
    /// Its cores, of which the kernel tells.
    pub(crate) cores: u32,
    /// All its CPUs that are plugged in.
    pub(crate) cpus: CpuSet,
    /// Its housekeeping CPUs.
    pub(crate) reserved: CpuSet,
    /// Those the kernel isolates.
    pub(crate) isolated: CpuSet,
    /// Those that are offline.
    pub(crate) offline: CpuSet,
    /// Whole cores that can be given to a workload.
    pub(crate) exclusive_free: u32,
    /// The most whole cores under one last-level cache.
    pub(crate) largest_hole: u32,
    /// Its part of the shared pool.
    pub(crate) shared_pool: CpuSet,
}

/// The CPUs shared workloads run on: all that are online and neither isolated, reserved
/// nor anybody's own. Housekeeping CPUs join only if that would be nothing, or less than
/// what was promised (CPUs went offline): the pool is not empty as long as a CPU runs.
pub(crate) fn shared_pool(machine: &Machine, booked: &Booked) -> CpuSet {
    let pool = own(machine, booked);
    if count(&pool) >= booked.shared_cpus.max(1) {
        return pool;
    }
    let pool = pool.union(&housekeeping(machine, booked));
    if !pool.is_empty() {
        return pool;
    }
    // Better the sibling of somebody's core than the core itself.
    [claimed(machine, booked), booked.held(), CpuSet::new()]
        .iter()
        .map(|taken| machine.online.difference(taken))
        .find(|rest| !rest.is_empty())
        .unwrap_or_default()
}

/// The pool without housekeeping CPUs: what can be promised.
fn own(machine: &Machine, booked: &Booked) -> CpuSet {
    let free = machine.online.difference(&claimed(machine, booked));
    free.difference(&machine.reserved)
        .difference(&machine.isolated)
}

/// Housekeeping CPUs the pool can fall back to.
fn housekeeping(machine: &Machine, booked: &Booked) -> CpuSet {
    let there = machine.reserved.intersection(&machine.online);
    let there = there.difference(&machine.isolated);
    there.difference(&claimed(machine, booked))
}

/// How many CPUs exclusive workloads must leave to the pool.
fn floor(machine: &Machine, booked: &Booked) -> u32 {
    let fallback = !housekeeping(machine, booked).is_empty();
    booked.shared_cpus.max(u32::from(!fallback))
}

/// Refuses `after` if it takes CPUs from the pool and leaves it less than it must have.
pub(super) fn stays(
    machine: &Machine,
    before: &Booked,
    after: &Booked,
    want: &Want,
) -> Result<(), Unplaced> {
    let (had, has) = (own(machine, before), own(machine, after));
    let floor = floor(machine, after);
    if count(&has) >= floor || had.is_subset(&has) {
        return Ok(());
    }
    Err(explain::pool_needs(want, floor, (count(&had), count(&has))))
}

/// What a shared wish is in logical CPUs: `cores` count with all their threads. 0 for an
/// exclusive wish.
pub(crate) fn shared_cpus(machine: &Machine, wish: &CpuSpec) -> u32 {
    if wish.mode != CpuMode::Shared {
        return 0;
    }
    let cores = wish.cores.unwrap_or_default();
    let of_cores = cores.saturating_mul(machine.threads_per_core());
    wish.cpus.unwrap_or(of_cores)
}

/// Whether a shared wish fits into the pool, with the reasons. [`Booked::shared_cpus`]
/// is what others were promised, without this workload; exclusive CPUs it holds so far
/// come back.
///
/// # Errors
/// When it does not fit, or the wish names no number.
pub(crate) fn fits_shared(
    machine: &Machine,
    booked: &Booked,
    ask: &Ask,
) -> Result<Vec<String>, Unplaced> {
    let asked = shared_cpus(machine, ask.wish);
    if asked == 0 {
        return Err(explain::no_number());
    }
    let pool = own(machine, &booked.without(ask.id));
    let left = count(&pool).saturating_sub(booked.shared_cpus);
    if asked > left {
        return Err(explain::pool_too_small(asked, &pool, booked.shared_cpus));
    }
    Ok(vec![explain::in_pool(asked, &pool, booked.shared_cpus)])
}

/// What is free, by NUMA node.
pub(crate) fn free_cores(machine: &Machine, booked: &Booked) -> Vec<NodeFree> {
    let pool = shared_pool(machine, booked);
    let spare = count(&own(machine, booked)).saturating_sub(floor(machine, booked));
    let free = free(machine, booked, Unit::Cores);
    let of_node = |node: u32| {
        let cpus = machine.cpus_of(node);
        let pieces: Vec<_> = free.iter().filter(|piece| piece.node == node).collect();
        let groups = groups(&pieces);
        let hole = groups.values().map(|group| within(spare, group)).max();
        let exclusive_free = within(spare, &pieces);
        let known = machine.cores.iter().filter(|core| core.known);
        let known = known.filter(|core| core.node == node).count();
        NodeFree {
            node,
            cores: u32::try_from(known).unwrap_or(u32::MAX),
            reserved: machine.reserved.intersection(&cpus),
            isolated: machine.isolated.intersection(&cpus),
            offline: cpus.difference(&machine.online),
            exclusive_free,
            // A group of cores with few threads fits more of them than the node's largest.
            largest_hole: hole.unwrap_or_default().min(exclusive_free),
            shared_pool: pool.intersection(&cpus),
            cpus,
        }
    };
    machine.nodes().into_iter().map(of_node).collect()
}

/// How many of these cores have at most `spare` CPUs, whichever of them are chosen: the
/// largest are counted first.
fn within(spare: u32, pieces: &[&Piece]) -> u32 {
    let mut sizes: Vec<u32> = pieces.iter().map(|piece| count(&piece.cpus)).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let sums = sizes.iter().scan(0_u32, |sum, size| {
        *sum = sum.saturating_add(*size);
        Some(*sum)
    });
    let fits = sums.take_while(|sum| *sum <= spare).count();
    u32::try_from(fits).unwrap_or(u32::MAX)
}
