use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use berth_kernel::MacAddr;
use berth_kernel::netlink::nft::{Expr, Family, Name, Nft, Table, Verdict};
use cni_bridge_vlan::frames::{Filter, check, ensure, possible, release};

use crate::node::{Node, assert_nothing_left, key, mac, meddle, namespace};
use crate::wire::{BROADCAST, EAPOL, Wire};

const ACCESS: Filter = Filter {
    trunk: false,
    bpdus: true,
};
const TRUNK: Filter = Filter {
    trunk: true,
    bpdus: true,
};
const NESTED: Filter = Filter {
    trunk: true,
    bpdus: false,
};

fn table() -> Table {
    Table {
        family: Family::Bridge,
        name: name("berth-frames"),
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn they_are_made_once_and_go_when_nobody_uses_them() {
    let nft = Nft::open_in(&namespace()).unwrap();
    release(&nft, || panic!("there is nothing to release")).unwrap();
    possible(&nft).unwrap();
    assert!(check(&nft).unwrap().is_some());
    assert_nothing_left(&nft);
    ensure(&nft).unwrap();
    possible(&nft).unwrap();
    assert_eq!(check(&nft).unwrap(), None);
    let generation = nft.generation().unwrap();
    ensure(&nft).unwrap();
    assert_eq!(nft.generation().unwrap(), generation);
    release(&nft, || true).unwrap();
    assert_eq!(check(&nft).unwrap(), None);
    release(&nft, || false).unwrap();
    assert_nothing_left(&nft);
}

pub(crate) fn what_others_change_is_named_and_put_right() {
    let nft = Nft::open_in(&namespace()).unwrap();
    let table = table();
    let changes: [&dyn Fn(); 4] = [
        &|| meddle(&nft, |b| b.flush_chain(&table, &name("input"))),
        &|| meddle(&nft, |b| b.delete_chain(&table, &name("prerouting"))),
        &|| meddle(&nft, |b| b.delete_table(&table)),
        &|| {
            let accept = [Expr::Verdict(Verdict::Accept)];
            meddle(&nft, |b| {
                b.add_rule(&table, &name("prerouting"), &accept, None)
            });
        },
    ];
    ensure(&nft).unwrap();
    for (number, change) in changes.iter().enumerate() {
        change();
        assert!(check(&nft).unwrap().is_some(), "change {number}");
        ensure(&nft).unwrap();
        assert_eq!(check(&nft).unwrap(), None, "change {number}");
    }
    // What is left of it goes, too.
    meddle(&nft, |b| b.flush_chain(&table, &name("input")));
    release(&nft, || false).unwrap();
    assert_nothing_left(&nft);
}

/// An ADD at the worst moments of the last DEL: before it looks, while it looks, and
/// after. Each notes itself first, as a record does, and then reads the rules.
pub(crate) fn an_add_beside_the_last_del_has_its_rules() {
    let ns = namespace();
    let [nft, other] = [(); 2].map(|()| Nft::open_in(&ns).unwrap());
    // It read the rules before they were marked.
    ensure(&nft).unwrap();
    release(&nft, || true).unwrap();
    assert_eq!(check(&nft).unwrap(), None);
    // It noted itself after the look: the removal must look again.
    let looks = AtomicUsize::new(0);
    let is_used = || {
        let first = looks.fetch_add(1, Ordering::Relaxed) == 0;
        if first {
            ensure(&other).unwrap();
        }
        !first
    };
    release(&nft, is_used).unwrap();
    assert_eq!(looks.load(Ordering::Relaxed), 2);
    assert_eq!(check(&nft).unwrap(), None);
    release(&nft, || false).unwrap();
    assert_nothing_left(&nft);
}

/// Users come and go by their count, which stands for the records.
pub(crate) fn many_at_once_leave_nothing() {
    let ns = namespace();
    let users = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let nft = Nft::open_in(&ns).unwrap();
                for _ in 0..50 {
                    users.fetch_add(1, Ordering::SeqCst);
                    ensure(&nft).unwrap();
                    assert_ne!(nft.all_rules(&table()).unwrap(), []);
                    users.fetch_sub(1, Ordering::SeqCst);
                    let is_used = || users.load(Ordering::SeqCst) > 0;
                    if !is_used() {
                        release(&nft, is_used).unwrap();
                    }
                }
            });
        }
    });
    assert_nothing_left(&Nft::open_in(&ns).unwrap());
}

const Q: u16 = 0x8100;
const AD: u16 = 0x88a8;
const STP: MacAddr = MacAddr([1, 0x80, 0xc2, 0, 0, 0]);
const LLDP: MacAddr = MacAddr([1, 0x80, 0xc2, 0, 0, 0x0e]);
const MVRP: MacAddr = MacAddr([1, 0x80, 0xc2, 0, 0, 0x21]);
const PVST: MacAddr = MacAddr([1, 0, 0x0c, 0xcc, 0xcc, 0xcd]);

/// A frame by its receiver and tags, and whether it passes a port: one that is not
/// filtered, an access port, a trunk, a trunk that may speak as a bridge.
type Case = (MacAddr, &'static [(u16, u16)], [bool; 4]);

const CASES: [Case; 14] = [
    (BROADCAST, &[], [true; 4]),
    (MVRP, &[], [true; 4]),
    (BROADCAST, &[(Q, 5)], [true, false, true, true]),
    (BROADCAST, &[(Q, 0)], [true, false, true, true]),
    (BROADCAST, &[(AD, 5)], [true, false, false, false]),
    (BROADCAST, &[(Q, 5), (Q, 6)], [true, false, false, false]),
    (BROADCAST, &[(Q, 5), (AD, 6)], [true, false, false, false]),
    (BROADCAST, &[(AD, 5), (Q, 6)], [true, false, false, false]),
    (STP, &[], [true, false, false, true]),
    (STP, &[(Q, 5)], [true, false, false, true]),
    (PVST, &[], [true, false, false, true]),
    (PVST, &[(Q, 5)], [true, false, false, true]),
    // Kept by the bridge, unless it was told to forward them.
    (LLDP, &[], [true, false, false, true]),
    (EAPOL, &[], [true, false, false, true]),
];

pub(crate) fn foreign_tags_and_bridge_frames_are_dropped() {
    let node = Node::new(&[]);
    let [one, two] = [1, 2]
        .map(|number| Wire::of(&node.host(&key("blue", number).port_name(), true, mac(number))));
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        one.send(mac(1), BROADCAST, &[]);
        if two.came_from(mac(1)) {
            break;
        }
        assert!(Instant::now() < deadline, "the bridge forwards nothing");
    }
    keeps_and_drops(&node, &one);
    node.forward_groups(1 << 0x0e | 1 << 3);
    let end = |port: usize| MacAddr([2, 0x77, 0, 0, 0, port.try_into().unwrap()]);
    let filters = [None, Some(ACCESS), Some(TRUNK), Some(NESTED)];
    for (port, filter) in filters.into_iter().enumerate() {
        if let Some(filter) = filter {
            ensure(&node.nft).unwrap();
            node.net
                .set_group(node.port(&key("blue", 1)), filter.group())
                .unwrap();
        }
        let number = |case: usize| MacAddr([2, 0x66, 0, 0, 0, case.try_into().unwrap()]);
        for (case, (to, tags, _)) in CASES.iter().enumerate() {
            one.send(number(case), *to, tags);
        }
        one.send(end(port), BROADCAST, &[]);
        let seen = two.senders_until(end(port));
        for (case, (to, tags, passes)) in CASES.iter().enumerate() {
            let came = seen.contains(&number(case));
            assert_eq!(came, passes[port], "{to} {tags:x?} with {filter:?}");
        }
        // The other port is not filtered.
        two.send(end(port + 4), STP, &[(Q, 5), (AD, 6)]);
        assert!(one.came_from(end(port + 4)));
    }
    release(&node.nft, || false).unwrap();
    one.send(end(9), STP, &[(AD, 5)]);
    assert!(two.came_from(end(9)));
    assert_nothing_left(&node.nft);
}

/// Of a frame the bridge keeps to itself it learns the sender, unless the frame is lost.
fn keeps_and_drops(node: &Node, one: &Wire) {
    let (key, open, filtered) = (key("blue", 1), mac(0x71), mac(0x72));
    one.send(open, EAPOL, &[]);
    assert!(node.has_learned(&key, open));
    ensure(&node.nft).unwrap();
    node.net.set_group(node.port(&key), ACCESS.group()).unwrap();
    one.send(filtered, EAPOL, &[]);
    assert!(!node.has_learned(&key, filtered));
    node.net.set_group(node.port(&key), 0).unwrap();
}
