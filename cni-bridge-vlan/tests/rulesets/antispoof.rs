use std::time::{Duration, Instant};

use berth_kernel::MacAddr;
use berth_kernel::netlink::nft::{ElementKey, Family, Name, Nft};
use cni_bridge_vlan::antispoof::{add, check, marked, remove};

use crate::node::{Node, assert_nothing_left, berth, key, mac, meddle, namespace};
use crate::wire::{BROADCAST, EAPOL, Wire};

pub(crate) fn a_second_add_changes_nothing_and_the_last_remove_leaves_nothing() {
    let nft = Nft::open_in(&namespace()).unwrap();
    let (one, two) = (key("blue", 1), key("red", 2));
    remove(&nft, &one).unwrap();
    assert_eq!(marked(&nft, "blue").unwrap(), []);
    assert_eq!(check(&nft, &one, mac(1)).unwrap().len(), 4);
    add(&nft, &one, mac(1)).unwrap();
    assert_eq!(check(&nft, &one, mac(1)).unwrap(), [""; 0]);
    let generation = nft.generation().unwrap();
    add(&nft, &one, mac(1)).unwrap();
    assert_eq!(nft.generation().unwrap(), generation);
    add(&nft, &two, mac(2)).unwrap();
    assert_eq!(marked(&nft, "blue").unwrap(), std::slice::from_ref(&one));
    assert_eq!(marked(&nft, "red").unwrap(), std::slice::from_ref(&two));
    // Another address replaces the first.
    add(&nft, &one, mac(3)).unwrap();
    assert_eq!(check(&nft, &one, mac(3)).unwrap(), [""; 0]);
    assert_eq!(check(&nft, &one, mac(1)).unwrap().len(), 2);
    remove(&nft, &one).unwrap();
    assert_eq!(check(&nft, &two, mac(2)).unwrap(), [""; 0]);
    let table = berth(Family::Bridge);
    let senders: Name = "senders".parse().unwrap();
    assert_eq!(nft.elements((&table, &senders)).unwrap().len(), 1);
    remove(&nft, &one).unwrap();
    remove(&nft, &two).unwrap();
    assert_nothing_left(&nft);
}

pub(crate) fn what_others_change_is_named_and_put_right() {
    let nft = Nft::open_in(&namespace()).unwrap();
    let one = key("blue", 1);
    let table = berth(Family::Bridge);
    let name = |text: &str| text.parse::<Name>().unwrap();
    let (port, pair) = (
        ElementKey::interface(&one.port_name()),
        ElementKey::interface_mac(&one.port_name(), mac(1)),
    );
    add(&nft, &one, mac(1)).unwrap();
    type Change<'a> = (&'a str, &'a dyn Fn());
    let changes: [Change<'_>; 5] = [
        ("it may send from any address", &|| {
            meddle(&nft, |b| b.delete_element((&table, &name("ports")), &port));
        }),
        ("what it sends is lost", &|| {
            meddle(&nft, |b| {
                b.delete_element((&table, &name("senders")), &pair)
            });
        }),
        ("chain prerouting of table bridge berth", &|| {
            meddle(&nft, |b| b.flush_chain(&table, &name("prerouting")));
        }),
        ("chain input of table bridge berth", &|| {
            meddle(&nft, |b| b.delete_chain(&table, &name("input")));
        }),
        ("chain prerouting of table bridge berth", &|| {
            meddle(&nft, |b| b.delete_table(&table));
        }),
    ];
    for (named, change) in changes {
        change();
        let missing = check(&nft, &one, mac(1)).unwrap();
        assert!(missing[0].contains(named), "{named}: {missing:?}");
        add(&nft, &one, mac(1)).unwrap();
        assert_eq!(check(&nft, &one, mac(1)).unwrap(), [""; 0], "{named}");
    }
    remove(&nft, &one).unwrap();
    assert_nothing_left(&nft);
}

pub(crate) fn many_at_once_leave_nothing() {
    let ns = namespace();
    std::thread::scope(|scope| {
        for thread in 0..8u32 {
            let ns = &ns;
            scope.spawn(move || {
                let nft = Nft::open_in(ns).unwrap();
                for round in 0..100u32 {
                    let number = thread * 1000 + round;
                    let key = key("blue", number);
                    add(&nft, &key, mac(number)).unwrap();
                    assert_eq!(check(&nft, &key, mac(number)).unwrap(), [""; 0]);
                    remove(&nft, &key).unwrap();
                }
            });
        }
    });
    assert_nothing_left(&Nft::open_in(&ns).unwrap());
}

pub(crate) fn only_the_containers_address_gets_through_and_is_learned() {
    let node = Node::new(&[]);
    let [one, two] = [1, 2]
        .map(|number| Wire::of(&node.host(&key("blue", number).port_name(), true, mac(number))));
    let arrives = |mac: MacAddr, to: MacAddr| {
        one.send(mac, to, &[]);
        two.came_from(mac)
    };
    let learned = |mac: MacAddr| node.has_learned(&key("blue", 1), mac);
    let forged = |last| MacAddr([2, 0x66, 0, 0, 0, last]);
    // The bridge takes a moment to let the ports' frames through.
    let deadline = Instant::now() + Duration::from_secs(5);
    while !arrives(mac(1), BROADCAST) {
        assert!(Instant::now() < deadline, "the bridge forwards nothing");
    }
    // Without the check all of it works, so that what follows shows something.
    assert!(arrives(forged(1), BROADCAST) && learned(forged(1)));
    assert!(!arrives(forged(2), EAPOL) && learned(forged(2)));

    add(&node.nft, &key("blue", 1), mac(1)).unwrap();
    for (last, to) in [(3, BROADCAST), (4, mac(2)), (5, EAPOL)] {
        assert!(!arrives(forged(last), to), "{last} to {to}");
        assert!(!learned(forged(last)), "{last} to {to}");
    }
    assert!(arrives(mac(1), BROADCAST) && arrives(mac(1), mac(2)));
    // The other port is not checked.
    two.send(forged(6), BROADCAST, &[]);
    assert!(one.came_from(forged(6)));
    remove(&node.nft, &key("blue", 1)).unwrap();
    assert!(arrives(forged(7), BROADCAST));
    assert_nothing_left(&node.nft);
}
