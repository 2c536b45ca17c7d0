//! The pids controller: how many processes and threads there are and may be.

use super::{Cgroup, Limit};
use crate::error::Result;

/// `pids.current`: threads in the cgroup and below.
///
/// # Errors
/// When the cgroup is gone or has no pids controller.
pub fn current(group: &Cgroup) -> Result<u64> {
    group.value("pids.current")
}

/// `pids.max`: how many threads there may be.
///
/// # Errors
/// As [`current`].
pub fn max(group: &Cgroup) -> Result<Limit> {
    group.value("pids.max")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{group, put};
    use super::*;

    /// Linux 6.12: `cat pids.current pids.max` of a new cgroup.
    #[test]
    fn counts_and_limits_are_read() {
        let (_dir, root, game) = group("pids");
        put(&root, "game/pids.current", "7\n");
        put(&root, "game/pids.max", "max\n");
        assert_eq!(current(&game), Ok(7));
        assert_eq!(max(&game), Ok(Limit::Max));
        put(&root, "game/pids.max", "512\n");
        assert_eq!(max(&game), Ok(Limit::At(512)));
    }
}
