//! A lease's file before it has a name: written without one, then linked to the first
//! address that is free. A writer killed in between leaves nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::libc::O_TMPFILE;
use nix::unistd::linkat;

use crate::atomic;
use crate::dirs::PRIVATE_FILE;
use crate::error::{Error, Result};

/// The written file.
#[derive(Debug)]
pub(super) enum Draft {
    /// Nameless (`O_TMPFILE`, open(2)).
    Nameless(File),
    /// Beside the pool's directory, where the file system has no nameless ones. Removed when dropped; the name is the pool's own, so the
    /// next writer removes what a killed one left.
    Beside(PathBuf),
}

impl Draft {
    /// Writes `content` for a lease in `dir`, whose lock is held.
    pub(super) fn write(dir: &Path, content: &str) -> Result<Self> {
        match Self::nameless(dir, content) {
            Err(error) if is_unsupported(&error) => Self::beside(dir, content),
            other => other.map_err(|error| Error::io("write lease in", dir, &error)),
        }
    }

    fn nameless(dir: &Path, content: &str) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .write(true)
            .custom_flags(O_TMPFILE)
            .mode(PRIVATE_FILE)
            .open(dir)?;
        file.write_all(content.as_bytes())?;
        Ok(Self::Nameless(file))
    }

    /// The name may still be linked to a lease: it is removed, never written through.
    pub(super) fn beside(dir: &Path, content: &str) -> Result<Self> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let path = dir.with_file_name(format!(".{name}.new"));
        atomic::remove(&path)?;
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(PRIVATE_FILE)
            .open(&path);
        created
            .and_then(|mut file| file.write_all(content.as_bytes()))
            .map_err(|error| Error::io("write lease in", dir, &error))?;
        Ok(Self::Beside(path))
    }

    /// Gives the file this name too, unless it is taken.
    pub(super) fn link(&self, path: &Path) -> Result<bool> {
        let linked = match self {
            // By its name in proc: with an empty path it would take CAP_DAC_READ_SEARCH.
            Self::Nameless(file) => {
                let draft = format!("/proc/self/fd/{}", file.as_raw_fd());
                let follow = AtFlags::AT_SYMLINK_FOLLOW;
                linkat(AT_FDCWD, draft.as_str(), AT_FDCWD, path, follow).map_err(io::Error::from)
            }
            Self::Beside(draft) => fs::hard_link(draft, path),
        };
        match linked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(Error::io("create lease", path, &error)),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Self::Beside(path) = self
            && let Err(error) = atomic::remove(path)
        {
            log::warn!("{error}");
        }
    }
}

/// The file system has no nameless files (EISDIR: the kernel does not know of them).
fn is_unsupported(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EOPNOTSUPP | Errno::EISDIR))
}
