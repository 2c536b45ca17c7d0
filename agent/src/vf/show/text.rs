//! One VF for people.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, Write};

use berth_kernel::CpuSet;
use berth_state::record::Phase;

use super::{Answer, AtPf, Netdev, Pinned, RxQueue, TxQueue};
use crate::vf::list::table;

/// Writes the answer, the owner first.
pub(super) fn write(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    let entry = &answer.entry;
    writeln!(out, "{entry}")?;
    let mut lines = vec![
        pair("state", entry.standing()),
        pair("where", place(answer)),
        pair("driver", maybe(entry.driver.as_ref(), "none")),
        pair("NUMA node", maybe(entry.numa_node, "not told")),
    ];
    if let Some(record) = &answer.record {
        let phase = match record.phase {
            Phase::Prepared => "prepared",
            Phase::Committed => "committed",
        };
        lines.push(pair(
            "record",
            format!("{} ({phase})", record.path.display()),
        ));
    }
    block("", &lines, out)?;
    if let Some(side) = &answer.at_pf {
        block("at the PF", &at_pf(side), out)?;
    }
    if let Some(link) = &answer.link {
        block("network device", &netdev(link), out)?;
    }
    counters(answer, out)?;
    vectors(&answer.vectors, out)?;
    queues(&answer.rx_queues, &answer.tx_queues, out)?;
    for unknown in &answer.unknown {
        writeln!(out, "\nnot known: {unknown}")?;
    }
    Ok(())
}

fn place(answer: &Answer) -> String {
    let entry = &answer.entry;
    match (&entry.netdev, &entry.netns) {
        (Some(name), Some(netns)) => format!("{name} in {}", netns.display()),
        _ => entry.whereabouts(),
    }
}

fn pair(label: &str, value: impl Into<String>) -> [String; 2] {
    [format!("  {label}"), value.into()]
}

fn block(title: &str, lines: &[[String; 2]], out: &mut dyn Write) -> io::Result<()> {
    if !title.is_empty() {
        writeln!(out, "\n{title}")?;
    }
    table(lines, out)
}

fn maybe(value: Option<impl Display>, none: &str) -> String {
    value.map_or_else(|| none.to_owned(), |value| value.to_string())
}

const UNTOLD: &str = "not reported";

/// What a driver does not report is not off.
fn switch(on: Option<bool>) -> String {
    maybe(on.map(|on| if on { "on" } else { "off" }), UNTOLD)
}

fn at_pf(side: &AtPf) -> Vec<[String; 2]> {
    let vlan = match (side.vlan, side.vlan_qos) {
        (0, _) => "none".to_owned(),
        (id, 0) => format!("{id} ({})", side.vlan_proto),
        (id, qos) => format!("{id} qos {qos} ({})", side.vlan_proto),
    };
    let rate = |mbps: u32| match mbps {
        0 => "none".to_owned(),
        mbps => format!("{mbps} Mbit/s"),
    };
    vec![
        pair("MAC", maybe(side.mac, UNTOLD)),
        pair("VLAN", vlan),
        pair("min_tx_rate", rate(side.min_tx_rate_mbps)),
        pair("max_tx_rate", rate(side.max_tx_rate_mbps)),
        pair("spoofchk", switch(side.spoofchk)),
        pair("trust", switch(side.trust)),
        pair("link_state", maybe(side.link_state.as_ref(), UNTOLD)),
        pair("query_rss", switch(side.query_rss)),
    ]
}

fn netdev(link: &Netdev) -> Vec<[String; 2]> {
    let on = |on: bool, name: &'static str| on.then_some(name);
    let flags = [
        Some(if link.up { "up" } else { "down" }),
        on(link.carrier, "carrier"),
        on(link.promisc, "promiscuous"),
        on(link.allmulti, "all multicast"),
    ];
    let flags: Vec<&str> = flags.into_iter().flatten().collect();
    vec![
        pair("name", link.name.as_str()),
        pair("state", flags.join(", ")),
        pair("MAC", maybe(link.mac, "none")),
        pair("MTU", link.mtu.to_string()),
        pair("txqueuelen", link.tx_queue_len.to_string()),
        pair("channels", maybe(link.combined_channels, UNTOLD)),
        pair("alias", maybe(link.alias.as_ref(), "none")),
    ]
}

fn counters(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    let both = [("received", &answer.received), ("sent", &answer.sent)];
    let head = ["  FRAMES", "PACKETS", "BYTES", "ERRORS", "DROPPED"];
    let mut rows = vec![head.map(str::to_owned)];
    for (way, counters) in both {
        let Some(one) = counters else { continue };
        let numbers = [one.packets, one.bytes, one.errors, one.dropped];
        let [packets, bytes, errors, dropped] = numbers.map(|number| number.to_string());
        rows.push([format!("  {way}"), packets, bytes, errors, dropped]);
    }
    if rows.len() == 1 {
        return Ok(());
    }
    writeln!(out, "\nframes since the driver was bound")?;
    table(&rows, out)
}

fn vectors(vectors: &[Pinned], out: &mut dyn Write) -> io::Result<()> {
    if vectors.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\ninterrupts (CPUs as wished, set and in effect; counts by CPU)"
    )?;
    let head = [
        "  VECTOR", "IRQ", "ROLE", "WISHED", "SET", "EFFECT", "COUNTS",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(vectors.iter().map(|one| {
        [
            format!("  {}", one.vector),
            one.irq.to_string(),
            one.role.clone(),
            cpus(one.wished.as_ref()),
            cpus(one.actual.as_ref()),
            cpus(one.effective.as_ref()),
            counts(&one.counts),
        ]
    }));
    table(&rows, out)
}

/// `-`: not known, or none wished; `none`: an empty set.
fn cpus(set: Option<&CpuSet>) -> String {
    match set {
        None => "-".to_owned(),
        Some(set) if set.is_empty() => "none".to_owned(),
        Some(set) => set.to_string(),
    }
}

fn counts(counts: &BTreeMap<u32, u64>) -> String {
    let each = counts
        .iter()
        .map(|(cpu, count)| format!("cpu{cpu}:{count}"));
    let all: Vec<String> = each.collect();
    match all.is_empty() {
        true => "none".to_owned(),
        false => all.join(" "),
    }
}

fn queues(rx: &[RxQueue], tx: &[TxQueue], out: &mut dyn Write) -> io::Result<()> {
    if rx.is_empty() && tx.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nqueues")?;
    let head = ["  QUEUE", "RPS CPUS", "RPS FLOWS", "XPS CPUS"];
    let mut rows = vec![head.map(str::to_owned)];
    let none = || "-".to_owned();
    rows.extend(rx.iter().map(|one| {
        let flows = maybe(one.rps_flow_cnt, "-");
        let queue = format!("  rx {}", one.queue);
        [queue, cpus(one.rps_cpus.as_ref()), flows, none()]
    }));
    rows.extend(tx.iter().map(|one| {
        let queue = format!("  tx {}", one.queue);
        [queue, none(), none(), cpus(one.xps_cpus.as_ref())]
    }));
    table(&rows, out)
}

#[cfg(test)]
mod tests;
