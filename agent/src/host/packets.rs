//! Packet work on this node: seen, decided by [`policy::irq`](crate::policy::irq), told
//! to plugins and irqbalance.

use std::collections::{BTreeMap, BTreeSet};

use berth_kernel::cgroup::Cgroup;
use berth_kernel::error::AbsentIsFine;
use berth_kernel::{CpuSet, Error, Result, Root, cpu, irq};
use berth_state::steered::Steered;

use crate::apply::{Reach, irqbalance};
use crate::engine::handle::Condition;
use crate::engine::knob::{Knob, Value};
use crate::engine::node::Packets;
use crate::engine::wanted::{active_cgroup, exclusive_cpus};
use crate::observe::irqs;
use crate::observe::network::Attachments;
use crate::policy::cpu::Machine;
use crate::policy::irq::{self as policy, Facts, Work};
use crate::spec::{NetworkSpec, Spec, WorkloadId};
use crate::store::Record;
use crate::target;

/// Where plugins read what is steered.
const FILE: &str = "run/berth/steered.json";

/// What it is decided from.
pub(super) struct View<'a> {
    pub(super) root: &'a Root,
    pub(super) records: &'a BTreeMap<WorkloadId, Record>,
    pub(super) before: &'a BTreeMap<Knob, Value>,
    pub(super) machine: &'a Machine,
    pub(super) leave: &'a [String],
}

/// What was decided last, and who has been told.
#[derive(Debug, Default)]
pub(super) struct PacketWork {
    /// The attachments to be steered.
    wished: Steered,
    /// Those that plugins know of; `None`: not read yet.
    told: Option<Steered>,
    /// The CPUs and interrupts irqbalance is to keep off.
    ban: irqbalance::Banned,
    /// Steps that could not be taken, until the next pass.
    left: Vec<String>,
    /// Interrupts that turned out in this pass never to move.
    fixed: BTreeSet<u32>,
}

impl PacketWork {
    /// Where interrupts and queues should be.
    pub(super) fn decide(&mut self, view: &View<'_>, reach: &mut Reach) -> Result<Packets> {
        let exclusive = exclusive(view.records);
        let moved = view.before.keys().any(is_packet_work);
        if exclusive.is_empty() && !moved {
            self.wished = Steered::default();
            self.ban = irqbalance::Banned::default();
            return Ok(Packets::default());
        }
        let attachments = Attachments::read(view.root, &mut reach.namespaces);
        reach.renew(attachments.owners());
        let last = self.told(view.root)?;
        let orphans = policy::orphaned(&last, &attachments.found, view.before);
        self.told = Some(last);
        let mut notes = attachments.notes.clone();
        let work = work(view, &attachments, &mut notes)?;
        let interrupts = irqs::all(view.root, &reach.fixed)?;
        let default = irq::default_affinity(view.root).absent_is_fine()?;
        let wanted = policy::wanted(&Facts {
            machine: &machine(view)?,
            exclusive: &exclusive,
            work: &work,
            attachments: &attachments.found,
            interrupts: &interrupts,
            default: default.as_ref(),
            balanced: matches!(irqbalance::running(view.root), Ok(Some(_))),
            leave: view.leave,
            before: view.before,
        });
        notes.extend(wanted.notes);
        notes.extend(self.left.iter().cloned());
        self.wished = wanted.steered;
        self.ban = irqbalance::Banned {
            cpus: exclusive.values().flat_map(CpuSet::iter).collect(),
            irqs: placed(&wanted.knobs, &attachments),
        };
        Ok(Packets {
            settings: wanted.knobs,
            notes,
            orphans,
        })
    }

    /// Before anything is changed, plugins know of all that is and will be steered.
    pub(super) fn announce(&mut self, root: &Root) -> Result<()> {
        let told = self.told(root)?;
        let both = told.and(&self.wished);
        if both != told {
            both.save(root).map_err(|error| unsaved(&error))?;
        }
        self.told = Some(both);
        Ok(())
    }

    /// What plugins know of, also from an earlier agent.
    fn told(&mut self, root: &Root) -> Result<Steered> {
        match self.told.take() {
            Some(told) => Ok(told),
            None => Steered::load(root)
                .map_err(|error| Error::malformed("read", FILE, error.to_string())),
        }
    }

    /// A step that could not be taken and is not an error.
    pub(super) fn leave(&mut self, note: String) {
        log::info!("{note}");
        self.left.push(note);
    }

    /// An interrupt that never moves; decisions go by that from now on, and say so.
    pub(super) fn stays(&mut self, irq: u32, why: &str) {
        log::debug!("interrupt {irq} stays: {why}");
        self.fixed.insert(irq);
    }

    /// A pass is done: plugins know what is steered now, irqbalance what to keep off.
    pub(super) fn settle(&mut self, root: &Root) -> Vec<Condition> {
        self.left.clear();
        let fixed = std::mem::take(&mut self.fixed);
        if !fixed.is_empty() {
            let (count, which) = (fixed.len(), policy::ranges(fixed.into_iter()));
            log::info!("{count} interrupts stay, their devices or the kernel place them: {which}");
        }
        let mut conditions = Vec::new();
        let mut wrong = |object: &str, reason: String, remedy: String| {
            conditions.push(Condition {
                kind: "packet-work".to_owned(),
                object: object.to_owned(),
                effect: "packet work may disturb exclusive CPUs".to_owned(),
                reason,
                remedy,
            });
        };
        if self.told.as_ref() != Some(&self.wished) {
            match self.wished.save(root) {
                Ok(()) => self.told = Some(self.wished.clone()),
                Err(error) => wrong(
                    FILE,
                    error.to_string(),
                    "make room in /run; until then CHECK may complain of moved interrupts".into(),
                ),
            }
        }
        match irqbalance::settle(root, &self.ban) {
            Ok(None) => {}
            Ok(Some(complaint)) => wrong(&complaint.object, complaint.reason, complaint.remedy),
            Err(error) => wrong("irqbalance", error.to_string(), "see berth doctor".into()),
        }
        conditions
    }
}

/// The NUMA node of the VFs that a spec's workload has or will have.
pub(super) fn near(root: &Root, spec: &Spec, reach: &mut Reach) -> Option<u32> {
    let attachments = Attachments::read(root, &mut reach.namespaces);
    if attachments.found.is_empty() {
        return None;
    }
    let network = spec.network.clone().unwrap_or_default();
    let bound = target::find(root, &spec.target).ok().flatten();
    let pids = bound.map_or_else(Vec::new, |bound| processes(root, &bound.cgroup));
    let (keys, _notes) = attachments.of_workload(root, &network, &pids).ok()?;
    let own = attachments
        .found
        .iter()
        .filter(|one| keys.contains(&one.key));
    let nodes: Vec<Option<u32>> = own.map(|one| one.numa_node).collect();
    nodes.first().copied().flatten()
}

fn exclusive(records: &BTreeMap<WorkloadId, Record>) -> BTreeMap<WorkloadId, CpuSet> {
    let there = records
        .iter()
        .filter(|(_, record)| active_cgroup(record).is_some());
    there
        .filter_map(|(id, record)| Some((id.clone(), exclusive_cpus(record)?.clone())))
        .collect()
}

/// What the workloads wish for the attachments that are theirs.
fn work(
    view: &View<'_>,
    attachments: &Attachments,
    notes: &mut Vec<String>,
) -> Result<BTreeMap<berth_state::Key, Work>> {
    let mut work = BTreeMap::new();
    for (id, record) in view.records {
        let (Some(network), Some(cgroup)) = (&record.spec.network, active_cgroup(record)) else {
            continue;
        };
        let pids = if network.attachments.is_empty() {
            processes(view.root, cgroup)
        } else {
            Vec::new()
        };
        let (keys, more) = attachments.of_workload(view.root, network, &pids)?;
        notes.extend(
            more.into_iter()
                .map(|note| format!("workload {id}: {note}")),
        );
        let NetworkSpec { irq, rps, .. } = network;
        for key in keys {
            let one = Work {
                workload: id.clone(),
                irq: *irq,
                rps: *rps,
            };
            work.insert(key, one);
        }
    }
    Ok(work)
}

/// The processes of a cgroup and of those in it; what ends meanwhile is left out.
fn processes(root: &Root, cgroup: &std::path::Path) -> Vec<u32> {
    let Ok(cgroup) = Cgroup::open(root, cgroup) else {
        return Vec::new();
    };
    let below = cgroup.descendants().unwrap_or_default();
    let all = std::iter::once(cgroup).chain(below);
    let pids = all.flat_map(|cgroup| cgroup.procs().unwrap_or_default());
    // 0 stands for one outside our own pid namespace.
    pids.filter(|pid| *pid != 0).collect()
}

fn machine(view: &View<'_>) -> Result<policy::Machine> {
    let machine = view.machine;
    let nodes = machine
        .nodes()
        .into_iter()
        .map(|node| (node, machine.cpus_of(node)));
    Ok(policy::Machine {
        online: machine.online.clone(),
        housekeeping: machine.reserved.intersection(&machine.online),
        isolated: machine.isolated.clone(),
        cores: cpu::cores(view.root)?,
        nodes: nodes.collect(),
    })
}

/// The interrupts of attachments' VFs among what is set: nobody else is to move them.
fn placed(knobs: &[(Knob, Value, String)], attachments: &Attachments) -> BTreeSet<u32> {
    let owners = attachments.owners();
    let irqs = knobs.iter().filter_map(|(knob, ..)| match knob {
        Knob::Irq { irq } => Some(*irq),
        _ => None,
    });
    irqs.filter(|irq| owners.contains_key(irq)).collect()
}

fn is_packet_work(knob: &Knob) -> bool {
    matches!(
        knob,
        Knob::Irq { .. } | Knob::DefaultIrq | Knob::Rps { .. } | Knob::Xps { .. }
    )
}

fn unsaved(error: &berth_state::Error) -> Error {
    Error::malformed("write", FILE, error.to_string())
}
