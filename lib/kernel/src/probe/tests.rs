use super::*;

const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const THEIRS: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn an_arp_probe_names_no_sender_address() {
    let expected = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6, // broadcast, ARP
        0, 1, 8, 0, 6, 4, 0, 1, // Ethernet, IPv4, request
        2, 0, 0, 0, 0, 1, 0, 0, 0, 0, // sender
        0, 0, 0, 0, 0, 0, 10, 1, 0, 9, // target
    ];
    assert_eq!(probe(OURS, ip("10.1.0.9")), expected);
}

#[test]
fn a_solicitation_goes_to_the_targets_group_with_a_valid_checksum() {
    let frame = probe(OURS, ip("fd00::12:3456"));
    assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
    assert_eq!(frame[12..14], ETHERTYPE_IPV6);
    let group: Ipv6Addr = "ff02::1:ff12:3456".parse().unwrap();
    assert_eq!(frame[38..54], group.octets());
    let icmp = &frame[54..];
    assert_eq!((icmp.len(), icmp[0]), (24, NEIGHBOUR_SOLICITATION));
    // With its checksum in place the sum is all ones, and its complement zero.
    assert_eq!(icmpv6_checksum(Ipv6Addr::UNSPECIFIED, group, icmp), 0);
}

#[test]
fn answers_and_the_probes_of_others_are_claims() {
    let nine = Holder {
        ip: ip("10.1.0.9"),
        mac: THEIRS,
    };
    assert_eq!(claim(&probe(THEIRS, nine.ip)), Some(nine), "its probe");
    let announced = crate::announce::frame(THEIRS, nine.ip).unwrap();
    assert_eq!(claim(&announced), Some(nine), "its announcement");
    let six = Holder {
        ip: ip("fd00::9"),
        mac: THEIRS,
    };
    assert_eq!(claim(&probe(THEIRS, six.ip)), Some(six), "its solicitation");
    let advertised = crate::announce::frame(THEIRS, six.ip).unwrap();
    assert_eq!(claim(&advertised), Some(six), "its advertisement");
}

#[test]
fn who_only_asks_for_an_address_does_not_claim_it() {
    // 10.1.0.2 asks who has 10.1.0.9.
    let mut frame = probe(THEIRS, ip("10.1.0.9"));
    frame[28..32].copy_from_slice(&[10, 1, 0, 2]);
    assert_eq!(claim(&frame).map(|c| c.ip), Some(ip("10.1.0.2")));
    let mut frame = probe(THEIRS, ip("fd00::9"));
    frame[22] = 0xfd; // an ordinary solicitation has a source
    assert_eq!(claim(&frame), None);
    let mut echo = probe(THEIRS, ip("fd00::9"));
    echo[54] = 128;
    assert_eq!(claim(&echo), None);
}

#[test]
fn what_is_cut_short_or_foreign_is_no_claim() {
    for frame in [probe(THEIRS, ip("10.1.0.9")), probe(THEIRS, ip("fd00::9"))] {
        for len in 0..frame.len() - 8 {
            assert_eq!(claim(&frame[..len]), None, "{len} bytes");
        }
    }
    let mut infiniband = probe(THEIRS, ip("10.1.0.9"));
    infiniband[15] = 32;
    assert_eq!(claim(&infiniband), None);
}
