//! A VF of which nobody knows what it was, made as one that nobody has configured.

use berth_kernel::netlink::Net;
use berth_kernel::pci::{self, Device};
use berth_kernel::{PciAddr, Root};

use super::difference::side_differences;
use super::driver;
use super::restore::Restored;
use super::side::{self, PfSide};
use crate::key::Key;
use crate::lock::{self, LockName, Locks};

/// Gives a VF the PF's defaults ([`PfSide::neutral`]) and binds its driver anew, which
/// brings its interface home with everything as the driver makes it. Takes the lock of
/// its PF in the name of `key`; the caller holds the VF's.
pub fn neutral(root: &Root, locks: &Locks, key: &Key, vf: PciAddr) -> Restored {
    let mut restored = Restored::default();
    if !Device::new(root, vf).exists() {
        restored.gone = true;
        return restored;
    }
    if let Err(error) = defaults(root, (locks, key), vf, &mut restored) {
        restored.failed.push(error);
    }
    if let Err(error) = driver::rebind(root, vf) {
        restored.failed.push(error.to_string());
    }
    restored
}

fn defaults(
    root: &Root,
    (locks, key): (&Locks, &Key),
    vf: PciAddr,
    restored: &mut Restored,
) -> Result<(), String> {
    let net = Net::open().map_err(text)?;
    let (pf, index) = pci::virtual_function(root, vf)
        .map_err(text)?
        .map(|(pf, vf)| (pf, vf.index))
        .ok_or_else(|| format!("{vf} is no VF of a PF here"))?;
    let lock = LockName::Pf(pf.address);
    let _lock = locks.acquire(&lock, key, lock::WAIT).map_err(text)?;
    let (link, now) = side::side(&net, &pf, index).map_err(text)?;
    let wish = PfSide::neutral(&now);
    for change in wish.changes_from(&now) {
        if let Err(error) = net.set_vf(link, index, change) {
            let message = format!("VF {vf} at PF {}: {error}", pf.address);
            restored.failed.push(message);
        }
    }
    let (_link, after) = side::side(&net, &pf, index).map_err(text)?;
    restored.differs = side_differences(&wish, &after);
    Ok(())
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
