//! The table, and every state a VF can be in.

use berth_state::Key;

use super::*;
use crate::vf::survey::State;

fn entry() -> Entry {
    Entry {
        address: "0000:01:10.2".parse().unwrap(),
        pf: "0000:01:00.0".parse().unwrap(),
        pf_name: Some("ens1".parse().unwrap()),
        index: 1,
        numa_node: Some(0),
        driver: Some("igbvf".into()),
        netdev: Some("ens1v1".parse().unwrap()),
        netns: None,
        owner: None,
        state: State::Free,
        reasons: Vec::new(),
    }
}

fn printed(vfs: &[Entry]) -> Vec<String> {
    let mut out = Vec::new();
    text(vfs, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn columns_stand_below_each_other() {
    let owner: Key = "game/web-1:net1".parse().unwrap();
    let claimed = Entry {
        netdev: Some("net1".parse().unwrap()),
        netns: Some("/proc/7/ns/net".into()),
        reasons: vec![format!("claimed by {owner}")],
        owner: Some(owner),
        state: State::Claimed,
        ..entry()
    };
    let bare = Entry {
        pf_name: None,
        numa_node: None,
        driver: None,
        netdev: None,
        state: State::Unusable,
        reasons: vec!["no driver is bound to it".into()],
        ..entry()
    };
    assert_eq!(
        printed(&[entry(), claimed, bare]),
        [
            "ADDRESS       PF            VF  NUMA  DRIVER  WHERE          STATE",
            "0000:01:10.2  ens1          1   0     igbvf   ens1v1         free",
            "0000:01:10.2  ens1          1   0     igbvf   net1 in web-1  claimed by game/web-1:net1",
            "0000:01:10.2  0000:01:00.0  1   -     -       nowhere        unusable: no driver is bound to it",
        ]
    );
}

#[test]
fn the_json_form_is_this() {
    let answer = Answer {
        schema: 1,
        vfs: vec![Entry {
            netns: Some("/proc/7/ns/net".into()),
            state: State::InUse,
            reasons: vec!["its network device is not in the host's namespace".into()],
            ..entry()
        }],
    };
    let json = serde_json::to_value(&answer).unwrap();
    let contract = serde_json::json!({
        "schema": 1,
        "vfs": [{
            "address": "0000:01:10.2", "pf": "0000:01:00.0", "pf_name": "ens1", "index": 1,
            "numa_node": 0, "driver": "igbvf", "netdev": "ens1v1", "netns": "/proc/7/ns/net",
            "owner": null, "state": "in_use",
            "reasons": ["its network device is not in the host's namespace"]
        }]
    });
    assert_eq!(json, contract);
}
