//! Bridges and their ports (`IFLA_BR_*` and `IFLA_BRPORT_*` of
//! include/uapi/linux/if_link.h).

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    BridgeStpState, InfoBridgePort, InfoKind, LinkAttribute, LinkMessage,
};
use nix::errno::Errno;
use rtnetlink::{LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec};

use super::attr::Attrs;
use super::link;
use super::socket::{NLM_F_CREATE, NLM_F_EXCL, Net, Object};
use crate::names::{IfName, MacAddr};
use crate::{Error, Kind, Result};

const IFLA_BR_STP_STATE: u16 = 5;
const IFLA_BR_VLAN_FILTERING: u16 = 7;
const IFLA_BR_VLAN_PROTOCOL: u16 = 8;
const IFLA_BR_NF_CALL_IPTABLES: u16 = 36;
const IFLA_BR_NF_CALL_IP6TABLES: u16 = 37;
const IFLA_BR_NF_CALL_ARPTABLES: u16 = 38;
const IFLA_BR_VLAN_DEFAULT_PVID: u16 = 39;

const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_GUARD: u16 = 5;
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;
const IFLA_BRPORT_MCAST_FLOOD: u16 = 27;
const IFLA_BRPORT_BCAST_FLOOD: u16 = 30;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_BRPORT_LOCKED: u16 = 39;

/// Settings of a bridge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bridge {
    /// Whether VLANs are kept apart.
    pub vlan_filtering: bool,
    /// Whether the kernel can do that at all (CONFIG_BRIDGE_VLAN_FILTERING).
    pub vlan_capable: bool,
    /// EtherType of the tags it looks at: 0x8100, or 0x88a8 for provider bridges.
    pub vlan_protocol: Option<u16>,
    /// The VLAN every new port is put into, untagged; 0 for none.
    pub default_pvid: u16,
    /// Whether the spanning tree protocol runs, in the kernel or in user space.
    pub stp: bool,
    /// Whether this bridge hands IPv4 frames to iptables, whatever the sysctl says.
    pub nf_call_iptables: bool,
    /// The same for IPv6.
    pub nf_call_ip6tables: bool,
    /// The same for ARP.
    pub nf_call_arptables: bool,
}

/// Settings of a bridge port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Port {
    /// Spanning tree state: 0 disabled, 1 listening, 2 learning, 3 forwarding,
    /// 4 blocking.
    pub state: u8,
    /// Whether a frame may leave by the port it came from.
    pub hairpin: bool,
    /// Whether BPDUs from this port shut it (`guard`).
    pub guard: bool,
    /// Whether source addresses are learned.
    pub learning: bool,
    /// Whether frames for unknown addresses go out here.
    pub flood: bool,
    /// Whether multicast without a known receiver goes out here.
    pub mcast_flood: bool,
    /// Whether broadcast goes out here.
    pub bcast_flood: bool,
    /// Whether it may talk to ports that are not isolated only.
    pub isolated: bool,
    /// Whether frames from addresses without an FDB entry here are dropped; `None`
    /// where the kernel has no such thing (before 5.18).
    pub locked: Option<bool>,
}

/// A bridge to be created.
#[derive(Debug, Clone, Copy)]
pub struct NewBridge<'a> {
    /// Name.
    pub name: &'a IfName,
    /// Address. Set at creation, it stays; else it would follow the ports.
    pub mac: MacAddr,
    /// MTU in bytes; `None` follows the smallest port.
    pub mtu: Option<u32>,
    /// Whether to keep VLANs apart, with no VLAN for new ports (`default_pvid` 0).
    /// A kernel that cannot answers EOPNOTSUPP and creates nothing.
    pub vlan_filtering: bool,
}

/// Port settings to change; what is `None` stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortOptions {
    /// See [`Port::hairpin`].
    pub hairpin: Option<bool>,
    /// See [`Port::guard`].
    pub guard: Option<bool>,
    /// See [`Port::learning`].
    pub learning: Option<bool>,
    /// See [`Port::flood`].
    pub flood: Option<bool>,
    /// See [`Port::mcast_flood`].
    pub mcast_flood: Option<bool>,
    /// See [`Port::bcast_flood`].
    pub bcast_flood: Option<bool>,
    /// See [`Port::isolated`].
    pub isolated: Option<bool>,
    /// See [`Port::locked`].
    pub locked: Option<bool>,
}

/// What a port is told once, after it was made.
#[derive(Debug, Clone, Copy)]
pub struct Mark<'a> {
    /// Its alias.
    pub alias: &'a str,
    /// Its settings.
    pub options: PortOptions,
}

impl Net {
    /// Creates a bridge, down, spanning tree off. EEXIST if the name is taken,
    /// EOPNOTSUPP if VLAN filtering is wished and the kernel lacks it.
    pub fn create_bridge(&self, bridge: &NewBridge<'_>) -> Result<()> {
        let message = RouteNetlinkMessage::NewLink(new_bridge(bridge));
        let op = if bridge.vlan_filtering {
            "create VLAN-filtering bridge"
        } else {
            "create bridge"
        };
        let name = Object::Name(bridge.name);
        self.act(op, name, message, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Switches VLAN filtering of a bridge. EOPNOTSUPP if the kernel lacks it.
    pub fn set_vlan_filtering(&self, bridge: u32, on: bool) -> Result<()> {
        let op = format!("set vlan_filtering {} on", u8::from(on));
        self.set_bridge(bridge, op, edit(bridge).vlan_filtering(on))
    }

    /// Sets the VLAN a bridge puts new ports into, and moves those ports that still
    /// have the old one; 0 for none. EOPNOTSUPP if the kernel lacks VLAN filtering.
    pub fn set_default_pvid(&self, bridge: u32, pvid: u16) -> Result<()> {
        let op = format!("set vlan_default_pvid {pvid} on");
        // A kernel without VLAN filtering acknowledges this and does nothing.
        let link = self.link_at(bridge)?;
        if link.bridge.is_some_and(|bridge| !bridge.vlan_capable) {
            let reason = "the kernel is built without CONFIG_BRIDGE_VLAN_FILTERING";
            return Err(
                Error::errno(op, link.name, Errno::EOPNOTSUPP).because(Some(reason.to_owned()))
            );
        }
        self.set_bridge(bridge, op, edit(bridge).vlan_default_pvid(pvid))
    }

    /// Changes settings of a bridge port, all in one message.
    pub fn set_port(&self, port: u32, options: &PortOptions) -> Result<()> {
        let message = RouteNetlinkMessage::NewLink(port_options(port, options));
        let op = format!("set port options ({options}) on");
        self.act(op, Object::Index(port), message, 0)
    }

    /// Gives a bridge port its alias and its settings and keeps IPv6 silent on it, as
    /// [`Net::hush`] does, all in one message. After an error a part of that may be done.
    pub fn mark_port(&self, port: u32, mark: &Mark<'_>) -> Result<()> {
        let act = |silent| {
            let mut message = mark.message(port);
            message.attributes.extend(silent);
            let message = RouteNetlinkMessage::NewLink(message);
            self.act(mark.to_string(), Object::Index(port), message, 0)
        };
        match act(Some(link::silent())) {
            // A kernel without IPv6 knows no word for it.
            Err(error) if error.kind() == Kind::Unsupported => act(None),
            done => done,
        }
    }

    /// Forgets the addresses learned on a bridge port; static entries stay.
    pub fn flush_learned(&self, port: u32) -> Result<()> {
        let message = LinkBridgePort::new(port).fdb_flush().build();
        let message = RouteNetlinkMessage::NewLink(message);
        self.act(
            "forget addresses learned on",
            Object::Index(port),
            message,
            0,
        )
    }

    // These are RTM_NEWLINK without NLM_F_CREATE: RTM_SETLINK passes IFLA_LINKINFO over.
    fn set_bridge(
        &self,
        bridge: u32,
        op: String,
        message: LinkMessageBuilder<LinkBridge>,
    ) -> Result<()> {
        let message = RouteNetlinkMessage::NewLink(message.build());
        self.act(op, Object::Index(bridge), message, 0)
    }
}

fn edit(bridge: u32) -> LinkMessageBuilder<LinkBridge> {
    LinkMessageBuilder::<LinkBridge>::new_with_info_kind(InfoKind::Bridge).index(bridge)
}

fn new_bridge(bridge: &NewBridge<'_>) -> LinkMessage {
    let mut message = LinkBridge::new(bridge.name.as_str())
        .address(bridge.mac.0.to_vec())
        .stp_state(BridgeStpState::Disabled);
    if let Some(mtu) = bridge.mtu {
        message = message.mtu(mtu);
    }
    // A kernel without VLAN filtering refuses these attributes whatever they say.
    if bridge.vlan_filtering {
        message = message.vlan_filtering(true).vlan_default_pvid(0);
    }
    message.build()
}

fn port_options(port: u32, options: &PortOptions) -> LinkMessage {
    let wishes = options.wishes();
    let message = wishes.fold(LinkBridgePort::new(port), |message, (_, on, attribute)| {
        message.append_info_data(attribute(on))
    });
    message.build()
}

impl Mark<'_> {
    /// The settings are left out with their wishes: a port without any is no bridge port
    /// as far as the kernel reads this.
    fn message(&self, port: u32) -> LinkMessage {
        let mut message = if self.options.wishes().next().is_none() {
            LinkUnspec::new_with_index(port).build()
        } else {
            port_options(port, &self.options)
        };
        let alias = LinkAttribute::IfAlias(self.alias.to_owned());
        message.attributes.push(alias);
        message
    }
}

impl std::fmt::Display for Mark<'_> {
    /// What is done, as a verb phrase.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("set alias")?;
        if self.options.wishes().next().is_some() {
            write!(f, ", port options ({})", self.options)?;
        }
        f.write_str(" and silence of")
    }
}

type PortAttribute = fn(bool) -> InfoBridgePort;

impl PortOptions {
    /// What is to be changed: its name, its value and the attribute that says so.
    fn wishes(&self) -> impl Iterator<Item = (&'static str, bool, PortAttribute)> {
        let all: [(&str, Option<bool>, PortAttribute); 8] = [
            ("hairpin", self.hairpin, InfoBridgePort::HairpinMode),
            ("guard", self.guard, InfoBridgePort::Guard),
            ("learning", self.learning, InfoBridgePort::Learning),
            ("flood", self.flood, InfoBridgePort::UnicastFlood),
            (
                "mcast_flood",
                self.mcast_flood,
                InfoBridgePort::MulticastFlood,
            ),
            (
                "bcast_flood",
                self.bcast_flood,
                InfoBridgePort::BroadcastFlood,
            ),
            ("isolated", self.isolated, InfoBridgePort::Isolated),
            ("locked", self.locked, InfoBridgePort::Locked),
        ];
        all.into_iter()
            .filter_map(|(name, wish, attribute)| Some((name, wish?, attribute)))
    }
}

impl std::fmt::Display for PortOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (name, on, _)) in self.wishes().enumerate() {
            let gap = if i == 0 { "" } else { ", " };
            write!(f, "{gap}{name} {}", if on { "on" } else { "off" })?;
        }
        Ok(())
    }
}

impl Bridge {
    /// Reads IFLA_INFO_DATA of a bridge.
    pub(super) fn decode(attrs: Attrs<'_>) -> Self {
        let mut bridge = Self::default();
        for attr in attrs {
            let on = attr.bool().unwrap_or_default();
            match attr.kind {
                IFLA_BR_STP_STATE => bridge.stp = attr.u32().unwrap_or_default() != 0,
                IFLA_BR_VLAN_FILTERING => bridge.vlan_filtering = on,
                IFLA_BR_VLAN_PROTOCOL => bridge.vlan_protocol = attr.u16_be(),
                IFLA_BR_NF_CALL_IPTABLES => bridge.nf_call_iptables = on,
                IFLA_BR_NF_CALL_IP6TABLES => bridge.nf_call_ip6tables = on,
                IFLA_BR_NF_CALL_ARPTABLES => bridge.nf_call_arptables = on,
                // vlan_filtering is always reported, this one only where it works.
                IFLA_BR_VLAN_DEFAULT_PVID => {
                    bridge.default_pvid = attr.u16().unwrap_or_default();
                    bridge.vlan_capable = true;
                }
                _ => {}
            }
        }
        bridge
    }
}

impl Port {
    /// Reads IFLA_INFO_SLAVE_DATA of a bridge port.
    pub(super) fn decode(attrs: Attrs<'_>) -> Self {
        let mut port = Self::default();
        for attr in attrs {
            let on = attr.bool().unwrap_or_default();
            match attr.kind {
                IFLA_BRPORT_STATE => port.state = attr.u8().unwrap_or_default(),
                IFLA_BRPORT_MODE => port.hairpin = on,
                IFLA_BRPORT_GUARD => port.guard = on,
                IFLA_BRPORT_LEARNING => port.learning = on,
                IFLA_BRPORT_UNICAST_FLOOD => port.flood = on,
                IFLA_BRPORT_MCAST_FLOOD => port.mcast_flood = on,
                IFLA_BRPORT_BCAST_FLOOD => port.bcast_flood = on,
                IFLA_BRPORT_ISOLATED => port.isolated = on,
                IFLA_BRPORT_LOCKED => port.locked = Some(on),
                _ => {}
            }
        }
        port
    }
}

#[cfg(test)]
mod tests;
