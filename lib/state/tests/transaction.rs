//! The shape of an ADD on remembered state alone, put through every failure: record
//! first, claim, commit; whatever fails, `run/berth` ends as it began.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of a test, outside of its function"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::rc::Rc;

use berth_kernel::{PciAddr, Root};
use berth_state::record::{BridgeHost, ContainerSide, Host, NetnsRef, Phase, SavedRequest};
use berth_state::testing::every_failure;
use berth_state::{Claims, Error, Fault, Faults, Key, Record, Records, Undo, Writer};

/// Every file below `dir` with its content, every directory without.
fn tree(dir: &Path) -> BTreeMap<String, Option<String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
            found.insert(path.display().to_string(), None);
        } else {
            let content = fs::read_to_string(&path).unwrap();
            found.insert(path.display().to_string(), Some(content));
        }
    }
    found
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    State(#[from] Error),
    #[error("{0}")]
    Fault(#[from] Fault),
}

struct Node {
    records: Rc<Records>,
    claims: Rc<Claims>,
    vf: PciAddr,
}

fn add(node: &Node, mut record: Record, undo: &mut Undo) -> Result<(), Failure> {
    let (records, key) = (node.records.clone(), record.key.clone());
    undo.step(
        "write record",
        move || records.remove(&key),
        || node.records.create(&record).map_err(Failure::from),
    )?;
    let (claims, key, vf) = (node.claims.clone(), record.key.clone(), node.vf);
    undo.step(
        "claim VF",
        move || claims.release(vf, &key),
        || {
            let claim = node.claims.claim(vf, &record.key, record.writer);
            claim.map_err(Failure::from)
        },
    )?;
    undo.step(
        "commit record",
        || Ok::<_, Error>(()),
        || {
            record.phase = Phase::Committed;
            node.records.replace(&record).map_err(Failure::from)
        },
    )
}

#[test]
fn every_failure_of_an_add_leaves_the_state_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    let node = Node {
        records: Rc::new(Records::new(&root)),
        claims: Rc::new(Claims::new(&root)),
        vf: "0000:01:10.2".parse().unwrap(),
    };
    let record = record(Key::new("blue", "c1", "eth0".parse().unwrap()).unwrap());
    // The fixed directories stay; another network's state must not be touched.
    let other: PciAddr = "0000:01:10.4".parse().unwrap();
    node.claims
        .claim(other, &record.key, record.writer)
        .unwrap();
    node.records
        .create(&self::record("red/c9:eth0".parse().unwrap()))
        .unwrap();

    let attempt = |faults: Faults| {
        let mut undo = Undo::new(faults);
        match add(&node, record.clone(), &mut undo) {
            Ok(()) => {
                undo.commit();
                Ok(())
            }
            Err(error) => {
                assert_eq!(undo.rollback(), [], "after {error}");
                Err(error)
            }
        }
    };
    let (steps, ()) = every_failure(|| tree(dir.path()), attempt).unwrap();
    assert_eq!(steps, 3);
    let committed = node.records.load(&record.key).unwrap().unwrap();
    assert_eq!(committed.phase, Phase::Committed);
    assert_eq!(node.claims.of_key(&record.key).unwrap(), [node.vf, other]);
}

fn record(key: Key) -> Record {
    Record {
        host: Host::Bridge(BridgeHost::new("br0".parse().unwrap(), key.port_name())),
        key,
        phase: Phase::Prepared,
        boot_id: berth_state::boot::boot_id(&Root::host()).unwrap(),
        writer: Writer::current(&Root::host()).unwrap(),
        netns: NetnsRef {
            path: None,
            dev: 4,
            ino: 1,
            cookie: 1,
        },
        container: ContainerSide::default(),
        rps: None,
        cgroup_path: None,
        request: SavedRequest::default(),
    }
}
