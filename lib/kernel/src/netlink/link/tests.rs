use super::super::wire::Request;
use super::*;
use netlink_packet_route::link::{
    InfoData, InfoPortData, InfoPortKind, InfoVlan, LinkFlags, State,
};
use proptest::prelude::*;

/// A description as the kernel sends it, encoded by someone else's code.
fn described(flags: LinkFlags, attributes: Vec<LinkAttribute>) -> Vec<u8> {
    let mut message = LinkMessage::default();
    message.header.index = 12;
    message.header.flags = flags;
    message.attributes = attributes;
    Request::from(RouteNetlinkMessage::NewLink(message)).body
}

#[test]
fn a_bridge_port_is_read() {
    let body = described(
        LinkFlags::Up | LinkFlags::Running | LinkFlags::LowerUp,
        vec![
            LinkAttribute::IfName("bv0".into()),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
            LinkAttribute::OperState(State::Up),
            LinkAttribute::Mtu(1400),
            LinkAttribute::Link(2),
            LinkAttribute::LinkNetNsId(0),
            LinkAttribute::Controller(3),
            LinkAttribute::IfAlias("berth1 net abc eth0".into()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(InfoPortData::BridgePort(Vec::new())),
            ]),
        ],
    );
    let link = decode(&body).unwrap();
    assert_eq!((link.index, link.name.as_str()), (12, "bv0"));
    assert_eq!(
        (link.mtu, link.peer, link.peer_netns),
        (1400, Some(2), Some(0))
    );
    assert_eq!(link.mac, Some(MacAddr([2, 0, 0, 0, 0, 1])));
    assert!(link.up && link.running && !link.promisc);
    assert_eq!(link.master, Some(3));
    assert_eq!(link.alias.as_deref(), Some("berth1 net abc eth0"));
    assert_eq!(link.kind.as_deref(), Some("veth"));
    assert_eq!((link.port, link.bridge), (Some(Port::default()), None));
}

#[test]
fn a_vlan_device_is_read() {
    let body = described(
        LinkFlags::Up,
        vec![
            LinkAttribute::IfName("up0.100".into()),
            LinkAttribute::Link(4),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Vlan),
                LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(100)])),
            ]),
        ],
    );
    let link = decode(&body).unwrap();
    assert_eq!(
        (link.vlan, link.peer, link.running),
        (Some(100), Some(4), false)
    );
}

#[test]
fn attributes_that_make_no_sense_do_not_hide_the_link() {
    let mut body = described(LinkFlags::Up, vec![LinkAttribute::IfName("odd".into())]);
    body.extend([5, 0, 4, 0, 1, 0, 0, 0]); // an MTU of one byte
    body.extend([9, 0, 1, 0, 1, 2, 3, 4, 5, 0, 0, 0]); // an address of five
    body.extend([8, 0, 18, 0x80, 3, 0, 1, 0]); // a kind shorter than its header
    let link = decode(&body).unwrap();
    assert_eq!((link.mtu, link.mac, link.kind), (0, None, None));
}

#[test]
fn a_nameless_or_cut_description_is_malformed() {
    assert!(decode(&described(LinkFlags::Up, Vec::new())).is_err());
    assert!(decode(&[0; 7]).is_err());
}

#[test]
fn look_ups_ask_for_no_statistics() {
    let request = Request::from(get(0, Some(&"bv0".parse().unwrap())));
    let expected = [8, 0, 3, 0, b'b', b'v', b'0', 0, 8, 0, 29, 0, 8, 0, 0, 0];
    assert_eq!(request.kind, libc::RTM_GETLINK);
    assert_eq!(request.body[..16], [0; 16]);
    assert_eq!(request.body[16..], expected);
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_without_panic(bytes: Vec<u8>) {
        let _outcome = decode(&bytes);
    }
}
