//! What readers see: made after every request and every pass, so that no reader waits
//! for the engine.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use berth_kernel::CpuSet;

use super::handle::{Health, Published};
use super::node::Node;
use super::{Engine, Live, Wanted};
use crate::capacity::Totals;
use crate::policy::cpu::Machine;
use crate::store::now_unix;

/// What the last pass saw.
#[derive(Debug, Default)]
pub(super) struct Picture {
    /// What was wished then.
    pub(super) wanted: Wanted,
    /// What was set then.
    pub(super) live: Live,
    /// Whether it went well.
    pub(super) health: Health,
}

/// What there is besides bookings.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hardware {
    totals: Totals,
    online: CpuSet,
    vfs: Vec<String>,
}

impl<N: Node> Engine<N> {
    /// Everything readers are shown.
    pub(crate) fn publish(&mut self) -> Published {
        let capacity = self.capacity();
        let capacity = serde_json::to_value(&capacity).unwrap_or_default();
        let capacity = Arc::new(capacity);
        let Picture {
            wanted,
            live,
            health,
        } = &self.picture;
        let views = self.records().iter().map(|(id, record)| {
            let view = self.view_with(record, wanted, live);
            (id.clone(), view)
        });
        Published {
            generation: self.store.generation(),
            workloads: views.collect(),
            metrics: self.counters.clone(),
            health: health.clone(),
            capacity,
        }
    }

    /// Tells plugins which CPUs are the node's own, as they are reserved and online now.
    pub(crate) fn tell_housekeeping(&mut self) {
        let Machine {
            reserved, online, ..
        } = &self.machine;
        let cpus = reserved.intersection(online);
        self.node_condition = self.node.tell_housekeeping(&cpus);
    }

    /// A pass failed as a whole.
    pub(crate) fn unwell(&mut self, why: String) {
        self.picture.health.ok = false;
        self.picture.health.reasons = vec![why];
    }

    /// Looks once more at what was set, for the readers.
    pub(crate) fn look_around(&mut self) {
        let records = self.records().clone();
        let wanted = match self.wanted(&records) {
            Ok(wanted) => wanted,
            Err(error) => return self.unwell(error.to_string()),
        };
        let live = self.read_what_is_readable(&wanted);
        self.picture.wanted = wanted;
        self.picture.live = live;
        self.picture.health = Health {
            ok: true,
            reasons: Vec::new(),
            last_reconcile_unix: Some(now_unix()),
        };
        self.inventory = self.node.inventory();
        self.raise_for_hardware();
        self.lacks = self.node.lacks();
    }

    /// CPUs, memory, disks or virtual functions that came, went or changed hands change
    /// what there is to be had.
    fn raise_for_hardware(&mut self) {
        let there = Hardware {
            totals: self.node.totals(&self.inventory),
            online: self.machine.online.clone(),
            vfs: self.inventory.vf_states(),
        };
        let before = self.hardware.replace(there);
        if before.is_none() || before == self.hardware {
            return;
        }
        if let Err(refusal) = self.raise() {
            log::error!("{refusal}");
        }
    }

    /// The files that were set, and the directories in which targets come and go.
    pub(crate) fn watched(&self) -> (BTreeSet<PathBuf>, BTreeSet<PathBuf>) {
        let knobs = self.picture.wanted.keys();
        let files = knobs.filter_map(|knob| self.node.file(knob)).collect();
        let targets = self.records().values().filter_map(|record| {
            let cgroup = record.target.as_ref().map(|bound| bound.cgroup.as_path());
            cgroup.or(match &record.spec.target {
                crate::spec::Target::Cgroup(path) => Some(path),
                _ => None,
            })
        });
        let parents = targets.filter_map(|path| path.parent());
        let directories = parents.map(|path| self.node.directory_of(path));
        (files, directories.collect())
    }
}
