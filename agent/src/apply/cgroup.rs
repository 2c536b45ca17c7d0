//! Knobs that are files of a cgroup.

use std::path::Path;

use berth_kernel::cgroup::cpuset::{self, PartitionKind};
use berth_kernel::cgroup::{Cgroup, cpu, io, iocost, memory};
use berth_kernel::error::AbsentIsFine;
use berth_kernel::{CpuSet, DeviceNumber, Error, Kind, Result, Root};
use nix::errno::Errno;

use super::shrink;
use crate::engine::knob::{Knob, Partition, Value};
use crate::engine::plan::Step;
use crate::engine::wanted::unrestricted;
use crate::spec::PartitionWish;

/// What a cgroup's knob is set to; `None` if the cgroup or its file is not there.
///
/// # Errors
/// What the kernel refused.
pub(super) fn read(root: &Root, path: &Path, knob: &Knob) -> Result<Option<Value>> {
    let Some(cgroup) = Cgroup::open(root, path).absent_is_fine()? else {
        return Ok(None);
    };
    let value = match knob {
        Knob::Cpus { .. } => read_cpus(root, &cgroup).map(Value::Set),
        Knob::ExclusiveCpus { .. } => cpuset::exclusive(&cgroup).map(Value::Set),
        Knob::Mems { .. } => read_mems(root, &cgroup).map(Value::Set),
        Knob::Partition { .. } => cpuset::partition(&cgroup).map(|p| Value::Partition(told(p))),
        Knob::CpuWeight { .. } => cpu::weight(&cgroup).map(|w| Value::Number(u64::from(w))),
        Knob::MemoryHigh { .. } => memory::high(&cgroup).map(Value::Limit),
        Knob::MemoryMax { .. } => memory::max(&cgroup).map(Value::Limit),
        Knob::IoMax { device, .. } => io::max(&cgroup, *device).map(Value::Io),
        Knob::IoWeight { device, .. } => io::weight(&cgroup, *device)
            .map(|weight| weight.map_or(Value::Unset, |w| Value::Number(u64::from(w)))),
        other => return Err(not_mine(other)),
    };
    match value.absent_is_fine() {
        // Without its controller a cgroup is not restricted; it is enabled before a step.
        Err(error) if error.kind() == Kind::Unsupported => Ok(knob.untouched()),
        other => other,
    }
}

/// Takes a step on a cgroup's knob.
///
/// # Errors
/// What the kernel refused, or that it keeps something else.
pub(super) fn write(root: &Root, path: &Path, step: &Step) -> Result<()> {
    let cgroup = Cgroup::open(root, path)?;
    match (&step.knob, &step.to) {
        (Knob::Cpus { .. }, Value::Set(cpus)) => set_cpus(root, &cgroup, cpus),
        (Knob::ExclusiveCpus { .. }, Value::Set(cpus)) => cpuset::set_exclusive(&cgroup, cpus),
        (Knob::Mems { .. }, Value::Set(nodes)) => set_mems(root, &cgroup, nodes),
        (Knob::Partition { .. }, Value::Partition(to)) => set_partition(&cgroup, &step.from, to),
        (Knob::CpuWeight { .. }, Value::Number(weight)) => {
            cpu::set_weight(&cgroup, small(step, *weight)?)
        }
        (Knob::MemoryHigh { .. }, Value::Limit(limit)) => memory::set_high(&cgroup, *limit),
        (Knob::MemoryMax { .. }, Value::Limit(limit)) => shrink::set_max(&cgroup, *limit),
        (Knob::IoMax { device, .. }, Value::Io(limits)) => io::set_max(&cgroup, *device, limits),
        (Knob::IoWeight { device, .. }, Value::Number(weight)) => {
            io::set_weight(&cgroup, *device, Some(small(step, *weight)?))
        }
        (Knob::IoWeight { device, .. }, Value::Unset) => io::set_weight(&cgroup, *device, None),
        (other, _) => Err(not_mine(other)),
    }
}

/// `iocost` of a device: both lines; off where the kernel has none or says so.
///
/// # Errors
/// What the kernel refused.
pub(super) fn read_cost(root: &Root, device: DeviceNumber) -> Result<Option<Value>> {
    let (model, qos) = iocost::active(root, device)?.unwrap_or_default();
    Ok(Some(Value::IoCost { model, qos }))
}

/// Sets both lines, the model first: it counts from when the quality is enabled.
///
/// # Errors
/// What the kernel refused.
pub(super) fn write_cost(root: &Root, device: DeviceNumber, to: &Value) -> Result<()> {
    match to {
        Value::IoCost { model, .. } if model.is_empty() => iocost::turn_off(root, device),
        Value::IoCost { model, qos } => iocost::set(root, device, model, qos),
        _ => Err(not_mine(&Knob::IoCost { device })),
    }
}

/// All CPUs are no restriction, and read as none.
fn read_cpus(root: &Root, cgroup: &Cgroup) -> Result<CpuSet> {
    Ok(unrestricted(
        &cpuset::cpus(cgroup)?,
        &berth_kernel::cpu::online(root)?,
    ))
}

/// No restriction is no CPUs, or all of them where the kernel lets nobody take the last
/// ones from a cgroup with tasks (ENOSPC).
fn set_cpus(root: &Root, cgroup: &Cgroup, cpus: &CpuSet) -> Result<()> {
    match cpuset::set_cpus(cgroup, cpus) {
        Err(error) if error.errno == Some(Errno::ENOSPC) && cpus.is_empty() => {
            cpuset::set_cpus(cgroup, &berth_kernel::cpu::possible(root)?)
        }
        other => other,
    }
}

/// As [`read_cpus`], of nodes.
fn read_mems(root: &Root, cgroup: &Cgroup) -> Result<CpuSet> {
    let nodes = berth_kernel::cpu::nodes(root)?.into_iter().collect();
    Ok(unrestricted(&cpuset::mems(cgroup)?, &nodes))
}

/// As [`set_cpus`], of nodes.
fn set_mems(root: &Root, cgroup: &Cgroup, nodes: &CpuSet) -> Result<()> {
    match cpuset::set_mems(cgroup, nodes) {
        Err(error) if error.errno == Some(Errno::ENOSPC) && nodes.is_empty() => {
            let all = berth_kernel::cpu::nodes(root)?.into_iter().collect();
            cpuset::set_mems(cgroup, &all)
        }
        other => other,
    }
}

/// A partition the kernel has suspended only comes back by way of `member`, and so does
/// one of another kind.
fn set_partition(cgroup: &Cgroup, from: &Value, to: &Partition) -> Result<()> {
    let Partition::Of(kind) = to else {
        return cpuset::set_partition(cgroup, PartitionKind::Member);
    };
    if *from != Value::Partition(Partition::Member) {
        cpuset::set_partition(cgroup, PartitionKind::Member)?;
    }
    cpuset::set_partition(
        cgroup,
        match kind {
            PartitionWish::Root => PartitionKind::Root,
            PartitionWish::Isolated => PartitionKind::Isolated,
        },
    )
}

fn told(partition: cpuset::Partition) -> Partition {
    let kind = match partition.kind {
        PartitionKind::Member => return Partition::Member,
        PartitionKind::Root => PartitionWish::Root,
        PartitionKind::Isolated => PartitionWish::Isolated,
    };
    match partition.invalid {
        None => Partition::Of(kind),
        Some(why) => Partition::Invalid(kind, why),
    }
}

fn small(step: &Step, number: u64) -> Result<u16> {
    u16::try_from(number).map_err(|_too_large| {
        Error::malformed("set", &step.knob, format!("{number} is above 65535"))
    })
}

fn not_mine(knob: &Knob) -> Error {
    Error::malformed("set", knob, "the setting is not one of this thing")
}
