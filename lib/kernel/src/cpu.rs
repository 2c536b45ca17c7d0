//! Sets of logical CPUs in the kernel's two notations (list and mask), and which
//! CPUs the node has.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{AbsentIsFine, Error, Result};
use crate::names::Invalid;
use crate::{Root, file};

mod topology;

pub use topology::{Core, Socket, Topology, cores, topology};

#[cfg(test)]
mod tests;

/// One more than the highest CPU number any kernel can be built for (`NR_CPUS` in
/// arch/x86/Kconfig and arch/powerpc); parsing refuses larger ones, so that a typing
/// error cannot ask for four thousand million entries.
pub const MAX_CPUS: u32 = 8192;

/// Bits per group of the mask notation (`CHUNKSZ` in the kernel's lib/bitmap-str.c).
const GROUP: u32 = 32;

/// A set of logical CPUs.
///
/// Its text form is the kernel's list format, `0-3,8`, where the empty text is the
/// empty set (Documentation/admin-guide/cputopology.rst).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuSet(BTreeSet<u32>);

impl CpuSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether `cpu` is in the set.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// Adds `cpu`; true if it was not there before.
    pub fn insert(&mut self, cpu: u32) -> bool {
        self.0.insert(cpu)
    }

    /// Removes `cpu`; true if it was there.
    pub fn remove(&mut self, cpu: u32) -> bool {
        self.0.remove(&cpu)
    }

    /// How many CPUs are in the set.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no CPU is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The CPUs in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// The lowest CPU.
    pub fn first(&self) -> Option<u32> {
        self.0.first().copied()
    }

    /// The highest CPU.
    pub fn last(&self) -> Option<u32> {
        self.0.last().copied()
    }

    /// Whether every CPU of this set is in `other`; the empty set is in every set.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    /// The CPUs in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(&self.0 & &other.0)
    }

    /// The CPUs in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(&self.0 | &other.0)
    }

    /// The CPUs of this set that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self(&self.0 - &other.0)
    }

    /// The mask notation of `rps_cpus`, `xps_cpus` and `smp_affinity`: `groups` words
    /// of eight hex digits joined by commas, the highest CPUs first.
    ///
    /// The kernel refuses more groups than it uses itself (EOVERFLOW), so `groups` is
    /// what [`mask_groups`] counts in the file as read.
    ///
    /// # Errors
    /// When a CPU does not fit into so many groups.
    pub fn to_mask(&self, groups: usize) -> std::result::Result<String, Invalid> {
        let mut words = vec![0_u32; groups];
        for cpu in self.iter() {
            let word = usize::try_from(cpu / GROUP)
                .ok()
                .and_then(|i| words.get_mut(i))
                .ok_or_else(|| {
                    Invalid(format!(
                        "CPU {cpu} does not fit into a mask of {groups} groups of {GROUP} CPUs"
                    ))
                })?;
            *word |= 1 << (cpu % GROUP);
        }
        let words: Vec<String> = words.iter().rev().map(|w| format!("{w:08x}")).collect();
        Ok(words.join(","))
    }

    /// The set a mask like `3` or `0000000f,00000000` stands for; white space around
    /// it is ignored.
    ///
    /// # Errors
    /// When a group is empty, longer than eight digits or not hexadecimal, or there
    /// are more groups than [`MAX_CPUS`] needs.
    pub fn from_mask(mask: &str) -> std::result::Result<Self, Invalid> {
        let invalid = || Invalid(format!("{mask:?} is not a CPU mask like ff,0000000f"));
        let mut set = Self::new();
        let mut base = 0;
        for group in mask.trim().rsplit(',') {
            let digits = (1..=8).contains(&group.len());
            if base >= MAX_CPUS || !digits || !group.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(invalid());
            }
            let Ok(word) = u32::from_str_radix(group, 16) else {
                return Err(invalid());
            };
            let bits = (0..GROUP).filter(|bit| word & (1 << bit) != 0);
            set.0.extend(bits.map(|bit| base + bit));
            base += GROUP;
        }
        Ok(set)
    }
}

/// How many groups a mask read from the kernel has.
pub fn mask_groups(mask: &str) -> usize {
    mask.trim().split(',').count()
}

impl FromStr for CpuSet {
    type Err = Invalid;

    fn from_str(text: &str) -> std::result::Result<Self, Invalid> {
        let text = text.trim();
        let mut set = Self::new();
        if text.is_empty() {
            return Ok(set);
        }
        for part in text.split(',') {
            let (first, last) = range(part.trim())
                .map_err(|why| Invalid(format!("{text:?} is not a CPU list like 0-3,8: {why}")))?;
            set.0.extend(first..=last);
        }
        Ok(set)
    }
}

/// One member of a list: `8` or `0-3`.
fn range(part: &str) -> std::result::Result<(u32, u32), String> {
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let cpu: Option<u32> = if plain { digits.parse().ok() } else { None };
        match cpu {
            Some(cpu) if cpu < MAX_CPUS => Ok(cpu),
            _ if plain => Err(format!("CPU {digits} is not below {MAX_CPUS}")),
            _ => Err(format!("{part:?} is neither a number nor a range")),
        }
    };
    let Some((first, last)) = part.split_once('-') else {
        return number(part).map(|cpu| (cpu, cpu));
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!("the range {part} goes backwards"));
    }
    Ok((first, last))
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut cpus = self.iter().peekable();
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if(|next| *next == last + 1) {
                last = next;
            }
            write!(f, "{separator}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl Extend<u32> for CpuSet {
    fn extend<I: IntoIterator<Item = u32>>(&mut self, cpus: I) {
        self.0.extend(cpus);
    }
}

impl TryFrom<String> for CpuSet {
    type Error = Invalid;

    fn try_from(text: String) -> std::result::Result<Self, Invalid> {
        text.parse()
    }
}

impl From<CpuSet> for String {
    fn from(set: CpuSet) -> String {
        set.to_string()
    }
}

/// The CPUs that run now: `devices/system/cpu/online`.
///
/// # Errors
/// When the file cannot be read.
pub fn online(root: &Root) -> Result<CpuSet> {
    file::parse(&root.sys.join("devices/system/cpu/online"))
}

/// The CPUs that could ever be plugged in; masks have room for these:
/// `devices/system/cpu/possible`.
///
/// # Errors
/// When the file cannot be read.
pub fn possible(root: &Root) -> Result<CpuSet> {
    file::parse(&root.sys.join("devices/system/cpu/possible"))
}

/// The CPUs the boot parameters `isolcpus=` and `nohz_full=` keep away from general
/// work: `devices/system/cpu/{isolated,nohz_full}`. RPS cannot use them.
///
/// # Errors
/// When a file that is there cannot be read.
pub fn isolated(root: &Root) -> Result<CpuSet> {
    isolated_by(|name| file::read(&root.sys.join(name)))
}

/// [`isolated`] through a reader of sysfs files.
pub(crate) fn isolated_by(read: impl Fn(&str) -> Result<String>) -> Result<CpuSet> {
    let mut set = CpuSet::new();
    for name in [
        "devices/system/cpu/isolated",
        "devices/system/cpu/nohz_full",
    ] {
        match read(name).absent_is_fine()? {
            // Without the boot parameter nohz_full prints a null pointer.
            Some(text) if text != "(null)" => {
                let more: CpuSet = text
                    .parse()
                    .map_err(|e: Invalid| Error::malformed("read", name, e.0))?;
                set = set.union(&more);
            }
            _ => {}
        }
    }
    Ok(set)
}

/// The CPUs of a NUMA node: `devices/system/node/nodeN/cpulist`. A kernel without
/// NUMA has no such files; there node 0 is every online CPU.
///
/// # Errors
/// When the node does not exist or the file cannot be read.
pub fn of_node(root: &Root, node: u32) -> Result<CpuSet> {
    let nodes = root.sys.join("devices/system/node");
    if node == 0 && !nodes.exists() {
        return online(root);
    }
    file::parse(&nodes.join(format!("node{node}/cpulist")))
}

/// The NUMA nodes that are online: `devices/system/node/online`; only 0 on a kernel
/// without NUMA.
///
/// # Errors
/// When the file cannot be read.
pub fn nodes(root: &Root) -> Result<Vec<u32>> {
    // Node lists have the format of CPU lists.
    let list: Option<CpuSet> =
        file::parse(&root.sys.join("devices/system/node/online")).absent_is_fine()?;
    Ok(list.map_or_else(|| vec![0], |list| list.iter().collect()))
}

/// The CPUs near a device: those of its NUMA node. A device without one (`None`) is
/// near every CPU where there is one node only, and near none in particular (`None`)
/// where there are several.
///
/// # Errors
/// When the node's files cannot be read.
pub fn local_to(root: &Root, node: Option<u32>) -> Result<Option<CpuSet>> {
    match (node, nodes(root)?.as_slice()) {
        (Some(node), _) | (None, &[node]) => of_node(root, node).map(Some),
        (None, _) => Ok(None),
    }
}

/// The CPUs that share a physical core with `cpu`, itself included:
/// `devices/system/cpu/cpuN/topology/thread_siblings_list`.
///
/// # Errors
/// When `cpu` does not exist or is offline (the kernel then has no such file).
pub fn siblings(root: &Root, cpu: u32) -> Result<CpuSet> {
    let name = format!("devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    file::parse(&root.sys.join(name))
}
