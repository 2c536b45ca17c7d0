use super::*;
use serde_json::json;

fn plugins(list: &NetworkList) -> Vec<String> {
    let names = list.plugins().map(NetworkList::type_of);
    names.map(str::to_owned).collect()
}

#[test]
fn the_newest_common_version_is_taken() {
    for (one, more, expected) in [
        (json!(null), json!(null), Some("0.1.0")),
        (json!("0.3.1"), json!(null), Some("0.3.1")),
        (json!("1.0.0"), json!(["1.0.0", "1.1.0"]), Some("1.1.0")),
        (
            json!(null),
            json!(["0.4.0", "1.0.0", "0.3.0"]),
            Some("1.0.0"),
        ),
        (json!("1.0.0"), json!(["1.2.0", "2.0.0"]), Some("1.0.0")),
        (json!("1.2.0"), json!(["9.0.0"]), None),
        (json!("1.2.0"), json!(null), None),
    ] {
        let document = json!({"name": "n", "type": "t", "cniVersion": one, "cniVersions": more});
        let list = NetworkList::of(&document);
        match expected {
            Some(version) => assert_eq!(list.unwrap().version.as_str(), version, "{document}"),
            None => assert_eq!(list.unwrap_err().code, code::VERSION, "{document}"),
        }
    }
}

#[test]
fn one_plugin_is_a_list_of_one() {
    let document = json!({"cniVersion": "1.0.0", "name": "n", "type": "t", "vlan": 5});
    let list = NetworkList::of(&document).unwrap();
    assert_eq!(plugins(&list), ["t"]);
    let config = list.config_of(list.plugins().next().unwrap(), &Map::new());
    assert_eq!(Value::Object(config), document);
}

#[test]
fn what_is_no_network_is_refused_with_the_key() {
    for (document, code, key) in [
        (json!([]), code::DECODE, "JSON object"),
        (json!({"name": "n"}), code::CONFIG, "type"),
        (json!({"name": "n", "type": "../x"}), code::CONFIG, "type"),
        (json!({"type": "t"}), code::CONFIG, "name"),
        (json!({"name": "../n", "type": "t"}), code::CONFIG, "name"),
        (json!({"name": "n", "plugins": []}), code::CONFIG, "plugins"),
        (json!({"name": "n", "plugins": {}}), code::CONFIG, "plugins"),
        (json!({"name": "n", "plugins": [7]}), code::CONFIG, "type"),
        (
            json!({"name": "n", "type": "t", "cniVersion": 1}),
            code::CONFIG,
            "cniVersion",
        ),
        (
            json!({"name": "n", "type": "t", "cniVersion": "x"}),
            code::CONFIG,
            "cniVersion",
        ),
        (
            json!({"name": "n", "type": "t", "disableGC": 1}),
            code::CONFIG,
            "disableGC",
        ),
    ] {
        let error = NetworkList::of(&document).unwrap_err();
        assert_eq!(error.code, code, "{document}: {error}");
        assert!(error.msg.contains(key), "{document}: {error}");
    }
}

#[test]
fn a_file_is_loaded_with_the_plugins_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("10-n.conflist");
    let beside = dir.path().join("n");
    fs::create_dir(&beside).unwrap();
    for (file, text) in [
        ("20-b.conf", r#"{"type": "b"}"#),
        ("10-a.conf", r#"{"type": "a"}"#),
        ("30-c.json", "not looked at"),
    ] {
        fs::write(beside.join(file), text).unwrap();
    }
    let load = |document: Value| {
        fs::write(&path, document.to_string()).unwrap();
        NetworkList::load(&path)
    };
    let inlined = json!([{"type": "x"}]);
    let list = load(json!({"name": "n", "plugins": inlined})).unwrap();
    assert_eq!(plugins(&list), ["x", "a", "b"]);
    assert_eq!(
        NetworkList::of(&list.to_value()),
        Ok(list),
        "as the cache keeps it"
    );
    let list = load(json!({"name": "n", "plugins": []})).unwrap();
    assert_eq!(plugins(&list), ["a", "b"]);
    let only = json!({"name": "n", "plugins": inlined, "loadOnlyInlinedPlugins": true});
    assert_eq!(plugins(&load(only).unwrap()), ["x"]);
    assert_eq!(
        plugins(&load(json!({"name": "n", "type": "x"})).unwrap()),
        ["x"]
    );
    assert_eq!(
        load(json!({"name": "other", "plugins": []}))
            .unwrap_err()
            .code,
        code::CONFIG
    );
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("n.conf");
    let error = NetworkList::load(&path).unwrap_err();
    assert_eq!(error.code, code::IO);
    assert!(error.msg.contains("n.conf"), "{error}");
    fs::write(&path, "{").unwrap();
    let error = NetworkList::load(&path).unwrap_err();
    assert_eq!(error.code, code::DECODE);
    assert!(error.msg.contains("n.conf"), "{error}");
}
