//! Intermediate functional blocks: devices through which received frames are sent, so
//! that they can be queued (drivers/net/ifb.c).

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::socket::{NLM_F_CREATE, NLM_F_EXCL, Net, Object};
use crate::names::IfName;
use crate::{Kind, Result};

impl Net {
    /// Creates an ifb, down, with this MTU in bytes. EEXIST if the name is taken.
    ///
    /// # Errors
    /// Of the kind `Unsupported` with the option the kernel lacks; else what it refused.
    pub fn create_ifb(&self, name: &IfName, mtu: u32) -> Result<()> {
        let message = RouteNetlinkMessage::NewLink(new_ifb(name, mtu));
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let done = self.act("create ifb", Object::Name(name), message, flags);
        done.map_err(|error| match error.kind() {
            Kind::Unsupported => error.because(Some("no ifb (CONFIG_IFB)".into())),
            _ => error,
        })
    }
}

fn new_ifb(name: &IfName, mtu: u32) -> LinkMessage {
    LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Ifb)
        .name(name.as_str())
        .mtu(mtu)
        .build()
}

#[cfg(test)]
mod tests {
    use super::super::attr::Attrs;
    use super::super::wire::Request;
    use super::*;

    #[test]
    fn an_ifb_is_named_and_has_its_mtu() {
        let message = new_ifb(&"bi0".parse().unwrap(), 9000);
        let body = Request::from(RouteNetlinkMessage::NewLink(message)).body;
        let find = |kind| Attrs::after(&body, 16).find(|attr| attr.kind == kind);
        assert_eq!(find(libc::IFLA_IFNAME).unwrap().text(), "bi0");
        assert_eq!(find(libc::IFLA_MTU).unwrap().u32(), Some(9000));
        let mut info = find(libc::IFLA_LINKINFO).unwrap().nested();
        let kind = info.find(|attr| attr.kind == libc::IFLA_INFO_KIND);
        assert_eq!(kind.unwrap().text(), "ifb");
    }
}
