//! Allocation on trees of plain files.

use std::fs;

use berth_cni::steering::{Cpus, Rps};
use berth_kernel::placement::vf::{IrqPlacement, IrqPolicy};
use berth_state::testing::every_failure;
use berth_state::undo::Faults;

use super::*;
use crate::conf::{Channels, Policy, Work};
use crate::testing::{PFS, Tree, vf};

/// Any VF of both PFs.
fn conf(policy: Policy) -> Conf {
    let masters = PFS.map(|pf| Master::Address(pf.parse().unwrap()));
    Conf {
        device: Device {
            address: None,
            masters: masters.into(),
            index: None,
            policy,
        },
        distinct_pf: false,
        side: Default::default(),
        mac: None,
        mtu: None,
        promisc: None,
        allmulti: None,
        work: Work {
            channels: Channels::Keep,
            irq: IrqPolicy::Off,
            placement: IrqPlacement::Own,
            rps: Rps {
                cpus: Cpus::Off,
                flow_entries: 0,
            },
            xps: Cpus::Off,
        },
        announce: true,
        dns: None,
    }
}

fn taken(tree: &Tree, id: &str, conf: &Conf, undo: &mut Undo) -> Result<Taken, CniError> {
    take(&tree.node(id), conf, &BTreeSet::new(), undo)
}

fn undo() -> Undo {
    Undo::new(Faults::none())
}

#[test]
fn a_failure_gives_the_claim_back_unless_the_vf_was_touched() {
    let tree = Tree::new();
    let mut first = undo();
    let one = taken(&tree, "one", &conf(Policy::Pack), &mut first).unwrap();
    assert_eq!(one.vf.address, vf(0, 0));
    assert_eq!(tree.owners(), [(vf(0, 0), "net/one:net1".to_owned())]);
    drop(one);
    assert_eq!(first.rollback(), []);
    assert_eq!(tree.owners(), []);

    let mut second = undo();
    let one = taken(&tree, "one", &conf(Policy::Pack), &mut second).unwrap();
    one.touched.set(true);
    drop(one);
    assert_eq!(second.rollback(), []);
    let left = tree.owners();
    assert_eq!(left.len(), 1, "it goes with the VF's way back: {left:?}");
}

#[test]
fn no_failure_of_a_step_leaves_a_claim() {
    let tree = Tree::new();
    let attempt = |faults: Faults| {
        let mut undo = Undo::new(faults);
        match taken(&tree, "one", &conf(Policy::Pack), &mut undo) {
            Ok(one) => {
                drop(one);
                undo.commit();
                Ok(())
            }
            Err(error) => {
                assert_eq!(undo.rollback(), []);
                Err(error)
            }
        }
    };
    let (steps, ()) = every_failure(|| tree.owners(), attempt).unwrap();
    assert_eq!(steps, 1);
}

#[test]
fn each_gets_another_and_the_last_one_is_told_who_has_them() {
    let tree = Tree::new();
    let mut undos = Vec::new();
    let mut got = Vec::new();
    for id in ["a", "b", "c", "d"] {
        let mut undo = undo();
        let one = taken(&tree, id, &conf(Policy::Spread), &mut undo);
        got.push(one.unwrap().vf.address);
        undos.push(undo);
    }
    assert_eq!(got, [vf(0, 0), vf(1, 0), vf(0, 1), vf(1, 1)]);
    let mut late = undo();
    let error = taken(&tree, "e", &conf(Policy::Pack), &mut late).unwrap_err();
    assert_eq!(error.code, code::TRY_AGAIN);
    for part in [
        "pf0 VF 1",
        "pf1 VF 0",
        "claimed by net/a:net1",
        "net/d:net1",
    ] {
        assert!(error.msg.contains(part), "{part}: {}", error.msg);
    }
    assert_eq!(late.rollback(), []);
    assert_eq!(tree.owners().len(), 4);
    for undo in undos {
        undo.commit();
    }
}

#[test]
fn a_claim_that_ended_before_the_vf_was_locked_is_no_claim() {
    let tree = Tree::new();
    let node = tree.node("one");
    for ended_by in ["nobody", "another"] {
        let mut undo = undo();
        let touched = claim(&node, vf(0, 0), &mut undo).unwrap().unwrap();
        node.claims.release(vf(0, 0), node.key()).unwrap();
        if ended_by == "another" {
            tree.claim(vf(0, 0), "two", true);
        }
        let error = hold(&node, vf(0, 0), touched).unwrap_err();
        assert_eq!(error.code, code::TRY_AGAIN, "{error}");
        assert_eq!(undo.rollback(), []);
    }
    assert_eq!(tree.owners(), [(vf(0, 0), "net/two:net1".to_owned())]);
}

#[test]
fn a_vf_that_is_in_use_by_the_time_it_is_locked_is_given_back() {
    let tree = Tree::new();
    let node = tree.node("one");
    let mut undo = undo();
    let touched = claim(&node, vf(0, 0), &mut undo).unwrap().unwrap();
    fs::remove_dir(tree.device(vf(0, 0)).join("net/lo")).unwrap();
    let error = hold(&node, vf(0, 0), touched).unwrap_err();
    assert_eq!(error.code, code::TRY_AGAIN);
    assert!(error.msg.contains("not in the host's namespace"), "{error}");
    assert_eq!(undo.rollback(), []);
    assert_eq!(tree.owners(), []);
}

#[test]
fn distinct_pfs_are_those_of_which_the_container_has_none() {
    let tree = Tree::new();
    let distinct = Conf {
        distinct_pf: true,
        ..conf(Policy::Pack)
    };
    let mut undos = [undo(), undo(), undo(), undo()];
    let take = |id, undo: &mut Undo| taken(&tree, id, &distinct, undo);
    let [first, second, third, other] = &mut undos;
    assert_eq!(take("one:net1", first).unwrap().vf.address, vf(0, 0));
    assert_eq!(take("one:net2", second).unwrap().vf.address, vf(1, 0));
    let error = take("one:net3", third).unwrap_err();
    assert_eq!(error.code, code::TRY_AGAIN);
    assert!(error.msg.contains("\"distinctPf\""), "{error}");
    assert_eq!(take("two:net1", other).unwrap().vf.address, vf(0, 1));
    for undo in undos {
        undo.commit();
    }
}
