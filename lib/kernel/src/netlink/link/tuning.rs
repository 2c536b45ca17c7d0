//! What else of a link can be set, is rarely looked at, and goes along when it changes
//! its namespace (RTM_GETLINK, RTM_SETLINK).

use std::fmt;

use netlink_packet_core::DefaultNla;
use netlink_packet_route::link::LinkAttribute;
use rtnetlink::{LinkMessageBuilder, LinkUnspec};
use serde::{Deserialize, Serialize};

use super::super::attr::{Attr, Attrs, u32_at};
use super::super::socket::{Net, Object};
use super::{IFINFO, absent, get};
use crate::names::MacAddr;
use crate::{Error, Result};

// include/uapi/linux/if_link.h
const IFLA_BROADCAST: u16 = 2;
const IFLA_LINKMODE: u16 = 17;
const IFLA_GSO_MAX_SEGS: u16 = 40;
const IFLA_GSO_MAX_SIZE: u16 = 41;
const IFLA_XDP: u16 = 43;
const IFLA_GRO_MAX_SIZE: u16 = 58;
const IFLA_GSO_IPV4_MAX_SIZE: u16 = 63;
const IFLA_GRO_IPV4_MAX_SIZE: u16 = 64;
/// In IFLA_XDP.
const IFLA_XDP_ATTACHED: u16 = 2;

/// The seldom used settings of a link. `None`: the kernel does not have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tuning {
    /// Whether it uses ARP (no IFF_NOARP).
    pub arp: bool,
    /// Whether it takes part in multicast (IFF_MULTICAST).
    pub multicast: bool,
    /// Whether it stays dormant when it has a carrier, for a supplicant
    /// (IFLA_LINKMODE).
    pub dormant: bool,
    /// Whether a program sees its frames before the stack does (IFLA_XDP).
    pub xdp: bool,
    /// Its broadcast address.
    pub broadcast: Option<MacAddr>,
    /// Bytes of the largest packet it is given to segment.
    pub gso_max_size: Option<u32>,
    /// Segments of such a packet.
    pub gso_max_segs: Option<u32>,
    /// Bytes of the largest packet made of received ones.
    pub gro_max_size: Option<u32>,
    /// The same as `gso_max_size` for IPv4 (Linux 6.3).
    pub gso_ipv4_max_size: Option<u32>,
    /// The same as `gro_max_size` for IPv4 (Linux 6.3).
    pub gro_ipv4_max_size: Option<u32>,
}

/// One change of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tune {
    /// See [`Tuning::arp`].
    Arp(bool),
    /// See [`Tuning::multicast`].
    Multicast(bool),
    /// See [`Tuning::dormant`].
    Dormant(bool),
    /// See [`Tuning::broadcast`].
    Broadcast(MacAddr),
    /// See [`Tuning::gso_max_size`]; sets that for IPv4 too.
    GsoMaxSize(u32),
    /// See [`Tuning::gso_max_segs`].
    GsoMaxSegs(u32),
    /// See [`Tuning::gro_max_size`]; sets that for IPv4 too.
    GroMaxSize(u32),
    /// See [`Tuning::gso_ipv4_max_size`].
    GsoIpv4MaxSize(u32),
    /// See [`Tuning::gro_ipv4_max_size`].
    GroIpv4MaxSize(u32),
}

impl Net {
    /// The seldom used settings of the link with this index; ENODEV if there is none.
    pub fn tuning(&self, index: u32) -> Result<Tuning> {
        let found = self.find(Object::Index(index), get(index, None))?;
        decode(&found.ok_or_else(|| absent(Object::Index(index)))?)
    }

    /// Changes one of them. Repeating it is no error.
    ///
    /// # Errors
    /// ENODEV if there is no such link; EINVAL for a value it does not take.
    pub fn set_tuning(&self, index: u32, tune: Tune) -> Result<()> {
        let edit = LinkUnspec::new_with_index(index);
        self.set(index, format!("set {tune} of"), tune.onto(edit))
    }
}

fn decode(body: &[u8]) -> Result<Tuning> {
    let flags = u32_at(body, 8)
        .ok_or_else(|| Error::malformed("read", "a link's description", "it is cut short"))?;
    let has = |flag: libc::c_int| flags.cast_signed() & flag != 0;
    let mut tuning = Tuning {
        arp: !has(libc::IFF_NOARP),
        multicast: has(libc::IFF_MULTICAST),
        ..Tuning::default()
    };
    for attr in Attrs::after(body, IFINFO) {
        match attr.kind {
            IFLA_LINKMODE => tuning.dormant = attr.u8() == Some(1),
            IFLA_XDP => tuning.xdp = is_attached(attr),
            IFLA_BROADCAST => tuning.broadcast = attr.mac(),
            IFLA_GSO_MAX_SIZE => tuning.gso_max_size = attr.u32(),
            IFLA_GSO_MAX_SEGS => tuning.gso_max_segs = attr.u32(),
            IFLA_GRO_MAX_SIZE => tuning.gro_max_size = attr.u32(),
            IFLA_GSO_IPV4_MAX_SIZE => tuning.gso_ipv4_max_size = attr.u32(),
            IFLA_GRO_IPV4_MAX_SIZE => tuning.gro_ipv4_max_size = attr.u32(),
            _ => {}
        }
    }
    Ok(tuning)
}

fn is_attached(xdp: Attr<'_>) -> bool {
    let mut parts = xdp.nested();
    let attached = parts.find(|part| part.kind == IFLA_XDP_ATTACHED);
    attached.and_then(Attr::bool).unwrap_or_default()
}

impl Tune {
    /// What it is that it changes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Arp(_) => "ARP",
            Self::Multicast(_) => "multicast",
            Self::Dormant(_) => "dormant mode",
            Self::Broadcast(_) => "broadcast address",
            Self::GsoMaxSize(_) => "gso_max_size",
            Self::GsoMaxSegs(_) => "gso_max_segs",
            Self::GroMaxSize(_) => "gro_max_size",
            Self::GsoIpv4MaxSize(_) => "gso_ipv4_max_size",
            Self::GroIpv4MaxSize(_) => "gro_ipv4_max_size",
        }
    }

    fn onto(self, edit: LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec> {
        let (kind, value) = match self {
            Self::Arp(on) => return edit.arp(on),
            Self::Multicast(on) => return edit.multicast(on),
            Self::Dormant(on) => (IFLA_LINKMODE, vec![u8::from(on)]),
            Self::Broadcast(mac) => (IFLA_BROADCAST, mac.0.to_vec()),
            Self::GsoMaxSize(bytes) => (IFLA_GSO_MAX_SIZE, number(bytes)),
            Self::GsoMaxSegs(segments) => (IFLA_GSO_MAX_SEGS, number(segments)),
            Self::GroMaxSize(bytes) => (IFLA_GRO_MAX_SIZE, number(bytes)),
            Self::GsoIpv4MaxSize(bytes) => (IFLA_GSO_IPV4_MAX_SIZE, number(bytes)),
            Self::GroIpv4MaxSize(bytes) => (IFLA_GRO_IPV4_MAX_SIZE, number(bytes)),
        };
        edit.append_extra_attribute(LinkAttribute::Other(DefaultNla::new(kind, value)))
    }
}

fn number(value: u32) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}

impl fmt::Display for Tune {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Self::Arp(on) | Self::Multicast(on) | Self::Dormant(on) => {
                write!(f, "{name} {}", if *on { "on" } else { "off" })
            }
            Self::Broadcast(mac) => write!(f, "{name} {mac}"),
            Self::GsoMaxSize(number)
            | Self::GsoMaxSegs(number)
            | Self::GroMaxSize(number)
            | Self::GsoIpv4MaxSize(number)
            | Self::GroIpv4MaxSize(number) => write!(f, "{name} {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn flags_and_attributes_are_read_and_absent_ones_are_none() {
        let mut body = vec![0; IFINFO];
        let flags = libc::IFF_NOARP | libc::IFF_MULTICAST;
        body[8..12].copy_from_slice(&flags.to_ne_bytes());
        body.extend(attr(IFLA_LINKMODE, &[1]));
        body.extend(attr(IFLA_BROADCAST, &[0xff; 6]));
        body.extend(attr(IFLA_GSO_MAX_SIZE, &65536u32.to_ne_bytes()));
        body.extend(attr(IFLA_XDP, &attr(IFLA_XDP_ATTACHED, &[2])));
        let wished = Tuning {
            arp: false,
            multicast: true,
            dormant: true,
            xdp: true,
            broadcast: Some(MacAddr([0xff; 6])),
            gso_max_size: Some(65536),
            ..Tuning::default()
        };
        assert_eq!(decode(&body), Ok(wished));
        assert!(decode(&body[..9]).is_err());
    }
}
