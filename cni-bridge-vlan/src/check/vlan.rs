//! The VLANs of port and uplink.

use berth_cni::check::Drift;
use berth_cni::error::CniError;
use berth_kernel::netlink::VlanEntry;

use super::Seen;

/// The port is in its VLAN and no other, on a bridge that keeps VLANs apart.
pub(super) fn port_drift(seen: &Seen<'_>, drift: &mut Drift) -> Result<(), CniError> {
    let (port, bridge) = (&seen.port, &seen.bridge);
    let Some(vlan) = seen.host.vlan else {
        return Ok(());
    };
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
    let wish = VlanEntry {
        vid: vlan,
        pvid: true,
        untagged: true,
    };
    let entries = seen.node.net.vlans_of(port.index)?;
    drift.unless(entries == [wish], || {
        let seen: Vec<String> = entries.iter().map(|entry| entry.vid.to_string()).collect();
        format!(
            "port {} is in VLANs [{}], was set to {vlan} alone, untagged",
            port.name,
            seen.join(", ")
        )
    });
    Ok(())
}

/// The uplink is on the bridge, up, and carries the VLAN.
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
    if let Some(vlan) = seen.host.vlan {
        let entries = net.vlans_of(uplink.index)?;
        let carries = entries.iter().any(|entry| entry.vid == vlan);
        drift.unless(carries, || {
            format!("uplink {name} does not carry VLAN {vlan}")
        });
    }
    Ok(())
}
