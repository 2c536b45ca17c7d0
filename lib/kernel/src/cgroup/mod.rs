//! Control groups: which hierarchy the node has and what it offers
//! (Documentation/admin-guide/cgroup-v2.rst).

pub mod cpu;
pub mod cpuset;
mod files;
pub mod io;
pub mod iocost;
pub mod memory;
pub mod pids;
mod tree;

pub use tree::{Cgroup, Controller};

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::Invalid;

use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::{Root, file};

/// A limit of a controller: `max` or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Limit {
    /// So much; the unit is the file's.
    At(u64),
    /// None.
    Max,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(value) => value.fmt(f),
            Self::Max => f.write_str("max"),
        }
    }
}

impl FromStr for Limit {
    type Err = Invalid;

    fn from_str(text: &str) -> std::result::Result<Self, Invalid> {
        match text.trim() {
            "max" => Ok(Self::Max),
            number => number
                .parse()
                .map(Self::At)
                .map_err(|_not_a_number| Invalid(format!("{text:?} is neither a number nor max"))),
        }
    }
}

impl TryFrom<String> for Limit {
    type Error = Invalid;

    fn try_from(text: String) -> std::result::Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Limit> for String {
    fn from(limit: Limit) -> Self {
        limit.to_string()
    }
}

/// How the node's control groups are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One cgroup v2 hierarchy with all controllers.
    V2,
    /// v1 controllers, and a v2 hierarchy beside them for systemd.
    Hybrid,
    /// v1 controllers only.
    V1,
    /// Nothing is mounted.
    Absent,
}

/// The version by what is mounted at `root.cgroup`: only a v2 hierarchy has
/// `cgroup.controllers`.
pub fn version(root: &Root) -> Version {
    let has = |name: &str| root.cgroup.join(name).exists();
    let directories = || file::names(&root.cgroup).unwrap_or_default();
    if has("cgroup.controllers") {
        Version::V2
    } else if has("unified/cgroup.controllers") {
        Version::Hybrid
    } else if directories()
        .iter()
        .any(|name| has(&format!("{name}/cgroup.procs")))
    {
        Version::V1
    } else {
        Version::Absent
    }
}

/// The controllers that `cgroup` may use: `cgroup.controllers`.
///
/// # Errors
/// Without cgroup v2, or when the cgroup does not exist.
pub fn controllers(root: &Root, cgroup: &Path) -> Result<Vec<String>> {
    let text = file::read(&directory(root, cgroup)?.join("cgroup.controllers"))?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// The directory of a cgroup given as the kernel and the runtimes do
/// (`/machine.slice/game.scope`), or as a path below the mount point.
fn directory(root: &Root, cgroup: &Path) -> Result<PathBuf> {
    require_v2(root, cgroup)?;
    let relative = cgroup.strip_prefix(&root.cgroup).unwrap_or(cgroup);
    let relative = relative.strip_prefix("/").unwrap_or(relative);
    let plain = |part| matches!(part, Component::Normal(_));
    if !relative.components().all(plain) {
        let reason = "a cgroup path has no . or .. in it";
        return Err(Error::malformed("use cgroup", cgroup.display(), reason));
    }
    Ok(root.cgroup.join(relative))
}

fn require_v2(root: &Root, cgroup: &Path) -> Result<()> {
    let has = match version(root) {
        Version::V2 => return Ok(()),
        Version::Hybrid | Version::V1 => "the node mounts the controllers as cgroup v1",
        Version::Absent => "the node mounts no cgroup hierarchy",
    };
    let reason = format!(
        "{has} and cgroup v2 is needed at {}; boot with systemd.unified_cgroup_hierarchy=1",
        root.cgroup.display()
    );
    let error = Error::errno("use cgroup", cgroup.display(), Errno::EOPNOTSUPP);
    Err(error.because(Some(reason)))
}

/// Refuses a weight that the kernel would (ERANGE or EINVAL, without a word).
fn weight_in_range(group: &Cgroup, name: &str, weight: u16) -> Result<()> {
    if (1..=10_000).contains(&weight) {
        return Ok(());
    }
    let reason = "a weight is 1 to 10000, and 100 unless set".to_owned();
    Err(group.refused(name, &weight.to_string(), Errno::ERANGE, reason))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::error::Kind;

    /// A fake hierarchy with the cgroup `game`, which has these controllers.
    pub(crate) fn group(controllers: &str) -> (tempfile::TempDir, Root, Cgroup) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        put(&root, "cgroup.controllers", "cpuset cpu io memory pids\n");
        put(&root, "game/cgroup.controllers", controllers);
        let game = Cgroup::open(&root, Path::new("/game")).unwrap();
        (dir, root, game)
    }

    /// Writes a file of a fake hierarchy.
    pub(crate) fn put(root: &Root, name: &str, text: &str) {
        let path = root.cgroup.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn each_layout_is_recognised() {
        for (files, expected) in [
            (&["cgroup.controllers"][..], Version::V2),
            (
                &["cpu/cgroup.procs", "unified/cgroup.controllers"],
                Version::Hybrid,
            ),
            (&["cpu/cgroup.procs"], Version::V1),
            (&[], Version::Absent),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let root = Root::under(dir.path());
            for name in files {
                put(&root, name, "");
            }
            assert_eq!(version(&root), expected, "{files:?}");
        }
    }

    #[test]
    fn version_1_is_refused_with_reason_and_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        put(&root, "cpuset/cgroup.procs", "");
        let error = controllers(&root, Path::new("/game")).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        let text = error.to_string();
        assert!(text.contains("as cgroup v1"), "{text}");
        assert!(
            text.contains("systemd.unified_cgroup_hierarchy=1"),
            "{text}"
        );
    }

    #[test]
    fn controllers_of_a_cgroup_by_either_path() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        put(&root, "cgroup.controllers", "cpuset cpu io\n");
        put(&root, "game/cgroup.controllers", "cpu\n");
        let of = |path: &Path| controllers(&root, path);
        assert_eq!(
            of(Path::new("/")),
            Ok(vec!["cpuset".into(), "cpu".into(), "io".into()])
        );
        assert_eq!(of(Path::new("/game")), Ok(vec!["cpu".into()]));
        assert_eq!(of(Path::new("game")), Ok(vec!["cpu".into()]));
        assert_eq!(of(&root.cgroup.join("game")), Ok(vec!["cpu".into()]));
        assert_eq!(of(Path::new("/none")).unwrap_err().kind(), Kind::NotFound);
        assert_eq!(
            of(Path::new("/game/../..")).unwrap_err().kind(),
            Kind::Malformed
        );
    }
}
