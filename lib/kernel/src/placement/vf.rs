//! Where the packet work of a virtual function runs: how many queues, at which CPU each
//! of its interrupts arrives, and which CPUs share its queues.
//!
//! With P the cores of a pinned container, those of the VF's NUMA node first, in turn one
//! of each last-level cache:
//!
//! | queues | interrupt of queue i | RPS of receive queue i | XPS of transmit queue i |
//! |---|---|---|---|
//! | as many as P or more | P\[i\] | off | the core of P\[i\] |
//! | more than one, fewer than P | P\[i\] | its share of the cores, by cache; from four CPUs on without P\[i\] | its share |
//! | one | P\[0\] | all cores but that of P\[0\] | nothing to choose |
//! | any, all interrupts at one CPU | P\[0\] | its share of the other cores | its share |
//! | any, interrupts at housekeeping CPUs | there | off: packet work stays away from the container | its share |
//! | any, interrupts elsewhere | there | its share, without the interrupt's CPU | its share |
//! | of a container that is not pinned | CPUs near the device, in turn | left alone | left alone |

use super::order::{ordered, share};
use super::spots::Spots;
use super::{AutoInput, usable_for_rps};
use crate::cpu::{Core, CpuSet};
use crate::irq::{Irq, Role, Vector};

#[cfg(test)]
mod tests;

/// What is wished for a VF, and the machine it is on.
#[derive(Debug, Clone)]
pub struct VfWish<'a> {
    /// The container's CPUs and the node's.
    pub cpus: &'a AutoInput,
    /// The machine's cores: [`crate::cpu::cores`].
    pub cores: &'a [Core],
    /// The VF's NUMA node, if known.
    pub node: Option<u32>,
    /// The CPUs that RPS cannot use: [`crate::cpu::isolated`].
    pub isolated: CpuSet,
    /// Any number that tells the node's VFs apart, as the VF's index: where CPUs are
    /// shared by all, each VF starts at another one.
    pub turn: u32,
    /// The CPUs its interrupts may arrive at.
    pub irq: IrqPolicy,
    /// Which of them are taken.
    pub placement: IrqPlacement,
    /// The CPUs that share its receive queues.
    pub rps: Steer,
    /// The CPUs that share its transmit queues.
    pub xps: Steer,
}

/// The CPUs the interrupts may arrive at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IrqPolicy {
    /// The container's, as [`super::auto_cpus`] finds them.
    Cpuset,
    /// Those of the VF's NUMA node that are the container's or nobody's.
    Numa,
    /// All that are the container's or nobody's.
    Spread,
    /// One of the container's for all vectors.
    Single,
    /// These, as far as they are online.
    Cpus(CpuSet),
    /// The interrupts are left alone.
    Off,
}

/// Which of the allowed CPUs are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IrqPlacement {
    /// Every queue has one of its own, cores before threads.
    Own,
    /// The first one for all queues, so that the application can keep off one core.
    First,
    /// The second threads of cores of which both threads are allowed.
    Sibling,
    /// Housekeeping CPUs instead of the policy's, as for control vectors.
    Housekeeping,
}

/// The CPUs that share the queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Steer {
    /// By the table of this module.
    Auto,
    /// These for every queue.
    List(CpuSet),
    /// The queues are left alone.
    Off,
}

/// The CPUs of each queue, by its number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Steering {
    /// RPS of each receive queue; `None`: left alone, the empty set: off.
    pub rps: Vec<Option<CpuSet>>,
    /// XPS of each transmit queue; `None`: left alone.
    pub xps: Vec<Option<CpuSet>>,
    /// What was not possible, for the log.
    pub notes: Vec<String>,
}

/// The CPU of each interrupt that is to be placed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IrqPlan {
    /// In the order of the vectors; those that are not here are left alone.
    pub irqs: Vec<(Irq, u32)>,
    /// What was not possible, for the log.
    pub notes: Vec<String>,
}

/// To how many combined channels a VF that has `have` should be set, where the table
/// wants fewer: one per core of a pinned container. `None`: it keeps them.
pub fn channels(wish: &VfWish<'_>, have: u32) -> Option<u32> {
    let one_each = matches!(wish.placement, IrqPlacement::Own | IrqPlacement::Sibling);
    if wish.irq != IrqPolicy::Cpuset || !one_each {
        return None;
    }
    let cores = ordered(wish.cores, &wish.own()?, wish.node);
    let cores = u32::try_from(cores.len()).ok()?;
    (0 < cores && cores < have).then_some(cores)
}

/// The CPUs that share each of `rx` receive and `tx` transmit queues.
pub fn steer(wish: &VfWish<'_>, rx: usize, tx: usize) -> Steering {
    let own = wish.own().map(|own| ordered(wish.cores, &own, wish.node));
    let mut notes = Vec::new();
    if own.is_none() && (wish.rps == Steer::Auto || wish.xps == Steer::Auto) {
        notes.push("the container is not pinned: RPS and XPS on auto are left alone".to_owned());
    }
    let rps = match (&wish.rps, &own) {
        (Steer::Off, _) | (Steer::Auto, None) => None,
        (Steer::List(cpus), _) => Some(vec![cpus.clone(); rx]),
        (Steer::Auto, Some(own)) => Some(rps(wish, own, rx)),
    };
    let xps = match (&wish.xps, &own) {
        // The kernel has nothing to choose from.
        _ if tx < 2 => None,
        (Steer::Off, _) | (Steer::Auto, None) => None,
        (Steer::List(cpus), _) => Some(vec![cpus.clone(); tx]),
        (Steer::Auto, Some(own)) => Some(share(own, tx)),
    };
    let rps = rps.map(|groups| not_isolated(&groups, &wish.isolated, &mut notes));
    Steering {
        rps: each(rps, rx),
        xps: each(xps, tx),
        notes,
    }
}

/// The CPU each of `vectors` is to arrive at: one each. Those without a handler are left
/// alone.
pub fn place_irqs(wish: &VfWish<'_>, vectors: &[Vector]) -> IrqPlan {
    let mut plan = IrqPlan::default();
    if wish.irq == IrqPolicy::Off {
        return plan;
    }
    if vectors.iter().all(|vector| vector.role == Role::Idle) {
        let note = "no interrupt has a handler: the interface is not up, or has none";
        plan.notes.push(note.to_owned());
        return plan;
    }
    let spots = Spots::of(wish, &mut plan.notes);
    if spots.is_empty() {
        return plan;
    }
    plan.notes.extend(wish.distance());
    let apart = wish.irq != IrqPolicy::Single && !wish.at_housekeeping();
    let control = if apart && vectors.iter().any(|vector| vector.role == Role::Control) {
        Spots::aside(wish, &mut plan.notes)
    } else {
        None
    };
    let control = control.as_ref().unwrap_or(&spots);
    let mut nth = 0;
    for vector in vectors {
        let cpu = match (vector.role, vector.role.queue()) {
            (Role::Idle, _) => None,
            (_, Some(queue)) => spots.cpu(queue),
            (_, None) => {
                nth += 1;
                control.cpu(nth - 1)
            }
        };
        plan.irqs.extend(cpu.map(|cpu| (vector.irq, cpu)));
    }
    plan
}

/// The table's column for RPS on `auto`, for a container pinned to the cores `own`.
fn rps(wish: &VfWish<'_>, own: &[Core], queues: usize) -> Vec<CpuSet> {
    let off = vec![CpuSet::new(); queues];
    if wish.at_housekeeping() {
        return off;
    }
    let spots = Spots::of(wish, &mut Vec::new());
    let at_own = wish.at_own_cores();
    if at_own && (queues == 1 || wish.at_one_cpu()) {
        let first = spots.cpu(0);
        let others = |core: &&Core| !first.is_some_and(|cpu| core.cpus.contains(cpu));
        let others: Vec<Core> = own.iter().filter(others).cloned().collect();
        return share(&others, queues);
    }
    if at_own && queues >= own.len() {
        return off;
    }
    let mut groups = share(own, queues);
    for (queue, group) in (0..).zip(&mut groups) {
        // With few others to share with, the interrupt's CPU has to take its part; alone
        // it has the packets anyway.
        let usable = group.difference(&wish.isolated).len();
        let needed = at_own && (2..4).contains(&usable);
        if let Some(cpu) = spots.cpu(queue)
            && !needed
        {
            group.remove(cpu);
        }
    }
    groups
}

fn not_isolated(groups: &[CpuSet], isolated: &CpuSet, notes: &mut Vec<String>) -> Vec<CpuSet> {
    let all: CpuSet = groups.iter().flat_map(CpuSet::iter).collect();
    notes.extend(usable_for_rps(&all, isolated).1);
    let usable = |group| usable_for_rps(group, isolated).0;
    groups.iter().map(usable).collect()
}

fn each(groups: Option<Vec<CpuSet>>, queues: usize) -> Vec<Option<CpuSet>> {
    groups.map_or_else(
        || vec![None; queues],
        |groups| groups.into_iter().map(Some).collect(),
    )
}
