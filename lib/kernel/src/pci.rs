//! PCI devices that can have virtual functions (SR-IOV), and those functions
//! (Documentation/ABI/testing/sysfs-bus-pci).

use std::path::{Path, PathBuf};

use crate::error::{AbsentIsFine, Result};
use crate::names::{IfName, PciAddr};
use crate::{Root, file};

/// A physical function: a device with an SR-IOV capability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhysicalFunction {
    /// Its address.
    pub address: PciAddr,
    /// The bound driver's name.
    pub driver: Option<String>,
    /// Whether it is a network controller (class 02).
    pub is_network: bool,
    /// How many VFs the device can have: `sriov_totalvfs`.
    pub total_vfs: u32,
    /// How many it has now: `sriov_numvfs`.
    pub num_vfs: u32,
    /// Its network devices that are in the namespace of the sysfs mount.
    pub netdevs: Vec<IfName>,
    /// Its NUMA node, if the firmware names one.
    pub numa_node: Option<u32>,
    /// Its VFs, by index.
    pub vfs: Vec<VirtualFunction>,
}

/// A virtual function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualFunction {
    /// Its index at the physical function, from 0.
    pub index: u32,
    /// Its address.
    pub address: PciAddr,
    /// The bound driver's name.
    pub driver: Option<String>,
    /// Its network devices that are in the namespace of the sysfs mount; none while it
    /// is in a container.
    pub netdevs: Vec<IfName>,
}

/// The devices that can have virtual functions, by address. Empty also where the
/// kernel has no PCI or no `CONFIG_PCI_IOV`.
///
/// # Errors
/// When sysfs cannot be read or holds what it should not.
pub fn physical_functions(root: &Root) -> Result<Vec<PhysicalFunction>> {
    let devices = root.sys.join("bus/pci/devices");
    let mut found = Vec::new();
    for name in file::names(&devices).absent_is_fine()?.unwrap_or_default() {
        let Ok(address) = name.parse() else { continue };
        // A device may be unplugged while we look.
        let function = physical_function(&devices, address).absent_is_fine()?;
        found.extend(function.flatten());
    }
    found.sort_by_key(|function| function.address);
    Ok(found)
}

/// `None` for a device without the capability.
fn physical_function(devices: &Path, address: PciAddr) -> Result<Option<PhysicalFunction>> {
    let dir = devices.join(address.to_string());
    let Some(total_vfs) = file::parse(&dir.join("sriov_totalvfs")).absent_is_fine()? else {
        return Ok(None);
    };
    Ok(Some(PhysicalFunction {
        address,
        driver: driver(&dir)?,
        is_network: file::read(&dir.join("class"))?.starts_with("0x02"),
        total_vfs,
        num_vfs: file::parse(&dir.join("sriov_numvfs"))?,
        netdevs: netdevs(&dir)?,
        numa_node: numa_node(&dir)?,
        vfs: virtual_functions(devices, &dir)?,
    }))
}

/// The `virtfnN` links of a physical function.
fn virtual_functions(devices: &Path, dir: &Path) -> Result<Vec<VirtualFunction>> {
    let mut vfs = Vec::new();
    for name in file::names(dir)? {
        let number = name.strip_prefix("virtfn").and_then(|n| n.parse().ok());
        let Some(index) = number else { continue };
        let vf = virtual_function(devices, index, &dir.join(&name));
        vfs.extend(vf.absent_is_fine()?);
    }
    vfs.sort_by_key(|vf| vf.index);
    Ok(vfs)
}

fn virtual_function(devices: &Path, index: u32, link: &Path) -> Result<VirtualFunction> {
    let name = file::link_name(link)?;
    let address = name.parse().map_err(|e: crate::names::Invalid| {
        crate::Error::malformed("read link", link.display(), e.0)
    })?;
    let dir: PathBuf = devices.join(name);
    Ok(VirtualFunction {
        index,
        address,
        driver: driver(&dir)?,
        netdevs: netdevs(&dir)?,
    })
}

fn driver(dir: &Path) -> Result<Option<String>> {
    file::link_name(&dir.join("driver")).absent_is_fine()
}

fn netdevs(dir: &Path) -> Result<Vec<IfName>> {
    let names = file::names(&dir.join("net")).absent_is_fine()?;
    Ok(names
        .unwrap_or_default()
        .iter()
        .filter_map(|n| n.parse().ok())
        .collect())
}

/// -1 stands for no node.
fn numa_node(dir: &Path) -> Result<Option<u32>> {
    let node = file::parse::<i32>(&dir.join("numa_node")).absent_is_fine()?;
    Ok(node.and_then(|node| u32::try_from(node).ok()))
}

#[cfg(test)]
mod tests;
