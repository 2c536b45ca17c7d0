//! What is free, in the pieces it can be handed out in, and how a number of them is
//! picked so that large holes stay whole.

use std::collections::BTreeMap;

use berth_kernel::CpuSet;

use super::machine::count;
use super::{Booked, Core, Machine};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Whole cores.
    Cores,
    /// Single hardware threads.
    Threads,
}

/// The free part of a core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// The CPUs that can be handed out.
    pub(super) cpus: CpuSet,
    /// The core's NUMA node.
    pub(super) node: u32,
    /// The core's last-level cache.
    pub(super) llc: u32,
    /// Whether somebody has the rest of the core.
    broken: bool,
}

impl Unit {
    /// How many units a piece is.
    fn of(self, piece: &Piece) -> u32 {
        match self {
            Self::Cores => 1,
            Self::Threads => count(&piece.cpus),
        }
    }
}

/// How many units are in pieces.
pub(super) fn sum<'a>(pieces: impl IntoIterator<Item = &'a Piece>, unit: Unit) -> u32 {
    pieces.into_iter().map(|piece| unit.of(piece)).sum()
}

/// What is free, by the lowest CPU.
pub(super) fn free(machine: &Machine, booked: &Booked, unit: Unit) -> Vec<Piece> {
    let claimed = claimed(machine, booked);
    let held = booked.held();
    let cores = machine.cores.iter().filter(|core| machine.usable(core));
    let pieces = cores.map(|core| Piece {
        cpus: core.cpus.intersection(&machine.online).difference(&claimed),
        node: core.node,
        llc: core.llc,
        broken: !core.cpus.intersection(&held).is_empty(),
    });
    let fits = |piece: &Piece| match unit {
        Unit::Cores => !piece.broken,
        Unit::Threads => !piece.cpus.is_empty(),
    };
    pieces.filter(fits).collect()
}

/// The CPUs that are nobody else's: those held, and of the cores that somebody holds
/// whole also the threads that came online later.
pub(super) fn claimed(machine: &Machine, booked: &Booked) -> CpuSet {
    let mut claimed = booked.held();
    for (id, held) in &booked.exclusive {
        if !booked.single_threads.contains(id) {
            claimed.extend(touched(machine, held).flat_map(|core| core.cpus.iter()));
        }
    }
    claimed
}

/// The cores some CPUs are on.
pub(super) fn touched<'a>(
    machine: &'a Machine,
    cpus: &CpuSet,
) -> impl Iterator<Item = &'a Core> + use<'a> {
    let cpus = cpus.clone();
    let cores = machine.cores.iter();
    cores.filter(move |core| !core.cpus.intersection(&cpus).is_empty())
}

/// Pieces by the cache they share.
pub(super) fn groups<'a>(pieces: &[&'a Piece]) -> BTreeMap<u32, Vec<&'a Piece>> {
    let mut groups: BTreeMap<u32, Vec<&Piece>> = BTreeMap::new();
    for piece in pieces {
        groups.entry(piece.llc).or_default().push(piece);
    }
    groups
}

/// The smallest cache group that has `n` units, and how many it has.
pub(super) fn tightest(pieces: &[&Piece], n: u32, unit: Unit) -> Option<(u32, u32)> {
    let groups = groups(pieces);
    let sizes = groups
        .iter()
        .map(|(llc, group)| (sum(group.iter().copied(), unit), *llc));
    sizes.filter(|(size, _llc)| *size >= n).min()
}

/// Picks `n` units, or all if there are fewer: from the smallest cache group that
/// suffices; if none does, the largest ones whole and the rest from the smallest that
/// suffices.
pub(super) fn pick(pieces: &[&Piece], n: u32, unit: Unit) -> CpuSet {
    let mut groups = groups(pieces);
    let mut picked = CpuSet::new();
    let mut left = n;
    while left > 0 && !groups.is_empty() {
        let pieces: Vec<&Piece> = groups.values().flatten().copied().collect();
        let size = |group: &[&Piece]| sum(group.iter().copied(), unit);
        let llc = match tightest(&pieces, left, unit) {
            Some((_size, llc)) => Some(llc),
            // Of equal ones the lowest.
            None => groups
                .iter()
                .max_by_key(|(llc, group)| (size(group), std::cmp::Reverse(**llc)))
                .map(|(llc, _group)| *llc),
        };
        let group = llc.and_then(|llc| groups.remove(&llc)).unwrap_or_default();
        let taken = from_group(group, left, unit);
        left = left.saturating_sub(sum(&taken, unit));
        picked.extend(taken.iter().flat_map(|piece| piece.cpus.iter()));
    }
    picked
}

/// Picks from one cache group: rests of broken cores first, the smallest first, so that
/// whole cores stay whole; then the lowest.
fn from_group(mut group: Vec<&Piece>, n: u32, unit: Unit) -> Vec<Piece> {
    let rest = |piece: &Piece| (!piece.broken, piece.cpus.len(), piece.cpus.first());
    match unit {
        Unit::Cores => group.sort_by_key(|piece| piece.cpus.first()),
        Unit::Threads => group.sort_by_key(|piece| rest(piece)),
    }
    let mut left = n;
    let mut taken = Vec::new();
    for piece in group {
        if left == 0 {
            break;
        }
        let mut piece = piece.clone();
        if unit == Unit::Threads {
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            piece.cpus = piece.cpus.iter().take(most).collect();
        }
        left = left.saturating_sub(unit.of(&piece));
        taken.push(piece);
    }
    taken
}
