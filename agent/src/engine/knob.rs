//! What the agent sets on a node: each thing with a name ([`Knob`]) and its setting
//! ([`Value`]). Everything else (the plan of a request, repair, undo, release, `berth
//! diff`) is told in these two.

use std::fmt;
use std::path::{Path, PathBuf};

use berth_kernel::cgroup::io::IoMax;
use berth_kernel::{CpuSet, DeviceNumber, IfName, Limit};
use serde::{Deserialize, Serialize};

use crate::spec::PartitionWish;

/// One thing that can be set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "knob", rename_all = "kebab-case")]
pub(crate) enum Knob {
    /// `cpuset.cpus` of a cgroup.
    Cpus { cgroup: PathBuf },
    /// `cpuset.cpus.exclusive` of a cgroup.
    ExclusiveCpus { cgroup: PathBuf },
    /// `cpuset.cpus.partition` of a cgroup.
    Partition { cgroup: PathBuf },
    /// `cpuset.mems` of a cgroup.
    Mems { cgroup: PathBuf },
    /// `cpu.weight` of a cgroup.
    CpuWeight { cgroup: PathBuf },
    /// `memory.high` of a cgroup.
    MemoryHigh { cgroup: PathBuf },
    /// `memory.max` of a cgroup.
    MemoryMax { cgroup: PathBuf },
    /// The line of a device in `io.max` of a cgroup.
    IoMax {
        cgroup: PathBuf,
        device: DeviceNumber,
    },
    /// The line of a device in `io.weight` of a cgroup.
    IoWeight {
        cgroup: PathBuf,
        device: DeviceNumber,
    },
    /// The line of a device in the root's `io.cost.model` and `io.cost.qos`.
    IoCost { device: DeviceNumber },
    /// `queue/wbt_lat_usec` of a device: writeback throttling.
    WritebackLatency { device: DeviceNumber },
    /// The project of a directory and all in it.
    Project { dir: PathBuf },
    /// The limits of a project on the filesystem of a directory.
    Quota { dir: PathBuf, project: u32 },
    /// `smp_affinity_list` of an interrupt.
    Irq { irq: u32 },
    /// `default_smp_affinity`: where new interrupts arrive.
    DefaultIrq,
    /// `rps_cpus` of a receive queue of an interface in the namespace with this cookie.
    Rps {
        netns: u64,
        interface: IfName,
        queue: u32,
    },
    /// `xps_cpus` of a transmit queue there.
    Xps {
        netns: u64,
        interface: IfName,
        queue: u32,
    },
}

impl Knob {
    /// The cgroup it is of, if it is one of a cgroup's.
    pub(crate) fn cgroup(&self) -> Option<&Path> {
        match self {
            Self::Cpus { cgroup }
            | Self::ExclusiveCpus { cgroup }
            | Self::Partition { cgroup }
            | Self::Mems { cgroup }
            | Self::CpuWeight { cgroup }
            | Self::MemoryHigh { cgroup }
            | Self::MemoryMax { cgroup }
            | Self::IoMax { cgroup, .. }
            | Self::IoWeight { cgroup, .. } => Some(cgroup),
            _ => None,
        }
    }
}

impl Knob {
    /// What a cgroup's knob is where nobody has set it; `None` for knobs whose default
    /// is the kernel's to choose.
    pub(crate) fn untouched(&self) -> Option<Value> {
        Some(match self {
            Self::Cpus { .. } | Self::ExclusiveCpus { .. } | Self::Mems { .. } => {
                Value::Set(CpuSet::new())
            }
            Self::Partition { .. } => Value::Partition(Partition::Member),
            Self::CpuWeight { .. } => Value::Number(100),
            Self::MemoryHigh { .. } | Self::MemoryMax { .. } => Value::Limit(Limit::Max),
            Self::IoMax { .. } => Value::Io(IoMax::NONE),
            Self::IoWeight { .. } => Value::Unset,
            _ => return None,
        })
    }
}

/// A setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Value {
    /// CPUs, or NUMA nodes.
    Set(CpuSet),
    /// A number or `max`.
    Limit(Limit),
    /// A number: a weight, a latency in microseconds.
    Number(u64),
    /// A kind of partition.
    Partition(Partition),
    /// Limits of a device.
    Io(IoMax),
    /// iocost of a device: its model and quality of service lines as the kernel writes
    /// them, without the device; empty: off.
    IoCost { model: String, qos: String },
    /// A project id; 0: none.
    Project(u32),
    /// Limits of a project.
    Quota { bytes: Limit, inodes: Limit },
    /// Nothing is set, or the kernel's default.
    Unset,
}

/// `cpuset.cpus.partition`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Partition {
    /// No partition.
    Member,
    /// One of this kind.
    Of(PartitionWish),
    /// The kernel has suspended one of this kind, for this reason.
    Invalid(PartitionWish, String),
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpus { cgroup } => write!(f, "cpuset.cpus of {}", cgroup.display()),
            Self::ExclusiveCpus { cgroup } => {
                write!(f, "cpuset.cpus.exclusive of {}", cgroup.display())
            }
            Self::Partition { cgroup } => {
                write!(f, "cpuset.cpus.partition of {}", cgroup.display())
            }
            Self::Mems { cgroup } => write!(f, "cpuset.mems of {}", cgroup.display()),
            Self::CpuWeight { cgroup } => write!(f, "cpu.weight of {}", cgroup.display()),
            Self::MemoryHigh { cgroup } => write!(f, "memory.high of {}", cgroup.display()),
            Self::MemoryMax { cgroup } => write!(f, "memory.max of {}", cgroup.display()),
            Self::IoMax { cgroup, device } => {
                write!(f, "io.max of {} for {device}", cgroup.display())
            }
            Self::IoWeight { cgroup, device } => {
                write!(f, "io.weight of {} for {device}", cgroup.display())
            }
            Self::IoCost { device } => write!(f, "iocost of {device}"),
            Self::WritebackLatency { device } => write!(f, "wbt_lat_usec of {device}"),
            Self::Project { dir } => write!(f, "project of {}", dir.display()),
            Self::Quota { dir, project } => {
                write!(f, "quota of project {project} at {}", dir.display())
            }
            Self::Irq { irq } => write!(f, "affinity of interrupt {irq}"),
            Self::DefaultIrq => f.write_str("default affinity of interrupts"),
            Self::Rps {
                interface, queue, ..
            } => {
                write!(f, "RPS of receive queue {queue} of {interface}")
            }
            Self::Xps {
                interface, queue, ..
            } => {
                write!(f, "XPS of transmit queue {queue} of {interface}")
            }
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(set) if set.is_empty() => f.write_str("none"),
            Self::Set(set) => set.fmt(f),
            Self::Limit(limit) => limit.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Partition(partition) => partition.fmt(f),
            Self::Io(limits) => limits.fmt(f),
            Self::IoCost { model, .. } if model.is_empty() => f.write_str("off"),
            Self::IoCost { model, .. } => f.write_str(model),
            Self::Project(0) => f.write_str("none"),
            Self::Project(id) => id.fmt(f),
            Self::Quota { bytes, inodes } => write!(f, "bytes {bytes}, inodes {inodes}"),
            Self::Unset => f.write_str("unset"),
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |kind: &PartitionWish| match kind {
            PartitionWish::Root => "root",
            PartitionWish::Isolated => "isolated",
        };
        match self {
            Self::Member => f.write_str("member"),
            Self::Of(kind) => f.write_str(name(kind)),
            Self::Invalid(kind, why) => write!(f, "{} invalid ({why})", name(kind)),
        }
    }
}
