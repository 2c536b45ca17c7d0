//! What a port does with frames: whose it takes, whom it talks to, what comes back.

use berth_tests::{Attachment, Need, Node, Result, Space, Test, ensure, test};
use serde_json::{Value, json};

use crate::frames::{marked, marks};
use crate::gc::of_network;
use crate::kit::{Attached, IFNAME, conf, fixed, foreign_bridge, has_vlans, plugin, refused, with};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    const PING: &[Need] = &[Need::Tool("ping")];
    vec![
        test("spoofed_addresses_are_dropped", PING, spoofed).varies(),
        test(
            "without_locked_ports_rules_drop_them",
            &[Need::Nftables, Need::Tool("ping")],
            by_rules,
        ),
        test("isolated_ports_reach_others_only", PING, isolated).varies(),
        test("hairpin_frames_come_back", ROOT, hairpin).varies(),
        test("promiscuous_bridge_is_counted", ROOT, promisc),
        test("port_settings_go_with_the_port", ROOT, settings).varies(),
        test("a_full_bridge_is_told", ROOT, full),
    ]
}

/// One address on `br0` with these keys, in VLAN 100 where the kernel has VLANs.
fn on_br0(address: &str, keys: Value) -> Value {
    let mut base = json!({"bridge": "br0", "ipam": fixed(&[address])});
    if has_vlans() {
        base["vlan"] = json!(100);
    }
    conf("net", with(base, keys))
}

const STRANGER: [u8; 6] = [2, 0, 0, 0, 0, 0x66];

fn spoofed(node: &Node) -> Result<()> {
    node.as_before(|| {
        let guarded = Attached::new(node, "one", on_br0("10.1.0.1/24", json!({})))?;
        let open = on_br0("10.1.0.2/24", json!({"macspoofchk": false}));
        let open = Attached::new(node, "two", open)?;
        let (near, far) = (guarded.pod.capture(IFNAME)?, open.pod.capture(IFNAME)?);
        let send = |from: &Attached, source, number| {
            from.pod.send_frame(IFNAME, &marked(source, &[], number))
        };
        send(&guarded, guarded.mac()?, 1)?;
        send(&guarded, STRANGER, 2)?;
        // Not even with an address that is known elsewhere on the bridge.
        send(&guarded, open.mac()?, 3)?;
        send(&guarded, guarded.mac()?, 9)?;
        assert_eq!(marks(&far, 9)?, [1, 9], "from the guarded port");
        send(&open, STRANGER, 4)?;
        send(&open, open.mac()?, 9)?;
        assert_eq!(marks(&near, 9)?, [4, 9], "from the open port");
        ensure!(guarded.reaches("10.1.0.2")?, "guarded to open");
        ensure!(open.reaches("10.1.0.1")?, "open to guarded");
        guarded.must_hold()?;
        open.must_hold()?;
        guarded.del()?;
        open.del()
    })
}

/// A kernel whose version says that it cannot lock ports.
fn by_rules(node: &Node) -> Result<()> {
    node.write("/run/osrelease", "5.15.0-test\n")?;
    node.run("mount --bind /run/osrelease /proc/sys/kernel/osrelease")?;
    spoofed(node)?;
    node.as_before(|| {
        let one = Attached::new(node, "one", on_br0("10.1.0.1/24", json!({})))?;
        let port = node.link(&one.port()?)?;
        ensure!(
            port["linkinfo"]["info_slave_data"]["locked"] != true,
            "{port}"
        );
        let ruleset = node.run("nft list ruleset")?;
        ensure!(ruleset.contains("net/one:eth0"), "{ruleset}");
        node.run("nft flush ruleset")?;
        refused(&one.check()?, 105, &["send from any address"])?;
        one.del()
    })
}

fn isolated(node: &Node) -> Result<()> {
    node.as_before(|| {
        let alone = json!({"portIsolation": true});
        let one = Attached::new(node, "one", on_br0("10.1.0.1/24", alone.clone()))?;
        let two = Attached::new(node, "two", on_br0("10.1.0.2/24", alone))?;
        let open = Attached::new(node, "open", on_br0("10.1.0.3/24", json!({})))?;
        ensure!(one.is_cut_off_from("10.1.0.2")?, "isolated to isolated");
        ensure!(two.is_cut_off_from("10.1.0.1")?, "the other way");
        ensure!(one.reaches("10.1.0.3")?, "isolated to open");
        ensure!(open.reaches("10.1.0.2")?, "open to isolated");
        one.must_hold()?;
        [one, two, open].iter().try_for_each(|pod| pod.del())
    })
}

fn hairpin(node: &Node) -> Result<()> {
    node.as_before(|| {
        for (on, wish) in [(true, vec![1]), (false, vec![])] {
            let keys = json!({"hairpinMode": on});
            let pod = Attached::new(node, "one", on_br0("10.1.0.1/24", keys))?;
            let seen = pod.pod.capture(IFNAME)?;
            pod.pod.send_frame(IFNAME, &marked(pod.mac()?, &[], 1))?;
            assert_eq!(marks(&seen, 1)?, wish, "hairpinMode {on}");
            pod.must_hold()?;
            pod.del()?;
        }
        Ok(())
    })
}

fn is_promisc(node: &Node) -> Result<bool> {
    let flags = node.link("br0")?["flags"].clone();
    let flags = flags.as_array().into_iter().flatten();
    Ok(flags.into_iter().any(|flag| flag == "PROMISC"))
}

fn promisc(node: &Node) -> Result<()> {
    let wish = |name: &str| {
        let keys = json!({"bridge": "br0", "promiscMode": true});
        Attached::new(node, name, conf("net", keys))
    };
    foreign_bridge(node, "br0", "")?;
    node.as_before(|| {
        let (one, two) = (wish("one")?, wish("two")?);
        let plain = Attached::new(node, "plain", conf("net", json!({"bridge": "br0"})))?;
        ensure!(is_promisc(node)?, "not promiscuous");
        one.del()?;
        one.del()?;
        ensure!(is_promisc(node)?, "two still wishes it");
        two.must_hold()?;
        two.del()?;
        ensure!(!is_promisc(node)?, "nobody wishes it");
        plain.must_hold()?;
        plain.del()
    })?;
    // What the operator set stays.
    node.ip("link set br0 promisc on")?;
    node.as_before(|| {
        let one = wish("one")?;
        one.must_hold()?;
        one.del()
    })?;
    node.ip("link del br0")?;
    node.as_before(|| {
        let one = wish("one")?;
        ensure!(is_promisc(node)?, "on a bridge of ours");
        one.del()
    })
}

/// All at once, and nothing of it stays for the next attachment.
fn settings(node: &Node) -> Result<()> {
    let _guest = node.veth_pod("guest", "v0", IFNAME)?;
    let options = if has_vlans() { "vlan_filtering 1" } else { "" };
    foreign_bridge(node, "br0", options)?;
    node.ip("link set v0 master br0")?;
    node.as_before(|| {
        let keys = json!({"hairpinMode": true, "portIsolation": true});
        for (keys, hairpin, isolated, locked) in [
            (keys, true, true, true),
            (json!({"macspoofchk": false}), false, false, false),
        ] {
            let pod = Attached::new(node, "one", on_br0("10.1.0.1/24", keys))?;
            let port = &node.link(&pod.port()?)?["linkinfo"]["info_slave_data"];
            assert_eq!(port["hairpin"], hairpin, "{port}");
            assert_eq!(port["isolated"], isolated, "{port}");
            assert_eq!(port["locked"], locked, "{port}");
            assert_eq!(port["learning"], !locked, "{port}");
            pod.must_hold()?;
            pod.del()?;
        }
        Ok(())
    })
}

/// 1023 ports are all that a bridge can have.
fn full(node: &Node) -> Result<()> {
    foreign_bridge(node, "br7", "")?;
    let pair = |n: usize| {
        let port = |side| format!("link set {side}{n} master br7\n");
        let second = if n < 511 { port("g") } else { String::new() };
        format!(
            "link add f{n} type veth peer name g{n}\n{}{second}",
            port("f")
        )
    };
    node.write("/run/pairs", &(0..512).map(pair).collect::<String>())?;
    node.run("ip -batch /run/pairs")?;
    let pod = node.pod("one")?;
    let at = Attachment::of(&pod, "one", IFNAME);
    node.as_before(|| {
        let reply = plugin()?.call("ADD", &at, &conf("net", json!({"bridge": "br7"})))?;
        refused(&reply, 11, &["br7", "all the 1023 ports", "per-vlan"])?;
        let reply = of_network("STATUS", &conf("net", json!({"bridge": "br7"})))?;
        refused(&reply, 50, &["br7", "all the 1023 ports", "per-vlan"]).map(drop)
    })
}
