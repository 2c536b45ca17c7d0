//! Which CPUs work for the VF: channels, RPS and XPS before it moves, its interrupts
//! after it is up, for they exist from then on only.

use berth_cni::error::{CniError, code};
use berth_cni::steering::Cpus;
use berth_cni::steps::Steps;
use berth_kernel::cpu::{self, Core, CpuSet};
use berth_kernel::error::AbsentIsFine;
use berth_kernel::ethtool::{self, ChannelCounts, Ethtool};
use berth_kernel::irq::{self, Irq};
use berth_kernel::netlink::Link;
use berth_kernel::placement::vf::{Steer, VfWish, channels, place_irqs, steer};
use berth_kernel::placement::{Auto, AutoInput, auto_cpus};
use berth_kernel::sysfs::queues::NetSysfs;
use berth_kernel::{IfName, Kind, Root};
use berth_state::undo::Undo;
use berth_state::vf;

use crate::add;
use crate::conf::{self, Channels};
use crate::node::Node;

/// The container's own CPUs, if it is pinned to some of the node's.
pub fn pinned(cpus: &AutoInput) -> Option<CpuSet> {
    match auto_cpus(cpus) {
        Auto::Container(own) => Some(own),
        Auto::Local(_) | Auto::Nothing(_) => None,
    }
}

/// What was read about the machine for one VF, and what is wished for it.
pub struct Plan<'a> {
    wish: &'a conf::Work,
    cpus: AutoInput,
    cores: Vec<Core>,
    node: Option<u32>,
    isolated: CpuSet,
    turn: u32,
}

impl<'a> Plan<'a> {
    /// Reads what the choice of CPUs needs.
    pub fn of(
        root: &Root,
        wish: &'a conf::Work,
        cpus: &AutoInput,
        work: &add::Work,
    ) -> Result<Self, CniError> {
        let node = work.taken.vf.numa_node;
        let mut cpus = cpus.clone();
        cpus.numa_local = cpu::local_to(root, node)?;
        Ok(Self {
            wish,
            cpus,
            cores: cpu::cores(root)?,
            node,
            isolated: cpu::isolated(root)?,
            turn: work.host.index,
        })
    }

    fn vf_wish(&self) -> VfWish<'_> {
        VfWish {
            cpus: &self.cpus,
            cores: &self.cores,
            node: self.node,
            isolated: self.isolated.clone(),
            turn: self.turn,
            irq: self.wish.irq.clone(),
            placement: self.wish.placement,
            rps: steer_of(&self.wish.rps.cpus),
            xps: steer_of(&self.wish.xps),
        }
    }

    /// Sets channels, RPS and XPS in the host's namespace, where sysfs shows the VF; they
    /// survive the move. Channels come first: they make new queues.
    pub fn queues(
        &self,
        node: &Node,
        link: Link,
        work: &mut add::Work,
        undo: &mut Undo,
    ) -> Result<Link, CniError> {
        self.channels(&link.name, work, undo)?;
        let link = vf::present(&node.root, &node.net, work.host.vf)?;
        let sysfs = NetSysfs::at(&node.root)?;
        let (rx, tx) = (sysfs.rx_queues(&link.name)?, sysfs.tx_queues(&link.name)?);
        let plan = steer(&self.vf_wish(), rx.len(), tx.len());
        for note in &plan.notes {
            log::info!("{note}");
        }
        for (queue, cpus) in rx.iter().zip(&plan.rps) {
            let Some(cpus) = cpus else { continue };
            undo.covered(format!("RPS of queue {queue}"), || {
                self.set_rps(&sysfs, &link.name, *queue, cpus)
            })?;
        }
        for (queue, cpus) in tx.iter().zip(&plan.xps) {
            let Some(cpus) = cpus else { continue };
            undo.covered(format!("XPS of queue {queue}"), || {
                sysfs.set_xps_cpus(&link.name, *queue, cpus)
            })?;
        }
        let set = &mut work.host.set;
        let flows = self.wish.rps.flow_entries;
        set.rps_flow_cnt = (flows > 0 && plan.rps.iter().any(Option::is_some)).then_some(flows);
        (set.rps, set.xps) = (plan.rps, plan.xps);
        Ok(link)
    }

    fn set_rps(
        &self,
        sysfs: &NetSysfs,
        link: &IfName,
        queue: u32,
        cpus: &CpuSet,
    ) -> Result<(), CniError> {
        sysfs.set_rps_cpus(link, queue, cpus)?;
        if self.wish.rps.flow_entries > 0 {
            sysfs.set_rps_flow_cnt(link, queue, self.wish.rps.flow_entries)?;
        }
        Ok(())
    }

    fn channels(
        &self,
        link: &IfName,
        work: &mut add::Work,
        undo: &mut Undo,
    ) -> Result<(), CniError> {
        if self.wish.channels == Channels::Keep {
            return Ok(());
        }
        let ethtool = Ethtool::open()?;
        let now = ethtool.channels(link)?;
        let Some((count, now)) = self.channel_count(now.as_ref(), &work.host.driver)? else {
            return Ok(());
        };
        let wish = ChannelCounts {
            combined: count,
            ..now.current
        };
        undo.covered(format!("{count} channels"), || {
            ethtool.set_channels(link, wish)
        })?;
        work.host.set.channels = Some(count);
        Ok(())
    }

    /// How many channels to set, if other than there are.
    fn channel_count<'c>(
        &self,
        now: Option<&'c ethtool::Channels>,
        driver: &str,
    ) -> Result<Option<(u32, &'c ethtool::Channels)>, CniError> {
        let count = match (self.wish.channels, now) {
            (Channels::Count(count), None) => return Err(fixed_channels(driver, count)),
            (Channels::Count(count), Some(_)) => Some(count),
            (Channels::Auto, Some(now)) => channels(&self.vf_wish(), now.current.combined),
            (Channels::Auto, None) | (Channels::Keep, _) => None,
        };
        let changed = count.zip(now);
        let changed = changed.filter(|(count, now)| *count != now.current.combined);
        match changed {
            Some((count, now)) if count > now.max.combined => {
                let msg = format!(
                    "invalid configuration: channels = {count}: the VF has {} at most",
                    now.max.combined
                );
                Err(CniError::new(code::CONFIG, msg)
                    .details("lower \"channels\", or \"auto\" for one per core of the container"))
            }
            other => Ok(other),
        }
    }

    /// Pins the interrupts. What they were goes to the record first: the pin outlives
    /// the container.
    pub fn pin(&self, node: &Node, work: &mut add::Work, undo: &mut Undo) -> Result<(), CniError> {
        let root = &node.root;
        let vectors = irq::vectors(root, work.host.vf)?;
        let plan = place_irqs(&self.vf_wish(), &vectors);
        for note in &plan.notes {
            log::info!("{note}");
        }
        if plan.irqs.is_empty() {
            return Ok(());
        }
        for (irq, _) in &plan.irqs {
            if let Some(before) = irq::affinity(root, *irq).absent_is_fine()? {
                work.host.irqs.insert(irq.0, before);
            }
        }
        undo.covered("record of the interrupts' CPUs", || work.note(node))?;
        for (irq, cpu) in plan.irqs {
            undo.covered(format!("CPU of interrupt {irq}"), || {
                pin_one(root, work, irq, cpu)
            })?;
        }
        Ok(())
    }
}

/// An interrupt the kernel manages itself cannot be moved; that is said and borne.
fn pin_one(root: &Root, work: &mut add::Work, irq: Irq, cpu: u32) -> Result<(), CniError> {
    let wish: CpuSet = [cpu].into_iter().collect();
    match irq::set_affinity(root, irq, &wish) {
        Ok(()) => {
            work.host.set.irqs.insert(irq.0, wish);
            Ok(())
        }
        Err(error)
            if matches!(
                error.kind(),
                Kind::Denied | Kind::NotFound | Kind::Refused | Kind::Malformed
            ) =>
        {
            log::warn!("interrupt {irq} stays where it is: {error}");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn steer_of(cpus: &Cpus) -> Steer {
    match cpus {
        Cpus::Auto => Steer::Auto,
        Cpus::List(cpus) => Steer::List(cpus.clone()),
        Cpus::Off => Steer::Off,
    }
}

fn fixed_channels(driver: &str, count: u32) -> CniError {
    let msg = format!("channels = {count}: driver {driver} cannot change the VF's channels");
    CniError::new(code::CONFIG, msg).details("leave \"channels\" out")
}

#[cfg(test)]
mod tests;
