//! Knobs of disk quota: the project of a directory tree, the limits of a project.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use berth_kernel::error::AbsentIsFine;
use berth_kernel::quota::{self, ProjectId};
use berth_kernel::{Error, Limit, Result};

use crate::engine::knob::Value;

/// The unit of `st_blocks` (stat(2)).
const BLOCK: u64 = 512;

/// The project of a directory; `None` if it is gone.
///
/// # Errors
/// What the kernel refused.
pub(super) fn read_project(dir: &Path) -> Result<Option<Value>> {
    let tag = quota::project_of(dir).absent_is_fine()?;
    Ok(tag.map(|tag| Value::Project(tag.id.0)))
}

/// Bytes on disk and number of files and directories of a tree, as a quota counts them: a
/// file with several names once, other filesystems not at all.
///
/// # Errors
/// When a directory cannot be read; what goes meanwhile is left out.
pub(crate) fn usage(dir: &Path) -> Result<(u64, u64)> {
    let examine = |path: &Path| {
        std::fs::symlink_metadata(path)
            .map_err(|error| Error::io("examine", path.display(), &error))
            .absent_is_fine()
    };
    let Some(top) = examine(dir)? else {
        return Ok((0, 0));
    };
    let mut seen = HashSet::new();
    let (mut bytes, mut inodes) = (0_u64, 0_u64);
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        let Some(meta) = examine(&path)? else {
            continue;
        };
        if meta.dev() != top.dev() || !seen.insert(meta.ino()) {
            continue;
        }
        bytes = bytes.saturating_add(meta.blocks().saturating_mul(BLOCK));
        inodes += 1;
        if meta.is_dir() {
            let list = std::fs::read_dir(&path)
                .map_err(|error| Error::io("list", path.display(), &error))?;
            left.extend(list.flatten().map(|entry| entry.path()));
        }
    }
    Ok((bytes, inodes))
}

/// Gives the directory and all in it the project, or takes the one it has off.
///
/// # Errors
/// What the kernel refused; the tree is tagged in part then, and doing it again ends it.
pub(super) fn write_project(dir: &Path, from: &Value, to: &Value) -> Result<()> {
    match (from, to) {
        (Value::Project(old), Value::Project(0)) => {
            quota::untag_tree(dir, ProjectId(*old)).map(drop)
        }
        (_, Value::Project(id)) => quota::tag_tree(dir, ProjectId(*id)).map(drop),
        _ => Err(Error::malformed("tag", dir.display(), "that is no project")),
    }
}

/// The limits of a project on the filesystem that is mounted at `mount`; `None` if that
/// is gone.
///
/// # Errors
/// What the kernel refused.
pub(super) fn read_limits(mount: &Path, project: u32) -> Result<Option<Value>> {
    if !mount.exists() {
        return Ok(None);
    }
    let limits = quota::limits(mount, ProjectId(project))?;
    let set = limits.filter(|quota| (quota.bytes, quota.inodes) != (Limit::Max, Limit::Max));
    Ok(Some(set.map_or(Value::Unset, |quota| Value::Quota {
        bytes: quota.bytes,
        inodes: quota.inodes,
    })))
}

/// Sets the limits of a project.
///
/// # Errors
/// What the kernel refused.
pub(super) fn write_limits(mount: &Path, project: u32, to: &Value) -> Result<()> {
    let (bytes, inodes) = match to {
        Value::Quota { bytes, inodes } => (*bytes, *inodes),
        Value::Unset => (Limit::Max, Limit::Max),
        _ => {
            return Err(Error::malformed(
                "limit",
                mount.display(),
                "that is no quota",
            ));
        }
    };
    quota::set_limits(mount, ProjectId(project), bytes, inodes)
}
