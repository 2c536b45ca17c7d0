//! A VF for the tests of this crate.

use std::collections::BTreeMap;

use berth_kernel::MacAddr;
use berth_kernel::ethtool::{ChannelCounts, Coalesce, RingSizes};
use berth_kernel::netlink::{Tuning, VfLinkState, VfVlan, VlanProto};

use super::{Baseline, Netdev, PfSide, RxQueue, SriovHost, TxRate, VfSet};

pub(crate) fn baseline() -> Baseline {
    Baseline {
        side: PfSide {
            mac: Some(MacAddr([0; 6])),
            vlan: Some(VfVlan {
                id: 0,
                qos: 0,
                proto: VlanProto::Dot1Q,
            }),
            rate: Some(TxRate::default()),
            spoofchk: Some(true),
            trust: Some(false),
            link_state: Some(VfLinkState::Auto),
            query_rss: None,
        },
        own_mac: false,
        netdev: Netdev {
            name: "eth2".parse().unwrap(),
            mac: MacAddr([2, 0, 0, 0, 0, 2]),
            mtu: 1500,
            up: false,
            tx_queue_len: 1000,
            group: 0,
            promisc: false,
            allmulti: false,
            alias: None,
            altnames: ["enp1s16f2".parse().unwrap()].into(),
        },
        tuning: Tuning {
            arp: true,
            multicast: true,
            dormant: false,
            xdp: false,
            broadcast: Some(MacAddr([0xff; 6])),
            gso_max_size: Some(65536),
            gso_max_segs: Some(65535),
            gro_max_size: Some(65536),
            gso_ipv4_max_size: Some(65536),
            gro_ipv4_max_size: None,
        },
        features: ["rx-gro".to_owned(), "tx-tcp-segmentation".to_owned()].into(),
        channels: Some(ChannelCounts {
            combined: 2,
            ..ChannelCounts::default()
        }),
        rings: Some(RingSizes {
            rx: 1024,
            tx: 1024,
            ..RingSizes::default()
        }),
        coalesce: Some(Coalesce([3; 22])),
        rx: vec![RxQueue::default(), RxQueue::default()],
        tx: vec![
            Some([0].into_iter().collect()),
            Some([1].into_iter().collect()),
        ],
        gro_flush_timeout: 0,
        napi_defer_hard_irqs: 0,
    }
}

pub(crate) fn host() -> SriovHost {
    SriovHost {
        pf: "0000:01:00.0".parse().unwrap(),
        pf_name: "eth0".parse().unwrap(),
        vf: "0000:01:10.2".parse().unwrap(),
        index: 1,
        driver: "igbvf".into(),
        baseline: baseline(),
        irqs: BTreeMap::from([(44, (0..4).collect())]),
        set: VfSet::default(),
    }
}
