//! Interrupts: where they may arrive, where they do, who handles them
//! (Documentation/core-api/irq/irq-affinity.rst, Documentation/ABI/testing/sysfs-kernel-irq),
//! and what the vectors of a network card's function are for.
//!
//! The files in `/proc/irq/N` appear when a driver first asks for the interrupt, which
//! network drivers do when the interface is first set up; they stay when it goes down.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::error::{AbsentIsFine, Error, Result};
use crate::{CpuSet, Root, cpu, file};

mod vectors;

pub use vectors::{Role, Vector, vectors};

#[cfg(test)]
mod tests;

/// An interrupt, by the kernel's number of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Irq(pub u32);

impl fmt::Display for Irq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Every interrupt that has, or had, a handler, in order of number.
///
/// # Errors
/// When `/proc/irq` cannot be listed.
pub fn all(root: &Root) -> Result<Vec<Irq>> {
    let names = file::names(&root.proc.join("irq"))?;
    let mut irqs: Vec<Irq> = names
        .iter()
        .filter_map(|name| name.parse().ok().map(Irq))
        .collect();
    irqs.sort_unstable();
    Ok(irqs)
}

/// Whether the interrupt has, or had, a handler: there is `/proc/irq/N`, so that its
/// affinity can be read and set.
pub fn exists(root: &Root, irq: Irq) -> bool {
    proc(root, irq, "").exists()
}

/// The CPUs the interrupt may arrive at: `smp_affinity_list`. Also those of a change
/// that takes effect with the next interrupt.
///
/// # Errors
/// When the interrupt never had a handler ([`Kind::NotFound`](crate::Kind::NotFound)),
/// or the file cannot be read.
pub fn affinity(root: &Root, irq: Irq) -> Result<CpuSet> {
    file::parse(&proc(root, irq, "smp_affinity_list"))
}

/// Lets the interrupt arrive at `cpus` only; the kernel chooses one of them. Nothing is
/// written when it is so already; what was written is read back. Takes effect with the
/// next interrupt.
///
/// # Errors
/// When `cpus` has no online CPU (EINVAL), the interrupt never had a handler
/// ([`Kind::NotFound`](crate::Kind::NotFound)), the kernel itself manages it or its
/// controller cannot move it (EIO, EPERM), a CPU has no room for another interrupt
/// (ENOSPC), or the kernel keeps other CPUs.
pub fn set_affinity(root: &Root, irq: Irq, cpus: &CpuSet) -> Result<()> {
    let path = proc(root, irq, "smp_affinity_list");
    let op = || format!("write CPUs \"{cpus}\" to");
    if affinity(root, irq)? == *cpus {
        return Ok(());
    }
    if cpus.is_empty() {
        // An empty write would not reach the kernel's code.
        let error = Error::errno(op(), path.display(), Errno::EINVAL);
        return Err(error.because(Some("an interrupt needs a CPU".to_owned())));
    }
    file::write(&path, &cpus.to_string()).map_err(|mut error| {
        let reason = error.errno.and_then(|errno| refusal(root, errno, cpus));
        error.op = op();
        error.because(reason)
    })?;
    let after = affinity(root, irq)?;
    if after == *cpus {
        return Ok(());
    }
    let reason = format!("the kernel keeps \"{after}\"");
    Err(Error::malformed(op(), path.display(), reason))
}

/// The CPU the interrupt does arrive at: `effective_affinity_list`. After a change it
/// is still the old one until the next interrupt. `None` where the kernel or the
/// controller does not tell, or it was never placed.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn effective_affinity(root: &Root, irq: Irq) -> Result<Option<CpuSet>> {
    let cpus = file::parse(&proc(root, irq, "effective_affinity_list")).absent_is_fine()?;
    Ok(cpus.filter(|cpus: &CpuSet| !cpus.is_empty()))
}

/// The CPUs new interrupts may arrive at: `/proc/irq/default_smp_affinity`; see
/// [`initial_affinity`] for what one of them gets.
///
/// # Errors
/// When the file cannot be read.
pub fn default_affinity(root: &Root) -> Result<CpuSet> {
    let path = root.proc.join("irq/default_smp_affinity");
    let mask = file::read(&path)?;
    CpuSet::from_mask(&mask).map_err(|e| Error::malformed("read", path.display(), e.0))
}

/// Makes new interrupts arrive at `cpus` only; those that are there stay. Nothing is
/// written when it is so already; what was written is read back.
///
/// # Errors
/// When `cpus` has no online CPU (EINVAL), one the kernel cannot have, or the kernel
/// keeps other CPUs.
pub fn set_default_affinity(root: &Root, cpus: &CpuSet) -> Result<()> {
    let path = root.proc.join("irq/default_smp_affinity");
    let op = || format!("write CPUs \"{cpus}\" to");
    let malformed = |reason: String| Error::malformed(op(), path.display(), reason);
    // The kernel refuses more groups than it prints itself.
    let before = file::read(&path)?;
    if CpuSet::from_mask(&before).as_ref() == Ok(cpus) {
        return Ok(());
    }
    let groups = cpu::mask_groups(&before);
    let mask = cpus.to_mask(groups).map_err(|e| malformed(e.0))?;
    file::write(&path, &mask).map_err(|mut error| {
        let reason = error.errno.and_then(|errno| refusal(root, errno, cpus));
        error.op = op();
        error.because(reason)
    })?;
    let after = default_affinity(root)?;
    if after == *cpus {
        return Ok(());
    }
    Err(malformed(format!("the kernel keeps \"{after}\"")))
}

/// Where the kernel lets the interrupt arrive before anybody asked for anything else:
/// the CPUs of [`default_affinity`] that are online and, if there are any, on its
/// device's NUMA node (`irq_setup_affinity` in kernel/irq/manage.c). For an interrupt
/// that is to be as if it had never been placed.
///
/// # Errors
/// When the interrupt never had a handler, or the files cannot be read.
pub fn initial_affinity(root: &Root, irq: Irq) -> Result<CpuSet> {
    let online = cpu::online(root)?;
    let default = default_affinity(root)?.intersection(&online);
    let cpus = if default.is_empty() { online } else { default };
    let Some(node) = node(root, irq)? else {
        return Ok(cpus);
    };
    let near = cpu::of_node(root, node).absent_is_fine()?;
    let near = cpus.intersection(&near.unwrap_or_default());
    Ok(if near.is_empty() { cpus } else { near })
}

/// The names its handlers gave when they asked for it; none while there is no handler.
/// A network driver's name holds the interface's name of that moment, which need not be
/// its present one.
///
/// # Errors
/// When there is no such interrupt or the file cannot be read.
pub fn actions(root: &Root, irq: Irq) -> Result<Vec<String>> {
    let names = file::read(&sys(root, irq, "actions"))?;
    let names = names.split(',').filter(|name| !name.is_empty());
    Ok(names.map(str::to_owned).collect())
}

/// How often the interrupt arrived at each CPU the machine could have, since it exists.
///
/// # Errors
/// When there is no such interrupt, or the file cannot be read or does not fit the
/// machine's CPUs.
pub fn counts(root: &Root, irq: Irq) -> Result<BTreeMap<u32, u64>> {
    let path = sys(root, irq, "per_cpu_count");
    let text = file::read(&path)?;
    let malformed = |reason: String| Error::malformed("read", path.display(), reason);
    let counts: std::result::Result<Vec<u64>, _> = text.split(',').map(str::parse).collect();
    let counts = counts.map_err(|e| malformed(format!("{text:?}: {e}")))?;
    let cpus = cpu::possible(root)?;
    if counts.len() != cpus.len() {
        let reason = format!("{} counts for the CPUs {cpus}", counts.len());
        return Err(malformed(reason));
    }
    Ok(cpus.iter().zip(counts).collect())
}

/// The NUMA node of the device that raises it; `None` where the kernel does not know.
///
/// # Errors
/// When the interrupt never had a handler, or the file cannot be read.
pub fn node(root: &Root, irq: Irq) -> Result<Option<u32>> {
    let node: i64 = file::parse(&proc(root, irq, "node"))?;
    Ok(u32::try_from(node).ok())
}

/// What the controller calls it; for MSI it ascends with the device's vectors.
pub(crate) fn hardware_number(root: &Root, irq: Irq) -> Result<u64> {
    file::parse(&sys(root, irq, "hwirq"))
}

/// What the errno of a refused affinity means, if more than it says.
fn refusal(root: &Root, errno: Errno, cpus: &CpuSet) -> Option<String> {
    match errno {
        // EIO up to Linux 6.11, EPERM since.
        Errno::EIO | Errno::EPERM => Some(
            "the kernel places this interrupt itself (a managed interrupt), or its controller \
             cannot move it"
                .to_owned(),
        ),
        Errno::EINVAL => {
            let online = cpu::online(root).ok()?;
            let none = cpus.intersection(&online).is_empty();
            none.then(|| format!("none of these CPUs is online; online are {online}"))
        }
        Errno::ERANGE | Errno::EOVERFLOW => {
            let possible = cpu::possible(root).ok()?;
            Some(format!(
                "this kernel can have no other CPUs than {possible}"
            ))
        }
        Errno::ENOSPC => Some("these CPUs have no room for another interrupt".to_owned()),
        _ => None,
    }
}

fn proc(root: &Root, irq: Irq, name: &str) -> PathBuf {
    root.proc.join(format!("irq/{irq}/{name}"))
}

fn sys(root: &Root, irq: Irq, name: &str) -> PathBuf {
    root.sys.join(format!("kernel/irq/{irq}/{name}"))
}
