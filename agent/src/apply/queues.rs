//! Which CPUs share the queues of an interface in a container.

use std::sync::Arc;

use berth_kernel::error::AbsentIsFine;
use berth_kernel::{CpuSet, NetSysfs, Result, Root};

use super::{Reach, Written};
use crate::engine::knob::Knob;

/// The CPUs; `None` where the namespace, the interface or the queue is gone, or there is
/// nothing to choose.
pub(super) fn read(root: &Root, knob: &Knob, reach: &mut Reach) -> Result<Option<CpuSet>> {
    let Some(devices) = devices(root, knob, reach)? else {
        return Ok(None);
    };
    match knob {
        Knob::Rps {
            interface, queue, ..
        } => devices.rps_cpus(interface, *queue).absent_is_fine(),
        Knob::Xps {
            interface, queue, ..
        } => devices.xps_cpus(interface, *queue).absent_is_fine(),
        _ => Ok(None),
    }
}

/// Sets [`read`].
pub(super) fn write(root: &Root, knob: &Knob, cpus: &CpuSet, reach: &mut Reach) -> Result<Written> {
    let gone = || Written::Left(format!("{knob}: it is gone"));
    let Some(devices) = devices(root, knob, reach)? else {
        return Ok(gone());
    };
    let done = match knob {
        Knob::Rps {
            interface, queue, ..
        } => devices.set_rps_cpus(interface, *queue, cpus),
        Knob::Xps {
            interface, queue, ..
        } => devices.set_xps_cpus(interface, *queue, cpus),
        _ => return Ok(gone()),
    };
    Ok(done.absent_is_fine()?.map_or_else(gone, |()| Written::Done))
}

fn devices(root: &Root, knob: &Knob, reach: &mut Reach) -> Result<Option<Arc<NetSysfs>>> {
    match knob {
        Knob::Rps { netns, .. } | Knob::Xps { netns, .. } => reach.namespaces.devices(root, *netns),
        _ => Ok(None),
    }
}
