//! Where the kernel's file trees and Berth's own directories are: a value, so that
//! a fake tree can stand in for the host's.

use std::path::{Path, PathBuf};

/// The directories everything else is built on. The binaries always use
/// [`Root::host`]; there is no key, flag or variable to move them, because two
/// roots would hand out one VF twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// sysfs, `/sys`.
    pub sys: PathBuf,
    /// procfs, `/proc`.
    pub proc: PathBuf,
    /// The cgroup v2 hierarchy, `/sys/fs/cgroup`.
    pub cgroup: PathBuf,
    /// Volatile state, `/run`: records, claims, locks.
    pub run: PathBuf,
    /// Durable state, `/var`.
    pub var: PathBuf,
    /// Configuration, `/etc`.
    pub etc: PathBuf,
    /// Kernels and their configurations, `/boot`.
    pub boot: PathBuf,
    /// The modules of each installed kernel, `/lib/modules`.
    pub modules: PathBuf,
}

impl Root {
    /// The host's own trees.
    pub fn host() -> Self {
        Self::under(Path::new("/"))
    }

    /// The same layout below `dir`, for tests.
    pub fn under(dir: &Path) -> Self {
        Self {
            sys: dir.join("sys"),
            proc: dir.join("proc"),
            cgroup: dir.join("sys/fs/cgroup"),
            run: dir.join("run"),
            var: dir.join("var"),
            etc: dir.join("etc"),
            boot: dir.join("boot"),
            modules: dir.join("lib/modules"),
        }
    }
}
