//! PFs and VFs as the kernel shows and changes them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use berth_kernel::netlink::{LinkEvents, Net, VfChange};
use berth_kernel::pci::{self, Device, PhysicalFunction, Resize, VirtualFunction};
use berth_kernel::{IfName, Kind, MacAddr, PciAddr, Root};
use berth_state::lock::{Guard, WAIT};
use berth_state::vf::free::{self, Verdict};
use berth_state::{Key, LockName, Locks};

use super::apply::Hardware;
use super::decide::{Pf, Vf};
use crate::cli::PfName;

/// How long a PF's carrier may take: ports negotiate for some seconds.
const CARRIER: Duration = Duration::from_secs(10);
/// How long all VFs together may take to get a driver, which may have to be loaded by
/// udev first, and its network device.
const DRIVERS: Duration = Duration::from_secs(10);
/// Pause between two tries to bind a driver that is not loaded yet.
const RETRY: Duration = Duration::from_millis(50);

/// The node's own hardware.
#[derive(Debug)]
pub(super) struct Kernel {
    root: Root,
    net: Net,
    /// The network device by which each PF is known.
    names: RefCell<BTreeMap<PciAddr, IfName>>,
    /// What keeps others away.
    held: RefCell<BTreeMap<LockName, Guard>>,
    /// What is left of [`DRIVERS`].
    patience: Cell<Duration>,
}

impl Kernel {
    /// The hardware `root` shows, and the links of the caller's namespace.
    pub(super) fn open(root: &Root) -> Result<Self> {
        Ok(Self {
            root: root.clone(),
            net: Net::open()?,
            names: RefCell::default(),
            held: RefCell::default(),
            patience: Cell::new(DRIVERS),
        })
    }

    /// The PF that is meant, once it is known to be one that can be worked with.
    pub(super) fn find(&self, named: &PfName) -> Result<PciAddr> {
        let found = match named {
            PfName::Link(name) => match pci::physical_function_of(&self.root, name) {
                Err(error) if error.kind() == Kind::NotFound => {
                    bail!("there is no interface {name} here; ip -br link lists those there are")
                }
                other => other?,
            },
            PfName::Address(address) => pci::physical_function(&self.root, *address)?,
        };
        let is_network = |pf: &PhysicalFunction| pf.is_network;
        let Some(pf) = found.filter(is_network) else {
            bail!(
                "{named} is no physical function of a network card; berth doctor --area sriov \
                 lists those there are"
            );
        };
        let address = pf.address;
        if pf.driver.is_none() {
            bail!(
                "no driver is bound to {address}; load it: modprobe $(cat \
                 /sys/bus/pci/devices/{address}/modalias)"
            );
        }
        let name = match (named, pf.netdevs.as_slice()) {
            (PfName::Link(name), _) | (PfName::Address(_), [name]) => name.clone(),
            (_, []) => bail!("{address} has no network device in this namespace; run this there"),
            (_, several) => {
                let names: Vec<&str> = several.iter().map(IfName::as_str).collect();
                bail!("{address} is {}; name one of them", names.join(" and "))
            }
        };
        self.names.borrow_mut().insert(address, name);
        Ok(address)
    }

    /// Keeps attachments from these PFs and all VFs they have, for as long as this
    /// lives. A VF that is claimed later waits for its lock before it is looked at.
    pub(super) fn lock(&self, pfs: impl Iterator<Item = PciAddr> + Clone) -> Result<()> {
        let locks = Locks::new(&self.root);
        let mut vfs = Vec::new();
        for pf in pfs.clone() {
            vfs.extend(self.function(pf)?.vfs.iter().map(|vf| vf.address));
        }
        vfs.sort_unstable();
        let names = vfs.into_iter().map(LockName::Vf);
        for name in names.chain(pfs.map(LockName::Pf)) {
            let guard = locks.acquire(&name, &holder()?, WAIT)?;
            self.held.borrow_mut().insert(name, guard);
        }
        Ok(())
    }

    fn function(&self, pf: PciAddr) -> Result<PhysicalFunction> {
        let found = pci::physical_function(&self.root, pf)?;
        found.with_context(|| format!("{pf} is gone, or no physical function any more"))
    }

    fn device(&self, address: PciAddr) -> Device {
        Device::new(&self.root, address)
    }

    fn index(&self, pf: &Pf) -> Result<u32> {
        Ok(self.net.link(&pf.name)?.index)
    }

    fn vf(
        &self,
        reader: &free::Reader<'_>,
        vf: &VirtualFunction,
        admin_mac: Option<MacAddr>,
    ) -> Result<Vf> {
        let netdev_mac = match vf.netdevs.as_slice() {
            [name] => self.net.find_link(name)?.and_then(|link| link.mac),
            _ => None,
        };
        Ok(Vf {
            index: vf.index,
            address: vf.address,
            driver: vf.driver.clone(),
            verdict: reader.verdict(vf)?,
            admin_mac,
            netdev_mac,
        })
    }

    /// Waits for the network device of a VF that has a driver: some make it a moment
    /// later. One that makes none is told by what is seen afterwards.
    fn wait_netdev(&self, vf: PciAddr) -> Result<()> {
        let device = self.device(vf);
        if device.driver()?.is_none() {
            return Ok(());
        }
        let start = Instant::now();
        let waited = device.netdevs_within(self.patience.get());
        self.spend(start);
        match waited {
            Err(error) if error.kind() != Kind::TryAgain => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn spend(&self, since: Instant) {
        let left = self.patience.get().saturating_sub(since.elapsed());
        self.patience.set(left);
    }
}

/// Who holds the locks, for others to see.
fn holder() -> Result<Key> {
    Ok(Key::new("berth", "bootstrap", "vfs".parse()?)?)
}

impl Hardware for Kernel {
    fn see(&self, pf: PciAddr) -> Result<Pf> {
        let function = self.function(pf)?;
        let known = self.names.borrow().get(&pf).cloned();
        let name = known.with_context(|| format!("PF {pf} has not been looked up"))?;
        let link = self.net.link(&name)?;
        let sides = self.net.vfs(link.index)?;
        let reader = free::Reader::new(&self.root, &self.net)?;
        let mut vfs = Vec::new();
        for vf in &function.vfs {
            let side = sides.iter().find(|side| side.index == vf.index);
            vfs.push(self.vf(&reader, vf, side.and_then(|side| side.mac))?);
        }
        Ok(Pf {
            address: pf,
            name,
            up: link.up,
            mtu: link.mtu,
            permanent_mac: link.permanent_mac,
            total_vfs: function.total_vfs,
            autoprobe: self.device(pf).autoprobe()?,
            vfs,
        })
    }

    fn set_up(&self, pf: &Pf, up: bool) -> Result<()> {
        let index = self.index(pf)?;
        let set = match up {
            true => self.net.set_up(index),
            false => self.net.set_down(index),
        };
        Ok(set?)
    }

    fn set_mtu(&self, pf: &Pf, mtu: u32) -> Result<()> {
        Ok(self.net.set_mtu(self.index(pf)?, mtu)?)
    }

    fn wait_carrier(&self, pf: &Pf) -> Result<bool> {
        let mut events = LinkEvents::open()?;
        Ok(events.wait_running(&self.net, self.index(pf)?, CARRIER)?)
    }

    fn set_count(&self, pf: &Pf, count: u32) -> Result<()> {
        let device = self.device(pf.address);
        device.set_num_vfs(count, Resize::ThroughZero)?;
        for vf in self.function(pf.address)?.vfs {
            self.wait_netdev(vf.address)?;
        }
        Ok(())
    }

    fn set_mac(&self, pf: &Pf, vf: u32, mac: MacAddr) -> Result<()> {
        let index = self.index(pf)?;
        Ok(self.net.set_vf(index, vf, VfChange::Mac(mac))?)
    }

    fn bind(&self, vf: PciAddr) -> Result<()> {
        let device = self.device(vf);
        let start = Instant::now();
        device.probe()?;
        while device.driver()?.is_none() && start.elapsed() < self.patience.get() {
            std::thread::sleep(RETRY);
            device.probe()?;
        }
        self.spend(start);
        self.wait_netdev(vf)
    }

    fn unbind(&self, vf: PciAddr) -> Result<()> {
        Ok(self.device(vf).unbind()?)
    }

    fn rebind(&self, vf: PciAddr) -> Result<()> {
        let device = self.device(vf);
        if device.driver()?.is_some() {
            device.rebind(DRIVERS)?;
        }
        Ok(())
    }

    fn hold(&self, vf: PciAddr) -> Result<bool> {
        let name = LockName::Vf(vf);
        if !self.held.borrow().contains_key(&name) {
            // A VF made by this run, so a lock out of order: never waited for.
            let taken = Locks::new(&self.root).acquire(&name, &holder()?, Duration::ZERO);
            match taken {
                Ok(guard) => self.held.borrow_mut().insert(name, guard),
                Err(error) if error.kind() == berth_state::error::Kind::LockBusy => {
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            };
        }
        let Some((_, function)) = pci::virtual_function(&self.root, vf)? else {
            bail!("VF {vf} is gone");
        };
        let reader = free::Reader::new(&self.root, &self.net)?;
        Ok(match reader.verdict(&function)? {
            Verdict::Free(_) => true,
            Verdict::Busy(reasons) => !reasons.iter().any(free::Reason::is_use),
        })
    }
}
