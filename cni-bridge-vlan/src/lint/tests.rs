use super::*;
use serde_json::json;

const NAMES: &[&str] = &["cni-bridge-vlan"];

fn lint(document: &Value) -> Lint {
    let list = NetworkList::of(document).unwrap();
    explain(&list, NAMES, "/nonexistent", None).unwrap()
}

/// The text for a file beside this one is what the text file of the same name holds.
macro_rules! golden {
    ($($name:ident),+ $(,)?) => {$(
        #[test]
        fn $name() {
            let document = include_str!(concat!("golden/", stringify!($name), ".json"));
            let text = include_str!(concat!("golden/", stringify!($name), ".txt"));
            let told = lint(&serde_json::from_str(document).unwrap()).to_string();
            assert!(told == text, "{}.txt should be:\n{told}", stringify!($name));
        }
    )+};
}

golden!(
    access,
    default_gateway,
    per_vlan,
    plain,
    pool,
    trunk,
    wrong,
    wrong_list
);

#[test]
fn every_example_of_the_page_can_be_served() {
    let page = include_str!("../../../docs/cni-bridge-vlan.md");
    let examples: Vec<&str> = page
        .split("```json\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(examples.len() > 10, "{} examples", examples.len());
    for example in examples {
        let document = serde_json::from_str(example).unwrap_or_else(|e| panic!("{e}: {example}"));
        let lint = lint(&document);
        assert!(!lint.is_refused(), "{example}{lint}");
        let hints: Vec<&String> = lint.plugins.iter().flat_map(|p| &p.hints).collect();
        let notes = hints.iter().filter(|hint| hint.contains("no effect"));
        assert_eq!(notes.count(), 0, "{example}{lint}");
    }
}

#[test]
fn every_key_is_in_an_example_of_the_page() {
    let page = include_str!("../../../docs/cni-bridge-vlan.md");
    let examples: String = page
        .split("```json\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    for key in conf::KEYS.iter().filter(|key| key.built) {
        let written = format!("\"{}\":", key.name);
        assert!(examples.contains(&written), "no example with {written}");
    }
}

/// The codes are read where they are defined.
#[test]
fn every_code_has_a_section_of_its_own() {
    let page = include_str!("../../../docs/troubleshooting.md");
    let source = include_str!("../../../lib/cni/src/error.rs");
    let codes: Vec<&str> = source
        .lines()
        .filter_map(|line| {
            line.trim()
                .strip_prefix("pub const ")?
                .split_once(": u32 = ")
        })
        .filter_map(|(_, number)| number.strip_suffix(';'))
        .collect();
    assert!(codes.contains(&"7") && codes.contains(&"105"), "{codes:?}");
    for code in codes {
        let heading = format!("\n### {code}: ");
        assert!(page.contains(&heading), "no section for code {code}");
    }
}

#[test]
fn what_is_not_ours_is_not_explained() {
    let two = json!({"cniVersion": "1.0.0", "name": "n",
        "plugins": [{"type": "bridge"}, {"type": "tuning"}]});
    let two = NetworkList::of(&two).unwrap();
    assert!(explain(&two, NAMES, "", None).is_none());
    assert!(explain(&two, &["bridge"], "", None).is_some());
    let only = json!({"cniVersion": "1.0.0", "name": "n", "type": "bridge"});
    let only = NetworkList::of(&only).unwrap();
    assert!(explain(&only, NAMES, "", None).is_some());
}

#[test]
fn an_address_that_tuning_gives_is_refused_unless_the_port_lets_it_pass() {
    let mac = "02:00:5e:10:00:01";
    let of = |ours: Value, tuning: Value| {
        let mut one = json!({"type": "cni-bridge-vlan"});
        one.as_object_mut()
            .unwrap()
            .extend(ours.as_object().unwrap().clone());
        let mut two = json!({"type": "tuning"});
        two.as_object_mut()
            .unwrap()
            .extend(tuning.as_object().unwrap().clone());
        lint(&json!({"cniVersion": "1.0.0", "name": "n", "plugins": [one, two]}))
    };
    assert!(of(json!({}), json!({"mac": mac})).is_refused());
    assert!(of(json!({}), json!({"args": {"cni": {"mac": mac}}})).is_refused());
    assert!(of(json!({"mac": "02:00:5e:10:00:02"}), json!({"mac": mac})).is_refused());
    for fine in [
        of(json!({"macspoofchk": false}), json!({"mac": mac})),
        of(json!({"mac": mac}), json!({"mac": mac})),
        of(json!({}), json!({"mtu": 1400})),
    ] {
        assert!(!fine.is_refused(), "{fine}");
    }
    let before = json!({"cniVersion": "1.0.0", "name": "n",
        "plugins": [{"type": "tuning", "mac": mac}, {"type": "cni-bridge-vlan"}]});
    assert!(!lint(&before).is_refused());
}

#[test]
fn a_bandwidth_limit_is_set_once() {
    let of = |declared: bool, other: &str| {
        lint(&json!({"cniVersion": "1.0.0", "name": "n", "plugins": [
            {"type": "cni-bridge-vlan", "capabilities": {"bandwidth": declared}},
            {"type": other, "capabilities": {"bandwidth": true}}]}))
    };
    assert!(of(true, "bandwidth").is_refused());
    assert!(!of(false, "bandwidth").is_refused());
    assert!(!of(true, "tuning").is_refused());
}

#[test]
fn looking_makes_no_log_file() {
    let file = std::env::temp_dir().join(format!("lint-{}.log", std::process::id()));
    let config = json!({"cniVersion": "1.0.0", "name": "n", "type": "t", "logFile": file});
    assert!(!lint(&config).is_refused());
    assert!(!file.exists());
}
