//! Many attachments over all VFs of both PFs, several at a time, again and again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use berth_tests::{
    Attachment, Need, Plugin, Pod, Port, Result, Running, Test, ensure, is_soak, test,
};
use serde_json::{Value, json};

use crate::kit::{IFNAME, code, conf, plugin};
use crate::stage::Stage;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("cycles_over_all_vfs", &[Need::Sriov], |node| {
            let stage = Stage::set(node, &[(Port::Pf0, 7), (Port::Pf1, 7)])?;
            stage.run(&[("cycles", cycles)])
        })
        .at_home()
        .limit(Duration::from_secs(1200)),
    ]
}

/// How many work at a time.
const AT_ONCE: usize = 8;
/// How long one of them may take, among the others on an emulated CPU.
const LIMIT: Duration = Duration::from_secs(60);

fn rounds() -> usize {
    if is_soak() { 200 } else { 40 }
}

/// One worker's attachment: added, then deleted, until all rounds are given out.
struct Worker {
    at: Attachment,
    running: Running,
    verb: &'static str,
}

struct Work {
    plugin: Plugin,
    conf: Value,
    left: usize,
    done: usize,
    again: usize,
}

impl Work {
    fn start(&self, at: Attachment, verb: &'static str) -> Result<Worker> {
        let running = self.plugin.start(verb, &at, &self.conf)?;
        Ok(Worker { at, running, verb })
    }

    /// What comes after a call that ended: its repetition, its DEL, the next ADD.
    fn next(&mut self, worker: Worker) -> Result<Option<Worker>> {
        let Worker { at, running, verb } = worker;
        let reply = running.finish_within(LIMIT)?;
        if !reply.status.success() {
            let error = reply.failure()?;
            ensure!(error.code == code::AGAIN, "{verb}: {error:?}");
            self.again += 1;
            return self.start(at, verb).map(Some);
        }
        if verb == "ADD" {
            return self.start(at, "DEL").map(Some);
        }
        self.done += 1;
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.start(at, "ADD").map(Some)
    }
}

fn cycles(stage: &Stage<'_>) -> Result<()> {
    let pods = (0..AT_ONCE).map(|n| stage.node.pod(&format!("pod{n}")));
    let pods: Vec<Pod> = pods.collect::<Result<_>>()?;
    let keys = json!({"master": ["pf0", "pf1"], "policy": "spread", "vlan": 100,
        "trust": "on", "mtu": 2000, "irq": {"policy": "numa"}, "announce": false});
    let mut work = Work {
        plugin: plugin()?,
        conf: conf("net", keys),
        left: rounds() - AT_ONCE,
        done: 0,
        again: 0,
    };
    let start = Instant::now();
    let mut workers = VecDeque::new();
    for (n, pod) in pods.iter().enumerate() {
        let at = Attachment::of(pod, &format!("pod{n}"), IFNAME);
        workers.push_back(work.start(at, "ADD")?);
    }
    while let Some(mut worker) = workers.pop_front() {
        if worker.running.is_running()? {
            workers.push_back(worker);
            std::thread::sleep(Duration::from_millis(10));
            continue;
        }
        workers.extend(work.next(worker)?);
    }
    eprintln!(
        "{} cycles in {:.1} s, {} repeated",
        work.done,
        start.elapsed().as_secs_f64(),
        work.again
    );
    assert_eq!(work.done, rounds());
    Ok(())
}
