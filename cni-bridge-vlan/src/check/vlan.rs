//! The VLANs of port and uplink.

use berth_cni::check::Drift;
use berth_cni::error::CniError;
use berth_kernel::VlanId;
use berth_kernel::netlink::VlanRange;

use super::Seen;
use crate::port::{Membership, shown};

/// The port is in its VLANs and no other, on a bridge that keeps VLANs apart.
pub(super) fn port_drift(seen: &Seen<'_>, drift: &mut Drift) -> Result<(), CniError> {
    let (port, bridge) = (&seen.port, &seen.bridge);
    let wish = Membership::of(seen.host);
    if wish.is_plain() {
        return Ok(());
    }
    let filtering = bridge
        .bridge
        .as_ref()
        .is_some_and(|bridge| bridge.vlan_filtering);
    drift.unless(filtering, || {
        format!(
            "VLAN filtering of bridge {} is off: its VLANs are one network now",
            bridge.name
        )
    });
    let (wish, live) = (wish.entries(), seen.node.net.vlans_of(port.index)?);
    drift.unless(live == wish, || {
        format!(
            "port {} is in VLANs [{}], was set to [{}] alone",
            port.name,
            shown(&live),
            shown(&wish)
        )
    });
    Ok(())
}

/// The uplink is on the bridge, up, and carries the VLANs.
pub(super) fn uplink_drift(seen: &Seen<'_>, drift: &mut Drift) -> Result<(), CniError> {
    let (bridge, net) = (&seen.bridge, &seen.node.net);
    let Some(name) = &seen.host.uplink else {
        return Ok(());
    };
    let Some(uplink) = net.find_link(name)? else {
        drift.found(format!("uplink {name} is gone"));
        return Ok(());
    };
    if uplink.master != Some(bridge.index) {
        drift.found(format!("uplink {name} is not on bridge {}", bridge.name));
        return Ok(());
    }
    drift.unless(uplink.up, || format!("uplink {name} is down"));
    let is_shut = uplink.port.is_some_and(|port| port.isolated) && seen.host.flags.isolated;
    drift.unless(!is_shut, || {
        format!("uplink {name} is an isolated port, as the container's is: nothing passes")
    });
    let wished = Membership {
        default: None,
        ..Membership::of(seen.host)
    };
    if wished.is_plain() {
        return Ok(());
    }
    let carried = net.vlans_of(uplink.index)?;
    let carries = |vid| carried.iter().any(|entry| entry.vid == vid);
    let wished: Vec<VlanId> = wished.entries().iter().map(|entry| entry.vid).collect();
    for device in net.uppers_of(uplink.index)? {
        let id = wished.iter().find(|vid| Some(vid.get()) == device.vlan);
        if let Some(id) = id {
            drift.found(format!(
                "802.1Q device {} on uplink {name} takes the frames of VLAN {id}",
                device.name
            ));
        }
    }
    let missing = VlanRange::of(wished.into_iter().filter(|vid| !carries(*vid)));
    drift.unless(missing.is_empty(), || {
        format!(
            "uplink {name} does not carry VLAN {}",
            VlanRange::list(&missing)
        )
    });
    Ok(())
}
