//! A VF as its physical function keeps it: what the PF's driver tells of it and what
//! can be set there (IFLA_VFINFO_LIST, rtnetlink(7)).

use std::fmt;

use berth_kernel::MacAddr;
use berth_kernel::netlink::{Net, Vf, VfChange, VfLinkState, VfVlan};
use berth_kernel::pci::PhysicalFunction;
use berth_kernel::{Error, Result};
use nix::errno::Errno;
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
    /// Whether it may use what else only the PF may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<bool>,
    /// Whether its link follows the PF's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_state: Option<VfLinkState>,
    /// Whether it may read the hash key and table of RSS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_rss: Option<bool>,
}

/// A VF's transmit rate in Mbit/s; 0: no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TxRate {
    /// Guaranteed.
    pub min: u32,
    /// Allowed.
    pub max: u32,
}

impl PfSide {
    /// What the PF's driver reports.
    pub fn of(vf: &Vf) -> Self {
        Self {
            mac: vf.mac,
            vlan: Some(vf.vlan),
            rate: Some(TxRate {
                min: vf.min_tx_rate,
                max: vf.max_tx_rate,
            }),
            spoofchk: vf.spoofchk,
            trust: vf.trust,
            link_state: vf.link_state,
            query_rss: vf.query_rss,
        }
    }

    /// What makes `now` be as this wishes, one change per attribute that differs; the
    /// MAC last, because it may need the driver bound anew.
    pub fn changes_from(&self, now: &Self) -> Vec<VfChange> {
        let mut changes = Vec::new();
        changes.extend(wish(self.vlan, now.vlan).map(VfChange::Vlan));
        changes.extend(wish(self.spoofchk, now.spoofchk).map(VfChange::SpoofCheck));
        changes.extend(wish(self.trust, now.trust).map(VfChange::Trust));
        let rate = wish(self.rate, now.rate);
        changes.extend(rate.map(|TxRate { min, max }| VfChange::TxRate { min, max }));
        changes.extend(wish(self.link_state, now.link_state).map(VfChange::LinkState));
        changes.extend(wish(self.query_rss, now.query_rss).map(VfChange::QueryRss));
        changes.extend(wish(self.mac, now.mac).map(VfChange::Mac));
        changes
    }

    /// What a VF is like that nobody has configured, as far as `reported` tells: no
    /// MAC, no VLAN, no rates, spoof check on, no trust, the PF's link state.
    pub fn neutral(reported: &Self) -> Self {
        Self {
            mac: reported.mac.map(|_| MacAddr([0; 6])),
            vlan: reported.vlan.map(|vlan| VfVlan {
                id: 0,
                qos: 0,
                ..vlan
            }),
            rate: reported.rate.map(|_| TxRate::default()),
            spoofchk: reported.spoofchk.map(|_| true),
            trust: reported.trust.map(|_| false),
            link_state: reported.link_state.map(|_| VfLinkState::Auto),
            query_rss: reported.query_rss.map(|_| false),
        }
    }
}

fn wish<T: PartialEq>(wished: Option<T>, now: Option<T>) -> Option<T> {
    if wished == now { None } else { wished }
}

impl fmt::Display for TxRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "min {} max {} Mbit/s", self.min, self.max)
    }
}

/// The index of the PF's interface in the namespace of `net`, and what it says of its
/// VF `index`. One dump of its VFs.
///
/// # Errors
/// When no interface of the PF is there, or none of them knows the VF.
pub fn side(net: &Net, pf: &PhysicalFunction, index: u32) -> Result<(u32, PfSide)> {
    let absent = |reason: String| {
        let object = format!("VF {index} of PF {}", pf.address);
        Error::errno("read", object, Errno::ENODEV).because(Some(reason))
    };
    let mut reason = "the PF has no network interface in this namespace: move it back here";
    for name in &pf.netdevs {
        let Some(link) = net.find_link(name)? else {
            continue;
        };
        // A card with two ports behind one function shows each VF at one of them.
        let vfs = net.vfs(link.index)?;
        if let Some(vf) = vfs.iter().find(|vf| vf.index == index) {
            return Ok((link.index, PfSide::of(vf)));
        }
        reason = "the PF's driver does not report it";
    }
    Err(absent(reason.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vf::testing::baseline;
    use berth_kernel::netlink::VlanProto;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn vf() -> Vf {
        Vf {
            index: 3,
            mac: Some(MAC),
            vlan: VfVlan {
                id: 100,
                qos: 3,
                proto: VlanProto::Dot1Q,
            },
            min_tx_rate: 1,
            max_tx_rate: 50,
            spoofchk: Some(false),
            trust: Some(true),
            link_state: Some(VfLinkState::Enable),
            query_rss: None,
        }
    }

    #[test]
    fn only_what_differs_and_is_wished_is_changed_the_mac_last() {
        let now = PfSide::of(&vf());
        assert_eq!(now.changes_from(&now), []);
        assert_eq!(PfSide::default().changes_from(&now), [], "no wish");
        let wish = PfSide {
            mac: Some(MacAddr([0; 6])),
            trust: Some(false),
            spoofchk: Some(false),
            ..PfSide::default()
        };
        let changes = wish.changes_from(&now);
        let mac = VfChange::Mac(MacAddr([0; 6]));
        assert_eq!(changes, [VfChange::Trust(false), mac]);
        let all = baseline().side.changes_from(&now);
        assert_eq!(all.len(), 6, "query_rss is not reported: {all:?}");
    }

    #[test]
    fn a_neutral_vf_is_as_a_new_one_and_silent_where_the_driver_is() {
        let neutral = PfSide::neutral(&PfSide::of(&vf()));
        let vlan = neutral.vlan.unwrap();
        assert_eq!((vlan.id, vlan.qos), (0, 0));
        assert_eq!(neutral.rate, Some(TxRate { min: 0, max: 0 }));
        assert_eq!((neutral.spoofchk, neutral.trust), (Some(true), Some(false)));
        assert_eq!(neutral.mac, Some(MacAddr([0; 6])));
        assert_eq!(neutral.query_rss, None);
        assert_eq!(PfSide::neutral(&PfSide::default()), PfSide::default());
    }
}
