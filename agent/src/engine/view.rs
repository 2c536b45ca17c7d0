//! What readers are shown, and what is told as events.

use berth_kernel::CpuSet;

use super::audits::Place;
use super::events::Event;
use super::handle::{Asked, Condition, Setting, Standing, View};
use super::node::Node;
use super::plan::{Live, Step, Wanted};
use super::remedy::remedy;
use super::{Engine, wanted};
use crate::spec::WorkloadId;
use crate::store::{Phase, Record, State};

impl<N: Node> Engine<N> {
    /// A workload as it is shown, with the settings last seen.
    pub(super) fn view(&self, record: &Record) -> View {
        let state = match (record.phase, &record.state) {
            (Phase::Releasing, _) => Standing::Releasing,
            (_, State::Reserved { .. }) => Standing::Reserved,
            (_, State::Active { .. }) => Standing::Active,
            (_, State::Lost { .. }) => Standing::Lost,
        };
        let cpus = match wanted::exclusive_cpus(record) {
            Some(cpus) => Some(cpus.clone()),
            None => record.spec.cpu.as_ref().map(|_| self.pool()),
        };
        View {
            id: record.spec.id.clone(),
            state,
            generation: record.generation,
            spec: record.spec.clone(),
            cgroup: record.target.as_ref().map(|bound| bound.cgroup.clone()),
            cpus,
            nodes: Some(record.nodes.clone()).filter(|nodes| !nodes.is_empty()),
            why: record.why.clone(),
            settings: Vec::new(),
            repairs: record.repairs,
            conditions: self.conditions_of(record),
        }
    }

    /// The CPUs of shared workloads.
    fn pool(&self) -> CpuSet {
        crate::policy::cpu::shared_pool(&self.machine, &self.booked(self.records(), None))
    }

    /// The same with each setting, as wished and as it is.
    pub(super) fn view_with(&self, record: &Record, wanted: &Wanted, live: &Live) -> View {
        let own = wanted
            .iter()
            .filter(|(_, wish)| wish.owner.as_ref() == Some(&record.spec.id));
        let settings = own.map(|(knob, wish)| {
            let is = live.get(knob);
            Setting {
                object: knob.to_string(),
                wished: wish.value.to_string(),
                live: is.map_or_else(|| "absent".to_owned(), ToString::to_string),
                ok: is == Some(&wish.value),
            }
        });
        View {
            settings: settings.collect(),
            ..self.view(record)
        }
    }

    fn conditions_of(&self, record: &Record) -> Vec<Condition> {
        let mut conditions = Vec::new();
        let offline = wanted::exclusive_cpus(record)
            .map(|cpus| cpus.difference(&self.machine.online))
            .filter(|cpus| !cpus.is_empty());
        if let Some(cpus) = offline {
            conditions.push(Condition {
                kind: "cpus-offline".to_owned(),
                object: format!("CPUs {cpus}"),
                effect: "the workload runs on its other CPUs".to_owned(),
                reason: "they are offline".to_owned(),
                remedy: "bring them back, or resize the workload".to_owned(),
            });
        }
        for (knob, why) in self.troubles.list() {
            if knob
                .cgroup()
                .is_some_and(|path| Some(path) == wanted::active_cgroup(record))
            {
                conditions.push(trouble(knob, why));
            }
        }
        for place in Place::of(record) {
            conditions.extend(self.audits.conditions_of(&place));
        }
        conditions
    }

    /// Conditions that are no single workload's.
    pub(crate) fn conditions(&self) -> Vec<Condition> {
        let mut conditions: Vec<Condition> = self
            .troubles
            .list()
            .map(|(knob, why)| trouble(knob, why))
            .collect();
        conditions.extend(self.notes.iter().map(|note| Condition {
            kind: "packet-work".to_owned(),
            object: "interrupts and queues".to_owned(),
            effect: "packet work may disturb exclusive CPUs".to_owned(),
            reason: note.clone(),
            remedy: "see docs/cpu.md".to_owned(),
        }));
        conditions.extend(self.packet_conditions.iter().cloned());
        conditions.extend(self.node_condition.iter().cloned());
        conditions.extend(self.quarantine_conditions());
        conditions.extend(self.audits.conditions());
        conditions.extend(self.rivals.iter().map(|(who, remedy)| Condition {
            kind: "other-pinner".to_owned(),
            object: "exclusive CPUs".to_owned(),
            effect: "workloads with exclusive CPUs are refused".to_owned(),
            reason: who.clone(),
            remedy: remedy.clone(),
        }));
        conditions.extend(self.store.damaged().iter().map(|damaged| Condition {
            kind: "damaged-record".to_owned(),
            object: damaged.path.display().to_string(),
            effect: "what it says is not enforced and not counted".to_owned(),
            reason: damaged.reason.clone(),
            remedy: "examine it, then correct or remove it and restart the agent".to_owned(),
        }));
        conditions
    }

    /// Makes what happened known, after what came of it was published: who hears of an
    /// event finds it done.
    pub(crate) fn flush_events(&mut self) {
        for event in self.told.drain(..) {
            self.events.push(event);
        }
    }

    pub(super) fn tell(&mut self, kind: &str, id: Option<&WorkloadId>, step: &Step) {
        self.told.push(Event {
            workload: id.cloned(),
            old: step.from.to_string(),
            new: step.to.to_string(),
            ..Event::new(kind, step.knob.to_string(), step.why.clone())
        });
    }

    pub(super) fn tell_booked(&mut self, kind: &str, record: &Record, asked: &Asked) {
        let cpus = record
            .cpus
            .as_ref()
            .map_or_else(String::new, |cpus| format!("CPUs {cpus}"));
        let why = format!("asked for by uid {} (pid {})", asked.by.uid, asked.by.pid);
        self.told.push(Event {
            workload: Some(record.spec.id.clone()),
            new: cpus,
            ..Event::new(kind, format!("workload {}", record.spec.id), why)
        });
    }

    pub(super) fn tell_life(&mut self, kind: &str, record: &Record) {
        let target = record
            .target
            .as_ref()
            .map(|b| b.cgroup.display().to_string());
        let target = target.unwrap_or_else(|| "its target".to_owned());
        self.told.push(Event {
            workload: Some(record.spec.id.clone()),
            ..Event::new(kind, target, String::new())
        });
    }

    pub(super) fn tell_cpus(&mut self, kind: &str, cpus: &CpuSet) {
        self.told.push(Event {
            new: kind.to_owned(),
            ..Event::new(kind, format!("CPUs {cpus}"), String::new())
        });
    }
}

fn trouble(knob: &super::knob::Knob, why: &str) -> Condition {
    Condition {
        kind: "not-enforced".to_owned(),
        object: knob.to_string(),
        effect: "it is not as wished, and tried again later".to_owned(),
        reason: why.to_owned(),
        remedy: format!("stop what else sets it; or {}", remedy(knob)),
    }
}
