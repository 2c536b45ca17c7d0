//! Filesystems on disks: size, use, quota, and what their device can do.

use std::path::Path;

use berth_kernel::block::Device;
use berth_kernel::mounts::{self, Mount};
use berth_kernel::{DeviceNumber, Root};
use nix::sys::statvfs::statvfs;

use super::inventory::DiskCapability;
use super::ledger::IoRate;
use super::{Condition, or_condition};

/// A mounted filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Disk {
    /// The mount and its quota.
    pub(crate) mount: Mount,
    /// The filesystem's device.
    pub(crate) filesystem: DeviceNumber,
    /// The device that takes IO limits: the disk of a partition.
    pub(crate) device: DeviceNumber,
    /// Bytes in all.
    pub(crate) size_bytes: u64,
    /// Bytes in use, by whomever.
    pub(crate) used_bytes: u64,
    /// What its device is configured to be capable of.
    pub(crate) capability: IoRate,
    /// Whether shares by weight are configured for it.
    pub(crate) iocost: bool,
    /// How much of its size may be promised, in percent.
    pub(crate) overcommit_percent: u64,
}

impl Disk {
    /// Bytes that may be promised: its size, or what the configuration makes of it.
    pub(crate) fn committable_bytes(&self) -> u64 {
        let bytes = u128::from(self.size_bytes) * u128::from(self.overcommit_percent) / 100;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// The filesystems that can be written to, by mount point.
pub(super) fn read(
    root: &Root,
    capabilities: &[DiskCapability],
    conditions: &mut Vec<Condition>,
) -> Vec<Disk> {
    let mounts = or_condition("filesystems", mounts::on_disk(root), conditions);
    let mut disks = Vec::new();
    let writable = mounts
        .unwrap_or_default()
        .into_iter()
        .filter(|m| !m.read_only);
    for mount in writable {
        let object = format!("filesystem {}", mount.point.display());
        let number = mount.device.parse::<DeviceNumber>();
        let Some(filesystem) = or_condition(&object, number, conditions) else {
            continue;
        };
        let Some((size_bytes, used_bytes)) = or_condition(&object, usage(&mount.point), conditions)
        else {
            continue;
        };
        disks.push(Disk {
            mount,
            filesystem,
            device: limited(root, filesystem),
            size_bytes,
            used_bytes,
            capability: IoRate::default(),
            iocost: false,
            overcommit_percent: 100,
        });
    }
    for capability in capabilities {
        apply(capability, &mut disks, conditions);
    }
    disks
}

/// Size and use in bytes (statvfs(3)).
fn usage(point: &Path) -> nix::Result<(u64, u64)> {
    let stat = statvfs(point)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
    let used = stat.blocks().saturating_sub(stat.blocks_free());
    Ok((bytes(stat.blocks()), bytes(used)))
}

/// The device that takes its limits: where the filesystem is on no device of its own
/// (btrfs), none does, and its own number stands for it.
fn limited(root: &Root, filesystem: DeviceNumber) -> DeviceNumber {
    let device = Device::open(root, filesystem).and_then(|device| device.io_max_device(root));
    device.map_or(filesystem, |device| device.number)
}

/// A configured capability is that of the device its path is on, and so of every
/// filesystem there.
fn apply(capability: &DiskCapability, disks: &mut [Disk], conditions: &mut Vec<Condition>) {
    let holds = |disk: &&Disk| capability.path.starts_with(&disk.mount.point);
    let deepest = |disk: &&Disk| disk.mount.point.components().count();
    let found = disks.iter().filter(holds).max_by_key(deepest);
    let found = found.map(|disk| (disk.device, disk.filesystem));
    let Some((device, filesystem)) = found else {
        conditions.push(Condition {
            kind: "disk.capability".to_owned(),
            object: capability.path.display().to_string(),
            effect: "its configured capability is not used".to_owned(),
            reason: "no writable filesystem on a disk holds this path".to_owned(),
            remedy: "name a directory on the disk in agent.toml, and mount the disk".to_owned(),
        });
        return;
    };
    for disk in disks.iter_mut().filter(|disk| disk.device == device) {
        disk.capability = capability.rate;
        disk.iocost = capability.iocost;
        if disk.filesystem == filesystem {
            disk.overcommit_percent = capability.overcommit_percent;
        }
    }
}

/// Why shares by weight are not possible, and what to do; `None` where they are. The
/// root cgroup has `io.cost.qos` where the kernel has iocost
/// (Documentation/admin-guide/cgroup-v2.rst, "IO").
pub(super) fn weights_why_not(root: &Root, disk: &Disk) -> Option<(String, String)> {
    if !root.cgroup.join("io.cost.qos").exists() {
        return Some((
            "the root cgroup has no io.cost.qos".to_owned(),
            "boot a kernel with CONFIG_BLK_CGROUP_IOCOST and cgroup version 2".to_owned(),
        ));
    }
    if !disk.iocost {
        return Some((
            "iocost is not configured for this disk".to_owned(),
            format!(
                "set iocost = true with the disk's capability in agent.toml for a path on {}",
                disk.mount.point.display()
            ),
        ));
    }
    None
}
