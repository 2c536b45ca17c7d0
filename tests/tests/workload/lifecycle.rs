//! A workload from PUT to DELETE, and every answer that is no success.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use berth_tests::command::{self, COMMAND_LIMIT, Finished};
use berth_tests::{Node, Result, Test, Tree, Worker, ensure, plugin, poll, test};
use serde_json::json;

use crate::kit::{
    Agent, Home, LIMIT, MIB, NEEDS, SOCKET, cpus_of, cpusets, generation_of, refused, taken, text,
};

/// Where the report is for who does not ask.
const REPORT: &str = "/run/berth/capacity.json";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("put_get_delete", NEEDS, put_get_delete),
        test("dry_run_changes_nothing", NEEDS, dry_run),
        test(
            "a_spec_that_does_not_fit_says_what_is_missing",
            NEEDS,
            unfit,
        ),
        test("if_match_is_compared", NEEDS, if_match),
        test("if_match_can_be_demanded", NEEDS, if_match_demanded),
        test("mistakes_are_named", NEEDS, mistakes),
        test("a_patch_changes_what_it_says", NEEDS, patch),
        test("a_target_may_come_later_and_go", NEEDS, life),
        test("a_restart_forgets_nothing", NEEDS, restart),
        test("two_workloads_cannot_have_one_target", NEEDS, one_target),
        test("members_of_the_group_read_and_do_not_write", NEEDS, peers),
        test("all_is_released_without_an_agent", NEEDS, alone),
    ]
    .into_iter()
    .map(|test| test.limit(Duration::from_secs(300)))
    .collect()
}

fn put_get_delete(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-life")?;
    let mut home = Home::make(&tree, "a/b")?;
    let agent = Agent::start()?;
    let before = cpusets(&home.cgroup, &tree)?;
    let generation = agent.generation()?;

    let spec = home.spec(json!({"cpu": {"cores": 2}, "memory": {"max_bytes": 256 * MIB}}));
    let answer = agent.put("game", &spec)?;
    ensure!(answer.status == 201, "{}: {}", answer.status, answer.body);
    ensure!(answer.header("location") == Some("/v1/workloads/game"));
    ensure!(generation_of(&answer)? > generation, "the generation rises");
    ensure!(answer.json()?["created"] == true, "{}", answer.body);

    let view = agent.settled("game")?;
    let cpus = cpus_of(&view)?;
    ensure!(cpus.len() == 4, "two cores with two threads: {view}");
    ensure!(home.cpus()? == cpus, "the kernel has other CPUs");
    ensure!(view["spec"]["cpu"]["cores"] == 2, "{view}");
    ensure!(view["cgroup"] == home.cgroup.name().as_str(), "{view}");
    ensure!(home.cgroup.read("cpuset.cpus.partition")? == "root");
    ensure!(home.cgroup.number("memory.max")? == 256 * MIB);
    let high = home.cgroup.number("memory.high")?;
    ensure!(
        high < 256 * MIB,
        "memory.high {high} is not below the limit"
    );

    let explained = agent.http.get("/v1/workloads/game/explain")?.expect(200)?;
    let why = explained["why"].as_array().map_or(0, Vec::len);
    ensure!(why > 0 && explained["cpus"] == view["cpus"], "{explained}");
    let all = agent.http.get("/v1/workloads")?.expect(200)?;
    ensure!(all["workloads"][0]["id"] == "game", "{all}");

    let again = agent.put("game", &spec)?;
    ensure!(again.status == 200, "{}: {}", again.status, again.body);
    ensure!(again.json()?["plan"] == json!([]), "nothing is left to do");

    agent.delete("game")?;
    ensure!(agent.http.get("/v1/workloads/game")?.status == 404);
    ensure!(cpusets(&home.cgroup, &tree)? == before, "not as before");
    ensure!(home.cgroup.read("memory.max")? == "max");
    ensure!(home.cgroup.read("memory.high")? == "max");
    ensure!(home.worker.is_alive()?);
    let answer = agent.http.request("DELETE", "/v1/workloads/game").send()?;
    refused(&answer, 404, "not_found", &["game"])?;
    Ok(())
}

fn dry_run(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-dry")?;
    let home = Home::make(&tree, "a")?;
    let agent = Agent::start()?;
    let before = cpusets(&home.cgroup, &tree)?;
    let generation = agent.generation()?;
    let request = |method: &'static str, keys| {
        let path = "/v1/workloads/game?dry_run=true";
        agent.http.request(method, path).json(&keys).send()
    };
    let plan = request("PUT", home.cores(1))?.expect(200)?;
    let objects: Vec<&str> = steps(&plan).map(|step| text(step, "object")).collect();
    ensure!(
        objects
            .iter()
            .any(|o| o.starts_with("cpuset.cpus.partition")),
        "no partition in {plan}"
    );
    ensure!(
        steps(&plan).all(|step| !text(step, "why").is_empty()),
        "{plan}"
    );
    ensure!(cpusets(&home.cgroup, &tree)? == before, "it was done");
    ensure!(agent.generation()? == generation, "the generation rose");
    ensure!(agent.http.get("/v1/workloads/game")?.status == 404);

    agent.set("game", &home.cores(1))?;
    let set = cpusets(&home.cgroup, &tree)?;
    let plan = request("PATCH", json!({"cpu": {"cores": 2}}))?.expect(200)?;
    ensure!(steps(&plan).count() > 0, "no step in {plan}");
    let plan = agent
        .http
        .request("DELETE", "/v1/workloads/game?dry_run=true")
        .send()?;
    ensure!(steps(&plan.expect(200)?).count() > 0, "{}", plan.body);
    ensure!(cpusets(&home.cgroup, &tree)? == set, "it was done");
    agent.delete("game")
}

fn steps(outcome: &serde_json::Value) -> impl Iterator<Item = &serde_json::Value> {
    outcome["plan"].as_array().into_iter().flatten()
}

fn unfit(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-unfit")?;
    let home = Home::make(&tree, "a")?;
    let agent = Agent::start()?;
    let before = cpusets(&home.cgroup, &tree)?;
    for (keys, what) in [
        (json!({"cpu": {"cores": 5}}), "core"),
        (json!({"cpu": {"cores": 400, "numa": "any"}}), "core"),
        (json!({"memory": {"max_bytes": 1_u64 << 50}}), "memory"),
        (
            json!({"disk": [{"path": "/data/xfs", "limit_bytes": 1_u64 << 50}]}),
            "/data/xfs",
        ),
    ] {
        let body = refused(
            &agent.put("big", &home.spec(keys))?,
            409,
            "does_not_fit",
            &[what],
        )?;
        let missing = body["missing"].as_array().cloned().unwrap_or_default();
        ensure!(!missing.is_empty(), "nothing is missing: {body}");
        for part in &missing {
            let numbers = part["asked"].as_u64().zip(part["available"].as_u64());
            ensure!(
                numbers.is_some_and(|(asked, there)| asked > there),
                "{part} is not lacking"
            );
        }
        ensure!(agent.http.get("/v1/workloads/big")?.status == 404);
    }
    ensure!(cpusets(&home.cgroup, &tree)? == before, "something was set");
    Ok(())
}

fn if_match(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-match")?;
    let home = Home::make(&tree, "a")?;
    let agent = Agent::start()?;
    let old = agent.generation()?;
    let put = |generation: u64| {
        let request = agent.http.request("PUT", "/v1/workloads/game");
        let request = request.header("if-match", format!("\"{generation}\""));
        request.json(&home.cores(1)).send()
    };
    let first = put(old)?;
    ensure!(first.status == 201, "{}: {}", first.status, first.body);
    let now = agent.generation()?;
    let stale = refused(&put(old)?, 412, "stale_generation", &[])?;
    ensure!(stale["generation"] == now, "not the present {now}: {stale}");
    let second = put(now)?;
    ensure!(second.status == 200, "{}: {}", second.status, second.body);

    let report = agent.http.get("/v1/capacity")?;
    let known = agent.http.request("GET", "/v1/capacity");
    let tag = report.header("etag").unwrap_or_default().to_owned();
    let known = known.header("if-none-match", tag).send()?;
    ensure!(known.status == 304, "{}", known.status);
    agent.delete("game")
}

fn if_match_demanded(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-demand")?;
    let home = Home::make(&tree, "a")?;
    let agent = Agent::with("require_if_match = true\n")?;
    let without = agent.put("game", &home.cores(1))?;
    refused(&without, 428, "if_match_required", &["If-Match"])?;
    let generation = agent.generation()?;
    let request = agent.http.request("PUT", "/v1/workloads/game");
    let request = request.header("if-match", format!("\"{generation}\""));
    taken(&request.json(&home.cores(1)).send()?)?;
    let generation = agent.generation()?;
    let request = agent.http.request("DELETE", "/v1/workloads/game");
    let request = request.header("if-match", format!("\"{generation}\""));
    request.send()?.expect(200)?;
    Ok(())
}

fn mistakes(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-wrong")?;
    let home = Home::make(&tree, "a")?;
    let agent = Agent::start()?;
    for (keys, says) in [
        (json!({"cpus": {"cores": 1}}), "cpus"),
        (json!({"cpu": {"core": 1}}), "cores"),
        (json!({"cpu": {"cores": 0}}), "cores"),
        (json!({"cpu": {"cores": 1, "cpus": 2}}), "cpus"),
        (json!({"memory": {"max_bytes": "8G"}}), "max_bytes"),
        (json!({"disk": [{"path": "data"}]}), "disk"),
        (json!({"id": "other", "cpu": {"cores": 1}}), "id"),
        (json!({"target": {"cgroup": "/"}}), "target"),
        (
            json!({"io": [{"path": "/data/xfs", "share": 1.5}]}),
            "share",
        ),
    ] {
        let answer = agent.put("game", &home.spec(keys.clone()))?;
        refused(&answer, 400, "invalid", &[says]).map_err(|e| e.context(keys.to_string()))?;
    }
    let broken = agent.http.request("PUT", "/v1/workloads/game");
    let broken = broken.text("application/json", "{\"cpu\":").send()?;
    refused(&broken, 400, "invalid", &[])?;
    refused(
        &agent.put("Game", &home.cores(1))?,
        400,
        "invalid",
        &["Game"],
    )?;
    let nothing = agent.patch("nobody", &json!({"cpu": {"cores": 1}}))?;
    refused(&nothing, 404, "not_found", &["nobody"])?;
    refused(&agent.http.get("/v2/capacity")?, 404, "not_found", &[])?;
    Ok(())
}

fn patch(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-patch")?;
    let mut home = Home::make(&tree, "a")?;
    let agent = Agent::start()?;
    let spec = home.spec(json!({"cpu": {"cores": 1}, "memory": {"max_bytes": 128 * MIB}}));
    agent.set("game", &spec)?;
    let view = agent.change("game", &json!({"cpu": {"cores": 2}}))?;
    ensure!(cpus_of(&view)?.len() == 4, "{view}");
    ensure!(home.cpus()?.len() == 4);
    ensure!(
        home.cgroup.number("memory.max")? == 128 * MIB,
        "it was touched"
    );
    // null takes a part away (RFC 7396).
    agent.change("game", &json!({"memory": null}))?;
    ensure!(home.cgroup.read("memory.max")? == "max");
    let view = agent.settled("game")?;
    ensure!(view["spec"].get("memory").is_none(), "{view}");
    agent.delete("game")
}

fn life(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-late")?;
    let agent = Agent::start()?;
    let target = format!("{}/late", tree.top().name());
    let spec = json!({
        "target": {"cgroup": target}, "cpu": {"cores": 1}, "ttl_sec": 300, "lost_ttl_sec": 3,
    });
    let view = agent.set("late", &spec)?;
    ensure!(view["state"] == "reserved", "{view}");
    let cpus = cpus_of(&view)?;

    let cgroup = tree.make("late")?;
    let mut worker = Worker::start(&cgroup)?;
    let view = agent.settled("late")?;
    ensure!(cpus_of(&view)? == cpus, "the reserved CPUs: {view}");
    ensure!(cgroup.set("cpuset.cpus.effective")? == cpus);
    ensure!(worker.is_alive()?);

    let seen = agent.last_event()?;
    drop(worker);
    cgroup.remove()?;
    poll("the end of a lost workload", LIMIT, || {
        Ok((agent.http.get("/v1/workloads/late")?.status == 404).then_some(()))
    })?;
    let kinds: Vec<String> = agent
        .events_since(seen)?
        .iter()
        .map(|event| text(event, "kind").to_owned())
        .collect();
    for kind in ["lost", "expired"] {
        ensure!(kinds.iter().any(|k| k == kind), "no {kind} in {kinds:?}");
    }
    ensure!(tree.top().read("cpuset.cpus.exclusive")?.is_empty());

    let soon = json!({"target": {"cgroup": target}, "cpu": {"cores": 1}, "ttl_sec": 2});
    agent.set("soon", &soon)?;
    poll("the end of a reservation", LIMIT, || {
        Ok((agent.http.get("/v1/workloads/soon")?.status == 404).then_some(()))
    })
}

fn restart(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-again")?;
    let mut home = Home::make(&tree, "a/b")?;
    let mut agent = Agent::start()?;
    let before = cpusets(&home.cgroup, &tree)?;
    agent.set("game", &home.cores(2))?;
    let (set, generation) = (cpusets(&home.cgroup, &tree)?, agent.generation()?);
    agent.kill()?;
    ensure!(
        cpusets(&home.cgroup, &tree)? == set,
        "it ended with the agent"
    );
    ensure!(home.cpus()?.len() == 4);
    agent.restart()?;
    let view = agent.settled("game")?;
    ensure!(view["repairs"] == 0, "there was nothing to repair: {view}");
    ensure!(cpusets(&home.cgroup, &tree)? == set, "it was set otherwise");
    ensure!(
        agent.generation()? >= generation,
        "the generation went back"
    );

    agent.kill()?;
    home.cgroup.write("cpuset.cpus.partition", "member")?;
    agent.restart()?;
    agent.settled("game")?;
    ensure!(cpusets(&home.cgroup, &tree)? == set, "not repaired");
    // What it found before the first change outlives it too.
    agent.delete("game")?;
    ensure!(cpusets(&home.cgroup, &tree)? == before, "not as before");
    fs::metadata("/var/lib/berth/generation")?;
    Ok(())
}

fn one_target(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-one")?;
    let home = Home::make(&tree, "a")?;
    let agent = Agent::start()?;
    agent.set("first", &home.cores(1))?;
    let second = agent.put("second", &home.cores(1))?;
    refused(&second, 409, "conflict", &["first"])?;
    let by_pid = json!({"target": {"pid": home.worker.pid()}, "cpu": {"cores": 1}});
    refused(&agent.put("third", &by_pid)?, 409, "conflict", &["first"])?;
    agent.delete("first")?;
    agent.set("third", &by_pid)?;
    let view = agent.settled("third")?;
    ensure!(view["cgroup"] == home.cgroup.name().as_str(), "{view}");
    agent.delete("third")
}

/// The user and group `nobody` of every distribution.
const NOBODY: u32 = 65534;

fn peers(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-life")?;
    let home = Home::make(&tree, "a/b")?;
    let agent = Agent::start()?;
    agent.set("game", &home.cores(1))?;
    // As if that were the group `berth`, which the guest has not.
    std::os::unix::fs::chown(SOCKET, None, Some(NOBODY))?;
    let read = as_nobody(&["get", "game"])?;
    ensure!(read.status.success(), "{}{}", read.stdout, read.stderr);
    ensure!(read.stdout.contains("game"), "{}", read.stdout);
    let file = fs::read_to_string(REPORT)?;
    let report: serde_json::Value = serde_json::from_str(&file)?;
    ensure!(report["generation"] == agent.generation()?, "{report}");
    ensure!(fs::metadata(REPORT)?.permissions().mode() & 0o777 == 0o644);
    let written = as_nobody(&["delete", "game"])?;
    ensure!(!written.status.success(), "{}", written.stdout);
    for part in ["workloads/game", "user id 65534", "ask as root"] {
        ensure!(written.stderr.contains(part), "{}", written.stderr);
    }
    ensure!(agent.view("game")?["state"] == "active");
    agent.delete("game")
}

fn as_nobody(words: &[&str]) -> Result<Finished> {
    let mut command = Command::new("setpriv");
    let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
    command.args(ids).args(["--clear-groups", "--"]);
    command.arg(plugin::binary("berth")?).args(words);
    command::start(&mut command, b"")?.finish(COMMAND_LIMIT)
}

fn alone(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-life")?;
    let mut home = Home::make(&tree, "a/b")?;
    let before = cpusets(&home.cgroup, &tree)?;
    let mut agent = Agent::start()?;
    let spec = home.spec(json!({"cpu": {"cores": 2}, "memory": {"max_bytes": 256 * MIB}}));
    agent.set("game", &spec)?;
    let release = |words: &[&str]| {
        let mut command = Command::new(plugin::binary("berth")?);
        command.args(["release", "--all"]).args(words);
        command::start(&mut command, b"")?.finish(COMMAND_LIMIT)
    };
    agent.kill()?;
    let planned = release(&["--dry-run"])?;
    ensure!(planned.status.success(), "{}", planned.stderr);
    ensure!(planned.stdout.contains("memory.max"), "{}", planned.stdout);
    ensure!(home.cgroup.number("memory.max")? == 256 * MIB);
    let done = release(&[])?;
    ensure!(done.status.success(), "{}{}", done.stdout, done.stderr);
    ensure!(done.stdout.contains("game"), "{}", done.stdout);
    ensure!(cpusets(&home.cgroup, &tree)? == before, "not as before");
    ensure!(home.cgroup.read("memory.max")? == "max");
    ensure!(home.worker.is_alive()?);
    agent.restart()?;
    ensure!(agent.http.get("/v1/workloads/game")?.status == 404);
    Ok(())
}
