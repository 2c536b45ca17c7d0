//! The PF's settings of the VF: which of them have to change, and the kernel's refusal
//! in words an operator can act on.

use berth_cni::error::{CniError, code};
use berth_kernel::netlink::{Net, Vf, VfChange, VfLinkState, VlanProto};
use berth_kernel::{Kind, MacAddr, PciAddr};
use berth_state::record::SriovHost;

use crate::conf::{SideWish, VlanWish};

/// The messages that bring `now` to the wish, in the order in which drivers take them:
/// one for each setting that differs or that the driver does not report.
pub fn changes(now: &Vf, wish: &SideWish, mac: Option<MacAddr>) -> Vec<VfChange> {
    let vlan = wish.vlan.map(VlanWish::change);
    let mac = mac.map(VfChange::Mac);
    let spoofchk = wish.spoofchk.map(VfChange::SpoofCheck);
    let trust = wish.trust.map(VfChange::Trust);
    let link_state = wish.link_state.map(VfChange::LinkState);
    let wished = [vlan, mac, rate(now, wish), spoofchk, trust, link_state];
    let wished = wished.into_iter().flatten();
    wished.filter(|change| !is_so(now, change)).collect()
}

impl VlanWish {
    fn change(self) -> VfChange {
        VfChange::Vlan {
            id: self.id,
            qos: self.qos,
            proto: self.proto,
        }
    }
}
