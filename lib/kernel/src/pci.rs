//! PCI devices that can have virtual functions (SR-IOV), those functions, and what
//! can be done to a device (Documentation/ABI/testing/sysfs-bus-pci).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{AbsentIsFine, Error, Result};
use crate::irq::Irq;
use crate::names::{IfName, Invalid, PciAddr};
use crate::{Root, file};

mod device;

pub use device::{Device, Resize};

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
    /// Its NUMA node, if the firmware names one.
    pub numa_node: Option<u32>,
}

/// The devices that can have virtual functions, by address. Empty also where the
/// kernel has no PCI or no `CONFIG_PCI_IOV`.
///
/// # Errors
/// When sysfs cannot be read or holds what it should not.
pub fn physical_functions(root: &Root) -> Result<Vec<PhysicalFunction>> {
    let devices = devices(root);
    let mut found = Vec::new();
    for name in file::names(&devices).absent_is_fine()?.unwrap_or_default() {
        let Ok(address) = name.parse() else { continue };
        // A device may be unplugged while we look.
        let function = capable(&devices, address).absent_is_fine()?;
        found.extend(function.flatten());
    }
    found.sort_by_key(|function| function.address);
    Ok(found)
}

/// The physical function at `address`; `None` if there is no such device, or it cannot
/// have virtual functions.
///
/// # Errors
/// When sysfs cannot be read or holds what it should not.
pub fn physical_function(root: &Root, address: PciAddr) -> Result<Option<PhysicalFunction>> {
    let function = capable(&devices(root), address).absent_is_fine()?;
    Ok(function.flatten())
}

/// The physical function behind the network device `name`, which must be in the
/// namespace of the sysfs mount; `None` for a device that is none: a bridge, a VF.
///
/// # Errors
/// When there is no such network device, or sysfs cannot be read.
pub fn physical_function_of(root: &Root, name: &IfName) -> Result<Option<PhysicalFunction>> {
    let netdev = root.sys.join("class/net").join(name.as_str());
    file::names(&netdev)?;
    let device = file::link_name(&netdev.join("device")).absent_is_fine()?;
    // A device on another bus, as virtio, has a name that is no PCI address.
    match device.and_then(|device| device.parse().ok()) {
        Some(address) => physical_function(root, address),
        None => Ok(None),
    }
}

/// The virtual function at `address` and the physical function it belongs to; `None`
/// if there is no such device, or it is no virtual function.
///
/// # Errors
/// When sysfs cannot be read or holds what it should not.
pub fn virtual_function(
    root: &Root,
    address: PciAddr,
) -> Result<Option<(PhysicalFunction, VirtualFunction)>> {
    let Some(pf) = Device::new(root, address).physfn()? else {
        return Ok(None);
    };
    let Some(pf) = physical_function(root, pf)? else {
        return Ok(None);
    };
    let vf = pf.vfs.iter().find(|vf| vf.address == address).cloned();
    Ok(vf.map(|vf| (pf, vf)))
}

/// The device of each MSI or MSI-X interrupt. Empty also where the kernel has no PCI.
///
/// # Errors
/// When sysfs cannot be read. A device that goes meanwhile is left out.
pub fn msi_owners(root: &Root) -> Result<BTreeMap<Irq, PciAddr>> {
    let devices = devices(root);
    let mut owners = BTreeMap::new();
    for name in file::names(&devices).absent_is_fine()?.unwrap_or_default() {
        let Ok(address) = name.parse::<PciAddr>() else {
            continue;
        };
        let irqs = file::names(&devices.join(&name).join("msi_irqs")).absent_is_fine()?;
        let numbers = irqs.unwrap_or_default();
        let numbers = numbers.iter().filter_map(|number| number.parse().ok());
        owners.extend(numbers.map(|number| (Irq(number), address)));
    }
    Ok(owners)
}

fn devices(root: &Root) -> PathBuf {
    root.sys.join("bus/pci/devices")
}

/// `None` for a device without the capability.
fn capable(devices: &Path, address: PciAddr) -> Result<Option<PhysicalFunction>> {
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
        let vf = linked(devices, index, &dir.join(&name));
        vfs.extend(vf.absent_is_fine()?);
    }
    vfs.sort_by_key(|vf| vf.index);
    Ok(vfs)
}

/// The virtual function a `virtfnN` link points to.
fn linked(devices: &Path, index: u32, link: &Path) -> Result<VirtualFunction> {
    let address = address_of(link)?;
    let dir = devices.join(address.to_string());
    Ok(VirtualFunction {
        index,
        address,
        driver: driver(&dir)?,
        netdevs: netdevs(&dir)?,
        numa_node: numa_node(&dir)?,
    })
}

/// The device a link points to.
fn address_of(link: &Path) -> Result<PciAddr> {
    let name = file::link_name(link)?;
    name.parse()
        .map_err(|e: Invalid| Error::malformed("read link", link.display(), e.0))
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
