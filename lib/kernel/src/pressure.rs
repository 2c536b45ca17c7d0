//! Pressure stall information (Documentation/accounting/psi.rst): how long work waited
//! for a resource.

use std::fmt;
use std::str::FromStr;

use nix::errno::Errno;

use crate::cgroup::Cgroup;
use crate::error::{Kind, Result};
use crate::names::Invalid;
use crate::{Root, file};

#[cfg(test)]
mod tests;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// CPU time.
    Cpu,
    /// Block devices.
    Io,
    /// Memory.
    Memory,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Io => "io",
            Self::Memory => "memory",
        })
    }
}

/// The share of time, in percent, that work stood still, averaged over the last 10, 60
/// and 300 seconds, and the time in all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stall {
    /// Percent of the last 10 seconds.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last five minutes.
    pub avg300: f64,
    /// Microseconds since the cgroup or the machine began.
    pub total_usec: u64,
}

/// The pressure on a resource.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Stall,
    /// All tasks waited; kernels before 5.13 have none for the CPU.
    pub full: Option<Stall>,
}

impl FromStr for Stall {
    type Err = Invalid;

    /// `avg10=0.00 avg60=0.00 avg300=0.00 total=0`
    fn from_str(text: &str) -> std::result::Result<Self, Invalid> {
        fn of<T: FromStr>(text: &str, key: &str) -> std::result::Result<T, Invalid> {
            let mut words = text.split_whitespace().filter_map(|w| w.split_once('='));
            let value = words.find(|(name, _)| *name == key);
            let value = value.and_then(|(_, value)| value.parse().ok());
            value.ok_or_else(|| Invalid(format!("{text:?} has no number {key}")))
        }
        Ok(Self {
            avg10: of(text, "avg10")?,
            avg60: of(text, "avg60")?,
            avg300: of(text, "avg300")?,
            total_usec: of(text, "total")?,
        })
    }
}

impl FromStr for Pressure {
    type Err = Invalid;

    fn from_str(text: &str) -> std::result::Result<Self, Invalid> {
        let line = |name| text.lines().find_map(|line: &str| line.strip_prefix(name));
        let some = line("some ").ok_or_else(|| Invalid("there is no line some".into()))?;
        Ok(Self {
            some: some.parse()?,
            full: line("full ").map(str::parse).transpose()?,
        })
    }
}

/// The pressure on the tasks of a cgroup and of those below.
///
/// # Errors
/// When the cgroup is gone, or pressure is not counted.
pub fn of_cgroup(group: &Cgroup, resource: Resource) -> Result<Pressure> {
    group.pressure(&format!("{resource}.pressure"))
}

/// The pressure on all tasks of the node.
///
/// # Errors
/// When pressure is not counted.
pub fn of_node(root: &Root, resource: Resource) -> Result<Pressure> {
    let path = root.proc.join("pressure").join(resource.to_string());
    file::parse(&path).map_err(|mut error| {
        if matches!(error.kind(), Kind::NotFound | Kind::Unsupported) {
            error.errno = Some(Errno::EOPNOTSUPP);
            let reason = "pressure is not counted: boot with psi=1";
            error = error.because(Some(reason.to_owned()));
        }
        error
    })
}
