//! What is promised to workloads, and whether one more promise fits: memory, disk and
//! IO. CPUs are placed by the allocator; here they are only written down. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use berth_kernel::{CpuSet, DeviceNumber};

use crate::refusal::Missing;
use crate::spec::WorkloadId;

/// Memory promised to a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemoryBooking {
    /// Its `memory.max`.
    pub(crate) bytes: u64,
    /// The NUMA nodes it must come from; empty: any.
    pub(crate) nodes: CpuSet,
}

/// Bytes per second of a device; `None`: not limited, or not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct IoRate {
    /// Read.
    pub(crate) read: Option<u64>,
    /// Written.
    pub(crate) write: Option<u64>,
}

/// What one workload is promised.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Booking {
    /// Logical CPUs it was promised of the shared pool.
    pub(crate) shared_cpus: u32,
    /// Memory.
    pub(crate) memory: Option<MemoryBooking>,
    /// Bytes on each filesystem: the sum of its directories' limits there.
    pub(crate) disk: BTreeMap<DeviceNumber, u64>,
    /// Bytes per second of each device that takes limits: limits, or its share of the
    /// capability. Weights are not booked: they promise a proportion.
    pub(crate) io: BTreeMap<DeviceNumber, IoRate>,
}

/// What all workloads are promised.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bookings(BTreeMap<WorkloadId, Booking>);

impl Bookings {
    /// Writes a promise down; an earlier one of the same workload is replaced.
    pub(crate) fn book(&mut self, id: WorkloadId, booking: Booking) {
        self.0.insert(id, booking);
    }

    /// Strikes a workload's promise.
    pub(crate) fn release(&mut self, id: &WorkloadId) -> Option<Booking> {
        self.0.remove(id)
    }

    /// All but this workload's: against these its own next wish is judged.
    #[must_use]
    pub(crate) fn without(&self, id: &WorkloadId) -> Self {
        let mut others = self.clone();
        others.release(id);
        others
    }

    fn values(&self) -> impl Iterator<Item = &Booking> {
        self.0.values()
    }

    /// Bytes of memory promised.
    pub(crate) fn memory_bytes(&self) -> u64 {
        sum(self.memories().map(|memory| memory.bytes))
    }

    /// Bytes of memory promised from within `nodes`.
    pub(crate) fn memory_within(&self, nodes: &CpuSet) -> u64 {
        let inside = |m: &&MemoryBooking| !m.nodes.is_empty() && m.nodes.is_subset(nodes);
        sum(self.memories().filter(inside).map(|memory| memory.bytes))
    }

    fn memories(&self) -> impl Iterator<Item = &MemoryBooking> {
        self.values().filter_map(|booking| booking.memory.as_ref())
    }

    /// Bytes promised on a filesystem.
    pub(crate) fn disk_bytes(&self, filesystem: DeviceNumber) -> u64 {
        sum(self
            .values()
            .filter_map(|booking| booking.disk.get(&filesystem).copied()))
    }

    /// Bytes per second promised of a device; 0 where nothing is.
    pub(crate) fn io_rate(&self, device: DeviceNumber) -> (u64, u64) {
        let rates = || self.values().filter_map(|booking| booking.io.get(&device));
        (
            sum(rates().filter_map(|rate| rate.read)),
            sum(rates().filter_map(|rate| rate.write)),
        )
    }

    /// Logical CPUs promised of the shared pool.
    pub(crate) fn shared_cpus(&self) -> u64 {
        sum(self.values().map(|booking| u64::from(booking.shared_cpus)))
    }
}

fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

/// A filesystem limits are promised on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DiskTotal {
    /// Where it is mounted.
    pub(crate) mount: PathBuf,
    /// Its size in bytes.
    pub(crate) bytes: u64,
}

/// What there is to promise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Bytes of memory of each NUMA node, without huge pages.
    pub(crate) memory: BTreeMap<u32, u64>,
    /// Bytes of memory kept for the node itself.
    pub(crate) reserved_memory: u64,
    /// Filesystems.
    pub(crate) disk: BTreeMap<DeviceNumber, DiskTotal>,
    /// What devices are configured to be capable of.
    pub(crate) io: BTreeMap<DeviceNumber, IoRate>,
}

impl Totals {
    /// Bytes of memory that can be promised in all.
    pub(crate) fn memory_bytes(&self) -> u64 {
        sum(self.memory.values().copied()).saturating_sub(self.reserved_memory)
    }

    /// Bytes of memory that can still be promised; from all nodes, or from within
    /// `nodes`. Whoever has several nodes to choose from goes to those that are left: a
    /// promise holds if no set of nodes is asked for more than it has (Hall's theorem).
    pub(crate) fn memory_left(&self, others: &Bookings, nodes: &CpuSet) -> u64 {
        let whole = self.memory_bytes().saturating_sub(others.memory_bytes());
        if nodes.is_empty() {
            return whole;
        }
        let around = |set: &CpuSet| nodes.is_subset(set);
        self.groups(others)
            .iter()
            .map(|group| group.union(nodes))
            .filter(around)
            .map(|group| {
                self.within(&group)
                    .saturating_sub(others.memory_within(&group))
            })
            .fold(whole, u64::min)
    }

    fn within(&self, nodes: &CpuSet) -> u64 {
        let inside = |(node, _): &(&u32, &u64)| nodes.contains(**node);
        sum(self.memory.iter().filter(inside).map(|(_, bytes)| *bytes))
    }

    /// Every union of node sets that workloads are bound to, and the empty one: only
    /// there a set of nodes can be short.
    fn groups(&self, others: &Bookings) -> BTreeSet<CpuSet> {
        let mut groups = BTreeSet::from([CpuSet::new()]);
        let bound: BTreeSet<&CpuSet> = others.memories().map(|m| &m.nodes).collect();
        for nodes in bound.into_iter().filter(|nodes| !nodes.is_empty()) {
            let wider: Vec<CpuSet> = groups.iter().map(|group| group.union(nodes)).collect();
            groups.extend(wider);
        }
        groups
    }
}

/// Whether `ask` fits beside `others`, which must not hold an earlier promise of the
/// same workload. Disks: the sum of limits never exceeds a filesystem's size. IO: the
/// sum of limits never exceeds a device's configured capability; a device without one
/// is not judged.
///
/// # Errors
/// Everything that is lacking.
pub(crate) fn fits(totals: &Totals, others: &Bookings, ask: &Booking) -> Result<(), Vec<Missing>> {
    let mut missing = Vec::new();
    let mut need = |what: String, asked: u64, available: u64| {
        if asked > available {
            missing.push(Missing {
                what,
                asked,
                available,
            });
        }
    };
    if let Some(memory) = &ask.memory {
        let left = totals.memory_left(others, &memory.nodes);
        need(memory_name(&memory.nodes), memory.bytes, left);
    }
    for (filesystem, asked) in &ask.disk {
        let (what, size) = match totals.disk.get(filesystem) {
            Some(disk) => (format!("bytes on {}", disk.mount.display()), disk.bytes),
            None => (format!("bytes on filesystem {filesystem}"), 0),
        };
        let left = size.saturating_sub(others.disk_bytes(*filesystem));
        need(what, *asked, left);
    }
    for (device, asked) in &ask.io {
        let Some(capability) = totals.io.get(device) else {
            continue;
        };
        let (read, write) = others.io_rate(*device);
        for (way, asked, capable, taken) in [
            ("read", asked.read, capability.read, read),
            ("written", asked.write, capability.write, write),
        ] {
            if let (Some(asked), Some(capable)) = (asked, capable) {
                let what = format!("bytes {way} per second of device {device}");
                need(what, asked, capable.saturating_sub(taken));
            }
        }
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(missing)
    }
}

fn memory_name(nodes: &CpuSet) -> String {
    match nodes.len() {
        0 => "memory bytes".to_owned(),
        1 => format!("memory bytes on NUMA node {nodes}"),
        _ => format!("memory bytes on NUMA nodes {nodes}"),
    }
}

#[cfg(test)]
mod tests;
