//! What the node has, read live: cheap enough for every few seconds, and never a failure
//! as a whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use berth_kernel::meminfo::{self, NodeMemory};
use berth_kernel::{Release, Root};
use berth_state::boot;
use sha2::{Digest, Sha256};

use super::disks::{self, Disk};
use super::ledger::{DiskTotal, IoRate, Totals};
use super::network;
use super::{Condition, or_condition};
#[cfg(test)]
use crate::vf::survey::State as VfState;
#[cfg(test)]
use berth_kernel::PciAddr;

/// What the configuration says about the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The failure domain it is in.
    pub(crate) zone: Option<String>,
    /// Free labels, such as `module`.
    pub(crate) labels: BTreeMap<String, String>,
    /// Bytes of memory kept for the node itself.
    pub(crate) reserved_memory_bytes: u64,
    /// What disks can do.
    pub(crate) disks: Vec<DiskCapability>,
}

/// What a disk is configured to be capable of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DiskCapability {
    /// A directory on it.
    pub(crate) path: PathBuf,
    /// Bytes per second.
    pub(crate) rate: IoRate,
    /// Whether shares by weight are enforced on it.
    pub(crate) iocost: bool,
    /// How much of the size of the filesystem `path` is on quotas may promise, in percent.
    pub(crate) overcommit_percent: u64,
}

/// Who the node is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `kernel.hostname`.
    pub(crate) hostname: String,
    /// A name that stays when the host name changes, of the machine id.
    pub(crate) id: Option<String>,
    /// This boot's id.
    pub(crate) boot_id: Option<String>,
    /// Kernel release, as uname(2) says it.
    pub(crate) kernel: Option<String>,
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Inventory {
    pub(super) identity: Identity,
    pub(super) zone: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) reserved_memory_bytes: u64,
    pub(super) memory: Vec<NodeMemory>,
    pub(super) network: network::Seen,
    pub(super) disks: Vec<Disk>,
    /// Per disk, in order: why shares by weight are not possible, and what to do.
    pub(super) weights_why_not: Vec<Option<(String, String)>>,
    /// Which parts could not be read.
    pub(super) conditions: Vec<Condition>,
}

impl Inventory {
    /// Reads the node. What cannot be read is lacking and has a condition.
    pub(crate) fn read(root: &Root, settings: &Settings) -> Self {
        let mut conditions = Vec::new();
        let memory = or_condition("memory", meminfo::nodes(root), &mut conditions);
        let disks = disks::read(root, &settings.disks, &mut conditions);
        Self {
            identity: identity(root, &mut conditions),
            zone: settings.zone.clone(),
            labels: settings.labels.clone(),
            reserved_memory_bytes: settings.reserved_memory_bytes,
            memory: memory.unwrap_or_default(),
            network: network::read(root, &mut conditions),
            weights_why_not: disks
                .iter()
                .map(|disk| disks::weights_why_not(root, disk))
                .collect(),
            disks,
            conditions,
        }
    }

    /// A node with one card and these virtual functions.
    #[cfg(test)]
    pub(crate) fn of_vfs(vfs: impl Iterator<Item = (PciAddr, VfState)>) -> Self {
        let vf = |(address, state): (PciAddr, VfState)| serde_json::json!({"address": address, "index": 0, "state": state, "reasons": []});
        let nic = serde_json::json!({
            "up": true, "carrier": true, "vfs_max": 7, "vfs": vfs.map(vf).collect::<Vec<_>>(),
            "rate_committed":
                {"min_mbit_per_sec": 0, "max_mbit_per_sec": 0, "vfs_without_limit": 0},
        });
        let nics = vec![serde_json::from_value(nic).unwrap()];
        Self {
            network: network::Seen {
                nics,
                ..network::Seen::default()
            },
            ..Self::default()
        }
    }

    /// The state of every virtual function, in order of cards.
    pub(crate) fn vf_states(&self) -> Vec<String> {
        let vfs = self.network.nics.iter().flat_map(|nic| &nic.vfs);
        vfs.map(|vf| format!("{} {:?}", vf.address, vf.state))
            .collect()
    }

    /// What of it can be promised. Huge pages are no part of memory: nobody gets them by
    /// a memory limit.
    pub(crate) fn totals(&self) -> Totals {
        let plain = |node: &NodeMemory| {
            let huge = node.huge_pages.iter().map(|pool| pool.bytes()).sum();
            (node.node, node.total_bytes.saturating_sub(huge))
        };
        let of_disk = |disk: &Disk| DiskTotal {
            mount: disk.mount.point.clone(),
            bytes: disk.committable_bytes(),
        };
        Totals {
            memory: self.memory.iter().map(plain).collect(),
            reserved_memory: self.reserved_memory_bytes,
            disk: self
                .disks
                .iter()
                .map(|disk| (disk.filesystem, of_disk(disk)))
                .collect(),
            io: self
                .disks
                .iter()
                .map(|disk| (disk.device, disk.capability))
                .collect(),
        }
    }
}

fn identity(root: &Root, conditions: &mut Vec<Condition>) -> Identity {
    let hostname = root.proc.join("sys/kernel/hostname");
    let hostname = or_condition("host name", fs::read_to_string(hostname), conditions);
    let release = or_condition("kernel release", Release::running(root), conditions);
    Identity {
        hostname: hostname.unwrap_or_default().trim().to_owned(),
        id: machine(root),
        boot_id: or_condition("boot id", boot::boot_id(root), conditions),
        kernel: release.map(|release| release.to_string()),
    }
}

/// machine-id(5) asks not to show the machine id itself: 32 hexadecimal digits of the
/// SHA-256 of `berth node` and the id. `None` on a node without one.
fn machine(root: &Root) -> Option<String> {
    let id = fs::read_to_string(root.etc.join("machine-id")).ok()?;
    let id = id.trim();
    if id.is_empty() || id == "uninitialized" {
        return None;
    }
    let digest: [u8; 32] = Sha256::digest(format!("berth node {id}")).into();
    let short = digest.iter().take(16);
    Some(short.map(|byte| format!("{byte:02x}")).collect())
}
