//! The reference's `dhcp` as the IPAM plugin: its daemon asks a server that is behind
//! another of our ports.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use berth_tests::{Attachment, Context, Need, Node, Result, Space, Test, ensure, poll, test};
use serde_json::json;

use crate::kit::{Attached, IFNAME, conf, tagged};

pub(crate) fn tests() -> Vec<Test> {
    const NEEDS: &[Need] = &[
        Need::ReferencePlugins,
        Need::VlanFiltering,
        Need::Tool("busybox"),
        Need::Tool("ping"),
    ];
    vec![test("addresses_come_by_dhcp", NEEDS, leased)]
}

/// Where the daemon listens for its plugin.
const SOCKET: &str = "/run/cni/dhcp.sock";
const SERVER_CONF: &str = "/run/udhcpd.conf";
const SERVER: &str = "\
interface eth0
start 10.1.0.50
end 10.1.0.60
option subnet 255.255.255.0
option router 10.1.0.1
lease_file /run/udhcpd.leases
pidfile /run/udhcpd.pid
";

/// A program in the background, until the value ends.
struct Daemon(Child);

impl Daemon {
    fn start(space: &impl Space, program: &str, arguments: &[&str]) -> Result<Self> {
        let mut command = space.command(program);
        command.args(arguments).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        child.map(Self).with_context(|| format!("start {program}"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn leased(node: &Node) -> Result<()> {
    let server = Attached::new(node, "server", tagged(100, "10.1.0.1/24"))?;
    node.write(SERVER_CONF, SERVER)?;
    node.write("/run/udhcpd.leases", "")?;
    let _server = Daemon::start(&server.pod, "busybox", &["udhcpd", "-f", SERVER_CONF])?;
    let dhcp = format!("{}/dhcp", Need::REFERENCE_PLUGINS);
    let _daemon = Daemon::start(node, &dhcp, &["daemon"])?;
    poll("the daemon's socket", Duration::from_secs(20), || {
        Ok(Path::new(SOCKET).exists().then_some(()))
    })?;
    // The newest version that Debian 13's plugins know.
    let keys = json!({"cniVersion": "1.0.0", "bridge": "br0", "vlan": 100,
        "ipam": {"type": "dhcp"}});
    node.as_before(|| {
        let pod = node.pod("client")?;
        let at = Attachment {
            cni_path: Some(Need::REFERENCE_PLUGINS.into()),
            ..Attachment::of(&pod, "client", IFNAME)
        };
        let client = Attached::of(pod, at, conf("vlan100", keys.clone()))?;
        let given = client.result["ips"][0]["address"]
            .as_str()
            .unwrap_or("none");
        ensure!(given.starts_with("10.1.0.5"), "{}", client.result);
        assert_eq!(client.pod.addresses(IFNAME)?, [given]);
        ensure!(client.reaches("10.1.0.1")?, "the server");
        client.must_hold()?;
        client.del()
    })
}
