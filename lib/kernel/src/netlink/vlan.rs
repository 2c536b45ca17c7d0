//! VLANs of bridge ports and of the bridge itself: added and removed by RTM_SETLINK
//! and RTM_DELLINK of the bridge family, read by RTM_GETVLAN, which, unlike a link
//! dump, can be asked about one port (include/uapi/linux/if_bridge.h, Linux 5.6).

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{BridgeVlanInfoFlags, LinkMessage};
use rtnetlink::LinkBridgeVlan;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

    /// Adds VLANs, or changes how they are treated. Adding a pvid leaves the former
    /// pvid in place as an ordinary VLAN. A range is not atomic: after an error its
    /// first part may be there. EOPNOTSUPP if the kernel lacks VLAN filtering or the
    /// link is no bridge port.
    pub fn add_vlan(&self, index: u32, vids: VlanRange, flags: VlanFlags, on: On) -> Result<()> {
        let message = RouteNetlinkMessage::SetLink(vlan_message(index, vids, flags, on));
        self.act(
            format!("add VLAN {vids} to"),
            Object::Index(index),
            message,
            0,
        )
    }

    /// Removes VLANs. The kernel does not complain about those that are not there.
    pub fn del_vlan(&self, index: u32, vids: VlanRange, on: On) -> Result<()> {
        let message = vlan_message(index, vids, VlanFlags::default(), on);
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

fn vlan_message(index: u32, vids: VlanRange, flags: VlanFlags, on: On) -> LinkMessage {
    let mut bits = BridgeVlanInfoFlags::empty();
    bits.set(BridgeVlanInfoFlags::Pvid, flags.pvid);
    bits.set(BridgeVlanInfoFlags::Untagged, flags.untagged);
    let mut message = LinkBridgeVlan::new(index);
    if on == On::Bridge {
        message = message.bridge_self();
    }
    let (first, last) = (vids.first.get(), vids.last.get());
    if first == last {
        message.vlan(first, bits).build()
    } else {
        message
            .vlan_range_start(first, bits)
            .vlan_range_end(last, bits)
            .build()
    }
}

/// `struct br_vlan_msg` for one device.
fn get_vlans(index: u32) -> Vec<u8> {
    let mut body = vec![AF_BRIDGE, 0, 0, 0];
    body.extend(index.to_ne_bytes());
    body
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
mod tests {
    use super::*;

    fn range(first: u16, last: u16) -> VlanRange {
        VlanRange {
            first: first.try_into().unwrap(),
            last: last.try_into().unwrap(),
        }
    }

    /// The attributes of a request, after `struct ifinfomsg`.
    fn attributes(vids: VlanRange, flags: VlanFlags, on: On) -> Vec<u8> {
        let message = RouteNetlinkMessage::SetLink(vlan_message(5, vids, flags, on));
        let request = Request::from(message);
        assert_eq!(request.kind, libc::RTM_SETLINK);
        assert_eq!(request.body[..8], [AF_BRIDGE, 0, 0, 0, 5, 0, 0, 0]);
        request.body[16..].to_vec()
    }

    #[test]
    fn an_access_port_is_one_entry_pvid_and_untagged() {
        let flags = VlanFlags {
            pvid: true,
            untagged: true,
        };
        let vid = VlanId::try_from(100).unwrap();
        // IFLA_AF_SPEC { IFLA_BRIDGE_VLAN_INFO { flags 2|4, vid 100 } }
        let expected = [12, 0, 26, 0, 8, 0, 2, 0, 6, 0, 100, 0];
        assert_eq!(attributes(vid.into(), flags, On::Port), expected);
    }

    #[test]
    fn a_range_is_two_entries_in_one_message() {
        let trunk = attributes(range(2, 4094), VlanFlags::default(), On::Port);
        // begin 8, vid 2; end 16, vid 0xffe
        let expected = [
            20, 0, 26, 0, 8, 0, 2, 0, 8, 0, 2, 0, 8, 0, 2, 0, 16, 0, 0xfe, 0xf,
        ];
        assert_eq!(trunk, expected);
    }

    #[test]
    fn the_bridge_itself_is_meant_by_self() {
        let own = attributes(range(9, 9), VlanFlags::default(), On::Bridge);
        // IFLA_BRIDGE_FLAGS { BRIDGE_FLAGS_SELF }, padded, then the entry
        let expected = [20, 0, 26, 0, 6, 0, 0, 0, 2, 0, 0, 0, 8, 0, 2, 0, 0, 0, 9, 0];
        assert_eq!(own, expected);
    }

    #[test]
    fn one_device_is_asked_about() {
        assert_eq!(get_vlans(0x0102), [7, 0, 0, 0, 2, 1, 0, 0]);
    }

    #[test]
    fn an_answer_lists_ranges_expanded() {
        let body = [
            7, 0, 0, 0, 5, 0, 0, 0, // struct br_vlan_msg
            12, 0, 1, 0x80, 8, 0, 1, 0, 6, 0, 100, 0, // 100 pvid untagged
            20, 0, 1, 0x80, 8, 0, 1, 0, 0, 0, 200, 0, 6, 0, 2, 0, 202, 0, 0, 0, // 200-202
            8, 0, 9, 0, 0, 0, 0, 0, // an attribute of the future
        ];
        let entry = |vid: u16, set| VlanEntry {
            vid: vid.try_into().unwrap(),
            pvid: set,
            untagged: set,
        };
        let expected = [
            entry(100, true),
            entry(200, false),
            entry(201, false),
            entry(202, false),
        ];
        assert_eq!(decode(&body), expected);
    }

    #[test]
    fn odd_answers_are_no_vlans() {
        for body in [
            &[][..],
            &[7, 0, 0, 0, 5, 0, 0, 0],
            &[7, 0, 0, 0, 5, 0, 0, 0, 4, 0, 1, 0x80],
            &[
                7, 0, 0, 0, 5, 0, 0, 0, 12, 0, 1, 0x80, 8, 0, 1, 0, 6, 0, 0, 0,
            ],
        ] {
            assert_eq!(decode(body), [], "{body:?}");
        }
    }

    #[test]
    fn ranges_read_as_operators_write_them() {
        assert_eq!(range(7, 7).to_string(), "7");
        assert_eq!(range(7, 9).to_string(), "7-9");
    }
}
