//! Packet work: the interrupts and queues of workloads' virtual functions on their own
//! cores, every other interrupt off exclusive ones.
//!
//! An interrupt that is moved off starts each time from the CPUs it had before its first
//! move, less those that are exclusive now: it gets CPUs back as soon as they are free.

use std::collections::{BTreeMap, BTreeSet};

use berth_kernel::cpu::Core;
use berth_kernel::placement::AutoInput;
use berth_kernel::placement::vf::{IrqPlacement, IrqPolicy, Steer, VfWish, place_irqs, steer};
use berth_kernel::{CpuSet, PciAddr};
use berth_state::{Key, steered};

use crate::engine::knob::{Knob, Value};
use crate::observe::irqs::Interrupt;
use crate::observe::network::{Attachment, Interface};
use crate::spec::{PacketWork, WorkloadId};

/// How many kinds of interrupts a note names at most.
const KINDS: usize = 6;

/// The node as it is.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    /// The machine.
    pub(crate) machine: &'a Machine,
    /// The exclusive CPUs of each workload that has any.
    pub(crate) exclusive: &'a BTreeMap<WorkloadId, CpuSet>,
    /// What workloads wish for the attachments that are theirs.
    pub(crate) work: &'a BTreeMap<Key, Work>,
    /// Every attachment with a VF.
    pub(crate) attachments: &'a [Attachment],
    /// Every interrupt.
    pub(crate) interrupts: &'a [Interrupt],
    /// Where new interrupts arrive; `None`: not known, and left alone.
    pub(crate) default: Option<&'a CpuSet>,
    /// Whether irqbalance runs: it moves interrupts among the CPUs it is left, and what it
    /// has moved off exclusive ones itself stays there.
    pub(crate) balanced: bool,
    /// Interrupts to be left alone: what names of their handlers begin with.
    pub(crate) leave: &'a [String],
    /// What things were before the agent changed them.
    pub(crate) before: &'a BTreeMap<Knob, Value>,
}

/// The machine's CPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Online.
    pub(crate) online: CpuSet,
    /// For the node's own work.
    pub(crate) housekeeping: CpuSet,
    /// Those `isolcpus=` or `nohz_full=` keep RPS off.
    pub(crate) isolated: CpuSet,
    /// By core.
    pub(crate) cores: Vec<Core>,
    /// By NUMA node.
    pub(crate) nodes: BTreeMap<u32, CpuSet>,
}

/// What a workload wishes for an attachment of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Work {
    /// The workload.
    pub(crate) workload: WorkloadId,
    /// Where interrupts of the VF arrive.
    pub(crate) irq: PacketWork,
    /// Where its packets are processed.
    pub(crate) rps: PacketWork,
}

/// What is to be set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Each thing, its setting and why; each once.
    pub(crate) knobs: Vec<(Knob, Value, String)>,
    /// What is not possible.
    pub(crate) notes: Vec<String>,
    /// The attachments whose plugin has to know.
    pub(crate) steered: steered::Steered,
}

/// Decides. Every set of CPUs for an interrupt has an online CPU and none that is
/// exclusive to a workload whose VF it does not serve.
pub(crate) fn wanted(facts: &Facts<'_>) -> Wanted {
    let mut plan = Plan {
        facts,
        taken: union(facts.exclusive.values()),
        placed: BTreeSet::new(),
        wanted: Wanted::default(),
    };
    for attachment in facts.attachments {
        if let Some(work) = facts.work.get(&attachment.key)
            && let Some(own) = facts.exclusive.get(&work.workload)
        {
            plan.at_own_cores(attachment, work, own);
        }
    }
    plan.others();
    plan.default();
    plan.steered();
    plan.wanted
}

/// What becomes of an interrupt.
enum Other {
    /// It is left where it is.
    Stays,
    /// It is set.
    Off((Knob, Value, String)),
    /// It would have to move and cannot.
    Stuck,
    /// There is no CPU for it.
    Nowhere,
}

struct Plan<'a> {
    facts: &'a Facts<'a>,
    /// All exclusive CPUs.
    taken: CpuSet,
    /// The interrupts that have their place.
    placed: BTreeSet<u32>,
    wanted: Wanted,
}

impl Plan<'_> {
    /// A VF of a workload that has CPUs of its own.
    fn at_own_cores(&mut self, attachment: &Attachment, work: &Work, own: &CpuSet) {
        let machine = &self.facts.machine;
        let housekeeping = machine.housekeeping.difference(&self.taken);
        let cpus = AutoInput {
            container: Some(own.clone()),
            node_online: machine.online.clone(),
            root_effective: machine.online.difference(&self.taken),
            numa_local: self.near(attachment.numa_node),
            housekeeping: Some(housekeeping).filter(|cpus| !cpus.is_empty()),
        };
        let wish = VfWish {
            cpus: &cpus,
            cores: &machine.cores,
            node: attachment.numa_node,
            isolated: machine.isolated.clone(),
            turn: attachment.index,
            irq: match work.irq {
                PacketWork::OwnCores => IrqPolicy::Cpuset,
                PacketWork::Off => IrqPolicy::Off,
            },
            placement: IrqPlacement::Own,
            rps: match work.rps {
                PacketWork::OwnCores => Steer::Auto,
                PacketWork::Off => Steer::Off,
            },
            xps: match work.rps {
                PacketWork::OwnCores => Steer::Auto,
                PacketWork::Off => Steer::Off,
            },
        };
        self.vectors(attachment, work, &wish);
        if work.rps == PacketWork::OwnCores
            && let Some(interface) = &attachment.interface
        {
            self.queues(attachment, interface, work, &wish);
        }
    }

    fn vectors(&mut self, attachment: &Attachment, work: &Work, wish: &VfWish<'_>) {
        let plan = place_irqs(wish, &attachment.vectors);
        self.note(&attachment.key, plan.notes);
        for (irq, cpu) in plan.irqs {
            let vector = attachment.vectors.iter().find(|vector| vector.irq == irq);
            let name = vector.map_or("", |vector| &vector.action);
            if self.fixed(irq.0) {
                continue;
            }
            self.placed.insert(irq.0);
            let why = format!(
                "{name} of VF {}: packet work of {} on its own cores",
                attachment.vf, work.workload
            );
            let cpus = Value::Set([cpu].into_iter().collect());
            self.wanted
                .knobs
                .push((Knob::Irq { irq: irq.0 }, cpus, why));
        }
    }

    fn queues(
        &mut self,
        attachment: &Attachment,
        interface: &Interface,
        work: &Work,
        wish: &VfWish<'_>,
    ) {
        let plan = steer(wish, interface.rx.len(), interface.tx.len());
        self.note(&attachment.key, plan.notes);
        let why = format!(
            "packets of VF {} on {}'s cores",
            attachment.vf, work.workload
        );
        let (netns, name) = (attachment.netns, &interface.name);
        let rps = |queue: &u32| Knob::Rps {
            netns,
            interface: name.clone(),
            queue: *queue,
        };
        let xps = |queue: &u32| Knob::Xps {
            netns,
            interface: name.clone(),
            queue: *queue,
        };
        let rps = interface.rx.iter().map(rps).zip(plan.rps);
        let xps = interface.tx.iter().map(xps).zip(plan.xps);
        for (knob, cpus) in rps.chain(xps) {
            let wish = cpus.map(|cpus| (knob, Value::Set(cpus), why.clone()));
            self.wanted.knobs.extend(wish);
        }
    }

    /// Every interrupt that has no place yet.
    fn others(&mut self) {
        let owners = self.owners();
        let (mut moved, mut stuck, mut nowhere) = (Vec::new(), Vec::new(), Vec::new());
        for one in self.facts.interrupts {
            if self.placed.contains(&one.irq) || self.is_left(one) {
                continue;
            }
            let kept = self.kept_off(owners.get(&one.irq).copied());
            match self.other(one, &kept) {
                Other::Stays => {}
                Other::Off(wish) => moved.push(wish),
                Other::Stuck => stuck.push(one),
                Other::Nowhere => nowhere.push(one),
            }
        }
        self.wanted.knobs.extend(moved);
        self.unmoved("their devices or the kernel place them", &stuck);
        self.unmoved("every other CPU is exclusive or offline", &nowhere);
    }

    /// What becomes of an interrupt that is to keep off the CPUs `kept`.
    fn other(&self, one: &Interrupt, kept: &CpuSet) -> Other {
        let knob = Knob::Irq { irq: one.irq };
        let base = self.base(&knob, &one.affinity);
        // Without a handler it does not arrive; it gets the default when it has one.
        let idle = one.actions.is_empty() && !self.facts.before.contains_key(&knob);
        if idle || base.intersection(kept).is_empty() {
            return Other::Stays;
        }
        if one.fixed.is_some() {
            return Other::Stuck;
        }
        let cpus = match self.balanced_off(&knob, one, kept) {
            Some(cpus) => Some(cpus),
            None => self.off(&base, kept, one.node),
        };
        match cpus {
            Some(cpus) => {
                let why = format!("{} off the exclusive CPUs {kept}", told(one));
                Other::Off((knob, Value::Set(cpus), why))
            }
            None => Other::Nowhere,
        }
    }

    fn default(&mut self) {
        let Some(now) = self.facts.default else {
            return;
        };
        let base = self.base(&Knob::DefaultIrq, now);
        if base.intersection(&self.taken).is_empty() {
            return;
        }
        if let Some(cpus) = self.off(&base, &self.taken, None) {
            let why = format!("new interrupts off the exclusive CPUs {}", self.taken);
            let wish = (Knob::DefaultIrq, Value::Set(cpus), why);
            self.wanted.knobs.push(wish);
        }
    }

    /// The attachments of which anything is set.
    fn steered(&mut self) {
        let affinity: BTreeMap<u32, &CpuSet> = (self.facts.interrupts.iter())
            .map(|one| (one.irq, &one.affinity))
            .collect();
        for attachment in self.facts.attachments {
            let set = |irq: &u32| self.sets(&Knob::Irq { irq: *irq });
            let irqs = attachment.vectors.iter().map(|vector| vector.irq.0);
            let before = |irq: u32| {
                let now = affinity.get(&irq).copied().cloned().unwrap_or_default();
                (irq, self.base(&Knob::Irq { irq }, &now))
            };
            let irqs: BTreeMap<u32, CpuSet> = irqs.filter(set).map(before).collect();
            let queues = self.wanted.knobs.iter().any(|(knob, ..)| match knob {
                Knob::Rps {
                    netns, interface, ..
                }
                | Knob::Xps {
                    netns, interface, ..
                } => {
                    let name = attachment.interface.as_ref().map(|own| &own.name);
                    *netns == attachment.netns && Some(interface) == name
                }
                _ => false,
            });
            if irqs.is_empty() && !queues {
                continue;
            }
            let work = self.facts.work.get(&attachment.key);
            let steer = steered::Steer {
                vf: attachment.vf,
                workload: work.map(|work| work.workload.to_string()),
                irqs,
                queues,
            };
            let attachments = &mut self.wanted.steered.attachments;
            attachments.insert(attachment.key.clone(), steer);
        }
    }

    /// The attachment that each interrupt of a VF belongs to.
    fn owners(&self) -> BTreeMap<u32, &Key> {
        let mut owners = BTreeMap::new();
        for Attachment { key, vectors, .. } in self.facts.attachments {
            owners.extend(vectors.iter().map(|vector| (vector.irq.0, key)));
        }
        owners
    }

    /// The CPUs an interrupt of this attachment, or of none, may not have: where the
    /// workload wants its interrupts left alone, its own CPUs are no reason to move them.
    fn kept_off(&self, owner: Option<&Key>) -> CpuSet {
        let work = owner.and_then(|key| self.facts.work.get(key));
        let own = work.and_then(|work| self.facts.exclusive.get(&work.workload));
        own.map_or_else(|| self.taken.clone(), |own| self.taken.difference(own))
    }

    /// What it was before the agent changed it.
    fn base(&self, knob: &Knob, now: &CpuSet) -> CpuSet {
        match self.facts.before.get(knob) {
            Some(Value::Set(before)) => before.clone(),
            _ => now.clone(),
        }
    }

    /// The CPUs irqbalance has chosen for an interrupt that the agent had moved before.
    fn balanced_off(&self, knob: &Knob, one: &Interrupt, kept: &CpuSet) -> Option<CpuSet> {
        let moved = self.facts.balanced && self.facts.before.contains_key(knob);
        let off = one.affinity.intersection(kept).is_empty();
        let online = !one
            .affinity
            .intersection(&self.facts.machine.online)
            .is_empty();
        (moved && off && online).then(|| one.affinity.clone())
    }

    /// `base` without `kept`; where no online CPU is left, housekeeping CPUs, near ones
    /// first, else any that is not exclusive.
    fn off(&self, base: &CpuSet, kept: &CpuSet, node: Option<u32>) -> Option<CpuSet> {
        let machine = &self.facts.machine;
        let rest = base.difference(kept);
        if !rest.intersection(&machine.online).is_empty() {
            return Some(rest);
        }
        let free = machine.online.difference(&self.taken).difference(kept);
        let keeping = machine.housekeeping.intersection(&free);
        let near = self.near(node).unwrap_or_default();
        let choices = [keeping.intersection(&near), keeping, free];
        choices.into_iter().find(|cpus| !cpus.is_empty())
    }

    /// As [`berth_kernel::cpu::local_to`].
    fn near(&self, node: Option<u32>) -> Option<CpuSet> {
        let nodes = &self.facts.machine.nodes;
        match node {
            Some(node) => nodes.get(&node).cloned(),
            None if nodes.len() == 1 => nodes.values().next().cloned(),
            None => None,
        }
    }

    fn is_left(&self, one: &Interrupt) -> bool {
        let named = |name: &String| self.facts.leave.iter().any(|left| name.starts_with(left));
        one.actions.iter().any(named)
    }

    fn fixed(&self, irq: u32) -> bool {
        let is = |one: &Interrupt| one.irq == irq && one.fixed.is_some();
        self.facts.interrupts.iter().any(is)
    }

    fn sets(&self, knob: &Knob) -> bool {
        self.wanted.knobs.iter().any(|(set, ..)| set == knob)
    }

    fn note(&mut self, key: &Key, notes: Vec<String>) {
        let notes = notes
            .into_iter()
            .map(|note| format!("attachment {key}: {note}"));
        for note in notes {
            if !self.wanted.notes.contains(&note) {
                self.wanted.notes.push(note);
            }
        }
    }

    fn unmoved(&mut self, why: &str, which: &[&Interrupt]) {
        if !which.is_empty() {
            let note = format!("on exclusive CPUs stay, as {why}: {}", summary(which));
            self.wanted.notes.push(note);
        }
    }
}

/// An interrupt as people know it.
fn told(one: &Interrupt) -> String {
    match (one.actions.first(), one.device) {
        (Some(name), _) => format!("interrupt {} ({name})", one.irq),
        (None, Some(device)) => format!("interrupt {} of {device}", one.irq),
        (None, None) => format!("interrupt {}", one.irq),
    }
}

/// Several of them in a line: a disk alone may have one for each CPU.
fn summary(which: &[&Interrupt]) -> String {
    if let [one] = which {
        return told(one);
    }
    let numbers = ranges(which.iter().map(|one| one.irq));
    // Without its number, a queue's name is that of its device.
    let kinds: BTreeSet<String> = which
        .iter()
        .map(|one| match (one.actions.first(), one.device) {
            (Some(name), _) => name
                .trim_end_matches(|c: char| c.is_ascii_digit())
                .to_owned(),
            (None, Some(device)) => format!("of {device}"),
            (None, None) => "without a name".to_owned(),
        })
        .collect();
    let more = match kinds.len().saturating_sub(KINDS) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let kinds: Vec<String> = kinds.into_iter().take(KINDS).collect();
    format!(
        "{} interrupts, {numbers} ({}{more})",
        which.len(),
        kinds.join(", ")
    )
}

/// Numbers of interrupts as a list of CPUs is written: `30-54,60`.
pub(crate) fn ranges(numbers: impl Iterator<Item = u32>) -> String {
    numbers.collect::<CpuSet>().to_string()
}

fn union<'s>(sets: impl Iterator<Item = &'s CpuSet>) -> CpuSet {
    sets.flat_map(CpuSet::iter).collect()
}

/// The knobs among `before` that are no longer the agent's to put back: interrupts of
/// attachments that are gone, or have another VF now. Their DEL has put them back, and
/// others may have the numbers.
pub(crate) fn orphaned(
    last: &steered::Steered,
    attachments: &[Attachment],
    before: &BTreeMap<Knob, Value>,
) -> Vec<Knob> {
    let here: BTreeSet<(&Key, PciAddr)> =
        attachments.iter().map(|one| (&one.key, one.vf)).collect();
    let gone = last.attachments.iter();
    let gone = gone.filter(|(key, steer)| !here.contains(&(*key, steer.vf)));
    let irqs = gone.flat_map(|(_, steer)| steer.irqs.keys());
    let knobs = irqs.map(|irq| Knob::Irq { irq: *irq });
    knobs.filter(|knob| before.contains_key(knob)).collect()
}

#[cfg(test)]
mod tests;
