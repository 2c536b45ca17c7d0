//! Project quota: quotactl_fd(2) and the project id of files (ioctl_xfs_fsgetxattr(2)).
//!
//! xfs and ext4 answer to the same calls. Over a limit xfs says ENOSPC, to root too;
//! ext4 says EDQUOT, and lets everybody with `CAP_SYS_RESOURCE` pass.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statfs::{self, fstatfs};
use serde::{Deserialize, Serialize};

use crate::cgroup::Limit;
use crate::error::{Error, Result};
use crate::mounts::ProjectQuota;

mod shell;
mod tree;
mod walk;
mod wire;

use shell::Command;
pub use tree::{AUDIT_LIMIT, Foreign, Tagged, audit, project_of, tag_tree, untag_tree};

/// The number of a project; 0 is that of everything that belongs to none.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ProjectId(pub u32);

impl ProjectId {
    /// What files have that belong to no project.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a file or directory says of its project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProjectTag {
    /// The project it counts to.
    pub id: ProjectId,
    /// Whether what is made in it gets the same project (directories only).
    pub inherit: bool,
}

/// A project's limits on one filesystem, and what it uses there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How many bytes it may use, in whole blocks of the filesystem.
    pub bytes: Limit,
    /// How many files, directories and others it may have.
    pub inodes: Limit,
    /// How many bytes it uses, also those promised to data not yet written.
    pub used_bytes: u64,
    /// How many files, directories and others it has.
    pub used_inodes: u64,
}

impl Quota {
    fn is_empty(&self) -> bool {
        (self.bytes, self.inodes) == (Limit::Max, Limit::Max)
            && (self.used_bytes, self.used_inodes) == (0, 0)
    }
}

/// Limits and usage of project `id` on the filesystem `path` is on; `None` if it has
/// neither. A last symbolic link in `path` is followed.
///
/// # Errors
/// On a filesystem without project quota ([`crate::error::Kind::Unsupported`], with the
/// remedy), and without `CAP_SYS_ADMIN`.
pub fn limits(path: &Path, id: ProjectId) -> Result<Option<Quota>> {
    let op = format!("read the quota of project {id} on");
    let fs = open(&op, path)?;
    let mut reply = [0; wire::QUOTA_BYTES];
    match shell::quotactl(&fs, Command::Get, id.0, &mut reply) {
        Ok(()) => {}
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(explain(&op, path, &fs, errno)),
    }
    let (_, quota) = wire::decode(&reply).map_err(|why| Error::malformed(op, show(path), why))?;
    Ok(Some(quota).filter(|quota| !quota.is_empty()))
}

/// Limits project `id` on the filesystem `path` is on, bytes rounded up as [`rounded`]
/// tells; soft limits are taken off. At once valid, also below what is used: then
/// nothing is taken away, and nothing more can be written.
///
/// # Errors
/// As [`limits`]; for a limit of 0, as that number means none to the kernel; and when
/// the limits are not there when they are read back.
pub fn set_limits(path: &Path, id: ProjectId, bytes: Limit, inodes: Limit) -> Result<()> {
    let op = format!("limit project {id} to {bytes} bytes and {inodes} inodes on");
    let fs = open(&op, path)?;
    if bytes == Limit::At(0) || inodes == Limit::At(0) {
        let reason = "0 means no limit to the kernel; the least limit is 1, none is max";
        return Err(Error::malformed(op, show(path), reason));
    }
    let bytes = round(bytes, block_size(&op, path, &fs)?)
        .ok_or_else(|| Error::malformed(&op, show(path), "so many bytes cannot be counted"))?;
    let mut request = wire::encode(id, bytes, inodes);
    shell::quotactl(&fs, Command::SetLimit, id.0, &mut request)
        .map_err(|errno| explain(&op, path, &fs, errno))?;
    let stands = limits(path, id)?.map_or((Limit::Max, Limit::Max), |q| (q.bytes, q.inodes));
    if stands != (bytes, inodes) {
        let reason = format!(
            "the kernel took it and has {} bytes and {} inodes",
            stands.0, stands.1
        );
        return Err(Error::malformed(op, show(path), reason));
    }
    Ok(())
}

/// The limit of bytes that stands on the filesystem `path` is on after `bytes` was
/// asked for: whole blocks, rounded up.
///
/// # Errors
/// When `path` cannot be opened, or for more bytes than can be counted.
pub fn rounded(path: &Path, bytes: Limit) -> Result<Limit> {
    let op = format!("round {bytes} bytes to the blocks of");
    let fs = open(&op, path)?;
    round(bytes, block_size(&op, path, &fs)?)
        .ok_or_else(|| Error::malformed(op, show(path), "so many bytes cannot be counted"))
}

/// The lowest project from `from` on that has a limit or uses something on the
/// filesystem `path` is on.
///
/// # Errors
/// As [`limits`].
pub fn next(path: &Path, from: ProjectId) -> Result<Option<ProjectId>> {
    let op = format!("find the next project from {from} on");
    let fs = open(&op, path)?;
    let mut at = from.0;
    // All ones is no id: the kernel would refuse it.
    while at != u32::MAX {
        let mut reply = [0; wire::QUOTA_BYTES];
        match shell::quotactl(&fs, Command::Next, at, &mut reply) {
            Ok(()) => {}
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(explain(&op, path, &fs, errno)),
        }
        let (id, quota) =
            wire::decode(&reply).map_err(|why| Error::malformed(&op, show(path), why))?;
        // ext4 goes on listing an id that was only asked for.
        if !quota.is_empty() {
            return Ok(Some(id));
        }
        at = id.0.max(at).saturating_add(1);
    }
    Ok(None)
}

/// Whether the filesystem `path` is on counts projects and holds them to their limits.
///
/// # Errors
/// When `path` cannot be opened or the kernel lacks quotactl_fd (before Linux 5.14).
pub fn enforced(path: &Path) -> Result<bool> {
    let op = "ask for project quota on";
    let fs = open(op, path)?;
    let mut state = wire::state_request();
    match shell::quotactl(&fs, Command::State, 0, &mut state) {
        Ok(()) => Ok(wire::enforces(&state)),
        Err(Errno::ENOSYS | Errno::ESRCH | Errno::EOPNOTSUPP) if shell::available() => Ok(false),
        Err(errno) => Err(explain(op, path, &fs, errno)),
    }
}

/// Opens a name only: nothing waits and nothing happens, whatever it is.
fn open(op: &str, path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path)
        .map_err(|e| Error::io(op, show(path), &e))
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

fn block_size(op: &str, path: &Path, fs: &File) -> Result<u64> {
    let stat = fstatfs(fs).map_err(|errno| Error::errno(op, show(path), errno))?;
    let size = u64::try_from(stat.block_size()).unwrap_or(0);
    Ok(size.max(wire::BLOCK))
}

/// `bytes` in whole blocks of `block` bytes; `None` if that exceeds a u64.
fn round(bytes: Limit, block: u64) -> Option<Limit> {
    match bytes {
        Limit::At(bytes) => bytes.checked_next_multiple_of(block).map(Limit::At),
        Limit::Max => Some(Limit::Max),
    }
}

/// The error with reason and next step, where the errno alone has none.
fn explain(op: &str, path: &Path, fs: &File, errno: Errno) -> Error {
    let reason = match errno {
        Errno::ENOSYS | Errno::ESRCH | Errno::EOPNOTSUPP if shell::available() => no_quota(fs),
        Errno::ENOSYS => "the kernel lacks quotactl_fd; Linux 5.14 or later has it".to_owned(),
        Errno::EPERM | Errno::EACCES => {
            "that needs CAP_SYS_ADMIN outside of a user namespace".to_owned()
        }
        Errno::EROFS => "the mount is read-only; mount it with rw".to_owned(),
        _ => return Error::errno(op, show(path), errno),
    };
    // ESRCH also says: no quota here. To callers it is the same as the others.
    let errno = match errno {
        Errno::ESRCH => Errno::EOPNOTSUPP,
        other => other,
    };
    Error::errno(op, show(path), errno).because(Some(reason))
}

/// Why the filesystem of `fs` has no project quota, and what to do.
fn no_quota(fs: &File) -> String {
    let off = match fstatfs(fs).map(|stat| stat.filesystem_type()) {
        Ok(statfs::XFS_SUPER_MAGIC) => ProjectQuota::OffXfs,
        Ok(statfs::EXT4_SUPER_MAGIC) => ProjectQuota::OffExt4,
        _ => ProjectQuota::Unsupported,
    };
    let (why, remedy) = off.why_not().unwrap_or_default();
    format!("{why}; {remedy}")
}

#[cfg(test)]
mod tests;
