//! The interrupts of a workload's virtual function are on its own cores and follow them,
//! all others that can be moved are off them; beside the plugin that gave it the function,
//! and beside irqbalance.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use berth_tests::cgroup::numbers;
use berth_tests::command::{self, COMMAND_LIMIT};
use berth_tests::cpus::of_mask;
use berth_tests::vf::{Vectors, affinity};
use berth_tests::{
    Attached, Attachment, Change, Context, Look, Need, Node, Plugin, Port, Result, Snapshot, Space,
    Test, Tree, Vf, Worker, bail, ensure, poll, test,
};
use serde_json::{Value, json};

use crate::kit::{Agent, Home, LIMIT, cpus_of, stays};

const NEEDS: &[Need] = &[Need::Sriov, Need::CgroupV2];

/// The interface of the workload's container.
const IFNAME: &str = "net1";

pub(crate) fn tests() -> Vec<Test> {
    let tests = vec![
        test("a_vfs_interrupts_follow_its_workload", NEEDS, follow),
        test("irqbalance_keeps_off", NEEDS, irqbalance),
    ];
    tests
        .into_iter()
        .map(|test| test.at_home().limit(Duration::from_secs(300)))
        .collect()
}

/// A workload in a container that was given a VF by the plugin.
struct Berth<'n> {
    node: &'n Node,
    vf: Vf,
    /// The VF before it was given away.
    before: Snapshot,
    attached: Attached,
    home: Home,
    _tree: Tree,
}

impl<'n> Berth<'n> {
    fn make(node: &'n Node) -> Result<Self> {
        let vf = node.vfs(&[(Port::Pf0, 1)])?.remove(0);
        let before = node.vf_facts(std::slice::from_ref(&vf), Look::Whole)?;
        let tree = Tree::create("berth-test-irq")?;
        let cgroup = tree.make("pod/game")?;
        let pod = node.pod("game")?;
        let worker = Worker::start_in(&cgroup, &pod)?;
        let conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "cni-sriov",
            "deviceID": vf.address, "runtimeConfig": {"cgroupPath": cgroup.name()}});
        let at = Attachment::of(&pod, "game", IFNAME);
        let attached = Attached::of(Plugin::find("cni-sriov")?, pod, at, conf)?;
        Ok(Self {
            node,
            vf,
            before,
            attached,
            home: Home { cgroup, worker },
            _tree: tree,
        })
    }

    fn spec(&self, cores: u32) -> Value {
        self.home.spec(json!({
            "cpu": {"cores": cores},
            "network": {"irq": "own-cores", "rps": "own-cores"},
        }))
    }

    /// The VF's queues are served by the workload's CPUs alone, and no other interrupt
    /// that can be moved is there.
    fn is_steered(&self, cpus: &BTreeSet<u32>) -> Result<()> {
        let vectors = Vectors::of(&self.vf)?;
        for irq in [vectors.tx, vectors.rx] {
            ensure!(cpus_of_irq(irq)?.is_subset(cpus), "{irq} left {cpus:?}");
        }
        let rps = format!("class/net/{IFNAME}/queues/rx-0/rps_cpus");
        let rps = of_mask(&self.attached.pod.read_sys(&rps)?);
        ensure!(rps.is_subset(cpus), "RPS on {rps:?}");
        let others = fs::read_dir("/sys/class/net/uplink0/device/msi_irqs")?;
        for entry in others {
            let irq = entry?.file_name().to_string_lossy().parse()?;
            // It has a handler only while its link is up.
            if affinity(irq).is_some() {
                ensure!(cpus_of_irq(irq)?.is_disjoint(cpus), "{irq} is on {cpus:?}");
            }
        }
        let default = of_mask(&fs::read_to_string("/proc/irq/default_smp_affinity")?);
        ensure!(default.is_disjoint(cpus), "new ones arrive on {default:?}");
        Ok(())
    }

    fn as_before(&self) -> Result<()> {
        let now = self
            .node
            .vf_facts(std::slice::from_ref(&self.vf), Look::Whole)?;
        let changes: Vec<String> = self
            .before
            .diff(&now)
            .iter()
            .map(Change::to_string)
            .collect();
        ensure!(changes.is_empty(), "{}", changes.join("\n"));
        Ok(())
    }
}

/// Through a grow, a write by somebody else, the plugin's CHECK and DEL, to the end.
fn follow(node: &Node) -> Result<()> {
    node.port_up(Port::Uplink)?;
    let default = fs::read_to_string("/proc/irq/default_smp_affinity")?;
    let mut berth = Berth::make(node)?;
    let agent = Agent::start()?;
    agent.set("game", &berth.spec(1))?;
    let one = cpus_of(&agent.settled("game")?)?;
    ensure!(berth.home.cpus()? == one, "not on its cores");
    berth.is_steered(&one)?;
    agent.set("game", &berth.spec(3))?;
    let three = cpus_of(&agent.settled("game")?)?;
    ensure!(three.len() == 6 && three.is_superset(&one), "{three:?}");
    berth.is_steered(&three)?;

    let irq = Vectors::of(&berth.vf)?.rx;
    let outside = (0..16).find(|cpu| !three.contains(cpu));
    let seq = agent.last_event()?;
    let file = format!("/proc/irq/{irq}/smp_affinity_list");
    fs::write(&file, outside.context("all are its own")?.to_string())?;
    agent.repaired(seq, &format!("affinity of interrupt {irq}"))?;
    berth.is_steered(&three)?;

    // Where the agent put them is no drift for the plugin, and it takes the VF home.
    berth.attached.must_hold()?;
    berth.attached.del()?;
    ensure!(berth.vf.links().len() == 1, "the VF is not at home");
    agent.delete("game")?;
    berth.as_before()?;
    let now = fs::read_to_string("/proc/irq/default_smp_affinity")?;
    ensure!(now == default, "new interrupts arrive on {now}");
    Ok(())
}

/// The real one, which looks every second, is told and obeys: nothing has to be put back.
fn irqbalance(node: &Node) -> Result<()> {
    node.port_up(Port::Uplink)?;
    let berth = Berth::make(node)?;
    let _moved = Moved::watch()?;
    // The service manager makes it for it.
    fs::create_dir("/run/irqbalance")?;
    let mut daemon = Command::new("irqbalance");
    let mut daemon = command::start(daemon.args(["--foreground", "--interval=1"]), b"")?;
    poll("socket of irqbalance", LIMIT, || {
        ensure!(daemon.is_running()?, "irqbalance ended");
        Ok(has_socket(Path::new("/run/irqbalance")).then_some(()))
    })?;
    let agent = Agent::start()?;
    agent.set("game", &berth.spec(2))?;
    let cpus = cpus_of(&agent.settled("game")?)?;
    let told = poll("the word to irqbalance", LIMIT, || {
        Ok(fs::read_to_string("/run/berth/irqbalance.json").ok())
    })?;
    let told: Value = serde_json::from_str(&told)?;
    let banned = told["wish"]["cpus"].as_str().context("no CPUs")?;
    ensure!(numbers(banned)?.is_superset(&cpus), "told {banned}");
    // Some looks of its own later there is nothing to repair.
    std::thread::sleep(Duration::from_secs(5));
    let seq = agent.last_event()?;
    stays(Duration::from_secs(10), || berth.is_steered(&cpus))?;
    let moved = agent.events_since(seq)?;
    if let Some(event) = moved.iter().find(|event| event["kind"] == "repair") {
        bail!("it was put back: {event}");
    }
    agent.delete("game")?;
    daemon.kill()?;
    daemon.finish(COMMAND_LIMIT)?;
    berth.attached.del()
}

/// Where interrupts were before something moved them all; they go back there at the end.
struct Moved(Vec<(PathBuf, String)>);

impl Moved {
    fn watch() -> Result<Self> {
        let mut places = Vec::new();
        for entry in fs::read_dir("/proc/irq")? {
            let file = entry?.path().join("smp_affinity");
            if let Ok(mask) = fs::read_to_string(&file) {
                places.push((file, mask));
            }
        }
        Ok(Self(places))
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        for (file, mask) in &self.0 {
            let is_there = fs::read_to_string(file).is_ok_and(|now| now == *mask);
            // One that is gone meanwhile, or cannot be moved at all, is nobody's loss.
            if !is_there && let Err(error) = fs::write(file, mask) {
                eprintln!("{} stays where it is: {error}", file.display());
            }
        }
    }
}

fn has_socket(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

fn cpus_of_irq(irq: u32) -> Result<BTreeSet<u32>> {
    numbers(&affinity(irq).with_context(|| format!("interrupt {irq} has no handler"))?)
}
