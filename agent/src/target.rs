//! From a target to its cgroup: by path, by a process, or by the name a runtime made
//! of a container's id.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use berth_kernel::Root;
use berth_kernel::cgroup::{self, Version};
use serde::{Deserialize, Serialize};

use crate::refusal::{Code, Refusal};
use crate::spec::Target;

mod container;

/// Linux' ESRCH: the process ended between open and read.
const ESRCH: i32 = nix::libc::ESRCH;

/// A cgroup, told apart from a later one of the same name by its inode, which the
/// kernel gives no second time (64 bits with a generation, fs/kernfs/dir.c).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Bound {
    /// Its path from the root cgroup, `/machine.slice/game-17.scope`.
    pub(crate) cgroup: PathBuf,
    /// The inode of its directory.
    pub(crate) inode: u64,
}

/// The cgroup of a target; `None` while there is none.
///
/// # Errors
/// [`Code::Unsupported`] without cgroup v2; [`Code::Invalid`] for the root cgroup, for a
/// cgroup that holds this process, and for what is no cgroup; [`Code::Conflict`] for a
/// container id that two cgroups are named after; [`Code::Kernel`] where the kernel
/// does not tell.
pub(crate) fn find(root: &Root, target: &Target) -> Result<Option<Bound>, Refusal> {
    require_v2(root, target)?;
    let path = match target {
        Target::Cgroup(path) => Some(path.clone()),
        Target::Pid(pid) => of_process(root, &pid.to_string(), target)?,
        Target::ContainerId(id) => container::find(root, id, target)?,
    };
    let Some(path) = path else {
        return Ok(None);
    };
    let relative = plain(root, &path, target)?;
    refuse_own(root, &relative, target)?;
    let directory = root.cgroup.join(&relative);
    match fs::symlink_metadata(&directory) {
        Ok(meta) if meta.is_dir() => Ok(Some(Bound {
            cgroup: Path::new("/").join(&relative),
            inode: meta.ino(),
        })),
        Ok(_) => {
            let reason = format!("{} is no cgroup", directory.display());
            Err(refused(Code::Invalid, target, reason, "name a directory"))
        }
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(unreadable(target, &directory, &error)),
    }
}

/// Whether the cgroup still exists and is the same one.
pub(crate) fn still_there(root: &Root, bound: &Bound) -> bool {
    let relative = bound.cgroup.strip_prefix("/").unwrap_or(&bound.cgroup);
    let meta = fs::symlink_metadata(root.cgroup.join(relative));
    meta.is_ok_and(|meta| meta.is_dir() && meta.ino() == bound.inode)
}

fn require_v2(root: &Root, target: &Target) -> Result<(), Refusal> {
    let has = match cgroup::version(root) {
        Version::V2 => return Ok(()),
        Version::Hybrid | Version::V1 => "the node mounts the controllers as cgroup v1",
        Version::Absent => "the node mounts no cgroup hierarchy",
    };
    let reason = format!("{has}, and cgroup v2 is needed");
    let next = "boot with systemd.unified_cgroup_hierarchy=1; berth doctor says more";
    Err(refused(Code::Unsupported, target, reason, next))
}

/// The path below the root cgroup, which is refused.
fn plain(root: &Root, path: &Path, target: &Target) -> Result<PathBuf, Refusal> {
    let relative = path.strip_prefix(&root.cgroup).unwrap_or(path);
    let relative = relative.strip_prefix("/").unwrap_or(relative);
    if relative.as_os_str().is_empty() {
        let reason = "it is the root cgroup, which is the whole node";
        let next = "start the workload in a cgroup of its own";
        return Err(refused(Code::Invalid, target, reason, next));
    }
    let normal = |part| matches!(part, Component::Normal(_));
    if relative.components().all(normal) {
        return Ok(relative.components().collect());
    }
    let reason = format!(
        "{} leads out of the hierarchy this agent sees",
        path.display()
    );
    let next = "name a cgroup below the root, without . and ..; run the agent in the host's cgroup namespace";
    Err(refused(Code::Invalid, target, reason, next))
}

/// A limit on our own cgroup could stop us in the middle of taking it back.
fn refuse_own(root: &Root, relative: &Path, target: &Target) -> Result<(), Refusal> {
    let Some(own) = of_process(root, "self", target)? else {
        return Ok(());
    };
    let own = own.strip_prefix("/").unwrap_or(&own);
    if !own.starts_with(relative) {
        return Ok(());
    }
    let reason = format!(
        "the agent itself runs in /{}, which is that cgroup or lies in it",
        own.display()
    );
    let next = "start the workload in a cgroup of its own";
    Err(refused(Code::Invalid, target, reason, next))
}

/// The v2 cgroup of a process: the line of hierarchy 0 in `proc/PID/cgroup`
/// (cgroups(7)); `None` if there is no such process.
fn of_process(root: &Root, pid: &str, target: &Target) -> Result<Option<PathBuf>, Refusal> {
    let file = root.proc.join(pid).join("cgroup");
    let text = match fs::read(&file) {
        Ok(bytes) => bytes,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(unreadable(target, &file, &error)),
    };
    let text = String::from_utf8_lossy(&text);
    match text.lines().find_map(|line| line.strip_prefix("0::")) {
        Some(path) => Ok(Some(PathBuf::from(path))),
        None => {
            let reason = format!("{} names no cgroup of version 2", file.display());
            let next = "boot with systemd.unified_cgroup_hierarchy=1";
            Err(refused(Code::Unsupported, target, reason, next))
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    ) || error.raw_os_error() == Some(ESRCH)
}

fn refused(
    code: Code,
    target: &Target,
    reason: impl Into<String>,
    next: impl Into<String>,
) -> Refusal {
    let (key, wish) = match target {
        Target::Cgroup(path) => ("target.cgroup", path.display().to_string()),
        Target::Pid(pid) => ("target.pid", pid.to_string()),
        Target::ContainerId(id) => ("target.container_id", id.clone()),
    };
    Refusal::new(code, key, wish, reason, next)
}

fn unreadable(target: &Target, path: &Path, error: &io::Error) -> Refusal {
    let reason = format!("{} cannot be read: {error}", path.display());
    refused(
        Code::Kernel,
        target,
        reason,
        "look at the agent's permissions",
    )
}

#[cfg(test)]
mod tests;
