//! Makes the node as the specs wish and keeps it so.
//!
//! One thread owns everything: it decides and writes; requests reach it by a channel,
//! readers see what it published last. A request is a transaction: it is on record
//! before the first write, every knob's setting is on record before it is first
//! changed, and what was begun is taken back when a step fails or the agent died.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use berth_kernel::{Error, PciAddr};

pub(crate) mod audits;
pub(crate) mod errands;
pub(crate) mod events;
pub(crate) mod handle;
pub(crate) mod knob;
pub(crate) mod life;
pub(crate) mod node;
pub(crate) mod plan;
pub(crate) mod wanted;

mod admission;
mod alone;
mod answer;
mod change;
mod publish;
mod reconcile;
mod remedy;
mod report;
mod retries;
mod trouble;
mod view;

use crate::capacity::Inventory;
use crate::config::Config;
use crate::policy::cpu::{self, Booked, Machine};
use crate::refusal::Refusal;
use crate::spec::WorkloadId;
use crate::store::{Phase, Record, Store};
use audits::Audits;
use events::{Event, Events};
use handle::{Condition, Counters};
use knob::Knob;
use node::Node;
use plan::{Live, Step, Wanted};
use publish::{Hardware, Picture};
use retries::Retries;
use trouble::Troubles;
use wanted::{Seen, active_cgroup, exclusive_cpus};

#[cfg(test)]
mod tests;

/// The records of all workloads.
pub(crate) type Records = BTreeMap<WorkloadId, Record>;

/// The engine over a node.
pub(crate) struct Engine<N> {
    node: N,
    config: Config,
    store: Store,
    events: Events,
    /// What happened and is not known yet.
    told: Vec<Event>,
    troubles: Troubles,
    /// What knobs were last seen as they should be.
    settled: Live,
    machine: Machine,
    /// What the last pass saw, for the readers.
    picture: Picture,
    /// What hardware and disks were like then.
    inventory: Inventory,
    /// What there was in the last pass, as far as it counts for the generation.
    hardware: Option<Hardware>,
    /// What the node cannot do.
    lacks: Vec<Condition>,
    /// What happened since the start.
    counters: Counters,
    /// What packet work could not be done, from the last pass.
    notes: Vec<String>,
    /// What others have put back already, when it was last decided what is wanted.
    orphans: Vec<Knob>,
    /// What plugins or irqbalance could not be told of packet work.
    packet_conditions: Vec<Condition>,
    /// Why plugins could not be told of housekeeping CPUs.
    node_condition: Option<Condition>,
    /// The virtual functions in quarantine, each with what is wrong with it.
    quarantined: BTreeMap<PciAddr, String>,
    /// When they are tried again.
    retries: Retries,
    /// What was found in the files of quotas.
    audits: Audits,
    /// Where programs that pin CPUs, too, were found in the last pass.
    rivals: Vec<(String, String)>,
}

impl<N: Node> Engine<N> {
    /// An engine; what an earlier one left half-done is taken back in the records, and
    /// the first pass of [`Engine::reconcile`] makes that true.
    ///
    /// # Errors
    /// When the topology cannot be read or the records cannot be written.
    pub(crate) fn new(
        mut node: N,
        config: Config,
        store: Store,
        events: Events,
    ) -> anyhow::Result<Self> {
        let machine = node.machine()?;
        let inventory = node.inventory();
        let mut engine = Self {
            node,
            config,
            store,
            events,
            told: Vec::new(),
            troubles: Troubles::default(),
            settled: Live::new(),
            machine,
            picture: Picture::default(),
            inventory,
            hardware: None,
            lacks: Vec::new(),
            counters: Counters::default(),
            notes: Vec::new(),
            orphans: Vec::new(),
            packet_conditions: Vec::new(),
            node_condition: None,
            quarantined: BTreeMap::new(),
            retries: Retries::default(),
            audits: Audits::default(),
            rivals: Vec::new(),
        };
        engine.take_back_unanswered()?;
        // What there is may have changed since the last agent looked.
        engine.store.raise()?;
        Ok(engine)
    }

    /// The records as they are.
    pub(crate) fn records(&self) -> &Records {
        self.store.records()
    }

    /// What is booked of the CPUs, `without` one workload.
    fn booked(&self, records: &Records, without: Option<&WorkloadId>) -> Booked {
        booked(&self.machine, records, without)
    }

    /// What wishes are decided from, for these records.
    fn see(&mut self, records: &Records) -> Result<Seen, Error> {
        let before = self.store.before().clone();
        let mut seen = Seen {
            pool: cpu::shared_pool(&self.machine, &self.booked(records, None)),
            all: self.machine.online.clone(),
            partitions: self.node.partitions(),
            ..Seen::default()
        };
        for record in records.values() {
            if let (Some(cgroup), Some(_)) = (active_cgroup(record), exclusive_cpus(record)) {
                let cgroup = cgroup.to_owned();
                let knob = Knob::Cpus {
                    cgroup: cgroup.clone(),
                };
                if self.node.read(&knob)? == knob.untouched() {
                    seen.unpinned.insert(cgroup);
                }
            }
        }
        seen.siblings = self.node.siblings(&exclusive(records), &cgroups(records))?;
        for record in records.values() {
            for io in &record.spec.io {
                if let Ok(disk) = self.node.disk(&io.path) {
                    seen.disks.insert(io.path.clone(), disk);
                }
            }
            for disk in &record.spec.disk {
                if let Ok(Some(_)) = self.node.directory(&disk.path) {
                    let bytes = self.node.whole_blocks(&disk.path, disk.limit_bytes)?;
                    seen.directories.insert(disk.path.clone(), bytes);
                }
            }
        }
        let packets = self.node.packets(records, &before.entries)?;
        seen.packets = packets.settings;
        self.notes = packets.notes;
        self.orphans = packets.orphans;
        seen.before = before;
        Ok(seen)
    }

    /// What the wishes for these records are.
    fn wanted(&mut self, records: &Records) -> Result<Wanted, Error> {
        let seen = self.see(records)?;
        Ok(wanted::wanted(records, &seen))
    }

    /// Reads these knobs; those that do not exist are left out.
    fn read<'a>(&mut self, knobs: impl Iterator<Item = &'a Knob>) -> Result<Live, Error> {
        let mut live = Live::new();
        for knob in knobs {
            if let Some(value) = self.node.read(knob)? {
                live.insert(knob.clone(), value);
            }
        }
        Ok(live)
    }

    /// Puts on record what the steps' knobs are set to, where it is not yet.
    fn remember(&mut self, steps: &[Step]) -> Result<(), Refusal> {
        let mut before = self.store.before().clone();
        let known = before.entries.len();
        for step in steps {
            let entry = before.entries.entry(step.knob.clone());
            // What somebody else has just changed was not so before we came.
            let seen = self.settled.get(&step.knob).unwrap_or(&step.from);
            entry.or_insert_with(|| seen.clone());
        }
        if before.entries.len() == known {
            return Ok(());
        }
        self.store.save_before(&before)
    }

    /// Drops from the record of settings those that nobody wishes any more and that are
    /// as they were, or whose object is gone.
    fn forget(&mut self) -> anyhow::Result<()> {
        let records = self.store.records().clone();
        let seen = self.see(&records)?;
        let wishes = wanted::wishes(&records, &seen);
        let mut before = self.store.before().clone();
        let known = before.entries.len();
        for (knob, value) in self.store.before().entries.clone() {
            if wishes.contains_key(&knob) {
                continue;
            }
            let live = self.node.read(&knob)?;
            if live.is_none() || live.as_ref() == Some(&value) {
                before.entries.remove(&knob);
                self.settled.remove(&knob);
            }
        }
        if before.entries.len() != known {
            self.store.save_before(&before)?;
        }
        Ok(())
    }
}

/// What is booked of the CPUs, `without` one workload. A workload that is being
/// released holds its CPUs until it is.
pub(crate) fn booked(machine: &Machine, records: &Records, without: Option<&WorkloadId>) -> Booked {
    let mut booked = Booked::default();
    for (id, record) in records.iter().filter(|(id, _)| Some(*id) != without) {
        if let Some(cpus) = exclusive_cpus(record) {
            booked.exclusive.insert(id.clone(), cpus.clone());
            let single = record
                .spec
                .cpu
                .as_ref()
                .is_some_and(|cpu| cpu.cpus.is_some());
            if single {
                booked.single_threads.insert(id.clone());
            }
        }
        let promised = record
            .spec
            .cpu
            .as_ref()
            .map(|wish| cpu::shared_cpus(machine, wish));
        booked.shared_cpus += promised.unwrap_or(0);
    }
    booked
}

/// The cgroups of the workloads that are there.
fn cgroups(records: &Records) -> BTreeSet<PathBuf> {
    records
        .values()
        .filter_map(|record| active_cgroup(record).map(ToOwned::to_owned))
        .collect()
}

/// Those of them with exclusive CPUs.
fn exclusive(records: &Records) -> BTreeSet<PathBuf> {
    let standing = records.values().filter(|r| r.phase != Phase::Releasing);
    let exclusive = standing.filter(|record| exclusive_cpus(record).is_some());
    exclusive
        .filter_map(active_cgroup)
        .map(ToOwned::to_owned)
        .collect()
}

/// The cgroups in which exclusive CPUs are ours: theirs and those above, also of what is
/// not wholly released yet.
fn chains(records: &Records) -> BTreeSet<PathBuf> {
    let exclusive = records
        .values()
        .filter(|record| exclusive_cpus(record).is_some());
    let targets = exclusive.filter_map(|record| record.target.as_ref());
    targets
        .flat_map(|bound| {
            bound
                .cgroup
                .ancestors()
                .filter(|path| path.parent().is_some())
        })
        .map(ToOwned::to_owned)
        .collect()
}
