use super::super::wire::Request;
use super::*;

fn request(message: LinkMessage) -> Vec<u8> {
    Request::from(RouteNetlinkMessage::NewLink(message)).body
}

/// Types and values nested in `data` of IFLA_LINKINFO.
fn info(body: &[u8], data: u16) -> Vec<(u16, Vec<u8>)> {
    fn find(mut attrs: Attrs<'_>, kind: u16) -> &[u8] {
        attrs.find(|a| a.kind == kind).unwrap().value
    }
    let linkinfo = find(Attrs::after(body, 16), libc::IFLA_LINKINFO);
    let data = find(Attrs::after(linkinfo, 0), data);
    let settings = Attrs::after(data, 0);
    settings.map(|a| (a.kind, a.value.to_vec())).collect()
}

fn wish(vlan_filtering: bool) -> Vec<u8> {
    request(new_bridge(&NewBridge {
        name: &"br0".parse().unwrap(),
        mac: MacAddr([2, 0, 0, 0, 0, 9]),
        mtu: None,
        vlan_filtering,
    }))
}

#[test]
fn a_plain_bridge_does_not_mention_vlan_filtering() {
    let stp_off = (IFLA_BR_STP_STATE, vec![0; 4]);
    assert_eq!(info(&wish(false), libc::IFLA_INFO_DATA), [stp_off]);
}

#[test]
fn a_filtering_bridge_puts_new_ports_into_no_vlan() {
    let expected = [
        (IFLA_BR_STP_STATE, vec![0; 4]),
        (IFLA_BR_VLAN_FILTERING, vec![1]),
        (IFLA_BR_VLAN_DEFAULT_PVID, vec![0, 0]),
    ];
    assert_eq!(info(&wish(true), libc::IFLA_INFO_DATA), expected);
}

#[test]
fn port_options_send_what_is_wished_and_nothing_else() {
    let options = PortOptions {
        isolated: Some(true),
        learning: Some(false),
        locked: Some(true),
        ..PortOptions::default()
    };
    let body = request(port_options(5, &options));
    let expected = [
        (IFLA_BRPORT_LEARNING, vec![0]),
        (IFLA_BRPORT_ISOLATED, vec![1]),
        (IFLA_BRPORT_LOCKED, vec![1]),
    ];
    assert_eq!(info(&body, libc::IFLA_INFO_SLAVE_DATA), expected);
    assert_eq!(options.to_string(), "learning off, isolated on, locked on");
}

#[test]
fn a_mark_goes_along_with_the_options_and_alone_without_any() {
    let alias = |body: &[u8]| {
        let alias = Attrs::after(body, 16).find(|a| a.kind == libc::IFLA_IFALIAS);
        alias.map(|a| a.text())
    };
    let options = PortOptions {
        hairpin: Some(true),
        ..PortOptions::default()
    };
    let mark = Mark {
        alias: "berth1 n c eth0",
        options,
    };
    let body = request(mark.message(5));
    assert_eq!(alias(&body).as_deref(), Some("berth1 n c eth0"));
    let hairpin = (IFLA_BRPORT_MODE, vec![1]);
    assert_eq!(info(&body, libc::IFLA_INFO_SLAVE_DATA), [hairpin]);
    let plain = Mark {
        alias: "x",
        options: PortOptions::default(),
    };
    let body = request(plain.message(5));
    assert_eq!(alias(&body).as_deref(), Some("x"));
    assert!(Attrs::after(&body, 16).all(|a| a.kind != libc::IFLA_LINKINFO));
}

#[test]
fn a_bridge_is_read_and_says_whether_it_could_filter() {
    let data = [
        5, 0, 7, 0, 1, 0, 0, 0, // vlan_filtering 1
        6, 0, 8, 0, 0x88, 0xa8, 0, 0, // vlan_protocol 802.1ad
        8, 0, 5, 0, 2, 0, 0, 0, // stp_state 2, user space
        5, 0, 36, 0, 1, 0, 0, 0, // nf_call_iptables
        6, 0, 39, 0, 7, 0, 0, 0, // vlan_default_pvid 7
    ];
    let bridge = Bridge::decode(Attrs::after(&data, 0));
    let expected = Bridge {
        vlan_filtering: true,
        vlan_capable: true,
        vlan_protocol: Some(0x88a8),
        default_pvid: 7,
        stp: true,
        nf_call_iptables: true,
        ..Bridge::default()
    };
    assert_eq!(bridge, expected);
    let incapable = Bridge::decode(Attrs::after(&data[..8], 0));
    assert!(!incapable.vlan_capable);
}

#[test]
fn a_kernel_without_locked_ports_is_told_apart_from_an_unlocked_one() {
    let old = [5, 0, 4, 0, 1, 0, 0, 0];
    let new = [5, 0, 4, 0, 1, 0, 0, 0, 5, 0, 39, 0, 0, 0, 0, 0];
    let port = |data| Port::decode(Attrs::after(data, 0));
    assert_eq!((port(&old).hairpin, port(&old).locked), (true, None));
    assert_eq!(port(&new).locked, Some(false));
}
