//! A VF of which nobody knows what it was, made as one that nobody has configured.

use berth_kernel::netlink::Net;
use berth_kernel::pci::{self, Device};
use berth_kernel::{PciAddr, Root};

use super::difference::{Difference, Field, side_differences};
use super::restore::Restored;
use super::side::{self, PfSide};
use super::{driver, free};
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
    if let Some(in_use) = userspace(root, vf, &mut restored) {
        restored.differs.push(in_use);
        return restored;
    }
    if let Err(error) = defaults(root, (locks, key), vf, &mut restored) {
        restored.failed.push(error);
    }
    // The mark on the interface goes with it: until the PF's side is done, that is how a
    // later try knows that there is something to do.
    if restored.failed.is_empty()
        && let Err(error) = driver::anew(root, vf)
    {
        restored.failed.push(error.to_string());
    }
    restored
}

/// A driver that has given the VF to a program since: nobody takes it from that.
fn userspace(root: &Root, vf: PciAddr, restored: &mut Restored) -> Option<Difference> {
    let bound = match Device::new(root, vf).driver() {
        Ok(bound) => bound.filter(|driver| free::is_userspace(driver))?,
        Err(error) => {
            restored.failed.push(error.to_string());
            return None;
        }
    };
    Some(Difference {
        field: Field::Driver,
        was: "one for a network device".to_owned(),
        is: bound,
        why: Some("somebody has bound it since, and may use it".to_owned()),
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    const VF: &str = "0000:01:10.2";

    /// A VF with or without a driver, and where a driver is looked for.
    fn tree(driver: Option<&str>) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        let vf = root.sys.join("bus/pci/devices").join(VF);
        fs::create_dir_all(vf.join("net")).unwrap();
        fs::write(root.sys.join("bus/pci/drivers_probe"), "").unwrap();
        if let Some(driver) = driver {
            symlink(format!("../../drivers/{driver}"), vf.join("driver")).unwrap();
        }
        (dir, root)
    }

    #[test]
    fn a_vf_that_a_program_has_is_not_taken_from_it() {
        let (_dir, root) = tree(Some("vfio-pci"));
        let key = "blue/c1:net1".parse().unwrap();
        let vf = VF.parse().unwrap();
        let restored = neutral(&root, &Locks::new(&root), &key, vf);
        assert_eq!(restored.failed, Vec::<String>::new());
        let [difference] = &restored.differs[..] else {
            panic!("{restored:?}");
        };
        assert_eq!(difference.field, Field::Driver);
        assert!(difference.to_string().contains("vfio-pci"), "{difference}");
    }

    #[test]
    fn without_a_driver_the_kernel_is_asked_for_one() {
        let (_dir, root) = tree(None);
        let error = driver::anew(&root, VF.parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("bind one"), "{error}");
        let probed = fs::read_to_string(root.sys.join("bus/pci/drivers_probe"));
        assert_eq!(probed.unwrap(), VF);
    }
}
