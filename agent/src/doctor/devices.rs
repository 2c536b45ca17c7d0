//! Network cards with virtual functions, and filesystems with project quota.

use berth_kernel::mounts::{Mount, ProjectQuota};
use berth_kernel::pci::PhysicalFunction;

use super::facts::Facts;
use super::{Area, Check, Status};

/// One check for each physical function and each filesystem, or one for none.
pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let mut checks = functions(facts);
    checks.extend(mounts(facts));
    checks
}

fn functions(facts: &Facts) -> Vec<Check> {
    let none = |seen: &str| Check::ok("sriov.device", Area::Sriov, "network cards", seen);
    let functions = match &facts.functions {
        Ok(functions) => functions,
        Err(reason) => {
            return vec![none(reason).but(Status::Unknown, "VFs cannot be counted", "")];
        }
    };
    let cards: Vec<Check> = functions
        .iter()
        .filter(|f| f.is_network)
        .map(card)
        .collect();
    if !cards.is_empty() {
        return cards;
    }
    vec![none("no network card that offers SR-IOV").but(
        Status::Missing,
        "no virtual functions; containers on bridges work",
        "use a card with SR-IOV; switch on SR-IOV and the IOMMU in the firmware's setup",
    )]
}

fn card(function: &PhysicalFunction) -> Check {
    let (address, total, made) = (function.address, function.total_vfs, function.num_vfs);
    let names = function
        .netdevs
        .iter()
        .map(|name| format!(" {}", name.as_str()));
    let object = format!("{address}{}", names.collect::<String>());
    let check = |seen: &str| Check::ok("sriov.device", Area::Sriov, object, seen);
    let (seen, remedy) = if function.driver.is_none() {
        let load = format!("modprobe $(cat /sys/bus/pci/devices/{address}/modalias)");
        ("no driver is bound to it".to_owned(), load)
    } else if total == 0 {
        let setup = "switch on SR-IOV for this card in the firmware's setup".to_owned();
        ("its firmware offers 0 VFs".to_owned(), setup)
    } else if made == 0 {
        let make = format!("berth bootstrap vfs {address}={total}");
        (format!("0 of {total} VFs are made"), make)
    } else {
        return check(&format!("{made} of {total} VFs are made"));
    };
    check(&seen).but(
        Status::Limited,
        "no virtual functions of this card yet",
        remedy,
    )
}

fn mounts(facts: &Facts) -> Vec<Check> {
    let all = |seen: &str| Check::ok("disk.quota", Area::Disk, "filesystems", seen);
    let mounts = match &facts.mounts {
        Ok(mounts) => mounts,
        Err(reason) => {
            return vec![all(reason).but(Status::Unknown, "disk limits cannot be judged", "")];
        }
    };
    let could = |m: &&Mount| m.project_quota != ProjectQuota::Unsupported && !m.read_only;
    let mut checks: Vec<Check> = mounts.iter().filter(could).map(mount).collect();
    if checks.iter().all(|check| check.status != Status::Ok) {
        checks.push(all("no mounted filesystem enforces project quota").but(
            Status::Missing,
            "no disk limits",
            "put workload data on xfs or ext4 mounted with prjquota",
        ));
    }
    checks
}

fn mount(mount: &Mount) -> Check {
    let (kind, point) = (&mount.fs_type, mount.point.display().to_string());
    let source = mount.source.as_deref().unwrap_or("no device");
    let is_root = point == "/";
    let check = |seen: &str| {
        let seen = format!("{kind} on {source}: {seen}");
        Check::ok("disk.quota", Area::Disk, point, seen)
    };
    let Some((reason, remedy)) = mount.project_quota.why_not() else {
        return check("project quota enforced");
    };
    let remedy = match mount.project_quota {
        ProjectQuota::OffExt4 if is_root => format!(
            "from a rescue system tune2fs -O project,quota {source}, then boot with \
             rootflags=prjquota"
        ),
        _ => remedy.to_owned(),
    };
    check(reason).but(Status::Limited, "no disk limits on this filesystem", remedy)
}
