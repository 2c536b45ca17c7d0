use super::super::wire::{Answer, End, Request};
use super::*;
use netlink_packet_core::DefaultNla;
use proptest::prelude::*;

const MAC: MacAddr = MacAddr([2, 0, 0x5e, 0x10, 0, 1]);

/// The description of a PF with these VFs, encoded by someone else's code.
fn described(vfs: Vec<LinkVfInfo>) -> Vec<u8> {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName("pf0".into()),
        LinkAttribute::VfInfoList(vfs),
        LinkAttribute::Mtu(1500),
    ];
    Request::from(RouteNetlinkMessage::NewLink(message)).body
}

/// An attribute of the VF as the kernel writes it: its index and a number.
fn number(kind: u16, vf: u32, value: u32) -> VfInfo {
    let bytes = [vf.to_ne_bytes(), value.to_ne_bytes()].concat();
    VfInfo::Other(DefaultNla::new(kind, bytes))
}

/// All that Linux 6.12 writes of a VF (`rtnl_fill_vfinfo` in net/core/rtnetlink.c), in
/// its order, without statistics.
fn whole(vf: u32, vlan: VfVlan, switches: [u32; 3]) -> LinkVfInfo {
    let [spoofchk, query_rss, trust] = switches;
    let (id, qos) = (u32::from(vlan.id), u32::from(vlan.qos));
    let proto = match vlan.proto {
        VlanProto::Dot1Q => VlanProtocol::Ieee8021Q,
        VlanProto::Dot1Ad => VlanProtocol::Ieee8021Ad,
    };
    let info = VfVlanInfo::new(vf, id, qos, proto);
    LinkVfInfo(vec![
        VfInfo::Mac(VfInfoMac::new(vf, &MAC.0)),
        VfInfo::Other(DefaultNla::new(13, vec![0xff; 32])), // IFLA_VF_BROADCAST
        VfInfo::Vlan(VfInfoVlan::new(vf, id, qos)),
        VfInfo::Rate(VfInfoRate::new(vf, 10, 1000)),
        number(3, vf, 1000), // IFLA_VF_TX_RATE
        number(IFLA_VF_SPOOFCHK, vf, spoofchk),
        number(IFLA_VF_LINK_STATE, vf, 2),
        number(IFLA_VF_RSS_QUERY_EN, vf, query_rss),
        number(IFLA_VF_TRUST, vf, trust),
        VfInfo::VlanList(vec![WireVlan::Info(info)]),
    ])
}

const TAGGED: VfVlan = VfVlan {
    id: 100,
    qos: 3,
    proto: VlanProto::Dot1Ad,
};

#[test]
fn a_vf_is_read_whole() {
    let vfs = decode(&described(vec![whole(5, TAGGED, [1, 0, 1])]));
    let expected = Vf {
        index: 5,
        mac: Some(MAC),
        vlan: TAGGED,
        min_tx_rate: 10,
        max_tx_rate: 1000,
        spoofchk: Some(true),
        trust: Some(true),
        link_state: Some(VfLinkState::Disable),
        query_rss: Some(false),
    };
    assert_eq!(vfs, [expected]);
}

#[test]
fn unreported_is_not_off() {
    let unreported = decode(&described(vec![whole(0, VfVlan::NONE, [u32::MAX; 3])]))[0];
    let off = decode(&described(vec![whole(0, VfVlan::NONE, [0; 3])]))[0];
    let switches = |vf: Vf| [vf.spoofchk, vf.query_rss, vf.trust];
    assert_eq!(switches(unreported), [None; 3]);
    assert_eq!(switches(off), [Some(false); 3]);
}

#[test]
fn no_address_is_kept_as_zero() {
    let mut info = whole(1, VfVlan::NONE, [0; 3]);
    info.0[0] = VfInfo::Mac(VfInfoMac::new(1, &[0; 6]));
    let vf = decode(&described(vec![info]))[0];
    assert_eq!(vf.mac, Some(MacAddr([0; 6])));
}

#[test]
fn an_old_kernels_vf_has_a_plain_tag_and_no_state() {
    let info = LinkVfInfo(vec![
        VfInfo::Mac(VfInfoMac::new(2, &MAC.0)),
        VfInfo::Vlan(VfInfoVlan::new(2, 7, 0)),
    ]);
    let vf = decode(&described(vec![info]))[0];
    let vlan = VfVlan {
        id: 7,
        ..VfVlan::NONE
    };
    assert_eq!((vf.index, vf.vlan), (2, vlan));
    assert_eq!((vf.link_state, vf.spoofchk), (None, None));
}

#[test]
fn a_vf_without_index_does_not_hide_the_others() {
    let odd = LinkVfInfo(vec![number(IFLA_VF_TRUST, 1, 1)]);
    let vfs = vec![whole(2, TAGGED, [1; 3]), odd, whole(0, TAGGED, [1; 3])];
    let read: Vec<_> = decode(&described(vfs)).iter().map(|vf| vf.index).collect();
    assert_eq!(read, [0, 2]);
}

/// What Linux 6.12 with igb answers for a PF with three VFs, the IFLA_VFINFO_LIST alone:
/// VF 0 as it was made, with the
/// address its own driver picked; VF 1 with MAC and VLAN 100 qos 3, VF 2 trusted without spoof check.
#[test]
fn igbs_vfs_are_read() {
    let mut body = vec![0; IFINFO];
    body.extend(include_bytes!("igb.bin"));
    let vfs = decode(&body);
    assert_eq!(vfs.len(), 3);
    let usual = vfs[0];
    assert_eq!((usual.vlan, usual.max_tx_rate), (VfVlan::NONE, 0));
    assert!(usual.mac.is_some_and(MacAddr::is_assignable));
    let switches = |vf: Vf| (vf.spoofchk, vf.trust, vf.query_rss, vf.link_state);
    let auto = Some(VfLinkState::Auto);
    assert_eq!(switches(usual), (Some(true), Some(false), None, auto));
    let vlan = VfVlan {
        id: 100,
        qos: 3,
        ..VfVlan::NONE
    };
    assert_eq!((vfs[1].mac, vfs[1].vlan), (Some(MAC), vlan));
    assert_eq!(switches(vfs[2]), (Some(false), Some(true), None, auto));
}

/// The most VFs a function has in practice: one message, longer than the 32 KiB a dump's
/// pieces end at.
#[test]
fn two_hundred_and_fifty_six_vfs_are_read() {
    let all = (0..256).map(|vf| whole(vf, TAGGED, [1, u32::MAX, 0]));
    let body = described(all.collect());
    assert!(body.len() > 32 * 1024, "{}", body.len());
    let frame = Request {
        kind: libc::RTM_NEWLINK,
        body,
    }
    .frame(0, 7)
    .unwrap();
    let mut answer = Answer::new(7, End::First);
    assert_eq!(answer.take(&frame), Ok(true));
    let vfs = decode(&answer.bodies[0]);
    assert!(vfs.iter().map(|vf| vf.index).eq(0..256));
    assert!(
        vfs.iter()
            .all(|vf| vf.vlan == TAGGED && vf.query_rss.is_none())
    );
}

#[test]
fn the_vfs_are_asked_for_without_statistics() {
    let request = Request::from(get_vfs(3));
    assert_eq!(request.kind, libc::RTM_GETLINK);
    assert_eq!(request.body[4..8], 3_u32.to_ne_bytes());
    assert_eq!(request.body[16..], [8, 0, 29, 0, 0b1001, 0, 0, 0]);
}

/// The nested attributes of `change` for VF 2, without the message around them.
fn sent(change: VfChange) -> Vec<u8> {
    let body = Request::from(RouteNetlinkMessage::SetLink(set_vf(3, 2, change))).body;
    assert_eq!(body[4..8], 3_u32.to_ne_bytes());
    // IFLA_VFINFO_LIST and its one IFLA_VF_INFO.
    assert_eq!((body[18] & 0x3f, body[22] & 0x3f), (22, 1));
    body[24..].to_vec()
}

#[test]
fn a_change_is_one_attribute() {
    let vlan = |proto| VfChange::Vlan(VfVlan { proto, ..TAGGED });
    let mac = [&[40, 0, 1, 0, 2, 0, 0, 0][..], &MAC.0, &[0; 26]].concat();
    assert_eq!(sent(VfChange::Mac(MAC)), mac);
    let legacy = [16, 0, 2, 0, 2, 0, 0, 0, 100, 0, 0, 0, 3, 0, 0, 0];
    assert_eq!(sent(vlan(VlanProto::Dot1Q)), legacy);
    let list = sent(vlan(VlanProto::Dot1Ad));
    assert_eq!((list[0], list[2]), (24, 12), "IFLA_VF_VLAN_LIST");
    assert_eq!(
        list[4..20],
        [20, 0, 1, 0, 2, 0, 0, 0, 100, 0, 0, 0, 3, 0, 0, 0]
    );
    assert_eq!(list[20..22], [0x88, 0xa8]);
    let rate = [16, 0, 6, 0, 2, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0];
    assert_eq!(sent(VfChange::TxRate { min: 5, max: 9 }), rate);
    for (change, kind, value) in [
        (VfChange::SpoofCheck(true), 4, 1),
        (VfChange::LinkState(VfLinkState::Disable), 5, 2),
        (VfChange::QueryRss(false), 7, 0),
        (VfChange::Trust(true), 9, 1),
    ] {
        let expected = [12, 0, kind, 0, 2, 0, 0, 0, value, 0, 0, 0];
        assert_eq!(sent(change), expected, "{change}");
    }
}

#[test]
fn changes_are_said_in_words() {
    for (change, text) in [
        (VfChange::Mac(MAC), "MAC 02:00:5e:10:00:01"),
        (
            VfChange::Vlan(VfVlan {
                id: 100,
                ..VfVlan::NONE
            }),
            "VLAN 100",
        ),
        (VfChange::Vlan(TAGGED), "VLAN 100 qos 3 proto 802.1ad"),
        (
            VfChange::TxRate { min: 0, max: 50 },
            "transmit rate 0 to 50 Mbit/s",
        ),
        (VfChange::SpoofCheck(false), "spoof check off"),
        (VfChange::Trust(true), "trust on"),
        (VfChange::LinkState(VfLinkState::Auto), "link state auto"),
        (VfChange::QueryRss(true), "RSS query on"),
    ] {
        assert_eq!(change.to_string(), text);
    }
}

#[test]
fn words_of_ip_link_are_read_and_others_refused() {
    for state in [VfLinkState::Auto, VfLinkState::Enable, VfLinkState::Disable] {
        assert_eq!(state.to_string().parse(), Ok(state));
    }
    assert_eq!("802.1q".parse(), Ok(VlanProto::Dot1Q));
    assert_eq!("802.1AD".parse(), Ok(VlanProto::Dot1Ad));
    assert!("up".parse::<VfLinkState>().is_err() && "802.1x".parse::<VlanProto>().is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_without_panic(bytes: Vec<u8>) {
        let mut body = described(vec![whole(0, TAGGED, [1; 3])]);
        body.truncate(body.len().saturating_sub(bytes.len()));
        body.extend(bytes);
        decode(&body);
    }
}
