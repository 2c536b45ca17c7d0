//! The nodes an ADD may find, and what is compared before and after.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use berth_tests::{
    Attachment, Context, Extent, Node, Plugin, Pod, Result, Snapshot, Space, bail, is_emulated,
    is_soak, poll, with,
};
use serde_json::{Value, json};

/// Where the lease-keeping IPAM plugin is, and what makes its DEL fail.
pub(crate) const CNI_PATH: &str = "/run/plugins";
pub(crate) const BROKEN: &str = "/run/plugins/broken";
/// A pool of one address: a lost lease is a file, and the next ADD fails.
const LEASE: &str = r#"#!/bin/sh
lease=/var/lib/cni/networks/crash/10.9.0.7
case $CNI_COMMAND in
ADD)
    mkdir -p "${lease%/*}"
    if ! (set -C; echo "$CNI_CONTAINERID" >"$lease") 2>/dev/null; then
        echo '{"code": 11, "msg": "the pool is exhausted"}'
        exit 1
    fi
    cat /run/plugins/answer
    ;;
DEL)
    if [ -e /run/plugins/broken ]; then
        echo '{"code": 11, "msg": "the pool is offline"}'
        exit 1
    fi
    rm -f "$lease"
    ;;
esac
"#;
const ANSWER: &str = r#"{"cniVersion": "1.0.0",
 "ips": [{"address": "10.9.0.7/24", "gateway": "10.9.0.1"}], "routes": [{"dst": "0.0.0.0/0"}]}"#;
/// A route the kernel refuses: no network of the container reaches its gateway.
pub(crate) const LOST_ROUTE: &str = r#"{"cniVersion": "1.0.0",
 "ips": [{"address": "10.9.0.7/24"}], "routes": [{"dst": "10.20.0.0/16", "gw": "172.16.0.1"}]}"#;

/// One attachment on a node, ready to be added.
pub(crate) struct Scene {
    pub(crate) pod: Pod,
    pub(crate) attachment: Attachment,
    pub(crate) conf: Value,
    before: RefCell<State>,
    /// Namespaces that must live as long as the scene.
    _others: Vec<Pod>,
}

/// What is compared: the node, and what the pod has.
struct State {
    node: Snapshot,
    inside: BTreeMap<&'static str, String>,
}

impl State {
    fn now(pod: &Pod) -> Result<Self> {
        Ok(Self {
            node: Snapshot::take(Extent::Network)?,
            inside: inside(pod)?,
        })
    }

    fn diff(&self, after: &Self) -> Vec<String> {
        let node = self.node.diff(&after.node);
        let mut changes: Vec<String> = node.iter().map(ToString::to_string).collect();
        for (what, now) in &after.inside {
            if self.inside.get(what) != Some(now) {
                changes.push(format!("  ~ {what} in the pod, now: {now}"));
            }
        }
        changes
    }
}

/// What is on the node before the ADD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No bridge yet; layer 2 only.
    Fresh,
    /// An operator's bridge with another port, to be made promiscuous.
    Foreign,
    /// The same, and a bare uplink to be lent to it.
    ForeignUplink,
    /// A bridge of ours with another attachment.
    Shared,
    /// Addresses and routes of both families, a MAC, steering.
    Addressed,
    /// A gateway on an operator's bridge, in the place of another address.
    Gateway,
    /// VLAN 100 with a gateway on an operator's filtering bridge.
    VlanGateway,
    /// No bridge yet; limits in both directions.
    Limited,
    /// Addresses from another plugin.
    Delegated,
    /// VLAN 100 on no bridge yet, with a bare uplink to be enslaved and set up.
    VlanUplink,
    /// VLAN 100 on no bridge yet, and on an 802.1Q device of the uplink that is none yet.
    PerVlan,
    /// VLAN 100 and a trunk on an operator's filtering bridge that has the uplink already.
    VlanForeign,
    /// Everything of nf_tables and a lease: masquerading of two families, the spoof check
    /// by rules, as on a kernel without locked ports, addresses from a pool.
    Ruled,
    /// The same beside another attachment that has it all, too.
    RuledBeside,
    /// VLAN 200 on a bridge of ours whose uplink carries VLAN 100 for another.
    VlanShared,
}

impl Scene {
    /// Sets the node up and remembers how it is.
    pub(crate) fn set(node: &Node, kind: Kind) -> Result<Self> {
        install_ipam()?;
        let pod = node.pod("pod")?;
        let mut others = Vec::new();
        match kind {
            Kind::Fresh | Kind::Addressed | Kind::Limited | Kind::Delegated => {}
            Kind::Ruled => {
                old_kernel(node)?;
                pool_in_use(node, &conf(kind))?;
            }
            Kind::RuledBeside => {
                old_kernel(node)?;
                others.push(neighbour(node, &conf(kind), &["br0"])?);
            }
            Kind::Foreign => {
                node.ip("link add br0 type bridge")?;
                others.push(peer(node)?);
            }
            Kind::ForeignUplink => {
                node.ip("link add br0 type bridge")?;
                others.push(peer(node)?);
                others.push(bare_uplink(node, "up1")?);
            }
            Kind::VlanForeign | Kind::VlanGateway => {
                forwarding()?;
                node.ip("link add br0 type bridge vlan_filtering 1")?;
                others.push(peer(node)?);
            }
            Kind::Gateway => {
                forwarding()?;
                node.ip("link add br0 type bridge")?;
                others.push(peer(node)?);
                node.ip("addr add 10.9.0.254/24 dev br0")?;
            }
            Kind::VlanUplink => others.push(bare_uplink(node, "up0")?),
            Kind::PerVlan => {
                others.push(bare_uplink(node, "up0")?);
                node.ip("link set up0 up")?;
                settle(node, &["up0"])?;
            }
            Kind::Shared => others.push(neighbour(node, &conf(Kind::Fresh), &["br0"])?),
            Kind::VlanShared => {
                others.push(bare_uplink(node, "up0")?);
                let links = ["br0", "up0"];
                others.push(neighbour(node, &conf(Kind::VlanUplink), &links)?);
            }
        }
        let mut attachment = Attachment::of(&pod, "c1", "eth0");
        attachment.cni_path = Some(CNI_PATH.into());
        Ok(Self {
            before: RefCell::new(State::now(&pod)?),
            pod,
            attachment,
            conf: conf(kind),
            _others: others,
        })
    }

    /// What is not as it was, within two seconds: a killed process's descriptors and
    /// a namespace's links go a moment later.
    pub(crate) fn changes(&self) -> Result<Vec<String>> {
        let end = Instant::now() + Duration::from_secs(2);
        loop {
            let changes = self.before.borrow().diff(&State::now(&self.pod)?);
            if changes.is_empty() || Instant::now() >= end {
                return Ok(changes);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Fails with what is not as it was; `after` says after what. Each change is told
    /// once: from then on it counts as having been there.
    pub(crate) fn must_be_as_before(&self, after: &str) -> Result<()> {
        let changes = self.changes()?;
        if changes.is_empty() {
            return Ok(());
        }
        self.before.replace(State::now(&self.pod)?);
        bail!(
            "after {after} the node is not as before:\n{}",
            changes.join("\n")
        )
    }

    /// The attachment's record, if there is one.
    pub(crate) fn record(&self) -> Option<Value> {
        let text = fs::read("/run/berth/attachments/crash/c1:eth0.json").ok()?;
        serde_json::from_slice(&text).ok()
    }
}

pub(crate) fn plugin() -> Result<Plugin> {
    Plugin::find("cni-bridge-vlan")
}

/// Makes the IPAM plugin answer ADD with this from now on.
pub(crate) fn ipam_answers(text: &str) -> Result<()> {
    fs::write("/run/plugins/answer", text).context("write the IPAM plugin's answer")
}

fn install_ipam() -> Result<()> {
    fs::create_dir_all(CNI_PATH)?;
    let path = Path::new(CNI_PATH).join("lease");
    fs::write(&path, LEASE)?;
    fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    ipam_answers(ANSWER)
}

fn conf(kind: Kind) -> Value {
    let mut conf = json!({
        "cniVersion": "1.1.0", "name": "crash", "type": "cni-bridge-vlan",
        "bridge": "br0", "rps": {"cpus": "0"}, "announce": false,
    });
    match kind {
        Kind::Fresh | Kind::Shared => {}
        Kind::Foreign => {
            conf["promiscMode"] = json!(true);
            conf["portIsolation"] = json!(true);
        }
        Kind::ForeignUplink => {
            conf["uplink"] = json!("up1");
            conf["uplinkMode"] = json!("ensure");
        }
        Kind::Addressed => {
            conf["runtimeConfig"] = json!({"mac": "02:00:00:00:00:77"});
            conf["rps"]["flowEntries"] = json!(64);
            conf["announce"] = json!(true);
            conf["ipam"] = json!({"type": "static",
                "addresses": [{"address": "10.9.0.7/24", "gateway": "10.9.0.1"},
                              {"address": "fd00:9::7/64", "gateway": "fd00:9::1"}],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"},
                           {"dst": "10.20.0.0/16", "gw": "10.9.0.2"}]});
        }
        Kind::Gateway | Kind::VlanGateway => {
            conf["isDefaultGateway"] = json!(true);
            conf["forceAddress"] = json!(true);
            conf["ipam"] = json!({"type": "static",
                "addresses": [{"address": "10.9.0.7/24"}, {"address": "fd00:9::7/64"}]});
            if kind == Kind::VlanGateway {
                conf["vlan"] = json!(100);
            }
        }
        Kind::Limited => {
            conf["bandwidth"] = json!({"ingressRate": 8_000_000, "ingressBurst": 80_000,
                "egressRate": 8_000_000, "egressBurst": 80_000});
        }
        Kind::Delegated => conf["ipam"] = json!({"type": "lease"}),
        Kind::Ruled | Kind::RuledBeside => {
            conf["ipMasq"] = json!(true);
            conf["ipam"] = json!({"type": "host-local", "ranges":
                [[{"subnet": "10.9.0.0/24"}], [{"subnet": "fd00:9::/64"}]]});
        }
        Kind::VlanUplink => set_vlan(&mut conf, 100, "ensure"),
        Kind::PerVlan => {
            set_vlan(&mut conf, 100, "ensure");
            conf["layout"] = json!("per-vlan");
        }
        Kind::VlanForeign => {
            set_vlan(&mut conf, 100, "verify");
            conf["vlanTrunk"] = json!([{"id": 101}, {"minID": 200, "maxID": 203}]);
        }
        Kind::VlanShared => set_vlan(&mut conf, 200, "ensure"),
    }
    conf
}

/// A kernel whose version says that it cannot lock ports.
fn old_kernel(node: &Node) -> Result<()> {
    node.write("/run/osrelease", "5.15.0-test\n")?;
    node.run("mount --bind /run/osrelease /proc/sys/kernel/osrelease")?;
    Ok(())
}

/// A pool keeps a mark of the boot it was first used in.
fn pool_in_use(node: &Node, conf: &Value) -> Result<()> {
    let pod = node.pod("former")?;
    let former = Attachment::of(&pod, "c0", "eth0");
    plugin()?.add(&former, conf)?;
    plugin()?.del(&former, conf)
}

/// GC of a network that has no attachments any more.
pub(crate) fn gc(conf: &Value) -> Result<()> {
    let conf = with(conf.clone(), json!({"cni.dev/valid-attachments": []}));
    let env = [("CNI_COMMAND", "GC"), ("CNI_PATH", CNI_PATH)];
    let reply = plugin()?.raw(&env, conf.to_string().as_bytes())?;
    reply.result().map(drop)
}

/// A gateway's ADD switches it on for good.
fn forwarding() -> Result<()> {
    for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        fs::write(Path::new("/proc/sys").join(key), "1")?;
    }
    Ok(())
}

fn set_vlan(conf: &mut Value, vlan: u16, mode: &str) {
    conf["vlan"] = json!(vlan);
    conf["uplink"] = json!("up0");
    conf["uplinkMode"] = json!(mode);
}

/// A link that is down, bare, and has somebody at its other end.
fn bare_uplink(node: &Node, name: &str) -> Result<Pod> {
    let pod = node.veth_pod("wire", name, "wire0")?;
    node.ip(&format!("link set {name} down"))?;
    Ok(pod)
}

/// Another port of the operator's bridge, with carrier; as `up0` it is an uplink too.
fn peer(node: &Node) -> Result<Pod> {
    let pod = node.veth_pod("peer", "up0", "eth0")?;
    node.ip("link set up0 master br0")?;
    node.ip("link set br0 up")?;
    settle(node, &["br0", "up0"])?;
    Ok(pod)
}

/// Another attachment of the same network, added and left.
fn neighbour(node: &Node, conf: &Value, links: &[&str]) -> Result<Pod> {
    let pod = node.pod("neighbour")?;
    plugin()?.add(&Attachment::of(&pod, "c0", "eth0"), conf)?;
    settle(node, links)?;
    Ok(pod)
}

/// Waits for the link-local addresses that come with carrier by themselves, until the
/// kernel is sure that nobody else has them.
fn settle(node: &Node, links: &[&str]) -> Result<()> {
    for link in links {
        let what = format!("link-local address of {link}");
        poll(&what, Duration::from_secs(20), || {
            let routes = node.ip(&format!("-6 route show table local dev {link}"))?;
            Ok(routes.contains("local fe80").then_some(()))
        })?;
    }
    Ok(())
}

fn inside(pod: &Pod) -> Result<BTreeMap<&'static str, String>> {
    let mut facts = BTreeMap::new();
    for (what, line) in [
        ("links", "-o address show"),
        ("routes", "route show table all"),
        ("IPv6 routes", "-6 route show table all"),
    ] {
        facts.insert(what, pod.ip(line)?);
    }
    Ok(facts)
}

/// Whether to do less: emulation is slow, and what needs no VLAN is done in full on
/// the host's own kernel. `BERTH_SOAK=1` leaves nothing out anywhere.
pub(crate) fn is_reduced() -> bool {
    is_emulated() && !is_soak()
}

/// Waits until nothing else runs on this node: an IPAM plugin whose caller was killed
/// goes on alone.
pub(crate) fn wait_for_orphans() -> Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let pids = fs::read_dir("/proc")?.flatten();
        let pids = pids.filter(|e| e.file_name().to_string_lossy().parse::<u32>().is_ok());
        // Pid 1 and this test.
        if pids.count() <= 2 {
            return Ok(());
        }
        if Instant::now() >= end {
            bail!("a process of the killed plugin still runs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
