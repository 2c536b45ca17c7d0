//! The cpuset controller: which CPUs the tasks of a cgroup really run on.

use std::path::Path;

use nix::errno::Errno;

use super::directory;
use crate::cpu::CpuSet;
use crate::error::{AbsentIsFine, Error, Result};
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

#[cfg(test)]
mod tests {
    use super::super::tests::put;
    use super::*;
    use crate::error::Kind;

    fn set(list: &str) -> CpuSet {
        list.parse().unwrap()
    }

    #[test]
    fn the_nearest_ancestor_with_the_controller_decides() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        put(&root, "cgroup.controllers", "cpuset\n");
        put(&root, EFFECTIVE, "0-7\n");
        put(&root, "games/cpuset.cpus.effective", "2-5\n");
        put(&root, "games/cpuset.cpus", "\n");
        put(&root, "games/pod/one/cgroup.procs", "");
        let of = |path: &str| effective(&root, Path::new(path));
        assert_eq!(of("/games"), Ok(set("2-5")));
        assert_eq!(of("/games/pod/one"), Ok(set("2-5")));
        assert_eq!(of("/"), Ok(set("0-7")));
        assert_eq!(root_effective(&root), Ok(set("0-7")));
        let gone = of("/games/two").unwrap_err();
        assert_eq!(gone.kind(), Kind::NotFound);
        assert!(gone.to_string().contains("/games/two"), "{gone}");
    }

    #[test]
    fn a_kernel_without_the_controller_is_told_from_a_missing_cgroup() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        put(&root, "cgroup.controllers", "cpu\n");
        put(&root, "game/cgroup.procs", "");
        // Above the mount point nothing is looked at.
        std::fs::write(dir.path().join(EFFECTIVE), "0\n").unwrap();
        let error = effective(&root, Path::new("/game")).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(
            error.to_string().contains("no cpuset controller"),
            "{error}"
        );
    }

    #[test]
    fn a_garbled_file_is_an_error_and_not_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        put(&root, "cgroup.controllers", "cpuset\n");
        put(&root, EFFECTIVE, "0-7\n");
        put(&root, "game/cpuset.cpus.effective", "all\n");
        let error = effective(&root, Path::new("/game")).unwrap_err();
        assert_eq!(error.kind(), Kind::Malformed);
        assert!(
            error.to_string().contains("game/cpuset.cpus.effective"),
            "{error}"
        );
    }
}
