//! A request as a transaction: decided, put on record, carried out, or taken back.

use std::collections::BTreeSet;

use super::handle::{Asked, Outcome, PlannedStep};
use super::knob::Knob;
use super::node::{Node, refused};
use super::plan::{Step, Wanted, needs_room, steps};
use super::{Engine, Records};
use crate::refusal::{Code, Missing, Refusal};
use crate::spec::{Spec, WorkloadId};
use crate::store::{Phase, Record};

/// What is to be done: the steps, and what they are to lead to.
struct Plan {
    steps: Vec<Step>,
    knobs: BTreeSet<Knob>,
    wanted: Wanted,
}

impl<N: Node> Engine<N> {
    /// Creates or resizes a workload.
    ///
    /// # Errors
    /// Why not; nothing is changed then, or all is taken back.
    pub(super) fn put(&mut self, spec: Spec, asked: &Asked) -> Result<Outcome, Refusal> {
        let id = spec.id.clone();
        let old = self.records().get(&id).cloned();
        if old
            .as_ref()
            .is_some_and(|old| old.phase == Phase::Applied && old.spec == spec)
        {
            return Ok(self.outcome(&id, false, Vec::new()));
        }
        let record = self.admit(spec, old.as_ref())?;
        let present = self.records().clone();
        let mut records = present.clone();
        records.insert(id.clone(), record.clone());
        let plan = self.plan(&present, &records)?;
        self.check_room(&id, &plan.steps)?;
        if asked.dry_run {
            let mut outcome = self.outcome(&id, old.is_none(), plan.steps);
            outcome.notes.extend(record.why);
            return Ok(outcome);
        }
        self.carry_out(&record, old.as_ref(), &plan)?;
        let kind = if old.is_none() { "put" } else { "resize" };
        for step in &plan.steps {
            self.tell(kind, Some(&id), step);
        }
        self.tell_booked(kind, &record, asked);
        Ok(self.outcome(&id, old.is_none(), plan.steps))
    }

    /// Releases a workload.
    ///
    /// # Errors
    /// There is none, or a step failed: then it stays on record and the reconciler goes
    /// on trying.
    pub(super) fn delete(&mut self, id: &WorkloadId, asked: &Asked) -> Result<Outcome, Refusal> {
        let Some(old) = self.records().get(id).cloned() else {
            return Err(no_such(id));
        };
        let plan = self.plan_release(&old)?;
        if !asked.dry_run {
            self.release(&old)?;
            self.tell_booked("delete", &old, asked);
        }
        Ok(self.outcome(id, false, plan.steps))
    }

    /// Takes a workload off the node and then off the record.
    ///
    /// # Errors
    /// As [`Engine::delete`].
    pub(super) fn release(&mut self, old: &Record) -> Result<(), Refusal> {
        let id = &old.spec.id;
        let releasing = Record {
            phase: Phase::Releasing,
            previous: None,
            ..old.clone()
        };
        self.save(&releasing)?;
        let plan = self.plan_release(old)?;
        let mut left = Vec::new();
        for step in &plan.steps {
            match self.take(step) {
                Ok(()) => self.tell("release", Some(id), step),
                Err(error) => left.push(error.to_string()),
            }
        }
        if !left.is_empty() {
            return Err(Refusal::new(
                Code::RollbackIncomplete,
                format!("workload {id}"),
                "release it",
                left.join("; "),
                "it stays booked and the agent tries again; remove the cause",
            ));
        }
        self.raise()?;
        self.store
            .remove(id)
            .map_err(|error| on_record(id, &error))?;
        self.tidy();
        Ok(())
    }

    /// The steps that take a workload off the node, also if some were taken already.
    fn plan_release(&mut self, old: &Record) -> Result<Plan, Refusal> {
        let mut present = self.records().clone();
        let standing = Record {
            phase: Phase::Applied,
            ..old.clone()
        };
        present.insert(old.spec.id.clone(), standing);
        let mut without = present.clone();
        without.remove(&old.spec.id);
        self.plan(&present, &without)
    }

    /// The steps from what `present` records wish to what `records` wish: of the knobs
    /// whose wish differs. What drifted otherwise is the reconciler's.
    fn plan(&mut self, present: &Records, records: &Records) -> Result<Plan, Refusal> {
        let now = self.wanted(present).map_err(|error| unread(&error))?;
        let mut wanted = self.wanted(records).map_err(|error| unread(&error))?;
        wanted.retain(|knob, wish| now.get(knob).map(|now| &now.value) != Some(&wish.value));
        let knobs: BTreeSet<Knob> = wanted.keys().cloned().collect();
        let live = self.read(knobs.iter()).map_err(|error| unread(&error))?;
        Ok(Plan {
            steps: steps(&live, &wanted),
            knobs,
            wanted,
        })
    }

    /// Refuses what would take away what is in use.
    fn check_room(&mut self, id: &WorkloadId, steps: &[Step]) -> Result<(), Refusal> {
        let mut missing = Vec::new();
        for step in steps.iter().filter(|step| needs_room(step)) {
            let room = self.node.room(step);
            let room = room.map_err(|error| unread(&error))?;
            missing.extend(room.err().map(|missing| self.named(id, step, missing)));
        }
        if missing.is_empty() {
            return Ok(());
        }
        let reasons = missing.iter().map(|missing| {
            format!(
                "{}: {} in use, {} wished",
                missing.what, missing.asked, missing.available
            )
        });
        Err(Refusal::new(
            Code::DoesNotFit,
            format!("workload {id}"),
            "lower its limits",
            reasons.collect::<Vec<_>>().join("; "),
            "free what is in use, or wish for more than that",
        )
        .lacking(missing))
    }

    /// With the directory of a quota, which the kernel knows by its project only.
    fn named(&self, id: &WorkloadId, step: &Step, missing: Missing) -> Missing {
        let Knob::Quota { project, .. } = &step.knob else {
            return missing;
        };
        let projects = self.records().get(id).map(|record| &record.projects);
        let path = projects.and_then(|projects| {
            let own = projects.iter().find(|(_, state)| state.project == *project);
            own.map(|(path, _)| path.display().to_string())
        });
        Missing {
            what: format!("{} in {}", missing.what, path.unwrap_or_default()),
            ..missing
        }
    }

    fn carry_out(
        &mut self,
        record: &Record,
        old: Option<&Record>,
        plan: &Plan,
    ) -> Result<(), Refusal> {
        let id = &record.spec.id;
        let applying = Record {
            phase: Phase::Applying,
            previous: old.cloned().map(Box::new),
            ..record.clone()
        };
        self.save(&applying)?;
        let done = self
            .remember(&plan.steps)
            .map_err(|error| on_record(id, &error))
            .and_then(|()| self.give_controllers(record))
            .and_then(|()| self.take_all(id, &plan.steps));
        if let Err(refusal) = done {
            return Err(self.take_back(record, old, plan, refusal));
        }
        // Before what it counts is on record: a generation that was seen is never reused.
        self.raise()?;
        self.save(record)?;
        self.tidy();
        Ok(())
    }

    fn give_controllers(&mut self, record: &Record) -> Result<(), Refusal> {
        let Some(cgroup) = super::active_cgroup(record) else {
            return Ok(());
        };
        self.node.controllers(record, cgroup).map_err(|error| {
            Refusal::new(
                Code::Unsupported,
                format!("workload {}", record.spec.id),
                format!("control cgroup {}", cgroup.display()),
                error.to_string(),
                "see berth doctor, or name another cgroup as target",
            )
        })
    }

    fn take_all(&mut self, id: &WorkloadId, steps: &[Step]) -> Result<(), Refusal> {
        for step in steps {
            self.take(step)
                .map_err(|error| refused(&format!("workload {id}"), step, &error))?;
        }
        Ok(())
    }

    /// One step, and that it holds.
    pub(super) fn take(&mut self, step: &Step) -> Result<(), berth_kernel::Error> {
        log::debug!("{}: {} -> {} ({})", step.knob, step.from, step.to, step.why);
        self.node.write(step)?;
        self.settled.insert(step.knob.clone(), step.to.clone());
        Ok(())
    }

    /// Everything as it was before the request, on the node and on record.
    fn take_back(
        &mut self,
        record: &Record,
        old: Option<&Record>,
        plan: &Plan,
        refusal: Refusal,
    ) -> Refusal {
        let id = &record.spec.id;
        self.counters.rollbacks += 1;
        let mut left = Vec::new();
        match self.steps_back(plan) {
            Ok(steps) => {
                for step in steps {
                    match self.take(&step) {
                        Ok(()) => self.tell("rollback", Some(id), &step),
                        Err(error) => left.push(error.to_string()),
                    }
                }
            }
            Err(error) => left.push(error.to_string()),
        }
        let stored = match old {
            Some(old) => self.store.put(old),
            None => self.store.remove(id),
        };
        left.extend(stored.err().map(|error| error.to_string()));
        self.tidy();
        if left.is_empty() {
            return refusal;
        }
        self.counters.incomplete_rollbacks += 1;
        Refusal::new(
            Code::RollbackIncomplete,
            refusal.object,
            refusal.wish,
            format!(
                "{}; and not all could be taken back: {}",
                refusal.reason,
                left.join("; ")
            ),
            "the agent goes on trying to take it back; remove the cause, see berth diff",
        )
    }

    /// The steps to what the knobs of `plan` were wished to be before: by the records
    /// without the request, or what they were set to when first touched.
    fn steps_back(&mut self, plan: &Plan) -> Result<Vec<Step>, berth_kernel::Error> {
        let live = self.read(plan.knobs.iter())?;
        let mut records = self.records().clone();
        let ids: Vec<WorkloadId> = records.keys().cloned().collect();
        for id in ids {
            let applying = records
                .get(&id)
                .filter(|record| record.phase == Phase::Applying);
            match applying.map(Record::taken_back) {
                Some(Some(back)) => drop(records.insert(id, back)),
                Some(None) => drop(records.remove(&id)),
                None => {}
            }
        }
        let mut wanted = self.wanted(&records)?;
        wanted.retain(|knob, _| plan.wanted.contains_key(knob));
        Ok(steps(&live, &wanted))
    }

    /// What an agent that died left unanswered did not happen.
    pub(super) fn take_back_unanswered(&mut self) -> anyhow::Result<()> {
        let unanswered: Vec<Record> = self
            .records()
            .values()
            .filter(|record| record.phase == Phase::Applying)
            .cloned()
            .collect();
        for record in unanswered {
            let id = &record.spec.id;
            log::warn!("workload {id}: a request was interrupted; it is taken back");
            match record.taken_back() {
                Some(back) => self.store.put(&back)?,
                None => self.store.remove(id)?,
            }
            self.store.raise()?;
        }
        Ok(())
    }

    fn save(&mut self, record: &Record) -> Result<(), Refusal> {
        self.store
            .put(record)
            .map_err(|error| on_record(&record.spec.id, &error))
    }

    pub(super) fn raise(&mut self) -> Result<(), Refusal> {
        let raised = self.store.raise();
        raised.map(drop).map_err(|error| {
            Refusal::new(
                Code::Kernel,
                "the generation",
                "raise it",
                error.to_string(),
                "the change stands; make room on the disk of /var/lib/berth, then restart the agent",
            )
        })
    }

    /// [`Engine::forget`]; a failure keeps entries that do no harm.
    pub(super) fn tidy(&mut self) {
        if let Err(error) = self.forget() {
            log::warn!("cannot drop settings that are as they were: {error:#}");
        }
    }

    fn outcome(&self, id: &WorkloadId, created: bool, steps: Vec<Step>) -> Outcome {
        let plan = steps.into_iter().map(|step| PlannedStep {
            object: step.knob.to_string(),
            from: step.from.to_string(),
            to: step.to.to_string(),
            why: step.why,
        });
        Outcome {
            created,
            generation: self.store.generation(),
            plan: plan.collect(),
            notes: Vec::new(),
            workload: self.records().get(id).map(|record| self.view(record)),
        }
    }
}

/// The node could not be read before anything was changed.
fn unread(error: &berth_kernel::Error) -> Refusal {
    Refusal::new(
        Code::Kernel,
        "the node",
        "see how it is",
        error.to_string(),
        "nothing was changed; correct the cause and repeat the request",
    )
}

/// There is no such workload.
pub(super) fn no_such(id: &WorkloadId) -> Refusal {
    Refusal::new(
        Code::NotFound,
        format!("workload {id}"),
        "find it",
        "there is none of this id",
        "berth get lists them",
    )
}

/// The record could not be written; nothing was changed on the node.
fn on_record(id: &WorkloadId, error: &impl std::fmt::Display) -> Refusal {
    Refusal::new(
        Code::Kernel,
        format!("workload {id}"),
        "put it on record",
        error.to_string(),
        "make room on, or repair, the disk of /var/lib/berth; then repeat the request",
    )
}
