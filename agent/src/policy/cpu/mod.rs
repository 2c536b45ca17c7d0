//! Which CPUs a workload gets. Pure: a machine, what is booked and a wish in, a
//! placement or a refusal out, each with its reasons in sentences.
//!
//! The rules:
//! - Reserved, isolated and offline CPUs are never handed out; a placement that holds
//!   one that went offline keeps it.
//! - `cores` are whole: all threads of a core belong to one workload. `cpus` are single
//!   threads; two such workloads may share a core, never with one of whole cores.
//! - `numa: single` is one node or a refusal; `numa: any` is as few nodes as possible.
//! - The node near the workload's virtual function first; then the smallest free group
//!   of cores under one last-level cache that suffices, so that large holes stay whole.
//! - A resize keeps what it can: growing keeps every CPU and adds the nearest, shrinking
//!   gives back the farthest.
//! - The shared pool keeps as many CPUs as shared workloads were promised, and is never
//!   empty.

use std::collections::{BTreeMap, BTreeSet};

use berth_kernel::CpuSet;

use crate::refusal::{Code, Missing, Refusal};
use crate::spec::{CpuMode, CpuNuma, CpuSpec, WorkloadId};

mod explain;
mod gaps;
mod machine;
mod place;
mod pool;
mod resize;
#[cfg(test)]
mod tests;

pub(crate) use machine::{Core, Machine, Reserved};
pub(crate) use pool::{NodeFree, fits_shared, free_cores, shared_cpus, shared_pool};

use gaps::Unit;

/// What is promised to workloads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Booked {
    /// The CPUs of each exclusive workload.
    pub(crate) exclusive: BTreeMap<WorkloadId, CpuSet>,
    /// Those of them that were booked by `cpus`, single threads; all others hold whole
    /// cores, also the threads of them that come online later.
    pub(crate) single_threads: BTreeSet<WorkloadId>,
    /// The sum of what shared workloads were promised, in logical CPUs
    /// ([`shared_cpus`] of each).
    pub(crate) shared_cpus: u32,
}

impl Booked {
    /// All CPUs somebody holds exclusively.
    pub(super) fn held(&self) -> CpuSet {
        self.exclusive.values().flat_map(CpuSet::iter).collect()
    }

    /// Without the exclusive CPUs of one workload.
    pub(super) fn without(&self, id: &WorkloadId) -> Self {
        let mut rest = self.clone();
        rest.exclusive.remove(id);
        rest
    }
}

/// A workload's wish for CPUs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    /// Whose it is; a workload in [`Booked::exclusive`] is resized.
    pub(crate) id: &'a WorkloadId,
    /// What is wished.
    pub(crate) wish: &'a CpuSpec,
    /// The NUMA node of its virtual function.
    pub(crate) near: Option<u32>,
}

/// Where a workload runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Its CPUs: exclusively its own, or the shared pool.
    pub(crate) cpus: CpuSet,
    /// Their NUMA nodes.
    pub(crate) nodes: CpuSet,
    /// Why these.
    pub(crate) why: Vec<String>,
}

/// Why a workload cannot be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unplaced {
    /// [`Code::DoesNotFit`], or [`Code::Invalid`] for a wish without a number.
    pub(crate) code: Code,
    /// What was wished, `4 exclusive whole cores on one NUMA node`.
    pub(crate) wish: String,
    /// What is lacking.
    pub(crate) missing: Vec<Missing>,
    /// The reasons, one sentence each.
    pub(crate) why: Vec<String>,
    /// What the operator can do.
    pub(crate) next: String,
}

impl Unplaced {
    /// As the answer to the request.
    pub(crate) fn refusal(self, id: &WorkloadId) -> Refusal {
        let object = format!("workload {id}");
        Refusal::new(self.code, object, self.wish, self.why.join("; "), self.next)
            .lacking(self.missing)
    }
}

/// An exclusive wish in numbers.
#[derive(Debug, Clone, Copy)]
struct Want {
    /// How many.
    n: u32,
    /// Of what.
    unit: Unit,
    /// All on one NUMA node.
    single: bool,
    /// The node of the workload's virtual function.
    near: Option<u32>,
}

/// Places a workload. A shared one is checked against the pool ([`fits_shared`]) and
/// gets all of it.
///
/// # Errors
/// When it does not fit, or the wish names no number of cores or CPUs.
pub(crate) fn place(machine: &Machine, booked: &Booked, ask: &Ask) -> Result<Placed, Unplaced> {
    if ask.wish.mode == CpuMode::Shared {
        let why = fits_shared(machine, booked, ask)?;
        let cpus = shared_pool(machine, &booked.without(ask.id));
        let nodes = machine.nodes_of(&cpus);
        return Ok(Placed { cpus, nodes, why });
    }
    let want = want(ask)?;
    let mut after = booked.clone();
    if want.unit == Unit::Threads {
        after.single_threads.insert(ask.id.clone());
    } else {
        after.single_threads.remove(ask.id);
    }
    let held = booked.exclusive.get(ask.id);
    let (cpus, mut why) = match held.filter(|held| !held.is_empty()) {
        Some(held) => resize::resize(machine, &after, &want, (ask.id, held))?,
        None => place::place(machine, &after, &want)?,
    };
    after.exclusive.insert(ask.id.clone(), cpus.clone());
    pool::stays(machine, booked, &after, &want)?;
    let nodes = machine.nodes_of(&cpus);
    why.insert(0, explain::result(&want, &cpus, &nodes));
    Ok(Placed { cpus, nodes, why })
}

/// The wish in numbers.
fn want(ask: &Ask) -> Result<Want, Unplaced> {
    let (n, unit) = match (ask.wish.cores, ask.wish.cpus) {
        (Some(n), None) if n > 0 => (n, Unit::Cores),
        (None, Some(n)) if n > 0 => (n, Unit::Threads),
        _ => return Err(explain::no_number()),
    };
    let single = ask.wish.numa == CpuNuma::Single;
    Ok(Want {
        n,
        unit,
        single,
        near: ask.near,
    })
}
