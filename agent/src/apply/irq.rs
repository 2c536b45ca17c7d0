//! Where interrupts arrive.

use std::time::Duration;

use berth_kernel::error::AbsentIsFine;
use berth_kernel::{CpuSet, Error, Irq, Kind, PciAddr, Result, Root, irq};
use berth_state::lock::Guard;
use berth_state::{Claims, Key, LockName, Locks};
use nix::errno::Errno;

use super::{Reach, Written};

/// How long an ADD or DEL of the VF may hold up a pass; the next one tries again.
const WAIT: Duration = Duration::from_millis(100);

/// The CPUs it may arrive at; `None` where the interrupt does not exist.
pub(super) fn read(root: &Root, number: u32) -> Result<Option<CpuSet>> {
    irq::affinity(root, Irq(number)).absent_is_fine()
}

/// The CPUs new ones may arrive at.
pub(super) fn read_default(root: &Root) -> Result<Option<CpuSet>> {
    irq::default_affinity(root).absent_is_fine()
}

/// Sets [`read_default`].
pub(super) fn write_default(root: &Root, cpus: &CpuSet) -> Result<Written> {
    irq::set_default_affinity(root, cpus).map(|()| Written::Done)
}

/// Sets [`read`]. An interrupt that refuses for good is remembered and not asked again;
/// one of an attachment's VF is moved only while the attachment has the VF, and under
/// its lock: what its DEL has put back stays so.
pub(super) fn write(root: &Root, number: u32, cpus: &CpuSet, reach: &mut Reach) -> Result<Written> {
    let held = match reach.owners.get(&number) {
        Some((vf, key)) => Some(hold(root, *vf, key)?),
        None => None,
    };
    let _guard = match held {
        Some(Err(why)) => return Ok(Written::Left(format!("interrupt {number}: {why}"))),
        Some(Ok(guard)) => Some(guard),
        None => None,
    };
    let names = irq::actions(root, Irq(number)).absent_is_fine()?;
    let names = names.unwrap_or_default();
    if let Some(why) = reach.fixed.why(number, &names) {
        return Ok(Written::Stays(number, why.to_owned()));
    }
    match irq::set_affinity(root, Irq(number), cpus) {
        Ok(()) => Ok(Written::Done),
        Err(error) if is_fixed(&error) => {
            let why = error.to_string();
            reach.fixed.learn(number, names, why.clone());
            Ok(Written::Stays(number, why))
        }
        Err(error) if is_for_now(&error) => {
            Ok(Written::Left(format!("interrupt {number}: {error}")))
        }
        Err(error) => Err(error),
    }
}

/// The VF's lock, if the attachment still has the VF; else why not.
fn hold(root: &Root, vf: PciAddr, key: &Key) -> Result<std::result::Result<Guard, String>> {
    let guard = match Locks::new(root).acquire(&LockName::Vf(vf), key, WAIT) {
        Ok(guard) => guard,
        Err(error) => return Ok(Err(format!("{error}; it is tried again"))),
    };
    let claims = Claims::new(root);
    match claims.load(vf) {
        Ok(Some(claim)) if claim.owner() == Some(key) => Ok(Ok(guard)),
        Ok(_) => Ok(Err(format!("VF {vf} is not {key}'s any more"))),
        Err(error) => Ok(Err(error.to_string())),
    }
}

/// The kernel or the controller places it: EIO up to Linux 6.11, EPERM since. A file
/// that cannot be opened says nothing of the interrupt.
fn is_fixed(error: &Error) -> bool {
    matches!(error.errno, Some(Errno::EIO | Errno::EPERM)) && error.op.starts_with("write")
}

/// It went meanwhile, its last move is not done yet, or its CPUs have no room for it.
fn is_for_now(error: &Error) -> bool {
    matches!(error.kind(), Kind::NotFound | Kind::TryAgain) || error.errno == Some(Errno::ENOSPC)
}
