use super::batch::{Judgement, Refusal};
use super::object::{
    new_chain, new_rule, new_set, new_table, of_element, read_elements, read_rule, read_set,
    read_table,
};
use super::writer::{HEADER, Kind, Writer, entries};
use super::*;
use crate::netlink::attr::{Attr, Attrs, find};
use crate::netlink::wire::{Fault, Request};
use nix::errno::Errno;
use proptest::prelude::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn comment(text: &str) -> Comment {
    text.parse().unwrap()
}

fn table(family: Family) -> Table {
    Table {
        family,
        name: name("berth"),
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn load(base: Base, offset: u32, len: u32, to: Register) -> Expr {
    Expr::Payload {
        base,
        offset,
        len,
        to,
    }
}

fn lookup(set: &str, absent: bool) -> Expr {
    Expr::Lookup {
        from: Register::One,
        set: name(set),
        absent,
    }
}

fn outside(mask: [u8; 4], net: [u8; 4]) -> [Expr; 3] {
    let mask = Expr::Mask {
        on: Register::One,
        mask: mask.to_vec(),
    };
    let differs = Expr::Cmp {
        from: Register::One,
        op: CmpOp::Differs,
        value: net.to_vec(),
    };
    [load(Base::Network, 16, 4, Register::One), mask, differs]
}

fn masquerade() -> Vec<Expr> {
    let mut exprs = vec![
        load(Base::Network, 12, 4, Register::One),
        lookup("masq-abc", false),
    ];
    exprs.extend(outside([255, 255, 128, 0], [10, 1, 0, 0]));
    exprs.extend(outside([240, 0, 0, 0], [224, 0, 0, 0]));
    exprs.push(Expr::Masquerade);
    exprs
}

fn spoof_check() -> Vec<Expr> {
    let port = Expr::Meta {
        key: Meta::IifName,
        to: Register::One,
    };
    vec![
        port.clone(),
        lookup("ports", false),
        port,
        load(Base::Link, 6, 6, Register::Two),
        lookup("senders", true),
        Expr::Verdict(Verdict::Drop),
    ]
}

/// What `nft` 1.1.3 sends as the expressions of `ip saddr @masq-abc ip daddr !=
/// 10.1.0.0/17 ip daddr != 224.0.0.0/4 masquerade`.
const MASQUERADE: &str = "
    340001800c0001007061796c6f616400240002800800010000000001080002000000000108000300
    0000000c0800040000000004340001800b0001006c6f6f6b75700000240002800800020000000001
    0d0001006d6173712d616263000000000800040000000001340001800c0001007061796c6f616400
    24000280080001000000000108000200000000010800030000000010080004000000000444000180
    0c000100626974776973650034000280080001000000000108000200000000010800030000000004
    0c00048008000100ffff80000c00058008000100000000002c00018008000100636d700020000280
    080001000000000108000200000000010c000380080001000a010000340001800c0001007061796c
    6f616400240002800800010000000001080002000000000108000300000000100800040000000004
    440001800c0001006269747769736500340002800800010000000001080002000000000108000300
    000000040c00048008000100f00000000c00058008000100000000002c00018008000100636d7000
    20000280080001000000000108000200000000010c00038008000100e00000001400018009000100
    6d6173710000000004000280";
/// The same of `iifname @ports iifname . ether saddr != @senders drop`.
const SPOOF_CHECK: &str = "
    24000180090001006d657461000000001400028008000200000000060800010000000001
    300001800b0001006c6f6f6b757000002000028008000200000000010a000100706f727473000000
    080004000000000224000180090001006d6574610000000014000280080002000000000608000100
    00000001340001800c0001007061796c6f6164002400028008000100000000020800020000000000
    08000300000000060800040000000006380001800b0001006c6f6f6b757000002800028008000200
    000000010c00010073656e646572730008000400000000030800050000000001300001800e000100
    696d6d6564696174650000001c0002800800010000000000100002800c000280080001000000
    0000";

/// The attributes of `list` without those `nft` adds: the number of a set its batch
/// made (`NFTA_LOOKUP_SET_ID`).
fn comparable(list: &[u8]) -> Vec<Vec<(u16, Vec<u8>)>> {
    const DATA: u16 = 2;
    const SET_ID: u16 = 4;
    let of = |entry: Attr<'_>| {
        let data = find(entry.nested(), DATA).unwrap();
        let is_lookup = find(entry.nested(), 1).unwrap().text() == "lookup";
        let mut attrs: Vec<_> = data
            .nested()
            .filter(|attr| !(is_lookup && attr.kind == SET_ID))
            .map(|attr| (attr.kind, attr.value.to_vec()))
            .collect();
        attrs.sort();
        attrs
    };
    entries(Attr {
        kind: 0,
        value: list,
    })
    .map(of)
    .collect()
}

fn written(exprs: &[Expr]) -> Vec<u8> {
    let mut list = Writer::message(None);
    for expr in exprs {
        list.entry(|entry| expr.write(entry));
    }
    list.into_body().split_off(HEADER)
}

#[test]
fn rules_are_written_as_nft_writes_them() {
    for (exprs, capture) in [(masquerade(), MASQUERADE), (spoof_check(), SPOOF_CHECK)] {
        let theirs = comparable(&hex(capture));
        assert_eq!(theirs.len(), exprs.len());
        assert_eq!(comparable(&written(&exprs)), theirs);
    }
}

#[test]
fn rules_are_read_as_they_were_written() {
    let mut exprs = [masquerade(), spoof_check()].concat();
    exprs.push(Expr::Verdict(Verdict::Accept));
    let chain = name("masq-abc");
    let wish = comment("blue");
    let request = new_rule(&table(Family::Ip), &chain, &exprs, Some(&wish));
    assert_eq!(request.kind, 0x0a06);
    let rule = read_rule(&request.body);
    assert_eq!(rule.exprs, exprs);
    assert_eq!(rule.comment.as_deref(), Some("blue"));
    // As `nft` wrote it.
    let list = Attr {
        kind: 0,
        value: &hex(SPOOF_CHECK),
    };
    let theirs: Vec<Expr> = entries(list).map(Expr::read).collect();
    assert_eq!(theirs, spoof_check());
}

#[test]
fn what_a_rule_has_beyond_ours_is_not_taken_for_ours() {
    let with = |name: &str, fill: &dyn Fn(&mut Writer)| {
        let mut list = Writer::message(None);
        list.entry(|entry| {
            entry.text(1, name);
            entry.nest(2, |data| fill(data));
        });
        let body = list.into_body();
        Expr::read(Attrs::after(&body, HEADER).next().unwrap())
    };
    for (name, read) in [
        // Masquerading with an option: NFTA_MASQ_FLAGS.
        ("masq", with("masq", &|data| data.number(1, 4))),
        ("counter", with("counter", &|_| {})),
        // A set of another register than 1 to 4.
        (
            "meta",
            with("meta", &|data| {
                data.number(2, 6);
                data.number(1, 9);
            }),
        ),
        // Another key: NFT_META_OIFNAME.
        (
            "meta",
            with("meta", &|data| {
                data.number(2, 7);
                data.number(1, 1);
            }),
        ),
        // A jump.
        (
            "immediate",
            with("immediate", &|data| {
                data.number(1, 0);
                data.nest(2, |data| data.nest(2, |v| v.number(1, 0xffff_fffd)));
            }),
        ),
        ("cmp", with("cmp", &|data| data.number(1, 1))),
        ("", with("", &|_| {})),
    ] {
        assert_eq!(read, Expr::Other(name.to_owned()));
    }
}

/// The bytes of `nft add set ip berth masq-abc { type ipv4_addr; comment "blue"; }`,
/// without the empty NFTA_SET_DESC records `nft` 1.1.3 writes into its user data.
#[test]
fn a_set_is_written_with_the_type_nft_shows() {
    let set = NewSet {
        name: &name("masq-abc"),
        key: SetKey::Ipv4,
        comment: Some(&comment("blue")),
    };
    let request = new_set(&table(Family::Ip), &set, 1);
    let bytes = "
        02000000 0a000100 62657274 68000000 0d000200 6d617371 2d616263 00000000
        08000300 00000000 08000400 00000007 08000500 00000004 08000a00 00000001
        11000d00 00040200 00000705 626c7565 00000000";
    assert_eq!(
        (request.kind, request.body.clone()),
        (0x0a09, hex(bytes)),
        "{:02x?}",
        request.body
    );
    let read = read_set(&request.body).unwrap();
    assert_eq!(read.name, "masq-abc");
    assert_eq!(read.comment.as_deref(), Some("blue"));
    let pair = NewSet {
        name: &name("senders"),
        key: SetKey::IfNameMac,
        comment: None,
    };
    let body = new_set(&table(Family::Bridge), &pair, 2).body;
    let attrs = Attrs::after(&body, HEADER);
    let number = |kind| find(attrs, kind).unwrap().u32_be();
    assert_eq!((number(4), number(5)), (Some(0x0a49), Some(24)));
    assert_eq!(read_set(&body).unwrap().comment, None);
}

#[test]
fn tables_and_chains_are_written_as_nft_writes_them() {
    let made = new_table(&table(Family::Ip));
    let bytes = "02000000 0a000100 62657274 68000000 08000200 00000000";
    assert_eq!((made.kind, made.body.clone()), (0x0a00, hex(bytes)));
    assert_eq!(read_table(&made.body).as_deref(), Some("berth"));
    let nat = BaseChain {
        name: &name("masq-abc"),
        kind: ChainType::Nat,
        hook: Hook::Postrouting,
        priority: 100,
    };
    let bytes = "
        02000000 0a000100 62657274 68000000 0d000300 6d617371 2d616263 00000000
        08000700 6e617400 14000480 08000100 00000004 08000200 00000064";
    let made = new_chain(&table(Family::Ip), &nat);
    assert_eq!((made.kind, made.body), (0x0a03, hex(bytes)));
    let filter = BaseChain {
        name: &name("pre"),
        kind: ChainType::Filter,
        hook: Hook::Prerouting,
        priority: -200,
    };
    let bytes = "
        07000000 0a000100 62657274 68000000 08000300 70726500
        0b000700 66696c74 65720000 14000480 08000100 00000000 08000200 ffffff38";
    let made = new_chain(&table(Family::Bridge), &filter);
    assert_eq!((made.kind, made.body), (0x0a03, hex(bytes)));
}

#[test]
fn elements_are_written_as_nft_writes_them_and_read_back() {
    let (set, key) = (
        name("masq-abc"),
        ElementKey::ip("10.1.0.5".parse().unwrap()),
    );
    let mark = comment("blue/c1:eth0");
    let ip = table(Family::Ip);
    let request = of_element(Kind::NewSetElem, (&ip, &set), &key, Some(&mark));
    let bytes = "
        02000000 0a000100 62657274 68000000 0d000200 6d617371 2d616263 00000000
        28000380 24000180 0c000180 08000100 0a010005 13000600 000d626c 75652f63
        313a6574 68300000";
    assert_eq!((request.kind, request.body.clone()), (0x0a0c, hex(bytes)));
    let element = Element {
        key,
        comment: Some("blue/c1:eth0".to_owned()),
    };
    assert_eq!(read_elements(&request.body), [element]);

    let port = "bv0".parse().unwrap();
    let key = ElementKey::interface_mac(&port, crate::MacAddr([2, 0, 0, 0, 0, 1]));
    assert_eq!(
        key.as_bytes(),
        hex("62763000 00000000 00000000 00000000 02000000 00010000")
    );
    assert_eq!(
        ElementKey::interface(&port).as_bytes(),
        &key.as_bytes()[..16]
    );
    assert_eq!(
        ElementKey::ip("fd00::1".parse().unwrap()).as_bytes().len(),
        16
    );
}

#[test]
fn the_longest_comment_is_kept_whole() {
    let longest = "c".repeat(251);
    assert!(format!("{longest}c").parse::<Comment>().is_err());
    assert!("a\0b".parse::<Comment>().is_err());
    let key = ElementKey::ip("10.1.0.5".parse().unwrap());
    let (ip, set) = (table(Family::Ip), name("s"));
    let mark = comment(&longest);
    let body = of_element(Kind::NewSetElem, (&ip, &set), &key, Some(&mark)).body;
    assert_eq!(read_elements(&body)[0].comment.as_ref(), Some(&longest));
}

#[test]
fn names_are_what_nft_reads_back() {
    for good in ["a", "masq-0f_1.2/3\\", &"a".repeat(255)] {
        assert!(good.parse::<Name>().is_ok(), "{good:?}");
    }
    for bad in ["", "1a", "-a", "a b", "a:b", "é", "a\0", &"a".repeat(256)] {
        assert!(bad.parse::<Name>().is_err(), "{bad:?}");
    }
}

fn two_changes() -> Batch {
    let mut batch = Batch::new();
    let ip = table(Family::Ip);
    batch.add_table(&ip);
    batch.delete_set(&ip, &name("old"));
    batch
}

#[test]
fn a_batch_is_framed_for_the_generation_and_acknowledged_at_its_last_change() {
    let batch = two_changes();
    assert_eq!(batch.len(), Some(4));
    let bytes = "
        1c000000 1000 0100 07000000 00000000 0000000a 08000100 0000002a
        28000000 000a 0104 08000000 00000000
                 02000000 0a000100 62657274 68000000 08000200 00000000
        28000000 0b0a 0500 09000000 00000000
                 02000000 0a000100 62657274 68000000 08000200 6f6c6400
        14000000 1100 0100 0a000000 00000000 0000000a";
    assert_eq!(batch.frames(7, Some(42), true).unwrap(), hex(bytes));
    let unguarded = batch.frames(7, None, true).unwrap();
    let tried = batch.frames(7, None, false).unwrap();
    assert_eq!(tried, unguarded[..unguarded.len() - 20]);
    assert_eq!(
        unguarded[..20],
        hex("14000000 1000 0100 07000000 00000000 0000000a")
    );
    let told: Vec<_> = batch.told().collect();
    assert_eq!(
        told,
        [
            ("add", "table ip berth"),
            ("delete", "set old of table ip berth")
        ]
    );
}

/// An NLMSG_ERROR as the kernel sends it, the header of the request repeated.
fn verdict(sequence: u32, errno: i32) -> Vec<u8> {
    let body = [&errno.to_ne_bytes()[..], &[0; 16]].concat();
    Request { kind: 2, body }.frame(0x100, sequence).unwrap()
}

#[test]
fn the_first_refusal_is_the_reason_and_the_last_change_ends_the_verdict() {
    let refused = |change, errno| {
        Some(Refusal {
            change,
            errno,
            text: None,
        })
    };
    let judge = |datagrams: &[Vec<u8>]| {
        let mut judgement = Judgement::new(7, 3);
        let mut done = false;
        for datagram in datagrams {
            assert!(!done, "more was read than there is to come");
            done = judgement.take(datagram).unwrap();
        }
        assert!(done, "it waits for what never comes");
        judgement.refusal()
    };
    assert_eq!(judge(&[verdict(10, 0)]), None);
    let late = verdict(6, -1); // of an earlier batch
    assert_eq!(judge(&[late, verdict(11, -1), verdict(10, 0)]), None);
    assert_eq!(
        judge(&[verdict(8, -17), verdict(9, -2), verdict(10, 0)]),
        refused(Some(0), Errno::EEXIST)
    );
    assert_eq!(judge(&[verdict(10, -2)]), refused(Some(2), Errno::ENOENT));
    // The whole: no verdict on a change need follow.
    assert_eq!(judge(&[verdict(7, -85)]), refused(None, Errno::ERESTART));
    let together = [verdict(9, -16), verdict(10, 0)].concat();
    assert_eq!(judge(&[together]), refused(Some(1), Errno::EBUSY));
    let cut = Judgement::new(7, 3).take(&verdict(10, 0)[..30]);
    assert!(matches!(cut, Err(Fault::Malformed(_))));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes: Vec<u8>, sequence: u32) {
        let _table = read_table(&bytes);
        let _set = read_set(&bytes);
        let _rule = read_rule(&bytes);
        let _elements = read_elements(&bytes);
        let _verdict = Judgement::new(sequence, 3).take(&bytes);
    }
}
