use super::*;
use crate::attachment::Attachment;
use crate::ipam::tests::{incoming, one};
use crate::request::{Command, Incoming};
use berth_kernel::NetNs;
use berth_state::record::{BridgeHost, Host};
use serde_json::json;
use std::cell::RefCell;
use std::path::Path;

fn root(dir: &Path) -> Root {
    Root {
        run: dir.join("run"),
        ..Root::host()
    }
}

fn gc(valid: &[&str]) -> GcRequest {
    let valid: Vec<Value> = valid
        .iter()
        .map(|id| json!({"containerID": id, "ifname": "eth0"}))
        .collect();
    let config = json!({"cniVersion": "1.1.0", "name": "net", "vlan": 7,
        "cni.dev/valid-attachments": valid});
    match incoming(Command::Gc, &config, &[("CNI_PATH", "/nowhere")]).0 {
        Incoming::Gc(request) => request,
        other => panic!("{other:?}"),
    }
}

fn key(id: &str) -> Key {
    Key::new("net", id, "eth0".parse().unwrap()).unwrap()
}

/// Puts an attachment on record; this process is its writer and lives.
fn put(root: &Root, id: &str, change: impl FnOnce(&mut Record)) {
    let (request, _) = one(Command::Add, &json!({"name": "net"}), &[]);
    let host = Host::Bridge(BridgeHost::new("br0".parse().unwrap(), key(id).port_name()));
    let own = Attachment::new(root, &key(id));
    let netns = NetNs::current().unwrap();
    let mut record = own.intent(&request, &netns, host).unwrap();
    change(&mut record);
    own.records().create(&record).unwrap();
}

#[test]
fn what_is_not_listed_goes_by_record_and_by_mark_and_the_rest_stays() {
    let dir = tempfile::tempdir().unwrap();
    let root = root(dir.path());
    for id in ["stale", "valid"] {
        put(&root, id, |record| record.phase = Phase::Committed);
    }
    put(&root, "coming", |_| {});
    put(&root, "dead", |record| record.writer.start_time += 1);
    let marked = || {
        // Its ADD came between the listing of the records and this.
        put(&root, "between", |record| record.phase = Phase::Committed);
        Ok(["marked", "valid-mark", "coming", "between"]
            .map(key)
            .into())
    };
    let removed = RefCell::new(Vec::new());
    let remove = |request: &Request| {
        assert_eq!(request.config.raw["vlan"], 7);
        assert_eq!(request.command, Command::Del);
        removed
            .borrow_mut()
            .push(request.key().container_id().to_owned());
        Ok(())
    };
    collect(
        &root,
        &gc(&["valid", "valid-mark"]),
        |_| true,
        marked,
        remove,
    )
    .unwrap();
    assert_eq!(removed.into_inner(), ["dead", "marked", "stale"]);
}

#[test]
fn a_failure_is_told_after_everything_else_was_tried() {
    let dir = tempfile::tempdir().unwrap();
    let root = root(dir.path());
    put(&root, "broken", |_| {});
    std::fs::write(Records::new(&root).path(&key("broken")), "{").unwrap();
    let tried = RefCell::new(0);
    let remove = |request: &Request| {
        *tried.borrow_mut() += 1;
        match request.key().container_id() {
            "one" => Err(CniError::new(code::KERNEL, "one stays")),
            _ => Ok(()),
        }
    };
    let marked = || Ok(["one", "two"].map(key).into());
    let error = collect(&root, &gc(&[]), |_| true, marked, remove).unwrap_err();
    assert_eq!((error.code, tried.into_inner()), (code::INCOMPLETE, 2));
    for part in ["network net", "net/broken:eth0.json", "one stays"] {
        assert!(error.msg.contains(part), "{error}");
    }
}
