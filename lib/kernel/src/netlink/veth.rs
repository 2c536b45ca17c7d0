//! A veth pair between two namespaces, made by one message.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::socket::{NLM_F_CREATE, NLM_F_EXCL, Net, Object};
use crate::Result;
use crate::names::{IfName, MacAddr};
use crate::netns::NetNs;

/// A veth pair to be created: one end here, its peer in another namespace.
#[derive(Debug, Clone, Copy)]
pub struct Veth<'a> {
    /// Name of the end in this namespace.
    pub host: &'a IfName,
    /// Its address; `None` for one of the kernel's making.
    pub host_mac: Option<MacAddr>,
    /// Index of the bridge it becomes a port of.
    pub master: Option<u32>,
    /// MTU in bytes of both ends; `None` for 1500.
    pub mtu: Option<u32>,
    /// Group of the end in this namespace; `None` for the default one.
    pub group: Option<u32>,
    /// Whether the host end is set up. The peer stays down: the kernel refuses to set
    /// it up before the pair is complete (ENOTCONN).
    pub up: bool,
    /// Name of the peer.
    pub peer: &'a IfName,
    /// Its address; `None` for one of the kernel's making.
    pub peer_mac: Option<MacAddr>,
    /// Where the peer is made. Nothing has to be moved there later, which would hold
    /// the rtnl lock some 16 ms.
    pub peer_ns: &'a NetNs,
}

impl Net {
    /// Creates a veth pair. EEXIST if either name is taken in its namespace, EXFULL if
    /// the bridge has all the ports it can have (1023).
    ///
    /// Alias and VLANs are not taken from the creating message; they need their own.
    pub fn create_veth(&self, veth: &Veth<'_>) -> Result<()> {
        let message = RouteNetlinkMessage::NewLink(new_veth(veth));
        let op = format!(
            "create veth with peer {} in {} as",
            veth.peer,
            veth.peer_ns.path().display()
        );
        self.act(
            op,
            Object::Name(veth.host),
            message,
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }
}

fn new_veth(veth: &Veth<'_>) -> LinkMessage {
    let peer = end(
        LinkMessageBuilder::<LinkUnspec>::default(),
        veth.peer,
        veth.peer_mac,
        veth.mtu,
    )
    .setns_by_fd(veth.peer_ns.as_fd().as_raw_fd())
    .build();
    let mut host = end(
        LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth),
        veth.host,
        veth.host_mac,
        veth.mtu,
    )
    .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
    if let Some(master) = veth.master {
        host = host.controller(master);
    }
    if let Some(group) = veth.group {
        host = host.link_group(group);
    }
    if veth.up {
        host = host.up();
    }
    host.build()
}

/// What both ends have in common. One queue each way is what a veth uses anyway;
/// to say so saves two grace periods and per-CPU queues.
fn end<T>(
    message: LinkMessageBuilder<T>,
    name: &IfName,
    mac: Option<MacAddr>,
    mtu: Option<u32>,
) -> LinkMessageBuilder<T> {
    let mut message = message
        .name(name.as_str())
        .append_extra_attribute(LinkAttribute::NumTxQueues(1))
        .append_extra_attribute(LinkAttribute::NumRxQueues(1));
    if let Some(mac) = mac {
        message = message.address(mac.0.to_vec());
    }
    if let Some(mtu) = mtu {
        message = message.mtu(mtu);
    }
    message
}

#[cfg(test)]
mod tests;
