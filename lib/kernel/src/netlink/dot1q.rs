//! 802.1Q devices: the frames of one VLAN of a link as a link of their own
//! (`IFLA_VLAN_*` of include/uapi/linux/if_link.h).

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkMessage;
use rtnetlink::LinkVlan;

use super::socket::{NLM_F_CREATE, NLM_F_EXCL, Net, Object};
use crate::Result;
use crate::names::{IfName, VlanId};

/// An 802.1Q device to be created.
#[derive(Debug, Clone, Copy)]
pub struct NewDot1q<'a> {
    /// Its name.
    pub name: &'a IfName,
    /// Index of the link whose frames it takes.
    pub lower: u32,
    /// Whose frames, and the tag of those it sends.
    pub vlan: VlanId,
}

impl Net {
    /// Creates an 802.1Q device, down, with the MAC address and MTU of the link below.
    /// EEXIST if the name is taken or the link below has one for this VLAN, EOPNOTSUPP
    /// if the kernel lacks them (CONFIG_VLAN_8021Q).
    pub fn create_dot1q(&self, device: &NewDot1q<'_>) -> Result<()> {
        let message = RouteNetlinkMessage::NewLink(new_dot1q(device));
        let op = format!("create 802.1Q device for VLAN {} as", device.vlan);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.act(op, Object::Name(device.name), message, flags)
    }
}

fn new_dot1q(device: &NewDot1q<'_>) -> LinkMessage {
    LinkVlan::new(device.name.as_str(), device.lower, device.vlan.get()).build()
}

#[cfg(test)]
mod tests {
    use super::super::attr::Attrs;
    use super::super::wire::Request;
    use super::*;

    #[test]
    fn a_device_names_its_lower_link_and_its_vlan() {
        let name = "br0.100".parse().unwrap();
        let device = NewDot1q {
            name: &name,
            lower: 7,
            vlan: VlanId::try_from(100).unwrap(),
        };
        let message = RouteNetlinkMessage::NewLink(new_dot1q(&device));
        let body = Request::from(message).body;
        let value = |attrs: &mut Attrs<'_>, kind: u16| {
            let found = attrs.clone().find(|attr| attr.kind == kind);
            found.unwrap().value.to_vec()
        };
        let mut top = Attrs::after(&body, 16);
        assert_eq!(value(&mut top, libc::IFLA_IFNAME), b"br0.100\0");
        assert_eq!(value(&mut top, libc::IFLA_LINK), 7u32.to_ne_bytes());
        let info = value(&mut top, libc::IFLA_LINKINFO);
        let mut info = Attrs::after(&info, 0);
        assert_eq!(value(&mut info, libc::IFLA_INFO_KIND), b"vlan\0");
        let data = value(&mut info, libc::IFLA_INFO_DATA);
        let mut data = Attrs::after(&data, 0);
        assert_eq!(value(&mut data, 1), 100u16.to_ne_bytes());
    }
}
