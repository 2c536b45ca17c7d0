//! What is wished of a node, for each key of a spec.

use serde_json::json;

use super::*;
use crate::spec::PartitionWish;

/// An active workload without any wish.
pub(crate) fn record(id: &str) -> Record {
    of(json!({"id": id, "target": {"cgroup": format!("/{id}")}}))
}

fn of(spec: serde_json::Value) -> Record {
    let spec: crate::spec::Spec = serde_json::from_value(spec).unwrap();
    let cgroup = match &spec.target {
        crate::spec::Target::Cgroup(path) => path.clone(),
        _ => unreachable!("tests name cgroups"),
    };
    Record {
        id: spec.id.clone(),
        boot_id: String::new(),
        generation: 0,
        created_unix: 0,
        phase: Phase::Applied,
        previous: None,
        cpus: None,
        nodes: CpuSet::new(),
        why: Vec::new(),
        target: Some(crate::store::Bound { cgroup, inode: 1 }),
        state: State::Active { since_unix: 0 },
        projects: BTreeMap::new(),
        repairs: 0,
        spec,
    }
}

fn exclusive(id: &str, cgroup: &str, cpus: &str) -> Record {
    let mut record = of(json!({"id": id, "target": {"cgroup": cgroup}, "cpu": {"cores": 2}}));
    record.cpus = Some(cpus.parse().unwrap());
    record
}

fn seen() -> Seen {
    Seen {
        pool: "2-3".parse().unwrap(),
        all: "0-7".parse().unwrap(),
        partitions: true,
        ..Seen::default()
    }
}

/// `KNOB = VALUE` of every wish.
fn wishes_of(records: &[Record], seen: &Seen) -> Vec<String> {
    let records = records.iter().map(|r| (r.id.clone(), r.clone())).collect();
    let wanted = wanted(&records, seen);
    wanted
        .iter()
        .map(|(knob, wish)| format!("{knob} = {}", wish.value))
        .collect()
}

#[test]
fn exclusive_cpus_are_handed_down_to_each_workload() {
    let records = [exclusive("a", "/p/a", "4-5"), exclusive("b", "/p/b", "6-7")];
    assert_eq!(
        wishes_of(&records, &seen()),
        [
            "cpuset.cpus of /p/a = 4-5",
            "cpuset.cpus of /p/b = 6-7",
            "cpuset.cpus.exclusive of /p = 4-7",
            "cpuset.cpus.exclusive of /p/a = 4-5",
            "cpuset.cpus.exclusive of /p/b = 6-7",
            "cpuset.cpus.partition of /p/a = root",
            "cpuset.cpus.partition of /p/b = root",
        ]
    );
}

#[test]
fn without_partitions_only_the_cpus_are_set() {
    let seen = Seen {
        partitions: false,
        ..seen()
    };
    let records = [exclusive("a", "/p/a", "4-5")];
    assert_eq!(wishes_of(&records, &seen), ["cpuset.cpus of /p/a = 4-5"]);
}

#[test]
fn one_that_is_not_there_or_is_released_wishes_nothing() {
    let mut reserved = exclusive("a", "/p/a", "4-5");
    reserved.state = State::Reserved { since_unix: 0 };
    let mut lost = exclusive("b", "/p/b", "4-5");
    lost.state = State::Lost { since_unix: 0 };
    let mut releasing = exclusive("c", "/p/c", "4-5");
    releasing.phase = Phase::Releasing;
    assert_eq!(wishes_of(&[reserved, lost, releasing], &seen()), [""; 0]);
}

#[test]
fn shared_workloads_have_the_pool_and_a_weight() {
    let shared = json!({"id": "s", "target": {"cgroup": "/s"},
        "cpu": {"cores": 3, "mode": "shared"}});
    assert_eq!(
        wishes_of(&[of(shared.clone())], &seen()),
        ["cpuset.cpus of /s = 2-3", "cpu.weight of /s = 300"]
    );
    let whole = Seen {
        pool: "0-7".parse().unwrap(),
        ..seen()
    };
    assert_eq!(
        wishes_of(&[of(shared)], &whole),
        ["cpuset.cpus of /s = none", "cpu.weight of /s = 300"]
    );
}

#[test]
fn a_sibling_is_narrowed_and_gets_back_what_is_free_again() {
    let mut seen = seen();
    let sibling = |cpus: &str| Sibling {
        cgroup: "/p/s".into(),
        cpus: cpus.parse().unwrap(),
        beside_target: true,
    };
    let knob = Knob::Cpus {
        cgroup: "/p/s".into(),
    };
    let wish = |seen: &Seen, records: &[Record]| {
        let records = records.iter().map(|r| (r.id.clone(), r.clone())).collect();
        wanted(&records, seen)
            .get(&knob)
            .map(|wish| wish.value.to_string())
    };
    let records = [exclusive("a", "/p/a", "4-5")];
    seen.siblings = vec![sibling("3-6")];
    assert_eq!(wish(&seen, &records), Some("3,6".to_owned()));
    // Set, and remembered.
    seen.siblings = vec![sibling("3,6")];
    seen.before
        .entries
        .insert(knob.clone(), Value::Set("3-6".parse().unwrap()));
    assert_eq!(wish(&seen, &records), Some("3,6".to_owned()));
    // The workload shrinks, then goes.
    assert_eq!(
        wish(&seen, &[exclusive("a", "/p/a", "5")]),
        Some("3-4,6".to_owned())
    );
    assert_eq!(wish(&seen, &[]), Some("3-6".to_owned()));
    // Wholly inside: the pool.
    seen.siblings = vec![sibling("4")];
    seen.before.entries.clear();
    assert_eq!(wish(&seen, &records), Some("2-3".to_owned()));
    // Beside nobody's exclusive CPUs.
    seen.siblings = vec![sibling("0-1")];
    assert_eq!(wish(&seen, &records), None);
    // Beside a cgroup above: only one that lies wholly inside is in the way.
    let mut above = sibling("3-6");
    above.beside_target = false;
    seen.siblings = vec![above.clone()];
    assert_eq!(wish(&seen, &records), None);
    above.cpus = "5".parse().unwrap();
    seen.siblings = vec![above];
    assert_eq!(wish(&seen, &records), Some("2-3".to_owned()));
}

#[test]
fn memory_has_a_high_below_the_max_and_its_nodes_if_bound() {
    let mut record = of(json!({"id": "m", "target": {"cgroup": "/m"},
        "memory": {"max_bytes": 64 << 20, "numa": "bind"}}));
    record.nodes = "1".parse().unwrap();
    assert_eq!(
        wishes_of(&[record], &seen()),
        [
            "cpuset.mems of /m = 1",
            "memory.high of /m = 55922688",
            "memory.max of /m = 67108864",
        ]
    );
}

fn disk(weights: bool) -> Disk {
    Disk {
        mount: "/data".into(),
        filesystem: "254:17".parse().unwrap(),
        limits: "254:16".parse().unwrap(),
        weights: vec!["254:16".parse().unwrap()],
        capability: Some(policy::io::Capability {
            read_bytes_per_sec: 20 << 20,
            write_bytes_per_sec: 20 << 20,
            read_iops: None,
            write_iops: None,
            weights,
        }),
    }
}

#[test]
fn io_is_limited_by_bytes_or_by_share() {
    let mut seen = seen();
    seen.disks.insert("/data".into(), disk(false));
    let spec =
        |io: serde_json::Value| of(json!({"id": "i", "target": {"cgroup": "/i"}, "io": [io]}));
    let bytes = spec(json!({"path": "/data", "write_bytes_per_sec": 1_000_000}));
    assert_eq!(
        wishes_of(&[bytes], &seen),
        ["io.max of /i for 254:16 = rbps=max wbps=1000000 riops=max wiops=max"]
    );
    let share = spec(json!({"path": "/data", "share": 0.25}));
    assert_eq!(
        wishes_of(&[share], &seen),
        ["io.max of /i for 254:16 = rbps=5242880 wbps=5242880 riops=max wiops=max"]
    );
}

#[test]
fn weights_bring_the_model_and_leave_no_memory_high() {
    let mut seen = seen();
    seen.disks.insert("/data".into(), disk(true));
    let record = of(json!({"id": "w", "target": {"cgroup": "/w"},
        "memory": {"max_bytes": 512 << 20},
        "io": [{"path": "/data", "weight": 300}]}));
    assert_eq!(
        wishes_of(&[record], &seen),
        [
            "memory.high of /w = max",
            "memory.max of /w = 536870912",
            "io.weight of /w for 254:16 = 300",
            "iocost of 254:16 = ctrl=user model=linear rbps=15728640 rseqiops=1920 \
             rrandiops=1920 wbps=15728640 wseqiops=1920 wrandiops=1920",
            "wbt_lat_usec of 254:16 = 0",
        ]
    );
}

#[test]
fn a_quota_is_wished_where_the_directory_is() {
    let mut record = of(json!({"id": "d", "target": {"cgroup": "/d"},
        "disk": [{"path": "/data/d", "limit_bytes": 5000, "limit_inodes": 9}]}));
    record.projects.insert(
        "/data/d".into(),
        crate::store::ProjectState {
            project: 7,
            mount: "/data".into(),
            dev: 1,
            inode: 2,
        },
    );
    let mut seen = seen();
    assert_eq!(wishes_of(&[record.clone()], &seen), [""; 0]);
    seen.directories.insert("/data/d".into(), Limit::At(8192));
    assert_eq!(
        wishes_of(&[record], &seen),
        [
            "project of /data/d = 7",
            "quota of project 7 at /data = bytes 8192, inodes 9",
        ]
    );
}

#[test]
fn what_nobody_wishes_any_more_goes_back() {
    let mut seen = seen();
    let knob = Knob::Partition {
        cgroup: "/p/a".into(),
    };
    let member = Value::Partition(Partition::Member);
    seen.before.entries.insert(knob, member);
    assert_eq!(
        wishes_of(&[], &seen),
        ["cpuset.cpus.partition of /p/a = member"]
    );
    let wished = wishes_of(&[exclusive("a", "/p/a", "4-5")], &seen);
    assert!(wished.contains(&"cpuset.cpus.partition of /p/a = root".to_owned()));
    assert_eq!(PartitionWish::default(), PartitionWish::Root);
}
