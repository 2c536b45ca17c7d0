use super::super::wire::Request;
use super::*;
use netlink_packet_route::link::{
    InfoData, InfoPortData, InfoPortKind, InfoVlan, LinkFlags, Prop, State,
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
fn the_device_behind_a_link_is_read() {
    let mut body = described(
        LinkFlags::Up | LinkFlags::LowerUp | LinkFlags::Allmulti,
        vec![
            LinkAttribute::IfName("eth1".into()),
            LinkAttribute::TxQueueLen(500),
            LinkAttribute::Group(7),
            LinkAttribute::PropList(vec![
                Prop::AltIfName("enp1s0v0".into()),
                Prop::AltIfName("a name of more than fifteen bytes".into()),
            ]),
        ],
    );
    body.extend([10, 0, 54, 0, 2, 0, 0, 0, 0, 1, 0, 0]); // IFLA_PERM_ADDRESS
    body.extend([17, 0, 56, 0]); // IFLA_PARENT_DEV_NAME
    body.extend(b"0000:01:10.2\0\0\0\0");
    body.extend([8, 0, 57, 0, b'p', b'c', b'i', 0]); // IFLA_PARENT_DEV_BUS_NAME
    let link = decode(&body).unwrap();
    assert_eq!(link.parent.as_deref(), Some("0000:01:10.2"));
    assert_eq!(link.pci(), "0000:01:10.2".parse().ok());
    assert_eq!(link.permanent_mac, Some(MacAddr([2, 0, 0, 0, 0, 1])));
    assert_eq!((link.tx_queue_len, link.group), (500, 7));
    assert!(link.carrier && link.allmulti && !link.running);
    let altnames: Vec<_> = link.altnames.iter().map(AltName::to_string).collect();
    assert_eq!(altnames, ["enp1s0v0", "a name of more than fifteen bytes"]);
    let on_virtio = Link {
        parent: Some("virtio0".into()),
        parent_bus: Some("virtio".into()),
        ..link
    };
    assert_eq!(on_virtio.pci(), None);
}

#[test]
fn a_name_that_cannot_be_said_does_not_hide_the_link() {
    let mut body = described(LinkFlags::Up, Vec::new());
    body.extend([7, 0, 3, 0, 0xff, 0xfe, 0, 0]);
    body.extend([12, 0, 52, 0x80, 6, 0, 53, 0, 0xff, 0, 0, 0]); // an altname alike
    let link = decode(&body).unwrap();
    assert_eq!(link.name.as_str(), "?12");
    assert_eq!(link.altnames, [AltName::of(&[0xff]).unwrap()]);
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
