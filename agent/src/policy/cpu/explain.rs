//! Choices and refusals in sentences.

use std::collections::BTreeMap;

use berth_kernel::CpuSet;

use super::gaps::{Piece, Unit, tightest};
use super::{Machine, Unplaced, Want};
use crate::refusal::{Code, Missing};

/// `1 core`, `3 CPUs`.
fn amount(n: u32, unit: Unit) -> String {
    match (n, unit) {
        (1, Unit::Cores) => "1 core".to_owned(),
        (n, Unit::Cores) => format!("{n} cores"),
        (1, Unit::Threads) => "1 CPU".to_owned(),
        (n, Unit::Threads) => format!("{n} CPUs"),
    }
}

/// `cores`, `CPUs`.
fn units(unit: Unit) -> &'static str {
    match unit {
        Unit::Cores => "cores",
        Unit::Threads => "CPUs",
    }
}

/// `NUMA node 0`, `NUMA nodes 0-1`.
fn nodes(nodes: &CpuSet) -> String {
    let s = if nodes.len() == 1 { "" } else { "s" };
    format!("NUMA node{s} {nodes}")
}

/// `CPU 3`, `CPUs 3-4`.
fn cpus(cpus: &CpuSet) -> String {
    let s = if cpus.len() == 1 { "" } else { "s" };
    format!("CPU{s} {cpus}")
}

/// The wish in words.
fn wish(want: &Want) -> String {
    let whole = match want.unit {
        Unit::Cores => "whole ",
        Unit::Threads => "",
    };
    let n = want.n;
    let amount = amount(n, want.unit);
    let what = amount.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
    let spread = if want.single {
        "on one NUMA node"
    } else {
        "on any NUMA nodes"
    };
    format!("{n} exclusive {whole}{what} {spread}")
}

/// A wish that does not fit.
fn does_not_fit(want: &Want, missing: Missing, why: Vec<String>, next: String) -> Unplaced {
    Unplaced {
        code: Code::DoesNotFit,
        wish: wish(want),
        missing: vec![missing],
        why,
        next,
    }
}

/// The wish has neither `cores` nor `cpus` above 0, or both.
pub(super) fn no_number() -> Unplaced {
    Unplaced {
        code: Code::Invalid,
        wish: "CPUs".to_owned(),
        missing: Vec::new(),
        why: vec!["the wish names no number of cores, or cores and cpus at once".to_owned()],
        next: "write cores (physical) or, with smt any, cpus (logical), at least 1".to_owned(),
    }
}

/// What came out.
pub(super) fn result(want: &Want, set: &CpuSet, on: &CpuSet) -> String {
    let whole = if want.unit == Unit::Cores {
        "whole "
    } else {
        ""
    };
    let amount = amount(want.n, want.unit).replacen(' ', &format!(" {whole}"), 1);
    format!("{amount} on {}: {}", nodes(on), cpus(set))
}

/// Why this node of several.
pub(super) fn node(want: &Want, node: u32, free: u32, others: bool) -> Option<String> {
    let has = amount(free, want.unit);
    match want.near {
        Some(near) if near == node => Some(format!(
            "NUMA node {node} is the one of its virtual function and has {has} free"
        )),
        Some(near) => Some(format!(
            "NUMA node {near} of its virtual function has too few {} free; node {node} is the nearest with enough ({has})",
            units(want.unit)
        )),
        None if others => Some(format!(
            "NUMA node {node} ({has} free) has the smallest gap it fits into, so that larger ones stay whole"
        )),
        None => None,
    }
}

/// Why these cache groups of the node.
pub(super) fn group(want: &Want, pieces: &[&Piece]) -> Option<String> {
    let one = pieces.first()?;
    if pieces.iter().all(|piece| piece.llc == one.llc) {
        return None;
    }
    Some(match tightest(pieces, want.n, want.unit) {
        Some((size, llc)) => format!(
            "of the last-level caches with enough free {}, the one of CPU {llc} has the fewest ({size})",
            units(want.unit)
        ),
        None => format!(
            "no last-level cache of the node has {} free, so the largest gaps are put together",
            amount(want.n, want.unit)
        ),
    })
}

/// Why several nodes.
pub(super) fn spread(want: &Want, on: &CpuSet) -> String {
    format!(
        "no NUMA node has {} free; {} are the fewest nodes that have",
        amount(want.n, want.unit),
        nodes(on)
    )
}

/// `node 0 has 3, node 1 has 5`.
fn per_node(sizes: &BTreeMap<u32, u32>) -> String {
    if sizes.is_empty() {
        return "no node has any".to_owned();
    }
    let nodes = sizes.iter().map(|(node, n)| format!("node {node} has {n}"));
    nodes.collect::<Vec<_>>().join(", ")
}

/// Neither one node nor, if that is allowed, all together have enough.
pub(super) fn too_few(machine: &Machine, want: &Want, sizes: &BTreeMap<u32, u32>) -> Unplaced {
    let most = sizes.values().max().copied().unwrap_or_default();
    let all = sizes.values().sum();
    let what = units(want.unit);
    let (available, scope) = if want.single {
        (most, " on one NUMA node")
    } else {
        (all, "")
    };
    let mut why = vec![format!("free {what}: {}", per_node(sizes))];
    if !machine.reserved.is_empty() {
        why.push(format!(
            "{} reserved for housekeeping",
            are(&machine.reserved)
        ));
    }
    why.extend(machine.notes.iter().cloned());
    let mut next = format!("ask for at most {available}, or release another workload");
    if want.single && all >= want.n {
        next = format!("ask for at most {available}, or for numa any ({all} free in all)");
    } else if available == 0 {
        next = "release another workload".to_owned();
    }
    let missing = Missing {
        what: format!("free {what}{scope}"),
        asked: u64::from(want.n),
        available: u64::from(available),
    };
    does_not_fit(want, missing, why, next)
}

/// `CPUs 0-1 are`.
fn are(set: &CpuSet) -> String {
    let verb = if set.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", cpus(set))
}

/// Growing keeps all.
pub(super) fn kept(held: &CpuSet) -> String {
    format!("keeps {}", cpus(held))
}

/// What was added in growing.
pub(super) fn added(want: &Want, n: u32, picked: &CpuSet, place: String) -> String {
    format!("adds {} {place}: {}", amount(n, want.unit), cpus(picked))
}

/// What was given back in shrinking.
pub(super) fn given_back(back: &CpuSet, reason: &str) -> String {
    format!("gives back {}: {reason}", cpus(back))
}

/// Too few free where it may grow.
pub(super) fn cannot_grow(
    want: &Want,
    has: u32,
    (homes, sizes): (&CpuSet, &BTreeMap<u32, u32>),
) -> Unplaced {
    let what = units(want.unit);
    let at_home = |node: &u32| !want.single || homes.contains(*node);
    let room = sizes.iter().filter(|(node, _)| at_home(node));
    let room: u32 = room.map(|(_node, n)| *n).sum();
    let all: u32 = sizes.values().sum();
    let most = has + room;
    let mut why = vec![
        format!(
            "it has {} on {} and keeps them",
            amount(has, want.unit),
            nodes(homes)
        ),
        format!("free {what}: {}", per_node(sizes)),
    ];
    let mut next = format!("ask for at most {most}, or release another workload");
    if want.single {
        why.push("with numa single it does not leave its node".to_owned());
        if has + all >= want.n {
            next = format!(
                "ask for at most {most}, or for numa any (up to {})",
                has + all
            );
        }
    }
    let place = if want.single {
        format!(" on {}", nodes(homes))
    } else {
        String::new()
    };
    let missing = Missing {
        what: format!("{what}{place}"),
        asked: u64::from(want.n),
        available: u64::from(most),
    };
    does_not_fit(want, missing, why, next)
}

/// It would still be on several nodes and wishes one.
pub(super) fn on_several_nodes(want: &Want, on: &CpuSet) -> Unplaced {
    let missing = Missing {
        what: "NUMA nodes (numa single)".to_owned(),
        asked: u64::try_from(on.len()).unwrap_or(u64::MAX),
        available: 1,
    };
    let why = vec![format!(
        "its CPUs are on {}, and a resize moves none",
        nodes(on)
    )];
    let next = "ask for numa any, for so few that one node is left, or delete the workload and apply it anew";
    does_not_fit(want, missing, why, next.to_owned())
}

/// It had single threads, wishes whole cores, and others are on them.
pub(super) fn cores_shared(want: &Want, held: &CpuSet, others: &CpuSet) -> Unplaced {
    let missing = Missing {
        what: "threads of its cores that are nobody else's".to_owned(),
        asked: u64::try_from(held.len() + others.len()).unwrap_or(u64::MAX),
        available: u64::try_from(held.len()).unwrap_or(u64::MAX),
    };
    let why = vec![format!(
        "it holds {} and another workload holds {} of the same cores",
        cpus(held),
        cpus(others)
    )];
    let next = "resize or release the other workload, or ask for cpus instead of cores";
    does_not_fit(want, missing, why, next.to_owned())
}

/// The shared pool would become too small.
pub(super) fn pool_needs(want: &Want, floor: u32, (had, has): (u32, u32)) -> Unplaced {
    let spare = had.saturating_sub(floor);
    let missing = Missing {
        what: "CPUs the shared pool can spare".to_owned(),
        asked: u64::from(had.saturating_sub(has)),
        available: u64::from(spare),
    };
    let why = vec![format!(
        "the shared pool has {} and must keep {floor}: so many were promised to shared workloads, or are needed for it not to be empty",
        amount(had, Unit::Threads)
    )];
    let next = format!(
        "ask for so few that at most {} leave the pool, or release a shared workload",
        amount(spare, Unit::Threads)
    );
    does_not_fit(want, missing, why, next)
}

/// The pool has no room for a shared wish.
pub(super) fn pool_too_small(asked: u32, pool: &CpuSet, promised: u32) -> Unplaced {
    let size = u32::try_from(pool.len()).unwrap_or(u32::MAX);
    let left = size.saturating_sub(promised);
    let all = if pool.is_empty() {
        "the shared pool has no CPUs of its own".to_owned()
    } else {
        format!("the shared pool is {}", cpus(pool))
    };
    Unplaced {
        code: Code::DoesNotFit,
        wish: format!("{} of the shared pool", amount(asked, Unit::Threads)),
        missing: vec![Missing {
            what: "CPUs in the shared pool".to_owned(),
            asked: u64::from(asked),
            available: u64::from(left),
        }],
        why: vec![format!(
            "{all}, of which {} are promised to other shared workloads",
            promised.min(size)
        )],
        next: format!(
            "ask for at most {}, or release another workload",
            amount(left, Unit::Threads)
        ),
    }
}

/// A shared wish fits.
pub(super) fn in_pool(asked: u32, pool: &CpuSet, promised: u32) -> String {
    format!(
        "{} of the shared pool ({}), in which {promised} were promised before",
        amount(asked, Unit::Threads),
        cpus(pool)
    )
}
