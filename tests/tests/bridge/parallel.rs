//! Many at once: pods on a bridge that is not there yet, two networks in one pod, and
//! attachments that come while others go.

use std::time::Duration;

use berth_tests::{
    Attachment, Context, Need, Node, Pod, Result, Running, Space, Test, ensure, test,
};
use serde_json::{Value, json};

use crate::kit::{Attached, conf, fixed, has_vlans, plugin, with};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    vec![
        test("many_adds_and_dels_at_once", ROOT, crowd).limit(Duration::from_secs(300)),
        test("two_networks_in_one_pod_at_once", ROOT, two_networks),
        test("adds_beside_dels", ROOT, churn),
    ]
}

/// Pods of [`crowd`].
const CROWD: usize = 100;
/// Rounds of [`churn`].
const ROUNDS: usize = 12;
/// For one plugin among all the others on an emulated CPU.
const LIMIT: Duration = Duration::from_secs(120);

/// Layer 2 on `bridge`, in VLAN 100 where the kernel has VLANs.
fn bare(network: &str, bridge: &str) -> Value {
    let keys = json!({"bridge": bridge, "announce": false});
    let keys = if has_vlans() {
        with(keys, json!({"vlan": 100}))
    } else {
        keys
    };
    conf(network, keys)
}

fn finish(running: Vec<Running>) -> Result<Vec<Value>> {
    let results = running.into_iter().enumerate().map(|(number, one)| {
        let reply = one.finish_within(LIMIT)?;
        reply.result().with_context(|| format!("number {number}"))
    });
    results.collect()
}

fn ports_of(node: &Node, bridge: &str) -> Result<usize> {
    let ports = node.ip_json(&format!("link show master {bridge}"))?;
    let ports = ports.as_array().into_iter().flatten();
    Ok(ports.filter(|port| port.get("ifname").is_some()).count())
}

fn crowd(node: &Node) -> Result<()> {
    let pods = (0..CROWD).map(|n| node.pod(&format!("pod{n}")));
    let pods: Vec<Pod> = pods.collect::<Result<_>>()?;
    let (plugin, conf) = (plugin()?, bare("net", "br0"));
    let all: Vec<Attachment> = pods
        .iter()
        .enumerate()
        .map(|(n, pod)| Attachment::of(pod, &format!("pod{n}"), "eth0"))
        .collect();
    let start = |verb: &str| -> Result<Vec<Running>> {
        all.iter().map(|at| plugin.start(verb, at, &conf)).collect()
    };
    node.as_before(|| {
        let results = finish(start("ADD")?)?;
        let bridge = &results[0]["interfaces"][0];
        ensure!(
            results.iter().all(|one| one["interfaces"][0] == *bridge),
            "not all on one bridge"
        );
        assert_eq!(ports_of(node, "br0")?, CROWD);
        for (at, result) in all.iter().zip(&results).step_by(CROWD / 10) {
            let later = with(conf.clone(), json!({"prevResult": result}));
            plugin.check(at, &later)?;
        }
        finish(start("DEL")?)?;
        ensure!(!node.has_link("br0")?, "the bridge is left");
        assert_eq!(pods[CROWD / 2].link_names()?, ["lo"]);
        Ok(())
    })
}

/// As a runtime does that attaches all its networks concurrently.
fn two_networks(node: &Node) -> Result<()> {
    let plugin = plugin()?;
    let confs = ["one", "two"].map(|network| {
        let keys = json!({"ipam": fixed(&[if network == "one" { "10.1.0.1/24" } else { "10.2.0.1/24" }]),
            "rps": {"cpus": "0"}});
        with(bare(network, &format!("br-{network}")), keys)
    });
    let pod = node.pod("pod")?;
    let at = ["eth0", "eth1"].map(|ifname| Attachment::of(&pod, "pod", ifname));
    node.as_before(|| {
        for _ in 0..5 {
            let start = |verb: &str| -> Result<Vec<Running>> {
                let pairs = at.iter().zip(&confs);
                pairs
                    .map(|(at, conf)| plugin.start(verb, at, conf))
                    .collect()
            };
            let results = finish(start("ADD")?)?;
            for ((at, conf), result) in at.iter().zip(&confs).zip(&results) {
                plugin.check(at, &with(conf.clone(), json!({"prevResult": result})))?;
            }
            assert_eq!(pod.addresses("eth0")?, ["10.1.0.1/24"]);
            assert_eq!(pod.addresses("eth1")?, ["10.2.0.1/24"]);
            finish(start("DEL")?)?;
            assert_eq!(pod.link_names()?, ["lo"]);
        }
        Ok(())
    })
}

/// In every round the only attachment goes while another comes: whoever is first, the
/// newcomer must end up on a bridge that is there.
fn churn(node: &Node) -> Result<()> {
    let pods = [node.pod("even")?, node.pod("odd")?];
    let plugin = plugin()?;
    let conf = bare("net", "br0");
    node.as_before(|| {
        let [even, odd] = [
            Attachment::of(&pods[0], "even", "eth0"),
            Attachment::of(&pods[1], "odd", "eth0"),
        ];
        plugin.add(&even, &conf)?;
        let (mut old, mut new) = (even, odd);
        for round in 0..ROUNDS {
            let (going, coming) = if round % 2 == 0 {
                let going = plugin.start("DEL", &old, &conf)?;
                (going, plugin.start("ADD", &new, &conf)?)
            } else {
                let coming = plugin.start("ADD", &new, &conf)?;
                (plugin.start("DEL", &old, &conf)?, coming)
            };
            let results = finish(vec![coming, going])?;
            let later = with(conf.clone(), json!({"prevResult": results[0]}));
            plugin
                .check(&new, &later)
                .with_context(|| format!("round {round}"))?;
            assert_eq!(ports_of(node, "br0")?, 1, "round {round}");
            std::mem::swap(&mut old, &mut new);
        }
        plugin.del(&old, &conf)
    })?;
    beside(node)
}

/// One attachment that lives does not notice others coming and going.
fn beside(node: &Node) -> Result<()> {
    node.as_before(|| {
        let living = Attached::new(node, "living", bare("net", "br0"))?;
        let index = node.link("br0")?["ifindex"].clone();
        let pods: Vec<Pod> = (0..4)
            .map(|n| node.pod(&format!("n{n}")))
            .collect::<Result<_>>()?;
        let plugin = plugin()?;
        for _ in 0..3 {
            for verb in ["ADD", "DEL"] {
                let at = pods
                    .iter()
                    .map(|pod| Attachment::of(pod, &name(pod), "eth0"));
                let running = at.map(|at| plugin.start(verb, &at, &living.conf));
                let running = running.collect::<Result<Vec<_>>>()?;
                living.must_hold()?;
                finish(running)?;
                assert_eq!(node.link("br0")?["ifindex"], index);
            }
        }
        living.must_hold()?;
        living.del()
    })
}

fn name(pod: &Pod) -> String {
    let name = pod.path().file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
