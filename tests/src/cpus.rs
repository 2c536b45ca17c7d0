//! CPUs of the guest taken offline and brought back (Documentation/core-api/cpu_hotplug).

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::cgroup::numbers;

/// CPUs that are offline until this value is dropped.
#[derive(Debug, Default)]
pub struct Offline {
    cpus: Vec<u32>,
}

impl Offline {
    /// Takes one more offline.
    pub fn take(&mut self, cpu: u32) -> Result<()> {
        set(cpu, false)?;
        self.cpus.push(cpu);
        Ok(())
    }

    /// Brings all back.
    pub fn bring_back(&mut self) -> Result<()> {
        while let Some(cpu) = self.cpus.last().copied() {
            set(cpu, true)?;
            self.cpus.pop();
        }
        Ok(())
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        if let Err(error) = self.bring_back() {
            eprintln!("left offline: {error:#}");
        }
    }
}

/// The CPUs that are online.
pub fn online() -> Result<BTreeSet<u32>> {
    let path = "/sys/devices/system/cpu/online";
    numbers(&fs::read_to_string(path).with_context(|| format!("read {path}"))?)
}

/// The CPUs of a mask like `00000000,00000003`.
pub fn of_mask(mask: &str) -> BTreeSet<u32> {
    let digits = mask.chars().rev().filter_map(|c| c.to_digit(16));
    let places = (0u32..).zip(digits);
    let bits = places.flat_map(|(place, digit)| {
        (0..4).filter_map(move |bit| (digit >> bit & 1 == 1).then_some(place * 4 + bit))
    });
    bits.collect()
}

/// The CPUs of the core this one is a thread of.
pub fn threads_of_core(cpu: u32) -> Result<BTreeSet<u32>> {
    let path = cpu_dir(cpu).join("topology/thread_siblings_list");
    numbers(&fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?)
}

/// The NUMA node of a CPU.
pub fn node_of(cpu: u32) -> Result<u32> {
    let dir = cpu_dir(cpu);
    for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("node"));
        if let Some(Ok(node)) = number.map(str::parse) {
            return Ok(node);
        }
    }
    Ok(0)
}

fn set(cpu: u32, online: bool) -> Result<()> {
    let path = cpu_dir(cpu).join("online");
    let value = if online { "1" } else { "0" };
    fs::write(&path, value).with_context(|| format!("write {value} to {}", path.display()))
}

fn cpu_dir(cpu: u32) -> PathBuf {
    PathBuf::from(format!("/sys/devices/system/cpu/cpu{cpu}"))
}
