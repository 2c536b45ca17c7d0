//! `berth vf show`: one VF from all sides. Everything is read; what cannot be read
//! says why and hides nothing else.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use berth_kernel::ethtool::Ethtool;
use berth_kernel::irq::{self, Role, Vector};
use berth_kernel::netlink::{self, Link, Net};
use berth_kernel::sysfs::Carried;
use berth_kernel::{CpuSet, IfName, MacAddr, NetSysfs, Root};
use berth_state::record::{Host, Phase};
use berth_state::{Record, Records};
use serde::Serialize;

use super::survey::{self, Entry, Place, Seen};
use crate::cli::{Output, ShowArgs};

mod text;

/// The answer: stable, `schema` rises when a field changes its meaning.
#[derive(Debug, Serialize)]
struct Answer {
    schema: u32,
    #[serde(flatten)]
    entry: Entry,
    record: Option<OnRecord>,
    at_pf: Option<AtPf>,
    link: Option<Netdev>,
    received: Option<Counters>,
    sent: Option<Counters>,
    vectors: Vec<Pinned>,
    rx_queues: Vec<RxQueue>,
    tx_queues: Vec<TxQueue>,
    /// What could not be read, and why.
    unknown: Vec<String>,
}

/// The record of its attachment.
#[derive(Debug, Serialize)]
struct OnRecord {
    path: PathBuf,
    phase: Phase,
}

/// What the PF keeps for it; `None`: the PF's driver does not report it.
#[derive(Debug, Serialize)]
struct AtPf {
    mac: Option<MacAddr>,
    vlan: u16,
    vlan_qos: u8,
    vlan_proto: String,
    min_tx_rate_mbps: u32,
    max_tx_rate_mbps: u32,
    spoofchk: Option<bool>,
    trust: Option<bool>,
    link_state: Option<String>,
    query_rss: Option<bool>,
}

impl From<&netlink::Vf> for AtPf {
    fn from(vf: &netlink::Vf) -> Self {
        Self {
            mac: vf.mac,
            vlan: vf.vlan.id,
            vlan_qos: vf.vlan.qos,
            vlan_proto: vf.vlan.proto.to_string(),
            min_tx_rate_mbps: vf.min_tx_rate,
            max_tx_rate_mbps: vf.max_tx_rate,
            spoofchk: vf.spoofchk,
            trust: vf.trust,
            link_state: vf.link_state.map(|state| state.to_string()),
            query_rss: vf.query_rss,
        }
    }
}

/// Its network device.
#[derive(Debug, Serialize)]
struct Netdev {
    name: IfName,
    mac: Option<MacAddr>,
    mtu: u32,
    up: bool,
    carrier: bool,
    promisc: bool,
    allmulti: bool,
    tx_queue_len: u32,
    alias: Option<String>,
    /// Channels that both receive and transmit, if the driver tells.
    combined_channels: Option<u32>,
}

/// What it has carried in one direction since its driver was bound.
#[derive(Debug, Serialize)]
struct Counters {
    packets: u64,
    bytes: u64,
    errors: u64,
    dropped: u64,
}

impl From<Carried> for Counters {
    fn from(carried: Carried) -> Self {
        Self {
            packets: carried.packets,
            bytes: carried.bytes,
            errors: carried.errors,
            dropped: carried.dropped,
        }
    }
}

/// An interrupt vector and its CPUs.
#[derive(Debug, Serialize)]
struct Pinned {
    vector: usize,
    irq: u32,
    role: String,
    action: String,
    /// CPUs its attachment wished for.
    wished: Option<CpuSet>,
    /// CPUs that are set.
    actual: Option<CpuSet>,
    /// CPUs it uses; true only after its next interrupt.
    effective: Option<CpuSet>,
    /// Interrupts so far by CPU, where there were any.
    counts: BTreeMap<u32, u64>,
}

/// A receive queue.
#[derive(Debug, Serialize)]
struct RxQueue {
    queue: u32,
    rps_cpus: Option<CpuSet>,
    rps_flow_cnt: Option<u32>,
}

/// A transmit queue.
#[derive(Debug, Serialize)]
struct TxQueue {
    queue: u32,
    xps_cpus: Option<CpuSet>,
}

/// Shows on `out`.
pub(super) fn run(args: &ShowArgs, root: &Root, out: &mut dyn Write) -> Result<()> {
    let seen = survey::one(root, args.address)?;
    let answer = answer(root, &seen.ok_or_else(|| survey::absent(args.address))?);
    match args.output {
        Output::Text => text::write(&answer, out)?,
        Output::Json => {
            serde_json::to_writer_pretty(&mut *out, &answer).map_err(io::Error::from)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

fn answer(root: &Root, seen: &Seen) -> Answer {
    let mut unknown = Unknown::default();
    let entry = Entry::of(seen);
    let records = Records::new(root);
    let record = entry.owner.as_ref().and_then(|key| {
        let record = unknown.of("record", records.load(key)).flatten()?;
        Some((records.path(key), record))
    });
    let wished = record.as_ref().map(|(_, record)| wished(record, seen));
    let side = unknown.of("settings at the PF", at_pf(seen));
    let vectors = unknown.of("interrupts", irq::vectors(root, seen.vf.address));
    let mut answer = Answer {
        schema: 1,
        record: record.map(|(path, record)| OnRecord {
            path,
            phase: record.phase,
        }),
        at_pf: side.flatten(),
        link: seen.place.link().map(|link| netdev(seen, link)),
        received: None,
        sent: None,
        vectors: pinned(
            root,
            &vectors.unwrap_or_default(),
            &wished.unwrap_or_default(),
        ),
        rx_queues: Vec::new(),
        tx_queues: Vec::new(),
        unknown: Vec::new(),
        entry,
    };
    if let Some(link) = seen.place.link()
        && let Some(sysfs) = unknown.of("queues and counters", sysfs_of(root, seen))
    {
        let name = &link.name;
        let queues = unknown.of("queues", queues(&sysfs, name));
        (answer.rx_queues, answer.tx_queues) = queues.unwrap_or_default();
        let received = unknown.of("received frames", sysfs.received(name));
        answer.received = received.map(Counters::from);
        answer.sent = unknown
            .of("sent frames", sysfs.sent(name))
            .map(Counters::from);
    }
    answer.unknown = unknown.0;
    answer
}

/// What could not be read.
#[derive(Default)]
struct Unknown(Vec<String>);

impl Unknown {
    fn of<T, E: std::fmt::Display>(&mut self, what: &str, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.0.push(format!("{what}: {error}"));
                None
            }
        }
    }
}

/// The CPUs the attachment wished for, by interrupt; none if another VF's.
fn wished(record: &Record, seen: &Seen) -> BTreeMap<u32, CpuSet> {
    match &record.host {
        Host::Sriov(host) if host.vf == seen.vf.address => host.set.irqs.clone(),
        Host::Sriov(_) | Host::Bridge(_) => BTreeMap::new(),
    }
}

fn at_pf(seen: &Seen) -> berth_kernel::Result<Option<AtPf>> {
    let Some(name) = seen.pf.netdevs.first() else {
        return Ok(None);
    };
    let net = Net::open()?;
    let all = net.vfs(net.link(name)?.index)?;
    let own = all.iter().find(|vf| vf.index == seen.vf.index);
    Ok(own.map(AtPf::from))
}

fn netdev(seen: &Seen, link: &Link) -> Netdev {
    let ethtool = match &seen.place {
        Place::Container(netns, _) => Ethtool::open_in(netns),
        Place::Host(_) | Place::Nowhere => Ethtool::open(),
    };
    let channels = ethtool.and_then(|ethtool| ethtool.channels(&link.name));
    let channels = channels.ok().flatten();
    Netdev {
        name: link.name.clone(),
        mac: link.mac,
        mtu: link.mtu,
        up: link.up,
        carrier: link.carrier,
        promisc: link.promisc,
        allmulti: link.allmulti,
        tx_queue_len: link.tx_queue_len,
        alias: link.alias.clone(),
        combined_channels: channels.map(|channels| channels.current.combined),
    }
}

fn pinned(root: &Root, vectors: &[Vector], wished: &BTreeMap<u32, CpuSet>) -> Vec<Pinned> {
    let one = |(vector, found): (usize, &Vector)| {
        let irq = found.irq;
        let mut counts = irq::counts(root, irq).unwrap_or_default();
        counts.retain(|_, count| *count > 0);
        Pinned {
            vector,
            irq: irq.0,
            role: role(found.role),
            action: found.action.clone(),
            wished: wished.get(&irq.0).cloned(),
            // Both are absent while nobody handles the interrupt.
            actual: irq::affinity(root, irq).ok(),
            effective: irq::effective_affinity(root, irq).ok().flatten(),
            counts,
        }
    };
    vectors.iter().enumerate().map(one).collect()
}

fn role(role: Role) -> String {
    match role {
        Role::Rx(queue) => format!("rx {queue}"),
        Role::Tx(queue) => format!("tx {queue}"),
        Role::RxTx(queue) => format!("rx+tx {queue}"),
        Role::Control => "control".to_owned(),
        Role::Idle => "idle".to_owned(),
    }
}

/// The devices of the namespace the VF's interface is in.
fn sysfs_of(root: &Root, seen: &Seen) -> berth_kernel::Result<NetSysfs> {
    match &seen.place {
        Place::Container(netns, _) => NetSysfs::of(netns),
        Place::Host(_) | Place::Nowhere => NetSysfs::at(root),
    }
}

fn queues(sysfs: &NetSysfs, name: &IfName) -> berth_kernel::Result<(Vec<RxQueue>, Vec<TxQueue>)> {
    let rx = sysfs.rx_queues(name)?.into_iter().map(|queue| RxQueue {
        queue,
        rps_cpus: sysfs.rps_cpus(name, queue).ok(),
        rps_flow_cnt: sysfs.rps_flow_cnt(name, queue).ok(),
    });
    let rx = rx.collect();
    let tx = sysfs.tx_queues(name)?.into_iter().map(|queue| TxQueue {
        queue,
        xps_cpus: sysfs.xps_cpus(name, queue).ok(),
    });
    Ok((rx, tx.collect()))
}
