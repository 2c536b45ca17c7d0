use super::*;
use berth_kernel::netlink::{VfLinkState, VfVlan, VlanProto};
use berth_kernel::placement::vf::{IrqPlacement, IrqPolicy};
use berth_state::vf::{PfSide, TxRate};
use serde_json::{Map, Value, json};

/// Runs one of the readers on a configuration.
fn read<T>(
    config: Value,
    reader: impl Fn(&Fields<'_>) -> Result<T, CniError>,
) -> Result<T, CniError> {
    let map: Map<String, Value> = serde_json::from_value(config).unwrap();
    reader(&Fields::of(&map))
}

/// The refusal names the key, says what is wanted, and is an error of configuration.
fn refused<T: std::fmt::Debug>(
    config: Value,
    reader: impl Fn(&Fields<'_>) -> Result<T, CniError>,
    says: &str,
) {
    let error = read(config.clone(), reader).expect_err(&config.to_string());
    assert_eq!(error.code, 7, "{config}: {error}");
    for part in says.split('|') {
        let text = error.to_string();
        assert!(text.contains(part), "{config}: {text:?} lacks {part:?}");
    }
}

fn vlan_of(config: Value) -> Option<VfVlan> {
    read(config.clone(), side::side)
        .unwrap_or_else(|error| panic!("{config}: {error}"))
        .vlan
}

#[test]
fn a_vlan_is_set_cleared_or_left_alone() {
    let tag = |id, qos, proto| Some(VfVlan { id, qos, proto });
    assert_eq!(vlan_of(json!({})), None);
    assert_eq!(vlan_of(json!({"vlan": null})), None);
    assert_eq!(vlan_of(json!({"vlan": 0})), tag(0, 0, VlanProto::Dot1Q));
    assert_eq!(
        vlan_of(json!({"vlan": 4094, "vlanQoS": 7})),
        tag(4094, 7, VlanProto::Dot1Q)
    );
    for proto in ["802.1q", "802.1Q"] {
        let config = json!({"vlan": 100, "vlanProto": proto});
        assert_eq!(vlan_of(config), tag(100, 0, VlanProto::Dot1Q));
    }
    let config = json!({"vlan": 100, "vlanQoS": 3, "vlanProto": "802.1AD"});
    assert_eq!(vlan_of(config), tag(100, 3, VlanProto::Dot1Ad));
}

#[test]
fn the_pfs_side_is_refused_by_key_and_value() {
    let cases = [
        (json!({"vlan": 4095}), "vlan = 4095|0 to 4094"),
        (json!({"vlan": -1}), "vlan = -1|0 to 4094"),
        (json!({"vlan": "100"}), "vlan = \"100\"|without quotes"),
        (json!({"vlan": 100, "vlanQoS": 8}), "vlanQoS = 8|0 to 7"),
        (json!({"vlan": 0, "vlanQoS": 1}), "vlanQoS = 1|\"vlan\""),
        (json!({"vlanQoS": 1}), "vlanQoS = 1|\"vlan\""),
        (json!({"vlanProto": "802.1ad"}), "vlanProto|\"vlan\""),
        (
            json!({"vlan": 0, "vlanProto": "802.1ad"}),
            "vlanProto|\"vlan\"",
        ),
        (json!({"vlan": 1, "vlanProto": "802"}), "802.1q|802.1ad"),
        (
            json!({"spoofchk": "On"}),
            "spoofchk = \"On\"|\"on\" or \"off\"",
        ),
        (json!({"trust": true}), "trust = true"),
        (
            json!({"link_state": "up"}),
            "link_state|\"auto\"|\"enable\"|\"disable\"",
        ),
        (json!({"max_tx_rate": -5}), "max_tx_rate = -5|Mbit/s"),
        (json!({"max_tx_rate": 1u64 << 32}), "max_tx_rate|Mbit/s"),
        (
            json!({"min_tx_rate": 200, "max_tx_rate": 100}),
            "min_tx_rate = 200|\"max_tx_rate\"|100",
        ),
    ];
    for (config, says) in cases {
        refused(config, side::side, says);
    }
    // No limit above is no limit that could be too low.
    read(json!({"min_tx_rate": 5, "max_tx_rate": 0}), side::side).unwrap();
}

#[test]
fn only_what_is_wished_is_told_to_the_pf() {
    let now = PfSide {
        rate: Some(TxRate { min: 7, max: 9 }),
        trust: Some(true),
        ..PfSide::default()
    };
    let target = |config| read(config, side::side).unwrap().target(None, &now);
    assert_eq!(target(json!({})), PfSide::default());
    let rate = target(json!({"max_tx_rate": 50})).rate;
    assert_eq!(rate, Some(TxRate { min: 7, max: 50 }));
    let rate = target(json!({"min_tx_rate": 0})).rate;
    assert_eq!(rate, Some(TxRate { min: 0, max: 9 }));
    let all = json!({"spoofchk": "off", "trust": "on", "link_state": "disable"});
    let told = target(all);
    assert_eq!(told.spoofchk, Some(false));
    assert_eq!(told.trust, Some(true));
    assert_eq!(told.link_state, Some(VfLinkState::Disable));
}

fn device_of(config: Value, id: Option<&str>) -> Result<Device, CniError> {
    let given = || {
        id.map(|id| Argument {
            value: id.into(),
            origin: "runtimeConfig.deviceID".to_owned(),
        })
    };
    read(config, |fields| device::device(fields, given()))
}

#[test]
fn a_device_is_an_address_or_a_pf_to_choose_from() {
    let one = device_of(json!({}), Some("0000:01:10.2")).unwrap();
    assert_eq!(one.address.unwrap().to_string(), "0000:01:10.2");
    assert!(one.masters.is_empty());
    let named = device_of(json!({"master": "eth2", "vf": 0}), None).unwrap();
    assert_eq!(named.masters, [Master::Name("eth2".parse().unwrap())]);
    assert_eq!(named.index, Some(0));
    let list = json!({"master": ["eth2", "0000:01:00.1"], "policy": "spread"});
    let list = device_of(list, None).unwrap();
    assert_eq!(list.masters[1].to_string(), "0000:01:00.1");
    assert_eq!(list.policy, Policy::Spread);
    let both = device_of(json!({"master": "eth2"}), Some("0000:01:10.2")).unwrap();
    assert_eq!((both.masters.len(), both.policy), (1, Policy::Numa));
}

#[test]
fn a_device_that_is_not_clear_is_refused() {
    let cases = [
        (json!({}), None, "master|\"deviceID\""),
        (json!({"master": []}), None, "master|list of PFs"),
        (json!({"master": ["eth2", 3]}), None, "master|list of PFs"),
        (json!({"master": 3}), None, "master = 3"),
        (
            json!({"master": "a/b"}),
            None,
            "master = \"a/b\"|PCI address",
        ),
        (json!({"master": "eth2", "vf": -1}), None, "vf = -1|from 0"),
        (
            json!({"master": ["a", "b"], "vf": 1}),
            None,
            "vf = 1|the one PF",
        ),
        (
            json!({"master": "a", "vf": 1}),
            Some("0000:01:10.2"),
            "vf = 1|\"deviceID\"",
        ),
        (
            json!({"master": "a", "policy": "random"}),
            None,
            "policy|\"numa\"|\"pack\"",
        ),
        (
            json!({}),
            Some("01:10.2"),
            "runtimeConfig.deviceID|0000:01:10.0",
        ),
    ];
    for (config, id, says) in cases {
        let error = device_of(config.clone(), id).expect_err(&config.to_string());
        assert_eq!(error.code, 7, "{config}: {error}");
        for part in says.split('|') {
            assert!(error.to_string().contains(part), "{config}: {error}");
        }
    }
}

#[test]
fn interrupts_have_a_policy_and_a_placement() {
    let irq = |config| {
        let work = read(json!({ "irq": config }), work::work).unwrap();
        (work.irq, work.placement)
    };
    let own = IrqPlacement::Own;
    assert_eq!(irq(json!(null)), (IrqPolicy::Cpuset, own));
    assert_eq!(irq(json!({})), (IrqPolicy::Cpuset, own));
    assert_eq!(irq(json!({"policy": "off"})), (IrqPolicy::Off, own));
    let first = json!({"policy": "numa", "placement": "first"});
    assert_eq!(irq(first), (IrqPolicy::Numa, IrqPlacement::First));
    let listed = IrqPolicy::Cpus("2-3".parse().unwrap());
    assert_eq!(irq(json!({"cpus": "2-3"})), (listed.clone(), own));
    assert_eq!(irq(json!({"policy": "cpus", "cpus": "2-3"})), (listed, own));
}

#[test]
fn channels_and_interrupts_are_refused_by_key_and_value() {
    let cases = [
        (
            json!({"irq": {"policy": "mine"}}),
            "irq.policy = \"mine\"|\"cpuset\"",
        ),
        (
            json!({"irq": {"policy": "cpus"}}),
            "irq.policy|\"irq.cpus\"",
        ),
        (
            json!({"irq": {"policy": "off", "cpus": "1"}}),
            "irq.cpus|\"policy\": \"cpus\"",
        ),
        (json!({"irq": {"cpus": "x"}}), "irq.cpus = \"x\"|2-5,8"),
        (json!({"irq": {"cpus": ""}}), "irq.cpus|2-5,8"),
        (json!({"irq": {"cpu": "1"}}), "irq.cpu|\"placement\""),
        (
            json!({"irq": {"placement": "near"}}),
            "irq.placement|\"own\"|\"housekeeping\"",
        ),
        (
            json!({"irq": {"cpus": "1", "placement": "housekeeping"}}),
            "irq.placement|\"irq.cpus\"",
        ),
        (json!({"irq": "off"}), "irq = \"off\"|braces"),
        (json!({"channels": 0}), "channels = 0|\"auto\""),
        (json!({"channels": "all"}), "channels = \"all\"|\"auto\""),
        (
            json!({"xps": {"flowEntries": 1}}),
            "xps.flowEntries|unknown",
        ),
    ];
    for (config, says) in cases {
        refused(config, work::work, says);
    }
    let channels = |value: Value| read(json!({"channels": value}), work::work).unwrap();
    assert_eq!(channels(json!(4)).channels, Channels::Count(4));
    assert_eq!(channels(json!("auto")).channels, Channels::Auto);
    assert_eq!(channels(json!(null)).channels, Channels::Keep);
}
