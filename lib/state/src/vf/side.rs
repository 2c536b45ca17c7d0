//! A VF as its physical function keeps it: what the PF's driver tells of it and what
//! can be set there (IFLA_VFINFO_LIST, rtnetlink(7)).

use berth_kernel::MacAddr;
use serde::{Deserialize, Serialize};

/// A VF's attributes at the PF; `None`: the driver does not report it, or nobody
/// wishes it. What is `None` is never written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PfSide {
    /// The MAC the PF gives it; all zero: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Its VLAN; id 0: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<VfVlan>,
    /// Its transmit rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<TxRate>,
    /// Whether frames with a foreign source MAC are dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spoofchk: Option<bool>,
    /// Whether it may do what else only the PF may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<bool>,
    /// Whether its link follows the PF's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_state: Option<VfLinkState>,
    /// Whether it may read the hash key and table of RSS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_rss: Option<bool>,
}

/// The VLAN a PF puts a VF into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VfVlan {
    /// VLAN id, 0 for none.
    pub id: u16,
    /// Priority (PCP), 0 to 7.
    pub qos: u8,
    /// The tag's protocol.
    pub proto: VlanProto,
}

/// The protocol of a VLAN tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum VlanProto {
    /// 802.1Q.
    #[serde(rename = "802.1q")]
    Dot1Q,
    /// 802.1ad.
    #[serde(rename = "802.1ad")]
    Dot1Ad,
}

/// How a VF's link relates to its PF's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VfLinkState {
    /// It follows the PF's.
    Auto,
    /// Always up.
    Enable,
    /// Always down.
    Disable,
}

/// A VF's transmit rate in Mbit/s; 0: no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TxRate {
    /// Guaranteed.
    pub min: u32,
    /// Allowed.
    pub max: u32,
}
