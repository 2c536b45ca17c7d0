//! CHECK names each single thing that was changed from outside, and that alone.

use berth_tests::{Context, Look, Need, Node, Port, Result, Space, Test, Vf, ensure, test};
use serde_json::json;

use crate::kit::{Attached, Cgroup, IFNAME, code, of_vf, refused};
use crate::stage::Stage;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test(
            "check_names_each_change",
            &[Need::Sriov, Need::CgroupV2],
            |node| Stage::set(node, &[(Port::Pf0, 1)])?.run(&[("check", check)]),
        )
        .at_home()
        .limit(crate::LIMIT),
    ]
}

/// A change, what takes it back, and what CHECK must say. A word `@` before it: inside
/// the container. What is no command is a value and a file.
const CHANGES: [(&str, &str, &[&str]); 18] = [
    (
        "ip link set pf0 vf 0 vlan 101",
        "ip link set pf0 vf 0 vlan 100 qos 2",
        &["VLAN", "100", "101"],
    ),
    (
        "ip link set pf0 vf 0 vlan 0",
        "ip link set pf0 vf 0 vlan 100 qos 2",
        &["VLAN", "100"],
    ),
    (
        "ip link set pf0 vf 0 vlan 100 qos 3",
        "ip link set pf0 vf 0 vlan 100 qos 2",
        &["2", "3"],
    ),
    (
        "ip link set pf0 vf 0 spoofchk on",
        "ip link set pf0 vf 0 spoofchk off",
        &["spoof"],
    ),
    (
        "ip link set pf0 vf 0 trust off",
        "ip link set pf0 vf 0 trust on",
        &["trust"],
    ),
    (
        "ip link set pf0 vf 0 max_tx_rate 51",
        "ip link set pf0 vf 0 max_tx_rate 50",
        &["rate", "50", "51"],
    ),
    (
        "ip link set pf0 vf 0 mac 02:00:5e:10:00:32",
        "ip link set pf0 vf 0 mac 02:00:5e:10:00:31",
        &["02:00:5e:10:00:32"],
    ),
    (
        "@ip link set net1 mtu 1400",
        "@ip link set net1 mtu 3000",
        &["mtu", "1400", "3000"],
    ),
    (
        "@ip link set net1 promisc off",
        "@ip link set net1 promisc on",
        &["promisc"],
    ),
    ("@ip link set net1 down", "@UP", &["down"]),
    (
        "@ip link set net1 name net7",
        "@ip link set net7 name net1",
        &["net1"],
    ),
    (
        "@ip addr del 10.1.0.1/24 dev net1",
        "@ADDRESS",
        &["10.1.0.1/24"],
    ),
    (
        "@ip route del 10.8.0.0/16",
        "@ip route add 10.8.0.0/16 via 10.1.0.254",
        &["10.8.0.0/16"],
    ),
    (
        "@1 class/net/net1/queues/rx-0/rps_cpus",
        "@18 class/net/net1/queues/rx-0/rps_cpus",
        &["rps"],
    ),
    (
        "@5 class/net/net1/queues/rx-0/rps_flow_cnt",
        "@64 class/net/net1/queues/rx-0/rps_flow_cnt",
        &["rps_flow_cnt"],
    ),
    ("7 IRQ0", "5 IRQ0", &["interrupt", "7"]),
    ("7 IRQ1", "5 IRQ1", &["interrupt", "7"]),
    (
        "@x class/net/net1/ifalias",
        "@berth1 net one net1 class/net/net1/ifalias",
        &["alias"],
    ),
];

fn apply(node: &Node, pod: &Attached, vf: &Vf, what: &str) -> Result<()> {
    let (inside, what) = match what.strip_prefix('@') {
        Some(rest) => (true, rest),
        None => (false, what),
    };
    let space = |line: &str| {
        if inside {
            pod.pod.run(line)
        } else {
            node.run(line)
        }
    };
    match what {
        "UP" => {
            space("ip link set net1 up")?;
            route(pod)
        }
        "ADDRESS" => {
            space("ip addr add 10.1.0.1/24 dev net1")?;
            route(pod)
        }
        line if line.starts_with("ip ") => space(line).map(|_| ()),
        line => {
            let (value, file) = line.rsplit_once(' ').context("a value and a file")?;
            match file.strip_prefix("IRQ") {
                Some(number) => {
                    let irq = vf.irqs()?[number.parse::<usize>()?];
                    node.write(&format!("/proc/irq/{irq}/smp_affinity_list"), value)
                }
                None => pod.pod.write_sys(file, value),
            }
        }
    }
}

/// A link that goes down takes the routes through it along.
fn route(pod: &Attached) -> Result<()> {
    let route = "route replace 10.8.0.0/16 via 10.1.0.254";
    pod.pod.ip(route).map(|_| ())
}

fn check(stage: &Stage<'_>) -> Result<()> {
    let (node, vf) = (stage.node, &stage.vfs[0]);
    let cgroup = Cgroup::with_cpus("sriov-test", "2-5")?;
    let keys = json!({"vlan": 100, "vlanQoS": 2, "trust": "on", "spoofchk": "off",
        "max_tx_rate": 50, "mtu": 3000, "mac": "02:00:5e:10:00:31", "promisc": true,
        "rps": {"cpus": "3-4", "flowEntries": 64},
        "irq": {"policy": "cpus", "cpus": "5"},
        "runtimeConfig": {"cgroupPath": cgroup.path()},
        "ipam": {"type": "static", "addresses": [{"address": "10.1.0.1/24"}],
            "routes": [{"dst": "10.8.0.0/16", "gw": "10.1.0.254"}]}});
    let pod = Attached::new(stage, "one", of_vf(vf, keys))?;
    pod.must_hold()?;
    let facts = node.vf_facts_in(&pod.pod, vf, Look::Short)?;
    let mut wrong = Vec::new();
    for (change, undo, says) in CHANGES {
        apply(node, &pod, vf, change).with_context(|| format!("make {change:?}"))?;
        let named = refused(&pod.check()?, code::DRIFT, says);
        wrong.extend(named.err().map(|error| format!("{change}: {error:#}")));
        apply(node, &pod, vf, undo).with_context(|| format!("take back {change:?}"))?;
        let held = pod.must_hold();
        wrong.extend(held.err().map(|error| format!("{undo}: {error:#}")));
        facts.must_equal(&node.vf_facts_in(&pod.pod, vf, Look::Short)?)?;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Several at once are all named; a VF that is gone is one thing.
    node.ip("link set pf0 vf 0 trust off")?;
    pod.pod.ip(&format!("link set {IFNAME} mtu 1400"))?;
    refused(&pod.check()?, code::DRIFT, &["trust", "mtu"])?;
    pod.del()
}
