//! What is wished for a workload: the JSON of `PUT /v1/workloads/{id}`, in types.

pub(crate) mod patch;
pub(crate) mod read;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use berth_state::Key;
use serde::{Deserialize, Serialize};

/// A workload's name: `[a-z0-9][a-z0-9._-]{0,62}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct WorkloadId(String);

impl WorkloadId {
    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WorkloadId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let starts = text.chars().next().is_some_and(plain);
        let rest = text
            .chars()
            .all(|c| plain(c) || matches!(c, '.' | '_' | '-'));
        if starts && rest && text.len() <= 63 {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "{text:?} is no workload id: 1 to 63 of a-z 0-9 . _ -, the first a letter or digit"
        ))
    }
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for WorkloadId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<WorkloadId> for String {
    fn from(id: WorkloadId) -> Self {
        id.0
    }
}

/// A workload's wished resources. What is absent is not touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spec {
    /// Its name.
    pub(crate) id: WorkloadId,
    /// Whom it is about.
    pub(crate) target: Target,
    /// CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cpu: Option<CpuSpec>,
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<MemorySpec>,
    /// Directories with a quota.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) disk: Vec<DiskSpec>,
    /// Disks with an IO limit or share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) io: Vec<IoSpec>,
    /// Packet work of its virtual functions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<NetworkSpec>,
    /// Seconds a reservation lives while the target is absent; absent: the
    /// configuration's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ttl_sec: Option<u64>,
    /// Seconds the workload stays committed after its target is gone; absent: the
    /// configuration's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lost_ttl_sec: Option<u64>,
}

/// Whom a workload is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// This cgroup, `/machine.slice/game-17.scope`.
    Cgroup(PathBuf),
    /// The cgroup of this process.
    Pid(u32),
    /// The cgroup a runtime named after this container.
    ContainerId(String),
}

/// Wished CPUs: exactly one of `cores` and `cpus`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CpuSpec {
    /// Physical cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cores: Option<u32>,
    /// Logical CPUs; only with `smt: any`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cpus: Option<u32>,
    /// Alone on them or not.
    #[serde(default)]
    pub(crate) mode: CpuMode,
    /// What is done with hardware threads.
    #[serde(default)]
    pub(crate) smt: Smt,
    /// How they may be spread over NUMA nodes.
    #[serde(default)]
    pub(crate) numa: CpuNuma,
    /// How the kernel keeps others off exclusive ones.
    #[serde(default)]
    pub(crate) partition: PartitionWish,
    /// Where the kernel has no remote partitions: by narrowing the siblings instead of
    /// refusing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) best_effort: bool,
}

/// Alone on its CPUs, or in the pool all shared workloads have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CpuMode {
    /// Nobody else runs there.
    #[default]
    Exclusive,
    /// In the shared pool; `cores` is booked there and is its weight.
    Shared,
}

/// What is done with the hardware threads of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Smt {
    /// All threads of each core belong to the workload.
    #[default]
    WholeCore,
    /// Single threads may be given; another workload may have the others.
    Any,
}

/// How exclusive CPUs may be spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CpuNuma {
    /// On one NUMA node or refused.
    #[default]
    Single,
    /// On as few nodes as possible.
    Any,
}

/// The kind of cpuset partition (Documentation/admin-guide/cgroup-v2.rst,
/// `cpuset.cpus.partition`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PartitionWish {
    /// The scheduler balances inside.
    #[default]
    Root,
    /// It does not: for one thread per CPU.
    Isolated,
}

/// Wished memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemorySpec {
    /// `memory.max`, bytes.
    pub(crate) max_bytes: u64,
    /// From which nodes it may come.
    #[serde(default)]
    pub(crate) numa: MemoryNuma,
}

/// From which NUMA nodes memory may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MemoryNuma {
    /// Any.
    #[default]
    Any,
    /// Those of its exclusive cores.
    Bind,
}

/// A directory with a quota.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiskSpec {
    /// The directory on the host; all in it counts.
    pub(crate) path: PathBuf,
    /// Bytes.
    pub(crate) limit_bytes: u64,
    /// Files and directories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit_inodes: Option<u64>,
    /// Go on without it where the filesystem cannot enforce it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) best_effort: bool,
}

/// A disk with an IO limit or share; the disk is the one `path` is on. Limits,
/// `share` and `weight` are three ways of which one is chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IoSpec {
    /// A directory on the disk.
    pub(crate) path: PathBuf,
    /// Bytes read per second at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) read_bytes_per_sec: Option<u64>,
    /// Bytes written per second at most; buffered writes too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) write_bytes_per_sec: Option<u64>,
    /// Limits as this part (above 0, at most 1) of the disk's configured capability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) share: Option<f64>,
    /// Instead of limits: a share in proportion to the others' weights (1 to 10000),
    /// which leaves nothing unused; by iocost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) weight: Option<u16>,
    /// Go on without it where the node cannot enforce it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) best_effort: bool,
}

/// `share` is checked to be a number when it is read.
impl Eq for IoSpec {}

/// Packet work of the workload's virtual functions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkSpec {
    /// Where their interrupts arrive.
    #[serde(default)]
    pub(crate) irq: PacketWork,
    /// Where received packets are processed.
    #[serde(default)]
    pub(crate) rps: PacketWork,
    /// The attachments, `NETWORK/CONTAINERID:IFNAME`; none named: those in the network
    /// namespace of the workload's processes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) attachments: Vec<Key>,
}

/// Where packet work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PacketWork {
    /// On the workload's own cores.
    #[default]
    OwnCores,
    /// It is left alone.
    Off,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for this signature"
)]
fn is_false(value: &bool) -> bool {
    !*value
}
