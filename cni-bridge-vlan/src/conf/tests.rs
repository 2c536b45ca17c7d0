use super::*;
use berth_cni::error::code;
use serde_json::{Value, json};

fn read<T>(of: impl Fn(&Fields<'_>) -> Result<T, CniError>, config: &Value) -> Result<T, CniError> {
    of(&Fields::of(config.as_object().unwrap()))
}

#[test]
fn spoofed_addresses_are_dropped_unless_that_is_declined() {
    let of = |config: Value| read(flags, &config).unwrap();
    let plain = PortFlags {
        locked: true,
        ..PortFlags::default()
    };
    assert_eq!(of(json!({})), plain);
    assert_eq!(of(json!({"macspoofchk": false})), PortFlags::default());
    let all = json!({"hairpinMode": true, "portIsolation": true, "macspoofchk": true});
    let wish = PortFlags {
        hairpin: true,
        isolated: true,
        ..plain
    };
    assert_eq!(of(all), wish);
}

#[test]
fn hairpin_and_promiscuous_mode_exclude_each_other() {
    let error = read(flags, &json!({"hairpinMode": true, "promiscMode": true})).unwrap_err();
    assert_eq!(error.code, code::CONFIG);
    assert!(
        error.msg.contains("hairpin mode and promiscuous mode"),
        "{error}"
    );
    assert!(read(flags, &json!({"promiscMode": "yes"})).is_err());
}

#[test]
fn a_trunk_is_ids_and_ranges_without_the_untagged_vlan() {
    let of = |config: Value| VlanRange::list(&read(vlans::trunk, &config).unwrap());
    assert_eq!(of(json!({})), "");
    assert_eq!(of(json!({"vlanTrunk": []})), "");
    let both =
        json!([{"id": 101}, {"minID": 200, "maxID": 210}, {"id": 102, "minID": 5, "maxID": 5}]);
    assert_eq!(of(json!({"vlanTrunk": both})), "5, 101-102, 200-210");
    assert_eq!(
        of(json!({"vlanTrunk": both, "vlan": 205})),
        "5, 101-102, 200-204, 206-210"
    );
}

#[test]
fn a_wrong_trunk_is_refused_in_the_references_words() {
    for (item, says) in [
        (json!({"maxID": 5}), "minID parameter is missing"),
        (json!({"minID": 5}), "maxID parameter is missing"),
        (
            json!({"minID": 0, "maxID": 5}),
            "incorrect trunk minID parameter",
        ),
        (
            json!({"minID": 5, "maxID": 4095}),
            "incorrect trunk maxID parameter",
        ),
        (
            json!({"minID": 6, "maxID": 5}),
            "minID is greater than maxID in trunk parameter",
        ),
        (json!({"id": 0}), "incorrect trunk id parameter"),
        (json!({"id": "7"}), "incorrect trunk id parameter"),
        (json!({"ID": 7}), "\"ID\" is none of"),
        (json!(7), "want objects"),
    ] {
        let error = read(vlans::trunk, &json!({"vlanTrunk": [item]})).unwrap_err();
        assert_eq!(error.code, code::CONFIG);
        assert!(error.msg.contains(says), "{item}: {error}");
    }
    assert!(read(vlans::trunk, &json!({"vlanTrunk": {"id": 5}})).is_err());
}

#[test]
fn a_bridge_for_each_vlan_is_named_after_it_also_without_a_record() {
    let of = |config: Value| read(bridge_name, &config).unwrap().to_string();
    let per_vlan = json!({"bridge": "br0", "layout": "per-vlan", "vlan": 100});
    assert_eq!(of(per_vlan), "br0.100");
    assert_eq!(of(json!({"bridge": "br0", "vlan": 100})), "br0");
    assert_eq!(of(json!({"layout": "per-vlan", "vlan": 7})), "cni0.7");
}
