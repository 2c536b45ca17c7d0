//! Whether what is in use would still fit under a lower limit.

use berth_kernel::cgroup::{Cgroup, memory};
use berth_kernel::error::AbsentIsFine;
use berth_kernel::quota::{self, ProjectId};
use berth_kernel::{Limit, Result, Root};

use crate::engine::knob::{Knob, Value};
use crate::engine::plan::Step;
use crate::refusal::Missing;

/// What cannot be freed may take this part of the limit: the rest is what the workload
/// needs to go on reading files at all.
const FULL_PERCENT: u64 = 95;

/// The inner error says what is in use and does not fit.
///
/// # Errors
/// When usage cannot be read.
pub(crate) fn check(root: &Root, step: &Step) -> Result<std::result::Result<(), Missing>> {
    match (&step.knob, &step.to) {
        (Knob::MemoryMax { cgroup }, Value::Limit(Limit::At(target))) => {
            let cgroup = Cgroup::open(root, cgroup)?;
            memory_fits(&cgroup, *target)
        }
        (Knob::Quota { dir, project }, Value::Quota { bytes, inodes }) => {
            let used = quota::limits(dir, ProjectId(*project))?;
            let used = used.map_or((0, 0), |quota| (quota.used_bytes, quota.used_inodes));
            Ok(quota_fits(used, (*bytes, *inodes)))
        }
        _ => Ok(Ok(())),
    }
}

fn memory_fits(cgroup: &Cgroup, target: u64) -> Result<std::result::Result<(), Missing>> {
    let stat = memory::stat(cgroup)?;
    let swap = swap_headroom(cgroup)?;
    let pinned = (stat.anon + stat.shmem).saturating_sub(swap) + stat.kernel_unreclaimable();
    let room = target / 100 * FULL_PERCENT;
    Ok(if pinned > room {
        Err(Missing {
            what: format!(
                "memory of {} that cannot be freed, bytes",
                cgroup.path().display()
            ),
            asked: pinned,
            available: room,
        })
    } else {
        Ok(())
    })
}

/// What of its anonymous memory could be swapped out: by its own limit and the node's
/// free swap.
fn swap_headroom(cgroup: &Cgroup) -> Result<u64> {
    let Some(limit) = memory::swap_max(cgroup).absent_is_fine()? else {
        return Ok(0);
    };
    let used = memory::swap_current(cgroup).absent_is_fine()?.unwrap_or(0);
    let free = berth_kernel::meminfo::swap_free(cgroup.root())?;
    Ok(match limit {
        Limit::At(limit) => limit.saturating_sub(used).min(free),
        Limit::Max => free,
    })
}

fn quota_fits(used: (u64, u64), limits: (Limit, Limit)) -> std::result::Result<(), Missing> {
    let over = |what: &str, used: u64, limit: Limit| match limit {
        Limit::At(limit) if used > limit => Err(Missing {
            what: what.to_owned(),
            asked: used,
            available: limit,
        }),
        _ => Ok(()),
    };
    over("bytes", used.0, limits.0)?;
    over("files and directories", used.1, limits.1)
}
