//! The io controller: limits, weights and counters per block device.

use std::collections::BTreeMap;
use std::fmt;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::{Cgroup, Limit};
use crate::block::DeviceNumber;
use crate::error::{Error, Result};
use crate::{Root, file};

#[cfg(test)]
mod tests;

/// The line of a device in `io.max`: bytes and operations per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IoMax {
    /// Read bytes per second.
    pub rbps: Limit,
    /// Written bytes per second.
    pub wbps: Limit,
    /// Read operations per second.
    pub riops: Limit,
    /// Write operations per second.
    pub wiops: Limit,
}

impl IoMax {
    /// No limit at all: the device has no line.
    pub const NONE: Self = Self {
        rbps: Limit::Max,
        wbps: Limit::Max,
        riops: Limit::Max,
        wiops: Limit::Max,
    };

    /// The limits that the kernel makes of these: it counts operations in 32 bits, and
    /// the largest number means none.
    #[must_use]
    pub fn settled(self) -> Self {
        let within = |limit: Limit, most: u64| match limit {
            Limit::At(number) if number < most => limit,
            _ => Limit::Max,
        };
        Self {
            rbps: within(self.rbps, u64::MAX),
            wbps: within(self.wbps, u64::MAX),
            riops: within(self.riops, u64::from(u32::MAX)),
            wiops: within(self.wiops, u64::from(u32::MAX)),
        }
    }
}

impl fmt::Display for IoMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rbps,
            wbps,
            riops,
            wiops,
        } = self;
        write!(f, "rbps={rbps} wbps={wbps} riops={riops} wiops={wiops}")
    }
}

/// What a cgroup and those below did on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IoStat {
    /// Bytes read.
    pub rbytes: u64,
    /// Bytes written.
    pub wbytes: u64,
    /// Read operations.
    pub rios: u64,
    /// Write operations.
    pub wios: u64,
}

const MAX: &str = "io.max";
const WEIGHT: &str = "io.weight";
const STAT: &str = "io.stat";

/// The limits of `device` in `io.max`.
///
/// # Errors
/// When the cgroup is gone or has no io controller.
pub fn max(group: &Cgroup, device: DeviceNumber) -> Result<IoMax> {
    let mut limits = IoMax::NONE;
    let text = group.read(MAX)?;
    let Some(line) = line_of(&text, device) else {
        return Ok(limits);
    };
    for (key, value) in pairs(line) {
        let place = match key {
            "rbps" => &mut limits.rbps,
            "wbps" => &mut limits.wbps,
            "riops" => &mut limits.riops,
            "wiops" => &mut limits.wiops,
            _ => continue,
        };
        *place = group.understood(MAX, value)?;
    }
    Ok(limits)
}

/// Sets all four limits of `device`, a whole disk, in `io.max`.
///
/// # Errors
/// As [`max`], for a limit of 0, or when `device` is a partition or does not exist
/// (ENODEV).
pub fn set_max(group: &Cgroup, device: DeviceNumber, limits: &IoMax) -> Result<()> {
    let line = format!("{device} {limits}");
    let all = [limits.rbps, limits.wbps, limits.riops, limits.wiops];
    if all.contains(&Limit::At(0)) {
        let reason = "the kernel takes no limit of 0; the least is 1, and max is none".to_owned();
        return Err(group.refused(MAX, &line, Errno::ERANGE, reason));
    }
    write(group, MAX, device, &line)?;
    let live = max(group, device)?;
    if live == limits.settled() {
        Ok(())
    } else {
        Err(group.not_so(MAX, &line, &format!("it reads {live}")))
    }
}

/// The weight of `device` in `io.weight`, 1 to 10000; `None` where it has no line and
/// [`default_weight`] holds.
///
/// # Errors
/// As [`max`].
pub fn weight(group: &Cgroup, device: DeviceNumber) -> Result<Option<u16>> {
    let text = group.read(WEIGHT)?;
    let line = line_of(&text, device);
    line.map(|line| group.understood(WEIGHT, line.trim()))
        .transpose()
}

/// The weight on every device without one of its own.
///
/// # Errors
/// As [`max`].
pub fn default_weight(group: &Cgroup) -> Result<u16> {
    let text = group.read(WEIGHT)?;
    let line = text.lines().find_map(|line| line.strip_prefix("default "));
    group.understood(WEIGHT, line.unwrap_or(&text).trim())
}

/// Sets the weight of `device`, 1 to 10000, or takes its line away. It has an effect
/// where iocost is on ([`super::iocost`]).
///
/// # Errors
/// As [`max`], for a weight out of range, when `device` is a partition or does not
/// exist (ENODEV), or where iocost was never on (EOPNOTSUPP).
pub fn set_weight(group: &Cgroup, device: DeviceNumber, wish: Option<u16>) -> Result<()> {
    if let Some(weight) = wish {
        super::weight_in_range(group, WEIGHT, weight)?;
    } else if weight(group, device)?.is_none() {
        return Ok(());
    }
    let word = wish.map_or_else(|| "default".to_owned(), |weight| weight.to_string());
    let line = format!("{device} {word}");
    write(group, WEIGHT, device, &line)?;
    let live = weight(group, device)?;
    if live == wish {
        Ok(())
    } else {
        let seen = live.map_or_else(|| "default".to_owned(), |weight| weight.to_string());
        Err(group.not_so(WEIGHT, &line, &format!("it reads {seen}")))
    }
}

/// Sets the weight on every device without one of its own, 1 to 10000.
///
/// # Errors
/// As [`max`], or for a weight out of range.
pub fn set_default_weight(group: &Cgroup, weight: u16) -> Result<()> {
    super::weight_in_range(group, WEIGHT, weight)?;
    let line = format!("default {weight}");
    group.write(WEIGHT, &line, &[])?;
    let live = default_weight(group)?;
    if live == weight {
        Ok(())
    } else {
        Err(group.not_so(WEIGHT, &line, &format!("it reads {live}")))
    }
}

/// `io.stat`. A device that the kernel has no number for any more (`(unknown)`) is left
/// out.
///
/// # Errors
/// As [`max`].
pub fn stat(group: &Cgroup) -> Result<BTreeMap<DeviceNumber, IoStat>> {
    let mut all = BTreeMap::new();
    for line in group.read(STAT)?.lines() {
        let (device, rest) = line.split_once(' ').unwrap_or((line, ""));
        let Ok(device) = device.parse() else { continue };
        let mut stat = IoStat::default();
        for (key, value) in pairs(rest) {
            let place = match key {
                "rbytes" => &mut stat.rbytes,
                "wbytes" => &mut stat.wbytes,
                "rios" => &mut stat.rios,
                "wios" => &mut stat.wios,
                _ => continue,
            };
            *place = group.understood(STAT, value)?;
        }
        all.insert(device, stat);
    }
    Ok(all)
}

/// The rest of the line that starts with `device`.
pub(super) fn line_of(text: &str, device: DeviceNumber) -> Option<&str> {
    text.lines().find_map(|line| {
        let (first, rest) = line.split_once(' ')?;
        (first.parse() == Ok(device)).then_some(rest)
    })
}

/// The `key=value` words of a line.
pub(super) fn pairs(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.split_whitespace()
        .filter_map(|word| word.split_once('='))
}

fn write(group: &Cgroup, name: &str, device: DeviceNumber, line: &str) -> Result<()> {
    let unsupported = "iocost was never on for this device, and without it there are no weights: \
                       turn it on first; device-mapper has none, its disks below have";
    group
        .write(name, line, &[(Errno::EOPNOTSUPP, unsupported)])
        .map_err(|error| about_device(group.root(), device, error))
}

/// Says of ENODEV what is wrong with the device.
pub(super) fn about_device(root: &Root, device: DeviceNumber, error: Error) -> Error {
    // A cgroup that has gone gives its own reason.
    if error.errno != Some(Errno::ENODEV) || error.reason.is_some() {
        return error;
    }
    let dir = root.sys.join("dev/block").join(device.to_string());
    let reason = if dir.join("partition").exists() {
        // The link leads to .../DISK/PARTITION.
        let disk = std::fs::canonicalize(&dir)
            .ok()
            .and_then(|dir| file::read(&dir.parent()?.join("dev")).ok());
        let disk = disk.map_or_else(String::new, |disk| format!(", {disk}"));
        format!("{device} is a partition, and io is controlled per whole disk: name that{disk}")
    } else {
        format!("there is no whole block device {device}; see lsblk")
    };
    error.because(Some(reason))
}
