//! One pass: see how the node is, who has come and gone, and make it as it should be.

use std::time::{Duration, Instant};

use berth_kernel::CpuSet;

use super::knob::{Knob, Partition, Value};
use super::life::{Defaults, Turn, turn};
use super::node::Node;
use super::plan::{Live, Step, steps};
use super::{Engine, Records, wanted};
use crate::spec::Target;
use crate::store::{Bound, Phase, Record, State, now_unix};

/// What a pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pass {
    /// Settings that somebody else had changed and that were put back.
    pub(crate) repaired: usize,
    /// Settings made for the first time.
    pub(crate) applied: usize,
    /// Steps that failed.
    pub(crate) failed: usize,
    /// How long it took.
    pub(crate) took: Duration,
}

impl<N: Node> Engine<N> {
    /// One pass. Repeating it changes nothing more.
    ///
    /// # Errors
    /// When the node cannot be read or the records cannot be written; single steps that
    /// fail are counted and tried again later.
    pub(crate) fn reconcile(&mut self) -> anyhow::Result<Pass> {
        let start = Instant::now();
        self.look_at_who_is_there()?;
        self.go_on_releasing();
        let records = self.records().clone();
        let mut wanted = self.wanted(&records)?;
        if self.forget_orphans()? {
            wanted = self.wanted(&records)?;
        }
        let live = self.read_what_is_readable(&wanted);
        let mut pass = Pass::default();
        let steps = steps(&live, &wanted);
        for (knob, wish) in &wanted {
            if live.get(knob) == Some(&wish.value) {
                self.troubles.settled(knob, start);
                self.settled.insert(knob.clone(), wish.value.clone());
            }
        }
        self.make_controllers(&records);
        self.remember(&steps)?;
        for step in &steps {
            self.set_right(step, &records, &mut pass);
        }
        self.packet_conditions = self.node.settle_packets();
        self.rivals = self.node.rivals(&super::chains(&records));
        self.tidy();
        pass.took = start.elapsed();
        self.count(&pass);
        Ok(pass)
    }

    /// CPUs and targets that have come or gone.
    pub(super) fn look_at_who_is_there(&mut self) -> anyhow::Result<()> {
        self.look_at_cpus()?;
        self.look_at_targets()
    }

    fn count(&mut self, pass: &Pass) {
        self.counters.reconciles.observe(pass.took);
        self.counters.failed_repairs += u64::try_from(pass.failed).unwrap_or(0);
        let fights = self.troubles.list().count();
        self.counters.fights = u64::try_from(fights).unwrap_or(u64::MAX);
    }

    /// CPUs that were taken offline or came back.
    fn look_at_cpus(&mut self) -> anyhow::Result<()> {
        let machine = self.node.machine()?;
        let (before, now) = (&self.machine.online, &machine.online);
        let changes = [
            ("offline", before.difference(now)),
            ("online", now.difference(before)),
        ];
        for (kind, cpus) in changes {
            if !cpus.is_empty() {
                self.tell_cpus(kind, &cpus);
            }
        }
        self.machine = machine;
        Ok(())
    }

    fn look_at_targets(&mut self) -> anyhow::Result<()> {
        for record in self.records().clone().into_values() {
            if record.phase != Phase::Applied {
                continue;
            }
            let there = record
                .target
                .as_ref()
                .filter(|bound| self.node.still_there(bound));
            let found = match there {
                Some(bound) => Ok(Some(bound.clone())),
                // Its number may be another process's by now.
                None if matches!(record.spec.target, Target::Pid(_)) && record.target.is_some() => {
                    Ok(None)
                }
                None => self.node.find(&record.spec.target),
            };
            let found = match found {
                Ok(found) => found,
                Err(refusal) => {
                    log::warn!("{refusal}");
                    None
                }
            };
            self.take_turn(record, found)?;
        }
        Ok(())
    }

    fn take_turn(&mut self, record: Record, found: Option<Bound>) -> anyhow::Result<()> {
        let now = now_unix();
        let defaults = Defaults {
            ttl_sec: self.config.ttl_sec,
            lost_ttl_sec: self.config.lost_ttl_sec,
        };
        let turn = turn(&record, found.as_ref(), now, defaults);
        let state = match turn {
            Turn::Stays => return Ok(()),
            Turn::Arrived | Turn::Returned => State::Active { since_unix: now },
            Turn::Lost => State::Lost { since_unix: now },
            Turn::Expired => {
                self.tell_life("expired", &record);
                if let Err(refusal) = self.release(&record) {
                    log::error!("{refusal}");
                }
                return Ok(());
            }
        };
        let kind = match turn {
            Turn::Lost => "lost",
            Turn::Returned => "returned",
            _ => "arrived",
        };
        if turn != Turn::Lost {
            // What was remembered of a cgroup that is gone is not this one's.
            self.forget_cgroup(&record, found.as_ref())?;
        }
        let mut record = record;
        record.state = state;
        record.target = found.or(record.target);
        self.admit_directories(&mut record);
        self.store.put(&record)?;
        self.tell_life(kind, &record);
        Ok(())
    }

    fn forget_cgroup(&mut self, record: &Record, found: Option<&Bound>) -> anyhow::Result<()> {
        let gone = [record.target.as_ref(), found];
        let paths: Vec<_> = gone
            .into_iter()
            .flatten()
            .map(|b| b.cgroup.clone())
            .collect();
        let mut before = self.store.before().clone();
        let known = before.entries.len();
        let of_it = |knob: &Knob| {
            knob.cgroup()
                .is_some_and(|path| paths.iter().any(|p| p == path))
        };
        before.entries.retain(|knob, _| !of_it(knob));
        self.settled.retain(|knob, _| !of_it(knob));
        if before.entries.len() != known {
            self.store.save_before(&before)?;
        }
        Ok(())
    }

    /// Drops what others have put back from the record of settings: the number may be
    /// another device's by now. Whether there was any.
    fn forget_orphans(&mut self) -> anyhow::Result<bool> {
        let orphans = std::mem::take(&mut self.orphans);
        if orphans.is_empty() {
            return Ok(false);
        }
        let mut before = self.store.before().clone();
        for knob in &orphans {
            log::info!("{knob}: its attachment is gone, and with it what it was before");
            before.entries.remove(knob);
            self.settled.remove(knob);
        }
        self.store.save_before(&before)?;
        Ok(true)
    }

    /// A reservation's directories may have come with its target.
    fn admit_directories(&mut self, record: &mut Record) {
        if record
            .spec
            .disk
            .iter()
            .all(|disk| record.projects.contains_key(&disk.path))
        {
            return;
        }
        let spec = record.spec.clone();
        match self.projects(&spec, Some(record), false) {
            Ok(projects) => record.projects = projects,
            Err(refusal) => log::error!("{refusal}"),
        }
    }

    /// Releases that did not come to their end.
    fn go_on_releasing(&mut self) {
        let releasing: Vec<Record> = self
            .records()
            .values()
            .filter(|record| record.phase == Phase::Releasing)
            .cloned()
            .collect();
        for record in releasing {
            if let Err(refusal) = self.release(&record) {
                log::error!("{refusal}");
            }
        }
    }

    fn make_controllers(&mut self, records: &Records) {
        for record in records.values() {
            let Some(cgroup) = wanted::active_cgroup(record) else {
                continue;
            };
            if let Err(error) = self.node.controllers(record, cgroup) {
                log::error!("workload {}: {error}", record.spec.id);
            }
        }
    }

    /// One knob that cannot be read must not keep the others from repair.
    pub(super) fn read_what_is_readable(&mut self, wanted: &super::Wanted) -> Live {
        let mut live = Live::new();
        for knob in wanted.keys() {
            match self.node.read(knob) {
                Ok(Some(value)) => drop(live.insert(knob.clone(), value)),
                Ok(None) => {}
                Err(error) => self
                    .troubles
                    .failed(knob, error.to_string(), Instant::now()),
            }
        }
        live
    }

    fn set_right(&mut self, step: &Step, records: &Records, pass: &mut Pass) {
        let now = Instant::now();
        if !self.troubles.allows(&step.knob, now) || self.is_all_offline(step, records) {
            return;
        }
        // Somebody else changed it since it was last seen or set.
        let seen = self.settled.get(&step.knob);
        let drifted = seen.is_some_and(|seen| *seen != step.from);
        if let Err(error) = self.take(step) {
            pass.failed += 1;
            log::error!("{}: {error}", step.knob);
            self.troubles.failed(&step.knob, error.to_string(), now);
            return;
        }
        if !drifted {
            pass.applied += 1;
            self.tell("apply", step.owner.as_ref(), step);
            return;
        }
        pass.repaired += 1;
        self.tell("repair", step.owner.as_ref(), step);
        self.count_repair(step);
        if self.troubles.repaired(&step.knob, now) {
            self.tell("fight", step.owner.as_ref(), step);
        }
    }

    /// The kernel suspends a partition without online CPUs and would do so again.
    fn is_all_offline(&self, step: &Step, records: &Records) -> bool {
        let Value::Partition(Partition::Of(_)) = step.to else {
            return false;
        };
        let owner = step.owner.as_ref().and_then(|id| records.get(id));
        let cpus = owner.and_then(wanted::exclusive_cpus);
        cpus.is_some_and(|cpus: &CpuSet| cpus.intersection(&self.machine.online).is_empty())
    }

    fn count_repair(&mut self, step: &Step) {
        let record = step.owner.as_ref().and_then(|id| self.records().get(id));
        let Some(mut record) = record.cloned() else {
            self.counters.node_repairs += 1;
            return;
        };
        record.repairs += 1;
        if let Err(error) = self.store.put(&record) {
            log::error!("workload {}: {error}", record.spec.id);
        }
    }
}
