//! The container's gateway on the node.

use berth_cni::check::Drift;
use berth_cni::error::CniError;
use berth_kernel::netlink::Link;
use berth_kernel::sysctl;
use berth_state::record::GatewayHost;

use super::Seen;
use crate::gateway::FORWARDING;

/// Device, addresses and forwarding.
pub(super) fn drift(seen: &Seen<'_>, drift: &mut Drift) -> Result<(), CniError> {
    let Some(gateway) = &seen.host.gateway else {
        return Ok(());
    };
    let Some(device) = seen.node.net.find_link(&gateway.device)? else {
        drift.found(format!("gateway device {} is gone", gateway.device));
        return Ok(());
    };
    if device.name != seen.bridge.name {
        device_drift(seen, &device, drift)?;
    }
    address_drift(seen, gateway, &device, drift)?;
    for (key, is_wished) in FORWARDING {
        let wished = gateway.addresses.iter().any(is_wished);
        drift.unless(!wished || sysctl::get(&seen.node.root, key)? == "1", || {
            format!("{key} is off: the node forwards nothing for the container")
        });
    }
    Ok(())
}

/// The 802.1Q device is up, on the bridge, and gets the VLAN's frames.
fn device_drift(seen: &Seen<'_>, device: &Link, drift: &mut Drift) -> Result<(), CniError> {
    let (name, bridge) = (&device.name, &seen.bridge);
    drift.unless(device.up, || format!("gateway device {name} is down"));
    let Some(vlan) = seen.host.vlan else {
        return Ok(());
    };
    let is_right = device.peer == Some(bridge.index) && device.vlan == Some(vlan.get());
    drift.unless(is_right, || {
        format!(
            "gateway device {name} is not that of VLAN {vlan} on bridge {}",
            bridge.name
        )
    });
    let own = seen.node.net.vlans_of(bridge.index)?;
    drift.unless(own.iter().any(|entry| entry.vid == vlan), || {
        format!("bridge {} itself is not in VLAN {vlan}", bridge.name)
    });
    Ok(())
}

fn address_drift(
    seen: &Seen<'_>,
    gateway: &GatewayHost,
    device: &Link,
    drift: &mut Drift,
) -> Result<(), CniError> {
    let live = seen.node.net.addresses(device.index)?;
    for wish in &gateway.addresses {
        drift.unless(live.iter().any(|address| address.net == *wish), || {
            format!("gateway {wish} is gone from {}", device.name)
        });
    }
    Ok(())
}
