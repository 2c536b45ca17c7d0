use super::*;

const MAC: MacAddr = MacAddr([0x02, 0x00, 0x5e, 0x10, 0x00, 0x01]);

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |p: &[u8]| u8::from_str_radix(str::from_utf8(p).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

#[test]
fn gratuitous_arp_byte_for_byte() {
    let expected = hex("ffffffffffff 02005e100001 0806
         0001 0800 06 04 0001
         02005e100001 0a010203
         000000000000 0a010203");
    assert_eq!(frame(MAC, "10.1.2.3".parse().unwrap()), Some(expected));
}

/// The 16-bit words of the pseudo header and the message add up to 0x264eb, folded
/// 0x64ed, so the checksum is its complement.
#[test]
fn neighbour_advertisement_byte_for_byte() {
    let expected = hex("333300000001 02005e100001 86dd
         60000000 0020 3a ff
         20010db8000000000000000000000005
         ff020000000000000000000000000001
         88 00 9b12 20000000
         20010db8000000000000000000000005
         02 01 02005e100001");
    assert_eq!(frame(MAC, "2001:db8::5".parse().unwrap()), Some(expected));
}

/// A receiver adds everything up, checksum included, and must get all ones.
#[test]
fn the_checksum_verifies_as_a_receiver_does_it() {
    for ip in [
        "2001:db8::5",
        "fe80::ff:fe00:1",
        "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ] {
        let frame = neighbour_advertisement(MAC, ip.parse().unwrap());
        let words = frame[22..]
            .chunks(2)
            .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
        let mut sum: u32 = words.sum::<u32>() + u32::from(ADVERTISEMENT_LEN) + u32::from(ICMPV6);
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        assert_eq!(sum, 0xffff, "{ip}");
    }
}

#[test]
fn addresses_no_interface_holds_alone_are_not_announced() {
    for ip in [
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "ff02::1",
    ] {
        assert_eq!(frame(MAC, ip.parse().unwrap()), None, "{ip}");
    }
    assert!(frame(MAC, "fe80::1".parse().unwrap()).is_some());
}
