//! Wishes that must be refused: with the right code, naming the object and the next
//! step, and without a trace on the node.

use berth_tests::{Attachment, Need, Node, Plugin, Pod, Result, Space, Test, ensure, test};
use serde_json::{Value, json};

use crate::kit::{Attached, IFNAME, conf, plugin, refused, tagged, untagged, with};

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

/// Keys of the configuration, the error's code, and what it must say.
type Case<'a> = (Value, u64, &'a [&'a str]);

/// Refuses each case, and changes nothing while doing so.
fn all_refused(node: &Node, cases: &[Case<'_>]) -> Result<()> {
    let pod = node.pod("pod")?;
    let at = Attachment::of(&pod, "pod", IFNAME);
    let plugin = plugin()?;
    node.as_before(|| {
        for (keys, code, says) in cases {
            one_refused(&plugin, &at, &pod, (keys, *code, says))?;
        }
        Ok(())
    })
}

fn one_refused(
    plugin: &Plugin,
    at: &Attachment,
    pod: &Pod,
    (keys, code, says): (&Value, u64, &[&str]),
) -> Result<()> {
    let reply = plugin.call("ADD", at, &conf("net", keys.clone()))?;
    let outcome = refused(&reply, code, says).map(drop);
    outcome.map_err(|error| error.context(format!("with {keys}")))?;
    let links = pod.link_names()?;
    ensure!(links == ["lo"], "with {keys}: the pod has {links:?}");
    Ok(())
}

fn node_state(node: &Node) -> Result<()> {
    for name in ["plain", "stp0", "low0"] {
        node.ip(&format!("link add {name} type bridge"))?;
    }
    node.ip("link set plain up")?;
    node.ip("link set stp0 type bridge stp_state 1")?;
    node.ip("link set stp0 up")?;
    node.ip("link add loose0 type veth peer name loose1")?;
    node.ip("link set loose0 mtu 1400 master plain up")?;
    let ours = Attached::new(node, "user", untagged("10.1.0.1/24"))?;
    let port = ours.port()?;
    all_refused(
        node,
        &[
            (
                json!({"bridge": "plain", "vlan": 100}),
                7,
                &["plain", "VLAN filtering off", "vlan_filtering 1"],
            ),
            (
                json!({"bridge": "br0", "vlan": 100}),
                7,
                &["br0", "VLAN filtering off", &port, "another bridge"],
            ),
            (
                json!({"bridge": "loose1"}),
                7,
                &["loose1", "veth", "\"bridge\""],
            ),
            (
                json!({"bridge": "stp0"}),
                7,
                &["stp0", "spanning tree", "stp_state 0"],
            ),
            (
                json!({"bridge": "low0"}),
                7,
                &["low0", "down", "ip link set low0 up"],
            ),
            (
                json!({"bridge": "plain", "uplink": "loose0", "mtu": 1500}),
                7,
                &["mtu", "1500", "loose0", "1400"],
            ),
            (
                json!({"bridge": "plain", "rps": {"cpus": "0,4000"}}),
                7,
                &["rps.cpus", "4000", "not online", "auto"],
            ),
        ],
    )?;
    ours.must_hold()
}

fn uplinks(node: &Node) -> Result<()> {
    for name in ["plain", "other"] {
        node.ip(&format!("link add {name} type bridge"))?;
        node.ip(&format!("link set {name} up"))?;
    }
    for name in ["loose", "taken", "addr", "dark"] {
        node.ip(&format!("link add {name}0 type veth peer name {name}1"))?;
        node.ip(&format!("link set {name}0 up"))?;
    }
    node.ip("link set taken0 master other")?;
    node.ip("addr add 10.7.0.1/24 dev addr0")?;
    node.ip("link set dark0 master plain down")?;
    let of = |bridge: &str, uplink: &str, mode: &str| json!({"bridge": bridge, "uplink": uplink, "uplinkMode": mode});
    all_refused(
        node,
        &[
            (
                of("plain", "none0", "verify"),
                7,
                &["none0", "does not exist", "ip -br link"],
            ),
            (
                of("br0", "none0", "ensure"),
                7,
                &["none0", "does not exist", "\"uplink\""],
            ),
            (
                of("plain", "loose0", "verify"),
                7,
                &[
                    "loose0",
                    "not a port of bridge plain",
                    "\"uplinkMode\": \"ensure\"",
                ],
            ),
            (
                of("br0", "loose0", "verify"),
                7,
                &["loose0", "not a port of bridge br0"],
            ),
            (
                of("plain", "taken0", "verify"),
                7,
                &["taken0", "already belongs to other"],
            ),
            (
                of("plain", "taken0", "ensure"),
                7,
                &["taken0", "already belongs to other"],
            ),
            (
                of("br0", "taken0", "ensure"),
                7,
                &["taken0", "already belongs to other"],
            ),
            (
                of("br0", "addr0", "ensure"),
                7,
                &["addr0", "10.7.0.1/24", "without addresses"],
            ),
            (
                of("plain", "dark0", "verify"),
                7,
                &["dark0", "down", "ip link set dark0 up"],
            ),
            (of("br0", "br0", "ensure"), 7, &["uplink", "bridge itself"]),
            (
                json!({"bridge": "br0", "uplinkMode": "ensure"}),
                7,
                &["uplinkMode", "\"uplink\""],
            ),
            (
                of("br0", "loose0", "create"),
                7,
                &["uplinkMode", "create", "verify", "ensure"],
            ),
        ],
    )
}

fn vlans(node: &Node) -> Result<()> {
    node.ip("link add theirs type bridge vlan_filtering 1 vlan_default_pvid 0")?;
    node.ip("link set theirs up")?;
    for name in ["port", "bare"] {
        node.ip(&format!("link add {name}0 type veth peer name {name}1"))?;
        node.ip(&format!("link set {name}0 up"))?;
        node.ip(&format!(
            "link add link {name}0 name {name}0.100 type vlan id 100"
        ))?;
    }
    node.ip("link set port0 master theirs")?;
    let ours = Attached::new(node, "user", tagged(100, "10.1.0.1/24"))?;
    let of = |bridge: &str, uplink: &str, mode: &str, vlan: u16| json!({"bridge": bridge, "uplink": uplink, "uplinkMode": mode, "vlan": vlan});
    all_refused(
        node,
        &[
            (
                json!({"bridge": "br0"}),
                7,
                &["br0", "filters VLANs", "\"vlan\""],
            ),
            (
                json!({"bridge": "theirs"}),
                7,
                &["theirs", "filters VLANs", "\"vlan\""],
            ),
            (
                of("theirs", "port0", "verify", 100),
                7,
                &["port0.100", "VLAN 100", "ip link delete port0.100"],
            ),
            (
                of("new0", "bare0", "ensure", 100),
                7,
                &["bare0.100", "VLAN 100"],
            ),
            (
                of("new0", "bare0", "ensure", 200),
                7,
                &["bare0", "bare0.100", "not a bare link"],
            ),
        ],
    )?;
    ours.must_hold()?;
    // A device on another VLAN of an uplink that is a port already harms nobody.
    node.as_before(|| {
        let keys = of("theirs", "port0", "verify", 200);
        Attached::new(node, "beside", conf("net", keys))?.del()
    })
}

fn keys(node: &Node) -> Result<()> {
    let range = "invalid VLAN ID";
    let of = |key: &str, value: Value| with(json!({"bridge": "br0"}), json!({key: value}));
    all_refused(
        node,
        &[
            (
                of("vlan", json!(-100)),
                7,
                &["invalid VLAN ID -100 (must be between 0 and 4094)"],
            ),
            (
                of("vlan", json!(5000)),
                7,
                &["invalid VLAN ID 5000 (must be between 0 and 4094)"],
            ),
            (of("vlan", json!(4095)), 7, &[range, "4095"]),
            (
                of("vlan", json!("100")),
                7,
                &["vlan = \"100\"", "without quotes"],
            ),
            (of("ipMasq", json!(true)), 2, &["ipMasq", "true"]),
            (of("vlanTrunk", json!([{"id": 5}])), 2, &["vlanTrunk"]),
            (of("macspoofchk", json!(true)), 2, &["macspoofchk"]),
            (
                of("layout", json!("per-vlan")),
                2,
                &["layout", "per-vlan", "vlan-aware"],
            ),
            (of("VLAN", json!(100)), 7, &["VLAN", "\"vlan\""]),
            (
                of("uplink-mode", json!("ensure")),
                7,
                &["uplink-mode", "\"uplinkMode\""],
            ),
            (of("mtu", json!(12)), 7, &["mtu = 12", "68 to 65535"]),
            (
                of("mac", json!("01:00:5e:00:00:01")),
                7,
                &["mac", "multicast"],
            ),
            (
                of("rps", json!({"cpu": "0"})),
                7,
                &["rps.cpu", "flowEntries"],
            ),
            (
                of("rps", json!({"cpus": "none"})),
                7,
                &["rps.cpus", "none", "auto"],
            ),
            (
                of("bridge", json!("a-name-too-long-for-a-link")),
                7,
                &["bridge", "a-name-too"],
            ),
            (
                of("ipam", json!({"type": "static"})),
                7,
                &["missing IP config"],
            ),
        ],
    )
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
