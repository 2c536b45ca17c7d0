//! Filters of what a link receives (rtnetlink(7), RTM_*TFILTER): all of it sent through
//! another link instead (tc-u32(8), tc-mirred(8)).

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAction, TcActionAttribute, TcActionGeneric, TcActionMirror, TcActionMirrorOption,
    TcActionOption, TcActionType, TcAttribute, TcFilterU32, TcFilterU32Option, TcHandle, TcMessage,
    TcMirror, TcMirrorActionType, TcOption, TcU32Key, TcU32Selector, TcU32SelectorFlags,
};

use super::attr::{Attr, Attrs, find, u32_at};
use super::qdisc::{INGRESS_HANDLE, TCA_KIND, TCA_OPTIONS, TCMSG, lacking, message};
use super::socket::{NLM_F_CREATE, NLM_F_EXCL, Net, Object};
use crate::Result;

/// include/uapi/linux/pkt_cls.h, inside TCA_OPTIONS of a `u32`.
const TCA_U32_ACT: u16 = 7;
/// Inside each action of those.
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
/// include/uapi/linux/tc_act/tc_mirred.h, inside the options of that action: `struct
/// tc_mirred`, and where in it what is done and the other link's index are.
const TCA_MIRRED_PARMS: u16 = 2;
const MIRRED_EACTION: usize = 20;
const MIRRED_IFINDEX: usize = 24;
/// `TCA_EGRESS_REDIR`.
const EGRESS_REDIRECT: u32 = 1;

/// Whatever protocol (include/uapi/linux/if_ether.h).
const ETH_P_ALL: u16 = 3;
/// Before all filters that others may add.
const FIRST: u32 = 1;

impl Net {
    /// Sends all that the link `from` receives through the link `to` instead. `from` has
    /// an ingress discipline ([`Net::add_ingress`]).
    ///
    /// # Errors
    /// Of the kind `Unsupported` with the options the kernel may lack; else what it
    /// refused.
    pub fn add_redirect(&self, from: u32, to: u32) -> Result<()> {
        let message = RouteNetlinkMessage::NewTrafficFilter(new_redirect(from, to));
        let op = format!("redirect to link {to} what is received by");
        self.act(op, Object::Index(from), message, NLM_F_CREATE | NLM_F_EXCL)
            .map_err(|error| {
                lacking(
                    error,
                    "u32 or mirred (CONFIG_NET_CLS_U32, CONFIG_NET_ACT_MIRRED)",
                )
            })
    }

    /// The indexes of the links that what the link `from` receives is redirected to by
    /// filters like that of [`Net::add_redirect`]; of a link that is gone, 0.
    ///
    /// # Errors
    /// What the kernel refused to tell.
    pub fn redirects(&self, from: u32) -> Result<Vec<u32>> {
        let message = message(from, (TcHandle::UNSPEC, INGRESS_HANDLE), Vec::new());
        let request = RouteNetlinkMessage::GetTrafficFilter(message);
        let bodies = self.dump("list filters of", Object::Index(from), request)?;
        Ok(bodies.iter().flat_map(|body| decode(body)).collect())
    }
}

/// A filter with one key that every frame meets.
fn new_redirect(from: u32, to: u32) -> TcMessage {
    let mut selector = TcU32Selector::default();
    selector.flags = TcU32SelectorFlags::Terminal;
    selector.nkeys = 1;
    selector.keys = vec![TcU32Key::default()];
    let options = [
        TcFilterU32Option::Selector(selector),
        TcFilterU32Option::Action(vec![redirect(to)]),
    ];
    let attributes = vec![
        TcAttribute::Kind(TcFilterU32::KIND.to_owned()),
        TcAttribute::Options(options.map(TcOption::U32).to_vec()),
    ];
    let mut message = message(from, (TcHandle::UNSPEC, INGRESS_HANDLE), attributes);
    message.header.info = FIRST << 16 | u32::from(ETH_P_ALL.to_be());
    message
}

fn redirect(to: u32) -> TcAction {
    let mut generic = TcActionGeneric::default();
    generic.action = TcActionType::Stolen;
    let mut mirror = TcMirror::default();
    mirror.generic = generic;
    mirror.eaction = TcMirrorActionType::EgressRedir;
    mirror.ifindex = to;
    let options = vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror))];
    let mut action = TcAction::default();
    action.attributes = vec![
        TcActionAttribute::Kind(TcActionMirror::KIND.to_owned()),
        TcActionAttribute::Options(options),
    ];
    action
}

/// Where an RTM_NEWTFILTER redirects to.
fn decode(body: &[u8]) -> Vec<u32> {
    let top = Attrs::after(body, TCMSG);
    let options = match find(top, TCA_KIND) {
        Some(kind) if kind.text() == TcFilterU32::KIND => find(top, TCA_OPTIONS),
        _ => None,
    };
    let actions = options.and_then(|options| find(options.nested(), TCA_U32_ACT));
    let target = |action: Attrs<'_>| {
        let options = find(action, TCA_ACT_OPTIONS)?.nested();
        let parameters = find(options, TCA_MIRRED_PARMS)?.value;
        let is_ours = find(action, TCA_ACT_KIND)?.text() == TcActionMirror::KIND
            && u32_at(parameters, MIRRED_EACTION) == Some(EGRESS_REDIRECT);
        u32_at(parameters, MIRRED_IFINDEX).filter(|_| is_ours)
    };
    let actions = actions.into_iter().flat_map(Attr::nested);
    actions
        .filter_map(|action| target(action.nested()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::wire::Request;
    use super::*;

    /// What `tc filter add dev X parent ffff: prio 1 protocol all u32 match u32 0 0
    /// action mirred egress redirect dev Y` sends, less what the kernel has as default.
    #[test]
    fn a_redirect_takes_every_frame() {
        let message = RouteNetlinkMessage::NewTrafficFilter(new_redirect(5, 9));
        let request = Request::from(message);
        assert_eq!(request.kind, libc::RTM_NEWTFILTER);
        let word = |at| u32_at(&request.body, at);
        assert_eq!((word(4), word(12)), (Some(5), Some(0xffff_0000)));
        assert_eq!(word(16), Some(0x1_0000 | u32::from(3u16.to_be())));
        assert_eq!(decode(&request.body), [9]);
    }

    #[test]
    fn other_filters_redirect_nowhere() {
        let mut mirror = new_redirect(5, 9);
        mirror.attributes[0] = TcAttribute::Kind("flower".into());
        let bytes = Request::from(RouteNetlinkMessage::NewTrafficFilter(mirror)).body;
        assert!(decode(&bytes).is_empty());
        assert!(decode(&[]).is_empty());
        let table = message(
            5,
            (TcHandle::UNSPEC, INGRESS_HANDLE),
            vec![TcAttribute::Kind("u32".into())],
        );
        let bytes = Request::from(RouteNetlinkMessage::NewTrafficFilter(table)).body;
        assert!(decode(&bytes).is_empty());
    }
}
