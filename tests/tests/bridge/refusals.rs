//! Wishes that must be refused: with the right code, naming the object and the next
//! step, and without a trace on the node.

use std::time::Duration;

use berth_tests::{Attachment, Context, Need, Node, Result, Space, Test, ensure, poll, test};
use serde_json::{Value, json};

use crate::kit::{
    Attached, IFNAME, conf, foreign_bridge, plugin, quiet, refused, tagged, untagged, with,
};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    const VLAN: &[Need] = &[Need::VlanFiltering, Need::Vlan8021q];
    vec![
        test("what_the_node_cannot_serve_is_refused", ROOT, node_state),
        test("uplinks_are_not_stolen", ROOT, uplinks),
        test("vlans_that_would_not_be_separate_are_refused", VLAN, vlans),
        test("wrong_keys_and_values_are_refused", ROOT, keys),
        test("a_kernel_without_vlans_says_so", ROOT, no_vlans),
        test(
            "taken_names_and_bad_namespaces_are_refused",
            ROOT,
            container,
        ),
    ]
}

/// Keys of the configuration, and what the error must say, parts with `|` between.
type Case<'a> = (Value, &'a str);

/// Refuses each case with this code, and changes nothing while doing so.
fn all_refused(node: &Node, code: u64, cases: &[Case<'_>]) -> Result<()> {
    let pod = node.pod("pod")?;
    let at = Attachment::of(&pod, "pod", IFNAME);
    let plugin = plugin()?;
    node.as_before(|| {
        for (keys, says) in cases {
            let says: Vec<&str> = says.split('|').collect();
            let reply = plugin.call("ADD", &at, &conf("net", keys.clone()))?;
            refused(&reply, code, &says).with_context(|| format!("with {keys}"))?;
            let links = pod.link_names()?;
            ensure!(links == ["lo"], "with {keys}: the pod has {links:?}");
        }
        Ok(())
    })
}

fn node_state(node: &Node) -> Result<()> {
    for name in ["plain", "stp0", "low0"] {
        node.ip(&format!("link add {name} type bridge"))?;
    }
    quiet(node)?;
    node.ip("link set plain up")?;
    node.ip("link set stp0 type bridge stp_state 1")?;
    node.ip("link set stp0 up")?;
    node.ip("link add loose0 type veth peer name loose1")?;
    node.ip("link set loose0 mtu 1400 master plain up")?;
    let ours = Attached::new(node, "user", untagged("10.1.0.1/24"))?;
    let in_use = format!("br0|VLAN filtering off|{}|another bridge", ours.port()?);
    let wide = json!({"bridge": "plain", "uplink": "loose0", "mtu": 1500});
    let offline = json!({"bridge": "plain", "rps": {"cpus": "0,4000"}});
    let cases = [
        (
            json!({"bridge": "plain", "vlan": 100}),
            "plain|VLAN filtering off|vlan_filtering 1",
        ),
        (json!({"bridge": "br0", "vlan": 100}), &in_use),
        (json!({"bridge": "loose1"}), "loose1|veth|\"bridge\""),
        (json!({"bridge": "stp0"}), "stp0|spanning tree|stp_state 0"),
        (json!({"bridge": "low0"}), "low0|down|ip link set low0 up"),
        (wide, "mtu|1500|loose0|1400"),
        (offline, "rps.cpus|4000|not online|auto"),
    ];
    all_refused(node, 7, &cases)?;
    ours.must_hold()
}

fn uplinks(node: &Node) -> Result<()> {
    quiet(node)?;
    for name in ["plain", "other"] {
        node.ip(&format!("link add {name} type bridge"))?;
        node.ip(&format!("link set {name} up"))?;
    }
    for name in ["loose", "taken", "addr", "dark", "shut", "alone"] {
        node.ip(&format!("link add {name}0 type veth peer name {name}1"))?;
        node.ip(&format!("link set {name}0 up"))?;
    }
    for port in ["taken0", "shut0", "alone0"] {
        let far = port.replace('0', "1");
        node.ip(&format!("link set {port} master other"))?;
        node.ip(&format!("link set {far} up"))?;
    }
    node.ip("addr add 10.7.0.1/24 dev addr0")?;
    node.ip("link set dark0 master plain down")?;
    let (verify, ensure) = (
        |b, u| uplink(b, u, "verify", 0),
        |b, u| uplink(b, u, "ensure", 0),
    );
    // With its carrier the kernel sets the state itself.
    poll("forwarding of shut0", Duration::from_secs(5), || {
        let port = &node.link("shut0")?["linkinfo"]["info_slave_data"];
        Ok((port["state"] == "forwarding").then_some(()))
    })?;
    node.run("bridge link set dev shut0 state 0")?;
    node.run("bridge link set dev alone0 isolated on")?;
    let unnamed = json!({"bridge": "br0", "uplinkMode": "ensure"});
    let alone = with(verify("other", "alone0"), json!({"portIsolation": true}));
    let cases = [
        (verify("plain", "none0"), "none0|does not exist|ip -br link"),
        (ensure("br0", "none0"), "none0|does not exist|\"uplink\""),
        (
            verify("plain", "loose0"),
            "loose0|not a port of bridge plain|\"ensure\"",
        ),
        (verify("br0", "loose0"), "loose0|not a port of bridge br0"),
        (verify("plain", "taken0"), "taken0|already belongs to other"),
        (ensure("plain", "taken0"), "taken0|already belongs to other"),
        (ensure("br0", "taken0"), "taken0|already belongs to other"),
        (
            ensure("br0", "addr0"),
            "addr0|10.7.0.1/24|without addresses",
        ),
        (verify("plain", "dark0"), "dark0|down|ip link set dark0 up"),
        (
            verify("other", "shut0"),
            "shut0|disabled port of bridge other|state 3",
        ),
        (alone, "portIsolation|alone0|isolated off"),
        (ensure("br0", "br0"), "uplink|bridge itself"),
        (unnamed, "uplinkMode|\"uplink\""),
        (
            uplink("br0", "loose0", "create", 0),
            "uplinkMode|create|verify|ensure",
        ),
    ];
    all_refused(node, 7, &cases)
}

fn uplink(bridge: &str, uplink: &str, mode: &str, vlan: u16) -> Value {
    json!({"bridge": bridge, "uplink": uplink, "uplinkMode": mode, "vlan": vlan})
}

fn vlans(node: &Node) -> Result<()> {
    foreign_bridge(node, "theirs", "vlan_filtering 1 vlan_default_pvid 0")?;
    for name in ["port", "bare"] {
        let device = format!("{name}0 name {name}0.100 type vlan id 100");
        node.ip(&format!("link add {name}0 type veth peer name {name}1"))?;
        node.ip(&format!("link set {name}0 up"))?;
        node.ip(&format!("link add link {device}"))?;
    }
    node.ip("link set port0 master theirs")?;
    let ours = Attached::new(node, "user", tagged(100, "10.1.0.1/24"))?;
    let stolen = "port0.100|VLAN 100|ip link delete port0.100";
    let cases = [
        (json!({"bridge": "br0"}), "br0|filters VLANs|\"vlan\""),
        (json!({"bridge": "theirs"}), "theirs|filters VLANs|\"vlan\""),
        (uplink("theirs", "port0", "verify", 100), stolen),
        (uplink("new0", "bare0", "ensure", 100), "bare0.100|VLAN 100"),
        (
            uplink("new0", "bare0", "ensure", 200),
            "bare0|bare0.100|not a bare link",
        ),
    ];
    all_refused(node, 7, &cases)?;
    ours.must_hold()?;
    // A device on another VLAN of an uplink that is a port already harms nobody.
    node.as_before(|| {
        let keys = uplink("theirs", "port0", "verify", 200);
        Attached::new(node, "beside", conf("net", keys))?.del()
    })
}

fn keys(node: &Node) -> Result<()> {
    let of = |key: &str, value: Value| with(json!({"bridge": "br0"}), json!({key: value}));
    let unbuilt = [
        (
            of("ipMasqBackend", json!("iptables")),
            "ipMasqBackend|iptables",
        ),
        (
            of("bandwidth", json!({"shapedSubnets": ["10.0.0.0/8"]})),
            "bandwidth.shapedSubnets|chain",
        ),
    ];
    all_refused(node, 2, &unbuilt)?;
    let range = "(must be between 0 and 4094)";
    let [low, high] = [-100, 5000].map(|n| format!("invalid VLAN ID {n} {range}"));
    let wrong = [
        (of("vlan", json!(-100)), low.as_str()),
        (of("vlan", json!(5000)), &high),
        (of("vlan", json!(4095)), "invalid VLAN ID 4095"),
        (of("vlan", json!("100")), "vlan = \"100\"|without quotes"),
        (of("VLAN", json!(100)), "VLAN|\"vlan\""),
        (
            of("vlanTrunk", json!([{"minID": 5}])),
            "vlanTrunk|maxID parameter is missing",
        ),
        (
            with(
                of("vlanTrunk", json!([{"id": 5}])),
                json!({"isGateway": true}),
            ),
            "vlanTrunk|gateway|\"vlan\"",
        ),
        (
            of("uplink-mode", json!("ensure")),
            "uplink-mode|\"uplinkMode\"",
        ),
        (of("layout", json!("per-vlan")), "layout|\"vlan\""),
        (of("layout", json!("each")), "layout|per-vlan"),
        (of("mtu", json!(12)), "mtu = 12|68 to 65535"),
        (
            with(of("hairpinMode", json!(true)), json!({"promiscMode": true})),
            "hairpin mode and promiscuous mode exclude each other: leave either out",
        ),
        (of("spoofchk", json!(true)), "spoofchk|\"macspoofchk\""),
        (of("mac", json!("01:00:5e:00:00:01")), "mac|multicast"),
        (of("rps", json!({"cpu": "0"})), "rps.cpu|flowEntries"),
        (of("rps", json!({"cpus": "none"})), "rps.cpus|none|auto"),
        (
            of("bridge", json!("a-name-too-long-for-a-link")),
            "bridge|a-name-too",
        ),
        (of("bridge", json!("br%d")), "bridge|br%d|make up another"),
        (of("ipam", json!({"type": "static"})), "missing IP config"),
    ];
    all_refused(node, 7, &wrong)
}

/// On a kernel without VLAN filtering the wish is refused with the reason; with it,
/// it is granted, and both are proven by what is there.
fn no_vlans(node: &Node) -> Result<()> {
    let pod = node.pod("pod")?;
    let at = Attachment::of(&pod, "pod", IFNAME);
    node.as_before(|| {
        let reply = plugin()?.call("ADD", &at, &tagged(100, "10.1.0.1/24"))?;
        if Need::VlanFiltering.check().is_ok() {
            reply.result()?;
            return plugin()?.del(&at, &tagged(100, "10.1.0.1/24"));
        }
        refused(
            &reply,
            100,
            &["br0", "CONFIG_BRIDGE_VLAN_FILTERING", "\"vlan\""],
        )?;
        assert_eq!(pod.link_names()?, ["lo"]);
        Ok(())
    })
}

fn container(node: &Node) -> Result<()> {
    let pod = node.pod("pod")?;
    pod.ip("link add eth0 type veth peer name eth1")?;
    let plugin = plugin()?;
    let of = |path: &str, ifname: &str| Attachment {
        netns: Some(path.into()),
        ifname: ifname.into(),
        ..Attachment::of(&pod, "pod", IFNAME)
    };
    let path = pod.path().display().to_string();
    let own = "/proc/self/ns/net";
    std::fs::write("/run/no-netns", "")?;
    let conf = untagged("10.1.0.1/24");
    node.as_before(|| {
        for (at, code, says) in [
            (
                of(&path, "eth0"),
                7,
                &["eth0", "already exists", "CNI_IFNAME"][..],
            ),
            (of(&path, "eth1"), 7, &["eth1", "already exists"]),
            (of("/run/netns/none", "eth2"), 8, &["/run/netns/none"]),
            (of("/run/no-netns", "eth2"), 8, &["/run/no-netns"]),
            (
                of(own, "eth2"),
                8,
                &["should not be the same", "CNI_NETNS_OVERRIDE"],
            ),
        ] {
            refused(&plugin.call("ADD", &at, &conf)?, code, says)?;
        }
        Ok(())
    })
}
