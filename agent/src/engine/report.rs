//! What is booked, and the capacity report of it.

use std::time::{SystemTime, UNIX_EPOCH};

use berth_kernel::CpuSet;

use super::node::Node;
use super::{Engine, Records, booked};
use crate::capacity::{
    self, Booking, Bookings, Capacity, CpuNumbers, IoRate, Known, MemoryBooking,
};
use crate::policy;
use crate::policy::cpu::{self, Machine, NodeFree};
use crate::refusal::{Code, Refusal};
use crate::spec::{MemoryNuma, Spec};
use crate::store::Record;

impl<N: Node> Engine<N> {
    /// What all workloads together are promised, also those that are not there.
    pub(super) fn bookings(&mut self, records: &Records) -> Bookings {
        let mut bookings = Bookings::default();
        for (id, record) in records {
            let mut booking = self.booking(&record.spec);
            if let (Some(memory), false) = (&mut booking.memory, record.nodes.is_empty()) {
                memory.nodes = bound_nodes(record);
            }
            bookings.book(id.clone(), booking);
        }
        bookings
    }

    /// What a spec books besides exclusive CPUs, which are the allocator's.
    fn booking(&mut self, spec: &Spec) -> Booking {
        let mut booking = Booking {
            shared_cpus: spec
                .cpu
                .as_ref()
                .map_or(0, |wish| cpu::shared_cpus(&self.machine, wish)),
            memory: spec.memory.as_ref().map(|memory| MemoryBooking {
                bytes: memory.max_bytes,
                nodes: CpuSet::new(),
            }),
            ..Booking::default()
        };
        for disk in &spec.disk {
            if let Ok(on) = self.node.disk(&disk.path) {
                *booking.disk.entry(on.filesystem).or_default() += disk.limit_bytes;
            }
        }
        for io in &spec.io {
            let Ok(on) = self.node.disk(&io.path) else {
                continue;
            };
            if let Some((read, write)) = policy::io::limits(io, on.capability.as_ref()) {
                booking.io.insert(on.limits, IoRate { read, write });
            }
        }
        booking
    }

    /// Refuses a spec whose memory, disk or IO does not fit beside the others'.
    pub(super) fn refuse_overbooking(
        &mut self,
        spec: &Spec,
        nodes: &CpuSet,
    ) -> Result<(), Refusal> {
        let records = self.records().clone();
        let others = self.bookings(&records).without(&spec.id);
        let mut ask = self.booking(spec);
        if let (Some(memory), Some(wish)) = (&mut ask.memory, &spec.memory)
            && wish.numa == MemoryNuma::Bind
        {
            memory.nodes = nodes.clone();
        }
        let named: Vec<(String, String)> = spec
            .io
            .iter()
            .filter_map(|io| {
                let device = self.node.disk(&io.path).ok()?.limits;
                let path = io.path.display();
                Some((format!("device {device}"), format!("the disk of {path}")))
            })
            .collect();
        let fit = capacity::fits(&self.node.totals(&self.inventory), &others, &ask);
        fit.map_err(|mut missing| {
            for lack in &mut missing {
                for (device, path) in &named {
                    lack.what = lack.what.replace(device.as_str(), path);
                }
            }
            let lacks = missing.iter().map(|lack| {
                format!(
                    "{}: {} asked for, {} left",
                    lack.what, lack.asked, lack.available
                )
            });
            Refusal::new(
                Code::DoesNotFit,
                format!("workload {}", spec.id),
                "book what it wishes for",
                lacks.collect::<Vec<_>>().join("; "),
                "wish for less, or delete or shrink another workload; berth capacity shows what \
                 is left",
            )
            .lacking(missing)
        })
    }

    /// The report, of what was read in the last pass and is booked now.
    pub(super) fn capacity(&mut self) -> Capacity {
        let records = self.records().clone();
        let bookings = self.bookings(&records);
        let mut conditions = self.conditions();
        conditions.extend(self.lacks.iter().cloned());
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let known = Known {
            generation: self.store.generation(),
            observed_at_unix_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            cpus: cpu_numbers(&self.machine, &records),
            conditions: &conditions,
        };
        capacity::report(&self.inventory, &bookings, known)
    }
}

/// The nodes its memory must come from; none: any.
fn bound_nodes(record: &Record) -> CpuSet {
    let bound = record
        .spec
        .memory
        .as_ref()
        .is_some_and(|m| m.numa == MemoryNuma::Bind);
    if bound {
        record.nodes.clone()
    } else {
        CpuSet::new()
    }
}

/// The allocator's numbers of each NUMA node.
fn cpu_numbers(machine: &Machine, records: &Records) -> Vec<CpuNumbers> {
    let booked = booked(machine, records, None);
    let exclusive: CpuSet = booked.exclusive.values().flat_map(CpuSet::iter).collect();
    let nodes = cpu::free_cores(machine, &booked).into_iter();
    nodes
        .map(|node| numbers(machine, node, &exclusive))
        .collect()
}

fn numbers(machine: &Machine, node: NodeFree, exclusive: &CpuSet) -> CpuNumbers {
    let cores_in = |cpus: &CpuSet| {
        let there = machine.cores.iter().filter(|core| core.node == node.node);
        let touched = there.filter(|core| !core.cpus.intersection(cpus).is_empty());
        u32::try_from(touched.count()).unwrap_or(u32::MAX)
    };
    let running = node.cpus.intersection(&machine.online);
    let own = exclusive.intersection(&node.cpus);
    CpuNumbers {
        node: node.node,
        cores_total: cores_in(&running),
        cores_reserved: cores_in(&node.reserved),
        cores_exclusive: cores_in(&own),
        cores_exclusive_free: node.exclusive_free,
        largest_hole_cores: node.largest_hole,
        cpus: running,
        reserved: node.reserved,
        exclusive: own,
        shared_pool: node.shared_pool,
        offline: node.offline,
    }
}
