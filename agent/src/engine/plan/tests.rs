//! The order of steps, for each thing that can go wrong in another one.

use super::*;
use berth_kernel::cgroup::io::IoMax;

use crate::spec::PartitionWish;

fn set(list: &str) -> Value {
    Value::Set(list.parse().unwrap())
}

fn cpus(cgroup: &str) -> Knob {
    Knob::Cpus {
        cgroup: cgroup.into(),
    }
}

fn exclusive(cgroup: &str) -> Knob {
    Knob::ExclusiveCpus {
        cgroup: cgroup.into(),
    }
}

fn partition(cgroup: &str) -> Knob {
    Knob::Partition {
        cgroup: cgroup.into(),
    }
}

fn max(cgroup: &str) -> Knob {
    Knob::MemoryMax {
        cgroup: cgroup.into(),
    }
}

fn high(cgroup: &str) -> Knob {
    Knob::MemoryHigh {
        cgroup: cgroup.into(),
    }
}

const ROOT: Value = Value::Partition(Partition::Of(PartitionWish::Root));
const MEMBER: Value = Value::Partition(Partition::Member);

fn at(bytes: u64) -> Value {
    Value::Limit(Limit::At(bytes))
}

/// `KNOB -> VALUE` of each step.
fn order(changes: &[(Knob, Value, Value)]) -> Vec<String> {
    let mut live = Live::new();
    let mut wanted = Wanted::new();
    for (knob, from, to) in changes {
        live.insert(knob.clone(), from.clone());
        let wish = Wish {
            value: to.clone(),
            owner: None,
            why: String::new(),
        };
        wanted.insert(knob.clone(), wish);
    }
    let steps = steps(&live, &wanted);
    steps
        .iter()
        .map(|step| format!("{} -> {}", step.knob, step.to))
        .collect()
}

#[test]
fn exclusive_cpus_are_taken_from_the_top_after_the_shared_ones_left() {
    assert_eq!(
        order(&[
            (cpus("/shared"), set("0-7"), set("0-3")),
            (partition("/a/b"), MEMBER, ROOT),
            (cpus("/a/b"), set(""), set("4-7")),
            (exclusive("/a/b"), set(""), set("4-7")),
            (exclusive("/a"), set(""), set("4-7")),
        ]),
        [
            "cpuset.cpus of /a/b -> 4-7",
            "cpuset.cpus of /shared -> 0-3",
            "cpuset.cpus.exclusive of /a -> 4-7",
            "cpuset.cpus.exclusive of /a/b -> 4-7",
            "cpuset.cpus.partition of /a/b -> root",
        ]
    );
}

#[test]
fn they_are_given_back_from_the_leaf_before_others_grow() {
    assert_eq!(
        order(&[
            (cpus("/shared"), set("0-3"), set("0-7")),
            (partition("/a/b"), ROOT, MEMBER),
            (cpus("/a/b"), set("4-7"), set("")),
            (exclusive("/a/b"), set("4-7"), set("")),
            (exclusive("/a"), set("4-7"), set("")),
        ]),
        [
            "cpuset.cpus.partition of /a/b -> member",
            "cpuset.cpus.exclusive of /a/b -> none",
            "cpuset.cpus.exclusive of /a -> none",
            "cpuset.cpus of /shared -> 0-7",
            "cpuset.cpus of /a/b -> none",
        ]
    );
}

#[test]
fn a_partition_grows_from_the_top_and_shrinks_from_the_leaf() {
    let grow = [
        (cpus("/a/b"), set("4-5"), set("4-7")),
        (exclusive("/a/b"), set("4-5"), set("4-7")),
        (exclusive("/a"), set("4-5"), set("4-7")),
    ];
    assert_eq!(
        order(&grow),
        [
            "cpuset.cpus.exclusive of /a -> 4-7",
            "cpuset.cpus.exclusive of /a/b -> 4-7",
            "cpuset.cpus of /a/b -> 4-7",
        ]
    );
    let shrink = grow.map(|(knob, from, to)| (knob, to, from));
    assert_eq!(
        order(&shrink),
        [
            "cpuset.cpus of /a/b -> 4-5",
            "cpuset.cpus.exclusive of /a/b -> 4-5",
            "cpuset.cpus.exclusive of /a -> 4-5",
        ]
    );
}

#[test]
fn a_set_that_loses_and_gains_goes_by_what_it_keeps() {
    assert_eq!(
        order(&[(cpus("/shared"), set("0-5"), set("4-7"))]),
        [
            "cpuset.cpus of /shared -> 4-5",
            "cpuset.cpus of /shared -> 4-7"
        ]
    );
}

#[test]
fn memory_rises_with_max_first_and_falls_with_high_first() {
    let rise = [(max("/a"), at(100), at(200)), (high("/a"), at(80), at(160))];
    assert_eq!(
        order(&rise),
        ["memory.max of /a -> 200", "memory.high of /a -> 160"]
    );
    let fall = rise.map(|(knob, from, to)| (knob, to, from));
    assert_eq!(
        order(&fall),
        ["memory.high of /a -> 80", "memory.max of /a -> 100"]
    );
}

#[test]
fn a_writer_is_throttled_only_under_memory_high() {
    let io = Knob::IoMax {
        cgroup: "/a".into(),
        device: "254:0".parse().unwrap(),
    };
    let limits = |wbps| {
        Value::Io(IoMax {
            rbps: Limit::Max,
            wbps,
            riops: Limit::Max,
            wiops: Limit::Max,
        })
    };
    let tight = limits(Limit::At(5));
    let none = limits(Limit::Max);
    let on = [
        (io, none, tight),
        (high("/a"), Value::Limit(Limit::Max), at(80)),
    ];
    let order_on = order(&on);
    assert!(order_on[0].starts_with("memory.high"), "{order_on:?}");
    let off = on.map(|(knob, from, to)| (knob, to, from));
    let order_off = order(&off);
    assert!(order_off[0].starts_with("io.max"), "{order_off:?}");
}

#[test]
fn a_quota_stands_before_files_count_against_it_and_after() {
    let limits = Value::Quota {
        bytes: Limit::At(1),
        inodes: Limit::Max,
    };
    let quota = Knob::Quota {
        dir: "/data".into(),
        project: 7,
    };
    let tag = Knob::Project {
        dir: "/data/a".into(),
    };
    let on = [
        (tag, Value::Project(0), Value::Project(7)),
        (quota, Value::Unset, limits),
    ];
    assert!(order(&on)[0].starts_with("quota of project 7"));
    let off = on.map(|(knob, from, to)| (knob, to, from));
    assert!(order(&off)[0].starts_with("project of /data/a"));
}

#[test]
fn packet_work_leaves_before_cpus_do_and_comes_after_them() {
    let irq = Knob::Irq { irq: 30 };
    let shrink = [
        (cpus("/a"), set("4-7"), set("4-5")),
        (irq, set("4-7"), set("4-5")),
    ];
    assert!(order(&shrink)[0].starts_with("affinity"));
    let grow = shrink.map(|(knob, from, to)| (knob, to, from));
    assert!(order(&grow)[1].starts_with("affinity"));
}

#[test]
fn what_does_not_exist_or_is_right_needs_no_step() {
    let live = Live::from([(max("/a"), at(5))]);
    let wish = |value| Wish {
        value,
        owner: None,
        why: String::new(),
    };
    let wanted = Wanted::from([(max("/a"), wish(at(5))), (max("/gone"), wish(at(5)))]);
    assert_eq!(steps(&live, &wanted), []);
}

#[test]
fn room_is_looked_at_only_where_a_limit_falls() {
    let step = |knob: Knob, from, to| Step {
        knob,
        from,
        to,
        owner: None,
        why: String::new(),
    };
    assert!(needs_room(&step(max("/a"), at(9), at(5))));
    assert!(needs_room(&step(
        max("/a"),
        Value::Limit(Limit::Max),
        at(5)
    )));
    assert!(!needs_room(&step(max("/a"), at(5), at(9))));
    assert!(!needs_room(&step(
        max("/a"),
        at(5),
        Value::Limit(Limit::Max)
    )));
    assert!(!needs_room(&step(high("/a"), at(9), at(5))));
}

#[test]
fn a_sibling_that_has_to_go_elsewhere_goes_before_its_cpus_are_taken() {
    let order = order(&[
        (cpus("/p/side"), set("2-3"), set("10-15")),
        (exclusive("/p"), set(""), set("2-7")),
        (exclusive("/p/a"), set(""), set("2-7")),
    ]);
    assert_eq!(order[0], "cpuset.cpus of /p/side -> 10-15");
}
