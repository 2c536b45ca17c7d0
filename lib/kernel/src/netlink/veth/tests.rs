use super::super::attr::{Attr, Attrs, u32_at};
use super::super::wire::Request;
use super::*;

const IFINFO: usize = 16;
const VETH_INFO_PEER: u16 = 1;

fn find(attrs: Attrs<'_>, kind: u16) -> Attr<'_> {
    let mut found = attrs.filter(|attr| attr.kind == kind);
    let first = found
        .next()
        .unwrap_or_else(|| panic!("no attribute {kind}"));
    assert!(found.next().is_none(), "attribute {kind} twice");
    first
}

#[test]
fn one_message_says_everything_about_both_ends() {
    let here = NetNs::current().unwrap();
    let (host_mac, peer_mac) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    let message = new_veth(&Veth {
        host: &"bv0".parse().unwrap(),
        host_mac: Some(host_mac),
        master: Some(7),
        group: Some(0x6265_7200),
        mtu: Some(9000),
        up: true,
        peer: &"eth0".parse().unwrap(),
        peer_mac: Some(peer_mac),
        peer_ns: &here,
    });
    let request = Request::from(RouteNetlinkMessage::NewLink(message));
    assert_eq!(request.kind, libc::RTM_NEWLINK);
    let host = Attrs::after(&request.body, IFINFO);
    assert_eq!(u32_at(&request.body, 8), Some(1), "IFF_UP");
    assert_eq!(find(host, libc::IFLA_IFNAME).text(), "bv0");
    assert_eq!(find(host, libc::IFLA_ADDRESS).mac(), Some(host_mac));
    assert_eq!(find(host, libc::IFLA_MASTER).u32(), Some(7));
    assert_eq!(find(host, libc::IFLA_GROUP).u32(), Some(0x6265_7200));
    let info = find(host, libc::IFLA_LINKINFO).nested();
    assert_eq!(find(info, libc::IFLA_INFO_KIND).text(), "veth");
    let data = find(info, libc::IFLA_INFO_DATA).nested();
    let peer_body = find(data, VETH_INFO_PEER).value;
    assert_eq!(
        u32_at(peer_body, 8),
        Some(0),
        "the kernel refuses IFF_UP here"
    );
    let peer = Attrs::after(peer_body, IFINFO);
    assert_eq!(find(peer, libc::IFLA_IFNAME).text(), "eth0");
    assert_eq!(find(peer, libc::IFLA_ADDRESS).mac(), Some(peer_mac));
    let fd = here.as_fd().as_raw_fd().cast_unsigned();
    assert_eq!(find(peer, libc::IFLA_NET_NS_FD).u32(), Some(fd));
    for end in [host, peer] {
        assert_eq!(find(end, libc::IFLA_MTU).u32(), Some(9000));
        assert_eq!(find(end, libc::IFLA_NUM_TX_QUEUES).u32(), Some(1));
        assert_eq!(find(end, libc::IFLA_NUM_RX_QUEUES).u32(), Some(1));
    }
}

#[test]
fn what_is_not_wished_is_not_sent() {
    let here = NetNs::current().unwrap();
    let message = new_veth(&Veth {
        host: &"bv0".parse().unwrap(),
        host_mac: None,
        master: None,
        group: None,
        mtu: None,
        up: false,
        peer: &"eth0".parse().unwrap(),
        peer_mac: None,
        peer_ns: &here,
    });
    let request = Request::from(RouteNetlinkMessage::NewLink(message));
    let kinds: Vec<_> = Attrs::after(&request.body, IFINFO)
        .map(|a| a.kind)
        .collect();
    let expected = [
        libc::IFLA_IFNAME,
        libc::IFLA_NUM_TX_QUEUES,
        libc::IFLA_NUM_RX_QUEUES,
        libc::IFLA_LINKINFO,
    ];
    assert_eq!(kinds, expected);
    assert_eq!(u32_at(&request.body, 8), Some(0));
}
