//! Everything of a VF that outlives a container: what is at the PF, and what of the
//! interface survives a move between namespaces.

use std::collections::BTreeSet;

use berth_kernel::ethtool::{ChannelCounts, Coalesce, RingSizes};
use berth_kernel::names::AltName;
use berth_kernel::netlink::Tuning;
use berth_kernel::{CpuSet, IfName, MacAddr};
use serde::{Deserialize, Serialize};

use super::side::PfSide;

/// A VF's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Baseline {
    /// At the physical function.
    pub side: PfSide,
    /// Whether the MAC at the PF is one the interface chose, which the PF's driver only
    /// shows: nobody set it there.
    #[serde(default)]
    pub own_mac: bool,
    /// The interface.
    pub netdev: Netdev,
    /// The interface's settings that are seldom used.
    pub tuning: Tuning,
    /// Names of the switchable offloads that are asked for (ethtool features).
    pub features: BTreeSet<String>,
    /// Its channels, if the driver has any to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<ChannelCounts>,
    /// Its ring sizes, if the driver tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rings: Option<RingSizes>,
    /// Its interrupt coalescing, if the driver tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coalesce: Option<Coalesce>,
    /// Its receive queues.
    pub rx: Vec<RxQueue>,
    /// XPS CPUs of its transmit queues; `None` where there is nothing to choose.
    pub tx: Vec<Option<CpuSet>>,
    /// Nanoseconds of `gro_flush_timeout`.
    pub gro_flush_timeout: u64,
    /// `napi_defer_hard_irqs`.
    pub napi_defer_hard_irqs: u32,
}

/// A network interface's own settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Netdev {
    /// Name.
    pub name: IfName,
    /// MAC address.
    pub mac: MacAddr,
    /// MTU in bytes.
    pub mtu: u32,
    /// Whether it is set up.
    pub up: bool,
    /// Length of the transmit queue in packets.
    pub tx_queue_len: u32,
    /// Device group.
    pub group: u32,
    /// Promiscuous mode.
    pub promisc: bool,
    /// Reception of all multicast frames.
    pub allmulti: bool,
    /// Alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Alternative names.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub altnames: BTreeSet<AltName>,
}

/// How a receive queue's packets are steered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RxQueue {
    /// RPS CPUs; empty: off.
    pub rps_cpus: CpuSet,
    /// RFS flows; 0: off.
    pub rps_flow_cnt: u32,
}
