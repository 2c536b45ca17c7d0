//! Files that are there whole or not at all: written to a temporary of the same
//! directory, then linked or renamed to their name.
//!
//! A writer holds a lock (flock(2)) on its temporary for as long as it lives, so a
//! temporary that can be locked was left by a dead one, whatever its pid is now.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::dirs;
use crate::error::{Error, Result};

/// How every temporary's name begins. No file of ours begins with a dot.
const PREFIX: &str = ".tmp-";
/// Names are random, so a second try is already rare.
const TRIES: usize = 16;

/// Whether a file must survive a power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Lost with the boot anyway (`run` is a tmpfs): no fsync.
    Volatile,
    /// fsync of the file and of its directory.
    Durable,
}

/// Creates `path` with exactly this content and mode, or fails and changes nothing.
/// Of any number of callers at once one succeeds.
///
/// # Errors
/// [`Error::Exists`] if the name is taken; else what the kernel refused.
pub fn create_new(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let temporary = Temporary::write(path, bytes, mode, Durability::Volatile)?;
    match fs::hard_link(&temporary.path, path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Error::Exists {
            path: path.to_owned(),
        }),
        Err(error) => Err(Error::io("create", path, &error)),
    }
}

/// Puts this content and mode at `path`, whether or not it exists. A reader sees the
/// old content or the new, never a part.
///
/// # Errors
/// What the kernel refused; the old content then stands.
pub fn replace(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> Result<()> {
    let temporary = Temporary::write(path, bytes, mode, durability)?;
    fs::rename(&temporary.path, path).map_err(|error| Error::io("replace", path, &error))?;
    if durability == Durability::Durable {
        let dir = parent(path);
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|error| Error::io("sync", dir, &error))?;
    }
    Ok(())
}

/// Removes `path`; an absent file is success.
///
/// # Errors
/// What the kernel refused.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path, &error))
        }
        _ => Ok(()),
    }
}

/// The temporaries in `dir` whose writers died.
///
/// # Errors
/// The directory or a temporary cannot be read.
pub fn leftovers(dir: &Path) -> Result<Vec<PathBuf>> {
    visit_leftovers(dir, |_| Ok(()))
}

/// Removes the temporaries in `dir` whose writers died, and names them.
///
/// # Errors
/// The directory cannot be read, or a temporary not be removed.
pub fn sweep(dir: &Path) -> Result<Vec<PathBuf>> {
    visit_leftovers(dir, remove)
}

fn visit_leftovers(dir: &Path, visit: impl Fn(&Path) -> Result<()>) -> Result<Vec<PathBuf>> {
    let mut left = Vec::new();
    for name in dirs::names(dir)? {
        if !is_temporary(&name) {
            continue;
        }
        let path = dir.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io("open", &path, &error)),
        };
        // Held while visiting: a writer that has just made it sees that it lost it.
        if lock(&file).map_err(|error| Error::io("lock", &path, &error))? {
            visit(&path)?;
            left.push(path);
        }
    }
    Ok(left)
}

/// Whether a file of this name is a temporary of this module.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// A written, locked temporary; removed when dropped (after a rename it is gone).
struct Temporary {
    path: PathBuf,
    _locked: File,
}

impl Temporary {
    fn write(target: &Path, bytes: &[u8], mode: u32, durability: Durability) -> Result<Self> {
        let (path, file) = Self::open(parent(target))?;
        let mut temporary = Self {
            path,
            _locked: file,
        };
        let file = &mut temporary._locked;
        file.write_all(bytes)
            // The umask of a runtime may be anything.
            .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
            .and_then(|()| match durability {
                Durability::Volatile => Ok(()),
                Durability::Durable => file.sync_all(),
            })
            .map_err(|error| Error::io("write", target, &error))?;
        Ok(temporary)
    }

    fn open(dir: &Path) -> Result<(PathBuf, File)> {
        for _ in 0..TRIES {
            let random = RandomState::new().build_hasher().finish();
            let path = dir.join(format!("{PREFIX}{}-{random:016x}", std::process::id()));
            let opened = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(dirs::PRIVATE_FILE)
                .open(&path);
            let file = match opened {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(Error::io("create", &path, &error)),
            };
            // Between our open and our lock a sweeper may have taken it for a dead one's.
            let ours = lock(&file).and_then(|locked| Ok(locked && file.metadata()?.nlink() == 1));
            if ours.map_err(|error| Error::io("lock", &path, &error))? {
                return Ok((path, file));
            }
        }
        let reason = format!("{TRIES} temporary files were swept away or existed already");
        Err(Error::malformed(dir, reason))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            log::warn!("{error}");
        }
    }
}

/// Whether the lock was free.
fn lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The directory of `path`: `.` for a bare name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if dir.as_os_str() != OsStr::new("") => dir,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests;
