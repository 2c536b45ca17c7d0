//! A VF's driver, bound again: what a driver does not do for an interface it has, and
//! what brings an interface home from wherever it is.

use std::time::Duration;

use berth_kernel::pci::Device;
use berth_kernel::{Error, PciAddr, Result, Root};
use nix::errno::Errno;

/// How long a driver may take to make its interface.
const INTERFACE: Duration = Duration::from_secs(10);

/// Binds the VF's driver anew; its new interface is at home. Killed half-way it leaves
/// no driver, which [`ensure`] makes good.
pub(super) fn rebind(root: &Root, vf: PciAddr) -> Result<()> {
    let device = Device::new(root, vf);
    let driver = device.driver()?.ok_or_else(|| {
        let reason = "no driver is bound: bind the one it should have".to_owned();
        Error::errno("rebind VF", vf, Errno::ENODEV).because(Some(reason))
    })?;
    device.unbind()?;
    ensure(root, vf, &driver)
}

/// The same for a VF of which nobody knows what driver it had: if none is bound, because
/// this was killed half-way before, the kernel chooses one.
pub(super) fn anew(root: &Root, vf: PciAddr) -> Result<()> {
    let device = Device::new(root, vf);
    if device.driver()?.is_some() {
        return rebind(root, vf);
    }
    device.probe()?;
    if device.driver()?.is_none() {
        let reason = "none is bound, and the kernel knows none that takes it by itself: bind one";
        return Err(
            Error::errno("find a driver of VF", vf, Errno::ENODEV).because(Some(reason.to_owned()))
        );
    }
    device.netdevs_within(INTERFACE).map(drop)
}

/// Binds `driver` if it is not bound, and waits for its interface if it did so.
pub(super) fn ensure(root: &Root, vf: PciAddr, driver: &str) -> Result<()> {
    let device = Device::new(root, vf);
    if device.driver()?.as_deref() == Some(driver) {
        return Ok(());
    }
    bind(&device, driver)?;
    device.netdevs_within(INTERFACE).map(drop)
}

/// A VF whose PF has `sriov_drivers_autoprobe` off takes no driver but the one it is
/// told to take.
fn bind(device: &Device, driver: &str) -> Result<()> {
    let refused = match device.bind(driver) {
        Err(error) if error.errno == Some(Errno::ENODEV) && device.exists() => error,
        other => return other,
    };
    if device.driver_override()?.is_some() {
        return Err(refused);
    }
    device.set_driver_override(Some(driver))?;
    let bound = device.bind(driver);
    device.set_driver_override(None)?;
    bound
}
