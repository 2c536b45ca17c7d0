use super::*;
use crate::version::SUPPORTED;
use proptest::prelude::*;
use serde_json::json;

fn full() -> AddResult {
    AddResult {
        interfaces: vec![
            Interface {
                name: "br0".into(),
                mac: Some("02:00:00:00:00:01".into()),
                mtu: Some(1500),
                ..Interface::default()
            },
            Interface {
                name: "eth0".into(),
                mac: Some("02:00:00:00:00:02".into()),
                mtu: Some(9000),
                sandbox: Some("/run/netns/a".into()),
                socket_path: Some("/run/x.sock".into()),
                pci_id: Some("0000:01:10.2".into()),
            },
        ],
        ips: vec![
            IpConfig {
                interface: Some(1),
                address: "10.1.0.5/24".parse().unwrap(),
                gateway: Some("10.1.0.1".parse().unwrap()),
            },
            IpConfig {
                interface: Some(1),
                address: "10.2.0.5/24".parse().unwrap(),
                gateway: None,
            },
            IpConfig {
                interface: None,
                address: "2001:db8::5/64".parse().unwrap(),
                gateway: Some("2001:db8::1".parse().unwrap()),
            },
        ],
        routes: vec![
            Route {
                mtu: Some(1400),
                advmss: Some(1360),
                priority: Some(10),
                table: Some(100),
                scope: Some(0),
                ..Route::new(
                    "0.0.0.0/0".parse().unwrap(),
                    Some("10.1.0.1".parse().unwrap()),
                )
            },
            Route::new("2001:db8:1::/48".parse().unwrap(), None),
        ],
        dns: Dns {
            nameservers: vec!["10.1.0.1".into()],
            domain: Some("example.test".into()),
            search: vec!["example.test".into()],
            options: vec!["ndots:2".into()],
        },
    }
}

#[test]
fn version_0_1_and_0_2_have_one_address_per_family() {
    for version in [SpecVersion::V010, SpecVersion::V020] {
        assert_eq!(
            full().to_json(version).unwrap(),
            json!({
                "cniVersion": version.as_str(),
                "ip4": {"ip": "10.1.0.5/24", "gateway": "10.1.0.1",
                    "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}]},
                "ip6": {"ip": "2001:db8::5/64", "gateway": "2001:db8::1",
                    "routes": [{"dst": "2001:db8:1::/48"}]},
                "dns": {"nameservers": ["10.1.0.1"], "domain": "example.test",
                    "search": ["example.test"], "options": ["ndots:2"]},
            })
        );
    }
}

#[test]
fn version_0_1_and_0_2_refuse_a_result_without_an_address() {
    let l2 = AddResult {
        ips: vec![],
        ..full()
    };
    for version in [SpecVersion::V010, SpecVersion::V020] {
        let error = l2.to_json(version).unwrap_err();
        assert_eq!(error.msg, "cannot convert: no valid IP addresses");
        assert_eq!(error.code, code::VERSION);
        assert!(error.details.contains("0.3.1"));
    }
    for version in &SUPPORTED[2..] {
        assert!(l2.to_json(*version).is_ok(), "{version}");
    }
}

#[test]
fn dns_is_always_there_before_1_0_0_and_omitted_when_empty_after() {
    let result = AddResult {
        dns: Dns::default(),
        ..full()
    };
    for version in SUPPORTED {
        let document = result.to_json(version).unwrap();
        let expected = (version < SpecVersion::V100).then(|| json!({}));
        assert_eq!(document.get("dns"), expected.as_ref(), "{version}");
    }
}

#[test]
fn versions_0_3_to_0_4_say_the_family_and_lack_the_fields_of_1_1_0() {
    for version in [SpecVersion::V030, SpecVersion::V031, SpecVersion::V040] {
        let document = full().to_json(version).unwrap();
        assert_eq!(document["cniVersion"], version.as_str());
        assert_eq!(
            document["interfaces"],
            json!([
                {"name": "br0", "mac": "02:00:00:00:00:01"},
                {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/a"},
            ])
        );
        assert_eq!(
            document["ips"],
            json!([
                {"version": "4", "interface": 1, "address": "10.1.0.5/24", "gateway": "10.1.0.1"},
                {"version": "4", "interface": 1, "address": "10.2.0.5/24"},
                {"version": "6", "address": "2001:db8::5/64", "gateway": "2001:db8::1"},
            ])
        );
        assert_eq!(document["routes"][0]["mtu"], 1400, "route fields are kept");
    }
}

#[test]
fn versions_1_0_and_1_1_have_no_family_and_keep_every_field() {
    for version in [SpecVersion::V100, SpecVersion::V110] {
        let document = full().to_json(version).unwrap();
        assert_eq!(document["cniVersion"], version.as_str());
        assert_eq!(
            document["interfaces"][1],
            json!({"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/a",
                "mtu": 9000, "socketPath": "/run/x.sock", "pciID": "0000:01:10.2"})
        );
        assert_eq!(
            document["ips"][1],
            json!({"interface": 1, "address": "10.2.0.5/24"})
        );
        assert_eq!(
            document["routes"],
            json!([
                {"dst": "0.0.0.0/0", "gw": "10.1.0.1", "mtu": 1400, "advmss": 1360,
                    "priority": 10, "table": 100, "scope": 0},
                {"dst": "2001:db8:1::/48"},
            ])
        );
    }
}

#[test]
fn an_empty_result_is_as_short_as_the_version_allows() {
    let empty = AddResult::default();
    assert_eq!(
        empty.to_json(SpecVersion::V110).unwrap(),
        json!({"cniVersion": "1.1.0"})
    );
    assert_eq!(
        empty.to_json(SpecVersion::V031).unwrap(),
        json!({"cniVersion": "0.3.1", "dns": {}})
    );
}

#[test]
fn what_was_written_reads_back_in_every_version() {
    for version in SUPPORTED {
        let document = full().to_json(version).unwrap();
        let back = AddResult::from_json(&document, SpecVersion::NEWEST).unwrap();
        assert_eq!(back.to_json(version).unwrap(), document, "{version}");
        assert_eq!(back.dns, full().dns);
    }
    let document = full().to_json(SpecVersion::V110).unwrap();
    let back = AddResult::from_json(&document, SpecVersion::V010).unwrap();
    assert_eq!(back, full());
}

#[test]
fn a_chained_result_begins_with_the_previous_and_its_indexes_are_moved() {
    let both = full().after(&full());
    assert_eq!(both.interfaces.len(), 4);
    let indexes: Vec<_> = both.ips.iter().map(|ip| ip.interface).collect();
    assert_eq!(
        indexes,
        [Some(1), Some(1), None, Some(3), Some(3), None],
        "none stays none"
    );
    assert_eq!(both.routes.len(), 2 * full().routes.len());
    assert_eq!(both.dns, full().dns);
    assert_eq!(full().after(&AddResult::default()), full());
    let silent = AddResult::default().after(&full());
    assert_eq!(silent, full(), "who says nothing changes nothing");
}

#[test]
fn a_result_without_version_is_of_the_configurations() {
    let legacy = json!({"ip4": {"ip": "10.0.0.2/8"}});
    for document in [
        legacy.clone(),
        json!({"cniVersion": "", "ip4": {"ip": "10.0.0.2/8"}}),
    ] {
        let result = AddResult::from_json(&document, SpecVersion::V020).unwrap();
        assert_eq!(result.ips[0].address, "10.0.0.2/8".parse().unwrap());
    }
    let result = AddResult::from_json(&legacy, SpecVersion::V100).unwrap();
    assert_eq!(result, AddResult::default(), "1.0.0 knows no ip4");
}

#[test]
fn null_is_tolerated_as_body_and_as_list() {
    let assumed = SpecVersion::V100;
    let empty = AddResult::default();
    for document in [
        json!(null),
        json!({"interfaces": null, "ips": null, "routes": null, "dns": null}),
        json!({"cniVersion": "0.2.0", "ip4": null, "dns": {"nameservers": null}}),
    ] {
        assert_eq!(
            AddResult::from_json(&document, assumed),
            Ok(empty.clone()),
            "{document}"
        );
    }
    let documents = json!({"interfaces": [{"name": "a", "mac": "", "sandbox": ""}],
        "ips": [{"address": "10.0.0.1/8", "gateway": ""}]});
    let result = AddResult::from_json(&documents, assumed).unwrap();
    assert_eq!(result.interfaces[0].mac, None);
    assert_eq!(result.interfaces[0].sandbox, None);
    assert_eq!(result.ips[0].gateway, None);
}

#[test]
fn documents_that_are_no_result_are_refused() {
    for (document, says) in [
        (json!([]), "cannot read result"),
        (json!({"ips": [{"address": "10.0.0.1"}]}), "CIDR notation"),
        (
            json!({"ips": [{"address": "10.0.0.1/255.0.0.0"}]}),
            "CIDR notation",
        ),
        (
            json!({"ips": [{"address": "10.0.0.1/33"}]}),
            "CIDR notation",
        ),
        (json!({"ips": [{"gateway": "10.0.0.1"}]}), "address"),
        (
            json!({"ips": [{"address": "10.0.0.1/8", "gateway": "x"}]}),
            "not an IP address",
        ),
        (
            json!({"ips": [{"address": "10.0.0.1/8", "interface": -1}]}),
            "cannot read result",
        ),
        (
            json!({"ips": [{"address": "10.0.0.1/8", "interface": 0}]}),
            "has 0 interfaces",
        ),
        (json!({"routes": [{"gw": "10.0.0.1"}]}), "dst"),
    ] {
        let error = AddResult::from_json(&document, SpecVersion::V100).unwrap_err();
        assert_eq!(error.code, code::DECODE, "{document}");
        assert!(error.msg.contains(says), "{document}: {error}");
    }
    let newer = json!({"cniVersion": "9.0.0"});
    let error = AddResult::from_json(&newer, SpecVersion::V100).unwrap_err();
    assert_eq!(error.code, code::VERSION);
    assert!(error.msg.contains("9.0.0"));
}

fn any_address() -> impl Strategy<Value = IpNetwork> {
    let v4 = (any::<u32>(), 0u8..=32).prop_map(|(a, l)| (IpAddr::V4(a.into()), l));
    let v6 = (any::<u128>(), 0u8..=128).prop_map(|(a, l)| (IpAddr::V6(a.into()), l));
    prop_oneof![v4, v6].prop_map(|(address, length)| IpNetwork::new(address, length).unwrap())
}

proptest! {
    #[test]
    fn any_address_survives_every_version_that_can_hold_it(address in any_address()) {
        let result = AddResult {
            ips: vec![IpConfig { interface: None, address, gateway: Some(address.ip()) }],
            routes: vec![Route::new(address, None)],
            ..AddResult::default()
        };
        for version in SUPPORTED {
            let document = result.to_json(version).unwrap();
            prop_assert_eq!(AddResult::from_json(&document, SpecVersion::NEWEST).unwrap(), result.clone());
        }
    }
}
