//! The PF's side of its virtual functions: what the kernel reports of them, and one
//! change at a time (rtnetlink(7), IFLA_VFINFO_LIST; `struct ifla_vf_*` in
//! include/uapi/linux/if_link.h).

use std::fmt;
use std::str::FromStr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    LinkAttribute, LinkExtentMask, LinkHeader, LinkMessage, LinkVfInfo, VfInfo, VfInfoLinkState,
    VfInfoMac, VfInfoRate, VfInfoRssQueryEn, VfInfoSpoofCheck, VfInfoTrust, VfInfoVlan,
    VfLinkState as WireLinkState, VfVlan as WireVlan, VfVlanInfo, VlanProtocol,
};
use nix::errno::Errno;
use rtnetlink::LinkUnspec;
use serde::{Deserialize, Serialize};

use super::attr::{Attr, Attrs, u16_at, u32_at};
use super::link::IFINFO;
use super::socket::{Net, Object};
use crate::names::{Invalid, MacAddr, text_conversions};
use crate::{Error, Result};

// include/uapi/linux/if_link.h, in IFLA_VFINFO_LIST and its IFLA_VF_INFO.
const IFLA_VF_INFO: u16 = 1;
const IFLA_VF_MAC: u16 = 1;
const IFLA_VF_VLAN: u16 = 2;
const IFLA_VF_SPOOFCHK: u16 = 4;
const IFLA_VF_LINK_STATE: u16 = 5;
const IFLA_VF_RATE: u16 = 6;
const IFLA_VF_RSS_QUERY_EN: u16 = 7;
const IFLA_VF_TRUST: u16 = 9;
const IFLA_VF_VLAN_LIST: u16 = 12;
const IFLA_VF_VLAN_INFO: u16 = 1;
/// Ethertype of an 802.1ad tag, include/uapi/linux/if_ether.h.
const ETH_P_8021AD: u16 = 0x88a8;

/// A virtual function as its PF's driver reports it.
///
/// `None` is what the driver does not report. The kernel can tell that for spoof check,
/// trust and RSS query (-1); a driver without rates or link states reports 0 and `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vf {
    /// Its index at the PF, from 0.
    pub index: u32,
    /// The address the administrator gave it; all zero: none. With some drivers (igb) it
    /// is also the one the VF's own driver picked or was told, once that is up, and
    /// nothing tells the two apart. `None`: not an Ethernet address.
    pub mac: Option<MacAddr>,
    /// The VLAN its frames are put into.
    pub vlan: VfVlan,
    /// What it may send at least, in Mbit/s; 0: nothing is guaranteed.
    pub min_tx_rate: u32,
    /// What it may send at most, in Mbit/s; 0: no limit.
    pub max_tx_rate: u32,
    /// Whether frames from another source address are dropped.
    pub spoofchk: Option<bool>,
    /// Whether it may use privileged features, as promiscuous mode and other addresses.
    pub trust: Option<bool>,
    /// The link state it is shown.
    pub link_state: Option<VfLinkState>,
    /// Whether it may read the PF's RSS table and key.
    pub query_rss: Option<bool>,
}

/// The VLAN a VF is in without knowing: the PF inserts the tag on the way out and
/// strips it on the way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VfVlan {
    /// VLAN id; 0: none.
    pub id: u16,
    /// Priority of the tag, 0 to 7.
    pub qos: u8,
    /// Kind of the tag.
    pub proto: VlanProto,
}

/// The kind of a VLAN tag, written as ip-link(8) does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum VlanProto {
    /// `802.1Q`, ethertype 0x8100.
    #[default]
    Dot1Q,
    /// `802.1ad`, the outer tag of two, ethertype 0x88a8.
    Dot1Ad,
}

/// The link state a VF is shown, written as ip-link(8) does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum VfLinkState {
    /// `auto`: the PF's.
    Auto,
    /// `enable`: up always, so that VFs of one PF reach each other without a cable.
    Enable,
    /// `disable`: down always; its frames are dropped.
    Disable,
}

/// One change of a VF at its PF. As text, what is set: `VLAN 100`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VfChange {
    /// The administrator's address. Many drivers show it to the VF only when its driver
    /// is bound again. All zero takes it away; some drivers refuse that (EINVAL).
    Mac(MacAddr),
    /// The VLAN; id 0 for none.
    Vlan(VfVlan),
    /// Rates in Mbit/s, 0 for none.
    TxRate {
        /// What it may send at least.
        min: u32,
        /// What it may send at most.
        max: u32,
    },
    /// Whether frames from another source address are dropped.
    SpoofCheck(bool),
    /// Whether it may use privileged features.
    Trust(bool),
    /// The link state it is shown.
    LinkState(VfLinkState),
    /// Whether it may read the PF's RSS table and key.
    QueryRss(bool),
}

impl Net {
    /// The VFs of the PF with this index, by index; none if it has none or its driver
    /// does not report them. ENODEV if there is no such link.
    ///
    /// The kernel asks the driver for each VF, which takes up to 2 ms per VF with the
    /// rtnl lock held. Answers of some 200 bytes per VF end at 64 KiB, the size of an
    /// attribute: about 330 VFs.
    pub fn vfs(&self, pf: u32) -> Result<Vec<Vf>> {
        let body = self.find(Object::Index(pf), get_vfs(pf))?;
        let body =
            body.ok_or_else(|| Error::errno("list the VFs of", Object::Index(pf), Errno::ENODEV))?;
        Ok(decode(&body))
    }

    /// Changes one property of VF `vf` of the PF with index `pf`. Repeating it is no
    /// error.
    ///
    /// # Errors
    /// As the driver says; usual are EOPNOTSUPP (it cannot do that at all), EINVAL (no
    /// such VF, or a value it does not take), EPROTONOSUPPORT (not with that tag), and
    /// EBUSY or EAGAIN while the VF is being reset: worth a repetition a moment later.
    pub fn set_vf(&self, pf: u32, vf: u32, change: VfChange) -> Result<()> {
        let message = RouteNetlinkMessage::SetLink(set_vf(pf, vf, change));
        let op = format!("set {change} of VF {vf} of");
        self.act(op, Object::Index(pf), message, 0)
    }
}

/// Asks for one link with its VFs, and nothing that grows with them but that.
fn get_vfs(pf: u32) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header = LinkHeader {
        index: pf,
        ..LinkHeader::default()
    };
    let mask = vec![LinkExtentMask::Vf, LinkExtentMask::SkipStats];
    message.attributes.push(LinkAttribute::ExtMask(mask));
    RouteNetlinkMessage::GetLink(message)
}

fn set_vf(pf: u32, vf: u32, change: VfChange) -> LinkMessage {
    let info = LinkVfInfo(vec![change.wire(vf)]);
    LinkUnspec::new_with_index(pf)
        .append_extra_attribute(LinkAttribute::VfInfoList(vec![info]))
        .build()
}

impl VfChange {
    fn wire(self, vf: u32) -> VfInfo {
        match self {
            Self::Mac(mac) => VfInfo::Mac(VfInfoMac::new(vf, &mac.0)),
            Self::Vlan(vlan) => vlan.wire(vf),
            Self::TxRate { min, max } => VfInfo::Rate(VfInfoRate::new(vf, min, max)),
            Self::SpoofCheck(on) => VfInfo::SpoofCheck(VfInfoSpoofCheck::new(vf, on)),
            Self::Trust(on) => VfInfo::Trust(VfInfoTrust::new(vf, on)),
            Self::LinkState(state) => VfInfo::LinkState(VfInfoLinkState::new(vf, state.wire())),
            Self::QueryRss(on) => VfInfo::RssQueryEn(VfInfoRssQueryEn::new(vf, on)),
        }
    }
}

impl VfVlan {
    /// The attribute that sets it: the old one for an 802.1Q tag, for there are more
    /// kernels and drivers that take it.
    fn wire(self, vf: u32) -> VfInfo {
        let (id, qos) = (u32::from(self.id), u32::from(self.qos));
        match self.proto {
            VlanProto::Dot1Q => VfInfo::Vlan(VfInfoVlan::new(vf, id, qos)),
            VlanProto::Dot1Ad => {
                let info = VfVlanInfo::new(vf, id, qos, VlanProtocol::Ieee8021Ad);
                VfInfo::VlanList(vec![WireVlan::Info(info)])
            }
        }
    }
}

impl VfLinkState {
    fn wire(self) -> WireLinkState {
        match self {
            Self::Auto => WireLinkState::Auto,
            Self::Enable => WireLinkState::Enable,
            Self::Disable => WireLinkState::Disable,
        }
    }

    fn of(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Auto),
            1 => Some(Self::Enable),
            2 => Some(Self::Disable),
            _ => None,
        }
    }
}

/// Reads the VFs of an RTM_NEWLINK body.
fn decode(body: &[u8]) -> Vec<Vf> {
    let lists = Attrs::after(body, IFINFO).filter(|attr| attr.kind == libc::IFLA_VFINFO_LIST);
    let infos = lists.flat_map(Attr::nested);
    let mut vfs: Vec<Vf> = infos
        .filter(|attr| attr.kind == IFLA_VF_INFO)
        .filter_map(decode_vf)
        .collect();
    vfs.sort_by_key(|vf| vf.index);
    vfs
}

/// Reads one IFLA_VF_INFO; `None` if it does not say which VF it is about. Its plain
/// attributes begin with that, and the first has always been the address.
fn decode_vf(info: Attr<'_>) -> Option<Vf> {
    let first = info.nested().find(|attr| attr.kind == IFLA_VF_MAC);
    let index = first?.u32()?;
    let mut vf = Vf {
        index,
        mac: None,
        vlan: VfVlan::NONE,
        min_tx_rate: 0,
        max_tx_rate: 0,
        spoofchk: None,
        trust: None,
        link_state: None,
        query_rss: None,
    };
    for attr in info.nested() {
        let setting = u32_at(attr.value, 4);
        match attr.kind {
            IFLA_VF_MAC => vf.mac = attr.value.get(4..10).and_then(mac),
            IFLA_VF_VLAN => vf.vlan.take(attr),
            IFLA_VF_VLAN_LIST => {
                let first = attr.nested().find(|info| info.kind == IFLA_VF_VLAN_INFO);
                first.into_iter().for_each(|info| vf.vlan.take(info));
            }
            IFLA_VF_RATE => {
                vf.min_tx_rate = setting.unwrap_or_default();
                vf.max_tx_rate = u32_at(attr.value, 8).unwrap_or_default();
            }
            IFLA_VF_SPOOFCHK => vf.spoofchk = setting.and_then(reported),
            IFLA_VF_TRUST => vf.trust = setting.and_then(reported),
            IFLA_VF_RSS_QUERY_EN => vf.query_rss = setting.and_then(reported),
            IFLA_VF_LINK_STATE => vf.link_state = setting.and_then(VfLinkState::of),
            _ => {}
        }
    }
    Some(vf)
}

/// The first six bytes of an address.
fn mac(bytes: &[u8]) -> Option<MacAddr> {
    bytes.first_chunk().map(|mac| MacAddr(*mac))
}

/// A switch the driver may not know: -1.
fn reported(setting: u32) -> Option<bool> {
    (setting != u32::MAX).then_some(setting != 0)
}

impl VfVlan {
    /// In no VLAN.
    pub const NONE: Self = Self {
        id: 0,
        qos: 0,
        proto: VlanProto::Dot1Q,
    };

    /// Reads `struct ifla_vf_vlan`, or `ifla_vf_vlan_info`, which adds the kind of the
    /// tag.
    fn take(&mut self, attr: Attr<'_>) {
        let number = |at| u32_at(attr.value, at).unwrap_or_default();
        self.id = u16::try_from(number(4)).unwrap_or_default();
        self.qos = u8::try_from(number(8)).unwrap_or_default();
        if u16_at(attr.value, 12).map(u16::from_be) == Some(ETH_P_8021AD) {
            self.proto = VlanProto::Dot1Ad;
        }
    }
}

impl fmt::Display for VfChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let switch = |on| if on { "on" } else { "off" };
        match self {
            Self::Mac(mac) => write!(f, "MAC {mac}"),
            Self::Vlan(vlan) => vlan.fmt(f),
            Self::TxRate { min, max } => write!(f, "transmit rate {min} to {max} Mbit/s"),
            Self::SpoofCheck(on) => write!(f, "spoof check {}", switch(*on)),
            Self::Trust(on) => write!(f, "trust {}", switch(*on)),
            Self::LinkState(state) => write!(f, "link state {state}"),
            Self::QueryRss(on) => write!(f, "RSS query {}", switch(*on)),
        }
    }
}

/// `VLAN 100`, and what is not as usual: `VLAN 100 qos 3 proto 802.1ad`.
impl fmt::Display for VfVlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VLAN {}", self.id)?;
        if self.qos != 0 {
            write!(f, " qos {}", self.qos)?;
        }
        match self.proto {
            VlanProto::Dot1Q => Ok(()),
            VlanProto::Dot1Ad => write!(f, " proto {}", self.proto),
        }
    }
}

impl fmt::Display for VlanProto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dot1Q => "802.1Q",
            Self::Dot1Ad => "802.1ad",
        })
    }
}

impl FromStr for VlanProto {
    type Err = Invalid;

    /// Upper and lower case alike: programs write `802.1q` and `802.1AD`, too.
    fn from_str(text: &str) -> std::result::Result<Self, Invalid> {
        let known = [Self::Dot1Q, Self::Dot1Ad];
        let meant = |proto: &Self| proto.to_string().eq_ignore_ascii_case(text);
        known
            .into_iter()
            .find(meant)
            .ok_or_else(|| Invalid(format!("{text:?} is neither 802.1Q nor 802.1ad")))
    }
}

impl fmt::Display for VfLinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Enable => "enable",
            Self::Disable => "disable",
        })
    }
}

impl FromStr for VfLinkState {
    type Err = Invalid;

    fn from_str(text: &str) -> std::result::Result<Self, Invalid> {
        match text {
            "auto" => Ok(Self::Auto),
            "enable" => Ok(Self::Enable),
            "disable" => Ok(Self::Disable),
            _ => Err(Invalid(format!(
                "{text:?} is none of auto, enable and disable"
            ))),
        }
    }
}

text_conversions!(VlanProto, VfLinkState);

#[cfg(test)]
mod tests;
