//! Whether the node's packet filter sees what the bridge forwards (br_netfilter): it
//! does if the network namespace says so, or the bridge itself.

use berth_cni::error::CniError;
use berth_kernel::netlink::Bridge;

use super::{Observed, refuse};
use crate::conf::Conf;

/// Settings of the namespace: 1 in every new one where the module is there.
pub const SETTINGS: [&str; 3] = [
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/bridge/bridge-nf-call-arptables",
];

/// The settings of a bridge of its own by which the packet filter sees its frames, as
/// ip-link(8) names them.
pub fn of_bridge(bridge: &Bridge) -> Vec<&'static str> {
    let all = [
        ("nf_call_iptables", bridge.nf_call_iptables),
        ("nf_call_ip6tables", bridge.nf_call_ip6tables),
        ("nf_call_arptables", bridge.nf_call_arptables),
    ];
    all.iter()
        .filter(|(_, on)| *on)
        .map(|(name, _)| *name)
        .collect()
}

/// A node-wide setting is not for one network to change: others may rely on it.
pub(super) fn must_be_off(conf: &Conf, seen: &Observed) -> Result<(), CniError> {
    let name = &conf.bridge;
    if let Some(first) = seen.filtering.first() {
        return Err(refuse(
            format!(
                "key \"bridgeNetfilter\" is \"off\", but {} is on: the node's packet filter \
                 sees what bridge {name} forwards",
                seen.filtering.join(", ")
            ),
            format!(
                "`sysctl -w {}=0` (it is for all bridges of the node), or \"keep\"",
                first.replace('/', ".")
            ),
        ));
    }
    let bridge = seen.bridge.as_ref().and_then(|link| link.bridge.as_ref());
    let own = bridge.map(of_bridge).unwrap_or_default();
    match own.first() {
        None => Ok(()),
        Some(first) => Err(refuse(
            format!(
                "key \"bridgeNetfilter\" is \"off\", but bridge {name} has {} on",
                own.join(", ")
            ),
            format!("`ip link set {name} type bridge {first} 0`, or \"keep\""),
        )),
    }
}
