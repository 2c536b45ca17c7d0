//! Transactions on a node without a kernel: every step failed, the agent killed at every
//! step, every change by others, and any order of requests.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use berth_kernel::{CpuSet, Limit, Root};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::audits::{Foreign, Place};
use super::errands::{Ended, Errand, Try};
use super::handle::{Asked, Change, Outcome, Peer};
use super::knob::{Knob, Partition, Value};
use super::*;
use crate::refusal::Code;
use crate::spec::PartitionWish;

mod fake;

use fake::{DEATH, Fake, Strike};

/// A node, a place for records, and an engine over both that can die.
struct Bench {
    dir: TempDir,
    node: Fake,
    engine: Option<Engine<Fake>>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let boot = dir.path().join("proc/sys/kernel/random");
        std::fs::create_dir_all(&boot).unwrap();
        std::fs::write(boot.join("boot_id"), "b7\n").unwrap();
        let node = Fake::default();
        for (n, path) in ["/a", "/a/one", "/a/two", "/b", "/b/three", "/b/four"]
            .iter()
            .enumerate()
        {
            node.cgroup(path, 100 + n as u64);
        }
        let mut bench = Self {
            dir,
            node,
            engine: None,
        };
        bench.start();
        bench
    }

    /// Starts an agent, after the old one is gone.
    fn start(&mut self) {
        self.engine = None;
        let root = Root::under(self.dir.path());
        let store = Store::open(&root, "a test").unwrap();
        let config = Config::default();
        let engine = Engine::new(self.node.clone(), config, store, Events::new()).unwrap();
        self.engine = Some(engine);
        self.pass();
    }

    fn engine(&mut self) -> &mut Engine<Fake> {
        self.engine.as_mut().unwrap()
    }

    fn pass(&mut self) -> reconcile::Pass {
        self.engine().reconcile().unwrap()
    }

    fn ask(&mut self, change: Change) -> Result<Outcome, Refusal> {
        let asked = Asked {
            change,
            if_match: None,
            dry_run: false,
            by: Peer {
                uid: 0,
                gid: 0,
                pid: 1,
            },
        };
        self.engine().answer(&asked)
    }

    fn put(&mut self, spec: Json) -> Result<Outcome, Refusal> {
        let id = spec["id"].as_str().unwrap().parse().unwrap();
        self.ask(Change::Put { id, body: spec })
    }

    fn delete(&mut self, id: &str) -> Result<Outcome, Refusal> {
        self.ask(Change::Delete {
            id: id.parse().unwrap(),
        })
    }

    /// The same with an agent that is struck; true if it died of it.
    fn struck(&mut self, at: usize, strike: Strike, spec: &Json) -> (bool, Option<Refusal>) {
        {
            let mut state = self.node.0.borrow_mut();
            state.writes = 0;
            state.strike = Some((at, strike));
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| self.put(spec.clone())));
        self.node.0.borrow_mut().strike = None;
        match outcome {
            Ok(answer) => (false, answer.err()),
            Err(panic) => {
                assert_eq!(panic.downcast_ref::<String>().unwrap(), DEATH);
                (true, None)
            }
        }
    }

    fn writes(&self) -> usize {
        self.node.0.borrow().writes
    }

    fn events(&mut self, kind: &str) -> Vec<String> {
        self.engine().flush_events();
        let events = self.engine().events.since(0);
        let kind = events.into_iter().filter(|event| event.kind == kind);
        kind.map(|event| format!("{} {} -> {}", event.object, event.old, event.new))
            .collect()
    }
}

fn exclusive(id: &str, cgroup: &str, cores: u32) -> Json {
    json!({"id": id, "target": {"cgroup": cgroup}, "cpu": {"cores": cores}})
}

fn whole(id: &str, cgroup: &str, cores: u32, memory: u64) -> Json {
    json!({
        "id": id, "target": {"cgroup": cgroup}, "cpu": {"cores": cores},
        "memory": {"max_bytes": memory, "numa": "bind"},
        "disk": [{"path": "/data/one", "limit_bytes": 1_000_000}],
        "io": [{"path": "/data", "share": 0.25}],
    })
}

fn cpus(cgroup: &str) -> Knob {
    Knob::Cpus {
        cgroup: cgroup.into(),
    }
}

fn handed(cgroup: &str) -> Knob {
    Knob::ExclusiveCpus {
        cgroup: cgroup.into(),
    }
}

fn partition(cgroup: &str) -> Knob {
    Knob::Partition {
        cgroup: cgroup.into(),
    }
}

fn set(list: &str) -> Value {
    Value::Set(list.parse().unwrap())
}

#[test]
fn a_workload_gets_all_it_wished_for_and_leaves_nothing() {
    let mut bench = Bench::new();
    bench
        .node
        .0
        .borrow_mut()
        .directories
        .insert("/data/one".into(), 0);
    let generation = bench.engine().store.generation();
    let outcome = bench.put(whole("game", "/a/one", 2, 1 << 30)).unwrap();
    assert!(outcome.created);
    assert!(outcome.generation > generation);
    let touched = bench.node.touched();
    assert_eq!(
        touched[&partition("/a/one")],
        Value::Partition(Partition::Of(PartitionWish::Root))
    );
    assert_eq!(
        touched[&Knob::Project {
            dir: "/data/one".into()
        }],
        Value::Project(1)
    );
    assert_eq!(
        touched[&handed("/a/one")],
        touched[&Knob::ExclusiveCpus {
            cgroup: "/a".into()
        }]
    );
    assert!(touched.contains_key(&Knob::Mems {
        cgroup: "/a/one".into()
    }));
    let pass = bench.pass();
    assert_eq!((pass.applied, pass.repaired, pass.failed), (0, 0, 0));
    bench.delete("game").unwrap();
    assert_eq!(bench.node.touched(), Default::default());
    assert!(bench.engine().store.before().entries.is_empty());
    assert!(bench.engine().records().is_empty());
}

#[test]
fn what_others_had_set_comes_back() {
    let mut bench = Bench::new();
    let max = Knob::MemoryMax {
        cgroup: "/a/one".into(),
    };
    let foreign = Value::Limit(Limit::At(3 << 30));
    bench.node.meddle(&max, foreign.clone());
    bench
        .put(json!({"id": "game", "target": {"cgroup": "/a/one"},
        "memory": {"max_bytes": 1 << 30}}))
        .unwrap();
    assert_eq!(bench.node.get(&max), Some(Value::Limit(Limit::At(1 << 30))));
    bench.start();
    bench.delete("game").unwrap();
    assert_eq!(bench.node.get(&max), Some(foreign));
}

#[test]
fn a_step_that_fails_takes_back_all() {
    for resize in [false, true] {
        for strike in [Strike::FailBefore, Strike::FailAfter] {
            each_strike(resize, strike);
        }
    }
}

#[test]
fn an_agent_that_dies_at_any_step_is_taken_back_by_the_next() {
    for resize in [false, true] {
        for strike in [Strike::DieBefore, Strike::DieAfter] {
            each_strike(resize, strike);
        }
    }
}

/// Strikes at every write of a creation, or of a resize, and compares with before.
fn each_strike(resize: bool, strike: Strike) {
    for at in 0.. {
        let mut bench = Bench::new();
        bench
            .node
            .0
            .borrow_mut()
            .directories
            .insert("/data/one".into(), 0);
        bench.put(exclusive("other", "/b/three", 1)).unwrap();
        bench
            .put(json!({"id": "shared", "target": {"cgroup": "/b/four"},
            "cpu": {"cores": 1, "mode": "shared"}}))
            .unwrap();
        if resize {
            bench.put(whole("game", "/a/one", 1, 1 << 30)).unwrap();
        }
        let before = bench.node.touched();
        let known = bench.engine().records().keys().cloned().collect::<Vec<_>>();
        let cpus_before = bench
            .engine()
            .records()
            .get(&"game".parse().unwrap())
            .map(|r| r.cpus.clone());
        // As many as stay on the node that it has its first core on.
        let wish = whole("game", "/a/one", 2, 2 << 30);
        let (died, refusal) = bench.struck(at, strike, &wish);
        if !died && refusal.is_none() {
            assert!(
                bench.writes() <= at,
                "a strike at write {at} went unnoticed"
            );
            assert!(at > 4, "only {at} writes");
            return;
        }
        if died {
            bench.start();
        }
        assert_eq!(bench.node.touched(), before, "{strike:?} at write {at}");
        assert_eq!(
            bench.engine().records().keys().cloned().collect::<Vec<_>>(),
            known
        );
        let cpus_after = bench
            .engine()
            .records()
            .get(&"game".parse().unwrap())
            .map(|r| r.cpus.clone());
        assert_eq!(cpus_after, cpus_before);
        if let Some(refusal) = refusal {
            assert_eq!(refusal.code, Code::Kernel, "{refusal}");
        }
        bench.put(wish).unwrap();
    }
}

#[test]
fn a_release_that_is_killed_is_ended_by_the_next_agent() {
    for at in 0.. {
        let mut bench = Bench::new();
        bench
            .node
            .0
            .borrow_mut()
            .directories
            .insert("/data/one".into(), 0);
        bench.put(whole("game", "/a/one", 2, 1 << 30)).unwrap();
        {
            let mut state = bench.node.0.borrow_mut();
            state.writes = 0;
            state.strike = Some((at, Strike::DieAfter));
        }
        let died = catch_unwind(AssertUnwindSafe(|| bench.delete("game"))).is_err();
        bench.node.0.borrow_mut().strike = None;
        if !died {
            assert!(at > 5);
            return;
        }
        bench.start();
        assert_eq!(
            bench.node.touched(),
            Default::default(),
            "killed at write {at}"
        );
        assert!(bench.engine().records().is_empty());
    }
}

#[test]
fn a_release_that_fails_stays_booked_and_is_tried_again() {
    let mut bench = Bench::new();
    bench.put(exclusive("game", "/a/one", 2)).unwrap();
    let stuck = partition("/a/one");
    bench.node.0.borrow_mut().refused.insert(stuck.clone());
    let refusal = bench.delete("game").unwrap_err();
    assert_eq!(refusal.code, Code::RollbackIncomplete);
    assert_eq!(bench.engine().records().len(), 1);
    bench.node.0.borrow_mut().refused.clear();
    bench.pass();
    assert_eq!(bench.node.touched(), Default::default());
    assert!(bench.engine().records().is_empty());
}

#[test]
fn what_others_change_is_put_right_counted_and_named() {
    let mut bench = Bench::new();
    bench.put(exclusive("game", "/a/one", 2)).unwrap();
    let wished = bench.node.get(&handed("/a/one")).unwrap();
    bench.pass();
    bench.node.meddle(&cpus("/a/one"), set("14-15"));
    assert_eq!(bench.pass().repaired, 1);
    assert_eq!(bench.node.get(&cpus("/a/one")), Some(wished.clone()));
    assert_eq!(
        bench.events("repair"),
        [format!("cpuset.cpus of /a/one 14-15 -> {wished}")]
    );
    let id = "game".parse().unwrap();
    assert_eq!(bench.engine().records()[&id].repairs, 1);
    assert_eq!(bench.pass().repaired, 0);
}

#[test]
fn a_sibling_that_overlaps_is_narrowed_first_and_gets_its_cpus_back() {
    let mut bench = Bench::new();
    bench.put(exclusive("game", "/a/one", 2)).unwrap();
    let Some(Value::Set(own)) = bench.node.get(&handed("/a/one")) else {
        panic!("no CPUs");
    };
    bench.node.meddle(&cpus("/a/two"), set("0-15"));
    let why = "Cpu list in cpuset.cpus not exclusive".to_owned();
    let invalid = Value::Partition(Partition::Invalid(PartitionWish::Root, why));
    bench.node.meddle(&partition("/a/one"), invalid);
    assert_eq!(bench.pass().failed, 0);
    let all: CpuSet = "0-15".parse().unwrap();
    assert_eq!(
        bench.node.get(&cpus("/a/two")),
        Some(Value::Set(all.difference(&own)))
    );
    let valid = Value::Partition(Partition::Of(PartitionWish::Root));
    assert_eq!(bench.node.get(&partition("/a/one")), Some(valid));
    bench.delete("game").unwrap();
    assert_eq!(bench.node.get(&cpus("/a/two")), Some(set("0-15")));
}

#[test]
fn who_keeps_changing_it_back_is_let_be_for_a_while() {
    let mut bench = Bench::new();
    bench.put(exclusive("game", "/a/one", 2)).unwrap();
    let mut repaired = 0;
    for _ in 0..10 {
        bench.node.meddle(&cpus("/a/one"), set("14-15"));
        repaired += bench.pass().repaired;
    }
    assert_eq!(repaired, 5);
    assert_eq!(bench.events("fight").len(), 1);
    assert!(
        bench
            .engine()
            .conditions()
            .iter()
            .any(|c| c.kind == "not-enforced")
    );
}

#[test]
fn a_target_that_goes_and_comes_back_gets_everything_again() {
    let mut bench = Bench::new();
    bench.put(exclusive("game", "/a/one", 2)).unwrap();
    let set_before = bench.node.touched();
    bench.node.remove_cgroup("/a/one");
    bench.pass();
    assert_eq!(bench.events("lost").len(), 1);
    let held = bench.engine().records()[&"game".parse().unwrap()]
        .cpus
        .clone();
    assert!(held.is_some());
    bench.node.cgroup("/a/one", 777);
    bench.pass();
    assert_eq!(bench.events("returned").len(), 1);
    assert_eq!(bench.node.touched(), set_before);
}

#[test]
fn a_reservation_books_and_sets_nothing_until_its_target_comes() {
    let mut bench = Bench::new();
    bench.put(exclusive("game", "/a/late", 2)).unwrap();
    assert_eq!(bench.node.touched(), Default::default());
    assert_eq!(
        bench
            .put(exclusive("big", "/a/one", 2))
            .err()
            .map(|r| r.code),
        None
    );
    let refusal = bench.put(exclusive("more", "/a/two", 3)).unwrap_err();
    assert_eq!(refusal.code, Code::DoesNotFit);
    assert!(!refusal.missing.is_empty());
    bench.node.cgroup("/a/late", 55);
    bench.pass();
    assert!(bench.node.touched().contains_key(&partition("/a/late")));
}

#[test]
fn beside_another_pinner_no_core_is_exclusive() {
    let mut bench = Bench::new();
    bench.node.0.borrow_mut().rivals =
        vec![("kubelet (static policy)".into(), "set it to none".into())];
    let refusal = bench.put(exclusive("game", "/a/one", 2)).unwrap_err();
    assert_eq!(refusal.code, Code::Conflict);
    assert!(refusal.reason.contains("kubelet"), "{refusal}");
    bench.pass();
    assert!(
        bench
            .engine()
            .conditions()
            .iter()
            .any(|c| c.kind == "other-pinner")
    );
}

/// A release by a process that is no agent: a new engine without a pass.
fn alone(bench: &mut Bench, dry_run: bool) -> anyhow::Result<Outcome> {
    bench.engine = None;
    let root = Root::under(bench.dir.path());
    let store = Store::open(&root, "a test").unwrap();
    let config = Config {
        require_if_match: true,
        ..Config::default()
    };
    let mut engine = Engine::new(bench.node.clone(), config, store, Events::new()).unwrap();
    let by = Peer {
        uid: 0,
        gid: 0,
        pid: 1,
    };
    let outcome = engine.release_alone(dry_run, by);
    bench.engine = Some(engine);
    outcome
}

#[test]
fn without_an_agent_all_is_put_back_and_told() {
    let mut bench = Bench::new();
    let node = bench.node.clone();
    node.0
        .borrow_mut()
        .directories
        .insert("/data/one".into(), 0);
    bench.put(whole("game", "/a/one", 2, 1 << 30)).unwrap();
    bench.put(exclusive("proxy", "/b/three", 1)).unwrap();
    let set_before = node.touched();
    let planned = alone(&mut bench, true).unwrap();
    assert_eq!(node.touched(), set_before);
    assert!(planned.plan.len() > 8);
    let generation = bench.engine().store.generation();
    let outcome = alone(&mut bench, false).unwrap();
    assert_eq!(node.touched(), Default::default());
    assert!(bench.engine().records().is_empty());
    assert!(outcome.generation > generation);
    assert_eq!(
        outcome.notes,
        ["workload game released", "workload proxy released"]
    );
    let told: BTreeSet<String> = outcome.plan.into_iter().map(|step| step.object).collect();
    for knob in set_before.keys() {
        assert!(told.contains(&knob.to_string()), "{knob} is not told");
    }
    assert_eq!(alone(&mut bench, false).unwrap().plan, []);
}

#[test]
fn without_an_agent_a_request_killed_half_way_is_taken_back_too() {
    for at in 0.. {
        let mut bench = Bench::new();
        let node = bench.node.clone();
        bench.put(exclusive("game", "/a/one", 1)).unwrap();
        let mut wish = exclusive("game", "/a/one", 2);
        wish["memory"] = json!({"max_bytes": 1 << 30, "numa": "bind"});
        if !bench.struck(at, Strike::DieAfter, &wish).0 {
            assert!(at > 3);
            return;
        }
        alone(&mut bench, false).unwrap();
        assert_eq!(node.touched(), Default::default(), "killed at write {at}");
        assert!(bench.engine().records().is_empty());
    }
}

#[test]
fn without_an_agent_the_limits_of_a_cgroup_that_came_since_are_its_own() {
    let mut bench = Bench::new();
    let node = bench.node.clone();
    let max = Knob::MemoryMax {
        cgroup: "/a/one".into(),
    };
    bench
        .put(json!({"id": "game", "target": {"cgroup": "/a/one"},
            "memory": {"max_bytes": 1 << 30}}))
        .unwrap();
    node.remove_cgroup("/a/one");
    node.cgroup("/a/one", 777);
    let theirs = Value::Limit(Limit::At(5 << 30));
    node.meddle(&max, theirs.clone());
    alone(&mut bench, false).unwrap();
    assert_eq!(node.get(&max), Some(theirs));
}

#[test]
fn without_an_agent_what_cannot_be_put_back_is_an_error_and_may_be_repeated() {
    let mut bench = Bench::new();
    bench.put(exclusive("game", "/a/one", 2)).unwrap();
    let stuck = partition("/a/one");
    bench.node.0.borrow_mut().refused.insert(stuck.clone());
    let error = alone(&mut bench, false).unwrap_err().to_string();
    for part in ["game", &stuck.to_string(), "berth release --all again"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(bench.engine().records().len(), 1);
    bench.node.0.borrow_mut().refused.clear();
    alone(&mut bench, false).unwrap();
    assert_eq!(bench.node.touched(), Default::default());
}

#[test]
fn plugins_are_told_the_reserved_cpus_that_run() {
    let mut bench = Bench::new();
    let node = bench.node.clone();
    let told = |bench: &mut Bench| {
        bench.pass();
        bench.engine().tell_housekeeping();
        node.0.borrow().housekeeping.to_string()
    };
    assert_eq!(told(&mut bench), "0-1,8-9");
    node.0.borrow_mut().offline = "9".parse().unwrap();
    assert_eq!(told(&mut bench), "0-1,8");
    let condition = handle::Condition {
        kind: "node-file".to_owned(),
        object: "run/berth/node.json".to_owned(),
        effect: "plugins are not told".to_owned(),
        reason: "no space".to_owned(),
        remedy: "make room".to_owned(),
    };
    node.0.borrow_mut().deaf = Some(condition.clone());
    told(&mut bench);
    let reported = |bench: &mut Bench| bench.engine().capacity().conditions.contains(&condition);
    assert!(reported(&mut bench));
    node.0.borrow_mut().deaf = None;
    told(&mut bench);
    assert!(!reported(&mut bench));
}

fn vf(n: u32) -> PciAddr {
    format!("0000:01:10.{n}").parse().unwrap()
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

impl Bench {
    /// What the engine does beside a pass, at `now`; what it sent for.
    fn errands(&mut self, now: Instant) -> Vec<Errand> {
        self.engine().run_errands(now);
        self.engine().look_around();
        std::mem::take(&mut self.node.0.borrow_mut().sent)
    }

    fn end(&mut self, ended: Ended) {
        self.node.0.borrow_mut().ended.push(ended);
    }

    fn conditions(&mut self, kind: &str) -> Vec<handle::Condition> {
        let mut all = self.engine().capacity().conditions;
        all.retain(|condition| condition.kind == kind);
        all
    }
}

#[test]
fn a_vf_in_quarantine_is_tried_again_until_it_is_free() {
    let mut bench = Bench::new();
    let node = bench.node.clone();
    let differs = "MTU is 9000 and was 1500".to_owned();
    node.0
        .borrow_mut()
        .quarantined
        .insert(vf(0), differs.clone());
    let start = Instant::now();
    assert_eq!(bench.errands(start), []);
    let [condition] = &bench.conditions("vf-quarantined")[..] else {
        panic!("no condition");
    };
    assert_eq!(
        (&condition.object, &condition.reason),
        (&format!("VF {}", vf(0)), &differs)
    );
    assert!(condition.remedy.contains("berth vf release 0000:01:10.0"));
    assert_eq!(bench.errands(start + seconds(10)), [Errand::Free(vf(0))]);
    assert_eq!(bench.errands(start + seconds(20)), [], "it is under way");
    let why = format!("it could not be brought back: {differs}");
    for (at, tries) in [(30, 1), (40, 2)] {
        bench.end(Ended::Free(vf(0), Try::Failed(why.clone())));
        assert_eq!(bench.errands(start + seconds(at)), []);
        let said = &bench.conditions("vf-quarantined")[0].reason;
        assert_eq!(said, &format!("tried {tries} times, {why}"));
        assert_eq!(
            bench.errands(start + seconds(at + 10 * tries)),
            [Errand::Free(vf(0))]
        );
    }
    assert_eq!(
        bench.events("vf-stuck").len(),
        1,
        "the same reason is told once"
    );
    let generation = bench.engine().store.generation();
    {
        let mut state = node.0.borrow_mut();
        state.quarantined.clear();
        state.free.push(vf(0));
    }
    bench.end(Ended::Free(
        vf(0),
        Try::Freed("reset, and brought back".to_owned()),
    ));
    assert_eq!(bench.errands(start + seconds(70)), []);
    assert!(bench.engine().store.generation() > generation);
    assert!(bench.conditions("vf-quarantined").is_empty());
    assert_eq!(
        bench.events("vf-released"),
        ["VF 0000:01:10.0 quarantined -> free"]
    );
}

#[test]
fn a_vf_that_another_works_on_is_left_to_it_and_no_failure() {
    let mut bench = Bench::new();
    let node = bench.node.clone();
    node.0
        .borrow_mut()
        .quarantined
        .insert(vf(0), "differs".to_owned());
    let start = Instant::now();
    bench.errands(start);
    assert_eq!(bench.errands(start + seconds(10)), [Errand::Free(vf(0))]);
    let held = "lock vf-0000:01:10.0 is held by pid 7 for game/web-1:net1";
    bench.end(Ended::Free(vf(0), Try::NotNow(held.to_owned())));
    assert_eq!(bench.errands(start + seconds(11)), []);
    assert_eq!(bench.conditions("vf-quarantined")[0].reason, "differs");
    assert!(bench.events("vf-stuck").is_empty());
    assert_eq!(bench.errands(start + seconds(21)), [Errand::Free(vf(0))]);
}

#[test]
fn files_that_leave_their_quota_are_found_told_and_cleared() {
    let mut bench = Bench::new();
    let node = bench.node.clone();
    node.0
        .borrow_mut()
        .directories
        .insert("/data/one".into(), 0);
    let start = Instant::now();
    assert_eq!(
        bench.errands(start + seconds(7200)),
        [],
        "nothing has a quota"
    );
    bench.put(whole("game", "/a/one", 2, 1 << 30)).unwrap();
    let place = Place {
        dir: "/data/one".into(),
        project: 1,
    };
    bench.errands(start);
    assert_eq!(
        bench.errands(start + seconds(60)),
        [Errand::Audit(place.clone())]
    );
    let left = Foreign {
        count: 12,
        example: Some("/data/one/world/big".into()),
    };
    bench.end(Ended::Audit(place.clone(), Ok(left)));
    assert_eq!(bench.errands(start + seconds(70)), []);
    let [condition] = &bench.conditions("quota-escape")[..] else {
        panic!("no condition");
    };
    assert_eq!(condition.object, "/data/one");
    for part in ["12 files", "project 1", "/data/one/world/big"] {
        assert!(condition.reason.contains(part), "{condition:?}");
    }
    assert!(condition.remedy.contains("chattr -R -p 1 /data/one"));
    let published = bench.engine().publish();
    let own = &published.workloads[&"game".parse().unwrap()].conditions;
    assert!(own.contains(condition));
    assert_eq!(bench.events("quota-escape"), ["/data/one  -> "]);
    let events = bench.engine().events.since(0);
    let told = events.iter().find(|event| event.kind == "quota-escape");
    assert_eq!(told.unwrap().workload, Some("game".parse().unwrap()));
    let due = start + seconds(70 + 3600);
    assert_eq!(bench.errands(due), [Errand::Audit(place.clone())]);
    bench.end(Ended::Audit(place.clone(), Ok(Foreign::default())));
    assert_eq!(bench.errands(due), []);
    assert!(bench.conditions("quota-escape").is_empty());
    assert_eq!(bench.events("quota-whole").len(), 1);
    // One that comes late is of no quota that there is.
    let late = due + seconds(3600);
    assert_eq!(bench.errands(late), [Errand::Audit(place.clone())]);
    bench.delete("game").unwrap();
    let all = Foreign {
        count: 1,
        example: None,
    };
    bench.end(Ended::Audit(place, Ok(all)));
    bench.errands(late);
    assert!(bench.conditions("quota-escape").is_empty());
}

#[test]
fn what_is_refused_or_fought_over_names_what_helps_with_that_knob() {
    let mut bench = Bench::new();
    let refused = |bench: &mut Bench, knob: &Knob, spec: Json| {
        bench.node.0.borrow_mut().refused.insert(knob.clone());
        let refusal = bench.put(spec).unwrap_err();
        bench.node.0.borrow_mut().refused.clear();
        refusal.next
    };
    let next = refused(
        &mut bench,
        &partition("/a/one"),
        exclusive("game", "/a/one", 2),
    );
    assert!(
        next.contains("taken back") && next.contains("reason in cpuset.cpus.partition"),
        "{next}"
    );
    let high = Knob::MemoryHigh {
        cgroup: "/a/one".into(),
    };
    let wish = json!({"id": "game", "target": {"cgroup": "/a/one"},
        "memory": {"max_bytes": 1 << 30}});
    let next = refused(&mut bench, &high, wish);
    assert!(next.contains("memory.current"), "{next}");
    bench.put(exclusive("game", "/a/one", 2)).unwrap();
    for _ in 0..6 {
        bench.node.meddle(&cpus("/a/one"), set("14-15"));
        bench.pass();
    }
    let [condition] = &bench.conditions("not-enforced")[..] else {
        panic!("no condition");
    };
    for part in ["stop what else sets it", "cpuset.cpus.exclusive"] {
        assert!(condition.remedy.contains(part), "{condition:?}");
    }
}

#[test]
fn memory_in_use_is_never_taken_away() {
    let mut bench = Bench::new();
    let of = |bytes: u64| {
        json!({"id": "game", "target": {"cgroup": "/a/one"},
        "memory": {"max_bytes": bytes}})
    };
    bench.put(of(1 << 30)).unwrap();
    bench
        .node
        .0
        .borrow_mut()
        .memory
        .insert("/a/one".into(), 600 << 20);
    let refusal = bench.put(of(512 << 20)).unwrap_err();
    assert_eq!(refusal.code, Code::DoesNotFit);
    assert_eq!(refusal.missing[0].asked, 600 << 20);
    bench.put(of(700 << 20)).unwrap();
}

#[test]
fn what_a_plugin_has_put_back_is_not_put_back_again() {
    for orphaned in [false, true] {
        let mut bench = Bench::new();
        let irq = Knob::Irq { irq: 45 };
        let wish = (irq.clone(), set("2-3"), "its cores".to_owned());
        bench.node.0.borrow_mut().packets.push(wish);
        assert_eq!(bench.pass().applied, 1);
        assert!(bench.engine().store.before().get(&irq).is_some());
        // DEL, and another device got the number.
        bench.node.0.borrow_mut().packets.clear();
        bench.node.meddle(&irq, set("7"));
        if orphaned {
            bench.node.0.borrow_mut().put_back.push(irq.clone());
        }
        bench.pass();
        let stands = if orphaned { set("7") } else { set("0-15") };
        assert_eq!(bench.node.get(&irq), Some(stands));
        assert!(bench.engine().store.before().entries.is_empty());
    }
}

#[test]
fn two_workloads_share_no_cgroup() {
    let mut bench = Bench::new();
    bench.put(exclusive("game", "/a/one", 1)).unwrap();
    for cgroup in ["/a/one", "/a"] {
        let refusal = bench.put(exclusive("other", cgroup, 1)).unwrap_err();
        assert_eq!(refusal.code, Code::Conflict, "{cgroup}");
        assert!(refusal.next.contains("game"), "{refusal}");
    }
}

#[test]
fn an_old_generation_is_refused_with_the_present_one() {
    let mut bench = Bench::new();
    let generation = bench.engine().store.generation();
    bench.put(exclusive("game", "/a/one", 1)).unwrap();
    let asked = Asked {
        change: Change::Delete {
            id: "game".parse().unwrap(),
        },
        if_match: Some(generation),
        dry_run: false,
        by: Peer {
            uid: 0,
            gid: 0,
            pid: 1,
        },
    };
    let refusal = bench.engine().answer(&asked).unwrap_err();
    assert_eq!(refusal.code, Code::StaleGeneration);
    assert_eq!(refusal.generation, Some(bench.engine().store.generation()));
}

/// What a random client does.
#[derive(Debug, Clone)]
enum Act {
    Put(usize, u32),
    Shared(usize, u32),
    Delete(usize),
    Meddle(usize),
    Pass,
    Restart,
    Strike(usize, u32, usize),
}

const IDS: [(&str, &str); 4] = [
    ("w0", "/a/one"),
    ("w1", "/a/two"),
    ("w2", "/b/three"),
    ("w3", "/b/four"),
];

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..4_usize, 1..4_u32).prop_map(|(n, cores)| Act::Put(n, cores)),
        2 => (0..4_usize, 1..4_u32).prop_map(|(n, cores)| Act::Shared(n, cores)),
        2 => (0..4_usize).prop_map(Act::Delete),
        2 => (0..4_usize).prop_map(Act::Meddle),
        1 => Just(Act::Pass),
        1 => Just(Act::Restart),
        2 => (0..4_usize, 1..4_u32, 0..12_usize).prop_map(|(n, c, at)| Act::Strike(n, c, at)),
    ]
}

fn play(bench: &mut Bench, act: &Act) {
    match act {
        Act::Put(n, cores) => drop(bench.put(exclusive(IDS[*n].0, IDS[*n].1, *cores))),
        Act::Shared(n, cores) => drop(bench.put(json!({"id": IDS[*n].0,
            "target": {"cgroup": IDS[*n].1}, "cpu": {"cores": cores, "mode": "shared"}}))),
        Act::Delete(n) => drop(bench.delete(IDS[*n].0)),
        Act::Meddle(n) => bench.node.meddle(&cpus(IDS[*n].1), set("3,7,11")),
        Act::Pass => drop(bench.pass()),
        Act::Restart => bench.start(),
        Act::Strike(n, cores, at) => {
            let wish = exclusive(IDS[*n].0, IDS[*n].1, *cores);
            if bench.struck(*at, Strike::DieAfter, &wish).0 {
                bench.start();
            }
        }
    }
}

/// Exclusive CPUs have one owner, are never reserved ones, and leave the shared pool
/// what was promised of it.
fn books_balance(bench: &mut Bench) {
    let machine = fake::machine(&CpuSet::new());
    let records = bench.engine().records().clone();
    let mut taken = machine.reserved.clone();
    for record in records.values() {
        if let Some(cpus) = exclusive_cpus(record) {
            assert!(cpus.intersection(&taken).is_empty(), "{cpus} twice");
            taken = taken.union(cpus);
        }
    }
    let booked = booked(&machine, &records, None);
    let pool = cpu::shared_pool(&machine, &booked);
    assert!(pool.len() >= booked.shared_cpus as usize);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_requests_and_deaths_overbooks_or_leaves_anything(
        acts in prop::collection::vec(act(), 1..24)
    ) {
        let mut bench = Bench::new();
        let mut generation = 0;
        for act in &acts {
            play(&mut bench, act);
            books_balance(&mut bench);
            let now = bench.engine().store.generation();
            prop_assert!(now >= generation);
            generation = now;
        }
        bench.engine().troubles = Troubles::default();
        bench.pass();
        for (id, _) in IDS {
            drop(bench.delete(id));
        }
        bench.pass();
        for knob in IDS.map(|(_, cgroup)| cpus(cgroup)) {
            bench.node.0.borrow_mut().knobs.remove(&knob);
        }
        prop_assert_eq!(bench.node.touched(), Default::default());
    }
}
