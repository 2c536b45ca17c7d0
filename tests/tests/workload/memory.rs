//! Memory limits: set, shrunk without a kill, refused where they cannot hold.

use std::time::Duration;

use berth_tests::{Cgroup, Node, Result, Test, Tree, ensure, test};
use serde_json::{Value, json};

use crate::kit::{Agent, Dir, Home, MIB, NEEDS, refused};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("a_shrink_takes_cache_and_kills_nothing", NEEDS, shrink),
        test("a_limit_below_what_is_held_is_refused", NEEDS, refusal),
        test("a_shrink_under_slow_writes_kills_nothing", NEEDS, dirty),
        test("tight_memory_under_an_io_limit_kills_nothing", NEEDS, tight),
        test("memory_is_bound_to_the_node_of_the_cores", NEEDS, bound),
    ]
    .into_iter()
    .map(|test| test.limit(Duration::from_secs(400)))
    .collect()
}

fn limit(max: u64) -> Value {
    json!({"memory": {"max_bytes": max}})
}

fn limits(cgroup: &Cgroup) -> Result<(u64, u64)> {
    Ok((cgroup.number("memory.high")?, cgroup.number("memory.max")?))
}

fn no_kill(home: &mut Home) -> Result<()> {
    ensure!(
        home.cgroup.entry("memory.events", "oom_kill")? == 0,
        "a kill"
    );
    ensure!(
        home.cgroup.entry("memory.events", "oom")? == 0,
        "out of memory"
    );
    ensure!(home.worker.is_alive()?, "the process is gone");
    Ok(())
}

fn shrink(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-shrink")?;
    let mut home = Home::make(&tree, "a")?;
    let agent = Agent::start()?;
    agent.set("game", &home.spec(limit(512 * MIB)))?;
    home.worker
        .hold(48 * MIB, 32 * MIB, (200 * MIB, "/data/xfs/held"))?;
    ensure!(home.cgroup.number("memory.current")? > 270 * MIB);
    for max in [300 * MIB, 160 * MIB, 512 * MIB, 140 * MIB] {
        agent.change("game", &limit(max))?;
        let (high, live) = limits(&home.cgroup)?;
        ensure!(live == max && high < max, "high {high}, max {live}");
        ensure!(home.cgroup.number("memory.current")? <= max);
        no_kill(&mut home)?;
    }
    home.worker.touch()?;
    no_kill(&mut home)?;
    agent.delete("game")?;
    ensure!(home.cgroup.read("memory.max")? == "max");
    Ok(())
}

fn refusal(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-refuse")?;
    let mut home = Home::make(&tree, "a")?;
    let agent = Agent::start()?;
    agent.set("game", &home.spec(limit(512 * MIB)))?;
    home.worker
        .hold(64 * MIB, 64 * MIB, (32 * MIB, "/data/xfs/held"))?;
    let before = limits(&home.cgroup)?;
    let answer = agent.patch("game", &limit(96 * MIB))?;
    let body = refused(&answer, 409, "does_not_fit", &["memory"])?;
    let missing = &body["missing"][0];
    let numbers = missing["asked"].as_u64().zip(missing["available"].as_u64());
    ensure!(numbers.is_some(), "no numbers in {body}");
    ensure!(limits(&home.cgroup)? == before, "it was tried and left");
    ensure!(agent.view("game")?["spec"]["memory"]["max_bytes"] == 512 * MIB);
    no_kill(&mut home)?;
    // Nor at first, over a process that already holds more.
    agent.delete("game")?;
    let answer = agent.put("game", &home.spec(limit(96 * MIB)))?;
    refused(&answer, 409, "does_not_fit", &["memory"])?;
    ensure!(home.cgroup.read("memory.max")? == "max");
    ensure!(home.cgroup.read("memory.high")? == "max");
    home.worker.touch()?;
    no_kill(&mut home)
}

/// Page cache that is still to be written, slowly, cannot be taken back at once: the
/// kernel kills when the limit comes first.
fn dirty(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-dirty")?;
    let mut home = Home::make(&tree, "a")?;
    let dir = Dir::make("/data/xfs/berth-test-dirty")?;
    let agent = Agent::start()?;
    let spec = home.spec(json!({
        "memory": {"max_bytes": 400 * MIB},
        "io": [{"path": "/data/xfs", "write_bytes_per_sec": 5 * MIB}],
    }));
    agent.set("game", &spec)?;
    home.worker.pour(&format!("{}/poured", dir.0), 150 * MIB)?;
    std::thread::sleep(Duration::from_secs(8));
    let before = limits(&home.cgroup)?;
    let answer = agent.patch("game", &limit(80 * MIB))?;
    match answer.status {
        200 => {
            ensure!(home.cgroup.number("memory.max")? == 80 * MIB);
        }
        // It says so and nothing has changed.
        _ => {
            refused(&answer, 409, "does_not_fit", &["memory"])?;
            ensure!(limits(&home.cgroup)? == before, "it was tried and left");
        }
    }
    no_kill(&mut home)?;
    std::thread::sleep(Duration::from_secs(5));
    no_kill(&mut home)?;
    agent.delete("game")
}

fn tight(_node: &Node) -> Result<()> {
    for (kind, dir) in [("xfs", "/data/xfs"), ("ext4", "/data/ext4")] {
        let tree = Tree::create("berth-test-tight")?;
        let mut home = Home::make(&tree, kind)?;
        let dir = Dir::make(&format!("{dir}/berth-test-tight"))?;
        let agent = Agent::start()?;
        let spec = home.spec(json!({
            "memory": {"max_bytes": 64 * MIB},
            "io": [{"path": dir.0, "write_bytes_per_sec": 10 * MIB}],
        }));
        agent.set("game", &spec)?;
        let written = home.worker.write(&format!("{}/file", dir.0), 160 * MIB)?;
        ensure!(written.errno.is_none(), "{kind}: {written:?}");
        no_kill(&mut home)?;
        agent.delete("game")?;
        ensure!(home.cgroup.read("io.max")?.is_empty(), "{kind}");
    }
    Ok(())
}

fn bound(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-bound")?;
    let mut home = Home::make(&tree, "a")?;
    let agent = Agent::start()?;
    home.worker.hold(64 * MIB, 0, (0, "/data/xfs/held"))?;
    let spec = home.spec(json!({
        "cpu": {"cores": 1}, "memory": {"max_bytes": 256 * MIB, "numa": "bind"},
    }));
    agent.set("game", &spec)?;
    let view = agent.settled("game")?;
    let nodes = view["nodes"].as_str().unwrap_or_default();
    let (_, mems) = home.worker.allowed()?;
    ensure!(mems == nodes && nodes.len() == 1, "{mems} and {nodes}");
    // anon N0=... N1=...: what was held has moved.
    let stat = home.cgroup.read("memory.numa_stat")?;
    let other = if nodes == "0" { "N1=" } else { "N0=" };
    let anon = stat.lines().find(|line| line.starts_with("anon "));
    let left = anon.into_iter().flat_map(str::split_whitespace);
    let left = left.filter_map(|word| word.strip_prefix(other)?.parse::<u64>().ok());
    ensure!(left.sum::<u64>() < 4 * MIB, "{anon:?}");
    home.worker.touch()?;
    agent.delete("game")
}
