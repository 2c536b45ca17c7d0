use super::*;

fn range(first: u16, last: u16) -> VlanRange {
    VlanRange {
        first: first.try_into().unwrap(),
        last: last.try_into().unwrap(),
    }
}

/// The attributes of a request, after `struct ifinfomsg`.
fn attributes(vids: VlanRange, flags: VlanFlags, on: On) -> Vec<u8> {
    let message = RouteNetlinkMessage::SetLink(vlan_message(5, &[(vids, flags)], on));
    let request = Request::from(message);
    assert_eq!(request.kind, libc::RTM_SETLINK);
    assert_eq!(request.body[..8], [AF_BRIDGE, 0, 0, 0, 5, 0, 0, 0]);
    request.body[16..].to_vec()
}

#[test]
fn an_access_port_is_one_entry_pvid_and_untagged() {
    let flags = VlanFlags {
        pvid: true,
        untagged: true,
    };
    let vid = VlanId::try_from(100).unwrap();
    // IFLA_AF_SPEC { IFLA_BRIDGE_VLAN_INFO { flags 2|4, vid 100 } }
    let expected = [12, 0, 26, 0, 8, 0, 2, 0, 6, 0, 100, 0];
    assert_eq!(attributes(vid.into(), flags, On::Port), expected);
}

#[test]
fn a_range_is_two_entries_in_one_message() {
    let trunk = attributes(range(2, 4094), VlanFlags::default(), On::Port);
    // begin 8, vid 2; end 16, vid 0xffe
    let expected = [
        20, 0, 26, 0, 8, 0, 2, 0, 8, 0, 2, 0, 8, 0, 2, 0, 16, 0, 0xfe, 0xf,
    ];
    assert_eq!(trunk, expected);
}

#[test]
fn a_native_vlan_and_ranges_go_in_one_message() {
    let native = VlanFlags {
        pvid: true,
        untagged: true,
    };
    let tagged = VlanFlags::default();
    let all = [(range(100, 100), native), (range(200, 202), tagged)];
    let message = RouteNetlinkMessage::SetLink(vlan_message(5, &all, On::Port));
    let expected = [
        28, 0, 26, 0, 8, 0, 2, 0, 6, 0, 100, 0, // 100 pvid untagged
        8, 0, 2, 0, 8, 0, 200, 0, 8, 0, 2, 0, 16, 0, 202, 0, // 200 to 202
    ];
    assert_eq!(Request::from(message).body[16..], expected);
}

#[test]
fn ids_become_the_fewest_ranges() {
    let ids = [5, 3, 4, 9, 4, 4094, 11, 10].map(|id| VlanId::try_from(id).unwrap());
    let ranges = VlanRange::of(ids);
    assert_eq!(ranges, [range(3, 5), range(9, 11), range(4094, 4094)]);
    assert_eq!(VlanRange::list(&ranges), "3-5, 9-11, 4094");
    assert_eq!(ranges.iter().flat_map(|r| r.ids()).count(), 7);
    assert_eq!(VlanRange::of([]), []);
}

#[test]
fn the_bridge_itself_is_meant_by_self() {
    let own = attributes(range(9, 9), VlanFlags::default(), On::Bridge);
    // IFLA_BRIDGE_FLAGS { BRIDGE_FLAGS_SELF }, padded, then the entry
    let expected = [20, 0, 26, 0, 6, 0, 0, 0, 2, 0, 0, 0, 8, 0, 2, 0, 0, 0, 9, 0];
    assert_eq!(own, expected);
}

#[test]
fn one_device_is_asked_about() {
    assert_eq!(get_vlans(0x0102), [7, 0, 0, 0, 2, 1, 0, 0]);
}

#[test]
fn an_answer_lists_ranges_expanded() {
    let body = [
        7, 0, 0, 0, 5, 0, 0, 0, // struct br_vlan_msg
        12, 0, 1, 0x80, 8, 0, 1, 0, 6, 0, 100, 0, // 100 pvid untagged
        20, 0, 1, 0x80, 8, 0, 1, 0, 0, 0, 200, 0, 6, 0, 2, 0, 202, 0, 0, 0, // 200-202
        8, 0, 9, 0, 0, 0, 0, 0, // an attribute of the future
    ];
    let entry = |vid: u16, set| VlanEntry {
        vid: vid.try_into().unwrap(),
        pvid: set,
        untagged: set,
    };
    let expected = [
        entry(100, true),
        entry(200, false),
        entry(201, false),
        entry(202, false),
    ];
    assert_eq!(decode(&body), expected);
}

#[test]
fn odd_answers_are_no_vlans() {
    for body in [
        &[][..],
        &[7, 0, 0, 0, 5, 0, 0, 0],
        &[7, 0, 0, 0, 5, 0, 0, 0, 4, 0, 1, 0x80],
        &[
            7, 0, 0, 0, 5, 0, 0, 0, 12, 0, 1, 0x80, 8, 0, 1, 0, 6, 0, 0, 0,
        ],
    ] {
        assert_eq!(decode(body), [], "{body:?}");
    }
}

#[test]
fn ranges_read_as_operators_write_them() {
    assert_eq!(range(7, 7).to_string(), "7");
    assert_eq!(range(7, 9).to_string(), "7-9");
}
