//! Control groups: the version, the controllers, pressure readings.

use std::collections::BTreeSet;

use berth_kernel::cgroup::Version;

use super::facts::{Facts, Seen};
use super::{Area, Check, Status};

/// A controller and what Berth does with it.
const CONTROLLERS: &[(&str, Area, &str)] = &[
    ("cpuset", Area::Cpu, "no exclusive cores"),
    ("cpu", Area::Cpu, "no CPU usage per workload"),
    ("memory", Area::Memory, "no memory limits"),
    ("io", Area::Io, "no IO limits and shares"),
];

/// The version; on version 2 also the controllers and pressure.
pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let cgroup = &facts.cgroup;
    let mut checks = vec![version(cgroup.version)];
    if cgroup.version == Version::V2 {
        for (name, area, without) in CONTROLLERS {
            let check = Check::ok("cgroup.controller", *area, *name, "enabled below the root");
            checks.push(controller(
                check,
                without,
                &cgroup.controllers,
                &cgroup.delegated,
            ));
        }
    }
    checks.push(pressure(cgroup.pressure));
    checks
}

fn version(version: Version) -> Check {
    let check = |seen: &str| Check::ok("cgroup.version", Area::Cpu, "cgroup", seen);
    let seen = match version {
        Version::V2 => return check("version 2"),
        Version::Hybrid => "hybrid: the controllers are in version 1",
        Version::V1 => "version 1",
        Version::Absent => "no hierarchy is mounted",
    };
    check(seen).but(
        Status::Missing,
        "no cores, memory or IO for workloads; attachments work",
        "boot with systemd.unified_cgroup_hierarchy=1 and mount no version 1 hierarchy",
    )
}

fn controller(
    check: Check,
    without: &str,
    available: &Seen<BTreeSet<String>>,
    delegated: &Seen<BTreeSet<String>>,
) -> Check {
    let name = check.object.clone();
    let (available, delegated) = match (available, delegated) {
        (Ok(available), Ok(delegated)) => (available, delegated),
        (Err(reason), _) | (_, Err(reason)) => {
            return Check {
                reason: reason.clone(),
                ..check.but(Status::Unknown, without, "")
            };
        }
    };
    if !available.contains(&name) {
        return Check {
            reason: "not in cgroup.controllers of the root".into(),
            ..check.but(
                Status::Missing,
                without,
                format!("boot without cgroup_disable={name}, with a kernel that has it, and unmount version 1 hierarchies that hold it"),
            )
        };
    }
    if !delegated.contains(&name) {
        return Check {
            reason: "not in cgroup.subtree_control of the root".into(),
            ..check.but(
                Status::Limited,
                format!("{without} until it is enabled"),
                format!("echo +{name} > /sys/fs/cgroup/cgroup.subtree_control"),
            )
        };
    }
    check
}

fn pressure(there: bool) -> Check {
    let check = Check::ok(
        "kernel.pressure",
        Area::Memory,
        "pressure readings",
        "/proc/pressure",
    );
    if there {
        return check;
    }
    Check {
        reason: "/proc/pressure is not there".into(),
        ..check.but(
            Status::Limited,
            "memory is shrunk without watching pressure",
            "boot with psi=1, on a kernel with CONFIG_PSI",
        )
    }
}
