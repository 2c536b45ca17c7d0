use super::*;
use serde_json::{Value, json};
use std::fs;

fn set(list: &str) -> CpuSet {
    list.parse().unwrap()
}

fn rps_of(rps: &Value) -> Result<Rps, CniError> {
    let config = json!({"rps": rps});
    Rps::of(&Fields::of(config.as_object().unwrap()))
}

fn xps_of(xps: &Value) -> Result<Cpus, CniError> {
    let config = json!({"xps": xps});
    Cpus::of_xps(&Fields::of(config.as_object().unwrap()))
}

#[test]
fn the_keys_are_read_into_units() {
    let rps = |cpus, flow_entries| Rps { cpus, flow_entries };
    for (value, wish) in [
        (json!(null), rps(Cpus::Auto, 0)),
        (json!({}), rps(Cpus::Auto, 0)),
        (json!({"cpus": "off"}), rps(Cpus::Off, 0)),
        (
            json!({"cpus": "2-5,8", "flowEntries": 4096}),
            rps(Cpus::List(set("2-5,8")), 4096),
        ),
    ] {
        assert_eq!(rps_of(&value), Ok(wish), "{value}");
    }
    assert_eq!(xps_of(&json!(null)), Ok(Cpus::Auto));
    assert_eq!(xps_of(&json!({"cpus": "1"})), Ok(Cpus::List(set("1"))));
}

#[test]
fn a_wrong_key_or_value_is_named_in_full() {
    for (rps, parts) in [
        (json!({"cpu": "0"}), ["rps.cpu", "flowEntries"]),
        (json!({"cpus": "none"}), ["rps.cpus", "none"]),
        (json!({"cpus": ""}), ["rps.cpus", "auto"]),
        (json!({"flowEntries": -1}), ["rps.flowEntries", "1048576"]),
        (
            json!({"flowEntries": 1_048_577}),
            ["rps.flowEntries", "1048576"],
        ),
        (json!("auto"), ["rps", "object"]),
    ] {
        let error = rps_of(&rps).unwrap_err();
        for part in parts {
            assert!(error.msg.contains(part), "{part}: {error}");
        }
    }
    // Transmitting has no flow table.
    let error = xps_of(&json!({"flowEntries": 1})).unwrap_err();
    assert!(error.msg.contains("xps.flowEntries"), "{error}");
}

#[test]
fn a_wish_is_shown_as_it_was_written() {
    for text in ["auto", "off", "2-5,8"] {
        let wish = rps_of(&json!({"cpus": text})).unwrap();
        assert_eq!(wish.cpus.to_string(), text);
    }
}

/// A node with CPUs 0-3 and no cgroup v2, less what `files` say.
fn node(dir: &Path, files: &[(&str, &str)]) -> Root {
    let common = [
        ("sys/devices/system/cpu/online", "0-3\n"),
        ("sys/devices/system/cpu/isolated", "\n"),
        ("sys/devices/system/cpu/nohz_full", "(null)\n"),
    ];
    for (path, text) in common.iter().chain(files) {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    Root::under(dir)
}

const CGROUPS: [(&str, &str); 3] = [
    ("sys/fs/cgroup/cgroup.controllers", "cpuset\n"),
    ("sys/fs/cgroup/cpuset.cpus.effective", "0-2\n"),
    ("sys/fs/cgroup/game/cpuset.cpus.effective", "3\n"),
];

#[test]
fn auto_is_decided_from_cgroups_housekeeping_and_nearness() {
    let dir = tempfile::tempdir().unwrap();
    let root = node(dir.path(), &CGROUPS);
    let housekeeping = NodeFile {
        housekeeping: Some(set("0")),
        ..NodeFile::default()
    };
    housekeeping.save(&root).unwrap();
    let read = inputs(&root, Some(Path::new("/game")), Some(set("2-3"))).unwrap();
    let wish = AutoInput {
        container: Some(set("3")),
        node_online: set("0-3"),
        root_effective: set("0-2"),
        numa_local: Some(set("2-3")),
        housekeeping: Some(set("0")),
    };
    assert_eq!(read, wish);
    assert!(inputs(&root, Some(Path::new("/gone")), None).is_err());
}

#[test]
fn without_cgroup_v2_nothing_is_known_of_the_container() {
    let dir = tempfile::tempdir().unwrap();
    let root = node(dir.path(), &[("sys/fs/cgroup/cpuset/cpuset.cpus", "0\n")]);
    let read = inputs(&root, Some(Path::new("/game")), None).unwrap();
    assert_eq!(read.container, None);
    assert_eq!(read.root_effective, set("0-3"));
}

#[test]
fn rps_goes_where_it_is_wished_and_can_be() {
    let dir = tempfile::tempdir().unwrap();
    let isolated = ("sys/devices/system/cpu/isolated", "2\n");
    let root = node(dir.path(), &[isolated]);
    let decide = |cpus: Cpus, container: &str| {
        let wish = Rps {
            cpus,
            flow_entries: 0,
        };
        decide_rps(&root, &wish, || {
            Ok(AutoInput {
                container: Some(set(container)),
                node_online: set("0-3"),
                root_effective: set("0-3"),
                ..AutoInput::default()
            })
        })
    };
    assert_eq!(decide(Cpus::Auto, "1-2"), Ok(Some(set("1"))));
    assert_eq!(decide(Cpus::Auto, "0-3"), Ok(None));
    assert_eq!(decide(Cpus::Auto, "2"), Ok(None));
    assert_eq!(decide(Cpus::Off, "1"), Ok(None));
    assert_eq!(decide(Cpus::List(set("0,2")), "1"), Ok(Some(set("0"))));
    let error = decide(Cpus::List(set("0,9")), "1").unwrap_err();
    assert!(error.msg.contains("rps.cpus = 0,9: CPUs 9"), "{error}");
}
