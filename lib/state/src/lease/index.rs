//! `run/berth/ipam/POOL`: which addresses an attachment has, so that nobody has to read
//! every lease to find out. A hint only: whoever follows it reads the lease itself.
//!
//! Each attachment is a symbolic link `CONTAINERID:IFNAME` whose target is its
//! addresses: made, read and removed by one system call, and never half there. Where
//! somebody else gave them it is `?`: the reference takes the lock anew for each of an
//! attachment's addresses, so there may be more than were seen. `.boot`
//! names the boot in which stale leases were removed. Its modification time is set to
//! that of the leases' directory after every change of ours; while they are the same,
//! nobody else has made or removed a lease, and the index is complete. (Before Linux
//! 6.13 two changes within one tick of the kernel's clock have one time.)

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use berth_kernel::Root;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use sha2::{Digest, Sha256};

use super::Lease;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::{atomic, dirs};

/// The link that names the boot. No container id begins with a dot.
const BOOT: &str = ".boot";

/// The target for leases that were found, not given by us.
const SEEN: &str = "?";

/// The index of one pool.
#[derive(Debug, Clone)]
pub(super) struct Index {
    root: Root,
    below: PathBuf,
    dir: PathBuf,
}

impl Index {
    /// The index of a network's pool; `own_dir` if that is not in the usual place.
    pub(super) fn of(root: &Root, network: &str, own_dir: Option<&Path>) -> Self {
        let mut name = network.to_owned();
        if let Some(dir) = own_dir {
            name.push('@');
            let hash = Sha256::digest(dir.as_os_str().as_encoded_bytes());
            for byte in hash.iter().take(6) {
                // Writing to a String cannot fail.
                let _ok = write!(name, "{byte:02x}");
            }
        }
        let below = Path::new("ipam").join(name);
        Self {
            dir: dirs::berth(root).join(&below),
            root: root.clone(),
            below,
        }
    }

    /// Whether `key` has leases, if the index is complete.
    pub(super) fn has(&self, key: &Key) -> bool {
        fs::symlink_metadata(self.dir.join(entry(key))).is_ok()
    }

    /// The addresses that `key` was given by us.
    pub(super) fn addresses(&self, key: &Key) -> Option<Vec<IpAddr>> {
        let target = fs::read_link(self.dir.join(entry(key))).ok()?;
        let words = target.to_str()?.split(' ');
        words.map(|word| word.parse().ok()).collect()
    }

    /// Enters `key`. The directory is there: [`Index::rebuild`] made it.
    pub(super) fn enter(&self, key: &Key, addresses: &[IpAddr]) -> Result<()> {
        self.link(&entry(key), &target(addresses))
    }

    pub(super) fn forget(&self, key: &Key) -> Result<()> {
        atomic::remove(&self.dir.join(entry(key)))
    }

    /// Whether stale leases were removed in the boot with this id already.
    pub(super) fn is_of_boot(&self, boot_id: &str) -> bool {
        fs::read_link(self.dir.join(BOOT)).is_ok_and(|target| target == Path::new(boot_id))
    }

    pub(super) fn mark_boot(&self, boot_id: &str) -> Result<()> {
        self.link(BOOT, boot_id)
    }

    /// Whether nobody but us has changed the leases in `pool` since [`Index::step`].
    pub(super) fn is_in_step(&self, pool: &Path) -> bool {
        let time = |meta: Metadata| (meta.mtime(), meta.mtime_nsec());
        let noted = fs::symlink_metadata(self.dir.join(BOOT)).map(time);
        noted.is_ok_and(|noted| fs::metadata(pool).map(time).is_ok_and(|last| last == noted))
    }

    /// Declares the index complete for the leases as they are.
    pub(super) fn step(&self, pool: &Path) -> Result<()> {
        let meta = fs::metadata(pool).map_err(|error| Error::io("examine", pool, &error))?;
        let changed = TimeSpec::new(meta.mtime(), meta.mtime_nsec());
        let (boot, itself) = (self.dir.join(BOOT), UtimensatFlags::NoFollowSymlink);
        utimensat(AT_FDCWD, &boot, &changed, &changed, itself)
            .map_err(|errno| Error::io("set time of", &boot, &errno.into()))
    }

    /// Makes the index say of every lease there is whose it is.
    pub(super) fn rebuild(&self, leases: &[Lease]) -> Result<()> {
        dirs::ensure(&self.root, &self.below)?;
        let mut wished: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for lease in leases {
            if let Some(name) = lease.owner.as_ref().and_then(|owner| {
                let ifname = owner.ifname.as_ref()?;
                Some(format!("{}:{ifname}", owner.container_id))
            }) {
                wished.entry(name).or_default().push(lease.address);
            }
        }
        let there: BTreeSet<String> = dirs::names(&self.dir)?.into_iter().collect();
        for name in there.iter().filter(|name| name.as_str() != BOOT) {
            let right = wished.get(name).is_some_and(|addresses| {
                let is = fs::read_link(self.dir.join(name)).unwrap_or_default();
                is == Path::new(SEEN) || is == Path::new(&target(addresses))
            });
            if right {
                wished.remove(name);
            } else {
                atomic::remove(&self.dir.join(name))?;
            }
        }
        // What a foreign file says may be no file name at all; it is found by reading.
        wished
            .iter()
            .filter(|(name, _)| !name.starts_with('.') && !name.contains(['/', '\0']))
            .try_for_each(|(name, _)| self.link(name, SEEN))
    }

    fn link(&self, name: &str, target: &str) -> Result<()> {
        let path = self.dir.join(name);
        let made = match symlink(target, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                atomic::remove(&path)?;
                symlink(target, &path)
            }
            other => other,
        };
        made.map_err(|error| Error::io("create", &path, &error))
    }
}

fn entry(key: &Key) -> String {
    format!("{}:{}", key.container_id(), key.ifname())
}

fn target(addresses: &[IpAddr]) -> String {
    let words: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    words.join(" ")
}
