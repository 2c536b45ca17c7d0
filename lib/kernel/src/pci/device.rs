//! One PCI device: its driver, its interrupts, its virtual functions as a number, and
//! the writes that change them.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{address_of, devices, driver, netdevs, numa_node};
use crate::error::{AbsentIsFine, Error, Result};
use crate::irq::{self, Irq};
use crate::names::{IfName, PciAddr};
use crate::{CpuSet, Root, file};

#[cfg(test)]
mod tests;

/// Pause between two looks for a network device that a driver makes a moment after it
/// is bound.
const LOOK: Duration = Duration::from_millis(5);

/// A PCI device, by its address: it need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    root: Root,
    address: PciAddr,
    dir: PathBuf,
}

/// Whether a change of the number of VFs may destroy those that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// Only from none: existing VFs are left alone, the change is refused.
    FromZero,
    /// Also from another number, which the kernel wants to be 0 in between: every VF
    /// vanishes, out of containers too.
    ThroughZero,
}

impl Device {
    /// The device at `address`.
    pub fn new(root: &Root, address: PciAddr) -> Self {
        Self {
            root: root.clone(),
            address,
            dir: devices(root).join(address.to_string()),
        }
    }

    /// Its address.
    pub fn address(&self) -> PciAddr {
        self.address
    }

    /// Whether it is plugged in.
    pub fn exists(&self) -> bool {
        self.dir.exists()
    }

    /// The bound driver's name; `None` where none is bound, or there is no device.
    ///
    /// # Errors
    /// When the link is there and cannot be read.
    pub fn driver(&self) -> Result<Option<String>> {
        driver(&self.dir)
    }

    /// The physical function it is a VF of; `None` if it is no VF, or gone.
    ///
    /// # Errors
    /// When the link is there and cannot be read.
    pub fn physfn(&self) -> Result<Option<PciAddr>> {
        address_of(&self.dir.join("physfn")).absent_is_fine()
    }

    /// Its network devices that are in the namespace of the sysfs mount.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn netdevs(&self) -> Result<Vec<IfName>> {
        netdevs(&self.dir)
    }

    /// The online CPUs near it (`local_cpulist`): all of them where the firmware does
    /// not say.
    ///
    /// # Errors
    /// When there is no such device or the file cannot be read.
    pub fn local_cpus(&self) -> Result<CpuSet> {
        file::parse(&self.dir.join("local_cpulist"))
    }

    /// Its NUMA node, if the firmware names one.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn numa_node(&self) -> Result<Option<u32>> {
        numa_node(&self.dir)
    }

    /// Its MSI or MSI-X interrupts in the order of the device's vectors (`msi_irqs`);
    /// visible also while its network device is in a container. None while no driver
    /// has asked for any.
    ///
    /// # Errors
    /// When they cannot be listed or ordered.
    pub fn msi_irqs(&self) -> Result<Vec<Irq>> {
        let names = file::names(&self.dir.join("msi_irqs")).absent_is_fine()?;
        let mut irqs = Vec::new();
        for name in names.unwrap_or_default() {
            let Ok(number) = name.parse() else { continue };
            // Interrupt numbers need not ascend with the vectors: the kernel reuses
            // them. Within one device hardware numbers do.
            let irq = Irq(number);
            irqs.push((irq::hardware_number(&self.root, irq)?, irq));
        }
        irqs.sort_unstable();
        Ok(irqs.into_iter().map(|(_hardware, irq)| irq).collect())
    }

    /// Takes the driver off; its network device vanishes, wherever it is. Nothing
    /// happens when none is bound. Returns when the driver is done.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn unbind(&self) -> Result<()> {
        if self.driver()?.is_none() {
            return Ok(());
        }
        file::write(&self.dir.join("driver/unbind"), &self.address.to_string())
    }

    /// Binds `driver`, which must be loaded and feel responsible for the device. Nothing
    /// happens when it is bound already. A new network device is in the first network
    /// namespace, with the driver's defaults (no RPS), interrupts at the default
    /// affinity, and may get another name from udev at any moment: find it by its PCI
    /// address.
    ///
    /// # Errors
    /// When another driver is bound, `driver` is not loaded, or it refuses the device.
    pub fn bind(&self, driver: &str) -> Result<()> {
        let op = || format!("bind driver {driver} to PCI device");
        match self.driver()? {
            Some(bound) if bound == driver => return Ok(()),
            Some(bound) => {
                let reason = format!("driver {bound} is bound: unbind that first");
                return Err(self.refuse(op(), Errno::EBUSY, reason));
            }
            None if !self.exists() => {
                return Err(Error::errno(op(), self.address, Errno::ENODEV));
            }
            None => {}
        }
        let dir = self.root.sys.join("bus/pci/drivers").join(driver);
        if !dir.exists() {
            let reason = format!("no such driver is loaded: modprobe {driver}");
            return Err(self.refuse(op(), Errno::ENOENT, reason));
        }
        file::write(&dir.join("bind"), &self.address.to_string()).map_err(|mut error| {
            let reason = error.errno.and_then(|errno| self.why_unbound(errno));
            error.op = op();
            error.object = self.address.to_string();
            error.because(reason)
        })
    }

    /// Has the kernel look for a driver among those that are loaded, as it does when a
    /// device appears (`drivers_probe`). Nothing happens when one is bound, when none
    /// takes the device, or when drivers are not bound to VFs of its PF by themselves
    /// ([`Self::autoprobe`]).
    ///
    /// # Errors
    /// When there is no such device or the kernel refuses.
    pub fn probe(&self) -> Result<()> {
        if self.driver()?.is_some() {
            return Ok(());
        }
        let path = self.root.sys.join("bus/pci/drivers_probe");
        file::write(&path, &self.address.to_string()).map_err(|mut error| {
            error.op = "look for a driver of PCI device".to_owned();
            error.object = self.address.to_string();
            error
        })
    }

    /// Takes the driver off, binds it again and waits at most `limit` for a network
    /// device, which some drivers make only when the PF has answered; gives what is
    /// there then, see [`Self::bind`] for what is lost.
    ///
    /// # Errors
    /// When no driver is bound, the kernel refuses, or no network device is seen in
    /// time (ETIMEDOUT).
    pub fn rebind(&self, limit: Duration) -> Result<Vec<IfName>> {
        let Some(driver) = self.driver()? else {
            let reason = "no driver is bound that could be bound again".to_owned();
            return Err(self.refuse("rebind", Errno::ENODEV, reason));
        };
        self.unbind()?;
        self.bind(&driver)?;
        self.netdevs_within(limit)
    }

    /// Waits at most `limit` for a network device of this device.
    ///
    /// # Errors
    /// When none is seen in time (ETIMEDOUT), or they cannot be listed.
    pub fn netdevs_within(&self, limit: Duration) -> Result<Vec<IfName>> {
        let end = Instant::now() + limit;
        loop {
            let netdevs = self.netdevs()?;
            if !netdevs.is_empty() {
                return Ok(netdevs);
            }
            if Instant::now() >= end {
                let reason = format!("none within {} ms", limit.as_millis());
                let op = "wait for the network device of PCI device";
                return Err(self.refuse(op, Errno::ETIMEDOUT, reason));
            }
            thread::sleep(LOOK);
        }
    }

    /// Whether the kernel knows a way to reset this device alone (`reset` is there).
    pub fn can_reset(&self) -> bool {
        self.dir.join("reset").exists()
    }

    /// Resets the device, for a VF by a function level reset. A bound driver is taken
    /// off before, so that it never works on a device it did not set up, and bound again
    /// after, also if the reset failed.
    ///
    /// # Errors
    /// When the device cannot be reset alone (EOPNOTSUPP) or the kernel refuses; the
    /// reset's own error, if the driver cannot be bound afterwards either.
    pub fn reset(&self) -> Result<()> {
        if !self.can_reset() {
            let reason = "the kernel knows no way to reset this device alone".to_owned();
            return Err(self.refuse("reset", Errno::EOPNOTSUPP, reason));
        }
        let driver = self.driver()?;
        self.unbind()?;
        let reset = file::write(&self.dir.join("reset"), "1");
        let bound = driver.map_or(Ok(()), |driver| self.bind(&driver));
        reset.and(bound)
    }

    /// Makes the physical function have `count` VFs; nothing happens when it has. Blocks
    /// for about a second with some drivers, which also lose carrier meanwhile. What was
    /// written is read back.
    ///
    /// # Errors
    /// When it cannot have so many (ERANGE), has some and `resize` does not allow to
    /// remove them (EBUSY), or the kernel refuses.
    pub fn set_num_vfs(&self, count: u32, resize: Resize) -> Result<()> {
        let op = || format!("write \"{count}\" to");
        let path = self.dir.join("sriov_numvfs");
        let refuse = |errno, reason: String| {
            Err(Error::errno(op(), path.display(), errno).because(Some(reason)))
        };
        let now: u32 = file::parse(&path)?;
        if now == count {
            return Ok(());
        }
        let total: u32 = file::parse(&self.dir.join("sriov_totalvfs"))?;
        if count > total {
            return refuse(
                Errno::ERANGE,
                format!("the device can have at most {total} VFs"),
            );
        }
        if now != 0 && count != 0 {
            if resize == Resize::FromZero {
                let reason = format!("it has {now} VFs, which would all have to go first");
                return refuse(Errno::EBUSY, reason);
            }
            file::write(&path, "0")?;
        }
        file::write(&path, &count.to_string())?;
        let after: u32 = file::parse(&path)?;
        if after == count {
            return Ok(());
        }
        let reason = format!("the kernel keeps {after}");
        Err(Error::malformed(op(), path.display(), reason))
    }

    /// Whether a driver is bound to new VFs of this physical function by itself
    /// (`sriov_drivers_autoprobe`). If not, [`Self::bind`] of such a VF fails as well.
    ///
    /// # Errors
    /// When the device is no physical function, or the file cannot be read.
    pub fn autoprobe(&self) -> Result<bool> {
        Ok(file::read(&self.dir.join("sriov_drivers_autoprobe"))? != "0")
    }

    /// Has drivers be bound to new VFs of this physical function by themselves, or not.
    ///
    /// # Errors
    /// As [`Self::autoprobe`], and when the kernel refuses.
    pub fn set_autoprobe(&self, on: bool) -> Result<()> {
        if self.autoprobe()? == on {
            return Ok(());
        }
        let path = self.dir.join("sriov_drivers_autoprobe");
        file::write(&path, if on { "1" } else { "0" })
    }

    /// The only driver the device may be bound to (`driver_override`), if one is named.
    ///
    /// # Errors
    /// When there is no such device or the file cannot be read.
    pub fn driver_override(&self) -> Result<Option<String>> {
        let text = file::read(&self.dir.join("driver_override"))?;
        Ok(Some(text).filter(|text| !text.is_empty() && text != "(null)"))
    }

    /// Names the only driver the device may be bound to, or takes the name back. What
    /// is bound stays so.
    ///
    /// # Errors
    /// When there is no such device or the kernel refuses.
    pub fn set_driver_override(&self, driver: Option<&str>) -> Result<()> {
        if self.driver_override()?.as_deref() == driver {
            return Ok(());
        }
        // An empty line clears; an empty write would not reach the kernel's code.
        let text = driver.unwrap_or("\n");
        file::write(&self.dir.join("driver_override"), text)
    }

    /// What the errno of a refused bind means here, if more than it says.
    fn why_unbound(&self, errno: Errno) -> Option<String> {
        if errno != Errno::ENODEV {
            return None;
        }
        let named = self.driver_override().ok().flatten();
        if let Some(named) = named {
            return Some(format!("its driver_override allows only {named}"));
        }
        let pf = self.physfn().ok().flatten();
        let off = pf.filter(|pf| Self::new(&self.root, *pf).autoprobe() == Ok(false));
        Some(off.map_or_else(
            || "the driver does not take this device".to_owned(),
            |pf| {
                format!(
                    "sriov_drivers_autoprobe of its PF {pf} is 0: write 1 there, or the driver's \
                     name into driver_override of the VF"
                )
            },
        ))
    }

    fn refuse(&self, op: impl Into<String>, errno: Errno, reason: String) -> Error {
        Error::errno(op, self.address, errno).because(Some(reason))
    }
}
