//! Which container is meant: a namespace by path or the namespace of a process, and
//! the id its attachments are kept under.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use berth_kernel::{NetNs, Root};

use crate::cli::container_id;

/// A container to attach to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Path of its network namespace.
    pub(crate) netns: PathBuf,
    /// The id given to the plugins.
    pub(crate) container_id: String,
    /// Its process, if it was named by one.
    pub(crate) process: Option<Process>,
}

impl Target {
    /// The container of `pid`, or the one whose namespace is at `netns`, under
    /// `id` or the id that follows from them.
    ///
    /// # Errors
    /// The process or the namespace does not exist; the namespace is our own; no id
    /// follows from the path.
    pub(crate) fn find(
        root: &Root,
        netns: Option<&Path>,
        pid: Option<u32>,
        id: Option<&str>,
    ) -> Result<Self> {
        let target = match (pid, netns) {
            (Some(pid), _) => Self::of_process(root, pid, id)?,
            (None, Some(path)) => Self::of_path(path, id)?,
            (None, None) => bail!("no container is named; give --pid PID or --netns PATH"),
        };
        target.refuse_own_namespace()?;
        Ok(target)
    }

    fn of_process(root: &Root, pid: u32, id: Option<&str>) -> Result<Self> {
        let process = Process::read(root, pid)?;
        Ok(Self {
            netns: root.proc.join(pid.to_string()).join("ns/net"),
            container_id: id.map_or_else(|| process.container_id(), str::to_owned),
            process: Some(process),
        })
    }

    fn of_path(path: &Path, id: Option<&str>) -> Result<Self> {
        // Plugins run elsewhere than the caller, and detach may, too.
        let netns = std::path::absolute(path)
            .with_context(|| format!("make {} an absolute path", path.display()))?;
        Ok(Self {
            container_id: match id {
                Some(id) => id.to_owned(),
                None => id_of_path(&netns)?,
            },
            netns,
            process: None,
        })
    }

    /// In our own namespace a plugin would rename and configure the node's own
    /// interfaces. (Specification, "Network interface... the runtime's own".)
    fn refuse_own_namespace(&self) -> Result<()> {
        let theirs = NetNs::open(&self.netns)?;
        if theirs.is_same(&NetNs::current()?)? {
            bail!(
                "{} is the namespace berth itself runs in; a container with the host's network \
                 cannot be attached, start it with a network namespace of its own",
                self.netns.display()
            );
        }
        Ok(())
    }
}

/// The id for a namespace known by path: its file name, as `ip netns` and the
/// runtimes name them after the container.
///
/// # Errors
/// The name is no container id, or says nothing (`/proc/PID/ns/net`).
pub(crate) fn id_of_path(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    let of_a_process = path.parent().is_some_and(|dir| dir.ends_with("ns"));
    match name.map(container_id) {
        Some(Ok(id)) if !of_a_process => Ok(id),
        _ => bail!(
            "no container id follows from {}; give one with --container-id, or name the process \
             with --pid",
            path.display()
        ),
    }
}

/// A process that may have ended since: with its start time it is told from a later
/// one with the same pid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pid: u32,
    /// Clock ticks from boot (field 22 of `proc/PID/stat`, proc_pid_stat(5)).
    start_time: u64,
    /// Its cgroup in the version 2 hierarchy, below the hierarchy's root.
    pub(crate) cgroup: Option<String>,
}

impl Process {
    /// Reads it from procfs.
    ///
    /// # Errors
    /// There is no such process, or it cannot be read.
    fn read(root: &Root, pid: u32) -> Result<Self> {
        let process = procfs::process::Process::new_with_root(root.proc.join(pid.to_string()))
            .with_context(|| format!("there is no process {pid}"))?;
        let stat = process.stat().with_context(|| format!("read the state of process {pid}"))?;
        let groups = process.cgroups();
        let groups = groups.with_context(|| format!("read the cgroups of process {pid}"))?;
        let unified = groups.into_iter().find(|group| group.hierarchy == 0);
        Ok(Self {
            pid,
            start_time: stat.starttime,
            // A path outside our cgroup namespace starts with /.. and names nothing here.
            cgroup: unified.map(|group| group.pathname).filter(|path| !path.starts_with("/..")),
        })
    }

    /// `pid-4711-27135`: the same for every call, another for a later process.
    fn container_id(&self) -> String {
        format!("{}{}", id_prefix(self.pid), self.start_time)
    }
}

/// What the id of every process that had `pid` starts with.
pub(crate) fn id_prefix(pid: u32) -> String {
    format!("pid-{pid}-")
}

/// The id attach gave to the container of `pid`, whether the process lives or not:
/// `known` are the ids with attachments. `None`: none is attached.
///
/// # Errors
/// The process has ended and several ids fit its pid.
pub(crate) fn id_of_pid(root: &Root, pid: u32, known: &[String]) -> Result<Option<String>> {
    let prefix = id_prefix(pid);
    if root.proc.join(pid.to_string()).exists() {
        let id = Process::read(root, pid)?.container_id();
        return Ok(Some(id));
    }
    let mut fits: Vec<&String> = known.iter().filter(|id| id.starts_with(&prefix)).collect();
    fits.dedup();
    match fits.as_slice() {
        [] => Ok(None),
        [id] => Ok(Some((*id).clone())),
        several => bail!(
            "process {pid} has ended, and several processes with this pid were attached: {}; \
             choose one with --container-id",
            several.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(", ")
        ),
    }
}
