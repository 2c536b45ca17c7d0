//! The capacity report as metrics. The report's own words become the label `state`; a
//! part a report does not have gives no metric.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::Page;

/// Writes them.
pub(super) fn capacity(page: &mut Page<'_>, report: &Value) -> fmt::Result {
    let numa = items(report, "numa");
    for (part, help) in [
        ("cores", "Physical cores of a NUMA node by what they are"),
        ("cpus", "Logical CPUs of a NUMA node by what they are"),
        ("memory", "Bytes of memory of a NUMA node by what they are"),
    ] {
        let of_node = |node: &Value| states(&node[part], label(&node["node"]));
        let values: Vec<_> = numa.iter().flat_map(of_node).collect();
        let name = if part == "memory" {
            "memory_bytes"
        } else {
            part
        };
        page.gauges(name, help, named("node", values))?;
    }
    let disks = items(report, "disks");
    let of_disk = |disk: &Value| states(disk, label(&disk["mount"]));
    let values: Vec<_> = disks.iter().flat_map(of_disk).collect();
    let values = values
        .into_iter()
        .filter(|(_, state, _)| BYTES.contains(&state.as_str()));
    let help = "Bytes of a mounted filesystem by what they are";
    page.gauges("disk_bytes", help, named("mount", values))?;
    let vfs = vfs(&items(report, "nics")).into_iter();
    let vfs = vfs.map(|(state, count)| ([("state", state)], count));
    page.gauges("vfs", "Virtual functions by state", vfs)
}

/// What of a disk is a number of bytes.
const BYTES: [&str; 4] = ["size", "committed", "used", "free"];

/// The elements of a list of the report; none if it has no such list.
fn items(report: &Value, list: &str) -> Vec<Value> {
    report[list].as_array().cloned().unwrap_or_default()
}

/// Every number in `part` with its name, less the unit, and the label of whose it is.
fn states(part: &Value, of: String) -> Vec<(String, String, u64)> {
    let members = part.as_object().into_iter().flatten();
    let numbers = members.filter_map(|(name, value)| {
        let state = name.strip_suffix("_bytes").unwrap_or(name);
        Some((of.clone(), state.to_owned(), value.as_u64()?))
    });
    numbers.collect()
}

fn named(
    key: &'static str,
    values: impl IntoIterator<Item = (String, String, u64)>,
) -> impl Iterator<Item = ([(&'static str, String); 2], u64)> {
    let values = values.into_iter();
    values.map(move |(of, state, value)| ([(key, of), ("state", state)], value))
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
