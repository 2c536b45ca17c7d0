//! `berth doctor`: what this node can do for Berth, what it cannot, why, and the
//! remedy. [`observe`] reads, the `checks` decide, [`mod@print`] shows.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use berth_kernel::Root;
use berth_kernel::cgroup::Version;
use clap::ValueEnum;
use serde::Serialize;

use crate::capacity::Condition;
use crate::cli::{DoctorArgs, Output};

mod cgroups;
mod devices;
mod facts;
mod features;
mod observe;
mod options;
mod print;
mod system;
#[cfg(test)]
mod tests;

use facts::Facts;

/// The part of Berth a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Area {
    /// Containers on untagged bridges; what everything else needs, too
    Core,
    /// VLANs on bridges
    Vlan,
    /// Virtual functions of network cards
    Sriov,
    /// Interrupts and packet steering
    Irq,
    /// Exclusive cores
    Cpu,
    /// Memory limits
    Memory,
    /// Disk limits
    Disk,
    /// IO limits and shares
    Io,
}

impl Area {
    /// As it is written on the command line.
    fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Vlan => "vlan",
            Self::Sriov => "sriov",
            Self::Irq => "irq",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Io => "io",
        }
    }
}

/// The outcome of a check, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// It works.
    Ok,
    /// It could not be found out; the reason says why.
    Unknown,
    /// It works in part.
    Limited,
    /// It does not work.
    Missing,
}

impl Status {
    /// As it is shown.
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Limited => "limited",
            Self::Missing => "missing",
        }
    }
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// What kind of check; stable across versions.
    id: &'static str,
    /// The part of Berth it is about.
    area: Area,
    /// The outcome.
    status: Status,
    /// On what: an option, a device, a mount point.
    object: String,
    /// What it means for Berth; empty if `ok`.
    effect: String,
    /// What was seen.
    reason: String,
    /// What to do about it; empty if `ok`.
    remedy: String,
}

impl Check {
    /// It works; `seen` says how that is known.
    fn ok(
        id: &'static str,
        area: Area,
        object: impl Into<String>,
        seen: impl Into<String>,
    ) -> Self {
        Self {
            id,
            area,
            status: Status::Ok,
            object: object.into(),
            effect: String::new(),
            reason: seen.into(),
            remedy: String::new(),
        }
    }

    /// The same check with another outcome.
    fn but(mut self, status: Status, effect: impl Into<String>, remedy: impl Into<String>) -> Self {
        self.status = status;
        self.effect = effect.into();
        self.remedy = remedy.into();
        self
    }
}

/// The answer: stable, `schema` rises when a field changes its meaning.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema: u32,
    node: Node,
    checks: Vec<Check>,
}

/// What was looked at.
#[derive(Debug, Serialize)]
struct Node {
    /// Kernel release, as uname(2) says it; empty if unknown.
    kernel: String,
    /// `v2`, `hybrid`, `v1`, or `none`.
    cgroup: &'static str,
    /// Version of this program.
    berth: &'static str,
}

/// Runs the subcommand.
pub(crate) fn run(args: &DoctorArgs, root: &Root, out: &mut dyn Write) -> Result<ExitCode> {
    let report = report(&observe::facts(root), &args.area);
    match args.output {
        Output::Text => print::text(&report, args.verbose, out)?,
        Output::Json => print::json(&report, out)?,
    }
    Ok(exit_code(&report, args.strict))
}

fn exit_code(report: &Report, strict: bool) -> ExitCode {
    if strict && report.count(Status::Missing) > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Decides every check from what was seen; `areas` empty means all.
fn report(facts: &Facts, areas: &[Area]) -> Report {
    let mut checks = features::checks(facts);
    checks.extend(options::checks(facts));
    checks.extend(cgroups::checks(facts));
    checks.extend(devices::checks(facts));
    checks.extend(system::checks(facts));
    checks.retain(|check| areas.is_empty() || areas.contains(&check.area));
    checks.sort_by_key(|check| check.area);
    let release = facts.release.as_ref();
    Report {
        schema: 1,
        node: Node {
            kernel: release.map(ToString::to_string).unwrap_or_default(),
            cgroup: match facts.cgroup.version {
                Version::V2 => "v2",
                Version::Hybrid => "hybrid",
                Version::V1 => "v1",
                Version::Absent => "none",
            },
            berth: env!("CARGO_PKG_VERSION"),
        },
        checks,
    }
}

/// What the node cannot enforce of cores, memory, disks and IO, as the checks say it:
/// those that are missing or limited. Reads the kernel's configuration and the modules,
/// which change with a reboot only: not to be asked every few seconds.
pub(crate) fn conditions(root: &Root) -> Vec<Condition> {
    conditions_of(&observe::facts(root))
}

fn conditions_of(facts: &Facts) -> Vec<Condition> {
    let areas = [Area::Irq, Area::Cpu, Area::Memory, Area::Disk, Area::Io];
    report(facts, &areas)
        .checks
        .into_iter()
        .filter(|check| matches!(check.status, Status::Missing | Status::Limited))
        // The agent enables a controller where it needs one.
        .filter(|check| (check.id, check.status) != ("cgroup.controller", Status::Limited))
        .map(|check| Condition {
            kind: check.id.to_owned(),
            object: check.object,
            effect: check.effect,
            reason: check.reason,
            remedy: check.remedy,
        })
        .collect()
}

impl Report {
    fn count(&self, status: Status) -> usize {
        self.checks.iter().filter(|c| c.status == status).count()
    }
}
