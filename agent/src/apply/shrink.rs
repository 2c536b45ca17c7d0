//! Lowering `memory.max` without a kill: the memory is freed first, the limit follows.

use std::time::{Duration, Instant};

use berth_kernel::cgroup::{Cgroup, memory};
use berth_kernel::error::AbsentIsFine;
use berth_kernel::pressure::{self, Resource};
use berth_kernel::{Error, Kind, Limit, Result};

/// Freed at a time: small enough to see the pressure it makes.
const STEP: u64 = 16 << 20;
/// All of it may take so long; what a slow disk has not taken by then stays.
const PATIENCE: Duration = Duration::from_secs(30);
/// Tasks that all waited for memory for more than this part of the last 10 s: the
/// workload suffers, so it is left alone.
const PRESSURE_PERCENT: f64 = 40.0;
/// After a step that freed nothing.
const REST: Duration = Duration::from_millis(100);

/// Sets `memory.max`. Before it is lowered, usage is brought below it with
/// `memory.reclaim`; where that does not succeed, the limit stays.
///
/// # Errors
/// What the kernel refused; or how much is still in use, and why it could not be freed.
pub(super) fn set_max(cgroup: &Cgroup, limit: Limit) -> Result<()> {
    if let Limit::At(target) = limit
        && memory::max(cgroup)? > limit
    {
        free_down_to(cgroup, target)?;
    }
    memory::set_max(cgroup, limit)
}

/// `memory.high` is at or below `target` already, so that what is freed stays free.
fn free_down_to(cgroup: &Cgroup, target: u64) -> Result<()> {
    let start = Instant::now();
    loop {
        let used = memory::current(cgroup)?;
        if used <= target {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            let reason = format!("after {} s", PATIENCE.as_secs());
            return Err(in_use(cgroup, used, target, &reason));
        }
        if let Some(full) = full_pressure(cgroup)?.filter(|full| *full > PRESSURE_PERCENT) {
            let reason = format!("its tasks wait for memory {full:.0} % of the time");
            return Err(in_use(cgroup, used, target, &reason));
        }
        match memory::reclaim(cgroup, STEP.min(used - target)) {
            Ok(true) => {}
            Ok(false) => std::thread::sleep(REST),
            // Linux before 5.19; memory.high frees, too, when its tasks run.
            Err(error) if error.kind() == Kind::Unsupported => std::thread::sleep(REST),
            Err(error) => return Err(error),
        }
    }
}

/// `None` where the kernel does not measure pressure.
fn full_pressure(cgroup: &Cgroup) -> Result<Option<f64>> {
    let read = pressure::of_cgroup(cgroup, Resource::Memory);
    match read.absent_is_fine() {
        Ok(pressure) => Ok(pressure.and_then(|p| p.full).map(|full| full.avg10)),
        Err(error) if error.kind() == Kind::Unsupported => Ok(None),
        Err(error) => Err(error),
    }
}

fn in_use(cgroup: &Cgroup, used: u64, target: u64, why: &str) -> Error {
    let reason = format!("{used} bytes are still in use {why}; the limit stays as it was");
    let op = format!("lower memory.max to {target} of");
    Error::malformed(op, cgroup.path().display(), reason)
}
