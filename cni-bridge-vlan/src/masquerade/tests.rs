use super::*;

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn element(address: &str, owner: &str) -> Element {
    Element {
        key: ElementKey::ip(address.parse().unwrap()),
        comment: Some(owner.to_owned()),
    }
}

fn lines(batch: &Batch) -> Vec<String> {
    let told = batch.told();
    told.map(|(op, object)| format!("{op} {object}")).collect()
}

const BLUE: &str = "masq-661ac94a2ed9";

#[test]
fn a_place_is_named_by_network_and_subnet() {
    // printf 'blue\0' ; printf '10.1.0.0/16' | sha256sum
    let place = Place::of("blue", net("10.1.0.5/16")).unwrap();
    assert_eq!(place, Place::of("blue", net("10.1.9.9/16")).unwrap());
    assert_eq!(place.name.as_str(), BLUE);
    assert_eq!(place.subnet, net("10.1.0.0/16"));
    assert_eq!(place.table.to_string(), "table ip berth");
    for (network, address) in [
        ("red", "10.1.0.5/16"),
        ("blue", "10.1.0.5/17"),
        ("blue", "10.2.0.5/16"),
        ("blue", "fd00::5/64"),
    ] {
        let other = Place::of(network, net(address)).unwrap();
        assert_ne!(other.name, place.name, "{network} {address}");
    }
    let v6 = Place::of("blue", net("fd00::5/64")).unwrap();
    assert_eq!(v6.table.to_string(), "table ip6 berth");
}

#[test]
fn the_rule_spares_the_subnet_and_multicast() {
    let rule = Place::of("blue", net("10.1.0.5/17")).unwrap().rule();
    let values: Vec<&[u8]> = rule
        .iter()
        .filter_map(|expr| match expr {
            Expr::Mask { mask: bytes, .. } | Expr::Cmp { value: bytes, .. } => {
                Some(bytes.as_slice())
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        values,
        [
            [255, 255, 128, 0],
            [10, 1, 0, 0],
            [240, 0, 0, 0],
            [224, 0, 0, 0]
        ]
    );
    assert_eq!(rule.last(), Some(&Expr::Masquerade));
    let v6 = Place::of("blue", net("fd00:1::5/64")).unwrap().rule();
    assert_eq!(v6.len(), rule.len());
    let multicast = Expr::Cmp {
        from: Register::One,
        op: CmpOp::Differs,
        value: [vec![0xff], vec![0; 15]].concat(),
    };
    assert!(v6.contains(&multicast), "{v6:?}");
}

fn added(chain: Standing, elements: &[Option<Element>], addresses: &[&str]) -> Vec<String> {
    let owner = key("blue/c1:eth0");
    let addresses: Vec<IpNetwork> = addresses.iter().map(|text| net(text)).collect();
    let wishes = wishes(&owner, &addresses).unwrap();
    assert_eq!(wishes.len(), 1);
    let seen = Seen {
        chain,
        elements: elements.to_vec(),
    };
    let mark = ruleset::comment(&owner.to_string()).unwrap();
    let mut batch = Batch::new();
    plan_add(&mut batch, &wishes[0], &seen, &mark);
    lines(&batch)
}

#[test]
fn an_add_makes_what_is_missing_and_no_more() {
    let ours = || Some(element("10.1.0.5", "blue/c1:eth0"));
    let new = format!("add the element of blue/c1:eth0 to set {BLUE} of table ip berth");
    let old = format!("delete an element of set {BLUE} of table ip berth");
    let (new, old) = (new.as_str(), old.as_str());
    let one = ["10.1.0.5/16"];
    assert_eq!(added(Standing::Right, &[ours()], &one), [""; 0]);
    assert_eq!(added(Standing::Right, &[None], &one), [new]);
    let twice = ["10.1.0.5/16", "10.1.0.6/16", "10.1.0.5/16"];
    let two = added(Standing::Right, &[ours(), None], &twice);
    assert_eq!(two, [new]);
    // Left by a container that is gone.
    let left = Some(element("10.1.0.5", "blue/c0:eth0"));
    assert_eq!(added(Standing::Right, &[left], &one), [old, new]);
    let foreign = Some(Element {
        key: ElementKey::ip("10.1.0.5".parse().unwrap()),
        comment: None,
    });
    assert_eq!(added(Standing::Right, &[foreign], &one), [old, new]);
    let make = [
        "add table ip berth".to_owned(),
        format!("add chain {BLUE} of table ip berth"),
        format!("add set {BLUE} of table ip berth"),
    ];
    let rule = format!("add a rule to chain {BLUE} of table ip berth");
    let whole = [&make[..], &[rule.clone(), new.to_owned()]].concat();
    assert_eq!(added(Standing::Empty, &[None], &one), whole);
    let flush = format!("delete the rules of chain {BLUE} of table ip berth");
    let repaired = [&make[..], &[flush, rule]].concat();
    assert_eq!(added(Standing::Wrong, &[ours()], &one), repaired);
}

fn removed(sets: usize, occupied: &[(&str, &[Element])]) -> Vec<String> {
    let occupied: Vec<Occupied> = occupied
        .iter()
        .map(|(name, elements)| Occupied {
            name: name.parse().unwrap(),
            elements: elements.to_vec(),
        })
        .collect();
    let mut batch = Batch::new();
    let table = ruleset::table(Family::Ip).unwrap();
    plan_remove(&mut batch, &table, sets, &occupied, &key("blue/c1:eth0"));
    lines(&batch)
}

#[test]
fn a_removal_takes_what_nobody_needs_any_more() {
    let (ours, others) = (
        element("10.1.0.5", "blue/c1:eth0"),
        element("10.1.0.6", "blue/c2:eth0"),
    );
    let element = ["delete an element of set a of table ip berth"];
    let set = [
        "delete chain a of table ip berth",
        "delete set a of table ip berth",
    ];
    let table = ["delete table ip berth"];
    let both = [ours.clone(), others.clone()];
    let alone = std::slice::from_ref(&ours);
    assert_eq!(removed(1, &[("a", &both)]), element);
    assert_eq!(removed(2, &[("a", alone)]), set);
    assert_eq!(removed(1, &[("a", alone)]), table);
    assert_eq!(removed(2, &[("a", alone), ("b", alone)]), table);
    let busy = std::slice::from_ref(&others);
    assert_eq!(removed(2, &[("a", alone), ("b", busy)]), set);
    // Not ours, or not there: nothing. A set somebody emptied: it goes.
    assert_eq!(removed(1, &[("a", busy)]), [""; 0]);
    assert_eq!(removed(0, &[]), [""; 0]);
    assert_eq!(removed(3, &[]), [""; 0]);
    assert_eq!(removed(2, &[("a", &[])]), set);
    // Somebody's element without a key stays, and so does its set.
    let foreign = Element {
        key: ElementKey::ip("10.1.0.7".parse().unwrap()),
        comment: None,
    };
    assert_eq!(removed(1, &[("a", &[foreign, ours])]), element);
}
