//! What every knob should be set to, from what is on record and what was seen. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use berth_kernel::cgroup::io::IoMax;
use berth_kernel::{CpuSet, DeviceNumber, Limit};

use super::knob::{Knob, Partition, Value};
use super::plan::{Wanted, Wish};
use crate::policy;
use crate::spec::{CpuMode, CpuSpec, IoSpec, MemoryNuma, WorkloadId};
use crate::store::{Before, Phase, Record, State};

#[cfg(test)]
pub(crate) mod tests;

/// A cgroup that is not ours beside one that has exclusive CPUs, or beside one above it.
/// Beside it, one whose `cpuset.cpus` overlaps makes the kernel suspend the partition.
/// At any level, one that lies wholly inside makes it refuse the exclusive CPUs (EINVAL).
/// Others may overlap; the kernel takes the CPUs from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sibling {
    /// Its path.
    pub(crate) cgroup: PathBuf,
    /// Its `cpuset.cpus`.
    pub(crate) cpus: CpuSet,
    /// Beside the exclusive cgroup itself, and not beside one above it.
    pub(crate) beside_target: bool,
}

/// A disk that a path of a spec is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Disk {
    /// Where its filesystem is mounted.
    pub(crate) mount: PathBuf,
    /// The filesystem's own device.
    pub(crate) filesystem: DeviceNumber,
    /// The device that takes limits.
    pub(crate) limits: DeviceNumber,
    /// The devices below it that take weights.
    pub(crate) weights: Vec<DeviceNumber>,
    /// What it can do, if configured.
    pub(crate) capability: Option<policy::io::Capability>,
}

/// What the wishes are decided from besides the records.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// The CPUs of shared workloads.
    pub(crate) pool: CpuSet,
    /// The online CPUs: a cgroup with all of them is not restricted.
    pub(crate) all: CpuSet,
    /// Whether the kernel keeps others off exclusive CPUs (Linux 6.7).
    pub(crate) partitions: bool,
    /// The cgroups of workloads with exclusive CPUs whose own `cpuset.cpus` is empty.
    pub(crate) unpinned: BTreeSet<PathBuf>,
    /// See [`Sibling`].
    pub(crate) siblings: Vec<Sibling>,
    /// The disks of the paths in specs.
    pub(crate) disks: BTreeMap<PathBuf, Disk>,
    /// The directories with a quota that exist, and their limit of bytes in whole blocks.
    pub(crate) directories: BTreeMap<PathBuf, Limit>,
    /// Packet work, decided by [`policy::irq`].
    pub(crate) packets: Vec<(Knob, Value, String)>,
    /// What knobs were set to before they were first touched.
    pub(crate) before: Before,
}

/// Every wish: those of the workloads, and for a knob that nobody wishes any more what
/// it was set to before.
pub(crate) fn wanted(records: &BTreeMap<WorkloadId, Record>, seen: &Seen) -> Wanted {
    let mut wanted = wishes(records, seen);
    for (knob, value) in &seen.before.entries {
        wanted.entry(knob.clone()).or_insert_with(|| Wish {
            value: value.clone(),
            owner: None,
            why: "as it was before".to_owned(),
        });
    }
    wanted
}

/// The wishes of the workloads alone.
pub(super) fn wishes(records: &BTreeMap<WorkloadId, Record>, seen: &Seen) -> Wanted {
    let mut wanted = Wanted::new();
    let mut add = |owner: Option<&WorkloadId>, (knob, value, why): Setting| {
        let owner = owner.cloned();
        wanted.insert(knob, Wish { value, owner, why });
    };
    let standing = || {
        records
            .values()
            .filter(|record| record.phase != Phase::Releasing)
    };
    for record in standing() {
        let owner = Some(&record.spec.id);
        for setting in quotas(record, seen) {
            add(owner, setting);
        }
        let Some(cgroup) = active_cgroup(record) else {
            continue;
        };
        let settings = [
            cpu(record, cgroup, seen),
            memory(record, cgroup),
            io(record, cgroup, seen),
        ];
        for setting in settings.into_iter().flatten() {
            add(owner, setting);
        }
    }
    let exclusive = exclusive_chains(standing());
    if seen.partitions {
        for (cgroup, cpus) in &exclusive {
            let knob = Knob::ExclusiveCpus {
                cgroup: cgroup.clone(),
            };
            let (owner, why) = match owners(cgroup, standing()).as_slice() {
                [one] => (Some(*one), format!("exclusive CPUs of {one}")),
                _ => (None, "exclusive CPUs of the workloads in it".to_owned()),
            };
            add(owner, (knob, Value::Set(cpus.clone()), why));
        }
    }
    let beside = siblings(&exclusive, seen);
    for setting in beside.into_iter().chain(seen.packets.clone()) {
        add(None, setting);
    }
    wanted
}

type Setting = (Knob, Value, String);

/// The cgroup of a workload whose target is there.
pub(crate) fn active_cgroup(record: &Record) -> Option<&Path> {
    let bound = record.target.as_ref()?;
    matches!(record.state, State::Active { .. }).then_some(bound.cgroup.as_path())
}

/// The workload's exclusive CPUs, if it has any.
pub(crate) fn exclusive_cpus(record: &Record) -> Option<&CpuSet> {
    let cpu = record.spec.cpu.as_ref()?;
    (cpu.mode == CpuMode::Exclusive).then_some(record.cpus.as_ref()?)
}

fn cpu(record: &Record, cgroup: &Path, seen: &Seen) -> Vec<Setting> {
    let Some(cpu) = &record.spec.cpu else {
        return Vec::new();
    };
    let id = &record.spec.id;
    let cgroup = cgroup.to_owned();
    match (cpu.mode, exclusive_cpus(record)) {
        (CpuMode::Exclusive, Some(cpus)) => {
            let why = format!("exclusive CPUs of {id}");
            // A partition follows its exclusive CPUs. An empty cpuset.cpus stays empty,
            // since nobody can empty it again; another one must not be in the way of
            // other partitions.
            let empty = seen.partitions && seen.unpinned.contains(&cgroup);
            let own = if empty { CpuSet::new() } else { cpus.clone() };
            let knob = Knob::Cpus {
                cgroup: cgroup.clone(),
            };
            let mut settings = vec![(knob, Value::Set(own), why.clone())];
            if seen.partitions {
                let kind = Value::Partition(Partition::Of(cpu.partition));
                settings.push((Knob::Partition { cgroup }, kind, why));
            }
            settings
        }
        (CpuMode::Exclusive, None) => Vec::new(),
        (CpuMode::Shared, _) => vec![
            (
                Knob::Cpus {
                    cgroup: cgroup.clone(),
                },
                Value::Set(unrestricted(&seen.pool, &seen.all)),
                format!("shared CPUs, of {id}"),
            ),
            (
                Knob::CpuWeight { cgroup },
                Value::Number(weight(cpu)),
                format!("weight of {id} by its cores"),
            ),
        ],
    }
}

/// All CPUs are no restriction, which is written as none: the kernel lets nobody take the
/// last CPU from `cpuset.cpus` of a cgroup with tasks, so that "all" is how it ends.
pub(crate) fn unrestricted(cpus: &CpuSet, all: &CpuSet) -> CpuSet {
    if all.is_subset(cpus) {
        CpuSet::new()
    } else {
        cpus.clone()
    }
}

/// `cpu.weight`: 100 (the default) for each core or CPU promised.
fn weight(cpu: &CpuSpec) -> u64 {
    let promised = cpu.cores.or(cpu.cpus).unwrap_or(1);
    (u64::from(promised) * 100).clamp(1, 10_000)
}

fn memory(record: &Record, cgroup: &Path) -> Vec<Setting> {
    let Some(memory) = &record.spec.memory else {
        return Vec::new();
    };
    let id = &record.spec.id;
    let cgroup = cgroup.to_owned();
    let shares = record.spec.io.iter().any(|io| io.weight.is_some());
    let limits = policy::memory::limits(memory.max_bytes, shares);
    let why = format!("memory of {id}");
    let mut settings = vec![
        (
            Knob::MemoryMax {
                cgroup: cgroup.clone(),
            },
            Value::Limit(limits.max),
            why.clone(),
        ),
        (
            Knob::MemoryHigh {
                cgroup: cgroup.clone(),
            },
            Value::Limit(limits.high),
            why.clone(),
        ),
    ];
    if memory.numa == MemoryNuma::Bind && !record.nodes.is_empty() {
        settings.push((Knob::Mems { cgroup }, Value::Set(record.nodes.clone()), why));
    }
    settings
}

fn io(record: &Record, cgroup: &Path, seen: &Seen) -> Vec<Setting> {
    let mut settings = Vec::new();
    for io in &record.spec.io {
        if let Some(disk) = seen.disks.get(&io.path) {
            settings.extend(io_of(&record.spec.id, io, cgroup, disk));
        }
    }
    settings
}

fn io_of(id: &WorkloadId, io: &IoSpec, cgroup: &Path, disk: &Disk) -> Vec<Setting> {
    let why = format!("IO of {id} on {}", io.path.display());
    if let Some(weight) = io.weight {
        let capability = disk.capability.as_ref();
        let Some(cost) = capability.and_then(policy::io::Capability::cost) else {
            return Vec::new();
        };
        let mut settings = Vec::new();
        for device in disk.weights.iter().copied() {
            let cgroup = cgroup.to_owned();
            let weight = Value::Number(u64::from(weight));
            settings.push((
                Knob::WritebackLatency { device },
                Value::Number(0),
                why.clone(),
            ));
            settings.push((Knob::IoCost { device }, cost.clone(), why.clone()));
            settings.push((Knob::IoWeight { cgroup, device }, weight, why.clone()));
        }
        return settings;
    }
    let Some((read, write)) = policy::io::limits(io, disk.capability.as_ref()) else {
        return Vec::new();
    };
    let at = |limit: Option<u64>| limit.map_or(Limit::Max, Limit::At);
    let limits = IoMax {
        rbps: at(read),
        wbps: at(write),
        riops: Limit::Max,
        wiops: Limit::Max,
    };
    let knob = Knob::IoMax {
        cgroup: cgroup.to_owned(),
        device: disk.limits,
    };
    vec![(knob, Value::Io(limits), why)]
}

fn quotas(record: &Record, seen: &Seen) -> Vec<Setting> {
    let mut settings = Vec::new();
    for disk in &record.spec.disk {
        let Some(project) = record.projects.get(&disk.path) else {
            continue;
        };
        let Some(bytes) = seen.directories.get(&disk.path) else {
            continue;
        };
        let why = format!("quota of {} for {}", disk.path.display(), record.spec.id);
        let limits = Value::Quota {
            bytes: *bytes,
            inodes: disk.limit_inodes.map_or(Limit::Max, Limit::At),
        };
        let quota = Knob::Quota {
            dir: project.mount.clone(),
            project: project.project,
        };
        settings.push((quota, limits, why.clone()));
        let tag = Knob::Project {
            dir: disk.path.clone(),
        };
        settings.push((tag, Value::Project(project.project), why));
    }
    settings
}

/// The exclusive CPUs of each active workload's cgroup.
fn exclusive_targets<'a>(records: impl Iterator<Item = &'a Record>) -> BTreeMap<PathBuf, CpuSet> {
    let each = records.filter_map(|record| {
        let cgroup = active_cgroup(record)?.to_owned();
        Some((cgroup, exclusive_cpus(record)?.clone()))
    });
    each.collect()
}

/// The same with each cgroup above them: the kernel hands exclusive CPUs down.
fn exclusive_chains<'a>(records: impl Iterator<Item = &'a Record>) -> BTreeMap<PathBuf, CpuSet> {
    let mut chains: BTreeMap<PathBuf, CpuSet> = BTreeMap::new();
    for (cgroup, cpus) in exclusive_targets(records) {
        for path in cgroup.ancestors().filter(|path| path.parent().is_some()) {
            let all = chains.entry(path.to_owned()).or_default();
            *all = all.union(&cpus);
        }
    }
    chains
}

/// The workloads with exclusive CPUs in a cgroup.
fn owners<'a>(cgroup: &Path, records: impl Iterator<Item = &'a Record>) -> Vec<&'a WorkloadId> {
    let inside = records.filter(|record| {
        let path = active_cgroup(record).filter(|_| exclusive_cpus(record).is_some());
        path.is_some_and(|path| path.starts_with(cgroup))
    });
    inside.map(|record| &record.spec.id).collect()
}

/// Foreign cgroups beside those with exclusive CPUs are narrowed by these; nothing is
/// said of one that does not overlap and was never touched.
fn siblings(exclusive: &BTreeMap<PathBuf, CpuSet>, seen: &Seen) -> Vec<Setting> {
    let mut settings = Vec::new();
    for sibling in &seen.siblings {
        let knob = Knob::Cpus {
            cgroup: sibling.cgroup.clone(),
        };
        let before = seen.before.get(&knob);
        let taken = taken_beside(&sibling.cgroup, exclusive);
        let Some(cpus) = narrowed(sibling, before, &taken, seen) else {
            continue;
        };
        let why = format!("CPUs {taken} beside it are exclusive");
        settings.push((knob, Value::Set(cpus), why));
    }
    settings
}

/// The exclusive CPUs of the cgroups with the same parent.
fn taken_beside(cgroup: &Path, exclusive: &BTreeMap<PathBuf, CpuSet>) -> CpuSet {
    let beside = exclusive
        .iter()
        .filter(|(path, _)| path.parent() == cgroup.parent() && *path != cgroup);
    beside.fold(CpuSet::new(), |all, (_, cpus)| all.union(cpus))
}

/// What a sibling's `cpuset.cpus` should be: the value it wished itself (the one before
/// we first narrowed it, or a later one of somebody else's that overlaps again) without
/// what is taken; the shared pool if that leaves nothing.
fn narrowed(
    sibling: &Sibling,
    before: Option<&Value>,
    taken: &CpuSet,
    seen: &Seen,
) -> Option<CpuSet> {
    let in_the_way = |cpus: &CpuSet| {
        let overlaps = !cpus.intersection(taken).is_empty();
        overlaps && (sibling.beside_target || cpus.is_subset(taken))
    };
    let before = match before {
        // No restriction is all CPUs.
        Some(Value::Set(before)) if before.is_empty() => Some(&seen.all),
        Some(Value::Set(before)) => Some(before),
        _ => None,
    };
    let wish = match before {
        _ if in_the_way(&sibling.cpus) => &sibling.cpus,
        Some(before) if in_the_way(before) => before,
        _ => return None,
    };
    let left = wish.difference(taken);
    Some(if left.is_empty() {
        seen.pool.clone()
    } else {
        left
    })
}
