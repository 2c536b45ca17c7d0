//! Reading and writing what the agent sets on the node, one thing at a time; every
//! write is read back.

use std::collections::BTreeMap;

use berth_kernel::block::Device;
use berth_kernel::error::AbsentIsFine;
use berth_kernel::{CpuSet, DeviceNumber, Error, PciAddr, Result, Root};
use berth_state::Key;

use crate::engine::knob::{Knob, Value};
use crate::engine::plan::Step;
use crate::observe::irqs::Fixed;

mod cgroup;
mod irq;
pub(crate) mod irqbalance;
mod namespaces;
mod queues;
mod quota;
mod room;
mod shrink;

pub(crate) use namespaces::Namespaces;
pub(crate) use quota::usage;
pub(crate) use room::check as room;

/// How the things are reached, and what was learnt of them. Lives as long as the
/// engine; each pass over the node renews what may have changed.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// The containers' network namespaces.
    pub(crate) namespaces: Namespaces,
    /// The interrupts that turned out not to be movable.
    pub(crate) fixed: Fixed,
    /// The attachments whose VFs raise an interrupt, by its number.
    owners: BTreeMap<u32, (PciAddr, Key)>,
}

impl Reach {
    /// Begins a pass: `owners` are the interrupts of attachments' VFs as they are now.
    pub(crate) fn renew(&mut self, owners: BTreeMap<u32, (PciAddr, Key)>) {
        self.namespaces.forget();
        self.owners = owners;
    }
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is as wished, and was read back.
    Done,
    /// It cannot be so now; what to say of it. Nothing is to be undone for that.
    Left(String),
    /// Interrupts of this number never move, for this reason. There may be many.
    Stays(u32, String),
}

/// What is set now; `None` where there is no such thing (any more).
///
/// # Errors
/// What the kernel refused.
pub(crate) fn read(root: &Root, knob: &Knob, reach: &mut Reach) -> Result<Option<Value>> {
    if let Some(path) = knob.cgroup() {
        return cgroup::read(root, path, knob);
    }
    let cpus = match knob {
        Knob::Irq { irq } => irq::read(root, *irq)?,
        Knob::DefaultIrq => irq::read_default(root)?,
        Knob::Rps { .. } | Knob::Xps { .. } => queues::read(root, knob, reach)?,
        Knob::IoCost { device } => return cgroup::read_cost(root, *device),
        Knob::WritebackLatency { device } => return read_latency(root, *device),
        Knob::Project { dir } => return quota::read_project(dir),
        Knob::Quota { dir, project } => return quota::read_limits(dir, *project),
        other => return Err(not_here("read", other)),
    };
    Ok(cpus.map(Value::Set))
}

fn read_latency(root: &Root, device: DeviceNumber) -> Result<Option<Value>> {
    let Some(device) = Device::open(root, device).absent_is_fine()? else {
        return Ok(None);
    };
    Ok(Some(Value::Number(device.writeback_latency()?)))
}

fn write_latency(root: &Root, device: DeviceNumber, to: &Value) -> Result<()> {
    let Value::Number(usec) = to else {
        return Err(not_here("set", &Knob::WritebackLatency { device }));
    };
    Device::open(root, device)?.set_writeback_latency(*usec)
}

/// Sets it and reads it back. Nothing is written where it is so already.
///
/// # Errors
/// What the kernel refused, or keeps otherwise.
pub(crate) fn write(root: &Root, step: &Step, reach: &mut Reach) -> Result<Written> {
    let (knob, value) = (&step.knob, &step.to);
    let done = |()| Written::Done;
    if let Some(path) = knob.cgroup() {
        return cgroup::write(root, path, step).map(done);
    }
    match knob {
        Knob::IoCost { device } => cgroup::write_cost(root, *device, value).map(done),
        Knob::WritebackLatency { device } => write_latency(root, *device, value).map(done),
        Knob::Project { dir } => quota::write_project(dir, &step.from, value).map(done),
        Knob::Quota { dir, project } => quota::write_limits(dir, *project, value).map(done),
        Knob::Irq { irq } => irq::write(root, *irq, cpus_of(knob, value)?, reach),
        Knob::DefaultIrq => irq::write_default(root, cpus_of(knob, value)?),
        Knob::Rps { .. } | Knob::Xps { .. } => {
            queues::write(root, knob, cpus_of(knob, value)?, reach)
        }
        other => Err(not_here("set", other)),
    }
}

fn cpus_of<'v>(knob: &Knob, value: &'v Value) -> Result<&'v CpuSet> {
    match value {
        Value::Set(cpus) => Ok(cpus),
        other => {
            let reason = format!("it takes a set of CPUs, not {other}");
            Err(Error::malformed("set", knob, reason))
        }
    }
}

fn not_here(op: &str, knob: &Knob) -> Error {
    Error::malformed(op, knob, "the agent sets no such thing")
}

#[cfg(test)]
mod tests;
