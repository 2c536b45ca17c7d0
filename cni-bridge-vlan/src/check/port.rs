//! The port as a link, and what it was told to do with frames.

use std::collections::BTreeSet;

use berth_cni::check::Drift;
use berth_cni::error::CniError;
use berth_kernel::VlanId;
use berth_kernel::netlink::FdbEntry;

use super::Seen;
use crate::frames::Filter;
use crate::port::Membership;
use crate::{bridge, plan};

/// Alias, master, state and MTU.
pub(super) fn link_drift(seen: &Seen<'_>, drift: &mut Drift) {
    let (port, bridge) = (&seen.port, &seen.bridge);
    let name = &port.name;
    drift.unless(
        port.alias.as_deref() == Some(&seen.node.key().alias()),
        || format!("port {name} has lost its alias"),
    );
    drift.unless(port.master == Some(bridge.index), || {
        format!("port {name} is not on bridge {}", bridge.name)
    });
    drift.unless(port.up, || format!("port {name} is down"));
    drift.unless(bridge.up, || format!("bridge {} is down", bridge.name));
    let filter = Filter {
        trunk: !seen.host.trunk.is_empty(),
        bpdus: seen.host.rules.bpdus,
    };
    let group = filter.group();
    drift.unless(port.group == group || !seen.host.rules.tags, || {
        format!(
            "port {name} is in group {}, was in {group}: what it sends is filtered otherwise",
            port.group
        )
    });
    let mtu = seen.record.container.mtu.unwrap_or(port.mtu);
    drift.unless(port.mtu == mtu, || {
        format!("mtu of port {name} is {}, was set to {mtu}", port.mtu)
    });
}

/// The settings of a port that is on its bridge.
pub(super) fn flag_drift(seen: &Seen<'_>, drift: &mut Drift) {
    let (name, wish) = (&seen.port.name, seen.host.flags);
    let lock = wish.locked && !seen.host.rules.senders;
    let live = seen.port.port.unwrap_or_default();
    for (what, live, wish) in [
        ("hairpin", live.hairpin, wish.hairpin),
        ("isolated", live.isolated, wish.isolated),
        ("locked", live.locked.unwrap_or_default(), lock),
        ("learning", live.learning, !wish.locked),
        ("flood", live.flood, !wish.locked),
    ] {
        drift.unless(live == wish, || {
            format!(
                "{what} of port {name} is {}, was {}",
                word(live),
                word(wish)
            )
        });
    }
    drift.unless(seen.bridge.promisc || !wish.promisc, || {
        format!("bridge {} is not promiscuous any more", seen.bridge.name)
    });
}

/// The one address a locked port takes frames from.
pub(super) fn address_drift(seen: &Seen<'_>, drift: &mut Drift) -> Result<(), CniError> {
    let (name, host) = (&seen.port.name, seen.host);
    let Some(mac) = seen.record.container.mac.filter(|_| host.flags.locked) else {
        return Ok(());
    };
    let known = seen.node.net.fdb(seen.port.index)?;
    let wish = Membership::of(host);
    let vlans: Vec<_> = match wish.is_plain() {
        true => vec![None],
        false => wish.entries().iter().map(|entry| Some(entry.vid)).collect(),
    };
    let is_pinned = |vlan: &Option<VlanId>| {
        let own = |entry: &&FdbEntry| entry.fixed && entry.mac == mac;
        known.iter().filter(own).any(|entry| entry.vlan == *vlan)
    };
    let pinned = vlans.iter().all(is_pinned);
    drift.unless(pinned, || {
        format!("port {name} does not know {mac} any more: it drops what the container sends")
    });
    // In several VLANs one address is listed once for each.
    let others = known
        .iter()
        .filter(|entry| !entry.local && entry.mac != mac);
    let strangers: BTreeSet<String> = others.map(|entry| entry.mac.to_string()).collect();
    drift.unless(strangers.is_empty(), || {
        let all = Vec::from_iter(strangers).join(", ");
        format!("port {name} lets {all} pass beside {mac}")
    });
    Ok(())
}

/// Where the packet filter must not see the frames, it does not.
pub(super) fn filter_drift(seen: &Seen<'_>, drift: &mut Drift) -> Result<(), CniError> {
    if !seen.host.flags.unfiltered {
        return Ok(());
    }
    for key in bridge::packet_filters(&seen.node.root)? {
        drift.found(format!(
            "{key} is on: the packet filter sees the port's frames"
        ));
    }
    let own = seen.bridge.bridge.as_ref().map(plan::netfilter_of_bridge);
    for key in own.unwrap_or_default() {
        let name = &seen.bridge.name;
        drift.found(format!("{key} of bridge {name} is on"));
    }
    Ok(())
}

fn word(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}
