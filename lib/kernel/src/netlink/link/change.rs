//! Changing a link, one property at a time (rtnetlink(7), RTM_SETLINK). The kernel
//! stops at the first attribute it refuses and keeps what it had done, so one message
//! with one wish is what has one outcome.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{DefaultNla, Emitable};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, Prop};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::super::socket::{NLM_F_CREATE, NLM_F_EXCL, Net, Object};
use crate::names::{AltName, IfName, MacAddr};
use crate::netns::NetNs;
use crate::{Kind, Result};

impl Net {
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

    /// Keeps the kernel from giving the link an IPv6 address of its own making, without
    /// which it sends nothing of IPv6 by itself. To be set before the link is up. Where the
    /// kernel has no IPv6 there is nothing to do.
    ///
    /// `disable_ipv6` in `/proc/sys` does the same, but its writer spins as long as others
    /// hold the rtnl lock: half a minute was seen.
    pub fn hush(&self, index: u32) -> Result<()> {
        let message = edit(index).append_extra_attribute(silent());
        match self.set(index, "keep IPv6 silent on", message) {
            Err(error) if error.kind() == Kind::Unsupported => Ok(()),
            other => other,
        }
    }

    /// As [`Net::hush`], and sets the link up in the same message. Only for a link without
    /// a carrier, as a veth is whose other end is down: the kernel sets it up first, and
    /// one with a carrier may have got its address by then.
    pub fn set_up_hushed(&self, index: u32) -> Result<()> {
        let message = edit(index).up().append_extra_attribute(silent());
        match self.set(index, "keep IPv6 silent on and set up", message) {
            Err(error) if error.kind() == Kind::Unsupported => self.set_up(index),
            other => other,
        }
    }

    /// Has the kernel tell the neighbours of the link's IPv4 addresses whenever the link is
    /// set up or its MAC address is set, be it the same (`arp_notify`,
    /// Documentation/networking/ip-sysctl.rst).
    pub fn set_arp_notify(&self, index: u32) -> Result<()> {
        let on = DefaultNla::new(IPV4_DEVCONF_ARP_NOTIFY, 1_u32.to_ne_bytes().to_vec());
        let family = of_family(&nest(AF_INET, &nest(IFLA_INET_CONF, &on)));
        let message = edit(index).append_extra_attribute(family);
        self.set(index, "set arp_notify of", message)
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

    /// Switches the reception of all multicast frames.
    pub fn set_allmulti(&self, index: u32, on: bool) -> Result<()> {
        let op = format!("set allmulticast mode {} on", if on { "on" } else { "off" });
        self.set(index, op, edit(index).allmulticast(on))
    }

    /// Sets how many packets the queueing discipline may hold back.
    pub fn set_tx_queue_len(&self, index: u32, packets: u32) -> Result<()> {
        let op = format!("set transmit queue length {packets} of");
        self.set(index, op, edit(index).txqueuelen(packets))
    }

    /// Puts the link into a group; 0 is the default one.
    pub fn set_group(&self, index: u32, group: u32) -> Result<()> {
        let message = edit(index).link_group(group);
        self.set(index, format!("set group {group} of"), message)
    }

    /// Gives the link one more name; EEXIST if any link of the namespace has it, this
    /// one included.
    pub fn add_altname(&self, index: u32, name: &AltName) -> Result<()> {
        let message = RouteNetlinkMessage::NewLinkProp(named(index, name));
        let op = format!("add alternative name {name} to");
        self.act(op, Object::Index(index), message, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Takes an alternative name away; ENOENT if no link of the namespace has it,
    /// EINVAL if it is another link's.
    pub fn del_altname(&self, index: u32, name: &AltName) -> Result<()> {
        let message = RouteNetlinkMessage::DelLinkProp(named(index, name));
        let op = format!("delete alternative name {name} of");
        self.act(op, Object::Index(index), message, 0)
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

    pub(in crate::netlink) fn set(
        &self,
        index: u32,
        op: impl Into<String>,
        message: LinkMessageBuilder<LinkUnspec>,
    ) -> Result<()> {
        let message = RouteNetlinkMessage::SetLink(message.build());
        self.act(op, Object::Index(index), message, 0)
    }
}

/// include/uapi/linux/{socket,if_link,ip}.h.
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_INET_CONF: u16 = 1;
const IPV4_DEVCONF_ARP_NOTIFY: u16 = 22;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;

/// Without an IPv6 address of the kernel's own making: see [`Net::hush`].
pub(in crate::netlink) fn silent() -> LinkAttribute {
    let mode = DefaultNla::new(IFLA_INET6_ADDR_GEN_MODE, vec![IN6_ADDR_GEN_MODE_NONE]);
    of_family(&nest(AF_INET6, &mode))
}

fn of_family(family: &DefaultNla) -> LinkAttribute {
    LinkAttribute::Other(nest(IFLA_AF_SPEC, family))
}

/// An attribute with one other in it.
fn nest(kind: u16, inner: &DefaultNla) -> DefaultNla {
    let mut bytes = vec![0; inner.buffer_len()];
    inner.emit(&mut bytes);
    DefaultNla::new(kind, bytes)
}

fn edit(index: u32) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_index(index)
}

/// A list of properties with one alternative name in it, as the kernel gave it: such
/// a name need not be UTF-8.
fn named(index: u32, name: &AltName) -> LinkMessage {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    let name = Prop::Other(DefaultNla::new(libc::IFLA_ALT_IFNAME, bytes));
    edit(index)
        .append_extra_attribute(LinkAttribute::PropList(vec![name]))
        .build()
}
