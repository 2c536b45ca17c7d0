//! The cpuset controller: which CPUs the tasks of a cgroup really run on.

use std::fmt;
use std::path::Path;

use nix::errno::Errno;

use super::files::Meaning;
use super::{Cgroup, directory};
use crate::cpu::CpuSet;
use crate::error::{AbsentIsFine, Error, Result};
use crate::names::Invalid;
use crate::{Root, file};

const EFFECTIVE: &str = "cpuset.cpus.effective";

/// The CPUs `cgroup` runs on: its `cpuset.cpus.effective`, or that of the nearest
/// ancestor that has the file, because a cgroup without the controller runs where
/// its parent may. Never `cpuset.cpus`: that is a wish, empty where nothing was
/// wished and wider than the truth when CPUs go offline or to a partition.
///
/// # Errors
/// Without cgroup v2, when the cgroup does not exist, or when no ancestor has the
/// controller.
pub fn effective(root: &Root, cgroup: &Path) -> Result<CpuSet> {
    let start = directory(root, cgroup)?;
    if !start.is_dir() {
        let error = Error::errno("read cpuset of cgroup", cgroup.display(), Errno::ENOENT);
        return Err(error.because(Some(format!("{} is no directory", start.display()))));
    }
    for dir in start
        .ancestors()
        .take_while(|dir| dir.starts_with(&root.cgroup))
    {
        if let Some(cpus) = file::parse(&dir.join(EFFECTIVE)).absent_is_fine()? {
            return Ok(cpus);
        }
    }
    let error = Error::errno("read cpuset of cgroup", cgroup.display(), Errno::EOPNOTSUPP);
    let reason = format!("no {EFFECTIVE} up to {}", root.cgroup.display());
    Err(error.because(Some(format!(
        "{reason}: the kernel has no cpuset controller"
    ))))
}

/// The CPUs that belong to no partition below the root: those every cgroup without
/// a cpuset of its own shares.
///
/// # Errors
/// As [`effective`].
pub fn root_effective(root: &Root) -> Result<CpuSet> {
    effective(root, Path::new("/"))
}

const CPUS: &str = "cpuset.cpus";
const MEMS: &str = "cpuset.mems";
const EXCLUSIVE: &str = "cpuset.cpus.exclusive";
const PARTITION: &str = "cpuset.cpus.partition";

/// `cpuset.cpus.partition`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The kind that was asked for.
    pub kind: PartitionKind,
    /// Why the kernel does not keep it, in its own words, which may be none; `None`
    /// while it is valid.
    pub invalid: Option<String>,
}

/// What the CPUs of a cgroup are to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionKind {
    /// Shared as its parent's are.
    Member,
    /// Its own, balanced inside.
    Root,
    /// Its own, without balancing.
    Isolated,
}

impl fmt::Display for PartitionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Member => "member",
            Self::Root => "root",
            Self::Isolated => "isolated",
        })
    }
}

impl std::str::FromStr for Partition {
    type Err = Invalid;

    fn from_str(text: &str) -> std::result::Result<Self, Invalid> {
        let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
        let kind = match kind {
            "member" => PartitionKind::Member,
            "root" => PartitionKind::Root,
            "isolated" => PartitionKind::Isolated,
            _ => return Err(Invalid(format!("{text:?} is no kind of partition"))),
        };
        let why = rest.strip_prefix("invalid").map(str::trim);
        let bare = |why: &str| {
            let inner = why.strip_prefix('(').and_then(|why| why.strip_suffix(')'));
            inner.unwrap_or(why).to_owned()
        };
        match why {
            None if !rest.is_empty() => Err(Invalid(format!("{text:?} is no partition"))),
            why => Ok(Self {
                kind,
                invalid: why.map(bare),
            }),
        }
    }
}

/// `cpuset.cpus`: the wish; empty: what the parent has.
///
/// # Errors
/// When the cgroup is gone or has no cpuset controller.
pub fn cpus(group: &Cgroup) -> Result<CpuSet> {
    group.value(CPUS)
}

/// Sets `cpuset.cpus`; the empty set takes the wish back.
///
/// # Errors
/// As [`cpus`], for CPUs the machine cannot have (ERANGE), or when a populated cgroup
/// would be left without any (ENOSPC).
pub fn set_cpus(group: &Cgroup, wish: &CpuSet) -> Result<()> {
    set(group, CPUS, wish, CPUS_MEAN)
}

/// `cpuset.cpus.effective`: where its tasks run.
///
/// # Errors
/// As [`cpus`].
pub fn effective_cpus(group: &Cgroup) -> Result<CpuSet> {
    group.value(EFFECTIVE)
}

/// `cpuset.mems`: the NUMA nodes wished; empty: what the parent has.
///
/// # Errors
/// As [`cpus`].
pub fn mems(group: &Cgroup) -> Result<CpuSet> {
    group.value(MEMS)
}

/// Sets `cpuset.mems`. The kernel moves the memory of the tasks there, which takes time.
///
/// # Errors
/// As [`cpus`], for nodes without memory (EINVAL), or when a populated cgroup would be
/// left without any (ENOSPC).
pub fn set_mems(group: &Cgroup, wish: &CpuSet) -> Result<()> {
    set(group, MEMS, wish, MEMS_MEAN)
}

/// `cpuset.mems.effective`: the NUMA nodes its memory comes from.
///
/// # Errors
/// As [`cpus`].
pub fn effective_mems(group: &Cgroup) -> Result<CpuSet> {
    group.value("cpuset.mems.effective")
}

/// `cpuset.cpus.exclusive`: the CPUs kept for partitions here and below.
///
/// # Errors
/// As [`cpus`], or before Linux 6.7.
pub fn exclusive(group: &Cgroup) -> Result<CpuSet> {
    group.value(EXCLUSIVE)
}

/// Sets `cpuset.cpus.exclusive`: from the top down when it grows, from the bottom up
/// when it shrinks.
///
/// # Errors
/// As [`exclusive`], or when a sibling has one of the CPUs (EINVAL).
pub fn set_exclusive(group: &Cgroup, wish: &CpuSet) -> Result<()> {
    set(group, EXCLUSIVE, wish, EXCLUSIVE_MEANS)
}

/// `cpuset.cpus.exclusive.effective`: those that a partition here can have.
///
/// # Errors
/// As [`exclusive`].
pub fn effective_exclusive(group: &Cgroup) -> Result<CpuSet> {
    group.value("cpuset.cpus.exclusive.effective")
}

/// `cpuset.cpus.partition`.
///
/// # Errors
/// As [`cpus`], and for the root, which is no member of anything.
pub fn partition(group: &Cgroup) -> Result<Partition> {
    group.value(PARTITION)
}

/// Makes the cgroup a partition of this kind, or a member again.
///
/// # Errors
/// As [`partition`], or when the kernel takes the word and holds the partition invalid:
/// then nothing is taken from others, and the file keeps the word.
pub fn set_partition(group: &Cgroup, kind: PartitionKind) -> Result<()> {
    let wish = kind.to_string();
    group.write(PARTITION, &wish, &[])?;
    let live = partition(group)?;
    match live.invalid {
        Some(why) => {
            let reason = format!("the kernel holds it invalid ({why}): {}", remedy(&why));
            Err(group.refused(PARTITION, &wish, Errno::EINVAL, reason))
        }
        None if live.kind != kind => {
            let seen = format!("it reads {}", live.kind);
            Err(group.not_so(PARTITION, &wish, &seen))
        }
        None => Ok(()),
    }
}

/// What helps against a reason of the kernel's (`perr_strings` in its
/// kernel/cgroup/cpuset.c).
fn remedy(why: &str) -> &'static str {
    let why = why.to_lowercase();
    let has = |word| why.contains(word);
    if has("hotplug") {
        "bring one of its CPUs online, then write the kind again"
    } else if has("housekeeping") {
        "isolcpus= or nohz_full= of the boot line has some of its CPUs; choose others"
    } else if has("not exclusive") {
        "a cgroup beside it has some of its CPUs in cpuset.cpus; take them out there, write \
         member here and then the kind"
    } else if has("cpuset.cpus.exclusive") {
        "write its CPUs to cpuset.cpus.exclusive of each cgroup above it from the top down, \
         and to its own last"
    } else if has("empty") || has("invalid cpu list") {
        "write its CPUs to cpuset.cpus first, all of them CPUs its parent can give"
    } else if has("parent") {
        "write its CPUs to cpuset.cpus.exclusive of each cgroup from the top down, or make \
         its parent a partition first"
    } else {
        "look for cgroups beside it with the same CPUs, write member and then the kind again"
    }
}

const EMPTIED: &str = "processes are in it or below, and they need at least one: move them out \
                       first, or write all that its parent has instead of nothing";

const CPUS_MEAN: Meaning<'static> = &[
    (
        Errno::ERANGE,
        "the machine cannot have some of these CPUs; see /sys/devices/system/cpu/possible",
    ),
    (Errno::ENOSPC, EMPTIED),
    (
        Errno::EINVAL,
        "the CPUs are outside those of its parent, or conflict with a partition beside it",
    ),
];

const MEMS_MEAN: Meaning<'static> = &[
    (
        Errno::EINVAL,
        "some of these nodes do not exist or have no memory; see \
         /sys/devices/system/node/has_memory",
    ),
    (Errno::ERANGE, "the machine cannot have some of these nodes"),
    (Errno::ENOSPC, EMPTIED),
];

const EXCLUSIVE_MEANS: Meaning<'static> = &[
    (
        Errno::EINVAL,
        "a cgroup beside it has some of these CPUs in cpuset.cpus.exclusive, or all its \
         cpuset.cpus are among them: take them out there first",
    ),
    (
        Errno::ERANGE,
        "the machine cannot have some of these CPUs; see /sys/devices/system/cpu/possible",
    ),
];

fn set(group: &Cgroup, name: &str, wish: &CpuSet, meaning: Meaning) -> Result<()> {
    // A write of no bytes does not reach the kernel.
    let data = format!("{wish}\n");
    group.write(name, &data, meaning)?;
    let live: CpuSet = group.value(name)?;
    if live == *wish {
        Ok(())
    } else {
        Err(group.not_so(name, &data, &format!("it reads \"{live}\"")))
    }
}

#[cfg(test)]
mod tests;
