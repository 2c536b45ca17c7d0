//! CHECK: compares everything ADD set with what the kernel shows now, and names each
//! difference.

use berth_cni::check::{self, Drift};
use berth_cni::error::CniError;
use berth_cni::request::Request;
use berth_cni::steering;
use berth_kernel::Root;
use berth_kernel::netlink::Link;
use berth_kernel::sysfs::queues::NetSysfs;
use berth_state::record::{BridgeHost, Host, Record};

use crate::node::Node;
use crate::{bandwidth, rules};

mod gateway;
mod port;
mod vlan;

/// Succeeds only if the attachment is as ADD left it.
pub fn check(root: &Root, request: &Request) -> Result<(), CniError> {
    let node = Node::open(root, request.key())?;
    check::check(&node.attachment, request, |record, _, drift| {
        host_side(&node, record, drift)
    })
}

/// What is compared: the record, and what the kernel shows of the host's side.
struct Seen<'a> {
    node: &'a Node,
    record: &'a Record,
    host: &'a BridgeHost,
    port: Link,
    bridge: Link,
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
    let seen = Seen {
        node,
        record,
        host,
        port,
        bridge,
    };
    port::link_drift(&seen, drift);
    if seen.port.master == Some(seen.bridge.index) {
        port::flag_drift(&seen, drift);
        port::address_drift(&seen, drift)?;
        port::filter_drift(&seen, drift)?;
    }
    gateway::drift(&seen, drift)?;
    rules::drift(record, host, drift)?;
    bandwidth::drift(node, &seen.port, host.bandwidth, drift)?;
    vlan::port_drift(&seen, drift)?;
    vlan::uplink_drift(&seen, drift)?;
    let steered = record.rps.as_ref();
    let steered = steered.and_then(|rps| Some((rps.set_host.as_ref()?, rps.flow_entries)));
    if let Some((cpus, flows)) = steered {
        let sysfs = NetSysfs::at(&node.root)?;
        let found = steering::rps_drift(&sysfs, &host.port, cpus, flows)?;
        found.into_iter().for_each(|sentence| drift.found(sentence));
    }
    Ok(())
}
