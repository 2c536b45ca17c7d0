//! iocost: what a disk can do (`io.cost.model`) and how well it has to (`io.cost.qos`),
//! which give `io.weight` its effect. Both files are at the root only, a line per device.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use nix::errno::Errno;

use super::Cgroup;
use super::io::{about_device, line_of, pairs};
use crate::Root;
use crate::block::DeviceNumber;
use crate::error::Result;
use crate::names::Invalid;

#[cfg(test)]
mod tests;

const MODEL: &str = "io.cost.model";
const QOS: &str = "io.cost.qos";

/// What a disk can do at most, per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    /// Bytes read one after the other.
    pub rbps: u64,
    /// Reads of 4 KiB one after the other.
    pub rseqiops: u64,
    /// Reads of 4 KiB here and there.
    pub rrandiops: u64,
    /// Bytes written one after the other.
    pub wbps: u64,
    /// Writes of 4 KiB one after the other.
    pub wseqiops: u64,
    /// Writes of 4 KiB here and there.
    pub wrandiops: u64,
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ctrl=user model=linear rbps={} rseqiops={} rrandiops={} wbps={} wseqiops={} wrandiops={}",
            self.rbps, self.rseqiops, self.rrandiops, self.wbps, self.wseqiops, self.wrandiops
        )
    }
}

impl FromStr for Model {
    type Err = Invalid;

    fn from_str(text: &str) -> std::result::Result<Self, Invalid> {
        let words = Words(pairs(text).collect());
        if words.0.get("model").is_some_and(|model| *model != "linear") {
            return Err(Invalid(format!("{text:?} is not a linear model")));
        }
        Ok(Self {
            rbps: words.number("rbps")?,
            rseqiops: words.number("rseqiops")?,
            rrandiops: words.number("rrandiops")?,
            wbps: words.number("wbps")?,
            wseqiops: words.number("wseqiops")?,
            wrandiops: words.number("wrandiops")?,
        })
    }
}

/// Hundredths of a percent, as the kernel prints them: `95.00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub u32);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

impl FromStr for Percent {
    type Err = Invalid;

    fn from_str(text: &str) -> std::result::Result<Self, Invalid> {
        let invalid = || Invalid(format!("{text:?} is not a percentage like 95.00"));
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if part.len() > 2 || !digits(whole) || !digits(part) {
            return Err(invalid());
        }
        let hundredths = format!("{whole}{part:0<2}").parse();
        hundredths.map(Self).map_err(|_too_large| invalid())
    }
}

/// How well a disk has to do, before it is given less to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Qos {
    /// Whether iocost is on for the disk.
    pub enable: bool,
    /// The percentile of reads that has to keep `rlat_usec`; 0: none.
    pub rpct: Percent,
    /// The latency of reads in microseconds.
    pub rlat_usec: u64,
    /// The percentile of writes that has to keep `wlat_usec`; 0: none.
    pub wpct: Percent,
    /// The latency of writes in microseconds.
    pub wlat_usec: u64,
    /// The least share of the model that the disk is given to do, 1 to 10000 %.
    pub min: Percent,
    /// The most.
    pub max: Percent,
}

impl fmt::Display for Qos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "enable={} ctrl=user rpct={} rlat={} wpct={} wlat={} min={} max={}",
            u8::from(self.enable),
            self.rpct,
            self.rlat_usec,
            self.wpct,
            self.wlat_usec,
            self.min,
            self.max
        )
    }
}

impl FromStr for Qos {
    type Err = Invalid;

    fn from_str(text: &str) -> std::result::Result<Self, Invalid> {
        let words = Words(pairs(text).collect());
        Ok(Self {
            enable: words.number::<u8>("enable")? != 0,
            rpct: words.number("rpct")?,
            rlat_usec: words.number("rlat")?,
            wpct: words.number("wpct")?,
            wlat_usec: words.number("wlat")?,
            min: words.number("min")?,
            max: words.number("max")?,
        })
    }
}

struct Words<'a>(BTreeMap<&'a str, &'a str>);

impl Words<'_> {
    fn number<T>(&self, key: &str) -> std::result::Result<T, Invalid>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let word = self.0.get(key);
        let word = word.ok_or_else(|| Invalid(format!("{key} is missing")))?;
        word.parse()
            .map_err(|e| Invalid(format!("{key}={word}: {e}")))
    }
}

/// The line of `device` in `io.cost.model` without the device; `None` where iocost was
/// never on.
///
/// # Errors
/// Without cgroup v2 or in a kernel without iocost.
pub fn model(root: &Root, device: DeviceNumber) -> Result<Option<String>> {
    line(root, MODEL, device)
}

/// The line of `device` in `io.cost.qos` without the device; `None` where iocost was
/// never on. `enable=0`: it was on and is not.
///
/// # Errors
/// As [`model`].
pub fn qos(root: &Root, device: DeviceNumber) -> Result<Option<String>> {
    line(root, QOS, device)
}

/// The two lines of `device`, model and quality of service, where iocost is on.
///
/// # Errors
/// As [`model`].
pub fn active(root: &Root, device: DeviceNumber) -> Result<Option<(String, String)>> {
    let (model, qos) = (model(root, device)?, qos(root, device)?);
    let lines = model.zip(qos);
    Ok(lines.filter(|(_, qos)| pairs(qos).any(|pair| pair == ("enable", "1"))))
}

/// Sets the model of `device` and then its quality of service; either may be a line as
/// [`model`] and [`qos`] read it.
///
/// # Errors
/// As [`model`], where the disk cannot have iocost (EOPNOTSUPP: device-mapper), when it
/// is a partition or absent (ENODEV), or when a line is refused.
pub fn set(root: &Root, device: DeviceNumber, model: &str, qos: &str) -> Result<()> {
    write(root, MODEL, device, model)?;
    write(root, QOS, device, qos)
}

/// Turns iocost off for `device` and leaves the kernel's own settings. A device that
/// never had it is not touched, which would give it one.
///
/// # Errors
/// As [`set`].
pub fn turn_off(root: &Root, device: DeviceNumber) -> Result<()> {
    if qos(root, device)?.is_none() {
        return Ok(());
    }
    write(root, QOS, device, "enable=0 ctrl=auto")?;
    write(root, MODEL, device, "ctrl=auto")
}

fn line(root: &Root, name: &str, device: DeviceNumber) -> Result<Option<String>> {
    let text = Cgroup::open(root, Path::new("/"))?.read(name)?;
    Ok(line_of(&text, device).map(str::to_owned))
}

fn write(root: &Root, name: &str, device: DeviceNumber, wish: &str) -> Result<()> {
    let group = Cgroup::open(root, Path::new("/"))?;
    let wish = without_automatic(wish);
    let line = format!("{device} {wish}");
    let meaning = [
        (
            Errno::EOPNOTSUPP,
            "the device takes no iocost, as device-mapper, md and disks without a request queue: \
             set it on the disks below",
        ),
        (
            Errno::EINVAL,
            "a key or number is none the kernel takes: percentages are up to 100, min and max \
             1 to 10000, min not above max",
        ),
    ];
    group
        .write(name, &line, &meaning)
        .map_err(|error| about_device(root, device, error))?;
    let live = self::line(root, name, device)?.unwrap_or_default();
    if holds(&wish, &live) {
        Ok(())
    } else {
        Err(group.not_so(name, &line, &format!("it reads {live:?}")))
    }
}

/// A line with `ctrl=auto` without its numbers: written with them it would be the
/// user's.
fn without_automatic(line: &str) -> String {
    if !pairs(line).any(|pair| pair == ("ctrl", "auto")) {
        return line.to_owned();
    }
    let kept = pairs(line).filter(|(key, _)| ["enable", "ctrl"].contains(key));
    let words: Vec<String> = kept.map(|(key, value)| format!("{key}={value}")).collect();
    words.join(" ")
}

/// Whether every word of `wish` is in `live`, numbers compared as numbers.
fn holds(wish: &str, live: &str) -> bool {
    let live: BTreeMap<&str, &str> = pairs(live).collect();
    let same = |a: &str, b: &str| {
        let (x, y) = (a.parse::<Percent>(), b.parse::<Percent>());
        a == b || (x.is_ok() && x == y)
    };
    pairs(wish).all(|(key, value)| live.get(key).is_some_and(|live| same(value, live)))
}
