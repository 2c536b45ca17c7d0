//! Reading and writing the files of a cgroup, with errors that say what the kernel
//! means by them there.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use nix::errno::Errno;

use super::Cgroup;
use crate::error::{Error, Kind, Result};
use crate::file;

impl Cgroup {
    /// A file's text without the white space around it.
    pub(super) fn read(&self, name: &str) -> Result<String> {
        file::read(&self.file(name)).map_err(|error| self.explain(name, error, &[]))
    }

    /// A file with one value.
    pub(super) fn value<T>(&self, name: &str) -> Result<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        self.understood(name, &self.read(name)?)
    }

    /// The file of a resource's pressure.
    pub(crate) fn pressure(&self, name: &str) -> Result<crate::pressure::Pressure> {
        match self.value(name) {
            Err(error) if error.errno == Some(Errno::EOPNOTSUPP) => {
                Err(error.because(Some(self.why_absent(name))))
            }
            other => other,
        }
    }

    /// A part of a file, parsed.
    pub(super) fn understood<T>(&self, name: &str, text: &str) -> Result<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let malformed = |e: T::Err| {
            let reason = format!("{text:?}: {e}");
            Error::malformed("read", self.file(name).display(), reason)
        };
        text.parse().map_err(malformed)
    }

    /// A file of lines `key number`.
    pub(super) fn keyed(&self, name: &str) -> Result<Keyed> {
        let text = self.read(name)?;
        let pairs = text.lines().map(|line| {
            let (key, number) = line.split_once(' ').unwrap_or((line, ""));
            Ok((key.to_owned(), self.understood(name, number.trim())?))
        });
        Ok(Keyed(pairs.collect::<Result<_>>()?))
    }

    /// Writes a file in one system call; `meaning` says what an errno means there.
    pub(super) fn write(&self, name: &str, data: &str, meaning: Meaning) -> Result<()> {
        log::debug!(
            "write {data:?} to {name} of cgroup {}",
            self.path().display()
        );
        file::write(&self.file(name), data).map_err(|error| self.explain(name, error, meaning))
    }

    /// The error of a write that succeeded and did not have the wished effect.
    pub(super) fn not_so(&self, name: &str, wish: &str, seen: &str) -> Error {
        let op = format!("write {wish:?} to");
        let reason = format!(
            "the kernel took it, and afterwards {seen}: somebody else writes this file too; \
             find out who and let only one of them"
        );
        Error::errno(op, self.file(name).display(), Errno::EAGAIN).because(Some(reason))
    }

    /// An errno of the same file, with the reason; for writes refused before the kernel
    /// is asked and for states it reports in words.
    pub(super) fn refused(&self, name: &str, wish: &str, errno: Errno, reason: String) -> Error {
        let op = format!("write {wish:?} to");
        Error::errno(op, self.file(name).display(), errno).because(Some(reason))
    }

    /// The error of a cgroup that is not there.
    pub(super) fn gone(&self, op: &str) -> Error {
        let error = Error::errno(op, self.path().display(), Errno::ENOENT);
        let reason = "there is no such cgroup: it has ended, or never was".to_owned();
        error.because(Some(reason))
    }

    fn explain(&self, name: &str, mut error: Error, meaning: Meaning) -> Error {
        if error.kind() == Kind::NotFound && !self.directory().is_dir() {
            let gone = self.gone(&error.op);
            return Error {
                object: error.object,
                ..gone
            };
        }
        if error.errno == Some(Errno::ENOENT) && !self.file(name).exists() {
            error.errno = Some(Errno::EOPNOTSUPP);
            return error.because(Some(self.why_absent(name)));
        }
        let common = [(
            Errno::EROFS,
            "the cgroup tree is mounted read-only here; run this outside the container",
        )];
        let known = meaning.iter().chain(&common);
        let mut reasons = known
            .filter(|(errno, _)| Some(*errno) == error.errno)
            .map(|(_, reason)| (*reason).to_owned());
        let reason = reasons.next();
        error.because(reason)
    }

    /// Why a file is not in a cgroup that exists.
    fn why_absent(&self, name: &str) -> String {
        if name.ends_with(".pressure") {
            return "pressure is not counted: boot with psi=1, and write 1 to cgroup.pressure \
                    if the cgroup has that"
                .to_owned();
        }
        let controller = name.split('.').next().unwrap_or(name);
        if self
            .read("cgroup.controllers")
            .is_ok_and(|list| !list.split_whitespace().any(|have| have == controller))
        {
            return self.lacks(controller);
        }
        let since = SINCE.iter().find(|(file, _)| *file == name);
        match since {
            _ if self.is_root() => format!("the root cgroup has no {name}; name one below it"),
            Some((_, release)) => format!("{name} needs Linux {release}"),
            None => format!("this kernel has no {name}"),
        }
    }

    /// Why a controller is not there, and how it would be.
    pub(super) fn lacks(&self, controller: &str) -> String {
        if self.is_root() {
            return format!(
                "this kernel has no {controller} controller, or it is used as cgroup v1"
            );
        }
        format!(
            "the cgroup has no {controller} controller: write +{controller} to \
             cgroup.subtree_control of each cgroup above it, from the root down"
        )
    }
}

/// What an errno means for one file.
pub(super) type Meaning<'a> = &'a [(Errno, &'a str)];

/// The releases that some files came with.
const SINCE: [(&str, &str); 5] = [
    ("cpuset.cpus.exclusive", "6.7"),
    ("cpuset.cpus.exclusive.effective", "6.7"),
    ("cpuset.cpus.partition", "5.0"),
    ("memory.reclaim", "5.19"),
    ("memory.peak", "5.19"),
];

/// A file of lines `key number`; a key that this kernel has not counts as 0.
pub(super) struct Keyed(BTreeMap<String, u64>);

impl Keyed {
    /// The number at `key`.
    pub(super) fn get(&self, key: &str) -> u64 {
        self.0.get(key).copied().unwrap_or(0)
    }
}
