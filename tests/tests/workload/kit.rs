//! What the tests share: an agent of the test's own, a cgroup tree, specs, and the
//! comparison of what the agent says with what the kernel says.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use berth_tests::cgroup::{self, numbers};
use berth_tests::command::{self, COMMAND_LIMIT, Started};
use berth_tests::{
    Answer, Cgroup, Context, Http, Need, Result, Tree, Worker, bail, ensure, plugin, poll,
};
use serde_json::{Value, json};

/// What every test of the suite needs.
pub(crate) const NEEDS: &[Need] = &[Need::CgroupV2, Need::XfsQuota, Need::Ext4Quota];

pub(crate) const SOCKET: &str = "/run/berth/agent.sock";

/// A short period, so that what the kernel does not tell of is found soon.
const CONFIGURATION: &str = "reconcile_sec = 2\n";

/// How long an agent may take until it answers, and until it has repaired something: the
/// emulated CPUs are slow.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) const MIB: u64 = 1 << 20;

/// An agent in the foreground. It is killed when the value is dropped.
pub(crate) struct Agent {
    started: Option<Started>,
    pub(crate) http: Http,
}

impl Agent {
    /// Starts one with the suite's configuration.
    pub(crate) fn start() -> Result<Self> {
        Self::with("")
    }

    /// Starts one with this configuration beside the suite's.
    pub(crate) fn with(configuration: &str) -> Result<Self> {
        configure(configuration)?;
        let mut agent = Self {
            started: None,
            http: Http::at(SOCKET),
        };
        agent.run()?;
        Ok(agent)
    }

    fn run(&mut self) -> Result<()> {
        let mut started = command::start(&mut command()?, b"")?;
        let up = poll("answer of the agent", LIMIT, || {
            ensure!(started.is_running()?, "the agent ended");
            Ok(is_up(&self.http).then_some(()))
        });
        if let Err(error) = up {
            started.kill()?;
            let said = started.finish(COMMAND_LIMIT)?;
            bail!("{error:#}; it said: {}{}", said.stdout, said.stderr);
        }
        self.started = Some(started);
        Ok(())
    }

    /// Kills it with SIGKILL; everything stays as it is.
    pub(crate) fn kill(&mut self) -> Result<()> {
        match self.started.take() {
            Some(mut started) => started.kill().map(drop),
            None => Ok(()),
        }
    }

    /// Kills it with SIGKILL and starts another.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.run()
    }

    /// `PUT` of a spec.
    pub(crate) fn put(&self, id: &str, spec: &Value) -> Result<Answer> {
        self.http.request("PUT", path(id)).json(spec).send()
    }

    /// `PUT` of a spec that must be taken: the workload afterwards.
    pub(crate) fn set(&self, id: &str, spec: &Value) -> Result<Value> {
        taken(&self.put(id, spec)?)
    }

    /// `PATCH` with a merge patch.
    pub(crate) fn patch(&self, id: &str, patch: &Value) -> Result<Answer> {
        let request = self.http.request("PATCH", path(id));
        request
            .text("application/merge-patch+json", patch.to_string())
            .send()
    }

    /// `PATCH` that must be taken: the workload afterwards.
    pub(crate) fn change(&self, id: &str, patch: &Value) -> Result<Value> {
        taken(&self.patch(id, patch)?)
    }

    /// `DELETE` that must succeed.
    pub(crate) fn delete(&self, id: &str) -> Result<()> {
        let answer = self.http.request("DELETE", path(id)).send()?;
        answer.expect(200).map(drop)
    }

    /// The workload as the agent sees it.
    pub(crate) fn view(&self, id: &str) -> Result<Value> {
        self.http.get(&path(id))?.expect(200)
    }

    /// The node's generation.
    pub(crate) fn generation(&self) -> Result<u64> {
        let capacity = self.http.get("/v1/capacity")?;
        capacity.expect(200)?;
        generation_of(&capacity)
    }

    /// The number of the last event.
    pub(crate) fn last_event(&self) -> Result<u64> {
        let list = self.http.get("/v1/events")?.expect(200)?;
        list["last"].as_u64().context("no last event")
    }

    /// The events after a number.
    pub(crate) fn events_since(&self, seq: u64) -> Result<Vec<Value>> {
        let list = self.http.get(&format!("/v1/events?since={seq}"))?;
        let list = list.expect(200)?;
        list["events"].as_array().cloned().context("no events")
    }

    /// Waits until every setting of the workload is as wished, by the agent's own word,
    /// and it is active without a condition.
    pub(crate) fn settled(&self, id: &str) -> Result<Value> {
        let mut last = Value::Null;
        let settled = poll(&format!("workload {id} as wished"), LIMIT, || {
            last = self.view(id)?;
            Ok(is_settled(&last).then(|| last.clone()))
        });
        settled.with_context(|| format!("it is {last}"))
    }

    /// Waits for a repair of something whose name has `object` in it, after event `seq`:
    /// it is named with what was found and what was set.
    pub(crate) fn repaired(&self, seq: u64, object: &str) -> Result<Value> {
        poll(&format!("a repair of {object}"), LIMIT, || {
            let events = self.events_since(seq)?;
            let of_it = |event: &&Value| {
                event["kind"] == "repair" && text(event, "object").contains(object)
            };
            let found = events.iter().find(of_it).cloned();
            if let Some(event) = &found {
                ensure!(text(event, "old") != text(event, "new"), "{event}");
                ensure!(!text(event, "why").is_empty(), "no reason: {event}");
            }
            Ok(found)
        })
    }

    /// How often something of a workload was put right.
    pub(crate) fn repairs(&self, id: &str) -> Result<u64> {
        let repairs = self.view(id)?["repairs"].as_u64();
        repairs.context("no count of repairs")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // After a failure: what a test left must not make the next one fail too.
        if self.started.is_some() {
            let released = self.http.request("POST", "/v1/release").send();
            if let Err(error) = released {
                eprintln!("cannot release: {error:#}");
            }
        }
        if let Err(error) = self.kill() {
            eprintln!("cannot end the agent: {error:#}");
        }
    }
}

/// Puts the agent's configuration where it looks for it.
pub(crate) fn configure(more: &str) -> Result<()> {
    let path = "/etc/berth/agent.toml";
    let text = format!("{CONFIGURATION}{more}");
    fs::write(path, text).with_context(|| format!("write {path}"))
}

/// `berth agent`.
pub(crate) fn command() -> Result<Command> {
    let mut command = Command::new(plugin::binary("berth")?);
    command.arg("agent");
    Ok(command)
}

/// Whether an agent answers and does its work.
pub(crate) fn is_up(http: &Http) -> bool {
    let health = http.get("/healthz");
    health.is_ok_and(|answer| answer.status == 200)
}

fn path(id: &str) -> String {
    format!("/v1/workloads/{id}")
}

/// The workload in the answer to a change that was made.
pub(crate) fn taken(answer: &Answer) -> Result<Value> {
    ensure!(
        matches!(answer.status, 200 | 201),
        "refused with {}: {}",
        answer.status,
        answer.body
    );
    Ok(answer.json()?["workload"].clone())
}

/// The generation an answer has as its entity tag.
pub(crate) fn generation_of(answer: &Answer) -> Result<u64> {
    let tag = answer.header("etag").context("no ETag")?;
    let number = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    let number = number.and_then(|number| number.parse().ok());
    number.with_context(|| format!("the ETag {tag} is no generation in quotes"))
}

/// A refusal with this status and code, whose sentences are all there and of which one
/// says each of `says`.
pub(crate) fn refused(answer: &Answer, status: u16, code: &str, says: &[&str]) -> Result<Value> {
    let body = answer.expect(status)?;
    ensure!(body["code"] == code, "not {code}: {body}");
    for key in ["object", "wish", "reason", "next"] {
        ensure!(!text(&body, key).trim().is_empty(), "no {key}: {body}");
    }
    for part in says {
        ensure!(answer.body.contains(part), "{part:?} is not in {body}");
    }
    Ok(body)
}

/// A text of a JSON object; empty if it is none.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn is_settled(view: &Value) -> bool {
    let settings = view["settings"].as_array();
    view["state"] == "active"
        && view["conditions"].as_array().is_some_and(Vec::is_empty)
        && settings.is_some_and(|all| all.iter().all(|setting| setting["ok"] == true))
}

/// A workload's cgroup with a process in it, below a tree of the test's own.
pub(crate) struct Home {
    pub(crate) cgroup: Cgroup,
    pub(crate) worker: Worker,
}

impl Home {
    /// Makes `below` in the tree and starts the process there.
    pub(crate) fn make(tree: &Tree, below: &str) -> Result<Self> {
        let cgroup = tree.make(below)?;
        let worker = Worker::start(&cgroup)?;
        Ok(Self { cgroup, worker })
    }

    /// A spec about it with these further keys.
    pub(crate) fn spec(&self, keys: Value) -> Value {
        let mut spec = json!({"target": {"cgroup": self.cgroup.name()}});
        if let (Value::Object(spec), Value::Object(keys)) = (&mut spec, keys) {
            spec.extend(keys);
        }
        spec
    }

    /// A spec of that many exclusive cores and nothing else.
    pub(crate) fn cores(&self, cores: u32) -> Value {
        self.spec(json!({"cpu": {"cores": cores}}))
    }

    /// The CPUs the kernel lets it run on, which must be those the process is allowed.
    pub(crate) fn cpus(&mut self) -> Result<BTreeSet<u32>> {
        let effective = self.cgroup.set("cpuset.cpus.effective")?;
        let (allowed, _) = self.worker.allowed()?;
        ensure!(
            numbers(&allowed)? == effective,
            "the process may run on {allowed}, its cgroup has {}",
            cgroup::list(&effective)
        );
        Ok(effective)
    }
}

/// The exclusive CPUs the agent says a workload has.
pub(crate) fn cpus_of(view: &Value) -> Result<BTreeSet<u32>> {
    let list = view["cpus"].as_str();
    numbers(list.with_context(|| format!("no CPUs: {view}"))?)
}

/// The cpuset files of a cgroup and of all above it, to compare before and after. NUMA
/// nodes as they are in effect: once set, the file of a cgroup with processes cannot be
/// empty again (cpuset.mems, ENOSPC).
pub(crate) fn cpusets(cgroup: &Cgroup, tree: &Tree) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    let of_tree = tree.top().path();
    let chain = cgroup.path().ancestors().filter(|p| p.starts_with(of_tree));
    for level in chain {
        for file in ["cpus", "cpus.exclusive", "cpus.partition", "mems.effective"] {
            let path = format!("/sys/fs/cgroup{}/cpuset.{file}", level.display());
            let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
            files.push((path, text.trim().to_owned()));
        }
    }
    Ok(files)
}

/// The number of the disk a directory's filesystem is on, as `io.stat` has it.
pub(crate) fn device_of(dir: &str) -> Result<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let line = mounts
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some(dir));
    let number = line.and_then(|line| line.split(' ').nth(2));
    number
        .map(str::to_owned)
        .with_context(|| format!("nothing is mounted on {dir}"))
}

/// Numbers that are the same in every run: xorshift64 (Marsaglia, 2003).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// One below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Whether `what` stays so for `time`, asked again and again.
pub(crate) fn stays(time: Duration, mut what: impl FnMut() -> Result<()>) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        what()?;
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Runs a program that must succeed.
pub(crate) fn run(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command::run(command.args(words))
}

/// A directory that is gone with all in it when the value is dropped.
pub(crate) struct Dir(pub(crate) String);

impl Dir {
    /// Makes it.
    pub(crate) fn make(path: &str) -> Result<Self> {
        fs::create_dir(path).with_context(|| format!("make {path}"))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("left behind {}: {error}", self.0);
        }
    }
}
