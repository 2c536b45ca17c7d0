use super::*;
use serde_json::Value;

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
