use berth_kernel::netlink::nft::{ElementKey, Expr, Family, Name, Nft};
use cni_bridge_vlan::masquerade::{add, check, marked, remove};

use crate::node::{
    Node, assert_nothing_left, berth, key, mac, meddle, namespace, nets, seen_sender,
};

pub(crate) fn a_second_add_changes_nothing_and_the_last_remove_leaves_nothing() {
    let nft = Nft::open_in(&namespace()).unwrap();
    let (one, two) = (key("blue", 1), key("blue", 2));
    let addresses = nets(&["10.1.0.5/16", "10.2.0.5/24", "fd00:1::5/64"]);
    // Nothing is there: nothing to remove, nothing to list.
    remove(&nft, &one).unwrap();
    assert_eq!(marked(&nft, "blue").unwrap(), []);
    assert_eq!(check(&nft, &one, &addresses).unwrap().len(), 6);

    add(&nft, &one, &addresses).unwrap();
    assert_eq!(check(&nft, &one, &addresses).unwrap(), [""; 0]);
    assert_eq!(nft.sets(&berth(Family::Ip)).unwrap().len(), 2);
    assert_eq!(nft.sets(&berth(Family::Ip6)).unwrap().len(), 1);
    let generation = nft.generation().unwrap();
    add(&nft, &one, &addresses).unwrap();
    assert_eq!(nft.generation().unwrap(), generation);

    let others = nets(&["10.1.0.6/16"]);
    add(&nft, &two, &others).unwrap();
    assert_eq!(marked(&nft, "blue").unwrap(), [one.clone(), two.clone()]);
    remove(&nft, &one).unwrap();
    assert_eq!(check(&nft, &two, &others).unwrap(), [""; 0]);
    assert_eq!(nft.sets(&berth(Family::Ip)).unwrap().len(), 1);
    assert_eq!(nft.tables(Family::Ip6).unwrap(), [""; 0]);
    let generation = nft.generation().unwrap();
    remove(&nft, &one).unwrap();
    assert_eq!(nft.generation().unwrap(), generation);
    remove(&nft, &two).unwrap();
    assert_nothing_left(&nft);
}

pub(crate) fn networks_and_subnets_do_not_meet() {
    let nft = Nft::open_in(&namespace()).unwrap();
    let (blue, red) = (key("blue", 1), key("red", 1));
    let address = nets(&["10.1.0.5/16"]);
    add(&nft, &blue, &address).unwrap();
    add(&nft, &red, &address).unwrap();
    assert_eq!(marked(&nft, "blue").unwrap(), std::slice::from_ref(&blue));
    assert_eq!(marked(&nft, "red").unwrap(), std::slice::from_ref(&red));
    remove(&nft, &blue).unwrap();
    assert_eq!(check(&nft, &red, &address).unwrap(), [""; 0]);
    // The same address in another subnet of the network is another place.
    let wider = nets(&["10.1.0.5/8"]);
    assert_eq!(check(&nft, &red, &wider).unwrap().len(), 2);
    remove(&nft, &red).unwrap();
    assert_nothing_left(&nft);
}

pub(crate) fn an_address_is_taken_over_and_stays_with_its_new_owner() {
    let nft = Nft::open_in(&namespace()).unwrap();
    let (old, new) = (key("blue", 1), key("blue", 2));
    let address = nets(&["10.1.0.5/16"]);
    add(&nft, &old, &address).unwrap();
    add(&nft, &new, &address).unwrap();
    assert_eq!(marked(&nft, "blue").unwrap(), std::slice::from_ref(&new));
    assert_eq!(check(&nft, &old, &address).unwrap().len(), 1);
    remove(&nft, &old).unwrap();
    assert_eq!(check(&nft, &new, &address).unwrap(), [""; 0]);
    remove(&nft, &new).unwrap();
    assert_nothing_left(&nft);
}

pub(crate) fn what_others_change_is_named_and_put_right() {
    let nft = Nft::open_in(&namespace()).unwrap();
    let (one, address) = (key("blue", 1), nets(&["10.1.0.5/16"]));
    let table = berth(Family::Ip);
    add(&nft, &one, &address).unwrap();
    let sets = nft.sets(&table).unwrap();
    let place: Name = sets[0].name.parse().unwrap();
    let element = ElementKey::ip("10.1.0.5".parse().unwrap());
    let wrong = [Expr::Masquerade];
    type Change<'a> = (&'a str, &'a dyn Fn());
    let changes: [Change<'_>; 4] = [
        ("10.1.0.5 is not in set", &|| {
            meddle(&nft, |b| b.delete_element((&table, &place), &element));
        }),
        ("has not the one rule", &|| {
            meddle(&nft, |b| b.flush_chain(&table, &place));
        }),
        ("has not the one rule", &|| {
            meddle(&nft, |b| b.add_rule(&table, &place, &wrong, None));
        }),
        ("has not the one rule", &|| {
            meddle(&nft, |b| b.delete_table(&table));
        }),
    ];
    for (named, change) in changes {
        change();
        let missing = check(&nft, &one, &address).unwrap();
        assert!(missing[0].contains(named), "{named}: {missing:?}");
        add(&nft, &one, &address).unwrap();
        assert_eq!(check(&nft, &one, &address).unwrap(), [""; 0], "{named}");
    }
    // What is not ours in our table stays.
    let foreign: Name = "foreign".parse().unwrap();
    meddle(&nft, |batch| {
        let set = berth_kernel::netlink::nft::NewSet {
            name: &foreign,
            key: berth_kernel::netlink::nft::SetKey::Ipv4,
            comment: None,
        };
        batch.add_set(&table, &set);
    });
    remove(&nft, &one).unwrap();
    let left = nft.sets(&table).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].name, "foreign");
    assert_eq!(nft.rules(&table, &place).unwrap(), []);
}

/// Eight that come and go at once, in three subnets of two networks: sets, chains and
/// tables are made and removed under each other's hands.
pub(crate) fn many_at_once_leave_nothing() {
    let ns = namespace();
    std::thread::scope(|scope| {
        for thread in 0..8u32 {
            let ns = &ns;
            scope.spawn(move || {
                let nft = Nft::open_in(ns).unwrap();
                for round in 0..100u32 {
                    let network = if thread % 4 == 0 { "red" } else { "blue" };
                    let key = key(network, thread * 1000 + round);
                    let v4 = format!("10.{}.{thread}.{round}/16", round % 2);
                    let v6 = format!("fd00::{thread}:{round}/64");
                    let addresses = nets(&[&v4, &v6]);
                    add(&nft, &key, &addresses).unwrap();
                    assert_eq!(check(&nft, &key, &addresses).unwrap(), [""; 0]);
                    remove(&nft, &key).unwrap();
                    assert!(!marked(&nft, network).unwrap().contains(&key));
                }
            });
        }
    });
    assert_nothing_left(&Nft::open_in(&ns).unwrap());
}

pub(crate) fn what_leaves_the_subnet_has_the_nodes_address() {
    let node = Node::new(&["10.1.0.1/16", "10.2.0.1/16", "fd00:1::1/64"]);
    let container = |number: u32, addresses: &[&str], gateways: &[&str]| {
        let key = key("blue", number);
        let host = node.host(&key.port_name(), true, mac(number));
        (key, host.addresses(addresses).default_routes(gateways))
    };
    let (key, one) = container(
        1,
        &["10.1.0.5/16", "fd00:1::5/64"],
        &["10.1.0.1", "fd00:1::1"],
    );
    let (_, bare) = container(
        2,
        &["10.1.0.6/16", "fd00:1::6/64"],
        &["10.1.0.1", "fd00:1::1"],
    );
    // A neighbour reached through the node, inside the container's subnet.
    let (_, near) = container(3, &["10.2.0.7/16"], &["10.2.0.1"]);
    let outside = node.outside(
        &["192.0.2.1/24", "2001:db8::1/64"],
        &["192.0.2.254/24", "2001:db8::254/64"],
    );
    let addresses = nets(&["10.1.0.5/16", "fd00:1::5/64"]);
    let cases = [
        ("10.1.0.5", "10.1.0.6", "192.0.2.1", "192.0.2.254"),
        ("fd00:1::5", "fd00:1::6", "2001:db8::1", "2001:db8::254"),
    ];
    for (own, others, far, _) in cases {
        // The host outside knows no way back: without masquerading no answer comes.
        let to = outside.socket(far);
        assert_eq!(seen_sender(&one.socket(own), &to, false), None, "{own}");
        assert_eq!(seen_sender(&bare.socket(others), &to, false), None);
    }
    add(&node.nft, &key, &addresses).unwrap();
    for (own, others, far, nodes) in cases {
        let to = outside.socket(far);
        let sender = seen_sender(&one.socket(own), &to, true);
        assert_eq!(sender, Some(nodes.parse().unwrap()), "{own}");
        assert_eq!(seen_sender(&bare.socket(others), &to, false), None);
        // Inside its subnet nothing changes.
        let sender = seen_sender(&one.socket(own), &bare.socket(others), true);
        assert_eq!(sender, Some(own.parse().unwrap()));
    }
    let routed = seen_sender(&one.socket("10.1.0.5"), &near.socket("10.2.0.7"), true);
    assert_eq!(routed, Some("10.2.0.1".parse().unwrap()));
    // The subnet wide enough, the same way through the node is not masqueraded.
    remove(&node.nft, &key).unwrap();
    add(&node.nft, &key, &nets(&["10.1.0.5/8"])).unwrap();
    let routed = seen_sender(&one.socket("10.1.0.5"), &near.socket("10.2.0.7"), true);
    assert_eq!(routed, Some("10.1.0.5".parse().unwrap()));
    remove(&node.nft, &key).unwrap();
    let to = outside.socket("192.0.2.1");
    assert_eq!(seen_sender(&one.socket("10.1.0.5"), &to, false), None);
    assert_nothing_left(&node.nft);
}
