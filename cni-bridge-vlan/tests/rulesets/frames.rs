use std::time::{Duration, Instant};

use berth_kernel::MacAddr;
use berth_kernel::netlink::nft::{ElementKey, Family, Name, Nft, Table};
use cni_bridge_vlan::frames::{Filter, add, check, marked, possible, remove};

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

pub(crate) fn each_port_comes_and_goes_and_the_last_leaves_nothing() {
    let ns = namespace();
    let nft = Nft::open_in(&ns).unwrap();
    let remove = |number| remove(Nft::open_in(&ns).unwrap(), &key("blue", number)).unwrap();
    let (one, two) = (key("blue", 1), key("blue", 2));
    remove(1);
    possible(&nft).unwrap();
    assert_nothing_left(&nft);
    assert_eq!(marked(&nft, "blue").unwrap(), []);
    assert_eq!(check(&nft, &one, ACCESS).unwrap().len(), 4);
    add(&nft, &one, ACCESS).unwrap();
    add(&nft, &two, NESTED).unwrap();
    add(&nft, &key("red", 3), TRUNK).unwrap();
    possible(&nft).unwrap();
    assert_eq!(check(&nft, &one, ACCESS).unwrap(), [""; 0]);
    assert_eq!(check(&nft, &two, NESTED).unwrap(), [""; 0]);
    assert_eq!(marked(&nft, "blue").unwrap(), [one.clone(), two.clone()]);
    // Again, and as another kind of port.
    add(&nft, &two, NESTED).unwrap();
    add(&nft, &one, NESTED).unwrap();
    assert_eq!(check(&nft, &one, NESTED).unwrap(), [""; 0]);
    assert_eq!(check(&nft, &one, ACCESS).unwrap().len(), 2);
    add(&nft, &one, ACCESS).unwrap();
    assert_eq!(check(&nft, &one, ACCESS).unwrap(), [""; 0]);
    remove(1);
    remove(1);
    assert_eq!(check(&nft, &two, NESTED).unwrap(), [""; 0]);
    let left = nft.elements((&table(), &name("untagged"))).unwrap();
    assert_eq!(left, [], "one is still in it");
    remove(2);
    assert_eq!(marked(&nft, "red").unwrap(), [key("red", 3)]);
    cni_bridge_vlan::frames::remove(Nft::open_in(&ns).unwrap(), &key("red", 3)).unwrap();
    assert_nothing_left(&nft);
}

pub(crate) fn a_remove_that_was_cut_short_is_finished_by_the_next() {
    let ns = namespace();
    let nft = Nft::open_in(&ns).unwrap();
    let one = key("blue", 1);
    add(&nft, &one, TRUNK).unwrap();
    let port = ElementKey::interface(&one.port_name());
    meddle(&nft, |b| {
        b.delete_element((&table(), &name("ports")), &port)
    });
    remove(Nft::open_in(&ns).unwrap(), &one).unwrap();
    assert_nothing_left(&nft);
}

pub(crate) fn what_others_change_is_named_and_put_right() {
    let ns = namespace();
    let nft = Nft::open_in(&ns).unwrap();
    let one = key("blue", 1);
    let port = ElementKey::interface(&one.port_name());
    let table = table();
    let gone = |set| {
        let set = name(set);
        meddle(&nft, |b| b.delete_element((&table, &set), &port));
    };
    add(&nft, &one, ACCESS).unwrap();
    let rules = "has not the rules that drop foreign VLAN tags";
    type Change<'a> = (&'a str, &'a dyn Fn());
    let changes: [Change<'_>; 6] = [
        ("is not in set ports", &|| gone("ports")),
        ("is not in set untagged", &|| gone("untagged")),
        ("is not in set bpdus", &|| gone("bpdus")),
        (rules, &|| {
            meddle(&nft, |b| b.flush_chain(&table, &name("input")));
        }),
        (rules, &|| {
            meddle(&nft, |b| b.delete_chain(&table, &name("prerouting")));
        }),
        (rules, &|| meddle(&nft, |b| b.delete_table(&table))),
    ];
    for (named, change) in changes {
        change();
        let missing = check(&nft, &one, ACCESS).unwrap();
        assert!(missing[0].contains(named), "{named}: {missing:?}");
        add(&nft, &one, ACCESS).unwrap();
        assert_eq!(check(&nft, &one, ACCESS).unwrap(), [""; 0], "{named}");
    }
    remove(nft, &one).unwrap();
    assert_nothing_left(&Nft::open_in(&ns).unwrap());
}

pub(crate) fn many_at_once_leave_nothing() {
    let ns = namespace();
    std::thread::scope(|scope| {
        for thread in 0..8u32 {
            let ns = &ns;
            scope.spawn(move || {
                for round in 0..100u32 {
                    let nft = Nft::open_in(ns).unwrap();
                    let key = key("blue", thread * 1000 + round);
                    add(&nft, &key, ACCESS).unwrap();
                    assert_eq!(check(&nft, &key, ACCESS).unwrap(), [""; 0]);
                    remove(nft, &key).unwrap();
                }
            });
        }
    });
    assert_nothing_left(&Nft::open_in(&ns).unwrap());
}

/// The time this takes with a thousand ports standing is printed.
pub(crate) fn a_thousand_ports_make_it_no_slower() {
    const COUNT: u32 = 1000;
    let ns = namespace();
    let median = |count: u32| {
        let mut times: Vec<[Duration; 2]> = (0..50)
            .map(|round| {
                let key = key("blue", count + round);
                let begun = Instant::now();
                add(&Nft::open_in(&ns).unwrap(), &key, ACCESS).unwrap();
                let added = begun.elapsed();
                remove(Nft::open_in(&ns).unwrap(), &key).unwrap();
                [added, begun.elapsed() - added]
            })
            .collect();
        times.sort();
        times[times.len() / 2]
    };
    let nft = Nft::open_in(&ns).unwrap();
    add(&nft, &key("red", 0), ACCESS).unwrap();
    let few = median(1);
    for number in 1..COUNT {
        add(&nft, &key("red", number), ACCESS).unwrap();
    }
    let many = median(COUNT);
    eprintln!("ADD and DEL beside one port: {few:?}, beside {COUNT}: {many:?}");
    for (few, many) in few.iter().zip(many) {
        let limit = *few * 4 + Duration::from_millis(1);
        assert!(
            many < limit,
            "{many:?} beside {COUNT} ports, {few:?} beside one"
        );
    }
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
            add(&node.nft, &key("blue", 1), filter).unwrap();
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
    remove(Nft::open_in(&node.ns).unwrap(), &key("blue", 1)).unwrap();
    one.send(end(9), STP, &[(AD, 5)]);
    assert!(two.came_from(end(9)));
    assert_nothing_left(&node.nft);
}

/// Of a frame the bridge keeps to itself it learns the sender, unless the frame is lost.
fn keeps_and_drops(node: &Node, one: &Wire) {
    let (key, open, filtered) = (key("blue", 1), mac(0x71), mac(0x72));
    one.send(open, EAPOL, &[]);
    assert!(node.has_learned(&key, open));
    add(&node.nft, &key, ACCESS).unwrap();
    one.send(filtered, EAPOL, &[]);
    assert!(!node.has_learned(&key, filtered));
    remove(Nft::open_in(&node.ns).unwrap(), &key).unwrap();
    assert_nothing_left(&node.nft);
}
