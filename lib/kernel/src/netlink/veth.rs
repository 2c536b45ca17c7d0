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
mod tests {
    use super::super::attr::{Attr, Attrs, u32_at};
    use super::super::wire::Request;
    use super::*;

    const IFINFO: usize = 16;
    const VETH_INFO_PEER: u16 = 1;

    fn find(attrs: Attrs<'_>, kind: u16) -> Attr<'_> {
        let mut found = attrs.filter(|attr| attr.kind == kind);
        let first = found
            .next()
            .unwrap_or_else(|| panic!("no attribute {kind}"));
        assert!(found.next().is_none(), "attribute {kind} twice");
        first
    }

    #[test]
    fn one_message_says_everything_about_both_ends() {
        let here = NetNs::current().unwrap();
        let (host_mac, peer_mac) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        let message = new_veth(&Veth {
            host: &"bv0".parse().unwrap(),
            host_mac: Some(host_mac),
            master: Some(7),
            mtu: Some(9000),
            up: true,
            peer: &"eth0".parse().unwrap(),
            peer_mac: Some(peer_mac),
            peer_ns: &here,
        });
        let request = Request::from(RouteNetlinkMessage::NewLink(message));
        assert_eq!(request.kind, libc::RTM_NEWLINK);
        let host = Attrs::after(&request.body, IFINFO);
        assert_eq!(u32_at(&request.body, 8), Some(1), "IFF_UP");
        assert_eq!(find(host, libc::IFLA_IFNAME).text(), "bv0");
        assert_eq!(find(host, libc::IFLA_ADDRESS).mac(), Some(host_mac));
        assert_eq!(find(host, libc::IFLA_MASTER).u32(), Some(7));
        let info = find(host, libc::IFLA_LINKINFO).nested();
        assert_eq!(find(info, libc::IFLA_INFO_KIND).text(), "veth");
        let data = find(info, libc::IFLA_INFO_DATA).nested();
        let peer_body = find(data, VETH_INFO_PEER).value;
        assert_eq!(
            u32_at(peer_body, 8),
            Some(0),
            "the kernel refuses IFF_UP here"
        );
        let peer = Attrs::after(peer_body, IFINFO);
        assert_eq!(find(peer, libc::IFLA_IFNAME).text(), "eth0");
        assert_eq!(find(peer, libc::IFLA_ADDRESS).mac(), Some(peer_mac));
        let fd = here.as_fd().as_raw_fd().cast_unsigned();
        assert_eq!(find(peer, libc::IFLA_NET_NS_FD).u32(), Some(fd));
        for end in [host, peer] {
            assert_eq!(find(end, libc::IFLA_MTU).u32(), Some(9000));
            assert_eq!(find(end, libc::IFLA_NUM_TX_QUEUES).u32(), Some(1));
            assert_eq!(find(end, libc::IFLA_NUM_RX_QUEUES).u32(), Some(1));
        }
    }

    #[test]
    fn what_is_not_wished_is_not_sent() {
        let here = NetNs::current().unwrap();
        let message = new_veth(&Veth {
            host: &"bv0".parse().unwrap(),
            host_mac: None,
            master: None,
            mtu: None,
            up: false,
            peer: &"eth0".parse().unwrap(),
            peer_mac: None,
            peer_ns: &here,
        });
        let request = Request::from(RouteNetlinkMessage::NewLink(message));
        let kinds: Vec<_> = Attrs::after(&request.body, IFINFO)
            .map(|a| a.kind)
            .collect();
        let expected = [
            libc::IFLA_IFNAME,
            libc::IFLA_NUM_TX_QUEUES,
            libc::IFLA_NUM_RX_QUEUES,
            libc::IFLA_LINKINFO,
        ];
        assert_eq!(kinds, expected);
        assert_eq!(u32_at(&request.body, 8), Some(0));
    }
}
