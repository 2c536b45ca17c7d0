//! CHECK: compares everything ADD set with what the kernel shows now, and names each
//! difference.

use berth_cni::error::{CniError, code};
use berth_cni::ipam::Ipam;
use berth_cni::request::Request;
use berth_cni::result::AddResult;
use berth_cni::version::SpecVersion;
use berth_kernel::netlink::{Link, Route, VlanEntry};
use berth_kernel::sysfs::queues::NetSysfs;
use berth_kernel::{MacAddr, NetNs, Root};
use berth_state::record::{BridgeHost, Host, Phase, Record};
use serde_json::Value;

use crate::add::open_netns;
use crate::container::{Container, routes};
use crate::node::Node;
use crate::rps;

/// The differences found so far, each a sentence.
#[derive(Debug, Default)]
struct Drift(Vec<String>);

impl Drift {
    fn unless(&mut self, holds: bool, sentence: impl FnOnce() -> String) {
        if !holds {
            self.0.push(sentence());
        }
    }
}

/// Succeeds only if the attachment is as ADD left it.
pub fn check(root: &Root, request: &Request) -> Result<(), CniError> {
    let node = Node::open(root, request.key())?;
    let Some(previous) = &request.config.prev_result else {
        let msg = format!("CHECK of {} came without prevResult", node.key());
        return Err(CniError::new(code::CONFIG, msg)
            .details("the runtime must pass the result of ADD in key \"prevResult\""));
    };
    let record = committed(&node)?;
    Ipam::of(request)?.check(request)?;
    let netns = open_netns(request)?;
    let mut drift = Drift::default();
    same_netns(&record, &netns, &mut drift)?;
    if drift.0.is_empty() {
        host_side(&node, &record, &mut drift)?;
        container_side(&node, &record, previous, netns, &mut drift)?;
    }
    report(&node, drift)
}

fn report(node: &Node, Drift(drift): Drift) -> Result<(), CniError> {
    if drift.is_empty() {
        return Ok(());
    }
    let msg = format!(
        "attachment {} is not as ADD left it: {}",
        node.key(),
        drift.join("; ")
    );
    Err(CniError::new(code::DRIFT, msg)
        .details("put back what was changed, or remove the attachment and add it anew"))
}

fn committed(node: &Node) -> Result<Record, CniError> {
    let record = node.records.load(node.key())?;
    record
        .filter(|record| record.phase == Phase::Committed)
        .ok_or_else(|| {
            let msg = format!("attachment {} has no finished record", node.key());
            CniError::new(code::DRIFT, msg).details("its ADD never succeeded: send DEL, then ADD")
        })
}

fn same_netns(record: &Record, netns: &NetNs, drift: &mut Drift) -> Result<(), CniError> {
    let same = record.netns.is(netns)?;
    drift.unless(same, || {
        format!(
            "{} is another namespace than the one added",
            netns.path().display()
        )
    });
    Ok(())
}

fn host_side(node: &Node, record: &Record, drift: &mut Drift) -> Result<(), CniError> {
    let Host::Bridge(host) = &record.host else {
        drift.0.push("its record is of another plugin's".to_owned());
        return Ok(());
    };
    let Some(port) = node.net.find_link(&host.port)? else {
        drift.0.push(format!("port {} is gone", host.port));
        return Ok(());
    };
    let Some(bridge) = node.net.find_link(&host.bridge)? else {
        drift.0.push(format!("bridge {} is gone", host.bridge));
        return Ok(());
    };
    port_drift(node, record, &port, &bridge, drift);
    vlan_drift(node, host, &port, &bridge, drift)?;
    uplink_drift(node, host, &bridge, drift)?;
    if let Some(cpus) = record.rps.as_ref().and_then(|rps| rps.set_host.as_ref()) {
        drift
            .0
            .extend(rps::drift(&NetSysfs::at(&node.root)?, &host.port, cpus)?);
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
        drift.0.push(format!("uplink {name} is gone"));
        return Ok(());
    };
    if uplink.master != Some(bridge.index) {
        let sentence = format!("uplink {name} is not on bridge {}", bridge.name);
        drift.0.push(sentence);
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

fn container_side(
    node: &Node,
    record: &Record,
    previous: &AddResult,
    netns: NetNs,
    drift: &mut Drift,
) -> Result<(), CniError> {
    let container = Container::open(netns, node.key().ifname())?;
    let ifname = &container.ifname;
    let Some(link) = container.net.find_link(ifname)? else {
        drift
            .0
            .push(format!("interface {ifname} is gone from the container"));
        return Ok(());
    };
    drift.unless(link.up, || format!("interface {ifname} is down"));
    drift.unless(link.mac == record.container.mac, || {
        format!(
            "MAC address of {ifname} is {}, was set to {}",
            shown(link.mac),
            shown(record.container.mac)
        )
    });
    let mtu = record.container.mtu.unwrap_or(link.mtu);
    drift.unless(link.mtu == mtu, || {
        format!("mtu of {ifname} is {}, was set to {mtu}", link.mtu)
    });
    address_drift(&container, link.index, record, drift)?;
    route_drift(
        &container,
        link.index,
        &own_routes(record, previous)?,
        drift,
    )?;
    if let Some(cpus) = record
        .rps
        .as_ref()
        .and_then(|rps| rps.set_container.as_ref())
    {
        drift
            .0
            .extend(rps::drift(&NetSysfs::of(&container.netns)?, ifname, cpus)?);
    }
    Ok(())
}

fn shown(mac: Option<MacAddr>) -> String {
    mac.map_or_else(|| "none".to_owned(), |mac| mac.to_string())
}

fn address_drift(
    container: &Container,
    index: u32,
    record: &Record,
    drift: &mut Drift,
) -> Result<(), CniError> {
    let live = container.net.addresses(index)?;
    for wish in &record.container.ips {
        drift.unless(live.iter().any(|address| address.net == *wish), || {
            format!("address {wish} is gone from {}", container.ifname)
        });
    }
    Ok(())
}

/// The routes ADD set: those of its result, less what plugins before it in the chain
/// had put there already.
fn own_routes(record: &Record, previous: &AddResult) -> Result<Vec<Route>, CniError> {
    let given = record.request.config.get("prevResult");
    let earlier = AddResult::from_json(given.unwrap_or(&Value::Null), SpecVersion::NEWEST)?;
    let mut own = previous.clone();
    own.routes.retain(|route| !earlier.routes.contains(route));
    Ok(routes(&own))
}

/// Routes are compared by destination and gateway: a later plugin of the chain may
/// have given them another metric or table.
fn route_drift(
    container: &Container,
    index: u32,
    wished: &[Route],
    drift: &mut Drift,
) -> Result<(), CniError> {
    let live = container.net.routes(index)?;
    for wish in wished {
        let found = live
            .iter()
            .any(|route| same_destination(route.dst, wish.dst) && route.gateway == wish.gateway);
        drift.unless(found, || {
            format!("route to {} is gone from {}", wish.dst, container.ifname)
        });
    }
    Ok(())
}

/// The kernel drops the host bits of a destination.
fn same_destination(live: ipnetwork::IpNetwork, wish: ipnetwork::IpNetwork) -> bool {
    live.network() == wish.network() && live.prefix() == wish.prefix()
}
