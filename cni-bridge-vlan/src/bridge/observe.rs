//! What is read before deciding. Changes nothing.

use berth_cni::error::CniError;
use berth_kernel::error::AbsentIsFine;
use berth_kernel::netlink::{Link, Net};
use berth_kernel::{IfName, Root, sysctl};
use berth_state::bridge::BridgeRecord;

use crate::conf::{Conf, Uplink};
use crate::plan::{NETFILTER_SETTINGS, Observed, UplinkSeen};
use crate::port;

/// Single look-ups, no dump unless it must.
pub(super) fn observe(
    root: &Root,
    net: &Net,
    conf: &Conf,
    record: &BridgeRecord,
) -> Result<Observed, CniError> {
    let bridge = net.find_link(&conf.bridge)?;
    let unfiltered = |link: &&Link| link.bridge.as_ref().is_some_and(|b| !b.vlan_filtering);
    let ports = match bridge
        .as_ref()
        .filter(unfiltered)
        .filter(|_| conf.filters())
    {
        Some(link) => foreign_ports(net, link.index, record)?,
        None => Vec::new(),
    };
    let uplink = match &conf.uplink {
        Some(uplink) => observe_uplink(net, uplink)?,
        None => None,
    };
    let rival = match (&bridge, &uplink, &record.uplink) {
        (Some(bridge), Some(seen), Some(known)) if known.name != seen.link.name => {
            let link = net.find_link(&known.name)?;
            link.filter(|link| link.master == Some(bridge.index))
        }
        _ => None,
    };
    Ok(Observed {
        bridge,
        ports,
        filtering: match conf.flags.unfiltered {
            true => packet_filters(root)?,
            false => vec![],
        },
        uplink,
        rival: rival.map(|link| link.name),
    })
}

fn observe_uplink(net: &Net, uplink: &Uplink) -> Result<Option<UplinkSeen>, CniError> {
    let Some(link) = net.find_link(&uplink.name)? else {
        return Ok(None);
    };
    let master = match link.master {
        Some(index) => net.find_link_at(index)?.map(|master| master.name),
        None => None,
    };
    let vlans = match link.port {
        Some(_) => port::vlans_if_any(net, link.index)?,
        None => Vec::new(),
    };
    let addresses = net.addresses(link.index)?;
    let global = addresses.iter().filter(|address| address.is_global());
    let stacked = net.uppers_of(link.index)?;
    Ok(Some(UplinkSeen {
        master,
        vlans,
        addresses: global.map(|address| address.net.to_string()).collect(),
        stacked: stacked
            .into_iter()
            .filter_map(|l| l.vlan.map(|id| (l.name, id)))
            .collect(),
        link,
    }))
}

/// The uplink, if an ADD made it a port.
pub(super) fn own_uplink(record: &BridgeRecord) -> Option<&IfName> {
    let uplink = record.uplink.as_ref().filter(|uplink| uplink.enslaved);
    uplink.map(|uplink| &uplink.name)
}

/// Ports other than an uplink that an ADD made one.
fn foreign_ports(net: &Net, bridge: u32, record: &BridgeRecord) -> Result<Vec<Link>, CniError> {
    let own = own_uplink(record);
    let mut ports = net.ports_of(bridge)?;
    ports.retain(|port| Some(&port.name) != own);
    Ok(ports)
}

/// The settings that are on by which the packet filter sees what bridges forward; without
/// the module (br_netfilter) there are none.
pub fn packet_filters(root: &Root) -> Result<Vec<&'static str>, CniError> {
    let mut on = Vec::new();
    for key in NETFILTER_SETTINGS {
        if sysctl::get(root, key).absent_is_fine()?.as_deref() == Some("1") {
            on.push(key);
        }
    }
    Ok(on)
}
