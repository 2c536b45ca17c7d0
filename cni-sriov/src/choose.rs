//! In which order free VFs are tried. Pure: nothing here touches the kernel.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use berth_kernel::PciAddr;

use crate::conf::Policy;

/// A free VF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its PF.
    pub pf: PciAddr,
    /// Its PF's NUMA node, if the firmware names one.
    pub node: Option<u32>,
    /// Its address.
    pub vf: PciAddr,
    /// Its index at the PF.
    pub index: u32,
}

/// The VFs in the order they are to be tried. `near` are the NUMA nodes of the
/// container's CPUs; empty if those are not known.
pub fn order(free: &[Candidate], policy: Policy, near: &BTreeSet<u32>) -> Vec<Candidate> {
    match policy {
        Policy::Pack => packed(free),
        Policy::Spread => spread(free),
        Policy::Numa => {
            let is_near =
                |candidate: &&Candidate| candidate.node.is_some_and(|node| near.contains(&node));
            let (first, rest): (Vec<&Candidate>, Vec<&Candidate>) = free.iter().partition(is_near);
            let copied = |list: Vec<&Candidate>| list.into_iter().copied().collect::<Vec<_>>();
            let mut order = packed(&copied(first));
            order.extend(packed(&copied(rest)));
            order
        }
    }
}

/// One PF after the other, the one with the fewest free VFs first.
fn packed(free: &[Candidate]) -> Vec<Candidate> {
    let mut functions = by_function(free);
    functions.sort_by_key(VecDeque::len);
    functions.into_iter().flatten().collect()
}

/// Each from the PF that has the most left.
fn spread(free: &[Candidate]) -> Vec<Candidate> {
    let mut functions = by_function(free);
    let mut order = Vec::with_capacity(free.len());
    // Of several with as many, the first by address: `max_by_key` alone takes the last.
    while let Some(next) = functions
        .iter_mut()
        .rev()
        .max_by_key(|vfs| vfs.len())
        .and_then(VecDeque::pop_front)
    {
        order.push(next);
    }
    order
}

/// The VFs of each PF by index; PFs by address.
fn by_function(free: &[Candidate]) -> Vec<VecDeque<Candidate>> {
    let mut functions: BTreeMap<PciAddr, Vec<Candidate>> = BTreeMap::new();
    for candidate in free {
        functions.entry(candidate.pf).or_default().push(*candidate);
    }
    let sorted = functions.into_values().map(|mut vfs| {
        vfs.sort_by_key(|candidate| candidate.index);
        VecDeque::from(vfs)
    });
    sorted.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// VF `index` of the PF on bus `pf`, which is on NUMA node `pf` too.
    fn vf(pf: u32, index: u32) -> Candidate {
        Candidate {
            pf: format!("0000:{pf:02x}:00.0").parse().unwrap(),
            node: Some(pf),
            vf: format!("0000:{pf:02x}:10.{index}").parse().unwrap(),
            index,
        }
    }

    fn shown(order: &[Candidate]) -> Vec<(u32, u32)> {
        let of = |c: &Candidate| (c.node.unwrap(), c.index);
        order.iter().map(of).collect()
    }

    const TWO: [(u32, u32); 5] = [(1, 1), (0, 2), (0, 0), (1, 0), (0, 1)];

    fn two() -> Vec<Candidate> {
        TWO.iter().map(|(pf, index)| vf(*pf, *index)).collect()
    }

    #[test]
    fn pack_fills_the_fuller_pf_first() {
        let order = order(&two(), Policy::Pack, &BTreeSet::new());
        assert_eq!(shown(&order), [(1, 0), (1, 1), (0, 0), (0, 1), (0, 2)]);
    }

    #[test]
    fn spread_takes_from_the_emptier_pf_each_time() {
        let order = order(&two(), Policy::Spread, &BTreeSet::new());
        assert_eq!(shown(&order), [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1)]);
    }

    #[test]
    fn numa_takes_near_ones_first_and_far_ones_rather_than_none() {
        let near = |nodes: &[u32]| order(&two(), Policy::Numa, &nodes.iter().copied().collect());
        assert_eq!(shown(&near(&[0])), [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]);
        assert_eq!(shown(&near(&[1])), shown(&near(&[])));
        let nowhere = Candidate {
            node: None,
            ..vf(0, 0)
        };
        let order = order(&[nowhere, vf(1, 0)], Policy::Numa, &BTreeSet::from([1]));
        assert_eq!(order, [vf(1, 0), nowhere]);
    }

    proptest! {
        #[test]
        fn every_free_vf_is_tried_once(
            free in prop::collection::btree_set((0u32..4, 0u32..8), 0..20),
            near in prop::collection::btree_set(0u32..4, 0..3),
        ) {
            let free: Vec<Candidate> = free.iter().map(|(pf, index)| vf(*pf, *index)).collect();
            for policy in [Policy::Numa, Policy::Pack, Policy::Spread] {
                let order = order(&free, policy, &near);
                let tried: BTreeSet<PciAddr> = order.iter().map(|c| c.vf).collect();
                prop_assert_eq!(order.len(), free.len());
                prop_assert_eq!(tried.len(), free.len());
            }
        }
    }
}
