//! Files that are there whole or not at all: written to a temporary of the same
//! directory, then linked, renamed or exchanged to their name.
//!
//! A writer holds a lock (flock(2)) on its temporary for as long as it lives, so a
//! temporary that can be locked was left by a dead one, whatever its pid is now, or is the
//! old content that an exchange left there: nobody needs either.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::dirs;
use crate::error::{Error, Kind, Result};

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
    let mut temporary = Temporary::write(path, bytes, mode, durability)?;
    fs::rename(&temporary.path, path).map_err(|error| Error::io("replace", path, &error))?;
    temporary.is_there = false;
    if durability == Durability::Durable {
        let dir = parent(path);
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|error| Error::io("sync", dir, &error))?;
    }
    Ok(())
}

/// As [`replace`], of a file that has to be there: its old content is never brought back
/// to a name that was taken away meanwhile. It does not survive a power failure.
///
/// # Errors
/// [`Error::Absent`] if there is no such file; else what the kernel refused, and the old
/// content then stands.
pub fn exchange(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let absent = || Error::Absent {
        path: path.to_owned(),
    };
    let temporary = match Temporary::write(path, bytes, mode, Durability::Volatile) {
        Err(error) if error.kind() == Kind::Kernel(berth_kernel::Kind::NotFound) => {
            return Err(absent());
        }
        written => written?,
    };
    // The old content becomes the temporary.
    match renameat2(
        AT_FDCWD,
        &temporary.path,
        AT_FDCWD,
        path,
        RenameFlags::RENAME_EXCHANGE,
    ) {
        Ok(()) => Ok(()),
        Err(Errno::ENOENT) => Err(absent()),
        Err(errno) => Err(Error::io("replace", path, &errno.into())),
    }
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

/// A written, locked temporary; removed when dropped, unless a rename took it.
struct Temporary {
    path: PathBuf,
    is_there: bool,
    _locked: File,
}

impl Temporary {
    fn write(target: &Path, bytes: &[u8], mode: u32, durability: Durability) -> Result<Self> {
        let (mut temporary, made) = Self::open(parent(target))?;
        let file = &mut temporary._locked;
        let set_mode = |file: &File| match made.mode() & 0o7777 == mode {
            true => Ok(()),
            // Another one is wished, or the umask of a runtime took some of it.
            false => file.set_permissions(Permissions::from_mode(mode)),
        };
        file.write_all(bytes)
            .and_then(|()| set_mode(file))
            .and_then(|()| match durability {
                Durability::Volatile => Ok(()),
                Durability::Durable => file.sync_all(),
            })
            .map_err(|error| Error::io("write", target, &error))?;
        Ok(temporary)
    }

    /// A new one, empty, and how it was made.
    fn open(dir: &Path) -> Result<(Self, Metadata)> {
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
            let ours = lock(&file).and_then(|locked| Ok((locked, file.metadata()?)));
            let (locked, made) = ours.map_err(|error| Error::io("lock", &path, &error))?;
            if locked && made.nlink() == 1 {
                let temporary = Self {
                    path,
                    is_there: true,
                    _locked: file,
                };
                return Ok((temporary, made));
            }
        }
        let reason = format!("{TRIES} temporary files were swept away or existed already");
        Err(Error::malformed(dir, reason))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_there {
            return;
        }
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
