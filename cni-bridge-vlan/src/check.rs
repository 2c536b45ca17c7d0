//! CHECK: compares everything ADD set with what the kernel shows now, and names each
//! difference.

use berth_cni::check::{self, Drift};
use berth_cni::error::CniError;
use berth_cni::request::Request;
use berth_cni::steering;
use berth_kernel::Root;
use berth_kernel::netlink::{Link, VlanEntry};
use berth_kernel::sysfs::queues::NetSysfs;
use berth_state::record::{BridgeHost, Host, Record};

use crate::node::Node;

/// Succeeds only if the attachment is as ADD left it.
pub fn check(root: &Root, request: &Request) -> Result<(), CniError> {
    let node = Node::open(root, request.key())?;
    check::check(&node.attachment, request, |record, _, drift| {
        host_side(&node, record, drift)
    })
}

fn host_side(node: &Node, record: &Record, drift: &mut Drift) -> Result<(), CniError> {
    let Host::Bridge(host) = &record.host else {
        drift.found("the record is that of another kind of attachment");
        return Ok(());
    };
    let Some(port) = node.net.find_link(&host.port)? else {
        drift.found(format!("port {} is gone", host.port));
        return Ok(());
    };
    let Some(bridge) = node.net.find_link(&host.bridge)? else {
        drift.found(format!("bridge {} is gone", host.bridge));
        return Ok(());
    };
    port_drift(node, record, &port, &bridge, drift);
    vlan_drift(node, host, &port, &bridge, drift)?;
    uplink_drift(node, host, &bridge, drift)?;
    if let Some(cpus) = record.rps.as_ref().and_then(|rps| rps.set_host.as_ref()) {
        let sysfs = NetSysfs::at(&node.root)?;
        if let Some(sentence) = steering::rps_drift(&sysfs, &host.port, cpus)? {
            drift.found(sentence);
        }
    }
    Ok(())
}

fn port_drift(node: &Node, record: &Record, port: &Link, bridge: &Link, drift: &mut Drift) {
    let name = &port.name;
    drift.unless(port.alias.as_deref() == Some(&node.key().alias()), || {
        format!("port {name} has lost its alias")
    });
    drift.unless(port.master == Some(bridge.index), || {
        format!("port {name} is not on bridge {}", bridge.name)
    });
    drift.unless(port.up, || format!("port {name} is down"));
    drift.unless(bridge.up, || format!("bridge {} is down", bridge.name));
    let mtu = record.container.mtu.unwrap_or(port.mtu);
    drift.unless(port.mtu == mtu, || {
        format!("mtu of port {name} is {}, was set to {mtu}", port.mtu)
    });
}

fn vlan_drift(
    node: &Node,
    host: &BridgeHost,
    port: &Link,
    bridge: &Link,
    drift: &mut Drift,
) -> Result<(), CniError> {
    let Some(vlan) = host.vlan else { return Ok(()) };
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
    let entries = node.net.vlans_of(port.index)?;
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

fn uplink_drift(
    node: &Node,
    host: &BridgeHost,
    bridge: &Link,
    drift: &mut Drift,
) -> Result<(), CniError> {
    let Some(name) = &host.uplink else {
        return Ok(());
    };
    let Some(uplink) = node.net.find_link(name)? else {
        drift.found(format!("uplink {name} is gone"));
        return Ok(());
    };
    if uplink.master != Some(bridge.index) {
        drift.found(format!("uplink {name} is not on bridge {}", bridge.name));
        return Ok(());
    }
    drift.unless(uplink.up, || format!("uplink {name} is down"));
    if let Some(vlan) = host.vlan {
        let entries = node.net.vlans_of(uplink.index)?;
        let carries = entries.iter().any(|entry| entry.vid == vlan);
        drift.unless(carries, || {
            format!("uplink {name} does not carry VLAN {vlan}")
        });
    }
    Ok(())
}
