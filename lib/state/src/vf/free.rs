//! Whether a VF is free, and if not, why: read once by [`Reader`], decided by
//! [`Facts::verdict`]. Everything that hands out, lists or removes VFs asks here.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use berth_kernel::error::AbsentIsFine;
use berth_kernel::netlink::{Link, Net};
use berth_kernel::netns::{self, NetNs};
use berth_kernel::pci::VirtualFunction;
use berth_kernel::{IfName, PciAddr, Root};
use ipnetwork::IpNetwork;

use crate::claim::{Claim, Claims};
use crate::dirs;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::node::NodeFile;

/// Drivers that give a device to a program and make no network device of it.
const USERSPACE: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

pub(super) fn is_userspace(driver: &str) -> bool {
    USERSPACE.contains(&driver)
}

/// What decides whether a VF is free.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The bound driver's name.
    pub driver: Option<String>,
    /// Its network devices in the host's namespace.
    pub netdevs: Vec<IfName>,
    /// Its claim; one that cannot be read says why.
    pub claim: Option<std::result::Result<Claim, String>>,
    /// The bridge, bond or other master its network device is a port of.
    pub master: Option<String>,
    /// Devices that stand on its network device, such as VLANs; without the master.
    pub uppers: Vec<String>,
    /// Addresses of its network device that are valid everywhere.
    pub addresses: Vec<IpNetwork>,
    /// The living namespace the reference SR-IOV plugin gave it to.
    pub reference_owner: Option<PathBuf>,
    /// Whether `node.json` keeps it from attachments.
    pub reserved: bool,
}

/// Why a VF is not free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It belongs to an attachment.
    Claimed(Key),
    /// It could not be restored, for this reason.
    Quarantined(String),
    /// Its claim cannot be read, for this reason; a claim counts all the same.
    UnreadableClaim(String),
    /// `node.json` keeps it from attachments.
    Reserved,
    /// The reference SR-IOV plugin gave it to the namespace at this path.
    ReferenceOwner(PathBuf),
    /// No driver is bound to it.
    NoDriver,
    /// This driver gives it to a program and makes no network device.
    Userspace(String),
    /// A driver is bound, and the host's namespace has no network device of it: that
    /// is in a container, as a rule.
    NotHere,
    /// It has more than one network device.
    Several(Vec<IfName>),
    /// Its network device is a port of this device.
    Master(String),
    /// These devices stand on its network device.
    Uppers(Vec<String>),
    /// Its network device has these addresses: the host uses it.
    Addresses(Vec<IpNetwork>),
}

impl Reason {
    /// Whether waiting is of no use: somebody has to bind another driver, or the
    /// hardware is of a kind that cannot be handed out.
    pub fn is_unusable(&self) -> bool {
        matches!(self, Self::NoDriver | Self::Userspace(_) | Self::Several(_))
    }

    /// Whether somebody uses the VF or must be able to count on its being kept.
    /// A VF without driver or network device is not free, and nobody misses it.
    pub fn is_use(&self) -> bool {
        !matches!(self, Self::NoDriver | Self::Several(_) | Self::Reserved)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claimed(key) => write!(f, "claimed by {key}"),
            Self::Quarantined(reason) => write!(f, "in quarantine ({reason})"),
            Self::UnreadableClaim(reason) => write!(f, "its claim is unreadable: {reason}"),
            Self::Reserved => f.write_str("reserved in node.json"),
            Self::ReferenceOwner(path) => {
                write!(f, "another SR-IOV plugin gave it to {}", path.display())
            }
            Self::NoDriver => f.write_str("no driver is bound to it"),
            Self::Userspace(driver) => {
                write!(f, "driver {driver} keeps it for a program")
            }
            Self::NotHere => f.write_str("its network device is not in the host's namespace"),
            Self::Several(names) => write!(f, "it has several network devices ({})", join(names)),
            Self::Master(name) => write!(f, "it is a port of {name}"),
            Self::Uppers(names) => write!(f, "{} on top of it", join(names)),
            Self::Addresses(list) => write!(f, "the host uses it with address {}", join(list)),
        }
    }
}

fn join(items: &[impl fmt::Display]) -> String {
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may be handed out; this is its network device.
    Free(IfName),
    /// It may not: every reason, an owner first. Never empty.
    Busy(Vec<Reason>),
}

impl Facts {
    /// Free is a VF with a driver and exactly one network device, in the host's
    /// namespace, that has no claim, master, upper device, global address, owner by
    /// the reference plugin, and is not reserved.
    pub fn verdict(&self) -> Verdict {
        let mut reasons = self.owners();
        reasons.extend(self.device());
        match self.netdevs.as_slice() {
            [name] if reasons.is_empty() => Verdict::Free(name.clone()),
            _ => Verdict::Busy(reasons),
        }
    }

    fn owners(&self) -> Vec<Reason> {
        let claim = self.claim.as_ref().map(|claim| match claim {
            Ok(Claim::Claimed { owner, .. }) => Reason::Claimed(owner.clone()),
            Ok(Claim::Quarantined { reason, .. }) => Reason::Quarantined(reason.clone()),
            Err(reason) => Reason::UnreadableClaim(reason.clone()),
        });
        let reference = self.reference_owner.clone().map(Reason::ReferenceOwner);
        let reserved = self.reserved.then_some(Reason::Reserved);
        claim.into_iter().chain(reference).chain(reserved).collect()
    }

    fn device(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        match (&self.driver, self.netdevs.as_slice()) {
            (None, _) => reasons.push(Reason::NoDriver),
            (Some(driver), _) if is_userspace(driver) => {
                reasons.push(Reason::Userspace(driver.clone()));
            }
            (Some(_), []) => reasons.push(Reason::NotHere),
            (Some(_), [_]) => {}
            (Some(_), several) => reasons.push(Reason::Several(several.to_vec())),
        }
        reasons.extend(self.master.clone().map(Reason::Master));
        if !self.uppers.is_empty() {
            reasons.push(Reason::Uppers(self.uppers.clone()));
        }
        if !self.addresses.is_empty() {
            reasons.push(Reason::Addresses(self.addresses.clone()));
        }
        reasons
    }
}

/// Reads the facts about any number of VFs.
#[derive(Debug)]
pub struct Reader<'a> {
    root: &'a Root,
    net: &'a Net,
    claims: Claims,
    reserved: Vec<PciAddr>,
}

impl<'a> Reader<'a> {
    /// `net` and the sysfs of `root` are those of the host's namespace.
    ///
    /// # Errors
    /// `node.json` is there and cannot be read: which VFs it reserves is not known.
    pub fn new(root: &'a Root, net: &'a Net) -> Result<Self> {
        let node = NodeFile::load(root)?.unwrap_or_default();
        Ok(Self {
            root,
            net,
            claims: Claims::new(root),
            reserved: node.reserved_vfs,
        })
    }

    /// The facts about one VF, as it was found in sysfs.
    ///
    /// # Errors
    /// What the kernel refused. A claim that cannot be read is a fact, not an error.
    pub fn facts(&self, vf: &VirtualFunction) -> Result<Facts> {
        let claim = match self.claims.load(vf.address) {
            Ok(claim) => claim.map(Ok),
            Err(error) => Some(Err(error.to_string())),
        };
        let mut facts = Facts {
            driver: vf.driver.clone(),
            claim,
            reference_owner: reference_owner(self.root, vf.address)?,
            reserved: self.reserved.contains(&vf.address),
            ..Facts::default()
        };
        let mut links = Vec::new();
        for name in &vf.netdevs {
            links.extend(self.net.find_link(name)?);
        }
        if links.len() < vf.netdevs.len() {
            // Renamed since sysfs was read, as udev does to new ones; or moved.
            links = self.net.links_of_pci(vf.address)?;
        }
        for link in links {
            self.add_netdev(&mut facts, link)?;
        }
        Ok(facts)
    }

    /// Facts and verdict in one.
    ///
    /// # Errors
    /// As [`Reader::facts`].
    pub fn verdict(&self, vf: &VirtualFunction) -> Result<Verdict> {
        Ok(self.facts(vf)?.verdict())
    }

    /// One that goes away meanwhile, into another's container, is not there.
    fn add_netdev(&self, facts: &mut Facts, link: Link) -> Result<()> {
        let Some(addresses) = self.net.addresses(link.index).absent_is_fine()? else {
            return Ok(());
        };
        let (master, uppers) = stacked(self.root, &link.name)?;
        facts.master = facts.master.take().or(master);
        facts.uppers.extend(uppers);
        let global = addresses.iter().filter(|address| address.is_global());
        facts.addresses.extend(global.map(|address| address.net));
        facts.netdevs.push(link.name);
        Ok(())
    }
}

/// The master of a network device and the devices stacked on it, as far as they are
/// in its namespace (Documentation/ABI/testing/sysfs-class-net: `master`, `upper_*`).
fn stacked(root: &Root, name: &IfName) -> Result<(Option<String>, Vec<String>)> {
    let dir = root.sys.join("class/net").join(name.as_str());
    let path = dir.join("master");
    let master = match fs::read_link(&path) {
        Ok(target) => target
            .file_name()
            .map(|name| name.to_string_lossy().into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Error::io("read link", &path, &error)),
    };
    let names = dirs::names(&dir)?;
    let uppers = names.iter().filter_map(|name| name.strip_prefix("upper_"));
    let uppers = uppers
        .filter(|upper| Some(*upper) != master.as_deref())
        .map(str::to_owned)
        .collect();
    Ok((master, uppers))
}

/// The namespace the reference plugin's file of this VF names, if it lives. The
/// plugin removes such files late or never, so a file alone says nothing.
fn reference_owner(root: &Root, address: PciAddr) -> Result<Option<PathBuf>> {
    let path = root.var.join("lib/cni/sriov/pci").join(address.to_string());
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", &path, &error)),
    };
    let owner = Path::new(text.trim());
    match NetNs::open(owner) {
        Ok(_) => Ok(Some(owner.to_owned())),
        Err(error) if netns::is_gone(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
