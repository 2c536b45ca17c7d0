//! Network cards with their virtual functions, bridges, and networks. One dump of the
//! links, one list of VFs per physical function.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;

use berth_kernel::netlink::{Link, Net, Vf};
use berth_kernel::pci::{self, PhysicalFunction, VirtualFunction};
use berth_kernel::{IfName, NetSysfs, PciAddr, Root, VlanId};
use berth_state::record::{Host, Record};
use berth_state::vf::free::Reader;
use berth_state::{BridgeRecord, BridgeRecords, Key, Records};

use super::addresses::{self, Addresses};
use super::report::{Bridge, Network, NetworkKind, Nic, NicVf, RateCommitted, VlanUse};
use super::{Condition, or_condition};
use crate::vf::survey::{self, Standing, State};

/// Ports a bridge can have: `BR_MAX_PORTS` of net/bridge/br_private.h less the number 0.
const BRIDGE_PORTS: u64 = 1023;

/// What was read of the network.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Seen {
    pub(super) nics: Vec<Nic>,
    pub(super) bridges: Vec<Bridge>,
    pub(super) networks: Vec<Network>,
}

/// Reads all of it; what cannot be read becomes a condition.
pub(super) fn read(root: &Root, conditions: &mut Vec<Condition>) -> Seen {
    let records = records(root, conditions);
    let Some(net) = or_condition("network interfaces", Net::open(), conditions) else {
        return Seen::default();
    };
    let links = or_condition("network interfaces", net.links(), conditions).unwrap_or_default();
    Seen {
        nics: nics(root, &net, (&links, &records), conditions),
        bridges: bridges(root, (&links, &records), conditions),
        networks: networks(root, &records),
    }
}

/// Every attachment's record that can be read.
fn records(root: &Root, conditions: &mut Vec<Condition>) -> Vec<Record> {
    let store = Records::new(root);
    let names = or_condition("attachment records", store.networks(), conditions);
    let mut all = Vec::new();
    for network in names.unwrap_or_default() {
        let object = format!("attachment records of network {network}");
        let list = or_condition(&object, store.list(&network), conditions);
        for record in list.unwrap_or_default() {
            all.extend(or_condition(&object, record, conditions));
        }
    }
    all
}

fn nics(
    root: &Root,
    net: &Net,
    (links, records): (&[Link], &[Record]),
    conditions: &mut Vec<Condition>,
) -> Vec<Nic> {
    let functions = or_condition("PCI devices", pci::physical_functions(root), conditions);
    let functions: Vec<PhysicalFunction> = functions.unwrap_or_default();
    let virtual_ones: BTreeSet<PciAddr> = functions
        .iter()
        .flat_map(|pf| pf.vfs.iter().map(|vf| vf.address))
        .collect();
    let by_address = |address| links.iter().find(|link| link.pci() == Some(address));
    let mut nics = Vec::new();
    let reader = or_condition("reserved VFs", Reader::new(root, net), conditions);
    for pf in functions.iter().filter(|pf| pf.is_network) {
        let link = by_address(pf.address);
        let mut nic = card(root, link);
        nic.address = Some(pf.address);
        nic.numa_node = pf.numa_node;
        nic.driver.clone_from(&pf.driver);
        nic.vfs_max = u64::from(pf.total_vfs);
        if let Some(reader) = &reader {
            let reported = match link.filter(|_| !pf.vfs.is_empty()) {
                Some(link) => or_condition(
                    &format!("VFs of {}", link.name),
                    net.vfs(link.index),
                    conditions,
                ),
                None => None,
            };
            let reported = reported.unwrap_or_default();
            for vf in &pf.vfs {
                let object = format!("VF {}", vf.address);
                let standing = or_condition(&object, survey::standing(reader, vf), conditions);
                let side = reported.iter().find(|side| side.index == vf.index);
                nic.vfs
                    .extend(standing.map(|s| one_vf(root, (vf, side), s, records)));
            }
        }
        nic.rate_committed = committed(&nic.vfs);
        nics.push(nic);
    }
    let known: BTreeSet<PciAddr> = functions.iter().map(|pf| pf.address).collect();
    let other = |link: &&Link| {
        let address = link.pci();
        let met = |set: &BTreeSet<PciAddr>| address.is_some_and(|a| set.contains(&a));
        link.parent.is_some() && !met(&virtual_ones) && !met(&known)
    };
    nics.extend(
        links
            .iter()
            .filter(other)
            .map(|link| card(root, Some(link))),
    );
    nics
}

/// A card as its link tells.
fn card(root: &Root, link: Option<&Link>) -> Nic {
    let name = link.map(|link| &link.name);
    let sysfs = NetSysfs::at(root).ok();
    let numa = name.and_then(|name| sysfs.as_ref()?.numa_node(name).ok().flatten());
    Nic {
        name: name.cloned(),
        address: link.and_then(Link::pci),
        driver: None,
        numa_node: numa,
        speed_mbit_per_sec: name.and_then(|name| speed(root, name)),
        up: link.is_some_and(|link| link.up),
        carrier: link.is_some_and(|link| link.carrier),
        vfs_max: 0,
        rate_committed: RateCommitted::default(),
        vfs: Vec::new(),
    }
}

/// `class/net/NAME/speed` in Mbit/s; -1 or an error where it is unknown.
fn speed(root: &Root, name: &IfName) -> Option<u64> {
    let path = root.sys.join("class/net").join(name.as_str()).join("speed");
    // u32::MAX is the same "unknown", printed by drivers as if it were a number.
    let speed: u64 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    (0 < speed && speed < u64::from(u32::MAX)).then_some(speed)
}

fn one_vf(
    root: &Root,
    (vf, side): (&VirtualFunction, Option<&Vf>),
    standing: Standing,
    records: &[Record],
) -> NicVf {
    let record = standing
        .owner
        .as_ref()
        .and_then(|owner| records.iter().find(|record| record.key == *owner));
    NicVf {
        address: vf.address,
        index: vf.index,
        numa_node: vf.numa_node,
        driver: vf.driver.clone(),
        queues: queues(root, vf).or_else(|| Some(u64::from(record?.container.rx_queues?))),
        state: standing.state,
        reasons: standing.reasons,
        owner: standing.owner.as_ref().map(Key::to_string),
        rate_min_mbit_per_sec: side.map(|side| u64::from(side.min_tx_rate)),
        rate_max_mbit_per_sec: side.map(|side| u64::from(side.max_tx_rate)),
    }
}

/// Receive queues of its network device while that is on the host.
fn queues(root: &Root, vf: &VirtualFunction) -> Option<u64> {
    let queues = NetSysfs::at(root)
        .ok()?
        .rx_queues(vf.netdevs.first()?)
        .ok()?;
    u64::try_from(queues.len()).ok()
}

/// Sums over the VFs that belong to attachments.
fn committed(vfs: &[NicVf]) -> RateCommitted {
    let mut sums = RateCommitted::default();
    for vf in vfs.iter().filter(|vf| vf.state == State::Claimed) {
        sums.min_mbit_per_sec += vf.rate_min_mbit_per_sec.unwrap_or_default();
        match vf.rate_max_mbit_per_sec.unwrap_or_default() {
            0 => sums.vfs_without_limit += 1,
            max => sums.max_mbit_per_sec += max,
        }
    }
    sums
}

fn bridges(
    root: &Root,
    (links, records): (&[Link], &[Record]),
    conditions: &mut Vec<Condition>,
) -> Vec<Bridge> {
    let store = BridgeRecords::new(root);
    let mut bridges = Vec::new();
    for (link, settings) in links
        .iter()
        .filter_map(|l| l.bridge.as_ref().map(|b| (l, b)))
    {
        let object = format!("record of bridge {}", link.name);
        let record = or_condition(&object, store.load(&link.name), conditions);
        let mut bridge = one_bridge(link, links, records, record.as_ref());
        bridge.vlan_filtering = settings.vlan_filtering;
        bridges.push(bridge);
    }
    bridges
}

fn one_bridge(
    link: &Link,
    links: &[Link],
    records: &[Record],
    record: Option<&BridgeRecord>,
) -> Bridge {
    let ports = || links.iter().filter(|port| port.master == Some(link.index));
    let used = u64::try_from(ports().count()).unwrap_or(u64::MAX);
    let mut vlans: BTreeMap<VlanId, u64> = BTreeMap::new();
    let mut wished = None;
    for record in records {
        let Host::Bridge(host) = &record.host else {
            continue;
        };
        if host.bridge != link.name {
            continue;
        }
        wished = wished.or(host.uplink.clone());
        if let Some(vlan) = host.vlan {
            *vlans.entry(vlan).or_default() += 1;
        }
    }
    let outward = || ports().find(|port| port.parent.is_some());
    let uplink = record
        .and_then(|record| Some(record.uplink.as_ref()?.name.clone()))
        .or(wished)
        .or_else(|| Some(outward()?.name.clone()));
    let through = record.and_then(|record| record.uplink.as_ref());
    Bridge {
        name: link.name.clone(),
        ours: record.is_some_and(|record| record.created_with.is_some()),
        up: link.up,
        uplink,
        vlan_filtering: false,
        vlans: vlans
            .into_iter()
            .map(|(id, attachments)| VlanUse {
                id: id.get(),
                attachments,
            })
            .collect(),
        uplink_vlans: through
            .map(|uplink| uplink.vlans.iter().map(|vlan| vlan.get()).collect())
            .unwrap_or_default(),
        ports_used: used,
        ports_max: BRIDGE_PORTS,
        ports_free: BRIDGE_PORTS.saturating_sub(used),
    }
}

/// The networks that have attachments.
fn networks(root: &Root, records: &[Record]) -> Vec<Network> {
    let mut by_name: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in records {
        by_name
            .entry(record.key.network())
            .or_default()
            .push(record);
    }
    by_name
        .into_iter()
        .map(|(name, records)| network(root, name, &records))
        .collect()
}

fn network(root: &Root, name: &str, records: &[&Record]) -> Network {
    let known: BTreeSet<IpAddr> = records
        .iter()
        .flat_map(|record| record.container.ips.iter().map(|net| net.ip()))
        .collect();
    let addresses: Option<Addresses> = records
        .iter()
        .find_map(|record| addresses::of(root, &record.request.config, &known));
    let hosts = || records.iter().map(|record| &record.host);
    let bridge = hosts().find_map(|host| match host {
        Host::Bridge(host) => Some(host.bridge.clone()),
        Host::Sriov(_) => None,
    });
    Network {
        name: name.to_owned(),
        kind: match &bridge {
            Some(_) => NetworkKind::Bridge,
            None => NetworkKind::Sriov,
        },
        bridge,
        attachments: u64::try_from(records.len()).unwrap_or(u64::MAX),
        addresses,
    }
}

#[cfg(test)]
mod tests;
