//! cgroup v2 trees of tests: made, read, and removed again with all that runs in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::space::poll;

const ROOT: &str = "/sys/fs/cgroup";

/// How long the kernel may take to be rid of killed processes.
const EMPTY_LIMIT: Duration = Duration::from_secs(20);

/// A cgroup of a test below the root, with others below it. At its end all processes in
/// it are killed and it is removed.
#[derive(Debug)]
pub struct Tree {
    top: Cgroup,
}

/// A cgroup that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
}

impl Tree {
    /// Makes `/NAME` with the controllers cpu, cpuset, io, memory and pids for what is
    /// made below.
    pub fn create(name: &str) -> Result<Self> {
        let path = Path::new("/").join(name);
        fs::create_dir(dir(&path)).with_context(|| format!("make cgroup {}", path.display()))?;
        let tree = Self {
            top: Cgroup { path },
        };
        tree.top.enable()?;
        Ok(tree)
    }

    /// The cgroup at its top.
    pub fn top(&self) -> &Cgroup {
        &self.top
    }

    /// Makes `below`, for example `a/b`; every level above gives its controllers on.
    pub fn make(&self, below: &str) -> Result<Cgroup> {
        let mut cgroup = self.top.clone();
        for name in below.split('/') {
            cgroup.enable()?;
            cgroup = Cgroup {
                path: cgroup.path.join(name),
            };
            match fs::create_dir(dir(&cgroup.path)) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(error)
                        .with_context(|| format!("make cgroup {}", cgroup.path.display()));
                }
                _ => {}
            }
        }
        Ok(cgroup)
    }

    /// Kills what runs in it and removes it.
    pub fn remove(&self) -> Result<()> {
        self.top.remove()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("left behind: {error:#}");
        }
    }
}

impl Cgroup {
    /// The root cgroup.
    pub fn root() -> Self {
        Self {
            path: PathBuf::from("/"),
        }
    }

    /// Its path as `/proc/PID/cgroup` has it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same as text.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// One of its files.
    pub fn file(&self, file: &str) -> PathBuf {
        dir(&self.path).join(file)
    }

    /// A file's text, trimmed.
    pub fn read(&self, file: &str) -> Result<String> {
        let path = self.file(file);
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// A file that holds one number.
    pub fn number(&self, file: &str) -> Result<u64> {
        let text = self.read(file)?;
        text.parse()
            .with_context(|| format!("{file} of {} is no number: {text:?}", self.name()))
    }

    /// A file that holds CPUs or nodes, `0-3,8`.
    pub fn set(&self, file: &str) -> Result<BTreeSet<u32>> {
        numbers(&self.read(file)?)
    }

    /// A file of lines `key number`, such as `memory.events`.
    pub fn table(&self, file: &str) -> Result<BTreeMap<String, u64>> {
        let text = self.read(file)?;
        let entry = |line: &str| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.parse().ok()?))
        };
        Ok(text.lines().filter_map(entry).collect())
    }

    /// One number of such a file.
    pub fn entry(&self, file: &str, key: &str) -> Result<u64> {
        let value = self.table(file)?.get(key).copied();
        value.with_context(|| format!("no {key} in {file} of {}", self.name()))
    }

    /// What `io.stat` or `io.max` says of the device with this number, `254:16`: the
    /// value of `key`, if there is one.
    pub fn of_device(&self, file: &str, device: &str, key: &str) -> Result<Option<String>> {
        let text = self.read(file)?;
        let mut lines = text.lines().map(str::split_whitespace);
        let line = lines.find_map(|mut words| (words.next() == Some(device)).then_some(words));
        let mut words = line.into_iter().flatten();
        Ok(words.find_map(|word| Some(word.strip_prefix(key)?.strip_prefix('=')?.to_owned())))
    }

    /// Writes a file, as an operator by hand would.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.file(file);
        fs::write(&path, text).with_context(|| format!("write {text:?} to {}", path.display()))
    }

    /// The cgroups directly below it.
    pub fn children(&self) -> Result<Vec<Self>> {
        let dir = dir(&self.path);
        let entries = fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))?;
        let mut children = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                children.push(Self {
                    path: self.path.join(entry.file_name()),
                });
            }
        }
        Ok(children)
    }

    /// Kills what runs in it and below and removes it.
    pub fn remove(&self) -> Result<()> {
        if !self.file("cgroup.kill").exists() {
            return Ok(());
        }
        self.write("cgroup.kill", "1")?;
        poll(
            &format!("end of all in {}", self.name()),
            EMPTY_LIMIT,
            || Ok((self.entry("cgroup.events", "populated")? == 0).then_some(())),
        )?;
        self.remove_empty()
    }

    fn remove_empty(&self) -> Result<()> {
        for child in self.children()? {
            child.remove_empty()?;
        }
        // A partition that is removed gives its CPUs back, its ancestors keep the claim.
        fs::remove_dir(dir(&self.path)).with_context(|| format!("remove cgroup {}", self.name()))
    }

    /// Gives every controller tests use on to the level below.
    fn enable(&self) -> Result<()> {
        self.write("cgroup.subtree_control", "+cpu +cpuset +io +memory +pids")
    }
}

/// The directory of a cgroup.
fn dir(cgroup: &Path) -> PathBuf {
    let below = cgroup.strip_prefix("/").unwrap_or(cgroup);
    Path::new(ROOT).join(below)
}

/// The numbers of a list such as `0-3,8` (cpuset(7)).
pub fn numbers(list: &str) -> Result<BTreeSet<u32>> {
    let mut numbers = BTreeSet::new();
    for part in list.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let parsed = first.parse().and_then(|first| Ok((first, last.parse()?)));
        let (first, last): (u32, u32) =
            parsed.with_context(|| format!("{list:?} is no list of numbers"))?;
        ensure!(first <= last, "{list:?} is no list of numbers");
        numbers.extend(first..=last);
    }
    Ok(numbers)
}

/// The same set as a list.
pub fn list(numbers: &BTreeSet<u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers.iter().copied() {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let texts = ranges.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    texts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written() {
        for text in ["", "0", "0-3", "0-3,8", "1,3,5", "4-7,12-15"] {
            assert_eq!(list(&numbers(text).unwrap()), text);
        }
        assert_eq!(numbers("2,0-1\n").unwrap(), BTreeSet::from([0, 1, 2]));
        for bad in ["a", "3-1", "1-", "-"] {
            assert!(numbers(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_directory_of_the_root_cgroup_is_the_mount() {
        assert_eq!(dir(Path::new("/")), Path::new(ROOT));
        assert_eq!(dir(Path::new("/a/b")), Path::new("/sys/fs/cgroup/a/b"));
    }
}
