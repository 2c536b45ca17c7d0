//! Exclusive cores, and that they stay so.

use std::collections::BTreeSet;
use std::time::Duration;

use berth_tests::cgroup::list;
use berth_tests::cpus::{self, Offline};
use berth_tests::{Cgroup, Node, Result, Test, Tree, ensure, poll, test};
use serde_json::json;

use crate::kit::{Agent, Home, LIMIT, NEEDS, cpus_of, cpusets, stays, text};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("exclusive_cores_are_exclusive", NEEDS, exclusive),
        test(
            "an_overlap_that_is_there_is_resolved",
            NEEDS,
            overlap_before,
        ),
        test("an_overlap_by_a_sibling_is_repaired", NEEDS, overlap_after),
        test("cpus_that_go_and_come_are_repaired", NEEDS, hotplug),
        test("outside_writes_are_repaired", NEEDS, outside_writes),
        test("a_fight_is_recognised", NEEDS, fight),
        test("shared_workloads_have_the_rest", NEEDS, shared),
        test("isolated_is_isolated", NEEDS, isolated),
    ]
    .into_iter()
    .map(|test| test.limit(Duration::from_secs(400)))
    .collect()
}

/// As many spinners as there are CPUs, in a cgroup nobody cares for, run on every CPU
/// but the exclusive ones; each workload runs on all of its own and no other.
fn exclusive(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-alone")?;
    let mut rest = Home::make(&tree, "rest")?;
    rest.worker.spin(16)?;
    let mut one = Home::make(&tree, "pod/one")?;
    let mut two = Home::make(&tree, "pod/two")?;
    let agent = Agent::start()?;
    let before = cpusets(&one.cgroup, &tree)?;
    for (id, home) in [("one", &mut one), ("two", &mut two)] {
        home.worker.spin(6)?;
        agent.set(id, &home.cores(2))?;
    }
    let (of_one, of_two) = (
        cpus_of(&agent.settled("one")?)?,
        cpus_of(&agent.settled("two")?)?,
    );
    ensure!(of_one.is_disjoint(&of_two), "{of_one:?} and {of_two:?}");
    whole_cores(&of_one)?;
    whole_cores(&of_two)?;
    let exclusive: BTreeSet<u32> = of_one.union(&of_two).copied().collect();
    let others: BTreeSet<u32> = cpus::online()?.difference(&exclusive).copied().collect();

    // What ran before the cores were taken does not count.
    for home in [&mut rest, &mut one, &mut two] {
        home.worker.ticks()?;
    }
    std::thread::sleep(Duration::from_secs(8));
    runs_on(&mut rest, &others)?;
    runs_on(&mut one, &of_one)?;
    runs_on(&mut two, &of_two)?;

    agent.delete("one")?;
    ensure!(two.cpus()? == of_two, "the neighbour's release moved it");
    agent.delete("two")?;
    ensure!(cpusets(&one.cgroup, &tree)? == before, "not as before");
    Ok(())
}

/// Since the last time it counted on no other than these CPUs, and soon on each of them:
/// a busy machine emulates sixteen CPUs slowly.
fn runs_on(home: &mut Home, cpus: &BTreeSet<u32>) -> Result<()> {
    let mut counted = BTreeSet::new();
    let name = home.cgroup.name();
    poll(&format!("{name} on all of {}", list(cpus)), LIMIT, || {
        counted.extend(home.worker.ticks()?.into_keys());
        ensure!(
            counted.is_subset(cpus),
            "{name} ran on {} and has {}",
            list(&counted),
            list(cpus)
        );
        Ok((counted == *cpus).then_some(()))
    })
}

fn whole_cores(cpus: &BTreeSet<u32>) -> Result<()> {
    let nodes: Result<BTreeSet<u32>> = cpus.iter().map(|cpu| cpus::node_of(*cpu)).collect();
    ensure!(nodes?.len() == 1, "{cpus:?} are on several NUMA nodes");
    for cpu in cpus {
        let core = cpus::threads_of_core(*cpu)?;
        ensure!(core.is_subset(cpus), "half of core {core:?} in {cpus:?}");
    }
    Ok(())
}

fn overlap_before(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-lap")?;
    let mut home = Home::make(&tree, "pod/game")?;
    let mut sibling = Home::make(&tree, "pod/side")?;
    // A larger set, and one so small that it lies in what is wished.
    for set in ["0-15", "2-3"] {
        sibling.cgroup.write("cpuset.cpus", set)?;
        let agent = Agent::start()?;
        agent.set("game", &home.cores(3))?;
        let cpus = cpus_of(&agent.settled("game")?)?;
        ensure!(home.cpus()? == cpus);
        ensure!(sibling.cpus()?.is_disjoint(&cpus), "the sibling runs there");
        agent.delete("game")?;
        ensure!(sibling.cgroup.read("cpuset.cpus")? == set, "not as before");
    }
    Ok(())
}

fn overlap_after(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-after")?;
    let mut home = Home::make(&tree, "pod/game")?;
    let mut sibling = Home::make(&tree, "pod/side")?;
    let agent = Agent::start()?;
    agent.set("game", &home.cores(2))?;
    let cpus = cpus_of(&agent.settled("game")?)?;
    let last = cpus.iter().next_back().copied().unwrap_or_default();
    for set in [format!("{last},0"), list(&cpus), "0-15".to_owned()] {
        let seen = agent.last_event()?;
        sibling.cgroup.write("cpuset.cpus", &set)?;
        agent.repaired(seen, "cpuset.cpus.partition")?;
        agent.settled("game")?;
        ensure!(home.cgroup.read("cpuset.cpus.partition")? == "root");
        ensure!(home.cpus()? == cpus, "other CPUs than before");
        ensure!(sibling.cpus()?.is_disjoint(&cpus), "it is still there");
    }
    ensure!(agent.repairs("game")? >= 3);
    agent.delete("game")
}

fn hotplug(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-plug")?;
    let mut home = Home::make(&tree, "pod/game")?;
    let agent = Agent::start()?;
    for partition in ["root", "isolated"] {
        let spec = home.spec(json!({"cpu": {"cores": 1, "partition": partition}}));
        agent.set("game", &spec)?;
        let cpus = cpus_of(&agent.settled("game")?)?;
        let seen = agent.last_event()?;
        let mut offline = Offline::default();
        let first = cpus.iter().next().copied().unwrap_or_default();
        offline.take(first)?;
        ensure!(home.cpus()?.len() == 1, "one thread is left");
        if partition == "isolated" {
            for cpu in cpus.iter().skip(1) {
                offline.take(*cpu)?;
            }
        }
        told_of(&agent, seen, "offline")?;
        let view = agent.view("game")?;
        ensure!(view["conditions"] != json!([]), "no condition: {view}");
        offline.bring_back()?;
        told_of(&agent, seen, "online")?;
        let view = agent.settled("game")?;
        ensure!(cpus_of(&view)? == cpus, "other CPUs: {view}");
        ensure!(home.cpus()? == cpus, "not all came back");
        ensure!(home.cgroup.read("cpuset.cpus.partition")? == partition);
        agent.delete("game")?;
    }
    Ok(())
}

fn told_of(agent: &Agent, seen: u64, kind: &str) -> Result<()> {
    poll(&format!("an event {kind}"), LIMIT, || {
        let events = agent.events_since(seen)?;
        Ok(events.iter().any(|e| e["kind"] == kind).then_some(()))
    })
}

fn outside_writes(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-out")?;
    let mut home = Home::make(&tree, "pod/game")?;
    let parent = tree.make("pod")?;
    let agent = Agent::start()?;
    let before = cpusets(&home.cgroup, &tree)?;
    let spec = home.spec(json!({
        "cpu": {"cores": 2}, "memory": {"max_bytes": 268_435_456_u64, "numa": "bind"},
        "io": [{"path": "/data/xfs", "write_bytes_per_sec": 5_242_880}],
    }));
    agent.set("game", &spec)?;
    let cpus = cpus_of(&agent.settled("game")?)?;
    let device = crate::kit::device_of("/data/xfs")?;
    let game = home.cgroup.clone();
    let writes: [(&Cgroup, &str, String); 9] = [
        (&game, "cpuset.cpus.partition", "member".to_owned()),
        (&game, "cpuset.cpus.exclusive", "\n".to_owned()),
        (&parent, "cpuset.cpus.exclusive", "\n".to_owned()),
        (tree.top(), "cpuset.cpus.exclusive", "\n".to_owned()),
        (&game, "cpuset.mems", "0-1".to_owned()),
        (&game, "memory.max", "max".to_owned()),
        (&game, "memory.high", "max".to_owned()),
        (&game, "io.max", format!("{device} wbps=max")),
        (&game, "io.max", format!("{device} wbps=1000")),
    ];
    for (number, (cgroup, file, value)) in writes.iter().enumerate() {
        let (seen, repairs) = (agent.last_event()?, agent.repairs("game")?);
        let was = cgroup.read(file)?;
        cgroup.write(file, value)?;
        let event = agent.repaired(seen, file)?;
        agent.settled("game")?;
        ensure!(
            cgroup.read(file)? == was,
            "write {number}: {file} is not as it was"
        );
        ensure!(home.cpus()? == cpus, "other CPUs after write {number}");
        ensure!(agent.repairs("game")? > repairs, "not counted: {event}");
        ensure!(text(&event, "workload") == "game", "{event}");
        // A pause, so that this is no fight.
        std::thread::sleep(Duration::from_secs(1));
    }
    let metrics = agent.http.get("/metrics")?;
    let counted = metrics.body.lines().any(|line| {
        line.starts_with("berth_repairs_total{") && line.contains("game") && !line.ends_with(" 0")
    });
    ensure!(counted, "no repairs in the metrics: {}", metrics.body);
    agent.delete("game")?;
    ensure!(cpusets(&home.cgroup, &tree)? == before, "not as before");
    Ok(())
}

fn fight(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-fight")?;
    let home = Home::make(&tree, "game")?;
    let agent = Agent::start()?;
    agent.set(
        "game",
        &home.spec(json!({"memory": {"max_bytes": 268_435_456_u64}})),
    )?;
    let seen = agent.last_event()?;
    let event = poll("a fight", LIMIT, || {
        if home.cgroup.read("memory.max")? != "max" {
            home.cgroup.write("memory.max", "max")?;
        }
        std::thread::sleep(Duration::from_millis(200));
        let events = agent.events_since(seen)?;
        Ok(events.iter().find(|e| e["kind"] == "fight").cloned())
    })?;
    ensure!(text(&event, "object").contains("memory.max"), "{event}");
    let view = agent.view("game")?;
    ensure!(view["conditions"] != json!([]), "no condition: {view}");
    // Whoever it was has stopped: the agent has the last word.
    agent.settled("game")?;
    ensure!(home.cgroup.number("memory.max")? == 268_435_456);
    agent.delete("game")
}

fn shared(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-pool")?;
    let mut game = Home::make(&tree, "pod/game")?;
    let mut shared = Home::make(&tree, "pod/shared")?;
    let agent = Agent::start()?;
    let weight = shared.cgroup.read("cpu.weight")?;
    let spec = shared.spec(json!({"cpu": {"cores": 2, "mode": "shared"}}));
    agent.set("shared", &spec)?;
    agent.set("game", &game.cores(3))?;
    agent.settled("shared")?;
    let (exclusive, pool) = (game.cpus()?, shared.cpus()?);
    ensure!(exclusive.is_disjoint(&pool), "{exclusive:?} and {pool:?}");
    ensure!(
        pool.len() >= 4,
        "the pool is smaller than promised: {pool:?}"
    );
    stays(Duration::from_secs(5), || {
        ensure!(game.cgroup.read("cpuset.cpus.partition")? == "root");
        Ok(())
    })?;
    agent.delete("game")?;
    agent.delete("shared")?;
    ensure!(shared.cgroup.read("cpu.weight")? == weight, "not as before");
    Ok(())
}

fn isolated(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-iso")?;
    let home = Home::make(&tree, "a/b/c")?;
    let agent = Agent::start()?;
    agent.set(
        "game",
        &home.spec(json!({"cpu": {"cores": 1, "partition": "isolated"}})),
    )?;
    let cpus = cpus_of(&agent.settled("game")?)?;
    ensure!(home.cgroup.read("cpuset.cpus.partition")? == "isolated");
    ensure!(
        Cgroup::root()
            .set("cpuset.cpus.isolated")?
            .is_superset(&cpus)
    );
    agent.change("game", &json!({"cpu": {"partition": "root"}}))?;
    ensure!(home.cgroup.read("cpuset.cpus.partition")? == "root");
    ensure!(
        home.cgroup.set("cpuset.cpus.effective")? == cpus,
        "it moved"
    );
    agent.delete("game")
}
