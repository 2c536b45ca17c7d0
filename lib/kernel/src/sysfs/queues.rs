//! Receive and transmit queues of a network device: RPS, RFS and XPS
//! (Documentation/networking/scaling.rst), and the device's NUMA node.

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use super::mount;
use crate::cpu::{self, CpuSet};
use crate::error::{AbsentIsFine, Error, Result};
use crate::file;
use crate::names::IfName;
use crate::{NetNs, Root};

#[cfg(test)]
mod tests;

/// The network devices of one namespace in sysfs. Usable from any thread, also
/// outside the namespace, for as long as it lives.
#[derive(Debug)]
pub struct NetSysfs {
    dir: OwnedFd,
    place: Place,
}

/// What an error calls the tree.
#[derive(Debug)]
enum Place {
    Namespace(PathBuf),
    Tree(PathBuf),
}

/// A queue's direction, as its directory is called.
#[derive(Debug, Clone, Copy)]
enum Way {
    Rx,
    Tx,
}

impl NetSysfs {
    /// The devices of namespace `ns`, through a sysfs mounted nowhere.
    ///
    /// # Errors
    /// When the namespace cannot be entered or sysfs not mounted: both need
    /// `CAP_SYS_ADMIN`.
    pub fn of(ns: &NetNs) -> Result<Self> {
        let dir = ns
            .run(mount::sysfs_here)?
            .map_err(|e| Error::errno("mount sysfs of namespace", ns.path().display(), e))?;
        let place = Place::Namespace(ns.path().to_owned());
        Ok(Self { dir, place })
    }

    /// The devices that the tree at `root.sys` shows: on a host, those of the
    /// namespace it was booted with.
    ///
    /// # Errors
    /// When the tree is not there.
    pub fn at(root: &Root) -> Result<Self> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = open(&root.sys, flags, Mode::empty())
            .map_err(|e| Error::errno("open", root.sys.display(), e))?;
        let place = Place::Tree(root.sys.clone());
        Ok(Self { dir, place })
    }

    /// The numbers of the receive queues of `dev`, ascending.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn rx_queues(&self, dev: &IfName) -> Result<Vec<u32>> {
        self.queues(dev, Way::Rx)
    }

    /// The numbers of the transmit queues of `dev`, ascending.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn tx_queues(&self, dev: &IfName) -> Result<Vec<u32>> {
        self.queues(dev, Way::Tx)
    }

    /// The CPUs that share the packets of receive queue `queue`; empty: RPS is off.
    ///
    /// # Errors
    /// When there is no such queue, or the kernel has no RPS.
    pub fn rps_cpus(&self, dev: &IfName, queue: u32) -> Result<CpuSet> {
        self.cpus(&queue_file(dev, Way::Rx, queue, "rps_cpus"))
    }

    /// Makes `cpus` share the packets of receive queue `queue`; empty: RPS off.
    /// Nothing is written when it is so already; what was written is read back.
    ///
    /// # Errors
    /// When there is no such queue, or the kernel refuses or drops a CPU: it allows
    /// neither those it cannot have nor those isolated at boot.
    pub fn set_rps_cpus(&self, dev: &IfName, queue: u32, cpus: &CpuSet) -> Result<()> {
        self.set_cpus(&queue_file(dev, Way::Rx, queue, "rps_cpus"), cpus)
    }

    /// How many flows RFS remembers for receive queue `queue`; 0: RFS is off.
    ///
    /// # Errors
    /// When there is no such queue, or the kernel has no RPS.
    pub fn rps_flow_cnt(&self, dev: &IfName, queue: u32) -> Result<u32> {
        self.number(&queue_file(dev, Way::Rx, queue, "rps_flow_cnt"))
    }

    /// Makes RFS remember `flows` flows for receive queue `queue`, which the kernel
    /// rounds up to a power of two; 0: RFS off. Nothing is written when it is so
    /// already; what was written is read back.
    ///
    /// # Errors
    /// When there is no such queue or the kernel refuses the number.
    pub fn set_rps_flow_cnt(&self, dev: &IfName, queue: u32, flows: u32) -> Result<()> {
        let path = queue_file(dev, Way::Rx, queue, "rps_flow_cnt");
        let rounded = rounded_flows(flows);
        if Some(self.number(&path)?) == rounded {
            return Ok(());
        }
        self.write(&path, &flows.to_string())?;
        let now = self.number(&path)?;
        if Some(now) == rounded {
            return Ok(());
        }
        Err(self.kept(&path, flows, now))
    }

    /// The CPUs that send through transmit queue `queue`; empty: no XPS.
    ///
    /// # Errors
    /// When there is no such queue, the kernel has no XPS, or the device has one
    /// transmit queue only (ENOENT, as the file is there and cannot be read).
    pub fn xps_cpus(&self, dev: &IfName, queue: u32) -> Result<CpuSet> {
        self.cpus(&queue_file(dev, Way::Tx, queue, "xps_cpus"))
            .map_err(one_queue_only)
    }

    /// Makes `cpus` send through transmit queue `queue`. Nothing is written when it
    /// is so already; what was written is read back.
    ///
    /// # Errors
    /// As [`Self::xps_cpus`], and when the kernel refuses or drops a CPU.
    pub fn set_xps_cpus(&self, dev: &IfName, queue: u32, cpus: &CpuSet) -> Result<()> {
        self.set_cpus(&queue_file(dev, Way::Tx, queue, "xps_cpus"), cpus)
            .map_err(one_queue_only)
    }

    /// Whether the MAC of `dev` is the one its device came with: neither drawn by the
    /// driver nor set by anybody (`addr_assign_type`). A VF comes with the one that was
    /// set at its PF.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn mac_is_permanent(&self, dev: &IfName) -> Result<bool> {
        let kind: u8 = self.number(&format!("class/net/{dev}/addr_assign_type"))?;
        Ok(kind == 0)
    }

    /// The NUMA node of the device behind `dev`; `None` for a virtual device and
    /// where the firmware names none (-1).
    ///
    /// # Errors
    /// When there is no such device.
    pub fn numa_node(&self, dev: &IfName) -> Result<Option<u32>> {
        let device = format!("class/net/{dev}");
        self.open(&device, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        let node = self
            .read(&format!("{device}/device/numa_node"))
            .absent_is_fine()?;
        Ok(node.and_then(|node| node.parse().ok()))
    }

    fn queues(&self, dev: &IfName, way: Way) -> Result<Vec<u32>> {
        let path = format!("class/net/{dev}/queues");
        let dir = self.open(&path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        let list = |e| Error::errno("list", self.name(&path), e);
        let mut queues = Vec::new();
        for entry in Dir::from_fd(dir).map_err(list)? {
            let entry = entry.map_err(list)?;
            let name = entry.file_name().to_str().ok();
            let number = name.and_then(|name| name.strip_prefix(way.prefix()));
            queues.extend(number.and_then(|n| n.parse::<u32>().ok()));
        }
        queues.sort_unstable();
        Ok(queues)
    }

    fn cpus(&self, path: &str) -> Result<CpuSet> {
        let mask = self.read(path)?;
        CpuSet::from_mask(&mask).map_err(|e| Error::malformed("read", self.name(path), e.0))
    }

    /// Reads first: the kernel refuses more groups than it prints itself.
    fn set_cpus(&self, path: &str, wish: &CpuSet) -> Result<()> {
        let op = || format!("write CPUs \"{wish}\" to");
        let before = self.read(path)?;
        if CpuSet::from_mask(&before).as_ref() == Ok(wish) {
            return Ok(());
        }
        let mask = wish
            .to_mask(cpu::mask_groups(&before))
            .map_err(|e| Error::malformed(op(), self.name(path), e.0))?;
        self.write(path, &mask).map_err(|mut error| {
            let reason = error.errno.and_then(|errno| self.refusal(errno, wish));
            error.op = op();
            error.because(reason)
        })?;
        let after = self.cpus(path)?;
        if after == *wish {
            return Ok(());
        }
        let lost = self.why_lost(&wish.difference(&after));
        let reason = format!("the kernel keeps \"{after}\"{lost}");
        Err(Error::malformed(op(), self.name(path), reason))
    }

    /// What the errno of a refused mask means here, if more than it says.
    fn refusal(&self, errno: Errno, wish: &CpuSet) -> Option<String> {
        match errno {
            Errno::EINVAL => Some(self.why_lost(wish)).filter(|why| !why.is_empty()),
            Errno::EOVERFLOW => {
                let possible = self.read("devices/system/cpu/possible").ok()?;
                Some(format!(
                    "this kernel can have no other CPUs than {possible}"
                ))
            }
            _ => None,
        }
        .map(|why| why.trim_start_matches([':', ' ']).to_owned())
    }

    /// Why the kernel would drop `cpus` from a mask.
    fn why_lost(&self, cpus: &CpuSet) -> String {
        let isolated = cpu::isolated_by(|name| self.read(name)).unwrap_or_default();
        let online = self.read("devices/system/cpu/online");
        let online = online.ok().and_then(|list| list.parse().ok());
        why_lost(cpus, &isolated, online.as_ref())
    }

    /// The error of a number that was written and then read otherwise.
    pub(super) fn kept(
        &self,
        path: &str,
        wish: impl fmt::Display,
        now: impl fmt::Display,
    ) -> Error {
        let op = format!("write \"{wish}\" to");
        Error::malformed(op, self.name(path), format!("the kernel keeps {now}"))
    }

    pub(super) fn number<T: FromStr>(&self, path: &str) -> Result<T> {
        let text = self.read(path)?;
        text.parse().map_err(|_error| {
            Error::malformed("read", self.name(path), format!("{text:?} is not a number"))
        })
    }

    fn read(&self, path: &str) -> Result<String> {
        let file = self.open(path, OFlag::O_RDONLY)?;
        file::read_open(File::from(file), self.name(path))
    }

    /// The sysfs of a namespace may be read-only because its container's runtime
    /// mounted it so.
    pub(super) fn write(&self, path: &str, data: &str) -> Result<()> {
        let write = || {
            let file = self.open(path, OFlag::O_WRONLY)?;
            file::write_open(&File::from(file), data, self.name(path))
        };
        match (write(), &self.place) {
            (Err(error), Place::Namespace(_)) if error.errno == Some(Errno::EROFS) => {
                let _writable = mount::Writable::make(self.dir.as_fd())
                    .map_err(|e| Error::errno("make writable for", self.name(path), e))?;
                write()
            }
            (outcome, _) => outcome,
        }
    }

    /// `path` is made of checked names; sysfs holds no link that leaves it.
    fn open(&self, path: &str, flags: OFlag) -> Result<OwnedFd> {
        openat(&self.dir, path, flags | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|e| Error::errno("open", self.name(path), e))
    }

    fn name<'a>(&'a self, path: &'a str) -> impl fmt::Display + 'a {
        Name {
            place: &self.place,
            path,
        }
    }
}

/// A device with one transmit queue has the file, and reading it fails as if it were
/// absent.
fn one_queue_only(error: Error) -> Error {
    let reason = "the device has one transmit queue only, so there is nothing to choose";
    let applies = error.op == "read" && error.errno == Some(Errno::ENOENT);
    error.because(applies.then(|| reason.to_owned()))
}

/// `None` when no power of two is large enough.
fn rounded_flows(flows: u32) -> Option<u32> {
    if flows == 0 {
        Some(0)
    } else {
        flows.checked_next_power_of_two()
    }
}

/// Empty if neither isolation nor absence explains it.
fn why_lost(cpus: &CpuSet, isolated: &CpuSet, online: Option<&CpuSet>) -> String {
    let kept_off = cpus.intersection(isolated);
    let offline = online
        .map(|online| cpus.difference(online))
        .unwrap_or_default();
    let mut why = String::new();
    if !kept_off.is_empty() {
        why += &format!(
            ": the boot parameters isolcpus= or nohz_full= keep packet work off CPU {kept_off}; \
             place the interrupts there instead, or choose other CPUs"
        );
    }
    if !offline.is_empty() {
        why += &format!(": CPU {offline} is offline");
    }
    why
}

impl Way {
    fn prefix(self) -> &'static str {
        match self {
            Self::Rx => "rx-",
            Self::Tx => "tx-",
        }
    }
}

fn queue_file(dev: &IfName, way: Way, queue: u32, name: &str) -> String {
    let prefix = way.prefix();
    format!("class/net/{dev}/queues/{prefix}{queue}/{name}")
}

/// A file as the user knows it.
struct Name<'a> {
    place: &'a Place,
    path: &'a str,
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Namespace(ns) => write!(f, "{} of namespace {}", self.path, ns.display()),
            Place::Tree(sys) => sys.join(Path::new(self.path)).display().fmt(f),
        }
    }
}
