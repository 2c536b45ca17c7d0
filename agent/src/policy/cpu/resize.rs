//! Growing and shrinking a placement.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use berth_kernel::CpuSet;

use super::gaps::{Piece, Unit, free, pick, sum, touched};
use super::machine::count;
use super::{Booked, Core, Machine, Unplaced, Want, explain, place};
use crate::spec::WorkloadId;

/// The CPUs after the resize, with the reasons.
pub(super) fn resize(
    machine: &Machine,
    booked: &Booked,
    want: &Want,
    (id, held): (&WorkloadId, &CpuSet),
) -> Result<(CpuSet, Vec<String>), Unplaced> {
    let held = match want.unit {
        Unit::Cores => whole(machine, booked, want, (id, held))?,
        Unit::Threads => held.clone(),
    };
    let has = units(machine, &held, want.unit);
    let (cpus, why) = if has < want.n {
        grow(machine, booked, want, &held)?
    } else if has > want.n {
        shrink(machine, booked, want, &held)
    } else {
        (
            held,
            vec!["it has as many already and keeps them".to_owned()],
        )
    };
    let nodes = machine.nodes_of(&cpus);
    if want.single && nodes.len() > 1 {
        return Err(explain::on_several_nodes(want, &nodes));
    }
    Ok((cpus, why))
}

/// How many units a placement is.
///
/// An offline CPU whose core is not known counts to a held core that lacks a thread;
/// the rest of them make cores of the usual size.
pub(super) fn units(machine: &Machine, held: &CpuSet, unit: Unit) -> u32 {
    if unit == Unit::Threads {
        return count(held);
    }
    let threads = machine.threads_per_core();
    let (known, dark): (Vec<&Core>, Vec<&Core>) =
        touched(machine, held).partition(|core| core.known);
    let lacking = known.iter().map(|core| threads - count(&core.cpus));
    let homeless = u32::try_from(dark.len()).unwrap_or(u32::MAX);
    let more = homeless.saturating_sub(lacking.sum()).div_ceil(threads);
    u32::try_from(known.len()).unwrap_or(u32::MAX) + more
}

/// The held CPUs with the threads of their cores that are online and missing: a thread
/// that came online, or a workload that had single threads and now wishes whole cores.
fn whole(
    machine: &Machine,
    booked: &Booked,
    want: &Want,
    (id, held): (&WorkloadId, &CpuSet),
) -> Result<CpuSet, Unplaced> {
    let cores = touched(machine, held).flat_map(|core| core.cpus.iter());
    let cores: CpuSet = cores.collect();
    let others = booked.without(id).held();
    let shared = cores.intersection(&others);
    if !shared.is_empty() {
        return Err(explain::cores_shared(want, held, &shared));
    }
    let missing = cores.intersection(&machine.online).difference(held);
    let missing = missing.difference(&machine.isolated);
    Ok(held.union(&missing))
}

/// Keeps all and adds the nearest: on its own cores, under its caches, on its nodes,
/// then by distance.
fn grow(
    machine: &Machine,
    booked: &Booked,
    want: &Want,
    held: &CpuSet,
) -> Result<(CpuSet, Vec<String>), Unplaced> {
    let has = units(machine, held, want.unit);
    let free = free(machine, booked, want.unit);
    let homes = machine.nodes_of(held);
    let rings = rings(machine, &free, held, want);
    let allowed = rings
        .iter()
        .filter(|(ring, _)| !want.single || ring.is_home());
    let mut cpus = held.clone();
    let mut left = want.n - has;
    let mut why = Vec::new();
    for (ring, pieces) in allowed {
        let picked = pick(pieces, left, want.unit);
        if picked.is_empty() {
            continue;
        }
        let taken = sum(pieces.iter().copied(), want.unit).min(left);
        left -= taken;
        why.push(explain::added(want, taken, &picked, ring.name()));
        cpus.extend(picked.iter());
        if left == 0 {
            why.insert(0, explain::kept(held));
            return Ok((cpus, why));
        }
    }
    let sizes = place::sizes(&free, want);
    Err(explain::cannot_grow(want, has, (&homes, &sizes)))
}

/// How near free pieces are to a placement; the nearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ring {
    /// On one of its cores: only single threads.
    Core,
    /// Under one of its last-level caches.
    Cache,
    /// On one of its nodes.
    Node,
    /// On another node: so far, this node.
    Far(u32, u32),
}

impl Ring {
    fn is_home(self) -> bool {
        !matches!(self, Self::Far(..))
    }

    fn name(self) -> String {
        match self {
            Self::Core => "on its own cores".to_owned(),
            Self::Cache => "under a last-level cache it uses already".to_owned(),
            Self::Node => "on its NUMA node, under another last-level cache".to_owned(),
            Self::Far(_distance, node) => {
                format!("on NUMA node {node}, the nearest other with free ones")
            }
        }
    }
}

/// The free pieces by how near they are.
fn rings<'a>(
    machine: &Machine,
    free: &'a [Piece],
    held: &CpuSet,
    want: &Want,
) -> BTreeMap<Ring, Vec<&'a Piece>> {
    let mine: Vec<&Core> = touched(machine, held).collect();
    let homes = machine.nodes_of(held);
    let mut rings: BTreeMap<Ring, Vec<&Piece>> = BTreeMap::new();
    for piece in free {
        let on_core = |core: &&Core| !core.cpus.intersection(&piece.cpus).is_empty();
        let ring = if mine.iter().any(on_core) {
            Ring::Core
        } else if mine.iter().any(|core| core.llc == piece.llc) {
            Ring::Cache
        } else if homes.contains(piece.node) {
            Ring::Node
        } else {
            let from = homes.iter().chain(want.near);
            let far = from.map(|home| machine.distance(home, piece.node)).sum();
            Ring::Far(far, piece.node)
        };
        rings.entry(ring).or_default().push(piece);
    }
    rings
}

/// Gives back the farthest, one after the other.
fn shrink(machine: &Machine, booked: &Booked, want: &Want, held: &CpuSet) -> (CpuSet, Vec<String>) {
    let free = free(machine, booked, want.unit);
    let mut kept = held.clone();
    let mut why = Vec::new();
    while units(machine, &kept, want.unit) > want.n {
        let Some((core, reason)) = farthest(machine, &free, want, &kept) else {
            break;
        };
        let mut back = core.cpus.intersection(&kept);
        if want.unit == Unit::Threads {
            // An offline thread first, then the highest: one at a time.
            let offline = back.difference(&machine.online);
            back = offline.last().or(back.last()).into_iter().collect();
        }
        why.push(explain::given_back(&back, reason));
        kept = kept.difference(&back);
    }
    (kept, why)
}

/// The held core to give back first, and why this one.
fn farthest<'a>(
    machine: &'a Machine,
    free: &[Piece],
    want: &Want,
    kept: &CpuSet,
) -> Option<(&'a Core, &'static str)> {
    let cores: Vec<&Core> = touched(machine, kept).collect();
    let on = |mine: &dyn Fn(&Core) -> bool| {
        let mine = cores.iter().filter(|core| mine(core));
        mine.map(|core| count(&core.cpus.intersection(kept)))
            .sum::<u32>()
    };
    let rank = |core: &Core| {
        let hole = free.iter().filter(|piece| piece.llc == core.llc);
        let near = want
            .near
            .map_or(0, |near| machine.distance(near, core.node));
        (
            // What does not run is the first to go: never is it all that stays.
            machine.runs(core),
            machine.usable(core),
            on(&|other| other.node == core.node),
            Reverse(near),
            on(&|other| other.llc == core.llc),
            Reverse(sum(hole, want.unit)),
            // Of single threads the rest of a shared core before half a core.
            count(&core.cpus.intersection(kept)),
            Reverse(core.cpus.first()),
        )
    };
    let core = cores.iter().min_by_key(|core| rank(core))?;
    let nodes = machine.nodes_of(kept).len();
    let caches = cores.iter().any(|other| other.llc != core.llc);
    let reason = if !machine.runs(core) {
        "offline"
    } else if !machine.usable(core) {
        "reserved for housekeeping or isolated by now"
    } else if nodes > 1 {
        "on the NUMA node with the fewest of its CPUs"
    } else if caches {
        "under the last-level cache with the fewest of its CPUs"
    } else {
        "the highest of those that are equally near"
    };
    Some((core, reason))
}
