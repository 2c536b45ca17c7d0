use super::*;

#[test]
fn each_filter_has_a_group_of_its_own() {
    let group = |trunk, bpdus| Filter { trunk, bpdus }.group();
    assert_eq!(group(false, true), 0x6265_7203);
    assert_eq!(group(false, false), 0x6265_7201);
    assert_eq!(group(true, true), 0x6265_7202);
    assert_eq!(group(true, false), 0x6265_7200);
}

/// Whether a rule is for ports of this group.
fn is_for(rule: &[Expr], group: u32) -> bool {
    let [.., Expr::Mask { mask, .. }, Expr::Cmp { value, .. }, _] = rule else {
        panic!("{rule:?}");
    };
    let number = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().unwrap());
    group & number(mask) == number(value)
}

#[test]
fn a_rule_is_for_the_groups_with_its_bit() {
    let of = |bit| {
        let rule = rule(tagged(DOT1Q), bit);
        [0, 1, 2, 3].map(|bits| is_for(&rule, GROUP | bits))
    };
    assert_eq!(of(0), [true; 4]);
    assert_eq!(of(UNTAGGED), [false, true, false, true]);
    assert_eq!(of(BPDUS), [false, false, true, true]);
    for other in [0, 1, 3, GROUP - 1, GROUP + 4, GROUP | 1 << 31] {
        for bit in [0, UNTAGGED, BPDUS] {
            assert!(!is_for(&rule(tagged(DOT1Q), bit), other), "{other:x} {bit}");
        }
    }
}

#[test]
fn all_is_made_in_one_batch() {
    let names = Names::new().unwrap();
    let mut batch = Batch::new();
    names.make(&mut batch);
    let made: Vec<String> = batch.told().map(|(op, on)| format!("{op} {on}")).collect();
    let of = |line: &str| format!("{line} of table bridge berth-frames");
    let chain = |name: &str, rules| {
        let mut lines = vec![
            of(&format!("add chain {name}")),
            of(&format!("delete the rules of chain {name}")),
        ];
        lines.extend(vec![of(&format!("add a rule to chain {name}")); rules]);
        lines
    };
    let table = vec!["add table bridge berth-frames".to_owned()];
    let wish = [table, chain("prerouting", 6), chain("input", 1)].concat();
    assert_eq!(made, wish);
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
