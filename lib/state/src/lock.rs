//! Locks between processes, one file each, with a bounded wait and the holder's name
//! in the file.
//!
//! Order: VF, PF (several by address), move; a bridge lock is taken alone. The lock of
//! an address pool ([`crate::lease`]) is the reference's file, so that both can serve
//! one pool; it comes last, after PF and move were released. Lock files are never
//! unlinked: two processes would hold one lock through two inodes.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use berth_kernel::{IfName, PciAddr, Root};

use crate::dirs;
use crate::error::{Error, Result};
use crate::key::Key;

/// How long a caller waits where nothing else is said.
pub const WAIT: Duration = Duration::from_secs(30);

/// What is locked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockName {
    /// A virtual function.
    Vf(PciAddr),
    /// A physical function.
    Pf(PciAddr),
    /// The one namespace move that may be under way.
    Move,
    /// A bridge and its ports.
    Bridge(IfName),
}

impl fmt::Display for LockName {
    /// The lock's file name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vf(address) => write!(f, "vf-{address}"),
            Self::Pf(address) => write!(f, "pf-{address}"),
            Self::Move => f.write_str("move"),
            Self::Bridge(name) => write!(f, "bridge-{name}"),
        }
    }
}

impl LockName {
    /// Why `self` must not be taken while `held` is, if so.
    fn conflict(&self, held: &Self) -> Option<&'static str> {
        match (held, self) {
            (held, wished) if held == wished => Some("a lock waits for itself"),
            (Self::Bridge(_), _) | (_, Self::Bridge(_)) => Some("a bridge lock is taken alone"),
            (held, wished) if held > wished => Some("order: VF, PF, move, each by name"),
            _ => None,
        }
    }
}

/// The first line of a lock that nobody holds. What follows it is of former holders: to
/// cut the file costs more than to write to it.
const NOBODY: &[u8] = b"\n";

/// Who holds a lock, as the first line of its file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The holder's process id.
    pub pid: u32,
    /// The attachment it works on.
    pub key: Key,
}

impl Holder {
    fn read(file: &File) -> Option<Self> {
        let mut text = [0; 512];
        let length = file.read_at(&mut text, 0).ok()?;
        let first = text.get(..length)?.split(|byte| *byte == b'\n').next()?;
        let (pid, key) = std::str::from_utf8(first).ok()?.split_once(' ')?;
        Some(Self {
            pid: pid.parse().ok()?,
            key: key.parse().ok()?,
        })
    }

    fn write(&self, file: &File) -> io::Result<()> {
        file.write_all_at(format!("{} {}\n", self.pid, self.key).as_bytes(), 0)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} for {}", self.pid, self.key)
    }
}

/// The locks one operation takes. Each operation has a value of its own: with it,
/// debug builds assert the order. Clones are of the same operation.
#[derive(Debug, Clone)]
pub struct Locks {
    root: Root,
    held: Held,
}

type Held = Arc<Mutex<Vec<LockName>>>;

impl Locks {
    /// The locks of the node, none taken.
    pub fn new(root: &Root) -> Self {
        Self {
            root: root.clone(),
            held: Held::default(),
        }
    }

    /// Takes a lock for `key`, waiting at most `wait`; woken as soon as it is free.
    ///
    /// # Errors
    /// [`Error::LockBusy`] with the holder after `wait`; else what the kernel refused.
    ///
    /// # Panics
    /// In debug builds, if the order of locks is broken.
    pub fn acquire(&self, name: &LockName, key: &Key, wait: Duration) -> Result<Guard> {
        if cfg!(debug_assertions) {
            for held in lock_list(&self.held).iter() {
                let conflict = name.conflict(held);
                assert!(conflict.is_none(), "{name} after {held}: {conflict:?}");
            }
        }
        let path = dirs::ensure(&self.root, Path::new("locks"))?.join(name.to_string());
        let locked = open(&path).and_then(|file| lock_within(file, wait));
        let file = match locked.map_err(|error| Error::io("lock", &path, &error))? {
            Outcome::Locked(file) => file,
            Outcome::Busy { file, waited } => {
                return Err(Error::LockBusy {
                    lock: name.to_string(),
                    holder: Holder::read(&file).map(|holder| holder.to_string()),
                    waited,
                });
            }
        };
        let holder = Holder {
            pid: std::process::id(),
            key: key.clone(),
        };
        // The lock holds without the text too.
        if let Err(error) = holder.write(&file) {
            log::warn!("{}", Error::io("write holder to", &path, &error));
        }
        lock_list(&self.held).push(name.clone());
        Ok(Guard {
            file,
            name: name.clone(),
            held: self.held.clone(),
        })
    }
}

/// Opens a lock's file, which may not be there yet.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(dirs::PRIVATE_FILE)
        .open(path)
}

/// What came of waiting for a lock.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is ours, until the file is closed or unlocked.
    Locked(File),
    /// It was not free within the time.
    Busy {
        /// The lock's file.
        file: File,
        /// How long the wait was.
        waited: Duration,
    },
}

/// Waits on a thread of its own, in the kernel's queue, instead of polling: the next
/// in line goes on at once. If time runs out first, that thread ends when its turn
/// comes and lets go at once.
pub(crate) fn lock_within(file: File, wait: Duration) -> io::Result<Outcome> {
    match file.try_lock() {
        Ok(()) => return Ok(Outcome::Locked(file)),
        Err(TryLockError::Error(error)) => return Err(error),
        Err(TryLockError::WouldBlock) => {}
    }
    let start = Instant::now();
    let busy = |file| Outcome::Busy {
        file,
        waited: start.elapsed(),
    };
    if wait.is_zero() {
        return Ok(busy(file));
    }
    let reader = file.try_clone()?;
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .name("lock".to_owned())
        .spawn(move || {
            // A failed send drops the file, and with it the lock.
            let _unheard = sender.send(lock_blocking(&file).map(|()| file));
        })?;
    match receiver.recv_timeout(wait) {
        Ok(locked) => locked.map(Outcome::Locked),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(busy(reader)),
    }
}

fn lock_blocking(file: &File) -> io::Result<()> {
    loop {
        match file.lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Unlocks, because a child between fork and exec may hold the file open a little
/// longer than we do.
pub(crate) fn release(file: &File) {
    if let Err(error) = file.unlock() {
        log::warn!("release lock: {error}");
    }
}

fn lock_list(held: &Held) -> MutexGuard<'_, Vec<LockName>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A lock that is held until this is dropped.
#[derive(Debug)]
#[must_use = "a lock is held only as long as its guard lives"]
pub struct Guard {
    file: File,
    name: LockName,
    held: Held,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // So that nobody takes us for the holder.
        if let Err(error) = self.file.write_all_at(NOBODY, 0) {
            log::warn!("clear lock {}: {error}", self.name);
        }
        release(&self.file);
        lock_list(&self.held).retain(|held| *held != self.name);
    }
}

#[cfg(test)]
mod tests;
