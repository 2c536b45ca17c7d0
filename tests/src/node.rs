//! The node of one test: its own network namespace, `/run`, `/var/lib` and pids.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command;
use crate::pod::{Pod, in_thread};
use crate::snapshot::{Extent, Snapshot};
use crate::space::{Space, poll};
use crate::sys::join_net;
use crate::vf;

/// How long a link may take to have carrier; emulated hardware takes 2.5 s.
const CARRIER_LIMIT: Duration = Duration::from_secs(15);

/// A physical port of the lab guest, all four on one emulated switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// `uplink0`: a bridge's uplink; never has VFs.
    Uplink,
    /// `peer0`: the host outside; never has VFs.
    Peer,
    /// `pf0`: the SR-IOV function on NUMA node 0.
    Pf0,
    /// `pf1`: the SR-IOV function on NUMA node 1.
    Pf1,
}

impl Port {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Uplink, Self::Peer, Self::Pf0, Self::Pf1];

    /// The link's name, given by the guest by MAC address.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uplink => "uplink0",
            Self::Peer => "peer0",
            Self::Pf0 => "pf0",
            Self::Pf1 => "pf1",
        }
    }

    /// Its PCI device's directory, found when its link has its own name; while it has
    /// not, by the address it had then.
    pub(crate) fn device(self) -> Result<PathBuf> {
        static KNOWN: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let link = Path::new("/sys/class/net").join(self.name()).join("device");
        match (fs::canonicalize(&link), known.get(self.name())) {
            (Ok(path), _) => {
                known.insert(self.name(), path.clone());
                Ok(path)
            }
            (Err(_), Some(path)) => Ok(path.clone()),
            (Err(error), None) => Err(error).with_context(|| format!("find {}", link.display())),
        }
    }

    /// Whether the port is where it lives when no test has it: with pid 1.
    pub(crate) fn is_home(self) -> Result<bool> {
        at_home(|| {
            let mut ip = Command::new("ip");
            let done = command::start(ip.args(["-br", "link", "show", "dev", self.name()]), b"")?;
            Ok(done.finish(command::COMMAND_LIMIT)?.status.success())
        })
    }

    /// Moves the port from its home into the namespace of process `pid`.
    pub(crate) fn lend_to(self, pid: u32) -> Result<()> {
        let pid = pid.to_string();
        at_home(|| {
            command::run(Command::new("ip").args(["link", "set", self.name(), "netns", &pid]))
                .with_context(|| format!("lend {}", self.name()))
        })?;
        Ok(())
    }

    /// Waits until the kernel has brought the port home, which it does some time after
    /// the test's namespace died, and puts it into the state every test finds it in.
    pub(crate) fn settle(self) -> Result<()> {
        let name = self.name();
        poll(&format!("return of {name}"), CARRIER_LIMIT, || {
            Ok(self.is_home()?.then_some(()))
        })?;
        vf::remove(self)?;
        at_home(|| {
            let reset = [
                "link", "set", name, "down", "nomaster", "alias", "", "mtu", "1500",
            ];
            command::run(Command::new("ip").args(reset))
        })?;
        Ok(())
    }
}

fn at_home<R: Send>(work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    in_thread(|| {
        join_home()?;
        work()
    })
}

/// Joins the network namespace of pid 1, where physical links live.
pub(crate) fn join_home() -> Result<()> {
    let home = File::open("/proc/1/ns/net").context("open the namespace of pid 1")?;
    join_net(&home).context("enter the namespace of pid 1")
}

/// The test's node: the process itself is in it.
#[derive(Debug)]
pub struct Node {
    ports: Vec<Port>,
}

impl Node {
    pub(crate) fn new(ports: &[Port]) -> Self {
        Self {
            ports: ports.to_vec(),
        }
    }

    /// The physical ports this test was lent.
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// A pod whose namespace is bound to `/run/netns/NAME` of this node.
    pub fn pod(&self, name: &str) -> Result<Pod> {
        Pod::create(&Path::new("/run/netns").join(name)).with_context(|| format!("make pod {name}"))
    }

    /// Moves a link into a pod under a new name, both in one message.
    pub fn move_link(&self, link: &str, pod: &Pod, name: &str) -> Result<()> {
        let path = pod.path().display();
        self.ip(&format!("link set {link} netns {path} name {name}"))?;
        Ok(())
    }

    /// Sets a physical port up and waits for its carrier.
    pub fn port_up(&self, port: Port) -> Result<()> {
        up_with_carrier(self, port.name())
    }

    /// The host outside, behind the wire: a pod that holds [`Port::Peer`], up, as `peer0`.
    /// Add VLAN devices and addresses to it with [`Space::ip`].
    pub fn outside(&self) -> Result<Pod> {
        let pod = self.pod("outside")?;
        self.move_link(Port::Peer.name(), &pod, Port::Peer.name())?;
        up_with_carrier(&pod, Port::Peer.name())?;
        Ok(pod)
    }

    /// A second node-like peer without hardware: a pod joined by a veth pair, `node_end`
    /// here and `pod_end` there, both up.
    pub fn veth_pod(&self, name: &str, node_end: &str, pod_end: &str) -> Result<Pod> {
        let pod = self.pod(name)?;
        let path = pod.path().display();
        self.ip(&format!(
            "link add {node_end} type veth peer name {pod_end} netns {path}"
        ))?;
        self.ip(&format!("link set {node_end} up"))?;
        pod.ip(&format!("link set {pod_end} up"))?;
        Ok(pod)
    }

    /// What a test of a plugin may leave changed on this node.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::take(Extent::Lanes)
    }

    /// Runs `work` and fails with the difference if the node is not as it was before.
    pub fn as_before<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<R> {
        let before = self.snapshot()?;
        let result = work()?;
        before.must_return(Duration::from_secs(2))?;
        Ok(result)
    }

    /// Writes a file of this node's kernel interface, for example a sysctl.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        fs::write(path, text).with_context(|| format!("write {text:?} to {path}"))
    }
}

fn up_with_carrier(space: &impl Space, link: &str) -> Result<()> {
    space.ip(&format!("link set {link} up"))?;
    poll(&format!("carrier of {link}"), CARRIER_LIMIT, || {
        let up = space.read_sys(&format!("class/net/{link}/carrier"))? == "1";
        Ok(up.then_some(()))
    })
}

impl Space for Node {
    fn command(&self, program: &str) -> Command {
        Command::new(program)
    }

    fn enter<R: Send>(&self, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        work()
    }

    fn in_sys<R: Send>(&self, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        work()
    }
}

/// The bytes of `aa:bb:cc:dd:ee:ff`.
pub fn mac_bytes(text: &str) -> Result<[u8; 6]> {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16))
        .collect::<Result<_, _>>()
        .with_context(|| format!("parse MAC address {text:?}"))?;
    let found = bytes.len();
    <[u8; 6]>::try_from(bytes)
        .ok()
        .with_context(|| format!("{text:?} has {found} bytes"))
}

/// Keeps the node's own link-local addresses off, which would come in the middle of a
/// comparison. For tests that make links of their own on the node.
pub fn quiet(node: &Node) -> Result<()> {
    node.write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")?;
    node.write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")
}

/// Makes a bridge that is not Berth's and sets it up; `options` as `ip link` has them.
/// Its address is fixed: else the kernel would change it with every port.
pub fn foreign_bridge(node: &Node, name: &str, options: &str) -> Result<()> {
    quiet(node)?;
    node.ip(&format!(
        "link add {name} address 02:00:00:00:09:00 type bridge {options}"
    ))?;
    node.ip(&format!("link set {name} up"))?;
    Ok(())
}
