//! Attachment records, `run/berth/attachments/NETWORK/CONTAINERID:IFNAME.json`:
//! written before the first change of an ADD, removed last, and enough for a DEL.

use std::path::PathBuf;

use berth_kernel::netlink::VlanRange;
use berth_kernel::netns::NetNs;
use berth_kernel::{CpuSet, IfName, MacAddr, Root, VlanId};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::boot::Writer;
use crate::key::Key;
use crate::vf::SriovHost;

mod bandwidth;
mod store;

pub use bandwidth::{Bandwidth, RateLimit};
pub use store::Records;

/// How far an ADD came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its intent stands; any part of it may be done.
    Prepared,
    /// All of it is done.
    Committed,
}

/// A network namespace, remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetnsRef {
    /// The path it was given by; it may name another namespace by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Device of the namespace file.
    pub dev: u64,
    /// Inode of the namespace file; the kernel gives it to another one at once.
    pub ino: u64,
    /// `SO_NETNS_COOKIE`, unique within a boot: the namespace is the same only if
    /// this is.
    pub cookie: u64,
}

impl NetnsRef {
    /// Remembers a namespace by the path it was opened by.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn of(netns: &NetNs) -> berth_kernel::Result<Self> {
        let identity = netns.identity()?;
        Ok(Self {
            path: Some(netns.path().to_owned()),
            dev: identity.dev,
            ino: identity.ino,
            cookie: netns.cookie()?,
        })
    }

    /// Whether `netns` is this namespace.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn is(&self, netns: &NetNs) -> berth_kernel::Result<bool> {
        Ok(netns.cookie()? == self.cookie)
    }
}

/// The host's side, by kind of attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "host", rename_all = "lowercase")]
#[expect(
    clippy::large_enum_variant,
    reason = "a process holds few records at a time"
)]
pub enum Host {
    /// A veth on a bridge.
    Bridge(BridgeHost),
    /// A virtual function in the container.
    Sriov(Box<SriovHost>),
}

/// The host's side of a veth on a bridge. What was done to the bridge itself outlives
/// any one attachment and is in [`crate::bridge`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BridgeHost {
    /// The bridge.
    pub bridge: IfName,
    /// The veth's end on it.
    pub port: IfName,
    /// The port's untagged VLAN; none on a plain bridge.
    pub vlan: Option<VlanId>,
    /// The port's tagged VLANs, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trunk: Vec<VlanRange>,
    /// The bridge's default VLAN, which the port was left in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_vlan: Option<VlanId>,
    /// The bridge's uplink, if the configuration names one.
    pub uplink: Option<IfName>,
    /// What the port was told to do with frames.
    #[serde(default)]
    pub flags: PortFlags,
    /// The gateway it has on the node, if it asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayHost>,
    /// What it has in nf_tables.
    #[serde(default)]
    pub rules: PacketRules,
    /// How fast it may receive and send.
    #[serde(default, skip_serializing_if = "Bandwidth::is_unlimited")]
    pub bandwidth: Bandwidth,
}

/// What an attachment has in nf_tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PacketRules {
    /// What it sends out of its subnets leaves with the node's address.
    pub masquerade: bool,
    /// Frames from other addresses than the container's are dropped by a rule, as the
    /// kernel cannot lock a port.
    pub senders: bool,
    /// Frames with VLAN tags that are not the container's to set are dropped.
    pub tags: bool,
    /// Bridge protocol frames are dropped, too.
    pub bpdus: bool,
}

/// A container's gateway on the node. What was done for it, and for others, is in
/// [`crate::bridge`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayHost {
    /// The bridge, or the 802.1Q device on it.
    pub device: IfName,
    /// The gateway's addresses.
    pub addresses: Vec<IpNetwork>,
}

impl BridgeHost {
    /// A port on a bridge and nothing else.
    pub fn new(bridge: IfName, port: IfName) -> Self {
        Self {
            bridge,
            port,
            vlan: None,
            trunk: vec![],
            default_vlan: None,
            uplink: None,
            flags: PortFlags::default(),
            gateway: None,
            rules: PacketRules::default(),
            bandwidth: Bandwidth::default(),
        }
    }
}

/// What a bridge port was told to do with frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortFlags {
    /// A frame may leave by the port it came from.
    pub hairpin: bool,
    /// It exchanges no frame with other isolated ports.
    pub isolated: bool,
    /// Frames from other addresses than the container's are dropped.
    pub locked: bool,
    /// Frames to other addresses reach it, too: the bridge is promiscuous.
    pub promisc: bool,
    /// The node's packet filter does not see its frames.
    pub unfiltered: bool,
}

/// The container's side.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSide {
    /// Its MAC.
    pub mac: Option<MacAddr>,
    /// Its MTU in bytes.
    pub mtu: Option<u32>,
    /// Its addresses with their prefix lengths.
    pub ips: Vec<IpNetwork>,
    /// Its receive queues.
    pub rx_queues: Option<u32>,
    /// Its transmit queues.
    pub tx_queues: Option<u32>,
    /// It was left down, as wished.
    #[serde(default, skip_serializing_if = "is_no")]
    pub left_down: bool,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde's attribute wants"
)]
fn is_no(value: &bool) -> bool {
    !value
}

/// Receive packet steering: the wish and what was set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rps {
    /// `auto`, `off`, or a CPU list, as configured.
    pub wished: String,
    /// CPUs set on the host's end; none if it was left alone.
    pub set_host: Option<CpuSet>,
    /// CPUs set on the container's end; none if it was left alone.
    pub set_container: Option<CpuSet>,
    /// Flow table entries set for each receive queue of an end that was not left alone; 0
    /// for none.
    #[serde(default)]
    pub flow_entries: u32,
}

/// The ADD's own request, with which a delegate's DEL can be run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SavedRequest {
    /// The network configuration as it came on stdin.
    pub config: serde_json::Value,
    /// `CNI_ARGS`.
    pub args: String,
    /// `CNI_PATH`.
    pub path: String,
}

/// One attachment, remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Whose it is; also its file's name.
    pub key: Key,
    /// How far its ADD came.
    pub phase: Phase,
    /// The boot it was made in ([`crate::boot::boot_id`]).
    pub boot_id: String,
    /// The process that made it.
    pub writer: Writer,
    /// The container's namespace.
    pub netns: NetnsRef,
    /// The host's side and its kind.
    #[serde(flatten)]
    pub host: Host,
    /// The container's side.
    pub container: ContainerSide,
    /// Receive packet steering, if it was wished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rps: Option<Rps>,
    /// The container's cgroup, if the runtime gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_path: Option<PathBuf>,
    /// The request.
    pub request: SavedRequest,
}

impl Record {
    /// Whether the ADD that wrote this still runs.
    ///
    /// # Errors
    /// The writer's state cannot be read.
    pub fn is_being_added(&self, root: &Root) -> berth_kernel::Result<bool> {
        Ok(self.phase == Phase::Prepared && self.writer.is_alive(root)?)
    }
}

#[cfg(test)]
mod tests;
