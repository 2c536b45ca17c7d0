use std::collections::BTreeMap;

use berth_kernel::CpuSet;
use berth_kernel::cpu::{Core, Socket, Topology};

use super::super::{Machine, Reserved};

/// How a machine is built.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) nodes: u32,
    /// Last-level caches per node.
    pub(super) caches: u32,
    /// Cores per cache.
    pub(super) cores: u32,
    pub(super) threads: u32,
    /// Siblings are neighbours (0-1) and not in the second half (0,8).
    pub(super) adjacent: bool,
}

/// The machine with CPUs offline and isolated. As the kernel does, it does not tell of
/// offline CPUs where they belong.
pub(super) fn topology(shape: Shape, offline: &CpuSet, isolated: &CpuSet) -> Topology {
    let Shape {
        nodes,
        caches,
        cores,
        threads,
        adjacent,
    } = shape;
    let total = nodes * caches * cores;
    let mut topology = Topology {
        cores: Vec::new(),
        sockets: Vec::new(),
        offline: BTreeMap::new(),
        isolated: isolated.clone(),
        distances: BTreeMap::new(),
    };
    for core in 0..total {
        let cpu = |of: u32, thread: u32| match adjacent {
            true => of * threads + thread,
            false => of + thread * total,
        };
        let node = core / (caches * cores);
        let all: CpuSet = (0..threads).map(|thread| cpu(core, thread)).collect();
        let dark = all.intersection(offline);
        topology.offline.extend(dark.iter().map(|cpu| (cpu, node)));
        let first = core / cores * cores;
        let group = (first..first + cores).flat_map(|of| (0..threads).map(move |t| (of, t)));
        let group: CpuSet = group.map(|(of, t)| cpu(of, t)).collect();
        let cpus = all.difference(offline);
        if !cpus.is_empty() {
            topology.cores.push(Core {
                llc: group.difference(offline).first().unwrap(),
                cpus,
                node,
            });
            topology.sockets.push(Socket {
                package: Some(node),
                die: Some(0),
            });
        }
    }
    for from in 0..nodes {
        let far = |to: u32| {
            if from == to {
                10
            } else {
                20 + from.abs_diff(to)
            }
        };
        let row = (0..nodes).map(|to| (to, far(to))).collect();
        topology.distances.insert(from, row);
    }
    topology
}

pub(super) fn machine(shape: Shape, offline: &str, isolated: &str) -> Machine {
    let (offline, isolated) = (offline.parse().unwrap(), isolated.parse().unwrap());
    Machine::new(topology(shape, &offline, &isolated), &Reserved::LowestCores)
}

/// One socket of 8 cores without SMT.
pub(super) const PLAIN: Shape = Shape {
    nodes: 1,
    caches: 1,
    cores: 8,
    threads: 1,
    adjacent: true,
};

/// One socket of 8 cores with two threads each, 0,8 1,9 ...
pub(super) const SMT: Shape = Shape {
    threads: 2,
    adjacent: false,
    ..PLAIN
};

/// Two sockets of 8 cores with two threads each, node 0: 0-7,16-23.
pub(super) const TWO: Shape = Shape { nodes: 2, ..SMT };

/// Two nodes of four caches of four cores, as EPYC has: caches of CPUs 0-3, 4-7 ...,
/// siblings 32 higher.
pub(super) const EPYC: Shape = Shape {
    nodes: 2,
    caches: 4,
    cores: 4,
    threads: 2,
    adjacent: false,
};

/// The lab's guest: two nodes of four cores, siblings are neighbours; node 0: 0-7.
pub(super) const LAB: Shape = Shape {
    nodes: 2,
    caches: 1,
    cores: 4,
    threads: 2,
    adjacent: true,
};
