//! The CPUs that a VF's interrupts are dealt to.

use super::order::{ordered, threads};
use super::vf::{IrqPlacement, IrqPolicy, VfWish};
use super::{Auto, auto_cpus};
use crate::cpu::{Core, CpuSet};

impl VfWish<'_> {
    /// The container's own CPUs, if it is pinned.
    pub(super) fn own(&self) -> Option<CpuSet> {
        match auto_cpus(self.cpus) {
            Auto::Container(cpus) => Some(cpus),
            Auto::Local(_) | Auto::Nothing(_) => None,
        }
    }

    /// Whether the policy is to have queues' interrupts on the container's own cores.
    pub(super) fn at_own_cores(&self) -> bool {
        matches!(self.irq, IrqPolicy::Cpuset | IrqPolicy::Single)
            && self.placement != IrqPlacement::Housekeeping
    }

    /// Whether all queues' interrupts go to one CPU.
    pub(super) fn at_one_cpu(&self) -> bool {
        self.irq == IrqPolicy::Single || self.placement == IrqPlacement::First
    }

    /// Whether queues' interrupts keep off the container; a list of CPUs is taken as
    /// it is.
    pub(super) fn at_housekeeping(&self) -> bool {
        self.placement == IrqPlacement::Housekeeping
            && !matches!(self.irq, IrqPolicy::Cpus(_) | IrqPolicy::Off)
    }

    /// What is to be said of a pinned container that has CPUs far from the VF.
    pub(super) fn distance(&self) -> Option<String> {
        let node = self.node?;
        let far = self.own()?.difference(self.cpus.numa_local.as_ref()?);
        let note = format!("the container's CPUs {far} are not on NUMA node {node} of the VF");
        (!far.is_empty()).then_some(note)
    }

    /// The online CPUs that are nobody's in particular.
    fn shared(&self) -> CpuSet {
        let effective = &self.cpus.root_effective;
        effective.intersection(&self.cpus.node_online)
    }

    /// The policy's CPUs; empty, with a note, where it has none.
    fn allowed(&self, notes: &mut Vec<String>) -> CpuSet {
        let usable = || self.shared().union(&self.own().unwrap_or_default());
        let online = &self.cpus.node_online;
        let (cpus, why) = match &self.irq {
            IrqPolicy::Off => return CpuSet::new(),
            IrqPolicy::Cpuset | IrqPolicy::Single => match auto_cpus(self.cpus) {
                Auto::Container(cpus) | Auto::Local(cpus) => return cpus,
                Auto::Nothing(why) => (CpuSet::new(), why),
            },
            IrqPolicy::Numa => {
                let near = self.cpus.numa_local.clone().unwrap_or_default();
                let why = "no CPU near the device is the container's or shared";
                (near.intersection(&usable()), why.to_owned())
            }
            IrqPolicy::Spread => (usable(), "no CPU is the container's or shared".to_owned()),
            IrqPolicy::Cpus(list) => {
                let offline = list.difference(online);
                if !offline.is_empty() {
                    notes.push(format!(
                        "interrupts cannot arrive at CPU {offline}: offline"
                    ));
                }
                (
                    list.intersection(online),
                    format!("of the CPUs {list} none is online"),
                )
            }
        };
        if cpus.is_empty() {
            notes.push(format!("the interrupts stay where they are: {why}"));
        }
        cpus
    }
}

/// CPUs that interrupts are dealt to in turn.
#[derive(Debug)]
pub(super) struct Spots {
    cpus: Vec<u32>,
    first: usize,
}

impl Spots {
    /// For the queues; empty, with a note, where the interrupts are to be left alone.
    pub(super) fn of(wish: &VfWish<'_>, notes: &mut Vec<String>) -> Self {
        if wish.at_housekeeping()
            && let Some(spots) = Self::aside(wish, notes)
        {
            return spots;
        }
        let cores = ordered(wish.cores, &wish.allowed(notes), wish.node);
        let cpus = match wish.placement {
            IrqPlacement::Sibling => siblings(&cores, notes),
            _ => threads(&cores),
        };
        let own = wish.at_own_cores() && wish.own().is_some();
        let spots = Self::dealt(cpus, if own { 0 } else { wish.turn });
        if wish.at_one_cpu() {
            return Self::dealt(spots.cpu(0).into_iter().collect(), 0);
        }
        spots
    }

    /// For what is to keep off the container, as control vectors: housekeeping CPUs,
    /// near ones if there are any; else shared ones, near ones if there are any.
    pub(super) fn aside(wish: &VfWish<'_>, notes: &mut Vec<String>) -> Option<Self> {
        let own = wish.own().unwrap_or_default();
        let near = wish.cpus.numa_local.clone().unwrap_or_default();
        let keeping = wish.cpus.housekeeping.clone().unwrap_or_default();
        let keeping = keeping
            .intersection(&wish.cpus.node_online)
            .difference(&own);
        let shared = wish.shared().difference(&own);
        let far = "no shared CPU is near the VF: interrupts that keep off the container arrive \
                   at far ones";
        let choices = [
            (keeping.intersection(&near), None),
            (keeping, None),
            (shared.intersection(&near), None),
            (shared, Some(far)),
        ];
        let chosen = choices.into_iter().find(|(cpus, _note)| !cpus.is_empty());
        let Some((cpus, note)) = chosen else {
            let note = "all CPUs are the container's: also interrupts that should keep off it \
                        arrive there";
            notes.push(note.to_owned());
            return None;
        };
        notes.extend(note.map(str::to_owned));
        Some(Self::dealt(cpus.iter().collect(), wish.turn))
    }

    /// Whether there is no CPU.
    pub(super) fn is_empty(&self) -> bool {
        self.cpus.is_empty()
    }

    /// The CPU of number `n` of what is dealt.
    pub(super) fn cpu(&self, n: u32) -> Option<u32> {
        let n = self.first.checked_add(usize::try_from(n).ok()?)?;
        self.cpus.get(n.checked_rem(self.cpus.len())?).copied()
    }

    fn dealt(cpus: Vec<u32>, turn: u32) -> Self {
        let first = usize::try_from(turn).unwrap_or_default();
        Self { cpus, first }
    }
}

/// The second threads; the first ones, with a note, where no core has two.
fn siblings(cores: &[Core], notes: &mut Vec<String>) -> Vec<u32> {
    let second = |core: &Core| core.cpus.iter().nth(1);
    let seconds: Vec<u32> = cores.iter().filter_map(second).collect();
    if !seconds.is_empty() || cores.is_empty() {
        return seconds;
    }
    let note = "no core has two threads that interrupts may arrive at: first threads are taken";
    notes.push(note.to_owned());
    threads(cores)
}
