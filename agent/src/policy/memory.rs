//! From a wished amount of memory to the kernel's two limits.

use berth_kernel::Limit;
use berth_kernel::cgroup::memory::settled;

/// The distance between `memory.high` and `memory.max` is this part of the maximum.
/// With 48 of 64 MiB and 40 of 48 MiB a throttled buffered writer was never killed,
/// without `memory.high` it was.
const PART: u64 = 6;
/// And at most this much: what a writer can make dirty between two counts of the
/// kernel (every 2 s) does not grow with the limit.
const MOST: u64 = 256 << 20;

/// `memory.max` and `memory.high`, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Above it the kernel kills.
    pub(crate) max: Limit,
    /// Above it the kernel slows down and reclaims.
    pub(crate) high: Limit,
}

/// The limits for a workload that wishes `max_bytes`. `shares`: it has IO shares by
/// weight, whose ratio a tight `memory.high` spoils; then there is none.
pub(crate) fn limits(max_bytes: u64, shares: bool) -> Limits {
    let high = if shares {
        Limit::Max
    } else {
        Limit::At(max_bytes - (max_bytes / PART).min(MOST))
    };
    Limits {
        max: settled(Limit::At(max_bytes)),
        high: settled(high),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn high_lies_a_sixth_and_at_most_256_mib_below() {
        for (max, high) in [
            (64 << 20, 55_922_688),
            (1536 << 20, 1280 << 20),
            (8 << 30, (8 << 30) - (256 << 20)),
        ] {
            let limits = limits(max, false);
            assert_eq!(limits.max, Limit::At(max), "{max}");
            assert_eq!(limits.high, Limit::At(high), "{max}");
        }
    }

    #[test]
    fn weights_leave_no_high() {
        assert_eq!(limits(512 << 20, true).high, Limit::Max);
    }

    #[test]
    fn limits_are_what_the_kernel_reads_back() {
        let limits = limits(100_000_001, false);
        assert_eq!(limits.max, Limit::At(99_999_744));
        assert_eq!(limits.high, Limit::At(83_333_120));
    }
}
