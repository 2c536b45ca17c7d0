//! The memory controller: limits in bytes, what is used, and what for.

use nix::errno::Errno;

use super::{Cgroup, Limit};
use crate::error::Result;

#[cfg(test)]
mod tests;

/// What memory is used for, in bytes; a kind that this kernel does not count is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    /// Of processes, not backed by files.
    pub anon: u64,
    /// Page cache, tmpfs and shared memory included.
    pub file: u64,
    /// tmpfs and shared memory: not given back without swap.
    pub shmem: u64,
    /// Page cache that has to be written before it can be given back.
    pub file_dirty: u64,
    /// Page cache being written.
    pub file_writeback: u64,
    /// Kernel objects that can be given back, such as dentries and inodes.
    pub slab_reclaimable: u64,
    /// Kernel objects that cannot.
    pub slab_unreclaimable: u64,
    /// Stacks of threads in the kernel.
    pub kernel_stack: u64,
    /// Page tables.
    pub pagetables: u64,
    /// Page tables of virtual machines and devices.
    pub sec_pagetables: u64,
    /// Per-CPU data of the kernel.
    pub percpu: u64,
    /// Buffers of sockets.
    pub sock: u64,
    /// Memory mapped by the kernel.
    pub vmalloc: u64,
    /// Locked and otherwise not evictable, part of the others.
    pub unevictable: u64,
}

impl Stat {
    /// The kernel's memory that no reclaim gives back, in bytes. `vmalloc` is left out:
    /// where stacks are mapped, they are in it too.
    pub fn kernel_unreclaimable(&self) -> u64 {
        [
            self.slab_unreclaimable,
            self.kernel_stack,
            self.pagetables,
            self.sec_pagetables,
            self.percpu,
            self.sock,
        ]
        .iter()
        .fold(0, |sum: u64, part| sum.saturating_add(*part))
    }
}

/// How often limits were met, in this cgroup and those below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Events {
    /// Reclaimed although below `memory.low`.
    pub low: u64,
    /// Throttled and reclaimed at `memory.high`.
    pub high: u64,
    /// About to exceed `memory.max`.
    pub max: u64,
    /// An allocation was about to fail.
    pub oom: u64,
    /// Processes killed for memory.
    pub oom_kill: u64,
}

/// The limit that the kernel makes of `limit`: whole pages, rounding down, and `max`
/// for what it cannot count.
pub fn settled(limit: Limit) -> Limit {
    let page = procfs::page_size().max(1);
    let most = i64::MAX.unsigned_abs() / page;
    match limit {
        Limit::At(bytes) if bytes / page < most => Limit::At(bytes / page * page),
        _ => Limit::Max,
    }
}

/// `memory.max`: the limit that kills when reclaim does not help.
///
/// # Errors
/// When the cgroup is gone or has no memory controller.
pub fn max(group: &Cgroup) -> Result<Limit> {
    group.value("memory.max")
}

/// Sets `memory.max`. Below what is used the kernel reclaims, and **kills processes**
/// when that is not enough: lower `memory.high` first and look at [`current`].
///
/// # Errors
/// As [`max`], or when the file reads otherwise afterwards.
pub fn set_max(group: &Cgroup, limit: Limit) -> Result<()> {
    set(group, "memory.max", limit)
}

/// `memory.high`: above it processes are slowed and reclaimed from.
///
/// # Errors
/// As [`max`].
pub fn high(group: &Cgroup) -> Result<Limit> {
    group.value("memory.high")
}

/// Sets `memory.high`. Below what is used the write itself reclaims and may take long.
///
/// # Errors
/// As [`set_max`].
pub fn set_high(group: &Cgroup, limit: Limit) -> Result<()> {
    set(group, "memory.high", limit)
}

/// `memory.swap.max`: how much swap may be used.
///
/// # Errors
/// As [`max`], or without swap accounting.
pub fn swap_max(group: &Cgroup) -> Result<Limit> {
    group.value("memory.swap.max")
}

/// `memory.current`: bytes used, page cache included, with those below.
///
/// # Errors
/// As [`max`].
pub fn current(group: &Cgroup) -> Result<u64> {
    group.value("memory.current")
}

/// `memory.peak`: the most that was ever used.
///
/// # Errors
/// As [`max`], or before Linux 5.19.
pub fn peak(group: &Cgroup) -> Result<u64> {
    group.value("memory.peak")
}

/// `memory.swap.current`: bytes swapped out.
///
/// # Errors
/// As [`swap_max`].
pub fn swap_current(group: &Cgroup) -> Result<u64> {
    group.value("memory.swap.current")
}

/// `memory.stat`.
///
/// # Errors
/// As [`max`].
pub fn stat(group: &Cgroup) -> Result<Stat> {
    let stat = group.keyed("memory.stat")?;
    Ok(Stat {
        anon: stat.get("anon"),
        file: stat.get("file"),
        shmem: stat.get("shmem"),
        file_dirty: stat.get("file_dirty"),
        file_writeback: stat.get("file_writeback"),
        slab_reclaimable: stat.get("slab_reclaimable"),
        slab_unreclaimable: stat.get("slab_unreclaimable"),
        kernel_stack: stat.get("kernel_stack"),
        pagetables: stat.get("pagetables"),
        sec_pagetables: stat.get("sec_pagetables"),
        percpu: stat.get("percpu"),
        sock: stat.get("sock"),
        vmalloc: stat.get("vmalloc"),
        unevictable: stat.get("unevictable"),
    })
}

/// `memory.events`.
///
/// # Errors
/// As [`max`].
pub fn events(group: &Cgroup) -> Result<Events> {
    let events = group.keyed("memory.events")?;
    Ok(Events {
        low: events.get("low"),
        high: events.get("high"),
        max: events.get("max"),
        oom: events.get("oom"),
        oom_kill: events.get("oom_kill"),
    })
}

/// Takes so many bytes back from the cgroup; false when less could be freed (EAGAIN).
///
/// # Errors
/// As [`max`], or before Linux 5.19.
pub fn reclaim(group: &Cgroup, bytes: u64) -> Result<bool> {
    match group.write("memory.reclaim", &bytes.to_string(), &[]) {
        Err(error) if error.errno == Some(Errno::EAGAIN) => Ok(false),
        other => other.map(|()| true),
    }
}

fn set(group: &Cgroup, name: &str, limit: Limit) -> Result<()> {
    let wish = limit.to_string();
    group.write(name, &wish, &[])?;
    let live: Limit = group.value(name)?;
    if live == settled(limit) {
        Ok(())
    } else {
        Err(group.not_so(name, &wish, &format!("it reads {live}")))
    }
}
