//! The machine as the allocator sees it. It is plain data, so that any machine can be
//! written down as a fixture.

use std::collections::{BTreeMap, BTreeSet};

use berth_kernel::cpu::{Topology, topology};
use berth_kernel::{CpuSet, Result, Root};
use serde::{Deserialize, Serialize};

/// From a node to itself (ACPI SLIT).
const LOCAL: u32 = 10;
/// To another node of which the machine tells no distance; what the kernel takes, too
/// (`REMOTE_DISTANCE` in include/linux/topology.h).
const REMOTE: u32 = 20;

/// A node's cores and what cannot be handed out of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Every core, by its lowest CPU. An offline CPU whose core is not known is one of
    /// its own.
    pub(crate) cores: Vec<Core>,
    /// The CPUs that run.
    pub(crate) online: CpuSet,
    /// CPUs that `isolcpus=` and `nohz_full=` keep from general work: never handed out,
    /// never in the shared pool. Who set the boot parameter placed something there.
    #[serde(default)]
    pub(crate) isolated: CpuSet,
    /// Housekeeping CPUs, whole cores: for the system's daemons, never handed out.
    #[serde(default)]
    pub(crate) reserved: CpuSet,
    /// Whether they were chosen by default and not by the configuration.
    #[serde(default)]
    pub(crate) reserved_by_default: bool,
    /// From each node to each; 10 is the node itself.
    #[serde(default)]
    pub(crate) distances: BTreeMap<u32, BTreeMap<u32, u32>>,
    /// What an operator should know: CPUs that are isolated, offline, or named in the
    /// configuration and absent.
    #[serde(default)]
    pub(crate) notes: Vec<String>,
}

/// A physical core.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Core {
    /// Its hardware threads, the offline ones too as far as they are known.
    pub(crate) cpus: CpuSet,
    /// Its NUMA node.
    pub(crate) node: u32,
    /// Its last-level cache, called by the lowest CPU that shares it.
    pub(crate) llc: u32,
    /// Its socket.
    #[serde(default)]
    pub(crate) package: Option<u32>,
    /// False for an offline CPU of which the kernel does not tell its core any more.
    #[serde(default = "yes")]
    pub(crate) known: bool,
}

fn yes() -> bool {
    true
}

/// Which CPUs are kept for housekeeping.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Reserved {
    /// The lowest core of each NUMA node that is online and not isolated.
    #[default]
    LowestCores,
    /// The cores of these CPUs. One named thread reserves its whole core: its sibling
    /// cannot be anybody's whole core any more. The empty set reserves nothing.
    Cpus(CpuSet),
}

impl From<Option<CpuSet>> for Reserved {
    /// From the configuration's `reserved_cpus`.
    fn from(configured: Option<CpuSet>) -> Self {
        configured.map_or(Self::LowestCores, Self::Cpus)
    }
}

impl Machine {
    /// Reads it from sysfs.
    ///
    /// # Errors
    /// When the topology cannot be read.
    pub(crate) fn read(root: &Root, reserved: &Reserved) -> Result<Self> {
        Ok(Self::new(topology(root)?, reserved))
    }

    /// Of what sysfs told.
    pub(crate) fn new(topology: Topology, reserved: &Reserved) -> Self {
        let Topology {
            cores,
            sockets,
            offline,
            isolated,
            distances,
        } = topology;
        let online: CpuSet = cores.iter().flat_map(|core| core.cpus.iter()).collect();
        let running = cores.into_iter().zip(sockets).map(|(core, socket)| Core {
            cpus: core.cpus,
            node: core.node,
            llc: core.llc,
            package: socket.package,
            known: true,
        });
        let dark = offline.into_iter().map(|(cpu, node)| Core {
            cpus: CpuSet::from_iter([cpu]),
            node,
            llc: cpu,
            package: None,
            known: false,
        });
        let mut machine = Self {
            cores: running.chain(dark).collect(),
            online,
            isolated,
            reserved: CpuSet::new(),
            reserved_by_default: false,
            distances,
            notes: Vec::new(),
        };
        machine.cores.sort_by_key(|core| core.cpus.first());
        machine.reserve(reserved);
        machine.note();
        machine
    }

    /// With what an earlier look at the same machine knew and the kernel no longer
    /// tells: the cores of CPUs that went offline since. Housekeeping CPUs chosen by
    /// default stay as long as one of them runs, so that they do not move onto a
    /// workload's core when one goes offline.
    #[must_use]
    pub(crate) fn knowing(mut self, earlier: &Self) -> Self {
        let unknown = self.cores.iter().filter(|core| !core.known);
        let mut unknown: CpuSet = unknown.flat_map(|core| core.cpus.iter()).collect();
        for old in earlier.cores.iter().filter(|core| core.known) {
            let back = old.cpus.intersection(&unknown);
            if !back.is_empty() {
                unknown = unknown.difference(&back);
                self.restore(old, &back, earlier);
            }
        }
        self.cores.sort_by_key(|core| core.cpus.first());
        let stay = self.reserved_by_default && earlier.reserved_by_default;
        if stay && !earlier.reserved.intersection(&self.online).is_empty() {
            self.reserved = earlier.reserved.clone();
        }
        self
    }

    /// Gives the offline CPUs `back` the core they were in.
    fn restore(&mut self, old: &Core, back: &CpuSet, earlier: &Self) {
        self.cores
            .retain(|core| core.known || !core.cpus.is_subset(back));
        let sibling = |core: &&mut Core| !core.cpus.intersection(&old.cpus).is_empty();
        if let Some(core) = self.cores.iter_mut().find(sibling) {
            core.cpus = core.cpus.union(back);
            return;
        }
        // A cache is called by its lowest CPU that runs: its name may have changed.
        let sharers = earlier.cores.iter().filter(|core| core.llc == old.llc);
        let sharers: CpuSet = sharers.flat_map(|core| core.cpus.iter()).collect();
        let now = self
            .cores
            .iter()
            .find(|core| core.known && !core.cpus.intersection(&sharers).is_empty());
        self.cores.push(Core {
            cpus: back.clone(),
            llc: now.map_or(old.llc, |core| core.llc),
            ..old.clone()
        });
    }

    /// Chooses the housekeeping CPUs.
    fn reserve(&mut self, reserved: &Reserved) {
        self.reserved_by_default = *reserved == Reserved::LowestCores;
        let chosen: Vec<&Core> = match reserved {
            Reserved::LowestCores => self
                .nodes()
                .into_iter()
                .filter_map(|node| {
                    let mut cores = self.cores.iter().filter(|core| core.node == node);
                    cores.find(|core| {
                        self.runs(core) && core.cpus.intersection(&self.isolated).is_empty()
                    })
                })
                .collect(),
            Reserved::Cpus(cpus) => {
                let named = |core: &&Core| !core.cpus.intersection(cpus).is_empty();
                self.cores.iter().filter(named).collect()
            }
        };
        self.reserved = chosen.iter().flat_map(|core| core.cpus.iter()).collect();
        if let Reserved::Cpus(cpus) = reserved {
            let absent = cpus.difference(&self.reserved);
            let more = self.reserved.difference(cpus);
            if !absent.is_empty() {
                self.notes.push(format!(
                    "CPUs {absent}: reserved by the configuration and not on this machine; take them out of reserved_cpus"
                ));
            }
            if !more.is_empty() {
                self.notes.push(format!(
                    "CPUs {more}: reserved with their siblings, as cores are reserved whole"
                ));
            }
        }
    }

    /// Says what is not handed out and why.
    fn note(&mut self) {
        let offline = self.all().difference(&self.online);
        if !offline.is_empty() {
            self.notes.push(format!(
                "CPUs {offline}: offline, so not handed out; whoever holds them keeps them; online again with 1 in devices/system/cpu/cpuN/online"
            ));
        }
        if !self.isolated.is_empty() {
            self.notes.push(format!(
                "CPUs {}: isolated by the boot parameters isolcpus= or nohz_full=, so neither handed out nor in the shared pool; boot without them to use these CPUs",
                self.isolated
            ));
        }
    }

    /// All CPUs that are plugged in.
    pub(crate) fn all(&self) -> CpuSet {
        self.cores
            .iter()
            .flat_map(|core| core.cpus.iter())
            .collect()
    }

    /// The NUMA nodes with CPUs.
    pub(crate) fn nodes(&self) -> BTreeSet<u32> {
        self.cores.iter().map(|core| core.node).collect()
    }

    /// The NUMA nodes of some CPUs.
    pub(crate) fn nodes_of(&self, cpus: &CpuSet) -> CpuSet {
        let touched = |core: &&Core| !core.cpus.intersection(cpus).is_empty();
        self.cores
            .iter()
            .filter(touched)
            .map(|core| core.node)
            .collect()
    }

    /// The CPUs of a NUMA node.
    pub(crate) fn cpus_of(&self, node: u32) -> CpuSet {
        let there = self.cores.iter().filter(|core| core.node == node);
        there.flat_map(|core| core.cpus.iter()).collect()
    }

    /// How far it is from one node to another.
    pub(crate) fn distance(&self, from: u32, to: u32) -> u32 {
        let told = self.distances.get(&from).and_then(|row| row.get(&to));
        let usual = if from == to { LOCAL } else { REMOTE };
        told.copied().unwrap_or(usual)
    }

    /// Hardware threads of a core: of the largest one where they differ.
    pub(crate) fn threads_per_core(&self) -> u32 {
        let threads = self.cores.iter().map(|core| count(&core.cpus));
        threads.max().unwrap_or(1).max(1)
    }

    /// Whether one of the core's CPUs is online.
    pub(super) fn runs(&self, core: &Core) -> bool {
        !core.cpus.intersection(&self.online).is_empty()
    }

    /// Whether the core may be handed out at all: neither reserved nor isolated, not
    /// even in part, and online.
    pub(super) fn usable(&self, core: &Core) -> bool {
        let kept = self.reserved.union(&self.isolated);
        self.runs(core) && core.cpus.intersection(&kept).is_empty()
    }
}

/// How many CPUs a set has.
pub(super) fn count(cpus: &CpuSet) -> u32 {
    u32::try_from(cpus.len()).unwrap_or(u32::MAX)
}
