//! nf_tables on the running kernel, in network namespaces of their own. Without
//! nf_tables each test is named as ignored, with the reason, except in the lab guest
//! (`BERTH_LAB=1`), which promises it; with it and without root they fail.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests fail by panicking too"
)]

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};

use berth_kernel::netlink::nft::{
    Base, BaseChain, Batch, ChainType, CmpOp, Comment, ElementKey, Expr, Family, Hook, Meta, Name,
    NewSet, Nft, Register, SetKey, Table, Verdict,
};
use berth_kernel::{Kind, MacAddr, NetNs};
use libtest_mimic::{Arguments, Trial};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

const TESTS: [(&str, fn()); 9] = [
    ("what_was_made_is_listed", what_was_made_is_listed),
    ("what_is_not_there_is_none", what_is_not_there_is_none),
    ("a_batch_is_whole_or_nothing", a_batch_is_whole_or_nothing),
    ("making_again_changes_nothing", making_again_changes_nothing),
    (
        "a_batch_for_another_generation_is_refused",
        a_batch_for_another_generation_is_refused,
    ),
    (
        "a_transaction_decides_on_what_is_there",
        a_transaction_decides_on_what_is_there,
    ),
    (
        "what_is_tried_out_is_judged_and_not_made",
        what_is_tried_out_is_judged_and_not_made,
    ),
    ("a_long_batch_and_a_long_list", a_long_batch_and_a_long_list),
    (
        "a_socket_stays_in_its_namespace",
        a_socket_stays_in_its_namespace,
    ),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let in_lab = std::env::var_os("BERTH_LAB").is_some_and(|value| value == "1");
    let reason = if in_lab { None } else { why_not() };
    if let (Some(reason), false) = (&reason, arguments.list) {
        return name_all(reason).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let trial = |(name, run): (&str, fn())| {
        let run = move || {
            run();
            Ok(())
        };
        Trial::test(name, run)
            .with_ignored_flag(true)
            .with_kind("kernel: root, nf_tables")
    };
    libtest_mimic::run(&arguments, TESTS.map(trial).into()).exit_code()
}

/// Why the tests cannot run here. Who may not even ask gets to know by their failure.
fn why_not() -> Option<String> {
    let asked = Nft::open().and_then(|nft| nft.generation());
    match asked {
        Err(error) if error.kind() == Kind::Unsupported => Some(error.to_string()),
        _ => None,
    }
}

/// Names every test as ignored, in libtest's words, which scripts/test counts.
fn name_all(reason: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    for (name, _) in TESTS {
        writeln!(out, "test {name} ... ignored, {reason}")?;
    }
    let count = TESTS.len();
    writeln!(
        out,
        "\ntest result: ok. 0 passed; 0 failed; {count} ignored; 0 measured; 0 filtered out"
    )
}

/// A new, empty network namespace; it lives as long as the value.
fn namespace() -> NetNs {
    let made = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).map(|()| NetNs::current().unwrap())
    });
    made.join().unwrap().unwrap_or_else(|errno| {
        panic!("this test needs root to make network namespaces: unshare: {errno}")
    })
}

fn empty() -> Nft {
    Nft::open_in(&namespace()).unwrap()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn comment(text: &str) -> Comment {
    text.parse().unwrap()
}

fn table(family: Family) -> Table {
    Table {
        family,
        name: name("test"),
    }
}

fn ip(number: u32) -> ElementKey {
    ElementKey::ip(Ipv4Addr::from_bits(number).into())
}

/// Adds a table with an empty set of IPv4 addresses.
fn add_set(batch: &mut Batch, table: &Table, set: &str) {
    batch.add_table(table);
    let set = NewSet {
        name: &name(set),
        key: SetKey::Ipv4,
        comment: None,
    };
    batch.add_set(table, &set);
}

fn payload(base: Base, offset: u32, len: u32, to: Register) -> Expr {
    Expr::Payload {
        base,
        offset,
        len,
        to,
    }
}

fn lookup(absent: bool) -> Expr {
    Expr::Lookup {
        from: Register::One,
        set: name("set"),
        absent,
    }
}

fn masquerade() -> Vec<Expr> {
    vec![
        payload(Base::Network, 8, 16, Register::One),
        lookup(false),
        payload(Base::Network, 24, 16, Register::One),
        Expr::Mask {
            on: Register::One,
            mask: [vec![255; 7], vec![0xfe], vec![0; 8]].concat(),
        },
        Expr::Cmp {
            from: Register::One,
            op: CmpOp::Differs,
            value: [vec![0xfd], vec![0; 15]].concat(),
        },
        Expr::Masquerade,
    ]
}

fn drop_forged() -> Vec<Expr> {
    vec![
        Expr::Meta {
            key: Meta::Protocol,
            to: Register::One,
        },
        Expr::Cmp {
            from: Register::One,
            op: CmpOp::Equal,
            value: vec![0x81, 0],
        },
        Expr::Meta {
            key: Meta::IifName,
            to: Register::One,
        },
        payload(Base::Link, 6, 6, Register::Two),
        lookup(true),
        Expr::Meta {
            key: Meta::IifGroup,
            to: Register::Four,
        },
        Expr::Mask {
            on: Register::Four,
            mask: vec![0, 0xff, 0xff, 0xff],
        },
        payload(Base::Link, 0, 6, Register::Three),
        Expr::Cmp {
            from: Register::Three,
            op: CmpOp::Equal,
            value: vec![1, 0x80, 0xc2, 0, 0, 0],
        },
        Expr::Verdict(Verdict::Drop),
    ]
}

/// A chain with a set its rule looks into.
struct Scene {
    table: Table,
    name: Name,
    kind: ChainType,
    hook: Hook,
    priority: i32,
    key: SetKey,
    element: ElementKey,
    exprs: Vec<Expr>,
}

impl Scene {
    /// Two that have every kind of step.
    fn all() -> [Self; 2] {
        let port = "bv0".parse().unwrap();
        let masquerade = Self {
            table: table(Family::Ip6),
            name: name("nat"),
            kind: ChainType::Nat,
            hook: Hook::Postrouting,
            priority: 100,
            key: SetKey::Ipv6,
            element: ElementKey::ip("fd00::5".parse().unwrap()),
            exprs: masquerade(),
        };
        let drop_forged = Self {
            table: table(Family::Bridge),
            name: name("filter"),
            kind: ChainType::Filter,
            hook: Hook::Prerouting,
            priority: -200,
            key: SetKey::IfNameMac,
            element: ElementKey::interface_mac(&port, MacAddr([2, 0, 0, 0, 0, 1])),
            exprs: drop_forged(),
        };
        [masquerade, drop_forged]
    }

    /// Adds all but rules and elements.
    fn make(&self, batch: &mut Batch, comment: &Comment) {
        let Self { table, name, .. } = self;
        batch.add_table(table);
        let chain = BaseChain {
            name,
            kind: self.kind,
            hook: self.hook,
            priority: self.priority,
        };
        batch.add_chain(table, &chain);
        let set = NewSet {
            name: &set(),
            key: self.key,
            comment: Some(comment),
        };
        batch.add_set(table, &set);
    }
}

fn set() -> Name {
    name("set")
}

fn what_was_made_is_listed() {
    let nft = empty();
    for scene in Scene::all() {
        let (table, chain) = (&scene.table, &scene.name);
        let (set, longest) = (set(), comment(&"k".repeat(251)));
        let accept = [Expr::Verdict(Verdict::Accept)];
        let text = "n".repeat(247);
        let mut batch = Batch::new();
        scene.make(&mut batch, &comment(&text));
        batch.add_rule(table, chain, &scene.exprs, Some(&longest));
        batch.add_rule(table, chain, &accept, None);
        batch.add_element((table, &set), &scene.element, Some(&longest));
        nft.apply(&batch, None).unwrap();

        assert_eq!(nft.tables(table.family).unwrap(), ["test"]);
        let sets = nft.sets(table).unwrap();
        assert_eq!(sets.len(), 1);
        assert_eq!(sets[0].name, "set");
        assert_eq!(sets[0].comment, Some(text));
        let rules = nft.rules(table, chain).unwrap();
        assert_eq!(nft.all_rules(table).unwrap(), rules);
        assert_eq!(rules[0].chain, chain.as_str());
        assert_eq!(rules.len(), 2);
        assert_eq!(rules[0].exprs, scene.exprs);
        assert_eq!(rules[0].comment.as_deref(), Some(longest.as_str()));
        assert_eq!(rules[1].exprs, accept);
        assert_eq!(rules[1].comment, None);
        let elements = nft.elements((table, &set)).unwrap();
        assert_eq!(elements.len(), 1);
        assert_eq!(elements[0].key, scene.element);
        assert_eq!(elements[0].comment.as_deref(), Some(longest.as_str()));
        let found = nft.find_element((table, &set), &scene.element).unwrap();
        assert_eq!(found.as_ref(), elements.first());

        let mut batch = Batch::new();
        batch.flush_chain(table, chain);
        nft.apply(&batch, None).unwrap();
        assert_eq!(nft.rules(table, chain).unwrap(), []);
        let mut batch = Batch::new();
        batch.delete_table(table);
        nft.apply(&batch, None).unwrap();
        assert_eq!(nft.tables(table.family).unwrap(), [""; 0]);
    }
}

fn what_is_not_there_is_none() {
    let nft = empty();
    let (table, set) = (table(Family::Ip), set());
    let key = ip(1);
    let nothing = |nft: &Nft| {
        assert_eq!(nft.rules(&table, &name("chain")).unwrap(), []);
        assert_eq!(nft.elements((&table, &set)).unwrap(), []);
        assert_eq!(nft.find_element((&table, &set), &key).unwrap(), None);
    };
    assert_eq!(nft.sets(&table).unwrap(), []);
    nothing(&nft);
    let mut batch = Batch::new();
    batch.add_table(&table);
    nft.apply(&batch, None).unwrap();
    assert_eq!(nft.sets(&table).unwrap(), []);
    nothing(&nft);
    let mut batch = Batch::new();
    add_set(&mut batch, &table, "set");
    nft.apply(&batch, None).unwrap();
    nothing(&nft);
    // Nothing to do is no message.
    let before = nft.generation().unwrap();
    nft.apply(&Batch::new(), None).unwrap();
    assert_eq!(nft.generation().unwrap(), before);
}

fn a_batch_is_whole_or_nothing() {
    let nft = empty();
    let (table, set) = (table(Family::Ip), set());
    let mut batch = Batch::new();
    add_set(&mut batch, &table, "set");
    batch.add_element((&table, &set), &ip(1), Some(&comment("first")));
    nft.apply(&batch, None).unwrap();

    let mut batch = Batch::new();
    batch.add_element((&table, &set), &ip(2), None);
    batch.add_element((&table, &set), &ip(1), Some(&comment("second")));
    batch.delete_chain(&table, &name("nosuch"));
    batch.add_element((&table, &set), &ip(3), None);
    let error = nft.apply(&batch, None).unwrap_err();
    assert_eq!(error.errno, Some(Errno::EEXIST));
    assert_eq!(
        format!("{} {}", error.op, error.object),
        "add the element of second to set set of table ip test"
    );
    let kept = nft.elements((&table, &set)).unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].comment.as_deref(), Some("first"));

    let mut batch = Batch::new();
    batch.add_element((&table, &set), &ip(2), None);
    batch.delete_chain(&table, &name("nosuch"));
    let error = nft.apply(&batch, None).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(error.object, "chain nosuch of table ip test");
    assert_eq!(nft.elements((&table, &set)).unwrap().len(), 1);
}

fn making_again_changes_nothing() {
    let nft = empty();
    for scene in Scene::all() {
        let (table, chain, set) = (&scene.table, &scene.name, set());
        let mut batch = Batch::new();
        scene.make(&mut batch, &comment("net"));
        batch.add_rule(table, chain, &scene.exprs, None);
        batch.add_element((table, &set), &scene.element, None);
        nft.apply(&batch, None).unwrap();
        let seen = || {
            (
                nft.sets(table).unwrap(),
                nft.rules(table, chain).unwrap(),
                nft.elements((table, &set)).unwrap(),
            )
        };
        let before = seen();
        let mut again = Batch::new();
        scene.make(&mut again, &comment("net"));
        nft.apply(&again, None).unwrap();
        assert_eq!(seen(), before);
        // A set a rule looks into stays; with its chain it goes.
        let mut batch = Batch::new();
        batch.delete_set(table, &set);
        let error = nft.apply(&batch, None).unwrap_err();
        assert_eq!(error.errno, Some(Errno::EBUSY));
        assert_eq!(seen(), before);
        let mut batch = Batch::new();
        batch.delete_chain(table, chain);
        batch.delete_set(table, &set);
        nft.apply(&batch, None).unwrap();
        assert_eq!(seen(), (vec![], vec![], vec![]));
    }
}

fn a_batch_for_another_generation_is_refused() {
    let ns = namespace();
    let (one, other) = (Nft::open_in(&ns).unwrap(), Nft::open_in(&ns).unwrap());
    let (ip, ip6) = (table(Family::Ip), table(Family::Ip6));
    let add = |table| {
        let mut batch = Batch::new();
        batch.add_table(table);
        batch
    };
    let generation = one.generation().unwrap();
    other.apply(&add(&ip6), None).unwrap();
    assert_ne!(one.generation().unwrap(), generation);
    let error = one.apply(&add(&ip), Some(generation)).unwrap_err();
    assert_eq!(error.errno, Some(Errno::ERESTART));
    assert_eq!(one.tables(Family::Ip).unwrap(), [""; 0]);
    let generation = one.generation().unwrap();
    one.apply(&add(&ip), Some(generation)).unwrap();
    assert_eq!(one.tables(Family::Ip).unwrap(), ["test"]);
}

/// Each of eight threads adds the next higher number, many times: if two decided on the
/// same list, a number would be missing or refused.
fn a_transaction_decides_on_what_is_there() {
    const EACH: u32 = 100;
    let ns = namespace();
    let (table, set) = (table(Family::Ip), set());
    let nft = Nft::open_in(&ns).unwrap();
    let mut batch = Batch::new();
    add_set(&mut batch, &table, "set");
    nft.apply(&batch, None).unwrap();
    let decisions = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let nft = Nft::open_in(&ns).unwrap();
                for _ in 0..EACH {
                    let decide = || {
                        decisions.fetch_add(1, Ordering::Relaxed);
                        let count = nft.elements((&table, &set))?.len();
                        let mut batch = Batch::new();
                        let next = u32::try_from(count).unwrap();
                        batch.add_element((&table, &set), &ip(next), None);
                        Ok(batch)
                    };
                    nft.transact(decide).unwrap();
                }
            });
        }
    });
    let found: BTreeSet<Vec<u8>> = nft
        .elements((&table, &set))
        .unwrap()
        .iter()
        .map(|element| element.key.as_bytes().to_vec())
        .collect();
    let wished: BTreeSet<Vec<u8>> = (0..8 * EACH)
        .map(|number| ip(number).as_bytes().to_vec())
        .collect();
    assert_eq!(found, wished);
    assert!(decisions.into_inner() >= 8 * EACH);
}

fn what_is_tried_out_is_judged_and_not_made() {
    let nft = empty();
    let table = table(Family::Ip);
    let mut batch = Batch::new();
    add_set(&mut batch, &table, "set");
    let generation = nft.generation().unwrap();
    nft.try_out(&batch).unwrap();
    assert_eq!(nft.generation().unwrap(), generation);
    assert_eq!(nft.tables(Family::Ip).unwrap(), [""; 0]);
    batch.delete_chain(&table, &name("nosuch"));
    let error = nft.try_out(&batch).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(error.object, "chain nosuch of table ip test");
    nft.try_out(&Batch::new()).unwrap();
}

fn a_long_batch_and_a_long_list() {
    const COUNT: u32 = 1000;
    let nft = empty();
    let (table, set) = (table(Family::Ip), set());
    let mark = comment("network/0123456789abcdef0123456789abcdef:eth0");
    let mut batch = Batch::new();
    add_set(&mut batch, &table, "set");
    for number in 0..COUNT {
        batch.add_element((&table, &set), &ip(number), Some(&mark));
    }
    nft.apply(&batch, None).unwrap();
    let elements = nft.elements((&table, &set)).unwrap();
    let keys: BTreeSet<&[u8]> = elements.iter().map(|e| e.key.as_bytes()).collect();
    assert_eq!(keys.len(), 1000);
    assert!(
        elements
            .iter()
            .all(|e| e.comment.as_deref() == Some(mark.as_str()))
    );
    // What is refused at the end takes all back.
    let mut batch = Batch::new();
    for number in 0..COUNT {
        batch.delete_element((&table, &set), &ip(number));
    }
    batch.delete_element((&table, &set), &ip(COUNT));
    let error = nft.apply(&batch, None).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    assert_eq!(nft.elements((&table, &set)).unwrap().len(), 1000);
}

fn a_socket_stays_in_its_namespace() {
    let ns = namespace();
    let (inside, outside) = (Nft::open_in(&ns).unwrap(), empty());
    let table = table(Family::Inet);
    let mut batch = Batch::new();
    batch.add_table(&table);
    inside.apply(&batch, None).unwrap();
    assert_eq!(inside.tables(Family::Inet).unwrap(), ["test"]);
    assert_eq!(outside.tables(Family::Inet).unwrap(), [""; 0]);
    assert_eq!(
        Nft::open_in(&ns).unwrap().tables(Family::Inet).unwrap(),
        ["test"]
    );
    let any = ElementKey::ip(IpAddr::from(Ipv4Addr::UNSPECIFIED));
    assert_eq!(
        outside.find_element((&table, &name("set")), &any).unwrap(),
        None
    );
}
