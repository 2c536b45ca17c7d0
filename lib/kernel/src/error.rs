//! The one error of this crate: which operation failed on which object, and why.

use std::fmt;
use std::io;

use nix::errno::Errno;

/// Result of a kernel operation.
pub type Result<T> = std::result::Result<T, Error>;

/// A kernel operation that failed: the operation, its object, the errno and, where
/// the kernel sent one, its own sentence (netlink extended acknowledgement).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What was tried, as a verb phrase: `create veth`, `write`.
    pub op: String,
    /// On what: an interface name, a path, a route.
    pub object: String,
    /// The kernel's error number, if it was the kernel that refused.
    pub errno: Option<Errno>,
    /// The reason in words: extended-ack text, or what could not be parsed.
    pub reason: Option<String>,
}

/// What kind of failure it was; callers decide by it, never by text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The object does not exist (ENOENT, ENODEV, ENXIO, ESRCH, EADDRNOTAVAIL).
    NotFound,
    /// The object exists already (EEXIST).
    Exists,
    /// Trying again later may help (EBUSY, EAGAIN, EINTR, ENOBUFS, ETIMEDOUT, EXFULL).
    TryAgain,
    /// The kernel lacks the feature (EOPNOTSUPP, EAFNOSUPPORT, ENOSYS, EPROTONOSUPPORT).
    Unsupported,
    /// The caller lacks a capability (EPERM, EACCES).
    Denied,
    /// Anything else the kernel refused.
    Refused,
    /// The kernel's answer could not be understood.
    Malformed,
}

impl Error {
    /// An error reported by the kernel as an errno.
    pub fn errno(op: impl Into<String>, object: impl fmt::Display, errno: Errno) -> Self {
        Self {
            op: op.into(),
            object: object.to_string(),
            errno: Some(errno),
            reason: None,
        }
    }

    /// An error from `std::io`; its errno is kept when it has one.
    pub fn io(op: impl Into<String>, object: impl fmt::Display, source: &io::Error) -> Self {
        let errno = source.raw_os_error().map(Errno::from_raw);
        let reason = errno.is_none().then(|| source.to_string());
        Self {
            op: op.into(),
            object: object.to_string(),
            errno,
            reason,
        }
    }

    /// An answer that could not be understood, or a wish that cannot be expressed.
    pub fn malformed(
        op: impl Into<String>,
        object: impl fmt::Display,
        reason: impl Into<String>,
    ) -> Self {
        Self {
            op: op.into(),
            object: object.to_string(),
            errno: None,
            reason: Some(reason.into()),
        }
    }

    /// Adds the kernel's own sentence.
    #[must_use]
    pub fn because(mut self, reason: Option<String>) -> Self {
        self.reason = reason.or(self.reason);
        self
    }

    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        use Errno::{
            EACCES, EADDRNOTAVAIL, EAFNOSUPPORT, EAGAIN, EBUSY, EEXIST, EINTR, ENOBUFS, ENODEV,
            ENOENT, ENOSYS, ENXIO, EOPNOTSUPP, EPERM, EPROTONOSUPPORT, ESRCH, ETIMEDOUT, EXFULL,
        };
        match self.errno {
            None => Kind::Malformed,
            Some(ENOENT | ENODEV | ENXIO | ESRCH | EADDRNOTAVAIL) => Kind::NotFound,
            Some(EEXIST) => Kind::Exists,
            Some(EBUSY | EAGAIN | EINTR | ENOBUFS | ETIMEDOUT | EXFULL) => Kind::TryAgain,
            Some(EOPNOTSUPP | EAFNOSUPPORT | ENOSYS | EPROTONOSUPPORT) => Kind::Unsupported,
            Some(EPERM | EACCES) => Kind::Denied,
            Some(_) => Kind::Refused,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.op, self.object)?;
        if let Some(errno) = self.errno {
            write!(f, ": {errno:?} ({})", errno.desc())?;
        }
        if let Some(reason) = &self.reason {
            write!(f, ": {reason}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Treats an absent object as success: what a sweep wants.
pub trait AbsentIsFine<T> {
    /// `Ok(None)` when the object does not exist, otherwise the result unchanged.
    fn absent_is_fine(self) -> Result<Option<T>>;
}

impl<T> AbsentIsFine<T> for Result<T> {
    fn absent_is_fine(self) -> Result<Option<T>> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_operation_object_errno_and_the_kernels_sentence() {
        let error = Error::errno("set mtu of", "bv0", Errno::EINVAL)
            .because(Some("mtu less than device minimum".into()));
        assert_eq!(
            error.to_string(),
            "set mtu of bv0: EINVAL (Invalid argument): mtu less than device minimum"
        );
    }

    #[test]
    fn kinds_follow_the_errno() {
        for (errno, kind) in [
            (Errno::ENODEV, Kind::NotFound),
            (Errno::EEXIST, Kind::Exists),
            (Errno::EXFULL, Kind::TryAgain),
            (Errno::EOPNOTSUPP, Kind::Unsupported),
            (Errno::EPERM, Kind::Denied),
            (Errno::ERANGE, Kind::Refused),
        ] {
            assert_eq!(Error::errno("x", "y", errno).kind(), kind, "{errno:?}");
        }
        assert_eq!(Error::malformed("x", "y", "z").kind(), Kind::Malformed);
    }

    #[test]
    fn absent_is_fine_only_for_absence() {
        let gone: Result<()> = Err(Error::errno("delete", "x", Errno::ENODEV));
        assert_eq!(gone.absent_is_fine(), Ok(None));
        let busy: Result<()> = Err(Error::errno("delete", "x", Errno::EBUSY));
        assert!(busy.absent_is_fine().is_err());
    }
}
