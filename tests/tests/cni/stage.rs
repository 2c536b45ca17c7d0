//! A pod, the plugin, and a call whose every part a test can change.

pub(crate) use berth_tests::call::{Call, VERSIONS};
use berth_tests::{Attachment, Node, Plugin, Pod, Result};
use serde_json::{Value, json};

/// The codes of the specification and of the plugin's documentation.
pub(crate) mod code {
    pub(crate) const VERSION: u64 = 1;
    pub(crate) const UNSUPPORTED: u64 = 2;
    pub(crate) const ENV: u64 = 4;
    pub(crate) const IO: u64 = 5;
    pub(crate) const DECODE: u64 = 6;
    pub(crate) const CONFIG: u64 = 7;
    pub(crate) const NETNS: u64 = 8;
    pub(crate) const TRY_AGAIN: u64 = 11;
    pub(crate) const NOT_AVAILABLE: u64 = 50;
    pub(crate) const INCOMPLETE: u64 = 102;
}

/// What a test works on.
pub(crate) struct Stage {
    pub(crate) plugin: Plugin,
    pub(crate) pod: Pod,
}

impl Stage {
    pub(crate) fn set(node: &Node) -> Result<Self> {
        Ok(Self {
            plugin: Plugin::find("cni-bridge-vlan")?,
            pod: node.pod("pod")?,
        })
    }

    pub(crate) fn attachment(&self) -> Attachment {
        Attachment::of(&self.pod, "c1", "eth0")
    }

    /// A call with all that `verb` needs.
    pub(crate) fn call(&self, verb: &str) -> Call<'_> {
        Call::of(&self.plugin, verb, &self.attachment()).conf(&conf())
    }
}

/// An untagged bridge, layer 2 only.
pub(crate) fn conf() -> Value {
    json!({"cniVersion": "1.1.0", "name": "net1", "type": "cni-bridge-vlan",
           "bridge": "br0", "announce": false})
}

pub(crate) fn conf_with(key: &str, value: Value) -> Value {
    let mut conf = conf();
    conf[key] = value;
    conf
}

/// `ipam` of these addresses, gateways being the first of each subnet.
pub(crate) fn fixed(addresses: &[&str]) -> Value {
    let list: Vec<Value> = addresses
        .iter()
        .map(|address| {
            let gateway = if address.contains(':') {
                "fd00:9::1"
            } else {
                "10.9.0.1"
            };
            json!({"address": address, "gateway": gateway})
        })
        .collect();
    json!({"type": "static", "addresses": list})
}
