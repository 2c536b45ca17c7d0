//! The agent killed at the changing system calls of a request: started again, what it
//! says and what the kernel says agree, and the rest of the way works.

use std::time::Duration;

use berth_tests::cgroup::list;
use berth_tests::trace::Daemon;
use berth_tests::{
    Answer, Cgroup, Context, Http, Need, Result, Side, Strike, Test, Tree, ensure, is_soak, poll,
    test,
};
use serde_json::{Value, json};

use crate::kit::{
    Agent, Dir, Home, LIMIT, MIB, SOCKET, command, cpus_of, cpusets, device_of, is_up, run, taken,
};

const NEEDS: &[Need] = &[Need::CgroupV2, Need::XfsQuota, Need::Ptrace];

pub(crate) fn tests() -> Vec<Test> {
    let tests = vec![
        test("killed_in_put", NEEDS, |_| killed(Act::Put)),
        test("killed_in_resize", NEEDS, |_| killed(Act::Resize)),
        test("killed_in_delete", NEEDS, |_| killed(Act::Delete)),
    ];
    tests
        .into_iter()
        .map(|test| test.limit(Duration::from_secs(3600)))
        .collect()
}

/// The request that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Put,
    Resize,
    Delete,
}

/// How many places are struck, evenly over all, unless everything is done.
const SAMPLES: usize = 2;

/// What the workload has: nothing, the first spec, the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    None,
    Small,
    Large,
}

struct Scene {
    home: Home,
    dir: Dir,
    device: String,
    before: Vec<(String, String)>,
    tree: Tree,
}

fn killed(act: Act) -> Result<()> {
    let tree = Tree::create("berth-test-crash")?;
    let home = Home::make(&tree, "pod/game")?;
    let dir = Dir::make("/data/xfs/berth-test-crash")?;
    std::fs::create_dir(format!("{}/deep", dir.0))?;
    std::fs::write(format!("{}/deep/file", dir.0), vec![b'x'; 10_000])?;
    let mut scene = Scene {
        before: cpusets(&home.cgroup, &tree)?,
        device: device_of("/data/xfs")?,
        home,
        dir,
        tree,
    };
    let whole = scene.act_under(act, None)?;
    ensure!(!whole.struck && whole.answered, "{act:?} was not answered");
    let calls = whole.calls;
    ensure!(calls.len() > 5, "too few changes to believe: {calls:?}");
    for strike in strikes(calls.len()) {
        let what = || format!("{act:?}, {strike:?}, {}", calls[strike.call]);
        scene.strike(act, strike).with_context(what)?;
    }
    Ok(())
}

/// Every call from both sides, or some from one: a kill after a call is one before the
/// next as far as the node can tell, so the last has both.
fn strikes(calls: usize) -> Vec<Strike> {
    let step = if is_soak() {
        1
    } else {
        calls.div_ceil(SAMPLES)
    };
    let mut strikes = Vec::new();
    for call in (0..calls).step_by(step).chain([calls - 1]) {
        for side in [Side::Before, Side::After] {
            if is_soak() || side == Side::Before || call + 1 == calls {
                strikes.push(Strike { call, side });
            }
        }
    }
    strikes
}

/// What came of a request to a traced agent.
struct Ended {
    struck: bool,
    answered: bool,
    calls: Vec<String>,
}

impl Scene {
    fn spec(&self, stage: Stage) -> Value {
        let (cores, memory, disk) = match stage {
            Stage::Large => (2, 256 * MIB, 32 * MIB),
            _ => (1, 128 * MIB, 16 * MIB),
        };
        self.home.spec(json!({
            "cpu": {"cores": cores},
            "memory": {"max_bytes": memory},
            "disk": [{"path": self.dir.0, "limit_bytes": disk}],
            "io": [{"path": self.dir.0, "write_bytes_per_sec": 5 * MIB}],
        }))
    }

    /// One agent is killed in the middle of it, the next one is asked what there is.
    fn strike(&mut self, act: Act, strike: Strike) -> Result<()> {
        let ended = self.act_under(act, Some(strike))?;
        let agent = Agent::start()?;
        let stage = self.stage(&agent)?;
        let (old, new) = match act {
            Act::Put => (Stage::None, Stage::Small),
            Act::Resize => (Stage::Small, Stage::Large),
            Act::Delete => (Stage::Small, Stage::None),
        };
        ensure!(stage == old || stage == new, "{stage:?} is neither");
        ensure!(
            !ended.answered || stage == new,
            "it was promised and is not"
        );
        self.agrees(&agent, stage)?;
        // What was asked for can be asked for again, and undone.
        agent.set("game", &self.spec(Stage::Large))?;
        self.agrees(&agent, Stage::Large)?;
        agent.delete("game")?;
        self.agrees(&agent, Stage::None)
    }

    /// Brings the node to where `act` begins, then has a traced agent do it.
    fn act_under(&mut self, act: Act, strike: Option<Strike>) -> Result<Ended> {
        let agent = Agent::start()?;
        if self.stage(&agent)? != Stage::None {
            agent.delete("game")?;
        }
        if act != Act::Put {
            agent.set("game", &self.spec(Stage::Small))?;
        }
        // Dropping it would release everything.
        let mut agent = agent;
        agent.kill()?;
        let (answer, traced) = self.traced(act, strike)?;
        let answered = match answer {
            Ok(answer) => taken(&answer).map(|_| true)?,
            Err(_) => false,
        };
        Ok(Ended {
            struck: traced.struck,
            answered,
            calls: traced.calls,
        })
    }

    fn traced(
        &self,
        act: Act,
        strike: Option<Strike>,
    ) -> Result<(Result<Answer>, berth_tests::trace::Traced)> {
        let http = Http::at(SOCKET);
        let daemon = Daemon::start(command()?, strike, changes_the_node)?;
        poll("answer of the traced agent", 2 * LIMIT, || {
            ensure!(!daemon.is_over(), "it ended by itself");
            Ok(is_up(&http).then_some(()))
        })?;
        daemon.count();
        let path = "/v1/workloads/game";
        let answer = match act {
            Act::Put => http.request("PUT", path).json(&self.spec(Stage::Small)),
            Act::Resize => http.request("PUT", path).json(&self.spec(Stage::Large)),
            Act::Delete => http.request("DELETE", path),
        }
        .send();
        if strike.is_some() {
            poll("the kill", LIMIT, || Ok(daemon.is_over().then_some(())))?;
        }
        Ok((answer, daemon.end()?))
    }

    /// Where the workload is once the agent has put in order what it found.
    fn stage(&self, agent: &Agent) -> Result<Stage> {
        let view = poll("an agent that has settled", LIMIT, || {
            let answer = agent.http.get("/v1/workloads/game")?;
            if answer.status == 404 {
                return Ok(Some(Value::Null));
            }
            let view = answer.expect(200)?;
            let settings = view["settings"].as_array().cloned().unwrap_or_default();
            let ok = settings.iter().all(|setting| setting["ok"] == true);
            Ok((view["state"] == "active" && ok).then_some(view))
        })?;
        Ok(match view["spec"]["cpu"]["cores"].as_u64() {
            None => Stage::None,
            Some(1) => Stage::Small,
            Some(_) => Stage::Large,
        })
    }

    /// The kernel has what the agent says, read without the agent.
    fn agrees(&mut self, agent: &Agent, stage: Stage) -> Result<()> {
        let cgroup = self.home.cgroup.clone();
        let project = project_of(&self.dir.0)?;
        let deep = project_of(&format!("{}/deep", self.dir.0))?;
        ensure!(project == deep, "half tagged: {project} and {deep}");
        ensure!(self.home.worker.is_alive()?, "the process is gone");
        if stage == Stage::None {
            ensure!(cpusets(&cgroup, &self.tree)? == self.before, "cpusets");
            for file in ["memory.max", "memory.high"] {
                ensure!(cgroup.read(file)? == "max", "{file}");
            }
            ensure!(cgroup.read("io.max")?.is_empty(), "io.max");
            ensure!(project == 0, "project {project}");
            return Ok(());
        }
        let spec = self.spec(stage);
        let view = agent.settled("game")?;
        let cpus = cpus_of(&view)?;
        ensure!(self.home.cpus()? == cpus, "not on {}", list(&cpus));
        let cores = spec["cpu"]["cores"].as_u64().unwrap_or_default();
        ensure!(
            cpus.len() as u64 == 2 * cores,
            "{cores} cores: {}",
            list(&cpus)
        );
        ensure!(cgroup.read("cpuset.cpus.partition")? == "root");
        ensure!(cgroup.number("memory.max")? == spec["memory"]["max_bytes"]);
        let limit = cgroup.of_device("io.max", &self.device, "wbps")?;
        ensure!(limit == Some((5 * MIB).to_string()), "{limit:?}");
        ensure!(project != 0, "no project");
        let wished = spec["disk"][0]["limit_bytes"].as_u64().unwrap_or_default();
        ensure!(quota_of(project)? == wished / 1024, "the quota");
        self.no_cgroup_else_is_exclusive(&cgroup)
    }

    /// What an interrupted request claimed for a moment is not left claimed.
    fn no_cgroup_else_is_exclusive(&self, cgroup: &Cgroup) -> Result<()> {
        let own = cgroup.set("cpuset.cpus.exclusive")?;
        let all = self.tree.top().set("cpuset.cpus.exclusive")?;
        ensure!(own == all, "{} above {}", list(&all), list(&own));
        Ok(())
    }
}

/// The calls that are struck: those that change the node or what the agent remembers,
/// none that answer, log or wake a thread.
fn changes_the_node(call: &str) -> bool {
    let places = [
        "/sys/",
        "/proc/irq",
        "/proc/sys",
        "/var/lib/berth",
        "/data/",
    ];
    places.iter().any(|place| call.contains(place))
}

/// The project of a directory, by lsattr(1).
fn project_of(dir: &str) -> Result<u32> {
    let listed = run(&format!("lsattr -dp {dir}"))?;
    let id = listed.split_whitespace().next().unwrap_or_default();
    id.parse()
        .with_context(|| format!("no project: {listed:?}"))
}

/// The limit of a project on the xfs disk, KiB, by xfs_quota(8).
fn quota_of(project: u32) -> Result<u64> {
    let mut command = std::process::Command::new("xfs_quota");
    let report = "report -p -n -N -b";
    let report = berth_tests::command::run(command.args(["-x", "-c", report, "/data/xfs"]))?;
    let line = report.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.first()? == &format!("#{project}")).then(|| words.get(3)?.parse().ok())?
    });
    line.with_context(|| format!("project {project} is not in {report}"))
}
