//! The node as the engine sees it: what it reads of it and sets on it. Behind a trait so
//! that the engine's transactions are tested without a kernel, step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use berth_kernel::{CpuSet, Error, Limit, PciAddr, Result};

use super::errands::{Ended, Errand};
use super::handle::Condition;
use super::knob::{Knob, Value};
use super::plan::Step;
use super::remedy::remedy;
use super::wanted::{Disk, Sibling};
use crate::capacity::{Inventory, Totals};
use crate::policy::cpu::Machine;
use crate::refusal::{Missing, Refusal};
use crate::spec::{Spec, Target, WorkloadId};
use crate::store::{Bound, Record};

/// A directory of a spec, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directory {
    /// Device number of its filesystem.
    pub(crate) dev: u64,
    /// Its inode.
    pub(crate) inode: u64,
    /// Where its filesystem is mounted.
    pub(crate) mount: PathBuf,
    /// Why its filesystem enforces no quota, and what to do; `None` where it does.
    pub(crate) no_quota: Option<(String, String)>,
    /// The project it has now; 0: none.
    pub(crate) project: u32,
}

/// What packet work should look like, and what about it cannot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Packets {
    /// The settings, each with its reason.
    pub(crate) settings: Vec<(Knob, Value, String)>,
    /// What is not possible.
    pub(crate) notes: Vec<String>,
    /// Of what was there before the first change, what others have put back.
    pub(crate) orphans: Vec<Knob>,
}

/// A node.
pub(crate) trait Node {
    /// Its cores.
    ///
    /// # Errors
    /// When the topology cannot be read.
    fn machine(&mut self) -> Result<Machine>;

    /// Whether the kernel keeps others off exclusive CPUs anywhere in the hierarchy.
    fn partitions(&self) -> bool;

    /// The cgroup of a target; `None` if it is not there.
    ///
    /// # Errors
    /// When it can never be a target.
    fn find(&mut self, target: &Target) -> std::result::Result<Option<Bound>, Refusal>;

    /// Whether a cgroup is still there and is the same one.
    fn still_there(&self, bound: &Bound) -> bool;

    /// The cgroups with a `cpuset.cpus` of their own beside (with the same parent as)
    /// those of `exclusive` and those above them, except `ours`.
    ///
    /// # Errors
    /// When the hierarchy cannot be read.
    fn siblings(
        &mut self,
        exclusive: &BTreeSet<PathBuf>,
        ours: &BTreeSet<PathBuf>,
    ) -> Result<Vec<Sibling>>;

    /// The disk a path is on.
    ///
    /// # Errors
    /// When the path does not exist or what it is on takes no limits.
    fn disk(&mut self, path: &Path) -> Result<Disk>;

    /// A directory with a quota; `None` if it does not exist.
    ///
    /// # Errors
    /// When it is no directory or cannot be examined.
    fn directory(&mut self, path: &Path) -> Result<Option<Directory>>;

    /// Bytes, and files and directories, of a tree that has no project yet.
    ///
    /// # Errors
    /// When it cannot be read.
    fn usage(&mut self, path: &Path) -> Result<(u64, u64)>;

    /// The limit that stands when `bytes` are asked for at `path`: whole blocks.
    ///
    /// # Errors
    /// When the filesystem cannot be asked.
    fn whole_blocks(&mut self, path: &Path, bytes: u64) -> Result<Limit>;

    /// A project id nobody uses on the filesystem at `mount`, nor is in `taken`.
    ///
    /// # Errors
    /// When the filesystem cannot be asked.
    fn free_project(&mut self, mount: &Path, taken: &BTreeSet<u32>) -> Result<u32>;

    /// Where interrupts and queues should be, given the exclusive CPUs on record.
    ///
    /// # Errors
    /// When interrupts cannot be read.
    fn packets(
        &mut self,
        records: &BTreeMap<WorkloadId, Record>,
        before: &BTreeMap<Knob, Value>,
    ) -> Result<Packets>;

    /// Other programs that pin CPUs here, as sentences with their way out.
    fn rivals(&mut self, ours: &BTreeSet<PathBuf>) -> Vec<(String, String)>;

    /// The NUMA node of the workload's virtual functions, if it has any on one.
    fn near(&mut self, spec: &Spec) -> Option<u32>;

    /// Makes the controllers that the record's spec needs available in its cgroup.
    ///
    /// # Errors
    /// When a cgroup above holds processes itself, or the kernel lacks a controller.
    fn controllers(&mut self, record: &Record, cgroup: &Path) -> Result<()>;

    /// Tells those who have to know of packet work (plugins, irqbalance) how it is now
    /// that a pass is done; an answer is a condition.
    fn settle_packets(&mut self) -> Vec<Condition>;

    /// Tells plugins which CPUs are the node's own; an answer is a condition.
    fn tell_housekeeping(&mut self, cpus: &CpuSet) -> Option<Condition>;

    /// The virtual functions in quarantine, each with what is wrong with it.
    ///
    /// # Errors
    /// When claims cannot be listed.
    fn quarantined(&mut self) -> Result<BTreeMap<PciAddr, String>>;

    /// Begins what takes longer than a pass, and does not wait for it.
    fn send(&mut self, errand: Errand);

    /// What has ended of that since the last call.
    fn ended(&mut self) -> Vec<Ended>;

    /// What the report says of hardware and disks.
    fn inventory(&mut self) -> Inventory;

    /// What the node cannot do, as berth doctor says it.
    fn lacks(&mut self) -> Vec<Condition>;

    /// What of it can be promised.
    fn totals(&self, inventory: &Inventory) -> Totals {
        inventory.totals()
    }

    /// The file to watch for writes to a knob, if it has one that tells.
    fn file(&self, knob: &Knob) -> Option<PathBuf>;

    /// The directory of a cgroup.
    fn directory_of(&self, cgroup: &Path) -> PathBuf;

    /// What a knob is set to; `None` if there is no such thing now.
    ///
    /// # Errors
    /// What the kernel refused.
    fn read(&mut self, knob: &Knob) -> Result<Option<Value>>;

    /// Takes a step and reads back what came of it.
    ///
    /// # Errors
    /// What the kernel refused, or that it keeps something else.
    fn write(&mut self, step: &Step) -> Result<()>;

    /// Whether a step that lowers a limit leaves room for what is in use.
    ///
    /// # Errors
    /// When usage cannot be read; the inner error says what is in use.
    fn room(&mut self, step: &Step) -> Result<std::result::Result<(), Missing>>;
}

/// The refusal of a request whose step the kernel refused.
pub(crate) fn refused(object: &str, step: &Step, error: &Error) -> Refusal {
    Refusal::new(
        crate::refusal::Code::Kernel,
        object,
        format!("set {} to {}", step.knob, step.to),
        error.to_string(),
        format!(
            "all steps were taken back; {}; then repeat the request",
            remedy(&step.knob)
        ),
    )
}
