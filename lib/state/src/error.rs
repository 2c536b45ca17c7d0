//! The error of this crate: which file, what was wished, why not, and what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_kernel::PciAddr;

use crate::claim::Claim;

/// Result of an operation on remembered state.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation on remembered state that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file was to be made, and somebody has made it.
    #[error("{} exists already", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file was to be replaced, and somebody has removed it.
    #[error("{} is gone: its attachment was removed meanwhile", .path.display())]
    Absent {
        /// The file.
        path: PathBuf,
    },
    /// The VF is claimed or in quarantine.
    #[error("VF {address} is {claim}: choose another VF or release this one")]
    Taken {
        /// The VF.
        address: PciAddr,
        /// What stands in its claim.
        claim: Box<Claim>,
    },
    /// A claim was to be changed by somebody it does not belong to.
    #[error("the claim of VF {address} cannot be released by {wisher}: it is {claim}")]
    NotOwner {
        /// The VF.
        address: PciAddr,
        /// What stands in its claim.
        claim: Box<Claim>,
        /// Who wanted it released.
        wisher: String,
    },
    /// The lock was not free within the time.
    #[error("lock {lock} was not free within {} ms, it is held by {}: try again",
        .waited.as_millis(), .holder.as_deref().unwrap_or("a process that has not named itself"))]
    LockBusy {
        /// The lock's name.
        lock: String,
        /// Who holds it, if that could be read: `pid 7 for blue/c1:eth0`.
        holder: Option<String>,
        /// How long this caller waited.
        waited: Duration,
    },
    /// A newer Berth wrote the file. It is never deleted.
    #[error("{} has format {found}, this version reads up to {newest}: use the version of Berth that wrote it",
        .path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format this version reads.
        newest: u64,
    },
    /// The file is not what it should be. It is never deleted.
    #[error("{} cannot be understood: {reason}; it is kept: examine it, then correct or remove it by hand",
        .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The kernel refused a file operation.
    #[error(transparent)]
    Kernel(#[from] berth_kernel::Error),
}

/// What kind of failure it was; callers decide by it, never by text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// See [`Error::Exists`].
    Exists,
    /// See [`Error::Absent`].
    Absent,
    /// See [`Error::Taken`].
    Taken,
    /// See [`Error::NotOwner`].
    NotOwner,
    /// See [`Error::LockBusy`].
    LockBusy,
    /// See [`Error::NewerFormat`].
    NewerFormat,
    /// See [`Error::Malformed`].
    Malformed,
    /// See [`Error::Kernel`].
    Kernel(berth_kernel::Kind),
}

impl Error {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Exists { .. } => Kind::Exists,
            Self::Absent { .. } => Kind::Absent,
            Self::Taken { .. } => Kind::Taken,
            Self::NotOwner { .. } => Kind::NotOwner,
            Self::LockBusy { .. } => Kind::LockBusy,
            Self::NewerFormat { .. } => Kind::NewerFormat,
            Self::Malformed { .. } => Kind::Malformed,
            Self::Kernel(error) => Kind::Kernel(error.kind()),
        }
    }

    pub(crate) fn io(op: &str, path: &Path, source: &io::Error) -> Self {
        Self::Kernel(berth_kernel::Error::io(op, path.display(), source))
    }

    pub(crate) fn malformed(path: &Path, reason: impl fmt::Display) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}
