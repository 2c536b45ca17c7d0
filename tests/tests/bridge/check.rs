//! CHECK names each thing that was changed from outside, and that alone.

use berth_tests::{Attachment, Context, Need, Node, Result, Space, Test, ensure, test};
use serde_json::json;

use crate::kit::{Attached, IFNAME, conf, foreign_bridge, plugin, refused, untagged};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    vec![
        test("check_names_each_change", ROOT, plain),
        test(
            "check_names_each_vlan_change",
            &[Need::VlanFiltering, Need::Vlan8021q],
            vlan,
        ),
        test(
            "check_names_each_change_of_a_device",
            &[Need::Vlan8021q],
            device,
        ),
        test("check_passes_what_a_chain_changes", ROOT, chained),
        test("check_needs_what_add_made", ROOT, nothing_to_check),
    ]
}

/// One change from outside: commands on the node or in the pod, those that take it
/// back, and what CHECK must say of it.
struct Mutation {
    inside: bool,
    change: &'static [&'static str],
    undo: &'static [&'static str],
    says: &'static [&'static str],
}

const fn outside(
    change: &'static [&'static str],
    undo: &'static [&'static str],
    says: &'static [&'static str],
) -> Mutation {
    Mutation {
        inside: false,
        change,
        undo,
        says,
    }
}

const fn inside(
    change: &'static [&'static str],
    undo: &'static [&'static str],
    says: &'static [&'static str],
) -> Mutation {
    Mutation {
        inside: true,
        change,
        undo,
        says,
    }
}

impl Mutation {
    /// PORT in a command stands for the attachment's port.
    fn run(&self, node: &Node, pod: &Attached, commands: &[&str]) -> Result<()> {
        let port = pod.port()?;
        for command in commands {
            let command = command.replace("PORT", &port);
            if self.inside {
                pod.pod.run(&command)?;
            } else {
                node.run(&command)?;
            }
        }
        Ok(())
    }

    fn must_be_named(&self, pod: &Attached) -> Result<()> {
        let port = pod.port()?;
        let says: Vec<String> = self.says.iter().map(|s| s.replace("PORT", &port)).collect();
        let says: Vec<&str> = says.iter().map(String::as_str).collect();
        let error = refused(&pod.check()?, 105, &says)?;
        ensure!(!error.msg.contains("; "), "more than one: {}", error.msg);
        Ok(())
    }
}

/// Each is found, and gone again once it is taken back.
fn all_found(node: &Node, pod: &Attached, mutations: &[Mutation]) -> Result<()> {
    pod.must_hold()?;
    for mutation in mutations {
        let named = || format!("after {:?}", mutation.change);
        mutation.run(node, pod, mutation.change)?;
        mutation.must_be_named(pod).with_context(named)?;
        mutation.run(node, pod, mutation.undo)?;
        pod.must_hold().with_context(named)?;
    }
    Ok(())
}

const PLAIN: [Mutation; 19] = [
    outside(
        &["bridge link set dev PORT hairpin on"],
        &["bridge link set dev PORT hairpin off"],
        &["hairpin of port PORT is on, was off"],
    ),
    outside(
        &["bridge link set dev PORT isolated on"],
        &["bridge link set dev PORT isolated off"],
        &["isolated of port PORT is on, was off"],
    ),
    outside(
        &["bridge link set dev PORT locked off"],
        &["bridge link set dev PORT locked on"],
        &["locked of port PORT is off, was on"],
    ),
    outside(
        &["bridge link set dev PORT learning on"],
        &["bridge link set dev PORT learning off"],
        &["learning of port PORT is on, was off"],
    ),
    outside(
        &["bridge link set dev PORT flood on"],
        &["bridge link set dev PORT flood off"],
        &["flood of port PORT is on, was off"],
    ),
    outside(
        &["ip link set br0 promisc off"],
        &["ip link set br0 promisc on"],
        &["bridge br0 is not promiscuous"],
    ),
    outside(
        &["bridge fdb del 02:00:5e:10:00:01 dev PORT master"],
        &["bridge fdb add 02:00:5e:10:00:01 dev PORT master static"],
        &["PORT does not know 02:00:5e:10:00:01"],
    ),
    outside(
        &["bridge fdb add 02:00:00:00:00:66 dev PORT master static"],
        &["bridge fdb del 02:00:00:00:00:66 dev PORT master"],
        &["PORT lets 02:00:00:00:00:66 pass"],
    ),
    outside(
        &["ip link set PORT mtu 1300"],
        &["ip link set PORT mtu 1500"],
        &["mtu", "1300", "1500"],
    ),
    outside(
        &["ip link set PORT down"],
        &["ip link set PORT up"],
        &["PORT is down"],
    ),
    outside(
        &["ip link set PORT nomaster"],
        &[
            "ip link set PORT master br0",
            "bridge link set dev PORT learning off flood off locked on",
            "bridge fdb replace 02:00:5e:10:00:01 dev PORT master static",
        ],
        &["not on bridge br0"],
    ),
    outside(
        &["ip link set PORT master br7"],
        &[
            "ip link set PORT master br0",
            "bridge link set dev PORT learning off flood off locked on",
            "bridge fdb replace 02:00:5e:10:00:01 dev PORT master static",
        ],
        &["not on bridge br0"],
    ),
    outside(
        &["ip link set br0 down"],
        &["ip link set br0 up"],
        &["bridge br0 is down"],
    ),
    inside(
        &["ip link set eth0 mtu 1600"],
        &["ip link set eth0 mtu 1500"],
        &["mtu of eth0", "1600", "1500"],
    ),
    inside(
        &["ip link set eth0 address 02:00:00:00:00:77"],
        &["ip link set eth0 address 02:00:5e:10:00:01"],
        &["MAC address of eth0", "02:00:00:00:00:77"],
    ),
    inside(
        &[
            "ip addr add 10.1.0.9/24 dev eth0",
            "ip addr del fd00:1::1/64 dev eth0",
        ],
        &[
            "ip addr add fd00:1::1/64 dev eth0 nodad",
            "ip addr del 10.1.0.9/24 dev eth0",
        ],
        &["address fd00:1::1/64"],
    ),
    inside(
        &["ip route del 10.8.0.0/16"],
        &["ip route add 10.8.0.0/16 via 10.1.0.254"],
        &["route to 10.8.0.0/16"],
    ),
    inside(
        &["ip route replace 10.8.0.0/16 via 10.1.0.253"],
        &["ip route replace 10.8.0.0/16 via 10.1.0.254"],
        &["route to 10.8.0.0/16"],
    ),
    inside(
        &["ip link set eth0 name eth9"],
        &["ip link set eth9 name eth0"],
        &["eth0 is gone"],
    ),
];

fn plain(node: &Node) -> Result<()> {
    let ipam = json!({
        "type": "static",
        "addresses": [{"address": "10.1.0.1/24"}, {"address": "fd00:1::1/64"}],
        "routes": [{"dst": "10.8.0.0/16", "gw": "10.1.0.254"}],
    });
    let keys = json!({"bridge": "br0", "mac": "02:00:5e:10:00:01", "ipam": ipam,
        "promiscMode": true, "rps": {"cpus": "0", "flowEntries": 500}});
    foreign_bridge(node, "br7", "")?;
    node.as_before(|| {
        let pod = Attached::new(node, "one", conf("net", keys))?;
        all_found(node, &pod, &PLAIN)?;
        files(node, &pod)?;
        // Several at once are all named.
        pod.pod.ip("link set eth0 mtu 1600")?;
        node.ip(&format!("link set {} down", pod.port()?))?;
        refused(&pod.check()?, 105, &["mtu of eth0", "is down"])?;
        pod.del()
    })
}

/// What is set by writing a file.
fn files(node: &Node, pod: &Attached) -> Result<()> {
    let port = pod.port()?;
    let file = |name: &str| format!("/sys/class/net/{port}/{name}");
    let settings = [
        (file("queues/rx-0/rps_cpus"), "0", "1", "rps_cpus"),
        (
            file("queues/rx-0/rps_flow_cnt"),
            "256",
            "512",
            "rps_flow_cnt",
        ),
        (file("ifalias"), "somebody", "berth1 net one eth0", "alias"),
    ];
    for (file, other, own, says) in settings {
        node.write(&file, other)?;
        refused(&pod.check()?, 105, &[&port, says])?;
        node.write(&file, own)?;
        pod.must_hold()?;
    }
    let inside = "class/net/eth0/queues/rx-0/rps_cpus";
    pod.pod.write_sys(inside, "0")?;
    refused(&pod.check()?, 105, &["rps_cpus of eth0 rx-0"])?;
    pod.pod.write_sys(inside, "1")?;
    pod.must_hold()?;
    let inside = "class/net/eth0/queues/rx-0/rps_flow_cnt";
    pod.pod.write_sys(inside, "0")?;
    refused(
        &pod.check()?,
        105,
        &["rps_flow_cnt of eth0 rx-0 is 0, was set to 512"],
    )?;
    pod.pod.write_sys(inside, "500")?;
    pod.must_hold()
}

const VLAN: [Mutation; 10] = [
    outside(
        &["bridge fdb del 02:00:5e:10:00:01 dev PORT master vlan 100"],
        &["bridge fdb add 02:00:5e:10:00:01 dev PORT master static vlan 100"],
        &["PORT does not know 02:00:5e:10:00:01"],
    ),
    outside(
        &["bridge vlan del dev PORT vid 100"],
        &["bridge vlan add dev PORT vid 100 pvid untagged"],
        &["VLANs []", "[100 untagged] alone"],
    ),
    outside(
        &["bridge vlan add dev PORT vid 200"],
        &["bridge vlan del dev PORT vid 200"],
        &["[100 untagged, 200]"],
    ),
    outside(
        &["bridge vlan add dev PORT vid 100 pvid"],
        &["bridge vlan add dev PORT vid 100 pvid untagged"],
        &["[100 pvid]"],
    ),
    outside(
        &["bridge vlan add dev PORT vid 100 untagged"],
        &["bridge vlan add dev PORT vid 100 pvid untagged"],
        &["[100 untagged] alone"],
    ),
    outside(
        &["ip link set br0 type bridge vlan_filtering 0"],
        &["ip link set br0 type bridge vlan_filtering 1"],
        &["VLAN filtering of bridge br0 is off"],
    ),
    outside(
        &["bridge vlan del dev up0 vid 100"],
        &["bridge vlan add dev up0 vid 100"],
        &["uplink up0 does not carry VLAN 100"],
    ),
    outside(
        &["ip link add link up0 name stray type vlan id 100"],
        &["ip link del stray"],
        &["802.1Q device stray on uplink up0 takes the frames of VLAN 100"],
    ),
    outside(
        &["ip link set up0 down"],
        &["ip link set up0 up"],
        &["uplink up0 is down"],
    ),
    outside(
        &["ip link set PORT master br7"],
        &[
            "ip link set PORT master br0",
            "bridge vlan add dev PORT vid 100 pvid untagged",
            "bridge link set dev PORT learning off flood off locked on",
            "bridge fdb replace 02:00:5e:10:00:01 dev PORT master static vlan 100",
        ],
        &["not on bridge br0"],
    ),
];

fn vlan(node: &Node) -> Result<()> {
    let _outside = node.veth_pod("outside", "up0", IFNAME)?;
    foreign_bridge(node, "br7", "vlan_filtering 1 vlan_default_pvid 100")?;
    let keys = json!({"bridge": "br0", "vlan": 100, "uplink": "up0", "uplinkMode": "ensure",
        "mac": "02:00:5e:10:00:01"});
    node.as_before(|| {
        let pod = Attached::new(node, "one", conf("net", keys))?;
        all_found(node, &pod, &VLAN)?;
        pod.del()
    })
}

/// What happens to the uplink's device of `layout: per-vlan`.
const DEVICE: [Mutation; 3] = [
    outside(
        &["ip link set up0.100 down"],
        &["ip link set up0.100 up"],
        &["uplink up0.100 is down"],
    ),
    outside(
        &["ip link set up0.100 nomaster"],
        &["ip link set up0.100 master br0.100"],
        &["uplink up0.100 is not on bridge br0.100"],
    ),
    outside(
        &["ip link del up0.100"],
        &[
            "ip link add link up0 name up0.100 type vlan id 100",
            "ip link set up0.100 master br0.100",
            "ip link set up0.100 up",
        ],
        &["uplink up0.100 is gone"],
    ),
];

fn device(node: &Node) -> Result<()> {
    let _outside = node.veth_pod("outside", "up0", IFNAME)?;
    let keys = json!({"bridge": "br0", "layout": "per-vlan", "vlan": 100, "uplink": "up0"});
    node.as_before(|| {
        let pod = Attached::new(node, "one", conf("net", keys))?;
        all_found(node, &pod, &DEVICE)?;
        pod.del()
    })
}

/// What later plugins of a list do, by their own means: `tuning` and `sbr`. A new address
/// is in the result of the list; a port that checks senders lets it through no more.
fn chained(node: &Node) -> Result<()> {
    const MAC: &str = "02:00:00:00:00:77";
    let ipam = json!({
        "type": "static",
        "addresses": [{"address": "10.1.0.1/24"}],
        "routes": [{"dst": "10.8.0.0/16", "gw": "10.1.0.254"}],
    });
    let keys = |spoofchk: bool| json!({"bridge": "br0", "macspoofchk": spoofchk, "ipam": ipam});
    node.as_before(|| {
        for (spoofchk, passes) in [(true, false), (false, true)] {
            let mut pod = Attached::new(node, "one", conf("net", keys(spoofchk)))?;
            for line in [
                "link set eth0 promisc on",
                "route add 10.8.0.0/16 via 10.1.0.254 table 100",
                "route del 10.8.0.0/16 table main",
            ] {
                pod.pod.ip(line)?;
            }
            pod.must_hold()?;
            pod.pod.ip(&format!("link set eth0 address {MAC}"))?;
            refused(&pod.check()?, 105, &["MAC address of eth0", MAC])?;
            pod.0.result["interfaces"][2]["mac"] = MAC.into();
            match passes {
                true => pod.must_hold()?,
                false => {
                    refused(&pod.check()?, 105, &[MAC, "only one its port"])?;
                }
            }
            pod.del()?;
        }
        Ok(())
    })
}

fn nothing_to_check(node: &Node) -> Result<()> {
    let never = node.pod("never")?;
    let never = Attachment::of(&never, "never", IFNAME);
    node.as_before(|| {
        let pod = Attached::new(node, "one", untagged("10.1.0.1/24"))?;
        let plugin = plugin()?;
        let reply = plugin.call("CHECK", &pod.at, &pod.conf)?;
        refused(&reply, 7, &["prevResult"])?;
        let reply = plugin.call("CHECK", &never, &pod.later())?;
        refused(&reply, 105, &["never", "no finished record"])?;
        // The other pod's namespace under this one's name.
        let mut moved = pod.at.clone();
        moved.netns.clone_from(&never.netns);
        let reply = plugin.call("CHECK", &moved, &pod.later())?;
        refused(&reply, 105, &["/run/netns/never", "another namespace"])?;
        let mut old = pod.later();
        old["cniVersion"] = "0.3.1".into();
        let reply = plugin.call("CHECK", &pod.at, &old)?;
        assert_eq!(reply.failure()?.code, 1);
        node.ip(&format!("link del {}", pod.port()?))?;
        refused(&pod.check()?, 105, &["port", "is gone"])?;
        pod.del()
    })
}
