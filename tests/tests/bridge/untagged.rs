//! A plain bridge, as any kernel has it: reach, result, addresses, routes, MTU.

use std::time::Duration;

use berth_tests::{Attachment, Context, Need, Node, Result, Space, Test, ensure, poll, test};
use serde_json::{Value, json};

use crate::kit::{
    Attached, IFNAME, conf, fixed, foreign_bridge, plugin, refused, sysctl, untagged, with,
};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    const PING: &[Need] = &[Need::Tool("ping")];
    vec![
        test("untagged_pods_reach_each_other", PING, reach),
        test("result_names_bridge_port_and_container", ROOT, result),
        test("result_has_the_shape_of_its_version", ROOT, versions),
        test("mac_addresses_are_stable", ROOT, macs),
        test("mtu_is_set_on_both_ends", ROOT, mtu),
        test("ipv6_is_off_without_an_address", ROOT, ipv6_off),
        test("ipv6_is_kept_where_wished", ROOT, ipv6_kept),
        test("ipv6_works_at_once", PING, ipv6_at_once),
        test("ipv6_duplicates_are_looked_for_if_wished", ROOT, dad),
        test("interface_is_left_down_if_wished", ROOT, left_down),
        test("packet_filter_must_not_see_frames", ROOT, netfilter),
        test("routes_are_set_as_wished", ROOT, routes),
    ]
}

fn reach(node: &Node) -> Result<()> {
    node.as_before(|| {
        let one = Attached::new(node, "one", untagged("10.1.0.1/24"))?;
        let two = Attached::new(node, "two", untagged("10.1.0.2/24"))?;
        ensure!(one.reaches("10.1.0.2")?, "one does not reach two");
        ensure!(two.reaches("10.1.0.1")?, "two does not reach one");
        let bridge = node.link("br0")?;
        assert_eq!(bridge["ifalias"], "berth1 bridge");
        assert_eq!(bridge["linkinfo"]["info_data"]["stp_state"], 0);
        one.must_hold()?;
        one.del()?;
        ensure!(
            two.is_cut_off_from("10.1.0.1")?,
            "one answers after its DEL"
        );
        ensure!(
            node.has_link("br0")?,
            "the bridge went before its last port"
        );
        two.del()
    })
}

fn result(node: &Node) -> Result<()> {
    let dns = json!({"nameservers": ["10.1.0.53"], "search": ["game.test"]});
    let keys = json!({"bridge": "br0", "ipam": fixed(&["10.1.0.1/24"]), "dns": dns});
    node.as_before(|| {
        let pod = Attached::new(node, "one", conf("net", keys))?;
        let (seen, port) = (&pod.result, pod.port()?);
        assert_eq!(seen["cniVersion"], "1.1.0");
        let inside = pod.pod.link(IFNAME)?;
        let [bridge, outer] = [node.link("br0")?, node.link(&port)?];
        let expected = json!([
            {"name": "br0", "mac": bridge["address"]},
            {"name": port, "mac": outer["address"]},
            {"name": IFNAME, "mac": inside["address"], "mtu": 1500,
             "sandbox": pod.pod.path().display().to_string()},
        ]);
        assert_eq!(seen["interfaces"], expected);
        assert_eq!(
            seen["ips"],
            json!([{"interface": 2, "address": "10.1.0.1/24"}])
        );
        assert_eq!(seen["dns"], dns);
        assert_ne!(outer["address"], inside["address"]);
        assert_ne!(outer["address"], bridge["address"]);
        assert_eq!(outer["ifalias"], "berth1 net one eth0");
        assert_eq!(outer["master"], "br0");
        ensure!(port.starts_with("bv") && port.len() == 14, "port {port}");
        pod.del()
    })
}

fn versions(node: &Node) -> Result<()> {
    let pod = node.pod("one")?;
    let at = Attachment::of(&pod, "one", IFNAME);
    node.as_before(|| {
        for version in [
            "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
        ] {
            let addressed = with(untagged("10.1.0.1/24"), json!({"cniVersion": version}));
            let seen = plugin()?.add(&at, &addressed)?;
            assert_eq!(seen["cniVersion"], version);
            shape(version, &seen)?;
            plugin()?.del(&at, &with(addressed, json!({"prevResult": seen})))?;

            let bare = conf("net", json!({"bridge": "br0", "cniVersion": version}));
            let reply = plugin()?.call("ADD", &at, &bare)?;
            if matches!(version, "0.1.0" | "0.2.0") {
                let error = reply.failure()?;
                ensure!(
                    error.msg.contains("cannot convert: no valid IP addresses"),
                    "{error:?}"
                );
                assert_eq!(pod.link_names()?, ["lo"], "what failed stayed");
                assert_eq!(node.link_names()?, ["lo"], "what failed stayed");
            } else {
                reply.result()?;
                plugin()?.del(&at, &bare)?;
            }
        }
        Ok(())
    })
}

fn shape(version: &str, seen: &Value) -> Result<()> {
    let ip = &seen["ips"][0];
    match version {
        "0.1.0" | "0.2.0" => {
            assert_eq!(seen["ip4"]["ip"], "10.1.0.1/24");
            ensure!(seen.get("interfaces").is_none(), "{seen}");
            ensure!(seen["dns"].is_object(), "{seen}");
        }
        "0.3.0" | "0.3.1" | "0.4.0" => {
            assert_eq!(ip["version"], "4");
            ensure!(seen["dns"].is_object(), "{seen}");
            ensure!(seen["interfaces"][2].get("mtu").is_none(), "{seen}");
        }
        _ => {
            ensure!(ip.get("version").is_none(), "{seen}");
            ensure!(seen.get("dns").is_none(), "{seen}");
        }
    }
    Ok(())
}

fn macs(node: &Node) -> Result<()> {
    let bridge_mac = || node.link("br0").map(|link| link["address"].clone());
    node.as_before(|| {
        let first = Attached::new(node, "first", untagged("10.1.0.1/24"))?;
        let pinned = bridge_mac()?;
        let own = first.mac()?;
        // The kernel would take over the lowest address among the ports.
        node.ip("link add low address 02:00:00:00:00:01 type veth peer name low1")?;
        node.ip("link set low master br0")?;
        let second = Attached::new(node, "second", untagged("10.1.0.2/24"))?;
        assert_eq!(bridge_mac()?, pinned);
        first.del()?;
        assert_eq!(bridge_mac()?, pinned);
        let again = plugin()?.add(&first.at, &first.conf)?;
        assert_eq!(again["interfaces"], first.result["interfaces"]);
        assert_eq!(first.mac()?, own, "a repeated ADD keeps the address");
        assert_ne!(second.mac()?, own);
        node.ip("link del low")?;
        first.del()?;
        second.del()
    })
}

fn mtu(node: &Node) -> Result<()> {
    foreign_bridge(node, "wide", "")?;
    node.ip("link set wide mtu 9000")?;
    node.as_before(|| {
        let of = |bridge: &str, mtu: u32| conf("net", json!({"bridge": bridge, "mtu": mtu}));
        // 0 asks for the default, which is the bridge's own.
        for (conf, wish) in [
            (of("br0", 0), 1500),
            (of("br0", 1400), 1400),
            (of("wide", 0), 9000),
        ] {
            let pod = Attached::new(node, "one", conf)?;
            assert_eq!(pod.pod.link(IFNAME)?["mtu"], wish);
            assert_eq!(node.link(&pod.port()?)?["mtu"], wish);
            assert_eq!(pod.result["interfaces"][2]["mtu"], wish);
            pod.del()?;
        }
        assert_eq!(node.link("wide")?["mtu"], 9000);
        Ok(())
    })
}

fn ipv6_off(node: &Node) -> Result<()> {
    node.as_before(|| {
        let pods = [
            Attached::new(node, "four", untagged("10.1.0.1/24"))?,
            Attached::new(node, "bare", conf("net", json!({"bridge": "br0"})))?,
        ];
        for pod in &pods {
            let port = pod.port()?;
            let ends = [
                (pod.pod.link(IFNAME)?, pod.pod.addresses(IFNAME)?),
                (node.link(&port)?, node.addresses(&port)?),
            ];
            for (link, addresses) in ends {
                assert_eq!(link["inet6_addr_gen_mode"], "none", "{link}");
                let six = addresses.iter().any(|address| address.contains(':'));
                ensure!(!six, "{addresses:?}");
            }
            assert_eq!(sent_of_ipv6(&pod.pod)?, 0);
        }
        pods.iter().try_for_each(|pod| pod.del())
    })
}

/// Who wishes the kernel's own addresses has them without one of IPAM.
fn ipv6_kept(node: &Node) -> Result<()> {
    node.as_before(|| {
        let keys = json!({"bridge": "br0", "ipv6": "keep", "ipam": fixed(&["10.1.0.1/24"])});
        let pod = Attached::new(node, "kept", conf("net", keys))?;
        poll("a link-local address", Duration::from_secs(5), || {
            let addresses = pod.pod.addresses(IFNAME)?;
            let own = addresses.iter().any(|address| address.starts_with("fe80:"));
            Ok(own.then_some(()))
        })?;
        assert_eq!(node.link(&pod.port()?)?["inet6_addr_gen_mode"], "none");
        pod.must_hold()?;
        pod.del()
    })
}

/// Packets that the kernel of the pod's namespace sent (snmp6 counters, RFC 4293).
fn sent_of_ipv6(pod: &impl Space) -> Result<u64> {
    let counters = pod.run("cat /proc/net/snmp6")?;
    let line = counters
        .lines()
        .find(|line| line.starts_with("Ip6OutRequests"));
    let count = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    count.context("no Ip6OutRequests in snmp6")
}

fn ipv6_at_once(node: &Node) -> Result<()> {
    let of = |v4: &str, v6: &str| conf("net", json!({"bridge": "br0", "ipam": fixed(&[v4, v6])}));
    node.as_before(|| {
        let one = Attached::new(node, "one", of("10.1.0.1/24", "fd00:1::1/64"))?;
        let two = Attached::new(node, "two", of("10.1.0.2/24", "fd00:1::2/64"))?;
        let text = two.pod.ip("-6 addr show dev eth0 scope global")?;
        ensure!(text.contains("fd00:1::2/64"), "no address: {text}");
        ensure!(!text.contains("tentative"), "not usable yet: {text}");
        // The very first packet is answered.
        let first = two.pod.ping("fd00:1::1".parse()?, 1)?;
        assert_eq!((first.sent, first.received), (1, 1));
        assert_eq!(two.result["ips"][1]["address"], "fd00:1::2/64");
        ensure!(one.reaches("10.1.0.2")?, "IPv4 beside it");
        one.must_hold()?;
        one.del()?;
        two.del()
    })
}

fn routes(node: &Node) -> Result<()> {
    let ipam = json!({
        "type": "static",
        "addresses": [{"address": "10.1.0.1/24", "gateway": "10.1.0.254"}],
        "routes": [
            {"dst": "0.0.0.0/0"},
            {"dst": "10.8.0.0/16", "gw": "10.1.0.253", "mtu": 1300, "advmss": 1200, "priority": 50},
            {"dst": "10.9.0.0/16", "gw": "10.1.0.253", "table": 77},
            {"dst": "10.7.0.0/24", "scope": 253},
        ],
    });
    node.as_before(|| {
        let keys = json!({"bridge": "br0", "ipam": ipam});
        let pod = Attached::new(node, "one", conf("net", keys))?;
        let main = pod.pod.ip("-4 route show")?;
        ensure!(main.contains("default via 10.1.0.254 dev eth0"), "{main}");
        let line = main.lines().find(|line| line.starts_with("10.8.0.0/16"));
        for part in ["via 10.1.0.253", "metric 50", "mtu 1300", "advmss 1200"] {
            ensure!(
                line.is_some_and(|line| line.contains(part)),
                "{part} in {main}"
            );
        }
        ensure!(
            main.contains("10.7.0.0/24 dev eth0 proto static scope link"),
            "{main}"
        );
        let other = pod.pod.ip("-4 route show table 77")?;
        ensure!(other.contains("10.9.0.0/16 via 10.1.0.253"), "{other}");
        assert_eq!(pod.result["routes"], ipam["routes"]);
        pod.must_hold()?;
        pod.del()?;

        // One the kernel refuses takes everything back.
        let far = json!({"type": "static", "addresses": [{"address": "10.1.0.1/24"}],
            "routes": [{"dst": "10.8.0.0/16", "gw": "192.168.7.1"}]});
        let keys = json!({"bridge": "br0", "ipam": far});
        let reply = plugin()?.call("ADD", &pod.at, &conf("net", keys))?;
        refused(&reply, 100, &["10.8.0.0/16", "ENETUNREACH"])?;
        assert_eq!(pod.pod.link_names()?, ["lo"]);
        Ok(())
    })
}

fn dad(node: &Node) -> Result<()> {
    let of = |address: &str, on: bool| {
        let keys = json!({"bridge": "br0", "enabledad": on, "addressConflict": "off",
            "announce": false, "ipam": fixed(&[address])});
        conf("net", keys)
    };
    node.as_before(|| {
        let one = Attached::new(node, "one", of("fd00:1::1/64", true))?;
        assert_eq!(sysctl(&one.pod, "net/ipv6/conf/eth0/accept_dad")?, "1");
        let shown = one.pod.ip("-6 addr show dev eth0 scope global")?;
        ensure!(shown.contains("fd00:1::1/64"), "{shown}");
        ensure!(
            !shown.contains("tentative") && !shown.contains("nodad"),
            "{shown}"
        );
        one.must_hold()?;
        // Another pod that wants the same address is told so, and leaves nothing.
        let pod = node.pod("two")?;
        let at = Attachment::of(&pod, "two", IFNAME);
        let reply = plugin()?.call("ADD", &at, &of("fd00:1::1/64", true))?;
        refused(&reply, 103, &["fd00:1::1/64", "another station"])?;
        assert_eq!(pod.link_names()?, ["lo"]);
        one.del()
    })
}

fn left_down(node: &Node) -> Result<()> {
    let keys = json!({"bridge": "br0", "disableContainerInterface": true});
    node.as_before(|| {
        let pod = Attached::new(node, "one", conf("net", keys.clone()))?;
        let link = pod.pod.link(IFNAME)?;
        assert_eq!(link["operstate"], "DOWN", "{link}");
        pod.must_hold()?;
        // For whoever it was left to.
        pod.pod.ip("link set eth0 up")?;
        pod.must_hold()?;
        let both = with(keys, json!({"ipam": fixed(&["10.1.0.1/24"])}));
        let other = node.pod("two")?;
        let at = Attachment::of(&other, "two", IFNAME);
        let reply = plugin()?.call("ADD", &at, &conf("net", both))?;
        refused(&reply, 7, &["disableContainerInterface", "no addresses"])?;
        pod.del()
    })
}

/// The node's own settings are asked for where the kernel has them.
fn netfilter(node: &Node) -> Result<()> {
    const CALL: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    let off = |bridge: &str| conf("net", json!({"bridge": bridge, "bridgeNetfilter": "off"}));
    foreign_bridge(node, "seen", "nf_call_iptables 1")?;
    let pod = node.pod("two")?;
    let at = Attachment::of(&pod, "two", IFNAME);
    let settings = ["iptables", "ip6tables", "arptables"];
    let settings = settings.map(|name| format!("/proc/sys/net/bridge/bridge-nf-call-{name}"));
    let has_module = std::path::Path::new(CALL).exists();
    for file in settings.iter().filter(|_| has_module) {
        node.write(file, "0")?;
    }
    node.as_before(|| {
        let reply = plugin()?.call("ADD", &at, &off("seen"))?;
        refused(
            &reply,
            7,
            &["bridge seen has nf_call_iptables on", "nf_call_iptables 0"],
        )?;
        let one = Attached::new(node, "one", off("br0"))?;
        one.must_hold()?;
        node.ip("link set br0 type bridge nf_call_ip6tables 1")?;
        refused(
            &one.check()?,
            105,
            &["nf_call_ip6tables of bridge br0 is on"],
        )?;
        node.ip("link set br0 type bridge nf_call_ip6tables 0")?;
        if has_module {
            node.write(CALL, "1")?;
            refused(&one.check()?, 105, &["bridge-nf-call-iptables is on"])?;
            let reply = plugin()?.call("ADD", &at, &off("br1"))?;
            let says = [
                "bridge-nf-call-iptables",
                "net.bridge.bridge-nf-call-iptables=0",
            ];
            refused(&reply, 7, &says)?;
            node.write(CALL, "0")?;
        }
        one.must_hold()?;
        one.del()
    })
}
