//! The capacity report as metrics. A part that a report does not have gives no metric.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::Page;

/// Which numbers of a NUMA node's cores are which state.
const CORES: [(&str, &str); 5] = [
    ("cores_total", "total"),
    ("cores_reserved", "reserved"),
    ("cores_exclusive", "exclusive"),
    ("cores_exclusive_free", "exclusive_free"),
    ("largest_hole_cores", "largest_hole"),
];

/// The same of its memory.
const MEMORY: [(&str, &str); 3] = [
    ("total_bytes", "total"),
    ("committed_bytes", "committed"),
    ("free_bytes", "free"),
];

/// The same of a disk.
const DISK: [(&str, &str); 5] = [
    ("size_bytes", "size"),
    ("used_bytes", "used"),
    ("committable_bytes", "committable"),
    ("committed_bytes", "committed"),
    ("free_bytes", "free"),
];

/// Writes them.
pub(super) fn capacity(page: &mut Page<'_>, report: &Value) -> fmt::Result {
    let help = "Physical cores of a NUMA node by what they are";
    let cores = states(&items(&report["cpu"], "nodes"), "node", &CORES);
    page.gauges("cores", help, cores)?;
    let help = "Memory of a NUMA node by what it is";
    let memory = states(&items(&report["memory"], "nodes"), "node", &MEMORY);
    page.gauges("memory_bytes", help, memory)?;
    let help = "Bytes of a mounted filesystem by what they are";
    let disks = states(&items(report, "disks"), "mount", &DISK);
    page.gauges("disk_bytes", help, disks)?;
    let vfs = vfs(&items(report, "nics")).into_iter();
    let vfs = vfs.map(|(state, count)| ([("state", state)], count));
    page.gauges("vfs", "Virtual functions by state", vfs)?;
    let conditions = u64::try_from(items(report, "conditions").len()).unwrap_or(u64::MAX);
    page.gauge("node_conditions", "Things the node cannot do", conditions)
}

/// The elements of a list of the report; none if it has no such list.
fn items(report: &Value, list: &str) -> Vec<Value> {
    report[list].as_array().cloned().unwrap_or_default()
}

/// Of each part: its label `key` and the numbers it has of those `named`, with their
/// states.
fn states(
    parts: &[Value],
    key: &'static str,
    named: &[(&str, &str)],
) -> Vec<([(&'static str, String); 2], u64)> {
    let mut all = Vec::new();
    for part in parts {
        for (name, state) in named {
            if let Some(value) = part[*name].as_u64() {
                let labels = [(key, label(&part[key])), ("state", (*state).to_owned())];
                all.push((labels, value));
            }
        }
    }
    all
}

/// How many there are in each state.
fn vfs(nics: &[Value]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for vf in nics.iter().flat_map(|nic| items(nic, "vfs")) {
        *counts.entry(label(&vf["state"])).or_default() += 1;
    }
    counts
}

fn label(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
