//! What the agent remembers over restarts and reboots, in `var/lib/berth`: a record per
//! workload, the generation, and what stood in the kernel before us.
//!
//! Every write is durable when its call returns. A file that cannot be understood, or
//! that a newer Berth wrote, is reported and kept, never overwritten in silence, and
//! nothing else stops working for it.

mod before;
mod files;
mod generation;
mod lock;
mod record;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use berth_kernel::Root;
use berth_state::boot;
use serde::Serialize;

pub(crate) use before::Before;
pub(crate) use record::{Phase, ProjectState, Record, State};

use crate::refusal::{Code, Refusal};
use crate::spec::WorkloadId;
pub(crate) use crate::target::Bound;
use files::Place;
use lock::AgentLock;

/// A file that was kept and not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Damaged {
    /// The file.
    pub(crate) path: PathBuf,
    /// What is wrong with it.
    pub(crate) reason: String,
}

/// The agent's memory. Only one process at a time has it open.
#[derive(Debug)]
pub(crate) struct Store {
    place: Place,
    boot_id: String,
    records: BTreeMap<WorkloadId, Record>,
    generation: u64,
    before: Before,
    /// Why `before.json` must not be replaced, if so.
    before_kept: Option<Damaged>,
    damaged: Vec<Damaged>,
    _lock: AgentLock,
}

impl Store {
    /// Opens the node's store for `who` (`berth agent`), making it where there is none,
    /// and sweeps the temporaries of dead writers.
    ///
    /// # Errors
    /// [`Code::Conflict`] while another process has it open, naming that one;
    /// [`Code::Kernel`] if directories cannot be made or read.
    pub(crate) fn open(root: &Root, who: &str) -> Result<Self, Refusal> {
        let lock = AgentLock::take(root, who)?;
        let place = Place::make(root)?;
        let boot_id = boot::boot_id(root).map_err(|error| files::failed("open", &error))?;
        let mut damaged = Vec::new();
        let records = record::read_all(&place, &mut damaged)?;
        let (before, before_kept) = before::read(&place, &boot_id);
        damaged.extend(before_kept.clone());
        let seen = records.values().map(|record| record.generation).max();
        let seen = seen.max(Some(before.generation).filter(|seen| *seen > 0));
        let generation = generation::read(&place, seen, &mut damaged);
        let store = Self {
            place,
            boot_id,
            records,
            generation,
            before,
            before_kept,
            damaged,
            _lock: lock,
        };
        // What was found out must not be found out differently by the next one.
        generation::write(&store.place, store.generation)?;
        Ok(store)
    }

    /// This boot.
    pub(crate) fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Every workload's record.
    pub(crate) fn records(&self) -> &BTreeMap<WorkloadId, Record> {
        &self.records
    }

    /// Files that are kept and not used. What their workloads hold is not known.
    pub(crate) fn damaged(&self) -> &[Damaged] {
        &self.damaged
    }

    /// Writes a record with the present generation and boot.
    ///
    /// # Errors
    /// [`Code::Conflict`] if the workload's file is a damaged one; [`Code::Kernel`] if it
    /// cannot be written: then the former record stands.
    pub(crate) fn put(&mut self, record: &Record) -> Result<(), Refusal> {
        let path = self.place.record(&record.id);
        self.refuse_damaged(&path)?;
        let record = Record {
            generation: self.generation,
            boot_id: self.boot_id.clone(),
            ..record.clone()
        };
        record::write(&path, &record)?;
        self.records.insert(record.id.clone(), record);
        Ok(())
    }

    /// Removes a record; an absent one is success.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub(crate) fn remove(&mut self, id: &WorkloadId) -> Result<(), Refusal> {
        let path = self.place.record(id);
        self.refuse_damaged(&path)?;
        files::remove(&path)?;
        self.records.remove(id);
        Ok(())
    }

    /// The generation: it rises, and never goes back.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Raises the generation and returns it. Raise before the record that needs it is
    /// written.
    ///
    /// # Errors
    /// [`Code::Kernel`] if it cannot be written: then it is not raised.
    pub(crate) fn raise(&mut self) -> Result<u64, Refusal> {
        let next = self.generation.saturating_add(1);
        generation::write(&self.place, next)?;
        self.generation = next;
        Ok(next)
    }

    /// What stood in the kernel before us. After a reboot only what outlives one is left.
    pub(crate) fn before(&self) -> &Before {
        &self.before
    }

    /// Replaces it. Call this before the knob is changed.
    ///
    /// # Errors
    /// [`Code::Conflict`] if the file is a damaged one: without its values nothing more
    /// may be changed; [`Code::Kernel`] if it cannot be written: then the former stands.
    pub(crate) fn save_before(&mut self, before: &Before) -> Result<(), Refusal> {
        if let Some(kept) = &self.before_kept {
            return Err(in_the_way(kept));
        }
        let before = Before {
            boot_id: self.boot_id.clone(),
            generation: self.generation,
            ..before.clone()
        };
        before::write(&self.place, &before)?;
        self.before = before;
        Ok(())
    }

    fn refuse_damaged(&self, path: &Path) -> Result<(), Refusal> {
        match self.damaged.iter().find(|damaged| damaged.path == path) {
            Some(damaged) => Err(in_the_way(damaged)),
            None => Ok(()),
        }
    }
}

fn in_the_way(damaged: &Damaged) -> Refusal {
    Refusal::new(
        Code::Conflict,
        damaged.path.display().to_string(),
        "replace it",
        format!(
            "what it says is not understood and must not be lost: {}",
            damaged.reason
        ),
        "use the version of Berth that wrote it; or examine it, move it away, restart the agent",
    )
}

/// Seconds since 1970.
pub(crate) fn now_unix() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
