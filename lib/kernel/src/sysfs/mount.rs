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

/// A new sysfs of the calling thread's network namespace, as a directory that stays
/// usable in every namespace and vanishes when closed. Needs `CAP_SYS_ADMIN`.
pub(super) fn sysfs_here() -> nix::Result<OwnedFd> {
    let context = fsopen(c"sysfs")?;
    let context = std::os::fd::AsFd::as_fd(&context);
    fsconfig_create(context)?;
    fsmount(context)
}

/// fsopen(2), Linux 5.2.
fn fsopen(name: &CStr) -> nix::Result<OwnedFd> {
    // SAFETY: `name` is NUL-terminated and outlives the call; nothing else is read.
    owned(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), CLOEXEC) })
}

/// fsconfig(2) with `FSCONFIG_CMD_CREATE`, Linux 5.2.
fn fsconfig_create(context: BorrowedFd<'_>) -> nix::Result<()> {
    let none = ptr::null::<libc::c_char>();
    // SAFETY: this command takes neither key nor value: both pointers are null and
    // the last argument is 0, as the call demands; `context` is open for its length.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            CMD_CREATE,
            none,
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
    // SAFETY: both callers pass what the kernel has just opened for us; nobody else
    // knows the number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
