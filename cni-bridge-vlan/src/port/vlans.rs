//! The VLANs a port is in.

use berth_cni::error::{CniError, code};
use berth_cni::steps::Steps;
use berth_kernel::VlanId;
use berth_kernel::error::AbsentIsFine;
use berth_kernel::netlink::{Link, On, VlanEntry, VlanFlags, VlanRange};
use berth_state::record::BridgeHost;
use berth_state::undo::Undo;

use crate::node::Node;

/// All VLANs of a port, by what it does with them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Membership {
    /// Untagged in both directions.
    pub native: Option<VlanId>,
    /// Tagged, ascending.
    pub trunk: Vec<VlanRange>,
    /// The bridge's default VLAN, where the port is to stay in it: it takes untagged
    /// frames only without a native one.
    pub default: Option<VlanId>,
}

impl Membership {
    /// That of an attachment on record.
    pub fn of(host: &BridgeHost) -> Self {
        Self {
            native: host.vlan,
            trunk: host.trunk.clone(),
            default: host.default_vlan,
        }
    }

    /// Whether the port is in no VLAN by wish.
    pub fn is_plain(&self) -> bool {
        self.native.is_none() && self.trunk.is_empty()
    }

    /// What to add to a new port.
    fn additions(&self) -> Vec<(VlanRange, VlanFlags)> {
        let access = VlanFlags {
            pvid: true,
            untagged: true,
        };
        let native = self.native.map(|vlan| (vlan.into(), access));
        let tagged = self.trunk.iter().map(|vids| (*vids, VlanFlags::default()));
        native.into_iter().chain(tagged).collect()
    }

    /// What the kernel must then show, in its order.
    pub fn entries(&self) -> Vec<VlanEntry> {
        let kept = VlanFlags {
            pvid: self.native.is_none(),
            untagged: true,
        };
        let kept = self.default.map(|vlan| (vlan.into(), kept));
        let all = self.additions().into_iter().chain(kept);
        let mut entries: Vec<VlanEntry> = all
            .flat_map(|(vids, flags)| {
                vids.ids().map(move |vid| VlanEntry {
                    vid,
                    pvid: flags.pvid,
                    untagged: flags.untagged,
                })
            })
            .collect();
        entries.sort_by_key(|entry| entry.vid);
        entries
    }
}

/// Puts a new port into its VLANs, all in one message, out of `unwanted`, into which the
/// kernel puts it by itself, and reads the outcome back.
pub(super) fn join(
    node: &Node,
    port: &Link,
    wish: &Membership,
    unwanted: Option<VlanId>,
    undo: &mut Undo,
) -> Result<(), CniError> {
    if let Some(default) = unwanted {
        undo.covered("default VLAN off", || {
            node.net
                .del_vlan(port.index, default.into(), On::Port)
                .absent_is_fine()
        })?;
    }
    undo.covered("port VLANs", || {
        node.net.add_vlans(port.index, &wish.additions(), On::Port)
    })?;
    isolated(port, wish, &node.net.vlans_of(port.index)?)
}

/// The port is in its VLANs as wished, and in no other.
fn isolated(port: &Link, wish: &Membership, live: &[VlanEntry]) -> Result<(), CniError> {
    let wished = wish.entries();
    if live == wished {
        return Ok(());
    }
    let msg = format!(
        "port {} must be in VLANs [{}] alone, but the kernel shows [{}]",
        port.name,
        shown(&wished),
        shown(live)
    );
    Err(CniError::new(code::KERNEL, msg)
        .details("something else changes this bridge's VLANs: stop it, then add again"))
}

/// Entries in few words: `100 untagged, 200-202`.
pub fn shown(entries: &[VlanEntry]) -> String {
    let word = |entry: &VlanEntry| match (entry.pvid, entry.untagged) {
        (true, true) => " untagged",
        (true, false) => " pvid",
        (false, true) => " untagged out",
        (false, false) => "",
    };
    let of = |flags: &str| {
        let ids = entries.iter().filter(|entry| word(entry) == flags);
        VlanRange::of(ids.map(|entry| entry.vid))
    };
    let all = [" untagged", " pvid", " untagged out", ""];
    let parts = all.iter().flat_map(|flags| {
        let ranges = of(flags).into_iter();
        ranges.map(move |range| format!("{range}{flags}"))
    });
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vid(id: u16) -> VlanId {
        id.try_into().unwrap()
    }

    fn range(first: u16, last: u16) -> VlanRange {
        VlanRange {
            first: vid(first),
            last: vid(last),
        }
    }

    fn said(native: Option<u16>, default: Option<u16>) -> String {
        let membership = Membership {
            native: native.map(vid),
            trunk: vec![range(101, 101), range(200, 202)],
            default: default.map(vid),
        };
        shown(&membership.entries())
    }

    #[test]
    fn a_trunk_has_a_native_vlan_only_by_wish() {
        assert_eq!(said(None, None), "101, 200-202");
        assert_eq!(said(Some(100), None), "100 untagged, 101, 200-202");
    }

    #[test]
    fn a_default_vlan_that_is_kept_gives_way_to_the_native_one() {
        assert_eq!(said(None, Some(1)), "1 untagged, 101, 200-202");
        let both = "100 untagged, 1 untagged out, 101, 200-202";
        assert_eq!(said(Some(100), Some(1)), both);
    }

    #[test]
    fn entries_come_in_the_kernels_order() {
        let membership = Membership {
            native: Some(vid(150)),
            trunk: vec![range(101, 102), range(200, 200)],
            default: Some(vid(1)),
        };
        let ids: Vec<u16> = membership.entries().iter().map(|e| e.vid.get()).collect();
        assert_eq!(ids, [1, 101, 102, 150, 200]);
    }
}
