use super::*;
use crate::ipam::tests::one;
use crate::request::Command;
use berth_state::record::BridgeHost;
use berth_state::undo::Faults;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The attachment of a request, with Berth's own directories in a fresh tree, and the
/// record of its ADD by this process, which lives.
struct Scene {
    dir: TempDir,
    own: Attachment,
    request: Request,
    netns: NetNs,
    record: Record,
}

fn scene(config: &Value) -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let root = Root {
        run: dir.path().join("run"),
        ..Root::host()
    };
    let (request, _) = one(Command::Add, config, &[]);
    let own = Attachment::new(&root, request.key());
    let netns = NetNs::current().unwrap();
    let host = Host::Bridge(BridgeHost::new(
        "br0".parse().unwrap(),
        own.key().port_name(),
    ));
    let record = own.intent(&request, &netns, host).unwrap();
    Scene {
        dir,
        own,
        request,
        netns,
        record,
    }
}

fn plain() -> Scene {
    scene(&json!({"name": "net"}))
}

impl Scene {
    fn remember(&self, record: &Record) {
        let mut undo = Undo::new(Faults::none());
        self.own.remember(record, &mut undo).unwrap();
        undo.commit();
    }

    fn load(&self) -> Option<Record> {
        self.own.records().load(self.own.key()).unwrap()
    }

    fn abandoned(&self) -> Record {
        let mut record = self.record.clone();
        record.writer.start_time += 1;
        record
    }

    fn committed(&self) -> Record {
        Record {
            phase: Phase::Committed,
            ..self.record.clone()
        }
    }
}

fn never(_: Record) -> Result<(), CniError> {
    panic!("must not be swept")
}

#[test]
fn the_record_of_the_add_that_came_first_survives_the_other_ones_rollback() {
    let scene = plain();
    let mut undo = Undo::new(Faults::none());
    scene.own.remember(&scene.record, &mut undo).unwrap();
    let mut late = Undo::new(Faults::none());
    let error = scene.own.remember(&scene.abandoned(), &mut late);
    assert_eq!(error.unwrap_err().code, code::TRY_AGAIN);
    assert_eq!(late.rollback(), []);
    assert_eq!(scene.load(), Some(scene.record.clone()));
    assert_eq!(undo.rollback(), []);
    assert_eq!(scene.load(), None);
}

#[test]
fn the_intent_holds_the_request_and_its_cgroup() {
    let cgroup = "/kubepods/pod1/one";
    let config = json!({"name": "net", "vlan": 100, "runtimeConfig": {"cgroupPath": cgroup}});
    let record = scene(&config).record;
    assert_eq!(record.phase, Phase::Prepared);
    assert_eq!(record.cgroup_path, Some(PathBuf::from(cgroup)));
    assert_eq!(record.request.config["vlan"], 100);
    assert_eq!(record.writer.pid, std::process::id());
}

#[test]
fn an_add_leaves_a_living_attachment_alone_and_sweeps_a_dead_one() {
    let scene = plain();
    assert_eq!(scene.own.settle(&scene.netns, never), Ok(()));
    scene.remember(&scene.record);
    let busy = scene.own.settle(&scene.netns, never).unwrap_err();
    assert_eq!(busy.code, code::TRY_AGAIN);
    assert!(busy.msg.contains("is being added by process"), "{busy}");

    scene.own.records().replace(&scene.committed()).unwrap();
    let twice = scene.own.settle(&scene.netns, never).unwrap_err();
    assert_eq!(twice.code, code::CONFIG);
    let file = scene.own.records().path(scene.own.key());
    assert!(twice.msg.contains(file.to_str().unwrap()), "{twice}");

    let mut moved = scene.committed();
    moved.netns.cookie += 1;
    for left in [moved, scene.abandoned()] {
        scene.own.records().replace(&left).unwrap();
        let mut swept = None;
        let sweep = |record| {
            swept = Some(record);
            Err(CniError::new(code::INCOMPLETE, "held"))
        };
        let error = scene.own.settle(&scene.netns, sweep).unwrap_err();
        assert_eq!((swept, error.msg.as_str()), (Some(left), "held"));
    }
}

#[test]
fn del_gets_what_is_written_and_nothing_where_it_cannot_be_read() {
    let scene = plain();
    assert_eq!(scene.own.settled(), Ok(None));
    for record in [scene.abandoned(), scene.committed()] {
        scene.own.records().remove(scene.own.key()).unwrap();
        scene.remember(&record);
        assert_eq!(scene.own.settled(), Ok(Some(record)));
    }
    let file = scene.own.records().path(scene.own.key());
    std::fs::write(&file, "{").unwrap();
    assert_eq!(scene.own.settled(), Ok(None));
    let error = scene.own.released(None, [("port", Ok(()))]).unwrap_err();
    assert_eq!(error.code, code::INCOMPLETE);
    assert!(error.msg.contains("record: "), "{error}");
    assert!(file.exists());
}

#[test]
fn the_record_goes_only_when_every_step_was_done() {
    let scene = plain();
    scene.remember(&scene.record);
    let failed = |what: &str| Err(CniError::new(code::KERNEL, what));
    let steps = [
        ("port", failed("EBUSY")),
        ("bridge", Ok(())),
        ("addresses", failed("offline")),
    ];
    let error = scene.own.released(Some(&scene.record), steps).unwrap_err();
    assert_eq!(error.code, code::INCOMPLETE);
    let told = "port: EBUSY (CNI error 100); addresses: offline";
    assert!(error.msg.contains(told), "{error}");
    assert!(scene.load().is_some());
    assert_eq!(scene.own.released(None, [("port", Ok(()))]), Ok(()));
    assert_eq!(scene.load(), None);
    assert!(scene.dir.path().join("run/berth").exists());
}

#[test]
fn check_wants_a_finished_record() {
    let scene = plain();
    assert_eq!(scene.own.committed().unwrap_err().code, code::DRIFT);
    scene.remember(&scene.record);
    assert_eq!(scene.own.committed().unwrap_err().code, code::DRIFT);
    scene.own.records().replace(&scene.committed()).unwrap();
    assert_eq!(scene.own.committed(), Ok(scene.committed()));
}

#[test]
fn del_runs_by_the_configuration_of_its_add() {
    let scene = scene(&json!({"name": "net", "vlan": 100}));
    let (now, _) = one(Command::Del, &json!({"name": "net", "vlan": 200}), &[]);
    let vlan = |request: &Request| request.config.raw["vlan"].clone();
    let own = &scene.own;
    assert_eq!(vlan(&own.del_request(&now, Some(&scene.record))), 100);
    assert_eq!(vlan(&own.del_request(&now, None)), 200);
    let mut broken = scene.record.clone();
    broken.request.config = json!("{");
    assert_eq!(vlan(&own.del_request(&now, Some(&broken))), 200);
}

#[test]
fn an_ipam_nobody_has_keeps_no_container_that_never_had_an_address() {
    let scene = scene(&json!({"name": "net", "ipam": {"type": "nobody"}}));
    let release = |record| scene.own.release_addresses(&scene.request, record);
    assert_eq!(release(None), Ok(()));
    assert!(release(Some(&scene.record)).is_err());
}
