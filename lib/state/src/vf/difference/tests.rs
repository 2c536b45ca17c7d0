use super::*;
use crate::vf::testing::baseline;
use berth_kernel::MacAddr;
use berth_kernel::ethtool::{ChannelCounts, Coalesce, RingSizes};
use berth_kernel::netlink::{VfLinkState, VfVlan, VlanProto};

use crate::vf::TxRate;

fn fields(was: &Baseline, is: &Baseline) -> Vec<Field> {
    let found = differences(was, is);
    found.into_iter().map(|d| d.field).collect()
}

fn alt(name: &str) -> AltName {
    name.parse().unwrap()
}

type Change = fn(&mut Baseline);

#[test]
fn every_field_is_compared_and_named() {
    let changes: &[(Change, Field)] = &[
        (|b| b.netdev.name = "net1".parse().unwrap(), Field::Name),
        (|b| b.netdev.mac = MacAddr([2, 9, 9, 9, 9, 9]), Field::Mac),
        (|b| b.netdev.mtu = 1400, Field::Mtu),
        (|b| b.netdev.up = true, Field::Up),
        (|b| b.netdev.tx_queue_len = 7, Field::TxQueueLen),
        (|b| b.netdev.group = 7, Field::Group),
        (|b| b.netdev.promisc = true, Field::Promisc),
        (|b| b.netdev.allmulti = true, Field::Allmulti),
        (
            |b| b.netdev.alias = Some("berth1 a b c".into()),
            Field::Alias,
        ),
        (
            |b| b.channels = Some(ChannelCounts::default()),
            Field::Channels,
        ),
        (|b| b.rings = Some(RingSizes::default()), Field::Rings),
        (|b| b.coalesce = Some(Coalesce([9; 22])), Field::Coalesce),
        (
            |b| b.rx[1].rps_cpus = [1].into_iter().collect(),
            Field::RpsCpus(1),
        ),
        (|b| b.rx[0].rps_flow_cnt = 64, Field::RpsFlowCnt(0)),
        (|b| b.rx.truncate(1), Field::RxQueues),
        (
            |b| b.tx[1] = Some([3].into_iter().collect()),
            Field::XpsCpus(1),
        ),
        (|b| b.tx.push(None), Field::TxQueues),
        (|b| b.gro_flush_timeout = 1, Field::GroFlushTimeout),
        (|b| b.napi_defer_hard_irqs = 1, Field::NapiDeferHardIrqs),
        (|b| b.side.mac = Some(MacAddr([2; 6])), Field::PfMac),
        (|b| b.side.vlan = vlan(100), Field::PfVlan),
        (
            |b| b.side.rate = Some(TxRate { min: 0, max: 9 }),
            Field::PfRate,
        ),
        (|b| b.side.spoofchk = Some(false), Field::PfSpoofChk),
        (|b| b.side.trust = Some(true), Field::PfTrust),
        (
            |b| b.side.link_state = Some(VfLinkState::Enable),
            Field::PfLinkState,
        ),
        (|b| b.side.query_rss = Some(true), Field::PfQueryRss),
    ];
    let mut was = baseline();
    was.side.query_rss = Some(false);
    assert_eq!(differences(&was, &was), []);
    let mut names = std::collections::BTreeSet::new();
    for (change, field) in changes {
        let mut is = was.clone();
        change(&mut is);
        assert_eq!(fields(&was, &is), std::slice::from_ref(field));
        let back = fields(&is, &was);
        let back: Vec<String> = back.iter().map(Field::to_string).collect();
        assert_eq!(back, [field.to_string()], "and back");
        assert!(names.insert(field.to_string()), "{field} twice");
    }
}

fn vlan(id: u16) -> Option<VfVlan> {
    Some(VfVlan {
        id,
        qos: 0,
        proto: VlanProto::Dot1Q,
    })
}

#[test]
fn single_names_and_features_are_told_with_their_way() {
    let was = baseline();
    let mut is = was.clone();
    is.features.remove("rx-gro");
    is.features.insert("rx-all".into());
    let told: Vec<String> = differences(&was, &is)
        .iter()
        .map(Difference::to_string)
        .collect();
    assert_eq!(
        told,
        [
            "feature rx-all is on, was off",
            "feature rx-gro is off, was on"
        ]
    );
}

/// An interface cannot take a name that is an alternative one of its own, and what a
/// later change resets is put back after it.
#[test]
fn they_come_in_the_order_in_which_they_can_be_put_back() {
    let was = baseline();
    let mut is = was.clone();
    is.netdev.name = "net1".parse().unwrap();
    is.netdev.altnames = [alt("eth2")].into();
    is.netdev.up = true;
    is.channels = Some(ChannelCounts::default());
    is.rx[0].rps_flow_cnt = 8;
    is.side.vlan = vlan(7);
    let wished = [
        Field::AltName(alt("eth2")),
        Field::Name,
        Field::AltName(alt("enp1s16f2")),
        Field::Channels,
        Field::RpsFlowCnt(0),
        Field::Up,
        Field::PfVlan,
    ];
    assert_eq!(fields(&was, &is), wished);
}

#[test]
fn what_was_not_reported_counts_for_nothing_and_what_is_no_more_does() {
    let mut silent = baseline();
    silent.side = PfSide::default();
    silent.channels = None;
    silent.rings = None;
    silent.coalesce = None;
    silent.tx = vec![None, None];
    let talks = baseline();
    assert_eq!(differences(&silent, &talks), []);
    let lost = fields(&talks, &silent);
    assert!(lost.contains(&Field::PfTrust) && lost.contains(&Field::Rings));
    let told = side_differences(&talks.side, &silent.side);
    assert!(told.iter().all(|d| d.is == "not reported"), "{told:?}");
}

#[test]
fn why_a_field_stays_is_told() {
    let difference = Difference {
        field: Field::RpsCpus(3),
        was: "\"\"".into(),
        is: "\"2-3\"".into(),
        why: Some("CPU 3 is offline".into()),
    };
    assert_eq!(
        difference.to_string(),
        "rps_cpus of receive queue 3 is \"2-3\", was \"\" (CPU 3 is offline)"
    );
}
