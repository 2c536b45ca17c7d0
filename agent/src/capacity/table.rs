//! The report for people.

use std::io::{self, Write};

use super::report::{Bridge, Capacity, CpuNumbers, Disk, Network, NetworkKind, Nic};
use crate::vf::list;
use crate::vf::survey::State;

/// Writes the report as tables, one per kind of thing, and the conditions below.
pub(crate) fn table(capacity: &Capacity, out: &mut dyn Write) -> io::Result<()> {
    title(capacity, out)?;
    let head = [
        "CORES",
        "TOTAL",
        "RESERVED",
        "EXCLUSIVE",
        "FREE",
        "LARGEST HOLE",
        "SHARED POOL",
        "OFFLINE",
    ];
    section(head, capacity.cpu.nodes.iter().map(cpus).collect(), out)?;
    memory(capacity, out)?;
    let head = [
        "NIC",
        "ADDRESS",
        "NUMA",
        "SPEED",
        "CARRIER",
        "VFS",
        "FREE",
        "CLAIMED",
        "QUARANTINED",
    ];
    section(head, capacity.nics.iter().map(nic).collect(), out)?;
    let head = ["BRIDGE", "UPLINK", "VLANS", "PORTS", "FREE"];
    section(head, capacity.bridges.iter().map(bridge).collect(), out)?;
    let head = ["NETWORK", "KIND", "ATTACHMENTS", "ADDRESSES FREE"];
    section(head, capacity.networks.iter().map(network).collect(), out)?;
    let head = [
        "DISK",
        "SIZE",
        "USED",
        "COMMITTED",
        "FREE",
        "QUOTA",
        "READ/S",
        "WRITE/S",
        "WEIGHTS",
    ];
    section(head, capacity.disks.iter().map(disk).collect(), out)?;
    for condition in &capacity.conditions {
        writeln!(out, "\n{}: {}", condition.object, condition.effect)?;
        for (label, text) in [("reason", &condition.reason), ("remedy", &condition.remedy)] {
            if !text.is_empty() {
                writeln!(out, "  {label}: {text}")?;
            }
        }
    }
    Ok(())
}

/// The node and what it is called.
fn title(capacity: &Capacity, out: &mut dyn Write) -> io::Result<()> {
    let node = &capacity.node;
    write!(
        out,
        "node {}, generation {}",
        node.hostname, capacity.generation
    )?;
    if let Some(zone) = &node.zone {
        write!(out, ", zone {zone}")?;
    }
    for (name, value) in &node.labels {
        write!(out, ", {name} {value}")?;
    }
    writeln!(out)
}

/// A table below an empty line; nothing without rows.
fn section<const N: usize>(
    head: [&str; N],
    rows: Vec<[String; N]>,
    out: &mut dyn Write,
) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut all = vec![head.map(str::to_owned)];
    all.extend(rows);
    writeln!(out)?;
    list::table(&all, out)
}

fn cpus(node: &CpuNumbers) -> [String; 8] {
    [
        format!("node {}", node.node),
        node.cores_total.to_string(),
        node.cores_reserved.to_string(),
        node.cores_exclusive.to_string(),
        node.cores_exclusive_free.to_string(),
        node.largest_hole_cores.to_string(),
        or_dash(node.shared_pool.to_string()),
        or_dash(node.offline.to_string()),
    ]
}

fn memory(capacity: &Capacity, out: &mut dyn Write) -> io::Result<()> {
    let memory = &capacity.memory;
    let mut rows: Vec<[String; 6]> = Vec::new();
    for node in &memory.nodes {
        let pools = node.huge_pages.iter().filter(|pool| pool.total_pages > 0);
        let pools: Vec<String> = pools
            .map(|pool| {
                let size = bytes(pool.page_bytes);
                format!("{} of {} x {size}", pool.free_pages, pool.total_pages)
            })
            .collect();
        rows.push([
            format!("node {}", node.node),
            bytes(node.total_bytes),
            "-".to_owned(),
            bytes(node.committed_bytes),
            bytes(node.free_bytes),
            or_dash(pools.join(", ")),
        ]);
    }
    rows.push([
        "all".to_owned(),
        bytes(memory.total_bytes),
        bytes(memory.reserved_bytes),
        bytes(memory.committed_bytes),
        bytes(memory.free_bytes),
        "-".to_owned(),
    ]);
    let head = [
        "MEMORY",
        "TOTAL",
        "RESERVED",
        "COMMITTED",
        "FREE",
        "HUGE PAGES FREE",
    ];
    section(head, rows, out)
}

fn nic(nic: &Nic) -> [String; 9] {
    let count = |state| {
        nic.vfs
            .iter()
            .filter(|vf| vf.state == state)
            .count()
            .to_string()
    };
    [
        told(nic.name.as_ref()),
        told(nic.address),
        told(nic.numa_node),
        nic.speed_mbit_per_sec
            .map_or_else(dash, |speed| format!("{speed} Mbit/s")),
        if nic.carrier { "yes" } else { "no" }.to_owned(),
        format!("{}/{}", nic.vfs.len(), nic.vfs_max),
        count(State::Free),
        count(State::Claimed),
        count(State::Quarantined),
    ]
}

fn bridge(bridge: &Bridge) -> [String; 5] {
    let vlans: Vec<String> = bridge
        .vlans
        .iter()
        .map(|vlan| vlan.id.to_string())
        .collect();
    [
        bridge.name.to_string(),
        told(bridge.uplink.as_ref()),
        or_dash(vlans.join(",")),
        format!("{}/{}", bridge.ports_used, bridge.ports_max),
        bridge.ports_free.to_string(),
    ]
}

fn network(network: &Network) -> [String; 4] {
    let kind = match (network.kind, &network.bridge) {
        (NetworkKind::Bridge, Some(name)) => format!("bridge {name}"),
        (NetworkKind::Bridge, None) => "bridge".to_owned(),
        (NetworkKind::Sriov, _) => "sriov".to_owned(),
    };
    [
        network.name.clone(),
        kind,
        network.attachments.to_string(),
        network
            .addresses
            .map_or_else(dash, |a| format!("{}/{}", a.free, a.total)),
    ]
}

fn disk(disk: &Disk) -> [String; 9] {
    let rate = |committed: u64, capable: Option<u64>| match (committed, capable) {
        (0, None) => dash(),
        (committed, None) => bytes(committed),
        (committed, Some(capable)) => format!("{} of {}", bytes(committed), bytes(capable)),
    };
    let yes = |on| if on { "yes" } else { "no" }.to_owned();
    [
        disk.mount.display().to_string(),
        bytes(disk.size_bytes),
        bytes(disk.used_bytes),
        bytes(disk.committed_bytes),
        bytes(disk.free_bytes),
        yes(disk.quota.enforced),
        rate(
            disk.io.committed_read_bytes_per_sec,
            disk.io.read_bytes_per_sec,
        ),
        rate(
            disk.io.committed_write_bytes_per_sec,
            disk.io.write_bytes_per_sec,
        ),
        yes(disk.io.weights.enforced),
    ]
}

fn dash() -> String {
    "-".to_owned()
}

fn or_dash(text: String) -> String {
    if text.is_empty() { dash() } else { text }
}

fn told(value: Option<impl ToString>) -> String {
    value.map_or_else(dash, |value| value.to_string())
}

/// Bytes in the largest unit that leaves at least 1, with one digit after the point,
/// rounded down: what is free is never shown as more than it is.
fn bytes(count: u64) -> String {
    let mut unit = (1u64, "B");
    for (shift, name) in [
        (10, "KiB"),
        (20, "MiB"),
        (30, "GiB"),
        (40, "TiB"),
        (50, "PiB"),
    ] {
        if count >= 1 << shift {
            unit = (1 << shift, name);
        }
    }
    let (size, name) = unit;
    let tenth = u128::from(count % size) * 10 / u128::from(size);
    match (size, tenth) {
        (1, _) | (_, 0) => format!("{} {name}", count / size),
        _ => format!("{}.{tenth} {name}", count / size),
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_are_rounded_down() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (2047, "1.9 KiB"),
            (u64::MAX, "16383.9 PiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
