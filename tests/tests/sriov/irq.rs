//! Interrupts and packet steering: where they are set, that traffic follows, and that
//! they are put back.

use std::fs;

use berth_tests::cpus::of_mask;
use berth_tests::vf::{Vectors, affinity, counts, effective_affinity};
use berth_tests::{Context, Need, Port, Result, Space, Test, ensure, test};
use serde_json::{Value, json};

use crate::kit::{Attached, Cgroup, IFNAME, cpu_list, fixed, of_vf};
use crate::stage::{Case, Stage};

pub(crate) fn tests() -> Vec<Test> {
    const NEEDS: &[Need] = &[Need::Sriov, Need::Wire, Need::CgroupV2];
    vec![
        test("interrupts_and_steering", NEEDS, |node| {
            Stage::set(node, &[(Port::Pf0, 1)])?.run(&CASES)
        })
        .at_home()
        .limit(crate::LIMIT),
    ]
}

const CASES: [Case; 6] = [
    ("pinned_under_traffic", traffic),
    ("pins_of_policies", policies),
    ("nothing_is_known", unpinned),
    ("housekeeping", housekeeping),
    ("rps_lists", rps),
    ("own_affinity_comes_back", preset),
];

fn rps_of(pod: &Attached) -> Result<Vec<u32>> {
    let file = format!("class/net/{IFNAME}/queues/rx-0/rps_cpus");
    Ok(of_mask(&pod.pod.read_sys(&file)?).into_iter().collect())
}

/// A container on the node's own CPUs 2 to 5, two cores, with traffic: every interrupt
/// of a vector is counted where it was pinned, before and after others' pins.
fn traffic(stage: &Stage<'_>) -> Result<()> {
    let cgroup = Cgroup::with_cpus("sriov-test", "2-5")?;
    let vf = &stage.vfs[0];
    let outside = stage.node.outside()?;
    outside.ip("addr add 10.0.0.9/24 dev peer0")?;
    let keys = json!({"ipam": fixed(&["10.0.0.1/24"]),
        "runtimeConfig": {"cgroupPath": cgroup.path()}});
    let pod = Attached::new(stage, "one", of_vf(vf, keys))?;
    let vectors = Vectors::of(vf)?;
    let [tx, rx, control] = vectors.affinities().map(|list| cpu_list(&list));
    let (tx, rx, control) = (tx?, rx?, control?);
    ensure!(tx.len() == 1 && rx.len() == 1, "tx {tx:?}, rx {rx:?}");
    for cpu in [tx[0], rx[0]] {
        ensure!(
            (2..=5).contains(&cpu),
            "CPU {cpu} is none of the container's"
        );
    }
    for cpu in &control {
        ensure!(
            (0..=7).contains(cpu) && !(2..=5).contains(cpu),
            "the control vector is on {control:?}"
        );
    }
    // One queue, four CPUs: all but the interrupt's (and none other) process packets.
    let rps = rps_of(&pod)?;
    ensure!(
        !rps.is_empty() && !rps.contains(&rx[0]) && rps.iter().all(|cpu| (2..=5).contains(cpu)),
        "RPS {rps:?} with the interrupt on {rx:?}"
    );
    counted(&pod, &vectors, tx[0], rx[0])?;
    pod.must_hold()?;
    // The counters follow a pin, so they prove one.
    let other = if rx[0] == 5 { 4 } else { 5 };
    fs::write(
        format!("/proc/irq/{}/smp_affinity_list", vectors.rx),
        other.to_string(),
    )?;
    counted(&pod, &vectors, tx[0], other)?;
    pod.del()
}

/// Traffic raises the counts of tx and rx on these CPUs and on no other.
fn counted(pod: &Attached, vectors: &Vectors, tx: u32, rx: u32) -> Result<()> {
    // The first interrupt after a pin may still come where it was.
    ensure!(pod.reaches("10.0.0.9")?, "no answer from outside");
    let before = [counts(vectors.tx)?, counts(vectors.rx)?];
    let flood = pod.pod.run("ping -q -f -c 200 -w 5 10.0.0.9")?;
    let after = [counts(vectors.tx)?, counts(vectors.rx)?];
    for ((before, after), cpu) in before.iter().zip(&after).zip([tx, rx]) {
        for (at, (old, new)) in before.iter().zip(after).enumerate() {
            let here = u32::try_from(at)? == cpu;
            ensure!(
                (new > old) == here,
                "CPU {at}: {old} to {new}, pinned to {cpu}; {flood}"
            );
        }
    }
    assert_eq!(effective_affinity(vectors.tx)?, tx.to_string());
    assert_eq!(effective_affinity(vectors.rx)?, rx.to_string());
    Ok(())
}

/// Each policy's CPUs for tx and rx; one CPU per vector.
fn policies(stage: &Stage<'_>) -> Result<()> {
    let vf = &stage.vfs[0];
    let cgroup = Cgroup::with_cpus("sriov-test", "2-5")?;
    let all: [(Value, &[u32]); 8] = [
        (json!({"policy": "cpuset"}), &[2, 3, 4, 5]),
        (json!({"policy": "numa"}), &[0, 1, 2, 3, 4, 5, 6, 7]),
        (json!({"policy": "single"}), &[2, 3, 4, 5]),
        (json!({"policy": "cpus", "cpus": "6-7"}), &[6, 7]),
        (json!({"policy": "cpus", "cpus": "12"}), &[12]),
        (json!({"placement": "own"}), &[2, 3, 4, 5]),
        (json!({"placement": "first"}), &[2, 3]),
        (json!({"placement": "sibling"}), &[3, 5]),
    ];
    for (irq, allowed) in all {
        let keys = json!({"irq": irq, "runtimeConfig": {"cgroupPath": cgroup.path()}});
        let pod = Attached::new(stage, "one", of_vf(vf, keys))?;
        let vectors = Vectors::of(vf)?;
        let [tx, rx, _] = vectors.affinities();
        for list in [&tx, &rx] {
            let cpus = cpu_list(list)?;
            ensure!(
                cpus.len() == 1 && allowed.contains(&cpus[0]),
                "{irq}: on {cpus:?}, allowed {allowed:?}"
            );
        }
        if irq["policy"] == "single" {
            assert_eq!(tx, rx);
        }
        pod.must_hold().with_context(|| irq.to_string())?;
        pod.del()?;
        stage.must_be_as_before(&irq.to_string(), berth_tests::Look::Short)?;
    }
    let off = json!({"irq": {"policy": "off"}, "rps": {"cpus": "off"},
        "runtimeConfig": {"cgroupPath": cgroup.path()}});
    let pod = Attached::new(stage, "one", of_vf(vf, off))?;
    assert_eq!(Vectors::of(vf)?.affinities(), ["0-7", "0-7", "0-7"]);
    assert!(rps_of(&pod)?.is_empty(), "RPS is on");
    pod.del()
}

/// Of a container nothing is known of: interrupts on the VF's node, no RPS.
fn unpinned(stage: &Stage<'_>) -> Result<()> {
    let pod = Attached::new(stage, "one", of_vf(&stage.vfs[0], json!({})))?;
    for list in Vectors::of(&stage.vfs[0])?.affinities() {
        let cpus = cpu_list(&list)?;
        ensure!(cpus.iter().all(|cpu| *cpu <= 7), "on {cpus:?}");
    }
    assert!(rps_of(&pod)?.is_empty(), "RPS is on");
    pod.must_hold()?;
    pod.del()
}

/// With housekeeping CPUs named, the control vector is on one of them.
fn housekeeping(stage: &Stage<'_>) -> Result<()> {
    let cgroup = Cgroup::with_cpus("sriov-test", "2-5")?;
    fs::create_dir_all("/run/berth")?;
    let text = json!({"format": 1, "housekeeping": "14-15"}).to_string();
    fs::write("/run/berth/node.json", text)?;
    let keys = json!({"runtimeConfig": {"cgroupPath": cgroup.path()}});
    let outcome = Attached::new(stage, "one", of_vf(&stage.vfs[0], keys)).and_then(|pod| {
        let vectors = Vectors::of(&stage.vfs[0])?;
        let control = cpu_list(&vectors.affinities()[2])?;
        ensure!(
            control.iter().all(|cpu| [14, 15].contains(cpu)),
            "control on {control:?}"
        );
        pod.del()
    });
    fs::remove_file("/run/berth/node.json")?;
    outcome
}

fn rps(stage: &Stage<'_>) -> Result<()> {
    let vf = &stage.vfs[0];
    let keys = json!({"rps": {"cpus": "8,10-11", "flowEntries": 512}});
    let pod = Attached::new(stage, "one", of_vf(vf, keys))?;
    assert_eq!(rps_of(&pod)?, [8, 10, 11]);
    let file = format!("class/net/{IFNAME}/queues/rx-0/rps_flow_cnt");
    assert_eq!(pod.pod.read_sys(&file)?, "512");
    pod.must_hold()?;
    pod.del()
}

/// What an operator pinned and steered by hand is what DEL brings back.
fn preset(stage: &Stage<'_>) -> Result<()> {
    let (node, vf) = (stage.node, &stage.vfs[0]);
    // Its files are there once it was up for the first time.
    node.ip(&format!("link set {} up", vf.name))?;
    node.ip(&format!("link set {} down", vf.name))?;
    let irq = vf.irqs()?[1];
    let file = format!("/proc/irq/{irq}/smp_affinity_list");
    let rps = format!("/sys/class/net/{}/queues/rx-0/rps_cpus", vf.name);
    node.write(&file, "9")?;
    node.write(&rps, "0300")?;
    let preset = node.vf_facts(&stage.vfs, berth_tests::Look::Short)?;
    let keys = json!({"rps": {"cpus": "4"}, "irq": {"policy": "cpus", "cpus": "5"}});
    let pod = Attached::new(stage, "one", of_vf(vf, keys))?;
    assert_eq!(affinity(irq).as_deref(), Some("5"));
    pod.del()?;
    preset.must_equal(&node.vf_facts(&stage.vfs, berth_tests::Look::Short)?)?;
    // A move that still waits for an interrupt outlives the link's being down, and hides
    // what is written then.
    node.ip(&format!("link set {} up", vf.name))?;
    node.write(&file, "0-7")?;
    node.ip(&format!("link set {} down", vf.name))?;
    node.write(&rps, "0")
}
