//! What the tests share: configurations, attached pods, what an error must say.

use std::net::IpAddr;
use std::ops::Deref;
use std::path::PathBuf;

use berth_tests::{Attachment, Context, Node, Plugin, Pod, Result, Space, ensure};
pub(crate) use berth_tests::{fixed, foreign_bridge, mac_bytes, quiet, refused, with};
use serde_json::{Value, json};

/// The interface every pod here gets unless a test says otherwise.
pub(crate) const IFNAME: &str = "eth0";

/// Flags of a port's only VLAN.
const ACCESS: [&str; 2] = ["PVID", "Egress Untagged"];

/// The built plugin.
pub(crate) fn plugin() -> Result<Plugin> {
    Plugin::find("cni-bridge-vlan")
}

/// A configuration of network `name` with these keys beside the mandatory ones.
pub(crate) fn conf(name: &str, keys: Value) -> Value {
    let base = json!({"cniVersion": "1.1.0", "name": name, "type": "cni-bridge-vlan"});
    with(base, keys)
}

/// Network `net`: one address on the untagged bridge `br0`.
pub(crate) fn untagged(address: &str) -> Value {
    conf("net", json!({"bridge": "br0", "ipam": fixed(&[address])}))
}

/// Network `vlanVID`: one address in a VLAN of bridge `br0`.
pub(crate) fn tagged(vlan: u16, address: &str) -> Value {
    let keys = json!({"bridge": "br0", "vlan": vlan, "ipam": fixed(&[address])});
    conf(&format!("vlan{vlan}"), keys)
}

/// A text as an address.
pub(crate) fn ip(text: &str) -> Result<IpAddr> {
    text.parse().with_context(|| format!("parse {text}"))
}

/// The file of an attachment's record.
pub(crate) fn record_file(network: &str, id: &str) -> PathBuf {
    let file = format!("/run/berth/attachments/{network}/{id}:{IFNAME}.json");
    PathBuf::from(file)
}

/// Whether the node can separate VLANs, for tests that take the best there is.
pub(crate) fn has_vlans() -> bool {
    berth_tests::Need::VlanFiltering.check().is_ok()
}

/// A pod that was added.
pub(crate) struct Attached(pub(crate) berth_tests::Attached);

impl Deref for Attached {
    type Target = berth_tests::Attached;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Attached {
    /// Makes a pod and adds it; its name serves as the container's id.
    pub(crate) fn new(node: &Node, id: &str, conf: Value) -> Result<Self> {
        let pod = node.pod(id)?;
        let at = Attachment::of(&pod, id, IFNAME);
        Self::of(pod, at, conf)
    }

    /// Adds a pod that is there.
    pub(crate) fn of(pod: Pod, at: Attachment, conf: Value) -> Result<Self> {
        berth_tests::Attached::of(plugin()?, pod, at, conf).map(Self)
    }

    /// The host's end, as the result names it.
    pub(crate) fn port(&self) -> Result<String> {
        let name = self.result["interfaces"][1]["name"].as_str();
        Ok(name
            .context("no second interface in the result")?
            .to_owned())
    }

    /// The container end's address, live.
    pub(crate) fn mac(&self) -> Result<[u8; 6]> {
        let link = self.pod.link(IFNAME)?;
        mac_bytes(link["address"].as_str().unwrap_or_default())
    }

    /// The port is in this VLAN alone, untagged.
    pub(crate) fn must_be_in_vlan(&self, node: &Node, vlan: u16) -> Result<()> {
        let seen = node.port_vlans(&self.port()?)?;
        let wish = vec![(vlan, ACCESS.map(str::to_owned).to_vec())];
        ensure!(seen == wish, "port of {}: {seen:?}", self.at.container_id);
        Ok(())
    }
}

/// A kernel setting of a namespace, below `/proc/sys`.
pub(crate) fn sysctl(space: &impl Space, key: &str) -> Result<String> {
    Ok(space
        .run(&format!("cat /proc/sys/{key}"))?
        .trim()
        .to_owned())
}
