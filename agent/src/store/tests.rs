use super::*;
use crate::engine::knob::{Knob, Value};
use berth_kernel::{CpuSet, Limit};
use serde_json::json;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// The variable that makes a test the child process of itself: its root.
const ROOT: &str = "BERTH_TEST_STORE_ROOT";
const WHO: &str = "berth agent";

fn node() -> (TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    boot(&root, "boot-1");
    (dir, root)
}

fn boot(root: &Root, id: &str) {
    let random = root.proc.join("sys/kernel/random");
    fs::create_dir_all(&random).unwrap();
    fs::write(random.join("boot_id"), format!("{id}\n")).unwrap();
}

fn open(root: &Root) -> Store {
    Store::open(root, WHO).unwrap()
}

fn record(id: &str) -> Record {
    let id: WorkloadId = id.parse().unwrap();
    let body = json!({"target": {"pid": 7}, "cpu": {"cores": 2},
        "io": [{"path": "/data", "share": 0.1}]});
    let spec = crate::spec::read::spec(&id, &body).unwrap();
    let project = ProjectState {
        project: 1 << 30,
        mount: "/data".into(),
        dev: 64_512,
        inode: 128,
    };
    Record {
        id,
        boot_id: String::new(),
        generation: 0,
        created_unix: 1_700_000_000,
        phase: Phase::Applying,
        previous: None,
        spec,
        cpus: Some([2, 3].into_iter().collect()),
        nodes: CpuSet::new(),
        why: vec!["the smallest hole".into()],
        target: Some(crate::target::Bound {
            cgroup: "/a".into(),
            inode: 1 << 40,
        }),
        state: State::Reserved { since_unix: 5 },
        projects: [("/data/a".into(), project)].into(),
        repairs: 3,
    }
}

fn file(root: &Root, name: &str) -> PathBuf {
    root.var.join("lib/berth").join(name)
}

fn damaged(store: &Store) -> Vec<&Path> {
    store
        .damaged()
        .iter()
        .map(|damaged| damaged.path.as_path())
        .collect()
}

#[test]
fn what_is_put_is_there_again_and_private() {
    let (_dir, root) = node();
    let mut store = open(&root);
    assert_eq!((store.generation(), store.raise()), (1, Ok(2)));
    store.put(&record("a")).unwrap();
    store.put(&record("b")).unwrap();
    store.remove(&"b".parse().unwrap()).unwrap();
    store.remove(&"never".parse().unwrap()).unwrap();
    let records = store.records().clone();
    drop(store);
    let store = open(&root);
    assert_eq!(store.records(), &records);
    let expected = Record {
        boot_id: "boot-1".into(),
        generation: 2,
        ..record("a")
    };
    assert_eq!(store.records().values().collect::<Vec<_>>(), [&expected]);
    assert_eq!((store.generation(), store.damaged()), (2, &[][..]));
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(file(&root, "")), 0o700);
    assert_eq!(mode(file(&root, "workloads")), 0o700);
    assert_eq!(mode(file(&root, "workloads/a.json")), 0o600);
    assert_eq!(mode(file(&root, "generation")), 0o600);
}

#[test]
fn one_process_at_a_time_and_the_holder_is_named() {
    let (_dir, root) = node();
    let store = open(&root);
    let refused = Store::open(&root, "berth release --all").unwrap_err();
    assert_eq!(refused.code, Code::Conflict);
    let holder = format!("pid {}, berth agent", std::process::id());
    assert!(refused.reason.contains(&holder), "{refused}");
    assert!(
        refused.object.ends_with("run/berth/agent.lock"),
        "{refused}"
    );
    drop(store);
    drop(open(&root));
    assert_eq!(
        fs::read_to_string(root.run.join("berth/agent.lock")).unwrap(),
        ""
    );
}

#[test]
fn damaged_files_are_reported_and_kept_and_the_rest_works() {
    let (_dir, root) = node();
    let mut store = open(&root);
    for id in ["good", "half", "newer", "renamed"] {
        store.put(&record(id)).unwrap();
    }
    drop(store);
    let at = |name: &str| file(&root, &format!("workloads/{name}"));
    let text = fs::read(at("half.json")).unwrap();
    fs::write(at("half.json"), &text[..text.len() / 2]).unwrap();
    fs::write(at("newer.json"), "{\"format\": 2, \"what\": 1}").unwrap();
    fs::rename(at("renamed.json"), at("other.json")).unwrap();
    fs::write(at("No Id.json"), "{}").unwrap();
    let broken = ["No Id.json", "half.json", "newer.json", "other.json"].map(at);
    let texts = broken.each_ref().map(|path| fs::read(path).unwrap());

    let mut store = open(&root);
    assert_eq!(damaged(&store), broken);
    assert!(store.damaged()[2].reason.contains("format 2"));
    assert_eq!(
        store
            .records()
            .keys()
            .map(WorkloadId::as_str)
            .collect::<Vec<_>>(),
        ["good"]
    );
    for id in ["half", "newer", "other"] {
        let refused = store.put(&record(id)).unwrap_err();
        assert_eq!(refused.code, Code::Conflict);
        assert!(refused.object.ends_with(&format!("{id}.json")), "{refused}");
        assert!(store.remove(&id.parse().unwrap()).is_err());
    }
    store.put(&record("good")).unwrap();
    store.put(&record("fresh")).unwrap();
    drop(store);
    assert_eq!(broken.map(|path| fs::read(path).unwrap()), texts);
    assert_eq!(open(&root).records().len(), 2);
}

#[test]
fn the_generation_never_goes_back() {
    let (_dir, root) = node();
    let mut store = open(&root);
    for _ in 0..5 {
        store.raise().unwrap();
    }
    store.put(&record("a")).unwrap();
    // Raised once more without a record, then lost.
    let last = store.raise().unwrap();
    drop(store);
    for lost in [None, Some(""), Some("x"), Some("-1"), Some("2")] {
        match lost {
            None => fs::remove_file(file(&root, "generation")).unwrap(),
            Some(text) => fs::write(file(&root, "generation"), text).unwrap(),
        }
        let store = open(&root);
        assert!(store.generation() > last, "{lost:?}");
        assert_eq!(damaged(&store), [file(&root, "generation")]);
        let went_on = store.generation();
        drop(store);
        let store = open(&root);
        assert_eq!((store.generation(), store.damaged()), (went_on, &[][..]));
    }
}

#[test]
fn before_alone_keeps_the_generation_too() {
    let (_dir, root) = node();
    let mut store = open(&root);
    let last = (0..9).map(|_| store.raise().unwrap()).last().unwrap();
    store.save_before(&Before::default()).unwrap();
    drop(store);
    fs::remove_file(file(&root, "generation")).unwrap();
    assert!(open(&root).generation() > last);
}

fn before() -> Before {
    let cgroup = || PathBuf::from("/a");
    let dir = || PathBuf::from("/data/a");
    Before {
        entries: BTreeMap::from([
            (
                Knob::Cpus { cgroup: cgroup() },
                Value::Set([1].into_iter().collect()),
            ),
            (Knob::Project { dir: dir() }, Value::Project(0)),
            (
                Knob::MemoryMax { cgroup: cgroup() },
                Value::Limit(Limit::Max),
            ),
            (
                Knob::Quota {
                    dir: dir(),
                    project: 7,
                },
                Value::Unset,
            ),
            (
                Knob::IoMax {
                    cgroup: cgroup(),
                    device: "8:0".parse().unwrap(),
                },
                Value::Unset,
            ),
            (
                Knob::Rps {
                    netns: u64::MAX,
                    interface: "eth0".parse().unwrap(),
                    queue: 0,
                },
                Value::Set(CpuSet::new()),
            ),
            (Knob::DefaultIrq, Value::Number(3)),
        ]),
        ..Before::default()
    }
}

#[test]
fn what_stood_before_outlives_the_agent_and_the_disks_part_the_boot() {
    let (_dir, root) = node();
    let mut store = open(&root);
    store.save_before(&before()).unwrap();
    drop(store);
    assert_eq!(open(&root).before().entries, before().entries);
    boot(&root, "boot-2");
    let store = open(&root);
    let left: Vec<&Knob> = store.before().entries.keys().collect();
    assert!(
        matches!(left[..], [Knob::Project { .. }, Knob::Quota { .. }]),
        "{left:?}"
    );
    assert_eq!(
        (store.before().boot_id.as_str(), store.boot_id()),
        ("boot-2", "boot-2")
    );
    drop(store);
    // Not yet written in this boot: decided the same way again.
    assert_eq!(open(&root).before().entries.len(), 2);
}

#[test]
fn a_damaged_before_is_kept_and_nothing_is_written_over_it() {
    let (_dir, root) = node();
    open(&root).put(&record("a")).unwrap();
    for text in ["{\"format\": 1, \"entr", "{\"format\": 9}", ""] {
        fs::write(file(&root, "before.json"), text).unwrap();
        let mut store = open(&root);
        assert_eq!(damaged(&store), [file(&root, "before.json")]);
        let refused = store.save_before(&before()).unwrap_err();
        assert_eq!(refused.code, Code::Conflict);
        store.put(&record("a")).unwrap();
        assert_eq!(
            fs::read_to_string(file(&root, "before.json")).unwrap(),
            text
        );
    }
}

#[test]
fn a_failed_write_leaves_file_and_memory_as_they_were() {
    let (_dir, root) = node();
    let mut store = open(&root);
    store.put(&record("a")).unwrap();
    // A directory cannot be replaced by a file.
    for name in ["workloads/b.json", "before.json"] {
        fs::create_dir(file(&root, name)).unwrap();
    }
    assert_eq!(store.put(&record("b")).unwrap_err().code, Code::Kernel);
    assert_eq!(store.save_before(&before()).unwrap_err().code, Code::Kernel);
    assert_eq!(
        (store.records().len(), store.before()),
        (
            1,
            &Before {
                boot_id: "boot-1".into(),
                ..Before::default()
            }
        )
    );
    fs::remove_file(file(&root, "generation")).unwrap();
    fs::create_dir(file(&root, "generation")).unwrap();
    assert_eq!(store.raise().unwrap_err().code, Code::Kernel);
    assert_eq!(store.generation(), 1);
    let left = fs::read_dir(file(&root, "workloads")).unwrap().count();
    assert_eq!(left, 2, "no temporary is left");
}

#[test]
fn temporaries_of_dead_writers_are_swept_and_modes_corrected() {
    let (_dir, root) = node();
    drop(open(&root));
    let left = [".tmp-1-00", "workloads/.tmp-2-00"].map(|name| file(&root, name));
    for path in &left {
        fs::write(path, "{\"format\":").unwrap();
    }
    fs::set_permissions(file(&root, "workloads"), fs::Permissions::from_mode(0o755)).unwrap();
    let store = open(&root);
    assert!(store.damaged().is_empty());
    assert!(left.iter().all(|path| !path.exists()));
    let mode = fs::metadata(file(&root, "workloads"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o700);
}

/// A writer killed at any moment: every file is whole, what was told as written is
/// there, the generation has not gone back.
#[test]
fn a_killed_writer_leaves_whole_files_and_all_it_has_told() {
    if let Some(dir) = std::env::var_os(ROOT) {
        return write_for_ever(&Root::under(Path::new(&dir)));
    }
    let (dir, root) = node();
    let mut last = 0;
    for round in 0..12_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("store::tests::a_killed_writer_leaves_whole_files_and_all_it_has_told")
            .env(ROOT, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("told 0")));
        std::thread::sleep(Duration::from_micros(500 + 6777 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let told = |line: String| line.strip_prefix("told ").and_then(|n| n.parse().ok());
        let told: Option<u64> = lines.map_while(Result::ok).filter_map(told).last();
        last = told.unwrap_or(last);

        let store = open(&root);
        assert_eq!(store.damaged(), []);
        assert!(
            store.generation() >= last,
            "{} < {last}",
            store.generation()
        );
        let seen = store
            .records()
            .values()
            .map(|record| record.generation)
            .max();
        assert!(
            seen.unwrap_or(0) >= last && seen <= Some(store.generation()),
            "{seen:?} {last}"
        );
        assert!(store.before().entries.len() == before().entries.len() || last == 0);
    }
    assert!(last > 0, "no child wrote anything");
}

fn write_for_ever(root: &Root) {
    let mut store = open(root);
    let mut out = std::io::stdout();
    writeln!(out, "\ntold 0").unwrap();
    loop {
        let generation = store.raise().unwrap();
        store.save_before(&before()).unwrap();
        store.put(&record("a")).unwrap();
        writeln!(out, "told {generation}").unwrap();
        out.flush().unwrap();
        store.put(&record("b")).unwrap();
        store.remove(&"b".parse().unwrap()).unwrap();
    }
}
