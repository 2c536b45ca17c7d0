//! Many at once: pods on a bridge that is not there yet, two networks in one pod, and
//! attachments that come while others go.

use std::time::Duration;

use berth_tests::{
    Attachment, Context, Need, Node, Pod, Result, Running, Space, Test, ensure, is_emulated,
    is_soak, test,
};
use serde_json::{Value, json};

use crate::gc::{of_network, valid};
use crate::kit::{Attached, conf, fixed, has_vlans, plugin, record_file, with};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    vec![
        test("many_adds_and_dels_at_once", ROOT, crowd)
            .varies()
            .limit(CROWD_LIMIT),
        test("many_at_once_on_a_bridge_per_vlan", ROOT, split_crowd)
            .varies()
            .limit(CROWD_LIMIT),
        test("two_networks_in_one_pod_at_once", ROOT, two_networks).varies(),
        test("adds_beside_dels", ROOT, churn).varies(),
        test("gc_beside_adds", ROOT, collected).varies(),
    ]
}

const CROWD_LIMIT: Duration = Duration::from_secs(900);
/// Pods of [`crowd`], and what an emulated CPU gets through in its time.
const CROWD: usize = 200;
const EMULATED_CROWD: usize = 64;
/// VLANs of a crowd, where the kernel has any.
const VLANS: usize = 4;
/// Pods and rounds of [`collected`].
const COLLECTED: usize = 12;
const COLLECTED_ROUNDS: usize = 4;
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

/// All of it, unless every process is a slow one.
fn crowd_size() -> usize {
    if is_emulated() && !is_soak() {
        EMULATED_CROWD
    } else {
        CROWD
    }
}

/// Pods that are all added at once, and all deleted at once, each by its own configuration.
struct Crowd {
    pods: Vec<Pod>,
    confs: Vec<Value>,
}

impl Crowd {
    fn new(node: &Node, conf: impl Fn(usize) -> Value) -> Result<Self> {
        let size = crowd_size();
        let pods = (0..size).map(|n| node.pod(&format!("pod{n}")));
        Ok(Self {
            pods: pods.collect::<Result<_>>()?,
            confs: (0..size).map(conf).collect(),
        })
    }

    fn all(&self, verb: &str) -> Result<Vec<Value>> {
        let plugin = plugin()?;
        let each = self.pods.iter().zip(&self.confs);
        let running = each
            .map(|(pod, conf)| plugin.start(verb, &Attachment::of(pod, &name(pod), "eth0"), conf));
        finish(running.collect::<Result<_>>()?)
    }

    /// Some of them are as their ADD made them.
    fn must_hold(&self, results: &[Value]) -> Result<()> {
        let each = self.pods.iter().zip(&self.confs).zip(results);
        for ((pod, conf), result) in each.step_by(self.pods.len() / 10) {
            let later = with(conf.clone(), json!({"prevResult": result}));
            plugin()?.check(&Attachment::of(pod, &name(pod), "eth0"), &later)?;
        }
        Ok(())
    }
}

/// On one bridge that is not there yet, in several VLANs where there are any.
fn crowd(node: &Node) -> Result<()> {
    let crowd = Crowd::new(node, |n| {
        let conf = bare("net", "br0");
        match conf.get("vlan").is_some() {
            true => with(conf, json!({"vlan": 100 + n % VLANS})),
            false => conf,
        }
    })?;
    node.as_before(|| {
        let results = crowd.all("ADD")?;
        let bridge = &results[0]["interfaces"][0];
        ensure!(
            results.iter().all(|one| one["interfaces"][0] == *bridge),
            "not all on one bridge"
        );
        assert_eq!(ports_of(node, "br0")?, crowd.pods.len());
        crowd.must_hold(&results)?;
        crowd.all("DEL")?;
        ensure!(!node.has_link("br0")?, "the bridge is left");
        assert_eq!(crowd.pods[crowd.pods.len() / 2].link_names()?, ["lo"]);
        Ok(())
    })
}

/// On a bridge for each VLAN, none of which is there yet, nor their devices on the uplink
/// where the kernel has such.
fn split_crowd(node: &Node) -> Result<()> {
    let _outside = node.veth_pod("outside", "up0", "eth0")?;
    let crowd = Crowd::new(node, |n| {
        let keys = json!({"bridge": "br0", "layout": "per-vlan", "vlan": 100 + n % VLANS,
            "announce": false});
        let uplink = match has_vlans() {
            true => json!({"uplink": "up0"}),
            false => json!({}),
        };
        conf("net", with(keys, uplink))
    })?;
    node.as_before(|| {
        let results = crowd.all("ADD")?;
        let uplinks = usize::from(has_vlans());
        for vlan in (100..).take(VLANS) {
            let ports = ports_of(node, &format!("br0.{vlan}"))?;
            assert_eq!(ports, crowd.pods.len() / VLANS + uplinks, "VLAN {vlan}");
        }
        crowd.must_hold(&results)?;
        crowd.all("DEL")?;
        for vlan in (100..).take(VLANS) {
            ensure!(!node.has_link(&format!("br0.{vlan}"))?, "a bridge is left");
            ensure!(!node.has_link(&format!("up0.{vlan}"))?, "a device is left");
        }
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

/// GC of a network whose ADDs are under way: it takes what is old, fails neither itself
/// nor any of them, and spares those it meets. One that ends between the list that GC is
/// given and its first look is not known to it from an old one (the specification has
/// runtimes call GC alone): that may go, but then wholly.
fn collected(node: &Node) -> Result<()> {
    let ipam = json!({"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]]});
    let conf = with(bare("net", "br0"), json!({"ipam": ipam}));
    let pods = (0..COLLECTED).map(|n| node.pod(&format!("pod{n}")));
    let pods: Vec<Pod> = pods.collect::<Result<_>>()?;
    // The pool stays, as everything of its network does that is no lease.
    Attached::new(node, "first", conf.clone())?.del()?;
    let (mut met, mut lost) = (0, 0);
    node.as_before(|| {
        for _ in 0..COLLECTED_ROUNDS {
            let seen = collected_once(node, &pods, &conf)?;
            met += seen.0;
            lost += seen.1;
        }
        Ok(())
    })?;
    eprintln!("{met} ADDs were under way when a GC began, {lost} of them went");
    ensure!(met > 0, "no ADD was under way when a GC began");
    // On an emulated CPU an ADD ends while GC starts.
    ensure!(is_emulated() || lost * 2 < met, "{lost} of {met} went");
    Ok(())
}

/// How many ADDs were under way when a GC began, and how many of them are gone.
fn collected_once(node: &Node, pods: &[Pod], conf: &Value) -> Result<(usize, usize)> {
    let gc = |ids: &[String]| {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let list = valid("net", VALID, &ids);
        of_network("GC", &with(conf.clone(), json!({VALID: list[VALID]})))?.result()
    };
    let plugin = plugin()?;
    let at = |pod: &Pod| Attachment::of(pod, &name(pod), "eth0");
    let old = node.pod("old")?;
    plugin.add(&at(&old), conf)?;
    let running = pods.iter().map(|pod| plugin.start("ADD", &at(pod), conf));
    let mut running: Vec<Running> = running.collect::<Result<_>>()?;
    let on_record = |pod: &Pod| record_file("net", &name(pod)).exists();
    let mut met = vec![false; pods.len()];
    while pods.iter().filter(|pod| on_record(pod)).count() < pods.len() / 2 {
        std::thread::yield_now();
    }
    loop {
        let mut ended = Vec::new();
        for ((one, pod), met) in running.iter_mut().zip(pods).zip(&mut met) {
            match one.is_running()? {
                true => *met |= on_record(pod),
                false => ended.push(name(pod)),
            }
        }
        gc(&ended)?;
        assert_eq!(old.link_names()?, ["lo"], "what is old is left");
        if ended.len() == pods.len() {
            break;
        }
    }
    let mut lost = 0;
    let results = finish(running)?;
    for ((pod, result), met) in pods.iter().zip(&results).zip(&met) {
        // All of them ran when the first GC was given its list.
        if !pod.has_link("eth0")? {
            lost += usize::from(*met);
            continue;
        }
        let later = with(conf.clone(), json!({"prevResult": result}));
        plugin.check(&at(pod), &later)?;
    }
    gc(&[])?;
    ensure!(!node.has_link("br0")?, "the bridge is left");
    Ok((met.iter().filter(|met| **met).count(), lost))
}

const VALID: &str = "cni.dev/valid-attachments";

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
