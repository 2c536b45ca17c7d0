use super::*;
use proptest::prelude::*;
use serde_json::json;

use crate::refusal::Code;

fn id() -> WorkloadId {
    "game-17".parse().unwrap()
}

fn read(body: &Value) -> Result<Spec, Refusal> {
    spec(&id(), body)
}

/// A body with exclusive cores, and these members on top.
fn body(more: Value) -> Value {
    let mut body =
        json!({"target": {"cgroup": "/machine.slice/game-17.scope"}, "cpu": {"cores": 4}});
    let Value::Object(more) = more else { panic!() };
    body.as_object_mut().unwrap().extend(more);
    body
}

#[test]
fn the_documented_spec_is_read_as_it_is_meant() {
    let body = json!({"id": "game-17", "target": {"cgroup": "/machine.slice/game-17.scope"},
        "cpu": {"cores": 4, "mode": "exclusive", "smt": "whole-core", "numa": "single", "partition": "root"},
        "memory": {"max_bytes": 8_589_934_592_u64, "numa": "bind"},
        "disk": [{"path": "/data/game-17", "limit_bytes": 53_687_091_200_u64, "limit_inodes": 1_000_000}],
        "io": [{"path": "/data", "share": 0.25}, {"path": "/logs", "write_bytes_per_sec": 10_485_760}],
        "network": {"irq": "own-cores", "rps": "off", "attachments": ["blue/c1:eth0"]}, "ttl_sec": 300});
    let spec = read(&body).unwrap();
    assert_eq!(
        spec.target,
        Target::Cgroup("/machine.slice/game-17.scope".into())
    );
    let cpu = spec.cpu.as_ref().unwrap();
    assert_eq!(
        (cpu.cores, cpu.cpus, cpu.mode),
        (Some(4), None, CpuMode::Exclusive)
    );
    let memory = spec.memory.as_ref().unwrap();
    assert_eq!(
        (memory.max_bytes, memory.numa),
        (8_589_934_592, MemoryNuma::Bind)
    );
    assert_eq!(spec.disk[0].limit_inodes, Some(1_000_000));
    assert_eq!((spec.io[0].share, spec.io[0].weight), (Some(0.25), None));
    assert_eq!(spec.io[1].write_bytes_per_sec, Some(10_485_760));
    let network = spec.network.as_ref().unwrap();
    assert_eq!(
        (network.irq, network.rps),
        (PacketWork::OwnCores, PacketWork::Off)
    );
    assert_eq!((spec.ttl_sec, spec.lost_ttl_sec), (Some(300), None));
}

#[test]
fn absent_and_null_are_not_touched() {
    let short = json!({"target": {"pid": 7}});
    let spec = read(&short).unwrap();
    assert_eq!((spec.target.clone(), &spec.id), (Target::Pid(7), &id()));
    let nulls = json!({"target": {"pid": 7, "cgroup": null}, "id": null, "cpu": null, "disk": null, "ttl_sec": null});
    assert_eq!(read(&nulls), Ok(spec));
}

#[test]
fn limits_have_both_edges() {
    let max = |bytes: u64| {
        let read = read(&body(json!({"memory": {"max_bytes": bytes}})));
        read.map(|spec| spec.memory.unwrap().max_bytes)
    };
    assert_eq!(max(4 << 20), Ok(4 << 20));
    assert!(max((4 << 20) - 1).is_err());
    assert_eq!(max((4 << 20) + 4095), Ok(4 << 20), "as the kernel rounds");
    assert_eq!(max((4 << 20) + 4096), Ok((4 << 20) + 4096));
    assert_eq!(max(LARGEST), Ok(LARGEST));
    assert!(max(LARGEST + 1).is_err());

    let weight = |memory: u64, weight: u64| {
        read(&body(
            json!({"io": [{"path": "/data", "weight": weight}], "memory": {"max_bytes": memory}}),
        ))
    };
    for (memory, number, ok) in [
        (256 << 20, 1, true),
        (256 << 20, 10_000, true),
        (256 << 20, 0, false),
        (256 << 20, 10_001, false),
        ((256 << 20) - 1, 100, false),
    ] {
        assert_eq!(weight(memory, number).is_ok(), ok, "{memory} {number}");
    }
    assert!(read(&body(json!({"io": [{"path": "/data", "weight": 1}]}))).is_ok());

    let share = |share: Value| {
        let read = read(&body(json!({"io": [{"path": "/data", "share": share}]})));
        read.map(|spec| spec.io[0].share.unwrap())
    };
    for ok in [0.000_001, 0.5, 1.0] {
        assert_eq!(share(json!(ok)), Ok(ok));
    }
    assert_eq!(share(json!(1)), Ok(1.0));
    assert_eq!(share(json!(1.0 / 3.0)), Ok(0.333_333));
    for wrong in [
        json!(0),
        json!(1e-9),
        json!(-0.5),
        json!(1.000_000_1),
        json!("0.5"),
    ] {
        assert!(share(wrong.clone()).is_err(), "{wrong}");
    }
    for cores in [0_u64, 8193, 1 << 32] {
        assert!(
            read(&body(json!({"cpu": {"cores": cores}}))).is_err(),
            "{cores}"
        );
    }
}

/// What is wrong, the key that is named, a word of the reason, a word of the way out.
#[expect(clippy::too_many_lines, reason = "it is one table")]
#[test]
fn each_error_names_key_value_reason_and_way_out() {
    let disk = |path: &str| json!({"path": path, "limit_bytes": 1 << 20});
    let hex = "1234567890ab";
    for (body, key, reason, next) in [
        (json!([]), "document", "no object", "target"),
        (json!({}), "target", "must be there", "cgroup"),
        (
            body(json!({"id": "other"})),
            "id",
            "game-17",
            "leave id out",
        ),
        (body(json!({"id": 7})), "id", "no text", "quotes"),
        (body(json!({"Disk": []})), "Disk", "no such key", "\"disk\""),
        (
            body(json!({"memory": {"max": 1}})),
            "memory.max",
            "no such key",
            "keys here",
        ),
        (
            body(json!({"memory": {"maxBytes": 1}})),
            "memory.maxBytes",
            "no such key",
            "\"max_bytes\"",
        ),
        (
            body(json!({"memory": {}})),
            "memory.max_bytes",
            "must be there",
            "bytes",
        ),
        (
            body(json!({"memory": {"max_bytes": "8GiB"}})),
            "memory.max_bytes",
            "text",
            "without quotes and unit",
        ),
        (
            body(json!({"target": {}})),
            "target",
            "none of",
            "exactly one",
        ),
        (
            body(json!({"target": {"pid": 7, "cgroup": "/a"}})),
            "target.pid",
            "exclude",
            "null",
        ),
        (
            body(json!({"target": {"pid": 0}})),
            "target.pid",
            "too small",
            "from 1",
        ),
        (
            body(json!({"target": {"cgroup": "/"}})),
            "target.cgroup",
            "whole node",
            "below",
        ),
        (
            body(json!({"target": {"cgroup": "a"}})),
            "target.cgroup",
            "not absolute",
            "from /",
        ),
        (
            body(json!({"target": {"cgroup": "/sys/fs/cgroup/a"}})),
            "target.cgroup",
            "mount point",
            "write /a",
        ),
        (
            body(json!({"target": {"container_id": "ABC"}})),
            "target.container_id",
            "12 to 64",
            "target.cgroup",
        ),
        (
            body(json!({"target": {"container_id": &hex[1..]}})),
            "target.container_id",
            "12 to 64",
            "runtime",
        ),
        (
            body(json!({"cpu": {}})),
            "cpu",
            "none of cores, cpus",
            "exactly one",
        ),
        (
            body(json!({"cpu": {"cores": 1, "cpus": 2, "smt": "any"}})),
            "cpu.cpus",
            "exclude",
            "exactly one",
        ),
        (
            body(json!({"cpu": {"cpus": 2}})),
            "cpu.cpus",
            "parted",
            "\"smt\": \"any\"",
        ),
        (
            body(json!({"cpu": {"cores": 2, "mode": "Exclusive"}})),
            "cpu.mode",
            "none of",
            "did you mean \"exclusive\"",
        ),
        (
            body(json!({"cpu": {"cores": 2, "smt": "whole_core"}})),
            "cpu.smt",
            "none of",
            "\"whole-core\"",
        ),
        (
            body(json!({"cpu": {"cores": 2, "mode": "shared", "partition": "isolated"}})),
            "cpu.partition",
            "shared pool",
            "exclusive",
        ),
        (body(json!({"disk": {}})), "disk", "no list", "list"),
        (
            body(json!({"disk": [disk("/a"), {"path": "/b"}]})),
            "disk[1].limit_bytes",
            "must be there",
            "bytes",
        ),
        (
            body(json!({"disk": [disk("/a"), {"path": "/b", "limit_bytes": 0}]})),
            "disk[1].limit_bytes",
            "too small",
            "4096",
        ),
        (
            body(json!({"disk": [{"path": "/b", "limit_bytes": 4096, "limit_inodes": 0}]})),
            "disk[0].limit_inodes",
            "too small",
            "1",
        ),
        (
            body(json!({"disk": [disk("/")]})),
            "disk[0].path",
            "node's own",
            "of its own",
        ),
        (
            body(json!({"disk": [disk("/a/../b")]})),
            "disk[0].path",
            "..",
            "without",
        ),
        (
            body(json!({"disk": [disk("/a"), disk("/b"), disk("/a")]})),
            "disk[2].path",
            "disk[0]",
            "side by side",
        ),
        (
            body(json!({"disk": [disk("/a"), disk("/a/b/c")]})),
            "disk[1].path",
            "disk[0]",
            "side by side",
        ),
        (
            body(json!({"disk": [disk("/a/b/c"), disk("/a")]})),
            "disk[1].path",
            "disk[0]",
            "side by side",
        ),
        (
            body(json!({"io": [{"path": "/a"}]})),
            "io[0]",
            "limits nothing",
            "share",
        ),
        (
            body(json!({"io": [{"path": "/a", "share": 0.5, "weight": 5}]})),
            "io[0]",
            "three ways",
            "or weight",
        ),
        (
            body(json!({"io": [{"path": "/a", "share": 0.5, "read_bytes_per_sec": 65536}]})),
            "io[0]",
            "three ways",
            "or weight",
        ),
        (
            body(json!({"io": [{"path": "/a", "read_bytes_per_sec": 65535}]})),
            "io[0].read_bytes_per_sec",
            "too small",
            "65536",
        ),
        (
            body(json!({"io": [{"path": "/a", "share": 0.5}, {"path": "/a", "weight": 5}]})),
            "io[1].path",
            "io[0]",
            "one entry",
        ),
        (
            body(json!({"io": [{"path": "/a", "weight": 5}], "memory": {"max_bytes": 8 << 20}})),
            "io[0].weight",
            "killed",
            "268435456",
        ),
        (
            body(json!({"cpu": null, "memory": {"max_bytes": 8 << 20, "numa": "bind"}})),
            "memory.numa",
            "exclusive",
            "\"any\"",
        ),
        (
            body(json!({"cpu": {"cores": 1, "mode": "shared"}, "network": {"irq": "off"}})),
            "network.rps",
            "exclusive",
            "\"off\"",
        ),
        (
            body(json!({"cpu": null, "network": {}})),
            "network.irq",
            "own-cores",
            "\"off\"",
        ),
        (
            body(json!({"network": {"attachments": ["blue"]}})),
            "network.attachments[0]",
            "blue",
            "CONTAINERID",
        ),
        (
            body(json!({"network": {"attachments": ["b/c:e", "b/c:e"]}})),
            "network.attachments[1]",
            "twice",
            "once",
        ),
        (
            body(json!({"ttl_sec": 0})),
            "ttl_sec",
            "too small",
            "from 1",
        ),
        (
            body(json!({"lost_ttl_sec": 1_u64 << 40})),
            "lost_ttl_sec",
            "too large",
            "to",
        ),
    ] {
        let refused = read(&body).unwrap_err();
        assert_eq!(refused.code, Code::Invalid);
        assert_eq!(refused.object, key, "{body}: {refused}");
        assert!(refused.reason.contains(reason), "{body}: {refused}");
        assert!(refused.next.contains(next), "{body}: {refused}");
        assert!(!refused.wish.is_empty(), "{body}: {refused}");
    }
}

#[test]
fn neighbours_are_no_nesting() {
    let disks = json!([{"path": "/a", "limit_bytes": 4096}, {"path": "/ab", "limit_bytes": 4096}]);
    assert!(read(&body(json!({"disk": disks}))).is_ok());
    let off = json!({"cpu": {"cpus": 1, "smt": "any", "mode": "shared"}, "network": {"irq": "off", "rps": "off"}});
    assert!(read(&body(off)).is_ok());
}

fn targets() -> impl Strategy<Value = Target> {
    prop_oneof![
        "/[a-z]{1,8}\\.slice/[a-z0-9:-]{1,8}\\.scope".prop_map(|path| Target::Cgroup(path.into())),
        (1..=4_194_304_u32).prop_map(Target::Pid),
        "[0-9a-f]{12,64}".prop_map(Target::ContainerId),
    ]
}

fn cpus() -> impl Strategy<Value = CpuSpec> {
    (1..=8192_u32, 0..16_u8, any::<bool>()).prop_map(|(count, bits, best_effort)| {
        let [any, logical, spread, isolated] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
        CpuSpec {
            cores: (!(any && logical)).then_some(count),
            cpus: (any && logical).then_some(count),
            mode: CpuMode::Exclusive,
            smt: if any { Smt::Any } else { Smt::WholeCore },
            numa: if spread {
                CpuNuma::Any
            } else {
                CpuNuma::Single
            },
            partition: if isolated {
                PartitionWish::Isolated
            } else {
                PartitionWish::Root
            },
            best_effort,
        }
    })
}

/// Rates read and written, millionths, weight, best effort.
type Drawn = (Option<u64>, Option<u64>, u32, u16, bool);

fn ios() -> impl Strategy<Value = Vec<IoSpec>> {
    let rate = || proptest::option::of(LEAST_RATE..=LARGEST);
    let one = (
        rate(),
        rate(),
        1..=1_000_000_u32,
        1..=10_000_u16,
        any::<bool>(),
    );
    proptest::collection::vec(one, 0..5).prop_map(|list| {
        let each = |(at, (read, write, part, weight, best_effort)): (usize, Drawn)| {
            let limits = read.is_some() || write.is_some();
            let by_weight = !limits && part % 2 == 0;
            IoSpec {
                path: format!("/d{at}").into(),
                read_bytes_per_sec: read,
                write_bytes_per_sec: write,
                share: (!limits && !by_weight).then(|| f64::from(part) / SHARE_STEPS),
                weight: by_weight.then_some(weight),
                best_effort,
            }
        };
        list.into_iter().enumerate().map(each).collect()
    })
}

fn disks() -> impl Strategy<Value = Vec<DiskSpec>> {
    let one = (
        LEAST_DISK..=LARGEST,
        proptest::option::of(1..=LARGEST),
        any::<bool>(),
    );
    proptest::collection::vec(one, 0..4).prop_map(|list| {
        let each = |(at, (limit_bytes, limit_inodes, best_effort))| DiskSpec {
            path: format!("/data/{at}").into(),
            limit_bytes,
            limit_inodes,
            best_effort,
        };
        list.into_iter().enumerate().map(each).collect()
    })
}

prop_compose! {
    fn specs()(
        target in targets(),
        cpu in cpus(),
        pages in proptest::option::of((256_u64 << 20) / PAGE..=LARGEST / PAGE),
        bind in any::<bool>(),
        disk in disks(),
        io in ios(),
        network in any::<Option<(bool, bool, bool)>>(),
        times in (proptest::option::of(1..=LONGEST_SEC), proptest::option::of(0..=LONGEST_SEC)),
    ) -> Spec {
        let work = |own| if own { PacketWork::OwnCores } else { PacketWork::Off };
        Spec {
            id: id(),
            target,
            cpu: Some(cpu),
            memory: pages.map(|pages| MemorySpec {
                max_bytes: pages * PAGE,
                numa: if bind { MemoryNuma::Bind } else { MemoryNuma::Any },
            }),
            disk,
            io,
            network: network.map(|(irq, rps, named)| NetworkSpec {
                irq: work(irq),
                rps: work(rps),
                attachments: if named { vec!["blue/c1:eth0".parse().unwrap()] } else { vec![] },
            }),
            ttl_sec: times.0,
            lost_ttl_sec: times.1,
        }
    }
}

proptest! {
    #[test]
    fn a_spec_reads_back_as_it_was(spec in specs()) {
        let text = serde_json::to_string(&spec).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(read(&value).unwrap(), spec.clone());
        // Our own files are read by serde.
        prop_assert_eq!(serde_json::from_str::<Spec>(&text).unwrap(), spec.clone());
        prop_assert_eq!(super::super::patch::merge(&spec, &json!({})).unwrap(), spec);
    }

    #[test]
    fn no_body_makes_it_panic(text in "[\\[\\]{}\":, a-z0-9]{0,60}") {
        if let Ok(value) = serde_json::from_str::<Value>(&text) {
            let _either = read(&value);
        }
    }
}
