//! A network namespace seen through netlink, ethtool and sysfs at once, and the state
//! of one interface in it.

use std::collections::BTreeSet;
use std::time::Duration;

use berth_kernel::error::AbsentIsFine;
use berth_kernel::ethtool::Ethtool;
use berth_kernel::netlink::{Link, Net};
use berth_kernel::pci::VirtualFunction;
use berth_kernel::{CpuSet, Error, IfName, NetNs, NetSysfs, Result, Root};

use super::baseline::{Baseline, Netdev, RxQueue};
use super::side::PfSide;

/// The ways to the interfaces of one namespace.
pub(super) struct View {
    pub(super) net: Net,
    pub(super) ethtool: Ethtool,
    pub(super) sysfs: NetSysfs,
}

impl View {
    /// The calling thread's namespace, which is the one `root.sys` shows.
    pub(super) fn home(root: &Root) -> Result<Self> {
        Ok(Self {
            net: Net::open()?,
            ethtool: Ethtool::open()?,
            sysfs: NetSysfs::at(root)?,
        })
    }

    /// A container's namespace.
    pub(super) fn inside(ns: &NetNs) -> Result<Self> {
        Ok(Self {
            net: Net::open_in(ns)?,
            ethtool: Ethtool::open_in(ns)?,
            sysfs: NetSysfs::of(ns)?,
        })
    }

    /// Everything of `link` that outlives a container, beside `side`, which is the
    /// PF's.
    pub(super) fn state(&self, link: &Link, side: PfSide) -> Result<Baseline> {
        let name = &link.name;
        let requested = self.ethtool.features(name)?.into_iter();
        let requested = requested.filter(|(_, feature)| feature.requested && feature.changeable);
        let own_mac = side.mac.is_some() && side.mac == link.mac;
        Ok(Baseline {
            side,
            own_mac: own_mac && !self.sysfs.mac_is_permanent(name)?,
            netdev: netdev(link)?,
            tuning: self.net.tuning(link.index)?,
            features: requested.map(|(name, _)| name).collect(),
            channels: self
                .ethtool
                .channels(name)?
                .map(|channels| channels.current),
            rings: self.ethtool.rings(name)?.map(|rings| rings.current),
            coalesce: self.ethtool.coalesce(name)?,
            rx: self.rx(name)?,
            tx: self.tx(name)?,
            gro_flush_timeout: nanoseconds(self.sysfs.gro_flush_timeout(name)?),
            napi_defer_hard_irqs: self.sysfs.napi_defer_hard_irqs(name)?,
        })
    }

    fn rx(&self, name: &IfName) -> Result<Vec<RxQueue>> {
        let queue = |queue| {
            // Absent in a kernel without RPS: then nobody can set it either.
            let cpus = self.sysfs.rps_cpus(name, queue).absent_is_fine()?;
            let flows = self.sysfs.rps_flow_cnt(name, queue).absent_is_fine()?;
            Ok(RxQueue {
                rps_cpus: cpus.unwrap_or_default(),
                rps_flow_cnt: flows.unwrap_or_default(),
            })
        };
        let queues = self.sysfs.rx_queues(name)?;
        queues.into_iter().map(queue).collect()
    }

    fn tx(&self, name: &IfName) -> Result<Vec<Option<CpuSet>>> {
        let queues = self.sysfs.tx_queues(name)?;
        let cpus = |queue| self.sysfs.xps_cpus(name, queue).absent_is_fine();
        queues.into_iter().map(cpus).collect()
    }
}

/// It was read as a number of 64 bits.
fn nanoseconds(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)
}

/// What the link itself tells.
pub(super) fn netdev(link: &Link) -> Result<Netdev> {
    let mac = link.mac.ok_or_else(|| {
        let reason = "it has no Ethernet address: only Ethernet VFs can be given to containers";
        Error::malformed("read", &link.name, reason)
    })?;
    Ok(Netdev {
        name: link.name.clone(),
        mac,
        mtu: link.mtu,
        up: link.up,
        tx_queue_len: link.tx_queue_len,
        group: link.group,
        promisc: link.promisc,
        allmulti: link.allmulti,
        alias: link.alias.clone(),
        altnames: link.altnames.iter().cloned().collect::<BTreeSet<_>>(),
    })
}

/// The state of a VF that is at home, to be brought back later: read before its first
/// change. `net` is of the host's namespace; `side` is what the PF says of the VF, which
/// the caller has asked already.
///
/// # Errors
/// When the VF has not exactly one interface here, or the kernel refuses.
pub fn capture(root: &Root, net: &Net, vf: &VirtualFunction, side: PfSide) -> Result<Baseline> {
    let [name] = vf.netdevs.as_slice() else {
        let reason = format!(
            "it has {} network interfaces in the host's namespace, not one",
            vf.netdevs.len()
        );
        return Err(Error::malformed("read VF", vf.address, reason));
    };
    let link = net.link(name)?;
    View::home(root)?.state(&link, side)
}
