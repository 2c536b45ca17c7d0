//! A sysfs of one's own, mounted nowhere.
//!
//! sysfs shows the network devices of the namespace it was mounted from, not of the
//! caller's: after `setns` the old `/sys` still lists the host's. A detached mount
//! made from within gives the right view without a mount namespace.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;

/// `FSOPEN_CLOEXEC` and `FSMOUNT_CLOEXEC` of linux/mount.h.
const CLOEXEC: libc::c_uint = 1;
/// `FSCONFIG_CMD_CREATE` of linux/mount.h.
const CMD_CREATE: libc::c_uint = 6;
/// `MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC` of linux/mount.h.
const ATTRIBUTES: libc::c_uint = 0x2 | 0x4 | 0x8;

/// `FSPICK_CLOEXEC | FSPICK_EMPTY_PATH` of linux/mount.h.
const PICK_ITSELF: libc::c_uint = 1 | 8;
/// `FSCONFIG_SET_FLAG` of linux/mount.h.
const SET_FLAG: libc::c_uint = 0;
/// `FSCONFIG_CMD_RECONFIGURE` of linux/mount.h.
const CMD_RECONFIGURE: libc::c_uint = 7;

/// A new sysfs of the calling thread's network namespace, as a directory that stays
/// usable in every namespace and vanishes when closed. Needs `CAP_SYS_ADMIN`.
pub(super) fn sysfs_here() -> nix::Result<OwnedFd> {
    let context = fsopen(c"sysfs")?;
    let context = std::os::fd::AsFd::as_fd(&context);
    fsconfig(context, CMD_CREATE, None)?;
    fsmount(context)
}

/// A sysfs made writable for as long as this lives.
///
/// A network namespace has one sysfs, however often it is mounted, and a container
/// runtime that mounts it read-only makes it so for all. The container's own mount has
/// its own read-only flag, so nothing opens up inside the container meanwhile, nor if
/// this process is killed here.
pub(super) struct Writable<'a>(BorrowedFd<'a>);

impl<'a> Writable<'a> {
    /// Makes the sysfs behind `dir`, its root, writable. Needs `CAP_SYS_ADMIN`.
    pub(super) fn make(dir: BorrowedFd<'a>) -> nix::Result<Self> {
        reconfigure(dir, c"rw").map(|()| Self(dir))
    }
}

impl Drop for Writable<'_> {
    fn drop(&mut self) {
        // EBUSY: somebody else writes now, and would find it read-only in between.
        if let Err(errno) = reconfigure(self.0, c"ro") {
            log::debug!("sysfs of a namespace stays writable: {errno}");
        }
    }
}

fn reconfigure(dir: BorrowedFd<'_>, flag: &CStr) -> nix::Result<()> {
    let context = fspick(dir)?;
    let context = std::os::fd::AsFd::as_fd(&context);
    fsconfig(context, SET_FLAG, Some(flag))?;
    fsconfig(context, CMD_RECONFIGURE, None)
}

/// fspick(2), Linux 5.2.
fn fspick(dir: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    // SAFETY: the path is an empty NUL-terminated text and `dir` is open for the
    // length of the call.
    owned(unsafe { libc::syscall(libc::SYS_fspick, dir.as_raw_fd(), c"".as_ptr(), PICK_ITSELF) })
}

/// fsopen(2), Linux 5.2.
fn fsopen(name: &CStr) -> nix::Result<OwnedFd> {
    // SAFETY: `name` is NUL-terminated and outlives the call; nothing else is read.
    owned(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), CLOEXEC) })
}

/// fsconfig(2), Linux 5.2: a command without a value, with or without a key.
fn fsconfig(context: BorrowedFd<'_>, command: libc::c_uint, key: Option<&CStr>) -> nix::Result<()> {
    let none = ptr::null::<libc::c_char>();
    // SAFETY: the key is NUL-terminated or null, the value is null and the last
    // argument is 0, as these commands demand; `context` is open for the call's length.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            command,
            key.map_or(none, CStr::as_ptr),
            none,
            0,
        )
    };
    Errno::result(rc).map(drop)
}

/// fsmount(2), Linux 5.2.
fn fsmount(context: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    // SAFETY: the call takes no pointer and `context` is open for its length.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), CLOEXEC, ATTRIBUTES) })
}

/// The descriptor a system call returned.
fn owned(rc: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = i32::try_from(Errno::result(rc)?).map_err(|_overflow| Errno::EBADF)?;
    // SAFETY: all callers pass what the kernel has just opened for us; nobody else
    // knows the number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
