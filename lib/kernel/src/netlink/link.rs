//! Network interfaces: looked up by name or index, and changed one property at a
//! time (rtnetlink(7), RTM_*LINK).

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkExtentMask, LinkHeader, LinkInfo, LinkMessage,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::attr::{Attr, Attrs, u32_at};
use super::bridge::{Bridge, Port};
use super::socket::{Net, Object};
use crate::names::{IfName, Invalid, MacAddr};
use crate::netns::NetNs;
use crate::{Error, Result};

/// Length of `struct ifinfomsg`.
const IFINFO: usize = 16;
/// include/uapi/linux/if.h; the carrier is there.
const IFF_LOWER_UP: libc::c_int = 1 << 16;
/// include/uapi/linux/if_link.h, inside IFLA_INFO_DATA of a `vlan`.
const IFLA_VLAN_ID: u16 = 1;

/// A network interface as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Index in its namespace.
    pub index: u32,
    /// Name.
    pub name: IfName,
    /// Ethernet address, if the link layer has any.
    pub mac: Option<MacAddr>,
    /// MTU in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Whether it is set up (IFF_UP).
    pub up: bool,
    /// Whether it can carry frames: carrier present (IFF_LOWER_UP) and operational
    /// state up or unknown (IFF_RUNNING).
    pub running: bool,
    /// Whether someone asked for promiscuous mode. Being a bridge port does not
    /// count, though the kernel listens promiscuously then, too.
    pub promisc: bool,
    /// Index of the bridge, bond or other device it is a port of.
    pub master: Option<u32>,
    /// Index of the other end of a veth or of the device below (IFLA_LINK).
    pub peer: Option<u32>,
    /// The kernel's local number of the namespace `peer` counts in, when it is
    /// another one (IFLA_LINK_NETNSID).
    pub peer_netns: Option<u32>,
    /// Device type: `veth`, `bridge`, `vlan`; `None` for hardware.
    pub kind: Option<String>,
    /// Type of the device it is a port of.
    pub slave_kind: Option<String>,
    /// Free text, 255 bytes at most.
    pub alias: Option<String>,
    /// Settings, if it is a bridge.
    pub bridge: Option<Bridge>,
    /// Settings, if it is a bridge port.
    pub port: Option<Port>,
    /// VLAN id, if it is an 802.1Q or 802.1ad device.
    pub vlan: Option<u16>,
}

impl Net {
    /// The link called `name`; ENODEV if there is none.
    pub fn link(&self, name: &IfName) -> Result<Link> {
        let found = self.find_link(name)?;
        found.ok_or_else(|| absent(Object::Name(name)))
    }

    /// The link called `name`, by its name or an alternative one.
    pub fn find_link(&self, name: &IfName) -> Result<Option<Link>> {
        let request = get(0, Some(name));
        decode_found(self.find(Object::Name(name), request)?)
    }

    /// The link with this index; ENODEV if there is none.
    pub fn link_at(&self, index: u32) -> Result<Link> {
        let found = self.find_link_at(index)?;
        found.ok_or_else(|| absent(Object::Index(index)))
    }

    /// The link with this index.
    pub fn find_link_at(&self, index: u32) -> Result<Option<Link>> {
        let request = get(index, None);
        decode_found(self.find(Object::Index(index), request)?)
    }

    /// All links of the namespace.
    pub fn links(&self) -> Result<Vec<Link>> {
        self.dump_links(Vec::new())
    }

    /// The ports of the bridge, bond or other master with this index.
    pub fn ports_of(&self, master: u32) -> Result<Vec<Link>> {
        let mut links = self.dump_links(vec![LinkAttribute::Controller(master)])?;
        links.retain(|link| link.master == Some(master));
        Ok(links)
    }

    /// The 802.1Q and 802.1ad devices stacked on the link with this index, as far as
    /// they are in the same namespace.
    pub fn uppers_of(&self, lower: u32) -> Result<Vec<Link>> {
        let vlans = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vlan)]);
        let mut links = self.dump_links(vec![vlans])?;
        // A kernel without 8021q cannot filter by it and returns every link.
        links.retain(|link| {
            link.vlan.is_some() && link.peer == Some(lower) && link.peer_netns.is_none()
        });
        Ok(links)
    }

    fn dump_links(&self, filter: Vec<LinkAttribute>) -> Result<Vec<Link>> {
        let mut message = LinkMessage::default();
        message.attributes = filter;
        message.attributes.push(no_statistics());
        let request = RouteNetlinkMessage::GetLink(message);
        let bodies = self.dump("list", Object::Text("links"), request)?;
        let mut links = Vec::with_capacity(bodies.len());
        for body in &bodies {
            match decode(body) {
                Ok(link) => links.push(link),
                // Names need not be UTF-8. Such a link cannot be meant by anyone
                // here, and must not hide the others.
                Err(error) => log::warn!("{error}; passing over this link"),
            }
        }
        Ok(links)
    }

    /// Sets the link up. Repeating it is no error.
    pub fn set_up(&self, index: u32) -> Result<()> {
        self.set(index, "set up", edit(index).up())
    }

    /// Sets the link down. Repeating it is no error.
    pub fn set_down(&self, index: u32) -> Result<()> {
        self.set(index, "set down", edit(index).down())
    }

    /// Sets the MTU in bytes.
    pub fn set_mtu(&self, index: u32, mtu: u32) -> Result<()> {
        self.set(index, format!("set MTU {mtu} of"), edit(index).mtu(mtu))
    }

    /// Sets the Ethernet address. Some drivers want the link down for it.
    pub fn set_mac(&self, index: u32, mac: MacAddr) -> Result<()> {
        let message = edit(index).address(mac.0.to_vec());
        self.set(index, format!("set MAC {mac} of"), message)
    }

    /// Sets the alias, 255 bytes at most; an empty one removes it.
    pub fn set_alias(&self, index: u32, alias: &str) -> Result<()> {
        self.set(index, "set alias of", edit(index).alias(alias))
    }

    /// Makes the link a port of `master`, or of nothing. A port of another master is
    /// moved without complaint: check first.
    pub fn set_master(&self, index: u32, master: Option<u32>) -> Result<()> {
        match master {
            Some(master) => {
                let op = format!("set master {master} of");
                self.set(index, op, edit(index).controller(master))
            }
            None => self.set(index, "remove master of", edit(index).nocontroller()),
        }
    }

    /// Switches promiscuous mode.
    pub fn set_promisc(&self, index: u32, on: bool) -> Result<()> {
        let op = format!("set promiscuous mode {} on", if on { "on" } else { "off" });
        self.set(index, op, edit(index).promiscuous(on))
    }

    /// Renames the link; EEXIST if the name is taken. Kernels before 6.2 want the
    /// link down for it.
    pub fn rename(&self, index: u32, name: &IfName) -> Result<()> {
        let message = edit(index).name(name.as_str());
        self.set(index, format!("set name {name} of"), message)
    }

    /// Deletes the link, and its peer if it is a veth; ENODEV if it does not exist,
    /// EOPNOTSUPP if it is hardware.
    pub fn delete_link(&self, index: u32) -> Result<()> {
        let message = RouteNetlinkMessage::DelLink(edit(index).build());
        self.act("delete", Object::Index(index), message, 0)
    }

    /// Moves the link into namespace `ns`, renaming it on the way. This is not
    /// atomic: on an error it may have moved without its new name. It keeps its index
    /// unless that is taken there. A physical link returns when the namespace ends.
    pub fn move_to(&self, index: u32, ns: &NetNs, name: Option<&IfName>) -> Result<()> {
        let mut message = edit(index).setns_by_fd(ns.as_fd().as_raw_fd());
        if let Some(name) = name {
            message = message.name(name.as_str());
        }
        let op = format!("set namespace {} of", ns.path().display());
        self.set(index, op, message)
    }

    fn set(
        &self,
        index: u32,
        op: impl Into<String>,
        message: LinkMessageBuilder<LinkUnspec>,
    ) -> Result<()> {
        let message = RouteNetlinkMessage::SetLink(message.build());
        self.act(op, Object::Index(index), message, 0)
    }
}

fn edit(index: u32) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_index(index)
}

fn absent(object: Object<'_>) -> Error {
    Error::errno("look up", object, nix::errno::Errno::ENODEV)
}

/// Statistics make up most of a link's description and nobody here reads them.
fn no_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

fn get(index: u32, name: Option<&IfName>) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header = LinkHeader {
        index,
        ..LinkHeader::default()
    };
    let name = name.map(|name| LinkAttribute::IfName(name.to_string()));
    message.attributes.extend(name);
    message.attributes.push(no_statistics());
    RouteNetlinkMessage::GetLink(message)
}

fn decode_found(body: Option<Vec<u8>>) -> Result<Option<Link>> {
    body.map(|body| decode(&body)).transpose()
}

/// Reads an RTM_NEWLINK body.
fn decode(body: &[u8]) -> Result<Link> {
    let malformed = |what: &str| Error::malformed("read", "a link's description", what);
    let number = |at| u32_at(body, at).ok_or_else(|| malformed("it is cut short"));
    let (index, flags) = (number(4)?, number(8)?.cast_signed());
    let has = |flag| flags & flag == flag;
    let name = Attrs::after(body, IFINFO).find(|attr| attr.kind == libc::IFLA_IFNAME);
    let name = name.ok_or_else(|| malformed("it has no name"))?.text();
    let mut link = Link {
        index,
        name: name.parse().map_err(|e: Invalid| malformed(&e.0))?,
        mac: None,
        mtu: 0,
        up: has(libc::IFF_UP),
        running: has(libc::IFF_RUNNING | IFF_LOWER_UP),
        promisc: has(libc::IFF_PROMISC),
        master: None,
        peer: None,
        peer_netns: None,
        kind: None,
        slave_kind: None,
        alias: None,
        bridge: None,
        port: None,
        vlan: None,
    };
    for attr in Attrs::after(body, IFINFO) {
        match attr.kind {
            libc::IFLA_ADDRESS => link.mac = attr.mac(),
            libc::IFLA_MTU => link.mtu = attr.u32().unwrap_or_default(),
            libc::IFLA_MASTER => link.master = attr.u32(),
            libc::IFLA_LINK => link.peer = attr.u32().filter(|index| *index != 0),
            libc::IFLA_LINK_NETNSID => link.peer_netns = attr.u32(),
            libc::IFLA_IFALIAS => link.alias = Some(attr.text()).filter(|a| !a.is_empty()),
            libc::IFLA_LINKINFO => decode_info(attr, &mut link),
            _ => {}
        }
    }
    Ok(link)
}

/// Reads IFLA_LINKINFO: the kinds first, for they say how to read the data.
fn decode_info(info: Attr<'_>, link: &mut Link) {
    for attr in info.nested() {
        match attr.kind {
            libc::IFLA_INFO_KIND => link.kind = Some(attr.text()),
            libc::IFLA_INFO_SLAVE_KIND => link.slave_kind = Some(attr.text()),
            _ => {}
        }
    }
    for attr in info.nested() {
        match (attr.kind, link.kind.as_deref(), link.slave_kind.as_deref()) {
            (libc::IFLA_INFO_DATA, Some("bridge"), _) => {
                link.bridge = Some(Bridge::decode(attr.nested()));
            }
            (libc::IFLA_INFO_DATA, Some("vlan"), _) => {
                let id = attr.nested().find(|attr| attr.kind == IFLA_VLAN_ID);
                link.vlan = id.and_then(Attr::u16);
            }
            (libc::IFLA_INFO_SLAVE_DATA, _, Some("bridge")) => {
                link.port = Some(Port::decode(attr.nested()));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
