//! Whatever a container did to its VF, and wherever the VF is at DEL, it comes back as
//! it was; or it is kept from others until somebody looked.

use std::fs;

use berth_tests::{Context, Look, Need, Port, Result, Space, Test, ensure, poll, test};
use serde_json::{Value, json};

use crate::kit::{Attached, IFNAME, add_refused, claim_file, code, of_vf, record_file};
use crate::stage::{Case, Stage};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("every_vf_comes_back_as_it_was", &[Need::Sriov], |node| {
            Stage::set(node, &[(Port::Pf0, 2)])?.run(&CASES)
        })
        .at_home()
        .limit(crate::LIMIT),
    ]
}

const CASES: [Case; 9] = [
    ("container_changed_everything", changed),
    ("container_took_it_further", moved_on),
    ("namespace_died", died),
    ("namespace_died_after_changes", died_changed),
    ("namespace_lives_without_path", unbound),
    ("driver_gone_at_del", driver_gone),
    ("name_is_taken_at_home", name_taken),
    ("altname_is_taken_at_home", altname_taken),
    ("address_at_the_pf_is_newer", newer_address),
];

/// Everything of the configuration, so that everything has to be put back.
fn full(stage: &Stage<'_>) -> Value {
    of_vf(
        &stage.vfs[1],
        json!({"vlan": 100, "vlanQoS": 2, "trust": "on", "spoofchk": "off",
            "max_tx_rate": 50, "mtu": 4000, "mac": "02:00:5e:10:00:42",
            "rps": {"cpus": "2-3", "flowEntries": 128}, "irq": {"policy": "cpus", "cpus": "6"},
            "ipam": {"type": "static", "addresses": [{"address": "10.1.0.1/24"}]}}),
    )
}

/// What root in the container can do to its link; IF is the link.
const MUTATIONS: [&str; 16] = [
    "ip link set IF address 02:00:00:00:00:99",
    "ip link set IF mtu 8000",
    "ip link set IF promisc on",
    "ip link set IF allmulticast on",
    "ip link set IF txqueuelen 13",
    "ip link set IF group 42",
    "ip link set IF alias changed",
    "ip link property add dev IF altname mine-now",
    "ip addr add 10.55.0.1/24 dev IF",
    "ip link set IF arp off",
    "ethtool -K IF gro off gso off",
    "ethtool -K IF tx-tcp-segmentation off",
    "ethtool -G IF rx 256 tx 512",
    "ethtool -C IF rx-usecs 100",
    "ip link set IF down",
    "ip link set IF name gone7",
];
const FILES: [(&str, &str); 4] = [
    ("queues/rx-0/rps_cpus", "ff00"),
    ("queues/rx-0/rps_flow_cnt", "2048"),
    ("gro_flush_timeout", "20000"),
    ("napi_defer_hard_irqs", "2"),
];

/// Does all of it; what this VF's driver refuses is not a change to be put back.
fn mutate(pod: &Attached) -> Result<()> {
    for (file, text) in FILES {
        pod.pod
            .write_sys(&format!("class/net/{IFNAME}/{file}"), text)?;
    }
    let mut done = 0;
    for line in MUTATIONS {
        let outcome = pod.pod.run(&line.replace("IF", IFNAME));
        if let Err(error) = &outcome {
            eprintln!("not done: {error:#}");
        }
        done += usize::from(outcome.is_ok());
    }
    ensure!(done + 2 >= MUTATIONS.len(), "only {done} changes were made");
    Ok(())
}

/// Nothing keeps the VF any more, and the next user gets it.
fn reusable(stage: &Stage<'_>, vf: usize, after: &str) -> Result<()> {
    stage.must_be_as_before(after, Look::Whole)?;
    let pod = Attached::new(stage, "next", of_vf(&stage.vfs[vf], json!({})))
        .with_context(|| format!("after {after}"))?;
    pod.must_hold()?;
    pod.del()
}

fn changed(stage: &Stage<'_>) -> Result<()> {
    let pod = Attached::new(stage, "one", full(stage))?;
    mutate(&pod)?;
    pod.del()?;
    ensure!(pod.pod.link_names()? == ["lo"], "the VF is still inside");
    reusable(stage, 1, "every change")
}

/// The container hands its link to another namespace of its own.
fn moved_on(stage: &Stage<'_>) -> Result<()> {
    let pod = Attached::new(stage, "one", full(stage))?;
    let inner = stage.node.pod("inner")?;
    pod.pod.ip(&format!(
        "link set {IFNAME} netns {} name deep",
        inner.path().display()
    ))?;
    inner.ip("link set deep address 02:00:00:00:00:98")?;
    pod.del()?;
    assert_eq!(inner.link_names()?, ["lo"]);
    reusable(stage, 1, "a move into another namespace")
}

/// The kernel brings the VF home by itself, under the container's name for it, with
/// all that was done to it.
fn died(stage: &Stage<'_>) -> Result<()> {
    let attached = Attached::new(stage, "one", full(stage))?;
    let berth_tests::Attached { pod, at, conf, .. } = attached.0;
    drop(pod);
    crate::kit::plugin()?.del(&at.without_netns(), &conf)?;
    reusable(stage, 1, "the namespace's death")
}

fn died_changed(stage: &Stage<'_>) -> Result<()> {
    let attached = Attached::new(stage, "one", full(stage))?;
    mutate(&attached)?;
    let berth_tests::Attached { pod, at, conf, .. } = attached.0;
    drop(pod);
    let vf = &stage.vfs[1];
    poll(
        "return of the VF",
        std::time::Duration::from_secs(10),
        || Ok((!vf.links().is_empty()).then_some(())),
    )?;
    crate::kit::plugin()?.del(&at, &conf)?;
    reusable(stage, 1, "changes and the namespace's death")
}

fn unbound(stage: &Stage<'_>) -> Result<()> {
    let pod = Attached::new(stage, "one", full(stage))?;
    pod.pod.unbind()?;
    pod.del()?;
    assert_eq!(pod.pod.link_names()?, ["lo"], "the VF is still inside");
    reusable(stage, 1, "a DEL without the path")
}

/// Somebody took the driver off; DEL binds it again.
fn driver_gone(stage: &Stage<'_>) -> Result<()> {
    let pod = Attached::new(stage, "one", full(stage))?;
    stage.vfs[1].unbind()?;
    pod.del()?;
    reusable(stage, 1, "a driver that was taken off")
}

/// Another link has the VF's name: DEL succeeds, the VF is kept from others with the
/// reason, until the name is free and somebody releases it.
fn name_taken(stage: &Stage<'_>) -> Result<()> {
    let (node, vf) = (stage.node, &stage.vfs[1]);
    let pod = Attached::new(stage, "one", full(stage))?;
    node.ip(&format!("link add {} type bridge", vf.name))?;
    let outcome = (|| {
        pod.del()?;
        ensure!(
            vf.links().len() == 1,
            "the VF is not at home: {:?}",
            vf.links()
        );
        let side = vf.side(node)?;
        assert_eq!(side["vlan_list"][0].get("vlan"), None, "its VLAN is left");
        ensure!(!record_file("net", "one").exists(), "the record is left");
        let claim = fs::read_to_string(claim_file(vf)).context("no quarantine")?;
        ensure!(
            claim.contains("quarantine") && claim.contains(&vf.name),
            "{claim}"
        );
        add_refused(
            stage,
            &of_vf(vf, json!({})),
            code::AGAIN,
            &[&vf.address, "quarantine", &vf.name],
        )?;
        pod.del().context("a second DEL")
    })();
    node.ip(&format!("link del {}", vf.name))?;
    outcome?;
    by_hand(stage)
}

fn altname_taken(stage: &Stage<'_>) -> Result<()> {
    let (node, vf) = (stage.node, &stage.vfs[1]);
    node.ip(&format!("link property add dev {} altname lab-vf", vf.name))?;
    let with_altname = node.vf_facts(&stage.vfs, Look::Whole)?;
    let pod = Attached::new(stage, "one", full(stage))?;
    pod.del()?;
    with_altname.must_equal(&node.vf_facts(&stage.vfs, Look::Whole)?)?;
    // Taken by another meanwhile.
    let pod = Attached::new(stage, "two", full(stage))?;
    pod.pod
        .run(&format!("ip link property del dev {IFNAME} altname lab-vf"))?;
    node.ip("link property add dev uplink0 altname lab-vf")?;
    let outcome = (|| {
        pod.del()?;
        let claim = fs::read_to_string(claim_file(vf)).context("no quarantine")?;
        ensure!(claim.contains("lab-vf"), "{claim}");
        Ok(())
    })();
    node.ip("link property del dev uplink0 altname lab-vf")?;
    outcome?;
    by_hand(stage)?;
    node.ip(&format!("link property del dev {} altname lab-vf", vf.name))?;
    Ok(())
}

/// The PF was told an address while the VF's driver was bound, which takes it later: the
/// address the interface had cannot come back, and nobody misses it.
fn newer_address(stage: &Stage<'_>) -> Result<()> {
    let (node, vf) = (stage.node, &stage.vfs[1]);
    let side = vf.side(node)?;
    let mac = side["address"].as_str().context("no address")?.to_owned();
    node.ip("link set pf0 vf 1 mac 02:00:5e:10:00:77")?;
    let outcome = (|| {
        let pod = Attached::new(stage, "one", of_vf(vf, json!({"vlan": 100})))?;
        pod.del()?;
        let claim = fs::read_to_string(claim_file(vf)).unwrap_or_default();
        ensure!(claim.is_empty(), "{claim}");
        ensure!(vf.side(node)?["address"] == "02:00:5e:10:00:77");
        Ok(())
    })();
    node.ip(&format!("link set pf0 vf 1 mac {mac}"))?;
    vf.unbind()?;
    vf.bind("igbvf")?;
    outcome
}

/// `berth vf release` brings it back once nothing is in the way.
fn by_hand(stage: &Stage<'_>) -> Result<()> {
    let vf = &stage.vfs[1];
    let berth = berth_tests::plugin::binary("berth")?;
    let line = format!("{} vf release {}", berth.display(), vf.address);
    stage.node.run(&line)?;
    ensure!(!claim_file(vf).exists(), "the claim is left after {line}");
    Ok(())
}
