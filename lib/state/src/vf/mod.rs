//! What a virtual function was before an attachment got it, and how it is brought
//! back to that: capture, comparison and restore by difference.
//!
//! The comparison is pure; everything that touches the VF can be killed at any point
//! and repeated.

mod apply;
mod baseline;
mod difference;
mod driver;
pub mod free;
mod home;
mod interface;
mod locate;
mod mac;
mod neutral;
mod release;
mod restore;
mod side;
#[cfg(test)]
pub(crate) mod testing;
mod view;

pub use baseline::{Baseline, Netdev, RxQueue};
pub use difference::{Difference, Field, differences};
pub use locate::{Place, locate};
pub use mac::{present, settle_mac};
pub use neutral::neutral;
pub use release::{Ended, Failed, end_quarantine, release, release_unrecorded};
pub use restore::{Restored, compare, restore};
pub use side::{PfSide, TxRate, side};
pub use view::capture;

pub use berth_kernel::netlink::{VfLinkState, VfVlan, VlanProto};

use std::collections::BTreeMap;

use berth_kernel::{CpuSet, IfName, MacAddr, PciAddr};
use serde::{Deserialize, Serialize};

/// The host's side of a virtual function in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SriovHost {
    /// The physical function.
    pub pf: PciAddr,
    /// Its interface's name at the time of the ADD; it may have another by now.
    pub pf_name: IfName,
    /// The virtual function.
    pub vf: PciAddr,
    /// Its index at the physical function.
    pub index: u32,
    /// Its driver.
    pub driver: String,
    /// What it was before the first change.
    pub baseline: Baseline,
    /// The CPUs of its interrupts before they were pinned, by interrupt number. They
    /// exist only after the interface is up, so they come last.
    #[serde(default, with = "pairs", skip_serializing_if = "BTreeMap::is_empty")]
    pub irqs: BTreeMap<u32, CpuSet>,
    /// What the ADD set.
    #[serde(default)]
    pub set: VfSet,
}

/// What an ADD set on a VF; nothing: it was left alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VfSet {
    /// At the physical function.
    pub side: PfSide,
    /// The interface's MAC.
    pub mac: Option<MacAddr>,
    /// Its MTU in bytes.
    pub mtu: Option<u32>,
    /// Promiscuous mode.
    pub promisc: Option<bool>,
    /// Reception of all multicast frames.
    pub allmulti: Option<bool>,
    /// Combined channels.
    pub channels: Option<u32>,
    /// RPS CPUs by receive queue.
    pub rps: Vec<Option<CpuSet>>,
    /// RFS flows of each receive queue.
    pub rps_flow_cnt: Option<u32>,
    /// XPS CPUs by transmit queue.
    pub xps: Vec<Option<CpuSet>>,
    /// The CPUs each interrupt was pinned to, by interrupt number.
    #[serde(with = "pairs", skip_serializing_if = "BTreeMap::is_empty")]
    pub irqs: BTreeMap<u32, CpuSet>,
}

/// A map by number as a list of pairs: JSON's own keys are text, which serde does not
/// read back as numbers inside a tagged enum.
mod pairs {
    use std::collections::BTreeMap;

    use berth_kernel::CpuSet;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<u32, CpuSet>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<u32, CpuSet>, D::Error> {
        let pairs = Vec::<(u32, CpuSet)>::deserialize(deserializer)?;
        Ok(pairs.into_iter().collect())
    }
}
