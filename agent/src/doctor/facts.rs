//! What was seen on a node: plain values, so that every decision is a table test.

use std::collections::{BTreeMap, BTreeSet};

use berth_kernel::cgroup::Version;
use berth_kernel::kconfig::Setting;
use berth_kernel::module::State;
use berth_kernel::mounts::Mount;
use berth_kernel::pci::PhysicalFunction;
use berth_kernel::release::Release;

/// A value, or why it could not be read.
pub(super) type Seen<T> = Result<T, String>;

/// Everything the checks decide on.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// The running kernel.
    pub(super) release: Seen<Release>,
    /// How the wanted options were set when it was built, named without `CONFIG_`.
    pub(super) options: Seen<BTreeMap<&'static str, Setting>>,
    /// Where the wanted modules are.
    pub(super) modules: Seen<BTreeMap<&'static str, State>>,
    /// Files whose presence proves a feature, whatever the version says.
    pub(super) proofs: BTreeSet<Proof>,
    /// Control groups.
    pub(super) cgroup: Cgroup,
    /// Physical functions that can have virtual ones.
    pub(super) functions: Seen<Vec<PhysicalFunction>>,
    /// Mounted filesystems.
    pub(super) mounts: Seen<Vec<Mount>>,
    /// Whether irqbalance runs.
    pub(super) irqbalance: Seen<bool>,
    /// Which of `iptables`, `ip6tables`, `arptables` see bridged frames
    /// (`net.bridge.bridge-nf-call-*`); `None`: `br_netfilter` is not loaded.
    pub(super) bridge_netfilter: Seen<Option<Vec<&'static str>>>,
    /// Names of the bridges there are.
    pub(super) bridges: Seen<Vec<String>>,
    /// Effective capabilities of the caller, `CAP_NET_ADMIN`.
    pub(super) capabilities: Seen<BTreeSet<String>>,
}

/// A file that proves a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Proof {
    /// `cpuset.cpus.exclusive` of a cgroup
    ExclusiveCpus,
    /// `memory.reclaim` of a cgroup
    MemoryReclaim,
}

/// Control groups of the node.
#[derive(Debug, Clone)]
pub(super) struct Cgroup {
    /// Which hierarchy the controllers are in.
    pub(super) version: Version,
    /// The root's `cgroup.controllers`.
    pub(super) controllers: Seen<BTreeSet<String>>,
    /// The root's `cgroup.subtree_control`.
    pub(super) delegated: Seen<BTreeSet<String>>,
    /// Whether `proc/pressure` is there.
    pub(super) pressure: bool,
}
