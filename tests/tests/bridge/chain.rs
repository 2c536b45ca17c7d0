//! Our plugin at the head of a list, the reference's chained plugins behind it, run as a
//! runtime runs them.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_cni::client::{Attachment, Client, NetworkList};
use berth_state::Key;
use berth_tests::{Context, Need, Node, Pod, Result, Space, Test, ensure, poll, test};
use serde_json::{Map, Value, json};

use crate::gateway::forwarding;
use crate::kit::{IFNAME, plugin, with};

pub(crate) fn tests() -> Vec<Test> {
    const CHAIN: &[Need] = &[
        Need::ReferencePlugins,
        Need::Nftables,
        Need::Tool("iptables"),
        Need::Tool("tc"),
        Need::VlanFiltering,
        Need::Vlan8021q,
    ];
    const TUNING: &[Need] = &[Need::ReferencePlugins];
    let long = Duration::from_secs(600);
    vec![
        test("chained_plugins_work_in_every_layout", CHAIN, layouts).limit(long),
        test("chained_mac_is_for_ports_without_spoof_check", TUNING, mac),
    ]
}

const ADDRESS: &str = "10.1.0.5";
const GATEWAY: &str = "10.1.0.1";
const OUTSIDE: &str = "192.0.2.1";
const HOST_PORT: u16 = 8080;
const PORT: u16 = 80;

/// Where the tools are that portmap may find.
const TOOLS: &str = "/run/tools";
/// Where it is found itself.
const WRAPPED: &str = "/run/wrapped";

/// The reference's portmap 1.1.1 fails CHECK of a container with IPv4 addresses only
/// wherever it finds ip6tables, as it looks for the rules in both: so it finds iptables
/// alone.
fn wrap_portmap() -> Result<()> {
    fs::create_dir_all(TOOLS)?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    for name in ["iptables", "iptables-save", "iptables-restore"] {
        let mut all = std::env::split_paths(&path).map(|dir| dir.join(name));
        let real = all.find(|path| path.is_file());
        let real = real.with_context(|| format!("no {name} on PATH"))?;
        symlink(real, Path::new(TOOLS).join(name))?;
    }
    fs::create_dir_all(WRAPPED)?;
    let (file, dir) = (Path::new(WRAPPED).join("portmap"), Need::REFERENCE_PLUGINS);
    fs::write(
        &file,
        format!("#!/bin/sh\nPATH={TOOLS} exec {dir}/portmap\n"),
    )?;
    fs::set_permissions(&file, Permissions::from_mode(0o755))?;
    Ok(())
}

/// One container of a list.
struct Chained {
    client: Client,
    list: NetworkList,
    attachment: Attachment,
    pod: Pod,
}

impl Chained {
    /// A container `id` of network `chain` that is not added yet.
    fn new(node: &Node, id: &str, plugins: Value, capabilities: Value) -> Result<Self> {
        let list = json!({"cniVersion": "1.0.0", "name": "chain", "plugins": plugins});
        let pod = node.pod(id)?;
        let key = Key::new("chain", id, IFNAME.parse()?)?;
        let ours = plugin()?;
        let ours = ours.path().parent().context("a plugin without directory")?;
        let path = [ours, Path::new(WRAPPED), Path::new(Need::REFERENCE_PLUGINS)];
        let cache = PathBuf::from("/run/runtime");
        fs::create_dir_all(&cache)?;
        let values = capabilities.as_object().cloned();
        Ok(Self {
            client: Client::new(path.map(Path::to_owned).to_vec(), cache),
            list: NetworkList::of(&list)?,
            attachment: Attachment {
                capabilities: values.unwrap_or_else(Map::new),
                ..Attachment::new(key, Some(pod.path().to_owned()))
            },
            pod,
        })
    }

    fn add(&self) -> Result<Value> {
        Ok(self.client.add(&self.list, &self.attachment)?)
    }

    fn del(&self) -> Result<()> {
        Ok(self.client.del(Some(&self.list), &self.attachment)?)
    }
}

/// All of them, each with something to do.
fn chain(first: Value) -> Value {
    let ipam = json!({"type": "static", "addresses": [{"address": format!("{ADDRESS}/24")}]});
    let ours = json!({"type": "cni-bridge-vlan", "isDefaultGateway": true, "ipMasq": true,
        "mtu": 1400, "ipam": ipam});
    json!([
        with(ours, first),
        {"type": "bandwidth", "capabilities": {"bandwidth": true}},
        {"type": "tuning", "mtu": 1400, "promisc": true,
         "sysctl": {"net.core.somaxconn": "500"}},
        {"type": "sbr"},
        {"type": "firewall", "backend": "iptables"},
        {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}},
    ])
}

fn capabilities() -> Value {
    json!({
        "bandwidth": {"ingressRate": 8_000_000, "ingressBurst": 800_000,
                      "egressRate": 8_000_000, "egressBurst": 800_000},
        "portMappings": [{"hostPort": HOST_PORT, "containerPort": PORT, "protocol": "tcp"}],
    })
}

/// The reference's plugins keep chains of theirs in iptables for the next container; what
/// is left of the first one is all there is after the others.
fn layouts(node: &Node) -> Result<()> {
    forwarding(node)?;
    wrap_portmap()?;
    let world = node.veth_pod("world", "w0", IFNAME)?;
    node.ip(&format!("addr add {OUTSIDE}/24 dev w0"))?;
    world.ip("addr add 192.0.2.2/24 dev eth0")?;
    let mut rules = None;
    for (layout, keys) in [
        ("untagged", json!({"bridge": "br0"})),
        ("vlan-aware", json!({"bridge": "br0", "vlan": 100})),
        (
            "per-vlan",
            json!({"bridge": "br", "vlan": 100, "layout": "per-vlan"}),
        ),
    ] {
        one(node, &world, layout, keys).with_context(|| format!("layout {layout}"))?;
        let left = packet_filter(node)?;
        assert_eq!(*rules.get_or_insert_with(|| left.clone()), left);
    }
    Ok(())
}

fn one(node: &Node, world: &Pod, id: &str, keys: Value) -> Result<()> {
    // Counters of the rules that stay go on.
    let state = || -> Result<_> { Ok(node.snapshot()?.without("nft ")) };
    let before = state()?;
    let chained = Chained::new(node, id, chain(keys), capabilities())?;
    let result = chained.add()?;
    let port = result["interfaces"][1]["name"].as_str();
    let port = port.context("no host end in the result")?;
    effects(node, &chained.pod, port)?;
    ensure!(
        answers(world, &chained.pod)?,
        "no answer by the node's port"
    );
    chained.client.check(&chained.attachment)?;
    chained.del()?;
    drop(chained);
    let tables = node.run("nft list tables")?;
    ensure!(!tables.contains("berth"), "left: {tables}");
    poll("the node as it was", Duration::from_secs(2), || {
        Ok(before.must_equal(&state()?).is_ok().then_some(()))
    })
    .or_else(|_late| before.must_equal(&state()?))
}

/// What each of the plugins did.
fn effects(node: &Node, pod: &Pod, port: &str) -> Result<()> {
    let holds = |text: String, parts: &[&str]| {
        for part in parts {
            ensure!(text.contains(part), "{part:?} is not in {text}");
        }
        Ok(())
    };
    let limits = node.run(&format!("tc qdisc show dev {port}"))?;
    holds(limits, &["tbf", "rate 8Mbit", "ingress"])?;
    assert_eq!(pod.link(IFNAME)?["mtu"], 1400);
    holds(pod.run("cat /proc/sys/net/core/somaxconn")?, &["500"])?;
    holds(
        pod.ip("rule show")?,
        &[&format!("from {ADDRESS} lookup 100")],
    )?;
    let default = format!("default via {GATEWAY}");
    holds(pod.ip("route show table 100")?, &[&default, "10.1.0.0/24"])?;
    ensure!(
        pod.ip("route show table main")?.is_empty(),
        "routes in table main"
    );
    let rules = packet_filter(node)?.join("\n");
    let forward = format!("-A CNI-FORWARD -s {ADDRESS}/32 -j ACCEPT");
    let mapped = format!("--to-destination {ADDRESS}:{PORT}");
    holds(rules, &[&forward, &mapped])
}

/// A host outside speaks to the container by the node's port.
fn answers(world: &Pod, pod: &Pod) -> Result<bool> {
    let listener = pod.enter(|| Ok(TcpListener::bind((ADDRESS, PORT))?))?;
    let target = format!("{OUTSIDE}:{HOST_PORT}").parse()?;
    let limit = Duration::from_secs(20);
    let mut stream = world.enter(|| Ok(TcpStream::connect_timeout(&target, limit)?))?;
    // It is in the listener's queue.
    let (mut served, _) = listener.accept()?;
    served.write_all(b"answer")?;
    drop(served);
    stream.set_read_timeout(Some(limit))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text == "answer")
}

/// The rules of both families, without their counters.
fn packet_filter(node: &Node) -> Result<Vec<String>> {
    let all = node.run("iptables-save")? + &node.run("ip6tables-save")?;
    let rules = all.lines().filter(|line| !line.starts_with('#'));
    let bare = |line: &str| line.split(" [").next().unwrap_or(line).to_owned();
    Ok(rules.map(bare).collect())
}

/// A chained plugin that sets another address cuts the container off from a port that
/// checks it; CHECK says so. Where it does not, the container has that address.
fn mac(node: &Node) -> Result<()> {
    const MAC: &str = "02:00:5e:10:00:99";
    let tuned = |keys: Value| {
        let ours = json!({"type": "cni-bridge-vlan", "bridge": "br0"});
        json!([with(ours, keys), {"type": "tuning", "mac": MAC}])
    };
    node.as_before(|| {
        let bound = Chained::new(node, "bound", tuned(json!({})), json!({}))?;
        bound.add()?;
        let error = bound.client.check(&bound.attachment).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        for part in [
            "cni-bridge-vlan",
            "MAC address of eth0",
            MAC,
            "only one its port",
        ] {
            ensure!(text.contains(part), "{part:?} is not in {text:?}");
        }
        bound.del()?;
        let free = json!({"macspoofchk": false});
        let free = Chained::new(node, "free", tuned(free), json!({}))?;
        free.add()?;
        assert_eq!(free.pod.link(IFNAME)?["address"], MAC);
        free.client.check(&free.attachment)?;
        free.pod.ip("link set eth0 address 02:00:5e:10:00:98")?;
        ensure!(free.client.check(&free.attachment).is_err(), "not checked");
        free.del()
    })
}
