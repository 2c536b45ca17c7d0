//! Bridge and uplink in words.

use berth_kernel::netlink::VlanRange;

use crate::conf::{Conf, Uplink, UplinkMode};

/// The steps up to a bridge that is ready for a port.
pub(super) fn of(conf: &Conf) -> Vec<String> {
    let mut steps = Vec::new();
    if conf.flags.unfiltered {
        steps.push(format!(
            "refused while net.bridge.bridge-nf-call-* or nf_call_* of {} is on \
             (bridgeNetfilter)",
            conf.bridge
        ));
    }
    if let Some(uplink) = &conf.uplink
        && let Some(lower) = &uplink.lower
    {
        steps.push(format!(
            "uplink device {}: 802.1Q VLAN {} on {}, which must be up and a port of nothing; \
             made if it is missing, removed with the last port",
            uplink.name, lower.vlan, lower.name
        ));
    }
    steps.push(bridge(conf));
    steps.push(match &conf.uplink {
        None => format!(
            "no uplink: containers on {} reach each other and the node, nothing outside",
            conf.bridge
        ),
        Some(uplink) => join(conf, uplink),
    });
    if conf.flags.promisc {
        steps.push(format!(
            "bridge {} is promiscuous until its last user goes (promiscMode)",
            conf.bridge
        ));
    }
    steps
}

fn bridge(conf: &Conf) -> String {
    let name = &conf.bridge;
    let made = "made if it is not there, with net.ipv6.conf.BRIDGE.accept_ra = 0, and removed \
                with its last port"
        .replace("BRIDGE", name.as_str());
    if conf.filters() {
        return format!(
            "bridge {name}, which keeps VLANs apart (vlan_filtering 1, and vlan_default_pvid 0 if \
             it is made): {made}; refused if it is there and does \
             not filter (one that ADD made and that has no port yet is switched on), or has the \
             spanning tree protocol on"
        );
    }
    let apart = match conf
        .uplink
        .as_ref()
        .and_then(|uplink| uplink.lower.as_ref())
    {
        Some(lower) => format!("for VLAN {} alone", lower.vlan),
        None => "without VLANs".into(),
    };
    format!(
        "bridge {name}, {apart}: {made}; refused if it is there and filters VLANs as one of \
         Berth's, or has the spanning tree protocol on"
    )
}

fn join(conf: &Conf, uplink: &Uplink) -> String {
    let name = &uplink.name;
    let port = match uplink.mode {
        UplinkMode::Verify => format!(
            "uplink {name} must be a port of {} already (uplinkMode verify), and up, else \
             refused",
            conf.bridge
        ),
        UplinkMode::Ensure if uplink.lower.is_some() => {
            format!("uplink {name} is made a port of {}", conf.bridge)
        }
        UplinkMode::Ensure => format!(
            "uplink {name} is made a port of {} if it is bare (no address, nothing on top, no \
             master), else refused; released with the last port",
            conf.bridge
        ),
    };
    if !conf.filters() {
        return port;
    }
    let vlans = VlanRange::list(&conf.vlans());
    format!(
        "{port}; VLAN {vlans} is let through it where missing, and taken off with its last user"
    )
}
