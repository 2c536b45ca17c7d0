//! A first placement.

use std::collections::BTreeMap;

use berth_kernel::CpuSet;

use super::gaps::{Piece, free, pick, sum, tightest};
use super::{Booked, Machine, Unplaced, Want, explain};

/// Chooses the CPUs of a workload that has none yet, with the reasons.
pub(super) fn place(
    machine: &Machine,
    booked: &Booked,
    want: &Want,
) -> Result<(CpuSet, Vec<String>), Unplaced> {
    let free = free(machine, booked, want.unit);
    let choice = one_node(machine, &by_node(&free), want);
    if let Some(choice) = choice {
        return Ok(choice);
    }
    if want.single || sum(&free, want.unit) < want.n {
        return Err(explain::too_few(machine, want, &sizes(&free, want)));
    }
    Ok(several_nodes(machine, by_node(&free), want))
}

/// Pieces by their NUMA node.
pub(super) fn by_node(free: &[Piece]) -> BTreeMap<u32, Vec<&Piece>> {
    let mut nodes: BTreeMap<u32, Vec<&Piece>> = BTreeMap::new();
    for piece in free {
        nodes.entry(piece.node).or_default().push(piece);
    }
    nodes
}

/// How many units each node has free.
pub(super) fn sizes(free: &[Piece], want: &Want) -> BTreeMap<u32, u32> {
    let nodes = by_node(free).into_iter();
    nodes
        .map(|(node, pieces)| (node, sum(pieces, want.unit)))
        .collect()
}

/// On one node, if one suffices: the nearest; of equally near ones the one with the
/// smallest sufficient cache group; then the one with the least free.
fn one_node(
    machine: &Machine,
    nodes: &BTreeMap<u32, Vec<&Piece>>,
    want: &Want,
) -> Option<(CpuSet, Vec<String>)> {
    let size = |pieces: &[&Piece]| sum(pieces.iter().copied(), want.unit);
    let enough = nodes.iter().filter(|(_, pieces)| size(pieces) >= want.n);
    let (node, pieces) = enough.min_by_key(|(node, pieces)| {
        let far = want.near.map_or(0, |near| machine.distance(near, **node));
        let group = tightest(pieces, want.n, want.unit);
        let group = group.map_or(u32::MAX, |(size, _llc)| size);
        (far, group, size(pieces), **node)
    })?;
    let mut why = Vec::new();
    let others = nodes.len() > 1;
    why.extend(explain::node(want, *node, size(pieces), others));
    why.extend(explain::group(want, pieces));
    Some((pick(pieces, want.n, want.unit), why))
}

/// On as few nodes as possible: largest first, the rest on the smallest that suffices.
/// The node near the virtual function is among them if that takes no more nodes.
fn several_nodes(
    machine: &Machine,
    mut nodes: BTreeMap<u32, Vec<&Piece>>,
    want: &Want,
) -> (CpuSet, Vec<String>) {
    let mut cpus = CpuSet::new();
    let mut left = want.n;
    let mut used = Vec::new();
    while left > 0 {
        let Some(node) = next_node(machine, &nodes, left, (want, &used)) else {
            break;
        };
        let pieces = nodes.remove(&node).unwrap_or_default();
        cpus.extend(pick(&pieces, left, want.unit).iter());
        left = left.saturating_sub(sum(pieces, want.unit));
        used.push(node);
    }
    let why = vec![explain::spread(want, &used.into_iter().collect())];
    (cpus, why)
}

/// The next node to take `left` units from.
fn next_node(
    machine: &Machine,
    nodes: &BTreeMap<u32, Vec<&Piece>>,
    left: u32,
    (want, used): (&Want, &[u32]),
) -> Option<u32> {
    let size = |pieces: &[&Piece]| sum(pieces.iter().copied(), want.unit);
    let sizes: BTreeMap<u32, u32> = nodes.iter().map(|(n, p)| (*n, size(p))).collect();
    let far = |node: u32| -> u32 {
        let from = want.near.iter().chain(used);
        from.map(|from| machine.distance(*from, node)).sum()
    };
    if let Some(near) = want.near.filter(|near| sizes.contains_key(near)) {
        let mut rest = sizes.clone();
        let there = rest.remove(&near).unwrap_or_default();
        let with = fewest(rest.values(), left.saturating_sub(there)).map(|n| n + 1);
        if there > 0 && with == fewest(sizes.values(), left) {
            return Some(near);
        }
    }
    let enough = sizes.iter().filter(|(_, size)| **size >= left);
    let last = enough.min_by_key(|(node, size)| (far(**node), **size, **node));
    let largest = sizes
        .iter()
        .min_by_key(|(node, size)| (std::cmp::Reverse(**size), far(**node), **node));
    last.or(largest).map(|(node, _size)| *node)
}

/// How many of these sizes it takes at least to have `n`.
fn fewest<'a>(sizes: impl Iterator<Item = &'a u32>, n: u32) -> Option<usize> {
    let mut sizes: Vec<u32> = sizes.copied().collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let mut left = n;
    let mut taken = 0;
    for size in sizes {
        if left == 0 {
            break;
        }
        left = left.saturating_sub(size);
        taken += 1;
    }
    (left == 0).then_some(taken)
}
