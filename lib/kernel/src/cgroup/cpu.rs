//! The cpu controller: weights and quotas of CPU time, and what was used.

use nix::errno::Errno;

use super::{Cgroup, Limit};
use crate::error::{Error, Result};

#[cfg(test)]
mod tests;

/// CPU time in microseconds and how often the quota was met; what is not counted is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    /// Used in all.
    pub usage_usec: u64,
    /// In programs.
    pub user_usec: u64,
    /// In the kernel.
    pub system_usec: u64,
    /// Periods of the quota that had work.
    pub nr_periods: u64,
    /// Periods in which the quota was used up.
    pub nr_throttled: u64,
    /// Time that processes waited for the next period, summed over the CPUs.
    pub throttled_usec: u64,
}

const WEIGHT: &str = "cpu.weight";

/// `cpu.weight`: 1 to 10000, 100 unless set. While `cpu.idle` is on it is
/// not the one that was set: 0 or 1, by kernel.
///
/// # Errors
/// When the cgroup is gone or has no cpu controller.
pub fn weight(group: &Cgroup) -> Result<u16> {
    group.value(WEIGHT)
}

/// Sets `cpu.weight`, 1 to 10000.
///
/// # Errors
/// As [`weight`], for a weight out of range, or while `cpu.idle` is on.
pub fn set_weight(group: &Cgroup, weight: u16) -> Result<()> {
    let wish = weight.to_string();
    super::weight_in_range(group, WEIGHT, weight)?;
    let meaning = (
        Errno::EINVAL,
        "cpu.idle of this cgroup is 1, which leaves it no weight: write 0 there first",
    );
    group.write(WEIGHT, &wish, &[meaning])?;
    let live = self::weight(group)?;
    if live == weight {
        Ok(())
    } else {
        Err(group.not_so(WEIGHT, &wish, &format!("it reads {live}")))
    }
}

/// `cpu.max`: so many microseconds of CPU time in each period of so many microseconds.
///
/// # Errors
/// As [`weight`].
pub fn max(group: &Cgroup) -> Result<(Limit, u64)> {
    const FILE: &str = "cpu.max";
    let text = group.read(FILE)?;
    let (quota, period) = text.split_once(' ').ok_or_else(|| {
        let object = format!("{FILE} of cgroup {}", group.path().display());
        Error::malformed(
            "read",
            object,
            format!("{text:?} is not a quota and a period"),
        )
    })?;
    Ok((
        group.understood(FILE, quota)?,
        group.understood(FILE, period)?,
    ))
}

/// `cpu.stat`.
///
/// # Errors
/// When the cgroup is gone.
pub fn stat(group: &Cgroup) -> Result<Stat> {
    let stat = group.keyed("cpu.stat")?;
    Ok(Stat {
        usage_usec: stat.get("usage_usec"),
        user_usec: stat.get("user_usec"),
        system_usec: stat.get("system_usec"),
        nr_periods: stat.get("nr_periods"),
        nr_throttled: stat.get("nr_throttled"),
        throttled_usec: stat.get("throttled_usec"),
    })
}
