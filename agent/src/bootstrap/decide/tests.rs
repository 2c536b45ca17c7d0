//! What differs, what is refused, and how it is told.

use super::*;

fn reason_pf() -> PciAddr {
    "0000:21:00.0".parse().unwrap()
}

fn vf(index: u32) -> Vf {
    Vf {
        index,
        address: format!("0000:21:10.{}", 2 * index).parse().unwrap(),
        driver: Some("igbvf".into()),
        verdict: Verdict::Free(format!("v{index}").parse().unwrap()),
        admin_mac: Some(stable_mac(PERMANENT, index)),
        netdev_mac: Some(stable_mac(PERMANENT, index)),
    }
}

const PERMANENT: MacAddr = MacAddr([0x52, 0x54, 0, 0xbe, 0, 1]);
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const WISH: Wish = Wish {
    count: 2,
    mtu: None,
    macs: Macs::Stable,
};

/// As [`WISH`] wants it.
fn pf() -> Pf {
    Pf {
        address: reason_pf(),
        name: "pf0".parse().unwrap(),
        up: true,
        mtu: 1500,
        permanent_mac: Some(PERMANENT),
        total_vfs: 7,
        autoprobe: true,
        vfs: vec![vf(0), vf(1)],
    }
}

fn busy(reason: Reason) -> Verdict {
    Verdict::Busy(vec![reason])
}

fn told(pf: &Pf, wish: &Wish) -> Vec<String> {
    let all = differences(pf, wish);
    all.iter().map(ToString::to_string).collect()
}

#[test]
fn as_wished_nothing_differs() {
    assert_eq!(told(&pf(), &WISH), Vec::<String>::new());
    assert!(objections(&pf(), &WISH).is_empty());
    assert!(foretold(&pf(), &WISH).is_empty());
}

#[test]
fn each_difference_is_found_and_told() {
    let mac = stable_mac(PERMANENT, 1);
    type Spoil = fn(&mut Pf);
    let cases: [(Spoil, Wish, String); 6] = [
        (|pf| pf.up = false, WISH, "it is down".into()),
        (
            |_| {},
            Wish {
                mtu: Some(9000),
                ..WISH
            },
            "its MTU is 1500, not 9000".into(),
        ),
        (
            |_| {},
            Wish { count: 1, ..WISH },
            "it has 2 VFs, not 1".into(),
        ),
        (
            |pf| pf.vfs[1].admin_mac = Some(MacAddr([0; 6])),
            WISH,
            format!("VF 1 (0000:21:10.2): its MAC at the PF is 00:00:00:00:00:00, not {mac}"),
        ),
        (
            |pf| {
                pf.vfs[1].driver = None;
                pf.vfs[1].netdev_mac = None;
                pf.vfs[1].verdict = busy(Reason::NoDriver);
            },
            WISH,
            "VF 1 (0000:21:10.2): no driver is bound to it".into(),
        ),
        (
            |pf| pf.vfs[1].netdev_mac = Some(OTHER),
            WISH,
            format!("VF 1 (0000:21:10.2): its network device has MAC {OTHER}, not {mac}"),
        ),
    ];
    for (spoil, wish, text) in cases {
        let mut pf = pf();
        spoil(&mut pf);
        assert_eq!(told(&pf, &wish), [text]);
        assert_eq!(foretold(&pf, &wish).len().min(1), 1);
    }
}

#[test]
fn stages_come_in_order() {
    let mut pf = pf();
    pf.up = false;
    pf.vfs[0].netdev_mac = Some(OTHER);
    pf.vfs[1].admin_mac = None;
    let stages: Vec<Stage> = differences(&pf, &WISH)
        .iter()
        .map(Difference::stage)
        .collect();
    assert_eq!(stages, [Stage::Pf, Stage::Macs, Stage::Drivers]);
}

#[test]
fn a_vf_in_use_has_whatever_settings_its_user_wants() {
    let mut pf = pf();
    pf.vfs[1].admin_mac = Some(OTHER);
    pf.vfs[1].netdev_mac = None;
    pf.vfs[1].verdict = busy(Reason::Claimed("game/web-1:net1".parse().unwrap()));
    assert!(told(&pf, &WISH).is_empty());
    assert!(objections(&pf, &WISH).is_empty());
}

#[test]
fn another_number_or_mtu_is_refused_with_every_user_named() {
    let mut pf = pf();
    pf.vfs[0].verdict = busy(Reason::Quarantined("MAC".into()));
    pf.vfs[1].verdict = busy(Reason::Claimed("game/web-1:net1".parse().unwrap()));
    for wish in [
        Wish { count: 0, ..WISH },
        Wish { count: 3, ..WISH },
        Wish {
            mtu: Some(9000),
            ..WISH
        },
    ] {
        let texts = objections(&pf, &wish);
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[0].contains("VF 0 (0000:21:10.0) is in use: in quarantine (MAC); "));
        assert!(texts[0].ends_with("berth vf release 0000:21:10.0"));
        assert!(texts[1].contains("claimed by game/web-1:net1"), "{texts:?}");
        assert!(texts[1].contains("berth detach --container-id web-1 --ifname net1"));
    }
    pf.up = false;
    assert!(objections(&pf, &WISH).is_empty(), "setting up harms nobody");
}

#[test]
fn a_vf_nobody_uses_is_in_nobodys_way() {
    let mut pf = pf();
    pf.vfs[0].verdict = busy(Reason::NoDriver);
    pf.vfs[1].verdict = busy(Reason::Reserved);
    assert!(objections(&pf, &Wish { count: 5, ..WISH }).is_empty());
}

#[test]
fn what_the_hardware_cannot_do_is_said() {
    let mut pf = pf();
    let texts = objections(&pf, &Wish { count: 8, ..WISH });
    assert_eq!(
        texts,
        ["pf0 (0000:21:00.0): it can have 7 VFs at most, not 8"]
    );
    pf.total_vfs = 0;
    assert!(objections(&pf, &WISH)[0].contains("switch SR-IOV on"));
    pf.total_vfs = 7;
    pf.permanent_mac = None;
    assert!(objections(&pf, &WISH)[0].contains("--macs keep"));
    let keep = Wish {
        macs: Macs::Keep,
        ..WISH
    };
    assert!(objections(&pf, &keep).is_empty());
}

#[test]
fn without_autoprobe_drivers_are_left_alone_and_it_is_said() {
    let mut pf = pf();
    pf.autoprobe = false;
    pf.vfs[0].driver = None;
    pf.vfs[0].netdev_mac = None;
    pf.vfs[0].verdict = busy(Reason::NoDriver);
    pf.vfs[1].netdev_mac = Some(OTHER);
    assert!(told(&pf, &WISH).is_empty());
    assert_eq!(remarks(&pf, &WISH).len(), 1);
    pf.vfs[0].admin_mac = None;
    assert_eq!(
        told(&pf, &WISH).len(),
        1,
        "MACs are set at the PF all the same"
    );
}

#[test]
fn no_vf_needs_no_pf_that_is_up() {
    let mut pf = pf();
    pf.up = false;
    pf.autoprobe = false;
    pf.vfs.clear();
    let none = Wish { count: 0, ..WISH };
    assert!(told(&pf, &none).is_empty() && remarks(&pf, &none).is_empty());
}

#[test]
fn kept_macs_are_whatever_they_are() {
    let mut pf = pf();
    pf.vfs[0].admin_mac = None;
    pf.vfs[1].netdev_mac = Some(OTHER);
    let keep = Wish {
        macs: Macs::Keep,
        ..WISH
    };
    assert!(told(&pf, &keep).is_empty());
}

#[test]
fn stable_macs_are_local_distinct_and_the_same_tomorrow() {
    let macs: std::collections::BTreeSet<MacAddr> =
        (0..256).map(|index| stable_mac(PERMANENT, index)).collect();
    assert_eq!(macs.len(), 256);
    assert!(
        macs.iter()
            .all(|mac| mac.is_assignable() && mac.0[0] & 2 == 2)
    );
    assert_ne!(stable_mac(PERMANENT, 0), stable_mac(OTHER, 0));
    // printf '52:54:00:be:00:01 vf 0' | sha256sum, first byte & fc | 02
    assert_eq!(stable_mac(PERMANENT, 0).to_string(), "3e:72:45:dd:43:86");
}

#[test]
fn new_vfs_are_foretold_with_their_macs() {
    let lines = foretold(&pf(), &Wish { count: 3, ..WISH });
    let macs = (0..3).map(|index| format!("VF {index}: MAC {}", stable_mac(PERMANENT, index)));
    let mut expected = vec!["make 3 VFs (had 2)".to_owned()];
    expected.extend(macs);
    assert_eq!(lines, expected);
}
