//! Which container is meant: a namespace by path or the namespace of a process, and
//! the id its attachments are kept under.

use std::collections::BTreeSet;
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

    /// The container of `pid`, whatever its namespace.
    pub(crate) fn of_process(root: &Root, pid: u32, id: Option<&str>) -> Result<Self> {
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

    /// In our own namespace a plugin would configure the node's own interfaces.
    fn refuse_own_namespace(&self) -> Result<()> {
        let theirs = NetNs::open(&self.netns)
            .context("no network namespace to attach to (lsns -t net lists what there is)")?;
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
        let stat = process
            .stat()
            .with_context(|| format!("read the state of process {pid}"))?;
        let groups = process.cgroups();
        let groups = groups.with_context(|| format!("read the cgroups of process {pid}"))?;
        let unified = groups.into_iter().find(|group| group.hierarchy == 0);
        Ok(Self {
            pid,
            start_time: stat.starttime,
            // A path outside our cgroup namespace starts with /.. and names nothing here.
            cgroup: unified
                .map(|group| group.pathname)
                .filter(|path| !path.starts_with("/..")),
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
pub(crate) fn id_of_pid(root: &Root, pid: u32, known: &[&str]) -> Result<Option<String>> {
    let prefix = id_prefix(pid);
    if root.proc.join(pid.to_string()).exists() {
        let id = Process::read(root, pid)?.container_id();
        return Ok(Some(id));
    }
    let fits = known.iter().filter(|id| id.starts_with(&prefix));
    let fits: Vec<&str> = fits.copied().collect::<BTreeSet<_>>().into_iter().collect();
    match fits.as_slice() {
        [] => Ok(None),
        [id] => Ok(Some((*id).to_owned())),
        several => bail!(
            "process {pid} has ended, and several processes with this pid were attached: {}; \
             choose one with --container-id",
            several.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A fake process with `start_time` ticks and the lines of its `cgroup` file.
    fn process(root: &Root, pid: u32, start_time: u64, cgroups: &str) {
        let dir = root.proc.join(pid.to_string());
        fs::create_dir_all(&dir).unwrap();
        let stat = format!(
            "{pid} (a) b) S 1 1 1 0 -1 4194560 85 0 0 0 0 0 0 0 20 0 1 0 {start_time} 2449408 7 \
             18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
        );
        fs::write(dir.join("stat"), stat).unwrap();
        fs::write(dir.join("cgroup"), cgroups).unwrap();
    }

    #[test]
    fn a_process_gives_its_container_id_and_cgroup() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        for (pid, cgroups, cgroup) in [
            (
                7,
                "0::/machine.slice/game.scope\n",
                Some("/machine.slice/game.scope"),
            ),
            (8, "4:cpuset:/game\n0::/init.scope\n", Some("/init.scope")),
            (9, "4:cpuset:/game\n", None),
            (10, "0::/../other\n", None),
        ] {
            process(&root, pid, 27135, cgroups);
            let target = Target::of_process(&root, pid, None).unwrap();
            assert_eq!(target.container_id, format!("pid-{pid}-27135"));
            assert!(container_id(&target.container_id).is_ok());
            assert_eq!(
                target.process.unwrap().cgroup.as_deref(),
                cgroup,
                "{cgroups}"
            );
            assert_eq!(target.netns, root.proc.join(format!("{pid}/ns/net")));
        }
        let own = Target::of_process(&root, 7, Some("web")).unwrap();
        assert_eq!(own.container_id, "web");
        let error = Target::of_process(&root, 999, None).unwrap_err();
        assert!(
            error.to_string().contains("there is no process 999"),
            "{error}"
        );
    }

    #[test]
    fn a_path_gives_its_file_name_or_asks() {
        let id = |path: &str| id_of_path(Path::new(path)).ok();
        assert_eq!(id("/run/netns/blue").as_deref(), Some("blue"));
        assert_eq!(id("/run/docker/netns/0a1b").as_deref(), Some("0a1b"));
        for silent in ["/proc/7/ns/net", "/run/netns/-x", "/", "/run/netns/a b"] {
            let error = id_of_path(Path::new(silent)).unwrap_err().to_string();
            assert!(error.contains("--container-id"), "{error}");
        }
        let target = Target::of_path(Path::new("/proc/7/ns/net"), Some("web")).unwrap();
        assert_eq!(target.container_id, "web");
        assert!(
            Target::of_path(Path::new("blue"), None)
                .unwrap()
                .netns
                .is_absolute()
        );
    }

    #[test]
    fn a_pid_finds_its_attachments_before_and_after_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        process(&root, 7, 500, "");
        let find = |ids: &[&str]| id_of_pid(&root, 7, ids);
        // It lives: an earlier process with its pid is another container.
        assert_eq!(find(&["pid-7-400"]).unwrap().as_deref(), Some("pid-7-500"));
        fs::remove_dir_all(root.proc.join("7")).unwrap();
        assert_eq!(find(&["pid-70-400", "web"]).unwrap(), None);
        let twice = ["pid-7-400", "pid-70-1", "pid-7-400"];
        assert_eq!(find(&twice).unwrap().as_deref(), Some("pid-7-400"));
        let error = find(&["pid-7-400", "pid-7-500"]).unwrap_err().to_string();
        assert!(error.contains("pid-7-400, pid-7-500"), "{error}");
    }

    #[test]
    fn our_own_namespace_is_refused() {
        let own = Path::new("/proc/self/ns/net");
        let root = Root::host();
        let error = Target::find(&root, Some(own), None, Some("web")).unwrap_err();
        assert!(
            error.to_string().contains("berth itself runs in"),
            "{error}"
        );
        let plain = tempfile::NamedTempFile::new().unwrap();
        let error = Target::find(&root, Some(plain.path()), None, Some("web")).unwrap_err();
        assert!(
            format!("{error:#}").contains("not a network namespace"),
            "{error:#}"
        );
    }
}
