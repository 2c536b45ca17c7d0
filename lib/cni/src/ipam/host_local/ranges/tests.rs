use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn range(value: &Value) -> Result<Range, CniError> {
    Range::of(&Fields::item("ipam.ranges[0][0]", value).unwrap())
}

fn set(values: &[Value]) -> RangeSet {
    let ranges = values.iter().map(|value| range(value).unwrap());
    RangeSet::new("ipam.ranges[0]".into(), ranges.collect()).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn texts(addresses: impl Iterator<Item = IpAddr>) -> Vec<String> {
    addresses.map(|address| address.to_string()).collect()
}

#[test]
fn a_subnet_is_completed_as_the_reference_does() {
    for (value, shown, gateway) in [
        (
            json!({"subnet": "10.1.0.0/24"}),
            "10.1.0.1-10.1.0.254",
            "10.1.0.1",
        ),
        (
            json!({"subnet": "10.1.0.0/30"}),
            "10.1.0.1-10.1.0.2",
            "10.1.0.1",
        ),
        (
            json!({"subnet": "0.0.0.0/0"}),
            "0.0.0.1-255.255.255.254",
            "0.0.0.1",
        ),
        (
            json!({"subnet": "fd00::/120"}),
            "fd00::1-fd00::ff",
            "fd00::1",
        ),
        (
            json!({"subnet": "fd00::/126"}),
            "fd00::1-fd00::3",
            "fd00::1",
        ),
        (
            json!({"subnet": "::/0"}),
            "::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "::1",
        ),
        (
            json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10",
                "rangeEnd": "10.1.0.19", "gateway": "10.1.0.254"}),
            "10.1.0.10-10.1.0.19",
            "10.1.0.254",
        ),
        (
            json!({"subnet": "10.1.0.0/24", "rangeStart": "::ffff:10.1.0.10",
                "rangeEnd": "", "gateway": null}),
            "10.1.0.10-10.1.0.254",
            "10.1.0.1",
        ),
        (
            json!({"subnet": "10.1.0.0/24", "gateway": "192.0.2.1"}),
            "10.1.0.1-10.1.0.254",
            "192.0.2.1",
        ),
    ] {
        let range = range(&value).unwrap();
        assert_eq!(range.to_string(), shown, "{value}");
        assert_eq!(range.gateway, ip(gateway), "{value}");
    }
}

/// Subnets, and what is said of them.
const WRONG_SUBNETS: [(&str, &str); 8] = [
    ("10.1.0.0", "CIDR notation"),
    ("10.1.0.5/24", "network address is 10.1.0.0/24"),
    ("fd00::1/64", "network address is fd00::/64"),
    (
        "10.1.0.0/31",
        "too small to allocate from: the longest prefix is /30",
    ),
    ("10.1.0.0/32", "too small"),
    ("fd00::/127", "the longest prefix is /126"),
    ("::ffff:10.1.0.0/120", "write an IPv4 subnet as such"),
    ("", "CIDR notation"),
];

/// Keys beside the subnet 10.1.0.0/24, their values, and what is said of the first.
const WRONG_ADDRESSES: [(&[(&str, &str)], &str); 8] = [
    (&[("rangeStart", "10.2.0.5")], "not in subnet 10.1.0.0/24"),
    (&[("rangeEnd", "10.2.0.5")], "not in subnet 10.1.0.0/24"),
    (
        &[("rangeEnd", "10.1.0.5"), ("rangeStart", "10.1.0.9")],
        "10.1.0.9-10.1.0.5 ends before it starts",
    ),
    (&[("rangeStart", "10.1.0.255")], "ends before it starts"),
    (&[("rangeStart", "fd00::5")], "of the other family"),
    (&[("gateway", "fd00::1")], "of the other family"),
    (&[("gateway", "x")], "want an address"),
    (&[("gateway", "10.1.0.1/24")], "without prefix"),
];

#[test]
fn what_cannot_be_given_out_is_refused_with_key_value_and_way_out() {
    let refused = |value: &Value, key: &str, says: &str| {
        let error = range(value).unwrap_err();
        assert_eq!(error.code, crate::error::code::CONFIG);
        let shown = value.get(key).unwrap_or(&Value::Null);
        let start = format!("invalid configuration: ipam.ranges[0][0].{key} = {shown}: ");
        assert!(error.msg.starts_with(&start), "{value}: {error}");
        assert!(error.msg.contains(says), "{value}: {error}");
        assert!(!error.details.is_empty(), "{value}: {error}");
    };
    refused(&json!({}), "subnet", "a range needs a subnet");
    refused(&json!({"subnet": 7}), "subnet", "want a text");
    for (subnet, says) in WRONG_SUBNETS {
        refused(&json!({"subnet": subnet}), "subnet", says);
    }
    for (pairs, says) in WRONG_ADDRESSES {
        let mut value = json!({"subnet": "10.1.0.0/24"});
        for (key, address) in pairs {
            value[key] = (*address).into();
        }
        refused(&value, pairs[0].0, says);
    }
}

#[test]
fn a_set_is_of_one_family_and_of_distinct_ranges() {
    let new = |values: &[Value]| {
        let ranges = values.iter().map(|value| range(value).unwrap());
        RangeSet::new("ipam.ranges[3]".into(), ranges.collect())
    };
    let v4 = json!({"subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.9"});
    for (values, says) in [
        (vec![], "empty range set"),
        (
            vec![v4.clone(), json!({"subnet": "fd00::/64"})],
            "mixed address families",
        ),
        (
            vec![
                v4.clone(),
                json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9"}),
            ],
            "ranges 10.1.0.1-10.1.0.9 and 10.1.0.9-10.1.0.254 overlap",
        ),
    ] {
        let error = new(&values).unwrap_err();
        assert!(
            error.msg.contains(says) && error.msg.contains("ipam.ranges[3]"),
            "{error}"
        );
    }
    let behind = json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10"});
    assert!(new(&[v4, behind]).is_ok());
}

#[test]
fn candidates_go_round_after_the_last_and_skip_gateways() {
    let set = set(&[
        json!({"subnet": "10.1.0.0/29"}),
        json!({"subnet": "10.2.0.0/24", "rangeStart": "10.2.0.10", "rangeEnd": "10.2.0.12",
            "gateway": "10.2.0.11"}),
    ]);
    let all = [
        "10.1.0.2",
        "10.1.0.3",
        "10.1.0.4",
        "10.1.0.5",
        "10.1.0.6",
        "10.2.0.10",
        "10.2.0.12",
    ];
    assert_eq!(texts(set.candidates(None)), all);
    for (last, rotated) in [
        ("10.1.0.2", 1),
        ("10.1.0.6", 5),
        ("10.2.0.10", 6),
        ("10.2.0.12", 0),
    ] {
        let mut expected = all;
        expected.rotate_left(rotated);
        assert_eq!(texts(set.candidates(Some(ip(last)))), expected, "{last}");
    }
    for elsewhere in ["10.9.0.1", "fd00::1", "10.1.0.7"] {
        assert_eq!(
            texts(set.candidates(Some(ip(elsewhere)))),
            all,
            "{elsewhere}"
        );
    }
}

#[test]
fn ends_of_an_ipv4_subnet_are_never_given_out_even_if_configured() {
    let v4 = set(&[json!({"subnet": "10.1.0.0/30", "rangeStart": "10.1.0.0",
        "rangeEnd": "10.1.0.3"})]);
    assert_eq!(texts(v4.candidates(None)), ["10.1.0.2"]);
    assert_eq!(v4.size(), 1);
    assert_eq!(v4.reserved(ip("10.1.0.0")), Some("network address"));
    assert_eq!(v4.reserved(ip("10.1.0.3")), Some("broadcast address"));
    assert_eq!(v4.reserved(ip("10.1.0.1")), Some("gateway"));
    assert_eq!(v4.reserved(ip("10.1.0.2")), None);
    let v6 = set(&[json!({"subnet": "fd00::/126"})]);
    assert_eq!(texts(v6.candidates(None)), ["fd00::2", "fd00::3"]);
}

#[test]
fn the_ends_of_all_addresses_do_not_overflow() {
    let v6 = set(&[json!({"subnet": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0/124"})]);
    let last = ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    assert_eq!(v6.candidates(Some(last)).count(), 14);
    assert_eq!(v6.candidates(Some(last)).last(), Some(last));
    let huge = set(&[json!({"subnet": "fd00::/8"})]);
    let first: Vec<_> = huge.candidates(None).take(2).collect();
    assert_eq!(first, ["fd00::2", "fd00::3"].map(ip));
}

prop_compose! {
    fn any_set()(
        base in 0u32..0x00ff_0000,
        lengths in prop::collection::vec((1u32..9, 0u32..9, 0u32..12), 1..4),
    ) -> RangeSet {
        let subnet = Ipv4Addr::from(0x0a00_0000 | (base & 0xff_ff00));
        let mut from = u32::from(subnet) + 1;
        let mut ranges = Vec::new();
        for (length, gap, gateway) in lengths {
            let [start, end] = [from, from + length - 1].map(Ipv4Addr::from);
            let value = json!({"subnet": format!("{subnet}/24"), "rangeStart": start.to_string(),
                "rangeEnd": end.to_string(),
                "gateway": Ipv4Addr::from(from + gateway).to_string()});
            ranges.push(range(&value).unwrap());
            from += length + gap;
        }
        RangeSet::new("set".into(), ranges).unwrap()
    }
}

proptest! {
    /// Whatever was given last: every address once, none reserved, the last one at the end.
    #[test]
    fn every_round_has_every_address_once(set in any_set(), last in 0usize..40) {
        let all: Vec<IpAddr> = set.candidates(None).collect();
        assert_eq!(set.size(), all.len() as u128);
        let last = all.get(last % all.len().max(1)).copied();
        let round: Vec<IpAddr> = set.candidates(last).collect();
        prop_assert_eq!(round.last().copied(), last.or(all.last().copied()));
        let mut sorted = round.clone();
        sorted.sort_unstable();
        let mut expected = all;
        expected.sort_unstable();
        prop_assert_eq!(sorted, expected);
        for address in round {
            prop_assert!(set.contains(address) && set.reserved(address).is_none());
            let config = set.config(address).unwrap();
            prop_assert_eq!((config.address.ip(), config.address.prefix()), (address, 24));
        }
    }
}
