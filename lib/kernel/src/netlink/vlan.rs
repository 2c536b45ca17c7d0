//! VLANs of bridge ports and of the bridge itself: added and removed by RTM_SETLINK
//! and RTM_DELLINK of the bridge family, read by RTM_GETVLAN, which, unlike a link
//! dump, can be asked about one port (include/uapi/linux/if_bridge.h, Linux 5.6).

use std::collections::BTreeSet;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{BridgeVlanInfoFlags, LinkMessage};
use rtnetlink::LinkBridgeVlan;
use serde::{Deserialize, Serialize};

use super::attr::{Attr, Attrs, align, u16_at};
use super::socket::{Net, Object};
use super::wire::Request;
use crate::Result;
use crate::names::VlanId;

const AF_BRIDGE: u8 = 7;
const RTM_GETVLAN: u16 = 114;
/// Length of `struct br_vlan_msg`: family, padding, ifindex.
const BR_VLAN_MSG: usize = 8;
const BRIDGE_VLANDB_ENTRY: u16 = 1;
const BRIDGE_VLANDB_ENTRY_INFO: u16 = 1;
const BRIDGE_VLANDB_ENTRY_RANGE: u16 = 2;

/// VLAN ids from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VlanRange {
    /// Lowest id.
    pub first: VlanId,
    /// Highest id.
    pub last: VlanId,
}

/// How a port treats a VLAN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VlanFlags {
    /// Untagged frames that come in belong to it. One VLAN of a port can have this,
    /// no range can.
    pub pvid: bool,
    /// Its frames go out untagged.
    pub untagged: bool,
}

/// One VLAN of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanEntry {
    /// The VLAN.
    pub vid: VlanId,
    /// See [`VlanFlags::pvid`].
    pub pvid: bool,
    /// See [`VlanFlags::untagged`].
    pub untagged: bool,
}

/// Whose VLANs are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// A port of a bridge.
    Port,
    /// The bridge device itself (`self`), for an 802.1Q device on top of it.
    Bridge,
}

impl From<VlanId> for VlanRange {
    fn from(vid: VlanId) -> Self {
        Self {
            first: vid,
            last: vid,
        }
    }
}

impl VlanRange {
    /// The ids in it.
    pub fn ids(self) -> impl Iterator<Item = VlanId> {
        let all = self.first.get()..=self.last.get();
        all.filter_map(|id| VlanId::try_from(id).ok())
    }

    /// The fewest ranges, in ascending order, that hold exactly these ids.
    pub fn of(ids: impl IntoIterator<Item = VlanId>) -> Vec<Self> {
        let ids: BTreeSet<VlanId> = ids.into_iter().collect();
        let mut ranges: Vec<Self> = Vec::new();
        for id in ids {
            match ranges.last_mut() {
                Some(range) if range.last.get() + 1 == id.get() => range.last = id,
                _ => ranges.push(id.into()),
            }
        }
        ranges
    }

    /// Ranges as a person writes them: `101, 200-210`.
    pub fn list(ranges: &[Self]) -> String {
        let all: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        all.join(", ")
    }
}

impl Net {
    /// The VLANs of one bridge port, or of a bridge itself, in ascending order.
    /// EOPNOTSUPP if the kernel lacks VLAN filtering, EINVAL if the link is neither.
    pub fn vlans_of(&self, index: u32) -> Result<Vec<VlanEntry>> {
        let request = Request {
            kind: RTM_GETVLAN,
            body: get_vlans(index),
        };
        let bodies = self.dump("list VLANs of", Object::Index(index), request)?;
        Ok(bodies.iter().flat_map(|body| decode(body)).collect())
    }

    /// Adds VLANs, or changes how they are treated, as [`Net::add_vlans`].
    pub fn add_vlan(&self, index: u32, vids: VlanRange, flags: VlanFlags, on: On) -> Result<()> {
        self.add_vlans(index, &[(vids, flags)], on)
    }

    /// Adds VLANs, or changes how they are treated, all in one message. Adding a pvid
    /// leaves the former pvid in place as an ordinary VLAN. This is not atomic: after an
    /// error a first part may be there. EOPNOTSUPP if the kernel lacks VLAN filtering or
    /// the link is no bridge port.
    pub fn add_vlans(&self, index: u32, vlans: &[(VlanRange, VlanFlags)], on: On) -> Result<()> {
        let message = RouteNetlinkMessage::SetLink(vlan_message(index, vlans, on));
        let all: Vec<_> = vlans.iter().map(|(vids, _)| *vids).collect();
        let op = format!("add VLAN {} to", VlanRange::list(&all));
        self.act(op, Object::Index(index), message, 0)
    }

    /// The VLANs of all bridge ports, of whatever bridge, by interface index. One dump,
    /// whose cost grows with the number of ports.
    pub fn vlans_of_ports(&self) -> Result<Vec<(u32, Vec<VlanEntry>)>> {
        let request = Request {
            kind: RTM_GETVLAN,
            body: get_vlans(0),
        };
        let bodies = self.dump("list VLANs of", Object::Text("all bridge ports"), request)?;
        let ports = bodies
            .iter()
            .filter_map(|body| Some((device_of(body)?, decode(body))));
        Ok(ports.collect())
    }

    /// Removes VLANs. The kernel does not complain about those that are not there.
    pub fn del_vlan(&self, index: u32, vids: VlanRange, on: On) -> Result<()> {
        let message = vlan_message(index, &[(vids, VlanFlags::default())], on);
        let message = RouteNetlinkMessage::DelLink(message);
        self.act(
            format!("remove VLAN {vids} from"),
            Object::Index(index),
            message,
            0,
        )
    }
}

impl std::fmt::Display for VlanRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

fn vlan_message(index: u32, vlans: &[(VlanRange, VlanFlags)], on: On) -> LinkMessage {
    let mut message = LinkBridgeVlan::new(index);
    if on == On::Bridge {
        message = message.bridge_self();
    }
    for (vids, flags) in vlans {
        let mut bits = BridgeVlanInfoFlags::empty();
        bits.set(BridgeVlanInfoFlags::Pvid, flags.pvid);
        bits.set(BridgeVlanInfoFlags::Untagged, flags.untagged);
        let (first, last) = (vids.first.get(), vids.last.get());
        message = if first == last {
            message.vlan(first, bits)
        } else {
            message
                .vlan_range_start(first, bits)
                .vlan_range_end(last, bits)
        };
    }
    message.build()
}

/// `struct br_vlan_msg` for one device.
fn get_vlans(index: u32) -> Vec<u8> {
    let mut body = vec![AF_BRIDGE, 0, 0, 0];
    body.extend(index.to_ne_bytes());
    body
}

/// The interface index of an RTM_NEWVLAN body.
fn device_of(body: &[u8]) -> Option<u32> {
    let bytes = body.get(4..8)?.try_into().ok()?;
    Some(u32::from_ne_bytes(bytes))
}

/// Reads an RTM_NEWVLAN body, ranges expanded.
fn decode(body: &[u8]) -> Vec<VlanEntry> {
    let entries = Attrs::after(body, align(BR_VLAN_MSG));
    entries
        .filter(|attr| attr.kind == BRIDGE_VLANDB_ENTRY)
        .flat_map(decode_entry)
        .collect()
}

fn decode_entry(entry: Attr<'_>) -> Vec<VlanEntry> {
    let value = |kind| entry.nested().find(move |attr| attr.kind == kind);
    // `struct bridge_vlan_info`: flags, vid.
    let info = value(BRIDGE_VLANDB_ENTRY_INFO);
    let Some((flags, first)) = info.and_then(|i| Some((u16_at(i.value, 0)?, u16_at(i.value, 2)?)))
    else {
        return Vec::new();
    };
    let flags = BridgeVlanInfoFlags::from_bits_retain(flags);
    let last = value(BRIDGE_VLANDB_ENTRY_RANGE).and_then(Attr::u16);
    (first..=last.unwrap_or(first))
        .filter_map(|vid| {
            Some(VlanEntry {
                vid: VlanId::try_from(vid).ok()?,
                pvid: flags.contains(BridgeVlanInfoFlags::Pvid),
                untagged: flags.contains(BridgeVlanInfoFlags::Untagged),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
