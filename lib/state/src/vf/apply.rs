//! One field of an interface that is at home, put back to its baseline.

use std::collections::BTreeMap;
use std::time::Duration;

use berth_kernel::Result;
use berth_kernel::netlink::{Link, Net};

use super::baseline::{Baseline, Netdev};
use super::difference::Field;
use super::view::View;

/// Puts a name back; nothing happens for a field that is no name.
pub(super) fn name(net: &Net, link: &Link, was: &Netdev, field: &Field) -> Result<()> {
    match field {
        Field::AltName(name) if was.altnames.contains(name) => net.add_altname(link.index, name),
        Field::AltName(name) => net.del_altname(link.index, name),
        Field::Name => {
            // Kernels before 6.2 want it down.
            if link.up {
                net.set_down(link.index)?;
            }
            net.rename(link.index, &was.name)
        }
        _ => Ok(()),
    }
}

/// Puts a setting back. Nothing happens for names, for the MAC, which takes more than
/// one message, for what nobody can set (a program in the way, the number of queues), and for the PF's side.
pub(super) fn field(view: &View, link: &Link, was: &Baseline, field: &Field) -> Result<()> {
    let (net, index, name) = (&view.net, link.index, &link.name);
    let own = &was.netdev;
    match field {
        Field::Promisc => net.set_promisc(index, own.promisc),
        Field::Allmulti => net.set_allmulti(index, own.allmulti),
        Field::Alias => net.set_alias(index, own.alias.as_deref().unwrap_or_default()),
        Field::Group => net.set_group(index, own.group),
        Field::Mtu => net.set_mtu(index, own.mtu),
        Field::TxQueueLen => net.set_tx_queue_len(index, own.tx_queue_len),
        Field::Tune(tune) => net.set_tuning(index, *tune),
        Field::Up if own.up => net.set_up(index),
        Field::Up => net.set_down(index),
        Field::Channels | Field::Rings | Field::Coalesce => hardware(view, link, was, field),
        Field::Feature(feature) => {
            let wish = BTreeMap::from([(feature.clone(), was.features.contains(feature))]);
            // Whether it came to be so, the comparison tells.
            view.ethtool.set_features(name, &wish).map(drop)
        }
        Field::GroFlushTimeout => {
            let timeout = Duration::from_nanos(was.gro_flush_timeout);
            view.sysfs.set_gro_flush_timeout(name, timeout)
        }
        Field::NapiDeferHardIrqs => {
            let times = was.napi_defer_hard_irqs;
            view.sysfs.set_napi_defer_hard_irqs(name, times)
        }
        Field::RpsCpus(_) | Field::RpsFlowCnt(_) | Field::XpsCpus(_) => {
            queue(view, link, was, field)
        }
        _ => Ok(()),
    }
}

/// What the driver keeps, as far as it reported it.
fn hardware(view: &View, link: &Link, was: &Baseline, field: &Field) -> Result<()> {
    match (field, was.channels, was.rings, was.coalesce) {
        (Field::Channels, Some(channels), ..) => view.ethtool.set_channels(&link.name, channels),
        (Field::Rings, _, Some(rings), _) => view.ethtool.set_rings(&link.name, rings),
        (Field::Coalesce, .., Some(coalesce)) => view.ethtool.set_coalesce(&link.name, coalesce),
        _ => Ok(()),
    }
}

fn queue(view: &View, link: &Link, was: &Baseline, field: &Field) -> Result<()> {
    let number = match field {
        Field::RpsCpus(queue) | Field::RpsFlowCnt(queue) | Field::XpsCpus(queue) => *queue,
        _ => return Ok(()),
    };
    let at = usize::try_from(number).unwrap_or(usize::MAX);
    let (sysfs, name) = (&view.sysfs, &link.name);
    match (field, was.rx.get(at), was.tx.get(at)) {
        (Field::RpsCpus(_), Some(rx), _) => sysfs.set_rps_cpus(name, number, &rx.rps_cpus),
        (Field::RpsFlowCnt(_), Some(rx), _) => {
            sysfs.set_rps_flow_cnt(name, number, rx.rps_flow_cnt)
        }
        (Field::XpsCpus(_), _, Some(Some(cpus))) => sysfs.set_xps_cpus(name, number, cpus),
        _ => Ok(()),
    }
}
