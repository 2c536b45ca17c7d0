//! The capacity report: its form is that of `docs/capacity.schema.json`. Fields may be
//! added; none changes its meaning without a new `schema`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use berth_kernel::meminfo::NodeMemory;
use berth_kernel::{CpuSet, DeviceNumber, IfName, PciAddr};
use serde::{Deserialize, Serialize};

use super::addresses::Addresses;
use super::disks;
use super::ledger::{Bookings, Totals};
use super::{Condition, Inventory};
use crate::vf::survey::State;

/// The form's version.
const SCHEMA: u32 = 1;

/// What the node has, what is promised, what is left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Capacity {
    pub(crate) schema: u32,
    pub(crate) generation: u64,
    pub(crate) observed_at_unix_ms: u64,
    pub(crate) node: Node,
    pub(crate) cpu: Cpu,
    pub(crate) memory: Memory,
    pub(crate) nics: Vec<Nic>,
    pub(crate) bridges: Vec<Bridge>,
    pub(crate) networks: Vec<Network>,
    pub(crate) disks: Vec<Disk>,
    pub(crate) conditions: Vec<Condition>,
}

/// Who the node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) hostname: String,
    pub(crate) id: Option<String>,
    pub(crate) boot_id: Option<String>,
    pub(crate) kernel: Option<String>,
    pub(crate) berth: String,
    pub(crate) zone: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cpu {
    pub(crate) shared_committed_cpus: u64,
    pub(crate) nodes: Vec<CpuNumbers>,
}

/// The CPUs of one NUMA node; the allocator knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CpuNumbers {
    pub(crate) node: u32,
    /// Physical cores with a CPU that runs, and the CPUs that run.
    pub(crate) cores_total: u32,
    pub(crate) cpus: CpuSet,
    pub(crate) cores_reserved: u32,
    pub(crate) reserved: CpuSet,
    /// Cores of which a CPU belongs to a workload alone, and those CPUs.
    pub(crate) cores_exclusive: u32,
    pub(crate) exclusive: CpuSet,
    /// Whole cores the allocator would still give away.
    pub(crate) cores_exclusive_free: u32,
    /// The most of them that share a last-level cache.
    pub(crate) largest_hole_cores: u32,
    pub(crate) shared_pool: CpuSet,
    pub(crate) offline: CpuSet,
}

/// Memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    pub(crate) total_bytes: u64,
    pub(crate) reserved_bytes: u64,
    pub(crate) committed_bytes: u64,
    pub(crate) free_bytes: u64,
    pub(crate) nodes: Vec<MemoryNode>,
}

/// Memory of one NUMA node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemoryNode {
    pub(crate) node: u32,
    pub(crate) total_bytes: u64,
    pub(crate) committed_bytes: u64,
    pub(crate) free_bytes: u64,
    pub(crate) unused_bytes: u64,
    pub(crate) huge_pages: Vec<HugePages>,
}

/// Huge pages of one size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HugePages {
    pub(crate) page_bytes: u64,
    pub(crate) total_pages: u64,
    pub(crate) committed_pages: u64,
    pub(crate) free_pages: u64,
}

/// A network card, or a physical function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Nic {
    pub(crate) name: Option<IfName>,
    pub(crate) address: Option<PciAddr>,
    pub(crate) driver: Option<String>,
    pub(crate) numa_node: Option<u32>,
    pub(crate) speed_mbit_per_sec: Option<u64>,
    pub(crate) up: bool,
    pub(crate) carrier: bool,
    pub(crate) vfs_max: u64,
    pub(crate) rate_committed: RateCommitted,
    pub(crate) vfs: Vec<NicVf>,
}

/// Transmit rates of the VFs that belong to attachments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RateCommitted {
    pub(crate) min_mbit_per_sec: u64,
    pub(crate) max_mbit_per_sec: u64,
    pub(crate) vfs_without_limit: u64,
}

/// A virtual function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NicVf {
    pub(crate) address: PciAddr,
    pub(crate) index: u32,
    pub(crate) numa_node: Option<u32>,
    pub(crate) driver: Option<String>,
    pub(crate) queues: Option<u64>,
    pub(crate) state: State,
    pub(crate) reasons: Vec<String>,
    pub(crate) owner: Option<String>,
    pub(crate) rate_min_mbit_per_sec: Option<u64>,
    pub(crate) rate_max_mbit_per_sec: Option<u64>,
}

/// A bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bridge {
    pub(crate) name: IfName,
    pub(crate) ours: bool,
    pub(crate) up: bool,
    pub(crate) uplink: Option<IfName>,
    pub(crate) vlan_filtering: bool,
    pub(crate) vlans: Vec<VlanUse>,
    pub(crate) uplink_vlans: Vec<u16>,
    pub(crate) ports_used: u64,
    pub(crate) ports_max: u64,
    pub(crate) ports_free: u64,
}

/// A VLAN of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VlanUse {
    pub(crate) id: u16,
    pub(crate) attachments: u64,
}

/// A network that has attachments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network {
    pub(crate) name: String,
    pub(crate) kind: NetworkKind,
    pub(crate) bridge: Option<IfName>,
    pub(crate) attachments: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) addresses: Option<Addresses>,
}

/// What a network is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NetworkKind {
    Bridge,
    Sriov,
}

/// A filesystem on a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Disk {
    pub(crate) mount: PathBuf,
    pub(crate) source: Option<String>,
    pub(crate) filesystem: DeviceNumber,
    pub(crate) fs_type: String,
    pub(crate) size_bytes: u64,
    pub(crate) used_bytes: u64,
    pub(crate) committable_bytes: u64,
    pub(crate) committed_bytes: u64,
    pub(crate) free_bytes: u64,
    pub(crate) quota: Able,
    pub(crate) io: DiskIo,
}

/// Whether the node can do something; if not, why and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Able {
    pub(crate) enforced: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

/// IO of the device a filesystem is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiskIo {
    pub(crate) device: DeviceNumber,
    pub(crate) read_bytes_per_sec: Option<u64>,
    pub(crate) write_bytes_per_sec: Option<u64>,
    pub(crate) committed_read_bytes_per_sec: u64,
    pub(crate) committed_write_bytes_per_sec: u64,
    pub(crate) weights: Able,
}

/// What is not read from the node's files.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    /// The generation the promises belong to.
    pub(crate) generation: u64,
    /// When the inventory was read, in milliseconds since 1970.
    pub(crate) observed_at_unix_ms: u64,
    /// The allocator's numbers, per NUMA node.
    pub(crate) cpus: Vec<CpuNumbers>,
    /// What else is not as it should be: doctor's conditions, rivals, the engine's own.
    pub(crate) conditions: &'a [Condition],
}

/// Puts the report together.
pub(crate) fn report(inventory: &Inventory, bookings: &Bookings, known: Known<'_>) -> Capacity {
    let totals = inventory.totals();
    let identity = inventory.identity.clone();
    let conditions = inventory.conditions.iter().chain(known.conditions);
    Capacity {
        schema: SCHEMA,
        generation: known.generation,
        observed_at_unix_ms: known.observed_at_unix_ms,
        node: Node {
            hostname: identity.hostname,
            id: identity.id,
            boot_id: identity.boot_id,
            kernel: identity.kernel,
            berth: env!("CARGO_PKG_VERSION").to_owned(),
            zone: inventory.zone.clone(),
            labels: inventory.labels.clone(),
        },
        cpu: Cpu {
            shared_committed_cpus: bookings.shared_cpus(),
            nodes: known.cpus,
        },
        memory: memory(inventory, bookings, &totals),
        nics: inventory.network.nics.clone(),
        bridges: inventory.network.bridges.clone(),
        networks: inventory.network.networks.clone(),
        disks: inventory
            .disks
            .iter()
            .zip(&inventory.weights_why_not)
            .map(|(seen, why_not)| disk(seen, why_not.as_ref(), bookings))
            .collect(),
        conditions: conditions.cloned().collect(),
    }
}

fn memory(inventory: &Inventory, bookings: &Bookings, totals: &Totals) -> Memory {
    let node = |seen: &NodeMemory| {
        let own = CpuSet::from_iter([seen.node]);
        MemoryNode {
            node: seen.node,
            total_bytes: totals.memory.get(&seen.node).copied().unwrap_or_default(),
            committed_bytes: bookings.memory_within(&own),
            free_bytes: totals.memory_left(bookings, &own),
            unused_bytes: seen.free_bytes,
            huge_pages: seen.huge_pages.iter().map(huge_pages).collect(),
        }
    };
    Memory {
        total_bytes: totals.memory.values().sum(),
        reserved_bytes: totals.reserved_memory,
        committed_bytes: bookings.memory_bytes(),
        free_bytes: totals.memory_left(bookings, &CpuSet::new()),
        nodes: inventory.memory.iter().map(node).collect(),
    }
}

fn huge_pages(pool: &berth_kernel::meminfo::HugePages) -> HugePages {
    HugePages {
        page_bytes: pool.page_bytes,
        total_pages: pool.total,
        committed_pages: pool.total.saturating_sub(pool.free),
        free_pages: pool.free,
    }
}

fn disk(seen: &disks::Disk, no_weights: Option<&(String, String)>, bookings: &Bookings) -> Disk {
    let committed = bookings.disk_bytes(seen.filesystem);
    let (read, write) = bookings.io_rate(seen.device);
    Disk {
        mount: seen.mount.point.clone(),
        source: seen.mount.source.clone(),
        filesystem: seen.filesystem,
        fs_type: seen.mount.fs_type.clone(),
        size_bytes: seen.size_bytes,
        used_bytes: seen.used_bytes,
        committable_bytes: seen.committable_bytes(),
        committed_bytes: committed,
        free_bytes: seen.committable_bytes().saturating_sub(committed),
        quota: able(seen.mount.project_quota.why_not()),
        io: DiskIo {
            device: seen.device,
            read_bytes_per_sec: seen.capability.read,
            write_bytes_per_sec: seen.capability.write,
            committed_read_bytes_per_sec: read,
            committed_write_bytes_per_sec: write,
            weights: able(no_weights.map(|(why, remedy)| (why.as_str(), remedy.as_str()))),
        },
    }
}

fn able(why_not: Option<(&str, &str)>) -> Able {
    Able {
        enforced: why_not.is_none(),
        reason: why_not.map(|(reason, _remedy)| reason.to_owned()),
        remedy: why_not.map(|(_reason, remedy)| remedy.to_owned()),
    }
}

#[cfg(test)]
mod tests;
