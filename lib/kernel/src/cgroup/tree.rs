//! One control group: its place, its processes, its controllers, and where it is.

use std::collections::BTreeSet;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use nix::errno::Errno;

use super::directory;
use super::files::Meaning;
use crate::error::{AbsentIsFine, Error, Result};
use crate::names::Invalid;
use crate::{Root, file};

#[cfg(test)]
mod tests;

/// The controllers that Berth uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Controller {
    /// Weights and quotas of CPU time.
    Cpu,
    /// CPUs and NUMA nodes.
    Cpuset,
    /// Limits and weights of block devices.
    Io,
    /// Limits of memory.
    Memory,
    /// Limits of the number of processes.
    Pids,
}

impl Controller {
    const ALL: [Self; 5] = [Self::Cpu, Self::Cpuset, Self::Io, Self::Memory, Self::Pids];
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cpuset => "cpuset",
            Self::Io => "io",
            Self::Memory => "memory",
            Self::Pids => "pids",
        })
    }
}

impl FromStr for Controller {
    type Err = Invalid;

    fn from_str(text: &str) -> std::result::Result<Self, Invalid> {
        let named = |controller: &Self| controller.to_string() == text;
        let found = Self::ALL.into_iter().find(named);
        found.ok_or_else(|| Invalid(format!("{text:?} is no controller Berth uses")))
    }
}

/// A cgroup v2 directory that existed when it was opened. It may vanish at any time:
/// then everything answers with [`crate::Kind::NotFound`]. A file that is absent while the
/// cgroup exists is [`crate::Kind::Unsupported`], with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    root: Arc<Root>,
    path: PathBuf,
}

impl Cgroup {
    /// The cgroup at `path`, as the kernel and the runtimes write it
    /// (`/machine.slice/game.scope`), or as a path below the mount point.
    ///
    /// # Errors
    /// Without cgroup v2, when the path has `.` or `..` in it, or when there is no
    /// such cgroup.
    pub fn open(root: &Root, path: &Path) -> Result<Self> {
        let dir = directory(root, path)?;
        let relative = dir.strip_prefix(&root.cgroup).unwrap_or(&dir);
        let group = Self {
            root: Arc::new(root.clone()),
            path: Path::new("/").join(relative),
        };
        if dir.is_dir() {
            Ok(group)
        } else {
            Err(group.gone("open cgroup"))
        }
    }

    /// Its path below the mount point: `/a/b`, and `/` for the root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The trees it was opened in.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Whether it is the root of the hierarchy, which has hardly any files to write.
    pub fn is_root(&self) -> bool {
        self.path == Path::new("/")
    }

    /// The directory's inode number: another cgroup made under the same name later
    /// has another one.
    ///
    /// # Errors
    /// When the cgroup is gone.
    pub fn inode(&self) -> Result<u64> {
        let dir = self.directory();
        let seen = std::fs::metadata(&dir).map_err(|e| Error::io("look at", dir.display(), &e))?;
        Ok(seen.ino())
    }

    /// The cgroup above; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        self.path.parent().map(|path| self.at(path.to_path_buf()))
    }

    /// The cgroups from the one below the root down to this one; empty for the root.
    pub fn chain(&self) -> Vec<Self> {
        let mut chain: Vec<Self> = self
            .path
            .ancestors()
            .filter(|path| *path != Path::new("/"))
            .map(|path| self.at(path.to_path_buf()))
            .collect();
        chain.reverse();
        chain
    }

    /// The cgroups directly below, by name.
    ///
    /// # Errors
    /// When the cgroup is gone or cannot be listed.
    pub fn children(&self) -> Result<Vec<Self>> {
        let dir = self.directory();
        let names = file::names(&dir)?;
        let is_group = |name: &String| dir.join(name).is_dir();
        let group = |name: String| self.at(self.path.join(name));
        Ok(names.into_iter().filter(is_group).map(group).collect())
    }

    /// All cgroups below, each before those below it. One that vanishes meanwhile is
    /// left out.
    ///
    /// # Errors
    /// When this cgroup is gone or one cannot be listed.
    pub fn descendants(&self) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        let mut open = self.children()?;
        open.reverse();
        while let Some(group) = open.pop() {
            if let Some(mut below) = group.children().absent_is_fine()? {
                below.reverse();
                open.append(&mut below);
                found.push(group);
            }
        }
        Ok(found)
    }

    /// The processes that are in this cgroup itself, ascending. Of a threaded cgroup,
    /// whose `cgroup.procs` cannot be read (EOPNOTSUPP), those with a thread in it.
    ///
    /// # Errors
    /// When the cgroup is gone or cannot be read.
    pub fn procs(&self) -> Result<Vec<u32>> {
        let procs = match self.numbers("cgroup.procs") {
            Err(error) if error.errno == Some(Errno::EOPNOTSUPP) => self.owners_of_threads()?,
            other => other?,
        };
        Ok(procs.into_iter().collect())
    }

    fn owners_of_threads(&self) -> Result<BTreeSet<u32>> {
        let mut owners = BTreeSet::new();
        for thread in self.numbers("cgroup.threads")? {
            let status = self.root.proc.join(thread.to_string()).join("status");
            // A thread may end while we look.
            let Some(text) = file::read(&status).absent_is_fine()? else {
                continue;
            };
            let owner = text.lines().find_map(|line| line.strip_prefix("Tgid:"));
            owners.extend(owner.and_then(|owner| owner.trim().parse::<u32>().ok()));
        }
        Ok(owners)
    }

    fn numbers(&self, name: &str) -> Result<BTreeSet<u32>> {
        let text = self.read(name)?;
        text.lines()
            .map(|line| self.understood(name, line.trim()))
            .collect()
    }

    /// Whether a process is in this cgroup or in one below; always in the root.
    ///
    /// # Errors
    /// When the cgroup is gone.
    pub fn populated(&self) -> Result<bool> {
        if self.is_root() {
            return Ok(true);
        }
        Ok(self.keyed("cgroup.events")?.get("populated") == 1)
    }

    /// The controllers that this cgroup has: `cgroup.controllers`.
    ///
    /// # Errors
    /// When the cgroup is gone.
    pub fn controllers(&self) -> Result<BTreeSet<Controller>> {
        Ok(known(&self.read("cgroup.controllers")?))
    }

    /// The controllers that the cgroups below have: `cgroup.subtree_control`.
    ///
    /// # Errors
    /// When the cgroup is gone.
    pub fn enabled(&self) -> Result<BTreeSet<Controller>> {
        Ok(known(&self.read("cgroup.subtree_control")?))
    }

    /// Gives the cgroups below these controllers too; those they have stay. With
    /// processes in the cgroup itself the kernel refuses memory and io; cpu, cpuset and
    /// pids it may give, and then takes no processes into those below.
    ///
    /// # Errors
    /// When this cgroup has not got a controller itself, or holds processes (EBUSY).
    pub fn enable(&self, wanted: &[Controller]) -> Result<()> {
        const FILE: &str = "cgroup.subtree_control";
        let (have, on) = (self.controllers()?, self.enabled()?);
        let missing: BTreeSet<_> = wanted.iter().filter(|c| !on.contains(c)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let words: Vec<String> = missing.iter().map(|c| format!("+{c}")).collect();
        let words = words.join(" ");
        if let Some(lacking) = missing.iter().find(|c| !have.contains(c)) {
            let op = format!("write {words:?} to");
            let error = Error::errno(op, self.file(FILE).display(), Errno::EOPNOTSUPP);
            return Err(error.because(Some(self.lacks(&lacking.to_string()))));
        }
        self.write(FILE, &words, ENABLE)?;
        let on = self.enabled()?;
        match missing.iter().find(|c| !on.contains(c)) {
            Some(lost) => Err(self.not_so(FILE, &words, &format!("it lacks {lost}"))),
            None => Ok(()),
        }
    }

    fn at(&self, path: PathBuf) -> Self {
        Self {
            root: Arc::clone(&self.root),
            path,
        }
    }

    /// Its directory.
    pub(super) fn directory(&self) -> PathBuf {
        self.file("")
    }

    /// The path of one of its files.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        let relative = self.path.strip_prefix("/").unwrap_or(&self.path);
        let dir = self.root.cgroup.join(relative);
        if name.is_empty() { dir } else { dir.join(name) }
    }
}

const ENABLE: Meaning<'static> = &[
    (
        Errno::EBUSY,
        "it holds processes itself, and only cgroups without any give controllers to those \
         below: move its processes to a cgroup below it first",
    ),
    (
        Errno::EOPNOTSUPP,
        "it is part of a threaded subtree, which has no memory and io controllers below: \
         name a cgroup outside it",
    ),
];

fn known(text: &str) -> BTreeSet<Controller> {
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}
