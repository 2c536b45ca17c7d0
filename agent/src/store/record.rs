//! What is remembered of a workload, one file each.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use berth_kernel::CpuSet;
use berth_state::format;
use serde::{Deserialize, Serialize};

use super::Damaged;
use super::files::{self, Place};
use crate::refusal::Refusal;
use crate::spec::{Spec, WorkloadId};
use crate::target::Bound;

const FORMAT: u64 = 1;

/// A workload: what is wished for it, what was decided, where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// Its name.
    pub(crate) id: WorkloadId,
    /// The boot it was written in; set by the store.
    pub(crate) boot_id: String,
    /// The generation it was written at; set by the store.
    pub(crate) generation: u64,
    /// When the workload was made, seconds since 1970.
    pub(crate) created_unix: u64,
    /// What is wished.
    pub(crate) spec: Spec,
    /// How far the last request has come.
    pub(crate) phase: Phase,
    /// While a change is under way: what it goes back to if it does not succeed. A new
    /// workload has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<Box<Self>>,
    /// Its exclusive CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cpus: Option<CpuSet>,
    /// Their NUMA nodes.
    #[serde(default)]
    pub(crate) nodes: CpuSet,
    /// Why these, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) why: Vec<String>,
    /// The cgroup its target was last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<Bound>,
    /// Where its life stands.
    pub(crate) state: State,
    /// The projects of its directories.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) projects: BTreeMap<PathBuf, ProjectState>,
    /// How often something of it was repaired.
    #[serde(default)]
    pub(crate) repairs: u64,
}

impl Record {
    /// The record before the change that is being made; `None` if there was none.
    pub(crate) fn taken_back(&self) -> Option<Self> {
        self.previous.as_deref().cloned()
    }
}

/// How far the last request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// It is being made true; found at a start, it did not happen.
    Applying,
    /// It was answered.
    Applied,
    /// The workload is being taken away.
    Releasing,
}

/// Where a workload's life stands; times are seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Its target is not there yet, or not yet again after a reboot.
    Reserved { since_unix: u64 },
    /// Its target is there.
    Active { since_unix: u64 },
    /// Its target is gone.
    Lost { since_unix: u64 },
}

/// The project of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProjectState {
    /// Its id.
    pub(crate) project: u32,
    /// Where the directory's filesystem is mounted: the way to the limits once the
    /// directory is gone.
    pub(crate) mount: PathBuf,
    /// The filesystem the directory was on (`st_dev`).
    pub(crate) dev: u64,
    /// The directory's inode: another one of this name is not ours.
    pub(crate) inode: u64,
}

/// Every record that can be read; the others are reported.
pub(super) fn read_all(
    place: &Place,
    damaged: &mut Vec<Damaged>,
) -> Result<BTreeMap<WorkloadId, Record>, Refusal> {
    let dir = place.workloads();
    let unlisted = |error: std::io::Error| files::failed(format!("list {}", dir.display()), &error);
    let mut records = BTreeMap::new();
    let mut paths = Vec::new();
    for entry in fs::read_dir(&dir).map_err(unlisted)? {
        paths.push(entry.map_err(unlisted)?.path());
    }
    paths.sort_unstable();
    // The temporary of a writer that lives is no damage.
    let hidden = |path: &Path| {
        path.file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    for path in paths.into_iter().filter(|path| !hidden(path)) {
        match read(&path) {
            Ok(record) => {
                records.insert(record.id.clone(), record);
            }
            Err(reason) => damaged.push(Damaged { path, reason }),
        }
    }
    Ok(records)
}

fn read(path: &Path) -> Result<Record, String> {
    let name = path.file_name().and_then(|name| name.to_str());
    let id = name.and_then(|name| name.strip_suffix(".json"));
    let id = id.ok_or("its name is not that of a workload's record")?;
    let id: WorkloadId = id.parse()?;
    let record: Option<Record> = format::read(path, FORMAT).map_err(|error| error.to_string())?;
    let record = record.ok_or("it went while it was read")?;
    if record.id == id && record.spec.id == id {
        Ok(record)
    } else {
        Err(format!("it is about workload {}", record.id))
    }
}

pub(super) fn write(path: &Path, record: &Record) -> Result<(), Refusal> {
    let bytes = format::write(path, FORMAT, record)
        .map_err(|error| files::failed(format!("write {}", path.display()), &error))?;
    files::replace(path, &bytes)
}
