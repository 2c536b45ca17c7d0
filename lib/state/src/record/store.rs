//! The records' files: one for each attachment, in a directory for each network.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use berth_kernel::Root;

use super::Record;
use crate::atomic;
use crate::dirs;
use crate::error::{Error, Kind, Result};
use crate::format;
use crate::key::Key;

/// The format of records this version writes: it rises with every field that DEL
/// must know of, and its predecessor is read too.
const FORMAT: u64 = 2;

/// How often the network's directory may vanish under a create before it gives up.
const CREATE_TRIES: usize = 100;

/// The records of the node.
#[derive(Debug, Clone)]
pub struct Records {
    root: Root,
    dir: PathBuf,
}

impl Records {
    /// The records below `root.run`.
    pub fn new(root: &Root) -> Self {
        Self {
            root: root.clone(),
            dir: dirs::berth(root).join("attachments"),
        }
    }

    /// The file of `key`'s record, whether it exists or not.
    pub fn path(&self, key: &Key) -> PathBuf {
        self.dir.join(key.network()).join(file_name(key))
    }

    /// Writes a record that is not there yet. Of any number of callers at once one
    /// succeeds.
    ///
    /// # Errors
    /// [`Error::Exists`]; else what the kernel refused.
    pub fn create(&self, record: &Record) -> Result<()> {
        let path = self.path(&record.key);
        let bytes = format::write(&path, FORMAT, record)?;
        let below = Path::new("attachments").join(record.key.network());
        let create = || {
            dirs::ensure(&self.root, &below)?;
            atomic::create_new(&path, &bytes, dirs::PRIVATE_FILE)
        };
        for _ in 1..CREATE_TRIES {
            match create() {
                // The network's last record went, and its directory with it.
                Err(error) if error.kind() == Kind::Kernel(berth_kernel::Kind::NotFound) => {}
                other => return other,
            }
        }
        create()
    }

    /// Reads a record; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::NewerFormat`]; [`Error::Malformed`], also for a record under another's
    /// name; else what the kernel refused.
    pub fn load(&self, key: &Key) -> Result<Option<Record>> {
        self.load_path(&self.path(key))
    }

    /// Replaces a record, which the caller created, by its next state.
    ///
    /// # Errors
    /// [`Error::Absent`] if it was removed meanwhile; else what the kernel refused.
    pub fn replace(&self, record: &Record) -> Result<()> {
        let path = self.path(&record.key);
        let bytes = format::write(&path, FORMAT, record)?;
        atomic::exchange(&path, &bytes, dirs::PRIVATE_FILE)
    }

    /// Removes a record, what dead writers left beside it, and the network's
    /// directory with its last record. An absent record is success.
    ///
    /// # Errors
    /// As [`Records::load`]: what cannot be read is not removed.
    pub fn remove(&self, key: &Key) -> Result<()> {
        match self.load(key)? {
            Some(record) => self.forget(&record),
            None => self.sweep(key.network()).map(drop),
        }
    }

    /// As [`Records::remove`], of a record that was read before.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn forget(&self, record: &Record) -> Result<()> {
        atomic::remove(&self.path(&record.key))?;
        self.sweep(record.key.network()).map(drop)
    }

    /// Removes the temporaries of dead writers in a network's directory, and the
    /// directory if nothing else is in it; names what it removed.
    ///
    /// # Errors
    /// As [`atomic::sweep`].
    pub fn sweep(&self, network: &str) -> Result<Vec<PathBuf>> {
        let dir = self.dir.join(network);
        let swept = atomic::sweep(&dir)?;
        match fs::remove_dir(&dir) {
            Err(error) if !stays_or_went(&error) => {
                Err(Error::io("remove directory", &dir, &error))
            }
            _ => Ok(swept),
        }
    }

    /// A network's records in order of name; one that cannot be read says why, and
    /// its error names the file.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn list(&self, network: &str) -> Result<Vec<Result<Record>>> {
        let dir = self.dir.join(network);
        let names = dirs::names(&dir)?;
        let own = names.iter().filter(|name| !atomic::is_temporary(name));
        // A record that went since the listing is none.
        Ok(own
            .filter_map(|name| self.load_path(&dir.join(name)).transpose())
            .collect())
    }

    /// Whether there is a record of any network that `is` such a one, or cannot be read.
    /// In no order, and no further than that: it costs no more beside a thousand others.
    ///
    /// # Errors
    /// A directory cannot be listed.
    pub fn any(&self, is: impl Fn(&Record) -> bool) -> Result<bool> {
        let may_be = |path: &Path| match self.load_path(path) {
            // A record that went since the listing is none.
            Ok(record) => record.is_some_and(|record| is(&record)),
            Err(_unread) => true,
        };
        for network in self.networks()? {
            let dir = self.dir.join(network);
            for name in dirs::each(&dir)? {
                let name = name?;
                if !atomic::is_temporary(&name) && may_be(&dir.join(name)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The networks that have records, in order.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn networks(&self) -> Result<Vec<String>> {
        dirs::names(&self.dir)
    }

    fn load_path(&self, path: &Path) -> Result<Option<Record>> {
        let Some(record) = format::read::<Record>(path, FORMAT)? else {
            return Ok(None);
        };
        if self.path(&record.key) == path {
            Ok(Some(record))
        } else {
            let reason = format!("it is the record of {}, under another's name", record.key);
            Err(Error::malformed(path, reason))
        }
    }
}

fn file_name(key: &Key) -> String {
    format!("{}:{}.json", key.container_id(), key.ifname())
}

/// Whether a directory was kept for what is in it, or is gone already.
fn stays_or_went(error: &io::Error) -> bool {
    use io::ErrorKind::{DirectoryNotEmpty, NotFound};
    matches!(error.kind(), DirectoryNotEmpty | NotFound)
}
