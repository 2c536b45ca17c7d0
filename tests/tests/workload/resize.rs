//! Live resize under a process that counts on which CPUs it runs and holds memory.

use std::collections::BTreeSet;
use std::time::Duration;

use berth_tests::cgroup::list;
use berth_tests::{Node, Result, Test, Tree, Worker, ensure, is_soak, poll, test};
use serde_json::json;

use crate::kit::{Agent, Home, LIMIT, MIB, NEEDS, Random, cpus_of, cpusets};

pub(crate) fn tests() -> Vec<Test> {
    vec![test("steps_lose_nothing", NEEDS, steps).limit(Duration::from_secs(1200))]
}

const STEPS: u32 = 20;
/// With full counts.
const ALL_STEPS: u32 = 100;
/// What the process holds. Page cache may be taken from it, the rest not.
const ANON: u64 = 32 * MIB;
const SHMEM: u64 = 32 * MIB;
const CACHE: u64 = 64 * MIB;

/// Random numbers of cores and limits of memory, by requests of one, the other or both.
/// A neighbour of steady size must not notice.
fn steps(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-size")?;
    let mut home = Home::make(&tree, "pod/game")?;
    let mut neighbour = Home::make(&tree, "pod/next")?;
    let agent = Agent::start()?;
    let before = cpusets(&home.cgroup, &tree)?;
    agent.set("next", &neighbour.cores(1))?;
    let of_neighbour = cpus_of(&agent.settled("next")?)?;
    let spec = home.spec(json!({"cpu": {"cores": 1}, "memory": {"max_bytes": 400 * MIB}}));
    agent.set("game", &spec)?;
    home.worker.hold(ANON, SHMEM, (CACHE, "/data/xfs/held"))?;
    home.worker.spin(8)?;

    let mut random = Random::seeded(0x0062_6572_7468);
    let mut cpus = cpus_of(&agent.settled("game")?)?;
    for step in 0..if is_soak() { ALL_STEPS } else { STEPS } {
        // Two free nodes' worth: 3 cores are the most one node has beside housekeeping.
        let cores = 1 + random.below(2);
        let max = (160 + 40 * random.below(7)) * MIB;
        let patch = match random.below(3) {
            0 => json!({"cpu": {"cores": cores}}),
            1 => json!({"memory": {"max_bytes": max}}),
            _ => json!({"cpu": {"cores": cores}, "memory": {"max_bytes": max}}),
        };
        let what = || format!("step {step}, {patch}");
        let view = agent
            .change("game", &patch)
            .map_err(|e| e.context(what()))?;
        let now = cpus_of(&view)?;
        kept(&cpus, &now).map_err(|e| e.context(what()))?;
        cpus = now;
        ensure!(
            home.cpus()? == cpus,
            "{}: the kernel has other CPUs",
            what()
        );
        runs(&mut home.worker, &cpus).map_err(|e| e.context(what()))?;
        if let Some(max) = patch["memory"]["max_bytes"].as_u64() {
            ensure!(home.cgroup.number("memory.max")? == max, "{}", what());
        }
        ensure!(
            home.cgroup.entry("memory.events", "oom_kill")? == 0,
            "{}",
            what()
        );
        if step % 20 == 0 {
            home.worker.touch()?;
            ensure!(
                neighbour.cpus()? == of_neighbour,
                "{}: the neighbour",
                what()
            );
        }
    }
    home.worker.touch()?;
    agent.settled("game")?;
    agent.delete("game")?;
    agent.delete("next")?;
    ensure!(cpusets(&home.cgroup, &tree)? == before, "not as before");
    Ok(())
}

/// Growing keeps every CPU, shrinking adds none.
fn kept(before: &BTreeSet<u32>, now: &BTreeSet<u32>) -> Result<()> {
    ensure!(
        before.is_subset(now) || now.is_subset(before),
        "from {} to {}",
        list(before),
        list(now)
    );
    Ok(())
}

/// It runs on each of its CPUs, and from now on nowhere else.
fn runs(worker: &mut Worker, cpus: &BTreeSet<u32>) -> Result<()> {
    worker.ticks()?;
    let mut seen = BTreeSet::new();
    poll(&format!("ticks on each of {}", list(cpus)), LIMIT, || {
        seen.extend(worker.ticks()?.into_keys());
        ensure!(seen.is_subset(cpus), "it runs on {}", list(&seen));
        Ok((seen == *cpus).then_some(()))
    })
}
