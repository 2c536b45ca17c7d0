//! What DEL finds without a record, on trees of plain files. The VFs are gone from them,
//! so that there is nothing to bring back.

use std::fs;
use std::io::{Read, Write};

use berth_cni::run::{Io, run};
use berth_state::boot::{Writer, boot_id};
use berth_state::record::{BridgeHost, ContainerSide, NetnsRef, Phase, Record, SavedRequest};
use serde_json::json;

use super::*;
use crate::Sriov;
use crate::testing::{Tree, key, vf};

fn tree() -> Tree {
    let tree = Tree::new();
    tree.unplug(vf(0, 0));
    tree.unplug(vf(0, 1));
    tree
}

/// The exit status of DEL of `net/one:net1`.
fn deleted(tree: &Tree) -> u8 {
    let env = [
        ("CNI_COMMAND", "DEL"),
        ("CNI_CONTAINERID", "one"),
        ("CNI_IFNAME", "net1"),
        ("CNI_PATH", "/nowhere"),
    ];
    let conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "cni-sriov"}).to_string();
    let stdin: Box<dyn Read> = Box::new(std::io::Cursor::new(conf.into_bytes()));
    let sink = || -> Box<dyn Write + Send> { Box::new(std::io::sink()) };
    let io = Io {
        env: env.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        stdin,
        stdout: sink(),
        stderr: sink(),
    };
    run(&Sriov::new(tree.root.clone()), io)
}

/// A record of the attachment of another VF, as far as this matters here.
fn remember(node: &Node) {
    let here = NetNs::current().unwrap();
    let record = Record {
        key: node.key().clone(),
        phase: Phase::Committed,
        boot_id: boot_id(&node.root).unwrap(),
        writer: Writer::current(&node.root).unwrap(),
        netns: NetnsRef::of(&here).unwrap(),
        host: Host::Bridge(BridgeHost::new(
            "br0".parse().unwrap(),
            node.key().port_name(),
        )),
        container: ContainerSide::default(),
        rps: None,
        cgroup_path: None,
        request: SavedRequest::default(),
    };
    node.attachment.records().create(&record).unwrap();
}

#[test]
fn del_gives_back_what_an_add_claimed_before_it_died_and_no_others() {
    let tree = tree();
    tree.claim(vf(0, 0), "one", false);
    tree.claim(vf(0, 1), "two", false);
    for _ in 0..2 {
        assert_eq!(deleted(&tree), 0);
        assert_eq!(tree.owners(), [(vf(0, 1), "net/two:net1".to_owned())]);
    }
}

#[test]
fn a_claim_of_an_add_that_lives_is_its_own_to_end() {
    let tree = tree();
    tree.claim(vf(0, 0), "one", true);
    let node = tree.node("one");
    give_back_claimed(&node, vf(0, 0)).unwrap();
    assert_eq!(tree.owners().len(), 1);
}

#[test]
fn a_second_claim_beside_the_record_is_given_back_too() {
    let tree = tree();
    let node = tree.node("one");
    remember(&node);
    tree.claim(vf(0, 0), "one", true);
    tree.claim(vf(0, 1), "one", false);
    give_back_all_claimed(&node).unwrap();
    assert_eq!(tree.owners(), [(vf(0, 0), "net/one:net1".to_owned())]);
}

#[test]
fn a_record_that_cannot_be_read_is_named_and_the_vf_is_given_back_all_the_same() {
    let tree = tree();
    let node = tree.node("one");
    remember(&node);
    fs::write(node.attachment.records().path(&key("one")), "garbage").unwrap();
    tree.claim(vf(0, 0), "one", false);
    assert_eq!(deleted(&tree), 1);
    assert_eq!(tree.owners(), []);
}

#[test]
fn a_claim_that_cannot_be_read_keeps_its_vf_and_nobody_from_del() {
    let tree = tree();
    tree.claim(vf(0, 0), "one", false);
    let file = tree.root.run.join("berth/vf").join(vf(0, 0).to_string());
    fs::write(&file, "garbage").unwrap();
    assert_eq!(deleted(&tree), 0);
    assert!(file.exists());
}

#[test]
fn another_plugins_record_is_left_to_it() {
    let tree = tree();
    let node = tree.node("one");
    remember(&node);
    assert_eq!(deleted(&tree), 1);
    assert!(is_on_record(&node));
}
