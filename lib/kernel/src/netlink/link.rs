//! Network interfaces, looked up by name, index or the device behind them
//! (rtnetlink(7), RTM_GETLINK).

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkExtentMask, LinkHeader, LinkInfo, LinkMessage,
};

use super::attr::{Attr, Attrs, u32_at};
use super::bridge::{Bridge, Port};
use super::socket::{Net, Object};
use crate::names::{AltName, IfName, Invalid, MacAddr, PciAddr};
use crate::{Error, Result};

mod change;
mod tuning;

pub(super) use change::silent;
pub use tuning::{Tune, Tuning};

/// Length of `struct ifinfomsg`.
pub(super) const IFINFO: usize = 16;
/// include/uapi/linux/if.h; the carrier is there.
const IFF_LOWER_UP: libc::c_int = 1 << 16;
/// The bus whose device names are PCI addresses.
const PCI_BUS: &str = "pci";
/// include/uapi/linux/if_link.h, inside IFLA_INFO_DATA of a `vlan`.
const IFLA_VLAN_ID: u16 = 1;

/// A network interface as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Index in its namespace.
    pub index: u32,
    /// Name. A name that is not UTF-8, which whoever may rename a link can give it,
    /// is shown as `?` and the index, a name no link has: it is to be met by index.
    pub name: IfName,
    /// Its other names (IFLA_ALT_IFNAME), in the kernel's order.
    pub altnames: Vec<AltName>,
    /// Ethernet address, if the link layer has any.
    pub mac: Option<MacAddr>,
    /// The address the device came with, for a VF when its driver was bound
    /// (IFLA_PERM_ADDRESS). `None`: the driver does not tell, or made one up.
    pub permanent_mac: Option<MacAddr>,
    /// MTU in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Whether it is set up (IFF_UP).
    pub up: bool,
    /// Whether it can carry frames: carrier present (IFF_LOWER_UP) and operational
    /// state up or unknown (IFF_RUNNING).
    pub running: bool,
    /// Whether there is a carrier (IFF_LOWER_UP); only known while it is up.
    pub carrier: bool,
    /// Whether someone asked for promiscuous mode. Being a bridge port does not
    /// count, though the kernel listens promiscuously then, too.
    pub promisc: bool,
    /// Whether someone asked for all multicast frames (IFF_ALLMULTI).
    pub allmulti: bool,
    /// How many packets its queueing discipline may hold back (IFLA_TXQLEN).
    pub tx_queue_len: u32,
    /// The group it is in, 0 by default (IFLA_GROUP, ip-link(8)).
    pub group: u32,
    /// Name of the device behind it on that device's bus, `0000:01:10.2`, seen from
    /// every namespace (IFLA_PARENT_DEV_NAME, Linux 5.14). `None`: no hardware.
    pub parent: Option<String>,
    /// That bus, `pci` (IFLA_PARENT_DEV_BUS_NAME).
    pub parent_bus: Option<String>,
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

impl Link {
    /// The PCI function behind it, if it is one.
    pub fn pci(&self) -> Option<PciAddr> {
        let on_pci = self.parent_bus.as_deref() == Some(PCI_BUS);
        self.parent.as_ref().filter(|_| on_pci)?.parse().ok()
    }
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

    /// Whether the bridge, bond or other master with this index has a port that is
    /// `wished`. No more ports are read than it takes to know, and with them the connection
    /// ends: open one for this.
    pub fn any_port(self, master: u32, wished: impl Fn(&Link) -> bool) -> Result<bool> {
        let request = list_links(vec![LinkAttribute::Controller(master)]);
        self.search("list", Object::Text("links"), request, |body| {
            readable(body).is_some_and(|link| link.master == Some(master) && wished(&link))
        })
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

    /// The links of the PCI function at `address` that are in this namespace: one for
    /// most functions, none while its link is elsewhere or it has no driver.
    pub fn links_of_pci(&self, address: PciAddr) -> Result<Vec<Link>> {
        let mut links = self.links()?;
        links.retain(|link| link.pci() == Some(address));
        Ok(links)
    }

    fn dump_links(&self, filter: Vec<LinkAttribute>) -> Result<Vec<Link>> {
        let bodies = self.dump("list", Object::Text("links"), list_links(filter))?;
        Ok(bodies.iter().filter_map(|body| readable(body)).collect())
    }
}

fn list_links(filter: Vec<LinkAttribute>) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = filter;
    message.attributes.push(no_statistics());
    RouteNetlinkMessage::GetLink(message)
}

/// A link of a list. One that cannot be read must not hide the others.
fn readable(body: &[u8]) -> Option<Link> {
    decode(body)
        .inspect_err(|error| log::warn!("{error}; passing over this link"))
        .ok()
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

/// Reads the body of an RTM_NEWLINK or RTM_DELLINK.
pub(super) fn decode(body: &[u8]) -> Result<Link> {
    let malformed = |what: &str| Error::malformed("read", "a link's description", what);
    let number = |at| u32_at(body, at).ok_or_else(|| malformed("it is cut short"));
    let (index, flags) = (number(4)?, number(8)?.cast_signed());
    let name = Attrs::after(body, IFINFO).find(|attr| attr.kind == libc::IFLA_IFNAME);
    let name = name.ok_or_else(|| malformed("it has no name"))?;
    let mut link = blank(index, flags, speakable(index, name)?);
    for attr in Attrs::after(body, IFINFO) {
        match attr.kind {
            libc::IFLA_ADDRESS => link.mac = attr.mac(),
            libc::IFLA_MTU => link.mtu = attr.u32().unwrap_or_default(),
            libc::IFLA_MASTER => link.master = attr.u32(),
            libc::IFLA_LINK => link.peer = attr.u32().filter(|index| *index != 0),
            libc::IFLA_LINK_NETNSID => link.peer_netns = attr.u32(),
            libc::IFLA_IFALIAS => link.alias = Some(attr.text()).filter(|a| !a.is_empty()),
            libc::IFLA_LINKINFO => decode_info(attr, &mut link),
            _ => decode_device(attr, &mut link),
        }
    }
    Ok(link)
}

/// The name, or what stands for it if it cannot be said.
fn speakable(index: u32, name: Attr<'_>) -> Result<IfName> {
    let said = str::from_utf8(name.bytes())
        .ok()
        .and_then(|n| n.parse().ok());
    said.map_or_else(|| format!("?{index}").parse(), Ok)
        .map_err(|e: Invalid| Error::malformed("read", format!("the name of link {index}"), e.0))
}

/// A link of which no attribute is known yet.
fn blank(index: u32, flags: libc::c_int, name: IfName) -> Link {
    let has = |flag| flags & flag == flag;
    Link {
        index,
        name,
        altnames: Vec::new(),
        mac: None,
        permanent_mac: None,
        mtu: 0,
        up: has(libc::IFF_UP),
        running: has(libc::IFF_RUNNING | IFF_LOWER_UP),
        carrier: has(IFF_LOWER_UP),
        promisc: has(libc::IFF_PROMISC),
        allmulti: has(libc::IFF_ALLMULTI),
        tx_queue_len: 0,
        group: 0,
        parent: None,
        parent_bus: None,
        master: None,
        peer: None,
        peer_netns: None,
        kind: None,
        slave_kind: None,
        alias: None,
        bridge: None,
        port: None,
        vlan: None,
    }
}

/// Reads an attribute that says what device is behind the link and how it is kept.
fn decode_device(attr: Attr<'_>, link: &mut Link) {
    match attr.kind {
        libc::IFLA_PERM_ADDRESS => link.permanent_mac = attr.mac(),
        libc::IFLA_TXQLEN => link.tx_queue_len = attr.u32().unwrap_or_default(),
        libc::IFLA_GROUP => link.group = attr.u32().unwrap_or_default(),
        libc::IFLA_PARENT_DEV_NAME => link.parent = Some(attr.text()),
        libc::IFLA_PARENT_DEV_BUS_NAME => link.parent_bus = Some(attr.text()),
        libc::IFLA_PROP_LIST => {
            let names = attr.nested().filter(|p| p.kind == libc::IFLA_ALT_IFNAME);
            link.altnames = names.filter_map(|p| AltName::of(p.bytes()).ok()).collect();
        }
        _ => {}
    }
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
