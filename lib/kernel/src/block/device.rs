//! A block device in sysfs, and the devices it is made of.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::DeviceNumber;
use crate::error::{AbsentIsFine, Error, Kind, Result};
use crate::mounts::{self, Mount};
use crate::{Root, file};

/// The unit of `size`, whatever the device's own is.
const SECTOR: u64 = 512;

/// A block device the kernel has: a disk, a partition, or one made of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its numbers.
    pub number: DeviceNumber,
    /// Its name below `/dev`, `vda1`.
    pub name: String,
    /// Where it is in sysfs.
    dir: PathBuf,
}

/// A path that is on a block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnDisk {
    /// The mount through which it is reached.
    pub mount: Mount,
    /// What its filesystem is on: often a partition.
    pub device: Device,
}

/// The mount and the device that `path` is on. Symbolic links are followed.
///
/// # Errors
/// When `path` does not exist; where the filesystem is on no device of its own (overlay,
/// btrfs, tmpfs, network), with the way out ([`Kind::Unsupported`]).
pub fn of_path(root: &Root, path: &Path) -> Result<OnDisk> {
    let mount = mounts::of_path(root, path)?;
    let number = mount.number()?;
    if number.major == 0 {
        let error = Error::errno("find the disk of", path.display(), Errno::EOPNOTSUPP);
        return Err(error.because(Some(no_disk(&mount))));
    }
    let device = Device::open(root, number)?;
    Ok(OnDisk { mount, device })
}

/// Why a filesystem has no disk that could be limited, and what to do.
fn no_disk(mount: &Mount) -> String {
    let way_out = match mount.fs_type.as_str() {
        "overlay" => "give the directory the overlay writes to (its upperdir)",
        "btrfs" => "btrfs may spread over several disks; put the data on xfs or ext4",
        "tmpfs" | "ramfs" => "its data is memory; put it on a disk",
        _ => "put the data on a local disk with xfs or ext4",
    };
    let (kind, point) = (&mount.fs_type, mount.point.display());
    format!("{kind} at {point} is on no block device of its own; {way_out}")
}

impl Device {
    /// The device with these numbers.
    ///
    /// # Errors
    /// When the kernel has none, or sysfs cannot be read.
    pub fn open(root: &Root, number: DeviceNumber) -> Result<Self> {
        let link = root.sys.join("dev/block").join(number.to_string());
        let dir = std::fs::canonicalize(&link)
            .map_err(|e| Error::io("find block device", link.display(), &e))?;
        Self::at(dir, Some(number))
    }

    /// The device at a directory of sysfs.
    fn at(dir: PathBuf, number: Option<DeviceNumber>) -> Result<Self> {
        let number = match number {
            Some(number) => number,
            None => file::parse(&dir.join("dev"))?,
        };
        let name = dir.file_name().and_then(|n| n.to_str());
        let name = name.ok_or_else(|| {
            Error::malformed("find block device", dir.display(), "it has no name")
        })?;
        // The kernel writes a slash in a name so (`cciss!c0d0`).
        let name = name.replace('!', "/");
        Ok(Self { number, name, dir })
    }

    /// The disk a partition is on; any other device is its own.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn whole_disk(&self, root: &Root) -> Result<Self> {
        if !self.is_partition() {
            return Ok(self.clone());
        }
        // The parent in sysfs, by its number: `self` may be of another root.
        let above = self.dir.parent().unwrap_or(&self.dir);
        Self::open(root, file::parse(&above.join("dev"))?)
    }

    /// Whether it is a partition of a disk.
    pub fn is_partition(&self) -> bool {
        self.dir.join("partition").exists()
    }

    /// The device whose number `io.max` takes: the disk of a partition; a device mapper,
    /// loop or md device itself.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn io_max_device(&self, root: &Root) -> Result<Self> {
        self.whole_disk(root)
    }

    /// The devices whose numbers `io.weight` and `io.cost.*` take, by number: where the
    /// device is made of others (device mapper, md), the disks at the bottom, as the
    /// kernel weighs requests only where there is a queue.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn weight_devices(&self, root: &Root) -> Result<Vec<Self>> {
        let mut open = vec![self.whole_disk(root)?];
        let mut seen = BTreeSet::new();
        let mut bottom = Vec::new();
        while let Some(device) = open.pop() {
            if !seen.insert(device.number) {
                continue;
            }
            let parts = device.made_of(root)?;
            if parts.is_empty() {
                bottom.push(device);
            }
            for part in parts {
                open.push(part.whole_disk(root)?);
            }
        }
        bottom.sort_by_key(|device| device.number);
        Ok(bottom)
    }

    /// The devices it is made of directly: `slaves`, which a disk has empty.
    fn made_of(&self, root: &Root) -> Result<Vec<Self>> {
        let dir = self.dir.join("slaves");
        let names = file::names(&dir).absent_is_fine()?.unwrap_or_default();
        let number = |name| file::parse(&dir.join(name).join("dev"));
        let open = |name| Self::open(root, number(name)?);
        names.into_iter().map(open).collect()
    }

    /// Its size in bytes.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn size_bytes(&self) -> Result<u64> {
        let path = self.dir.join("size");
        let sectors: u64 = file::parse(&path)?;
        let many = || Error::malformed("read", path.display(), format!("{sectors} is too large"));
        sectors.checked_mul(SECTOR).ok_or_else(many)
    }

    /// Whether it has moving parts, as far as the driver tells: virtual disks often
    /// claim so. Of a partition, what its disk says.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn rotational(&self) -> Result<bool> {
        Ok(file::parse::<u8>(&self.disk_dir().join("queue/rotational"))? != 0)
    }

    /// What the disk calls itself, `SAMSUNG MZ7LH960`; none of a virtual one.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn model(&self) -> Result<Option<String>> {
        let model = file::read(&self.disk_dir().join("device/model")).absent_is_fine()?;
        Ok(model.filter(|model| !model.is_empty()))
    }

    /// Writeback throttling: the read latency in µs that buffered writes are held back
    /// for; 0 is off (`queue/wbt_lat_usec`). Of a partition, its disk's.
    ///
    /// # Errors
    /// When the kernel offers none on this device ([`Kind::Unsupported`]).
    pub fn writeback_latency(&self) -> Result<u64> {
        let path = self.disk_dir().join("queue/wbt_lat_usec");
        match file::parse(&path) {
            // It was never switched on: the kernel has no number yet.
            Err(error) if error.errno == Some(Errno::EINVAL) => Ok(0),
            other => other.map_err(|error| self.no_throttling(error)),
        }
    }

    /// Sets it; 0 switches it off.
    ///
    /// # Errors
    /// As [`Self::writeback_latency`], and when it is not there when it is read back.
    pub fn set_writeback_latency(&self, usec: u64) -> Result<()> {
        let path = self.disk_dir().join("queue/wbt_lat_usec");
        file::write(&path, &usec.to_string()).map_err(|error| self.no_throttling(error))?;
        let stands = self.writeback_latency()?;
        if stands == usec {
            return Ok(());
        }
        let op = format!("write \"{usec}\" to");
        let reason = format!("the kernel took it and has {stands}");
        Err(Error::malformed(op, path.display(), reason))
    }

    fn no_throttling(&self, error: Error) -> Error {
        if error.kind() != Kind::NotFound {
            return error;
        }
        let reason = format!(
            "no writeback throttling on {}: set it on the disks below it; the kernel needs \
             CONFIG_BLK_WBT_MQ",
            self.name
        );
        Error {
            errno: Some(Errno::EOPNOTSUPP),
            ..error.because(Some(reason))
        }
    }

    /// The directory that has `queue` and `device`: a partition has neither.
    fn disk_dir(&self) -> &Path {
        match self.dir.parent() {
            Some(parent) if self.is_partition() => parent,
            _ => &self.dir,
        }
    }
}

#[cfg(test)]
mod tests;
