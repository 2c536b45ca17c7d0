//! Addresses that a station on the wire has already.

use std::time::{Duration, Instant};

use berth_tests::{Attachment, Need, Node, Pod, Result, Space, Test, ensure, is_emulated, test};
use serde_json::{Value, json};

use crate::kit::{Attached, IFNAME, conf, fixed, foreign_bridge, has_vlans, plugin, refused, with};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    const PING: &[Need] = &[Need::Tool("ping")];
    vec![
        test("taken_addresses_are_refused", PING, taken).varies(),
        test("taken_addresses_of_a_pod_are_refused", ROOT, taken_by_pod).varies(),
        test("asking_takes_less_than_250_ms", ROOT, time),
    ]
}

const THEIRS: &str = "02:00:00:00:00:99";

fn with_address(address: &str, more: Value) -> Value {
    let mut keys = json!({"bridge": "br0", "ipam": fixed(&[address])});
    if has_vlans() {
        keys["vlan"] = json!(100);
    }
    conf("net", with(keys, more))
}

/// A station behind a port of an operator's bridge that has 10.1.0.9 and fd00:1::9.
fn station(node: &Node) -> Result<Pod> {
    let station = node.veth_pod("station", "v0", IFNAME)?;
    station.ip(&format!("link set eth0 address {THEIRS}"))?;
    station.ip("addr add 10.1.0.9/24 dev eth0")?;
    station.ip("addr add fd00:1::9/64 dev eth0 nodad")?;
    let filtering = if has_vlans() { "vlan_filtering 1" } else { "" };
    foreign_bridge(node, "br0", filtering)?;
    node.ip("link set v0 master br0")?;
    if has_vlans() {
        node.run("bridge vlan add dev v0 vid 100 pvid untagged")?;
    }
    Ok(station)
}

fn taken(node: &Node) -> Result<()> {
    let station = station(node)?;
    let pod = node.pod("pod")?;
    let at = Attachment::of(&pod, "pod", IFNAME);
    let free = Attached::new(node, "free", with_address("10.1.0.7/24", json!({})))?;
    ensure!(free.reaches("10.1.0.9")?, "the station is on this network");
    free.del()?;
    node.as_before(|| {
        for address in ["10.1.0.9/24", "fd00:1::9/64"] {
            for keys in [json!({}), json!({"addressConflict": "refuse"})] {
                let reply = plugin()?.call("ADD", &at, &with_address(address, keys))?;
                let bare = address.split('/').next().unwrap_or_default();
                refused(&reply, 103, &[bare, THEIRS, "another address"])?;
                assert_eq!(pod.link_names()?, ["lo"]);
            }
            for policy in ["warn", "off"] {
                let keys = json!({"addressConflict": policy, "announce": false});
                let conf = with_address(address, keys);
                let reply = plugin()?.call("ADD", &at, &conf)?;
                reply.result()?;
                let told = reply.stderr.contains(THEIRS);
                assert_eq!(told, policy == "warn", "{policy}: {}", reply.stderr);
                plugin()?.del(&at, &conf)?;
            }
        }
        Ok(())
    })?;
    // Its own questions for others are no claim, nor is its answer to those.
    station.ip("neigh flush all")?;
    let _unanswered = station.ping("10.1.0.7".parse()?, 1)?;
    Attached::new(node, "again", with_address("10.1.0.7/24", json!({})))?.del()
}

/// Two containers of one node, too, in both orders of addresses.
fn taken_by_pod(node: &Node) -> Result<()> {
    node.as_before(|| {
        let first = Attached::new(node, "first", with_address("10.1.0.7/24", json!({})))?;
        let pod = node.pod("second")?;
        let at = Attachment::of(&pod, "second", IFNAME);
        let ipam = json!({"ipam": fixed(&["fd00:1::1/64", "10.1.0.7/24"])});
        let reply = plugin()?.call("ADD", &at, &with_address("10.1.0.7/24", ipam))?;
        refused(&reply, 103, &["10.1.0.7"])?;
        first.must_hold()?;
        first.del()?;
        // Whoever left has it no more.
        Attached::of(pod, at, with_address("10.1.0.7/24", json!({})))?.del()
    })
}

/// The best of a few, so that a busy machine does not decide.
fn time(node: &Node) -> Result<()> {
    let pod = node.pod("pod")?;
    let at = Attachment::of(&pod, "pod", IFNAME);
    let best = |policy: &str| -> Result<Duration> {
        let conf = with_address("10.1.0.7/24", json!({"addressConflict": policy}));
        let mut best = Duration::MAX;
        for _ in 0..4 {
            let start = Instant::now();
            plugin()?.add(&at, &conf)?;
            best = best.min(start.elapsed());
            plugin()?.del(&at, &conf)?;
        }
        Ok(best)
    };
    let (off, on) = (best("off")?, best("refuse")?);
    let added = on.saturating_sub(off);
    eprintln!("ADD {off:?}, with probes {on:?}");
    // Emulated, where the CPU's share is many times dearer, the time says little.
    let limit = Duration::from_millis(if is_emulated() { 1000 } else { 250 });
    ensure!(added < limit, "{added:?} more");
    ensure!(
        added > Duration::from_millis(100),
        "nobody was asked: {added:?}"
    );
    Ok(())
}
