//! CHECK: compares what ADD set with what the kernel shows now, and names each
//! difference. The container's side is the same for every kind of attachment; the
//! host's comes in as a closure.

use berth_kernel::netlink::{Link, Route};
use berth_kernel::sysfs::queues::NetSysfs;
use berth_kernel::{IfName, MacAddr, NetNs};
use berth_state::Key;
use berth_state::record::{Host, Record};
use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::attachment::Attachment;
use crate::container::{Container, open_netns, routes};
use crate::error::{CniError, code};
use crate::ipam::Ipam;
use crate::request::Request;
use crate::result::{AddResult, Interface};
use crate::steering;
use crate::version::SpecVersion;

/// The differences found so far, each a sentence.
#[derive(Debug, Default)]
pub struct Drift(Vec<String>);

impl Drift {
    /// Adds a difference.
    pub fn found(&mut self, sentence: impl Into<String>) {
        self.0.push(sentence.into());
    }

    /// Adds a difference unless what ADD left `holds`.
    pub fn unless(&mut self, holds: bool, sentence: impl FnOnce() -> String) {
        if !holds {
            self.0.push(sentence());
        }
    }

    /// Whether nothing differs so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn report(self, key: &Key) -> Result<(), CniError> {
        if self.is_empty() {
            return Ok(());
        }
        let msg = format!(
            "attachment {key} is not as ADD left it: {}",
            self.0.join("; ")
        );
        Err(CniError::new(code::DRIFT, msg)
            .details("put back what was changed, or remove the attachment and add it anew"))
    }
}

/// Succeeds only if the attachment is as ADD left it: record, addresses, namespace,
/// then `host_side`, then the container's side. `host_side` gets the container too, for
/// what only this kind of attachment has in it.
///
/// # Errors
/// Code 105 with every difference; code 7 without `prevResult`; else what cannot be
/// read.
pub fn check(
    attachment: &Attachment,
    request: &Request,
    host_side: impl FnOnce(&Record, &Container, &mut Drift) -> Result<(), CniError>,
) -> Result<(), CniError> {
    let key = attachment.key();
    let Some(previous) = request.prev_result() else {
        let msg = format!("CHECK of {key} came without prevResult");
        return Err(CniError::new(code::CONFIG, msg)
            .details("the runtime must pass the result of ADD in key \"prevResult\""));
    };
    let record = attachment.committed()?;
    Ipam::of(attachment.root(), request)?.check(request)?;
    let netns = open_netns(request)?;
    let mut drift = Drift::default();
    same_netns(&record, &netns, &mut drift)?;
    if drift.is_empty() {
        let container = Container::open(netns, key.ifname())?;
        host_side(&record, &container, &mut drift)?;
        container_side(&container, &record, previous, &mut drift)?;
    }
    drift.report(key)
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

fn container_side(
    container: &Container,
    record: &Record,
    previous: &AddResult,
    drift: &mut Drift,
) -> Result<(), CniError> {
    let ifname = &container.ifname;
    let Some(link) = container.net.find_link(ifname)? else {
        drift.found(format!("interface {ifname} is gone from the container"));
        return Ok(());
    };
    link_drift(&link, (container, record, previous), drift);
    address_drift(&link, container, record, drift)?;
    route_drift(&link, container, &own_routes(record, previous)?, drift)?;
    let steered = record.rps.as_ref();
    let steered = steered.and_then(|rps| Some((rps.set_container.as_ref()?, rps.flow_entries)));
    if let Some((cpus, flows)) = steered {
        let sysfs = NetSysfs::of(&container.netns)?;
        let found = steering::rps_drift(&sysfs, ifname, cpus, flows)?;
        drift.0.extend(found);
    }
    Ok(())
}

fn link_drift(
    link: &Link,
    (container, record, previous): (&Container, &Record, &AddResult),
    drift: &mut Drift,
) {
    let ifname = &container.ifname;
    drift.unless(link.up || record.container.left_down, || {
        format!("interface {ifname} is down")
    });
    let own = record.container.mac;
    let (mac, consequence) = match &record.host {
        Host::Bridge(host) if host.flags.locked => (own, ", the only one its port lets pass"),
        Host::Bridge(_) => (named_mac(ifname, previous).or(own), ""),
        Host::Sriov(_) => (own, ""),
    };
    drift.unless(link.mac == mac, || {
        format!(
            "MAC address of {ifname} is {}, was set to {}{consequence}",
            shown(link.mac),
            shown(mac)
        )
    });
    let mtu = record.container.mtu.unwrap_or(link.mtu);
    drift.unless(link.mtu == mtu, || {
        format!("mtu of {ifname} is {}, was set to {mtu}", link.mtu)
    });
}

/// The address by the result of the whole chain, which a later plugin that set another
/// has put there.
fn named_mac(ifname: &IfName, result: &AddResult) -> Option<MacAddr> {
    let inside = |i: &&Interface| i.sandbox.is_some() && i.name == ifname.as_str();
    let interface = result.interfaces.iter().find(inside)?;
    interface.mac.as_ref()?.parse().ok()
}

fn shown(mac: Option<MacAddr>) -> String {
    mac.map_or_else(|| "none".to_owned(), |mac| mac.to_string())
}

fn address_drift(
    link: &Link,
    container: &Container,
    record: &Record,
    drift: &mut Drift,
) -> Result<(), CniError> {
    let live = container.net.addresses(link.index)?;
    for wish in &record.container.ips {
        let found = live.iter().find(|address| address.net == *wish);
        drift.unless(found.is_some(), || {
            format!("address {wish} is gone from {}", container.ifname)
        });
        drift.unless(!found.is_some_and(|address| address.dad_failed), || {
            format!(
                "address {wish} of {} is another station's",
                container.ifname
            )
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
    link: &Link,
    container: &Container,
    wished: &[Route],
    drift: &mut Drift,
) -> Result<(), CniError> {
    let live = container.net.routes(link.index)?;
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
fn same_destination(live: IpNetwork, wish: IpNetwork) -> bool {
    live.network() == wish.network() && live.prefix() == wish.prefix()
}
