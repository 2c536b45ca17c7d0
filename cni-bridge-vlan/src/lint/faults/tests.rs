use super::*;
use berth_cni::error::code;
use serde_json::json;

/// Wants `a` and `o.b` to be numbers, `list` to be there if `needs` is, and not both of
/// `left` and `right`.
fn read(config: &Config) -> Result<(), CniError> {
    let fault = |text: String| CniError::new(code::CONFIG, text);
    if !config.contains_key("name") {
        return Err(fault("missing network name".into()));
    }
    let number = |name: &str, value: Option<&Value>| match value {
        Some(value) if !value.is_number() => Err(fault(format!("{name} = {value}: no number"))),
        _ => Ok(()),
    };
    number("a", config.get("a"))?;
    number("a.b", config.get("a.b"))?;
    if let Some(object) = config.get("o") {
        let b = object.get("b").unwrap_or(&Value::Null);
        number("o.b", Some(b))?;
    }
    if config.contains_key("needs") && !config.contains_key("list") {
        return Err(fault("needs = true: give key \"list\" too".into()));
    }
    if config.contains_key("left") && config.contains_key("right") {
        return Err(fault("one of the two is too much".into()));
    }
    Ok(())
}

fn faults(config: Value) -> Vec<String> {
    let (faults, understood) = all(config.as_object().unwrap(), read);
    assert!(understood.is_some(), "{config}");
    faults.into_iter().map(|fault| fault.msg).collect()
}

#[test]
fn nothing_is_wrong_with_what_can_be_read() {
    assert!(faults(json!({"name": "n", "a": 1, "o": {"b": 2}})).is_empty());
}

#[test]
fn each_fault_is_told_once_and_none_that_only_its_removal_makes() {
    let config = json!({"name": "n", "a": "x", "a.b": "y", "o": {"b": "z"}, "needs": true});
    assert_eq!(
        faults(config),
        [
            "a = \"x\": no number",
            "a.b = \"y\": no number",
            "o.b = \"z\": no number",
            "needs = true: give key \"list\" too",
        ]
    );
}

#[test]
fn a_fault_that_names_no_key_is_found_by_trying() {
    let config = json!({"name": "n", "left": 1, "right": 1, "a": "x"});
    assert_eq!(
        faults(config),
        ["a = \"x\": no number", "one of the two is too much"]
    );
}

#[test]
fn what_no_key_cures_ends_the_search() {
    let (faults, understood) = all(json!({"a": "x"}).as_object().unwrap(), read);
    assert_eq!((faults.len(), understood), (1, None));
}

#[test]
fn a_word_is_found_whole() {
    let fault = CniError::new(code::CONFIG, "vlanTrunk = 1, \"per-vlan\", then \"vlan\"");
    let paths = ["vlan", "vlanTrunk", "per", "trunk"].map(String::from);
    assert_eq!(mentions(&paths, &fault), ["vlanTrunk", "vlan"]);
}
