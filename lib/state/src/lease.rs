//! The leases of an address pool: one file per address, in the layout and under the
//! lock of the reference's `host-local`, so that both can serve one pool at a time.
//!
//! `DATADIR/NETWORK/ADDRESS` holds the container id, CR LF and the interface name
//! (older ones the id alone); `last_reserved_ip.N` the address last given out of range
//! set N; `lock` is what flock(2) is taken on. Nothing else is ever put there.
//!
//! A lease gets its name with its content in place, so none is ever without an owner.
//! Nothing is synced to disk: leases end with the boot, and whoever serves the pool
//! first in the next one removes them.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_kernel::Root;

use crate::dirs;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::lock::{self, Outcome};

mod draft;
mod holder;
mod index;
mod locked;

use index::Index;
pub use locked::{LastReserved, Locked};

/// Between container id and interface name.
const SEPARATOR: &str = "\r\n";
/// The file whose flock(2) guards the pool.
const LOCK: &str = "lock";
/// The mode the reference makes the pool's directories with.
const DIRECTORY: u32 = 0o755;
/// Longer than any container id and interface name together (see [`Key`]).
const CONTENT_MAX: u64 = 512;

/// Whose a lease is, as its file says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// The container's id.
    pub container_id: String,
    /// The interface in the container; leases of old versions do not say.
    pub ifname: Option<String>,
}

impl Owner {
    fn text(key: &Key) -> String {
        format!("{}{SEPARATOR}{}", key.container_id(), key.ifname())
    }

    /// `None` for a file without content.
    fn parse(content: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(content);
        let text = text.trim();
        let (container_id, ifname) = match text.split_once(SEPARATOR) {
            Some((id, ifname)) => (id, Some(ifname.to_owned())),
            None => (text, None),
        };
        (!text.is_empty()).then(|| Self {
            container_id: container_id.to_owned(),
            ifname,
        })
    }

    /// Whether this is exactly `key`'s container and interface.
    pub fn is(&self, key: &Key) -> bool {
        self.container_id == key.container_id()
            && self.ifname.as_deref() == Some(key.ifname().as_str())
    }

    /// Whether this is `key`'s container, of a version that did not name interfaces.
    fn is_old_of(&self, key: &Key) -> bool {
        self.ifname.is_none() && self.container_id == key.container_id()
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ifname {
            Some(ifname) => write!(f, "container {} {ifname}", self.container_id),
            None => write!(f, "container {}", self.container_id),
        }
    }
}

/// A lease as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: IpAddr,
    /// Its owner; `None` where a writer was killed before it could say.
    pub owner: Option<Owner>,
    file: PathBuf,
}

/// The pool of one network.
#[derive(Debug, Clone)]
pub struct Pool {
    root: Root,
    network: String,
    dir: PathBuf,
    index: Index,
}

/// Where pools are unless their network says otherwise.
fn usual_place(root: &Root) -> PathBuf {
    root.var.join("lib/cni/networks")
}

/// Removes what is nobody's since the last boot from every pool in the usual place, as the
/// first ADD or GC of its network in this boot would. A pool whose lock is not free within
/// `wait` is in use, so left to its user.
///
/// # Errors
/// The first that was met; the other pools are done all the same.
pub fn settle_all(root: &Root, wait: Duration) -> Result<()> {
    let mut outcome = Ok(());
    for network in dirs::names(&usual_place(root))? {
        let pool = Pool::new(root, None, &network);
        if !pool.dir.is_dir() {
            continue;
        }
        let settled = match pool.lock_if_there(wait) {
            Ok(Some(mut locked)) => locked.settle(),
            Ok(None) | Err(Error::LockBusy { .. }) => Ok(()),
            Err(error) => Err(error),
        };
        outcome = outcome.and(settled);
    }
    outcome
}

impl Pool {
    /// The pool of `network` below `data_dir`, by default `var/lib/cni/networks`.
    /// `network` must be a file name, as the specification's network names are.
    pub fn new(root: &Root, data_dir: Option<&Path>, network: &str) -> Self {
        let default = usual_place(root);
        let dir = data_dir.unwrap_or(&default).join(network);
        let is_default = data_dir.is_none_or(|dir| dir == default);
        Self {
            index: Index::of(root, network, (!is_default).then_some(&dir)),
            root: root.clone(),
            network: network.to_owned(),
            dir,
        }
    }

    /// Where its leases are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes the pool's lock, waiting at most `wait`; makes the directory if needed.
    ///
    /// # Errors
    /// [`Error::LockBusy`] with the holder, as far as the kernel tells; else what it
    /// refused.
    pub fn lock(&self, wait: Duration) -> Result<Locked<'_>> {
        let path = self.dir.join(LOCK);
        let file = match lock::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut make = DirBuilder::new();
                make.recursive(true).mode(DIRECTORY);
                make.create(&self.dir)
                    .map_err(|error| Error::io("make directory", &self.dir, &error))?;
                lock::open(&path)
            }
            opened => opened,
        };
        let file = file.map_err(|error| Error::io("open lock", &path, &error))?;
        self.lock_file(file, wait)
    }

    /// As [`Pool::lock`]; `None` where there is no pool yet, so nothing to release.
    ///
    /// # Errors
    /// As [`Pool::lock`].
    pub fn lock_if_there(&self, wait: Duration) -> Result<Option<Locked<'_>>> {
        let path = self.dir.join(LOCK);
        match lock::open(&path) {
            Ok(file) => self.lock_file(file, wait).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open lock", &path, &error)),
        }
    }

    fn lock_file(&self, file: File, wait: Duration) -> Result<Locked<'_>> {
        let path = self.dir.join(LOCK);
        let refused = |error: io::Error| Error::io("lock", &path, &error);
        match lock::lock_within(file, wait).map_err(refused)? {
            Outcome::Locked(file) => Ok(Locked::new(self, file)),
            Outcome::Busy { file, waited } => Err(Error::LockBusy {
                lock: path.display().to_string(),
                holder: holder::of(&self.root, &file),
                waited,
            }),
        }
    }

    /// Every lease. One that goes meanwhile may be in the list or not.
    ///
    /// # Errors
    /// The directory or a lease cannot be read; no directory is no lease.
    pub fn leases(&self) -> Result<Vec<Lease>> {
        let mut leases = Vec::new();
        for name in dirs::names(&self.dir)? {
            if let Ok(address) = name.parse() {
                leases.extend(read(self.dir.join(name), address)?);
            }
        }
        Ok(leases)
    }

    /// The lease of one address, if it is given out.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn lease(&self, address: IpAddr) -> Result<Option<Lease>> {
        read(self.path(address), address)
    }

    /// The leases of `key`: where the index says, if all of them are there, else by
    /// reading every lease. As in the reference, one that names the container only
    /// counts if none names the interface too.
    ///
    /// # Errors
    /// As [`Pool::leases`].
    pub fn owned(&self, key: &Key) -> Result<Vec<Lease>> {
        match self.hinted(key)? {
            Some(leases) => Ok(leases),
            None => Ok(of_owner(self.leases()?, key)),
        }
    }

    /// The leases we gave `key`, by the index; `None` if it knows none or errs.
    fn hinted(&self, key: &Key) -> Result<Option<Vec<Lease>>> {
        let Some(addresses) = self.index.addresses(key) else {
            return Ok(None);
        };
        let mut leases = Vec::new();
        for address in addresses {
            match self.lease(address)? {
                Some(lease) if lease.owner.as_ref().is_some_and(|o| o.is(key)) => {
                    leases.push(lease);
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(leases))
    }

    /// The reference's name of a lease. Both print IPv6 addresses as RFC 5952 has it.
    fn path(&self, address: IpAddr) -> PathBuf {
        self.dir.join(address.to_canonical().to_string())
    }
}

fn of_owner(mut leases: Vec<Lease>, key: &Key) -> Vec<Lease> {
    let is = |lease: &Lease, is: fn(&Owner, &Key) -> bool| {
        lease.owner.as_ref().is_some_and(|owner| is(owner, key))
    };
    if leases.iter().any(|lease| is(lease, Owner::is)) {
        leases.retain(|lease| is(lease, Owner::is));
    } else {
        leases.retain(|lease| is(lease, Owner::is_old_of));
    }
    leases
}

fn read(file: PathBuf, address: IpAddr) -> Result<Option<Lease>> {
    let mut content = Vec::new();
    let read = File::open(&file).and_then(|file| file.take(CONTENT_MAX).read_to_end(&mut content));
    match read {
        Ok(_) => Ok(Some(Lease {
            address,
            owner: Owner::parse(&content),
            file,
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read lease", &file, &error)),
    }
}

/// Whether a lease has no content. A writer holds the pool's lock from making the file
/// to filling it, so under the lock such a file is nobody's.
fn is_empty(file: &Path) -> bool {
    fs::symlink_metadata(file).is_ok_and(|meta| meta.is_file() && meta.len() == 0)
}

#[cfg(test)]
mod tests;
