use super::*;

const ACCESS: Filter = Filter {
    trunk: false,
    bpdus: true,
};
const NESTED: Filter = Filter {
    trunk: true,
    bpdus: false,
};

fn key() -> Key {
    "blue/c1:eth0".parse().unwrap()
}

fn lines(batch: &Batch) -> Vec<String> {
    let told = batch.told();
    told.map(|(op, object)| format!("{op} {object}")).collect()
}

fn added(filter: Filter, stands: bool) -> Vec<String> {
    let names = Names::new().unwrap();
    lines(&plan_add(&names, &key(), filter, stands).unwrap())
}

fn put(set: &str) -> String {
    format!("put an element in set {set} of table bridge berth-frames")
}

fn delete(set: &str) -> String {
    format!("delete an element of set {set} of table bridge berth-frames")
}

#[test]
fn in_steady_state_a_port_enters_its_sets_and_leaves_the_others() {
    assert_eq!(
        added(ACCESS, true),
        [put("ports"), put("untagged"), put("bpdus")]
    );
    let nested = [
        put("ports"),
        put("untagged"),
        delete("untagged"),
        put("bpdus"),
        delete("bpdus"),
    ];
    assert_eq!(added(NESTED, true), nested);
}

#[test]
fn what_does_not_stand_is_made_before() {
    let made = added(ACCESS, false);
    let of = |line: &str| format!("{line} of table bridge berth-frames");
    assert_eq!(made[0], "add table bridge berth-frames");
    assert_eq!(
        made[1..4],
        ["ports", "untagged", "bpdus"].map(|set| of(&format!("add set {set}")))
    );
    let chain = |name: &str| {
        [
            of(&format!("add chain {name}")),
            of(&format!("delete the rules of chain {name}")),
        ]
    };
    assert_eq!(made[4..6], chain("prerouting"));
    assert!(
        made[6..12]
            .iter()
            .all(|line| line.starts_with("add a rule"))
    );
    assert_eq!(made[12..14], chain("input"));
    assert_eq!(made[14], of("add a rule to chain input"));
    assert_eq!(made[15..], added(ACCESS, true));
}

fn live(names: &Names) -> Vec<Rule> {
    let rules = |(chain, _, rules): (&Name, Hook, Vec<Vec<Expr>>)| {
        let chain = chain.to_string();
        rules.into_iter().map(move |exprs| Rule {
            chain: chain.clone(),
            exprs,
            comment: None,
        })
    };
    names.chains().into_iter().flat_map(rules).collect()
}

#[test]
fn one_rule_more_or_less_or_in_another_place_is_wrong() {
    let names = Names::new().unwrap();
    let right = live(&names);
    assert_eq!(right.len(), 7);
    assert!(names.are_right(&right));
    assert!(!names.are_right(&[]));
    for at in 0..right.len() {
        let mut without = right.clone();
        let gone = without.remove(at);
        assert!(!names.are_right(&without), "without {at}");
        without.push(Rule {
            chain: "somebody".into(),
            ..gone.clone()
        });
        assert!(!names.are_right(&without), "{at} in another chain");
        let mut twice = right.clone();
        twice.push(gone);
        assert!(!names.are_right(&twice), "{at} twice");
    }
    let mut turned = right;
    turned.swap(1, 2);
    assert!(!names.are_right(&turned));
}

#[test]
fn a_port_leaves_every_set() {
    let names = Names::new().unwrap();
    let port = ElementKey::interface(&key().port_name());
    let sets = ["ports", "untagged", "bpdus"];
    let wish: Vec<String> = sets
        .iter()
        .flat_map(|set| [put(set), delete(set)])
        .collect();
    assert_eq!(lines(&plan_remove(&names, &port)), wish);
}
