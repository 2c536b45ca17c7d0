//! The system calls themselves: quotactl_fd(2) and the ioctls of a file's attributes.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::errno::Errno;

use super::wire;

/// `PRJQUOTA` of include/uapi/linux/quota.h.
const PROJECT_QUOTA: u32 = 2;

/// A command about project quota (include/uapi/linux/dqblk_xfs.h).
#[derive(Debug, Clone, Copy)]
pub(super) enum Command {
    /// `Q_XGETQUOTA`: limits and usage of an id.
    Get = 0x5803,
    /// `Q_XSETQLIM`: sets limits.
    SetLimit = 0x5804,
    /// `Q_XGETQSTATV`: what is counted and enforced.
    State = 0x5808,
    /// `Q_XGETNEXTQUOTA`: as `Get`, of the next id there is.
    Next = 0x5809,
}

impl Command {
    /// How many bytes the kernel reads or writes.
    fn extent(self) -> usize {
        match self {
            Self::Get | Self::SetLimit | Self::Next => wire::QUOTA_BYTES,
            Self::State => wire::STATE_BYTES,
        }
    }
}

/// Sends a command about project `id` to the filesystem of `fs`, which may be a mere
/// name (`O_PATH`). EINVAL if `data` is shorter than the command's structure.
pub(super) fn quotactl(fs: &File, command: Command, id: u32, data: &mut [u8]) -> nix::Result<()> {
    if data.len() < command.extent() {
        return Err(Errno::EINVAL);
    }
    call(
        fs.as_raw_fd(),
        (command as u32) << 8 | PROJECT_QUOTA,
        id,
        data,
    )
}

/// Whether this kernel has quotactl_fd at all: it then looks at the file first.
pub(super) fn available() -> bool {
    let mut nothing = [0; wire::STATE_BYTES];
    let state = (Command::State as u32) << 8 | PROJECT_QUOTA;
    call(-1, state, 0, &mut nothing) != Err(Errno::ENOSYS)
}

/// `data` has room for what `command` writes.
fn call(fd: i32, command: u32, id: u32, data: &mut [u8]) -> nix::Result<()> {
    // SAFETY: the pointer is to `data`, borrowed mutably for the call and, as both
    // callers see to, at least as long as the structure of the command; the kernel
    // copies bytes, so that no alignment is needed.
    let rc = unsafe { libc::syscall(libc::SYS_quotactl_fd, fd, command, id, data.as_mut_ptr()) };
    Errno::result(rc).map(drop)
}

/// Words of `struct fsxattr`.
pub(super) const ATTR_WORDS: usize = 7;

mod request {
    use super::ATTR_WORDS;
    nix::ioctl_read!(get, b'X', 31, [u32; ATTR_WORDS]);
    nix::ioctl_write_ptr!(set, b'X', 32, [u32; ATTR_WORDS]);
}

/// `FS_IOC_FSGETXATTR`: the attributes of an open file or directory.
pub(super) fn attributes(file: &File) -> nix::Result<[u32; ATTR_WORDS]> {
    let mut words = [0; ATTR_WORDS];
    // SAFETY: `words` is as long as `struct fsxattr` (28 bytes) and outlives the call.
    unsafe { request::get(file.as_raw_fd(), &raw mut words) }?;
    Ok(words)
}

/// `FS_IOC_FSSETXATTR`: sets them.
pub(super) fn set_attributes(file: &File, words: &[u32; ATTR_WORDS]) -> nix::Result<()> {
    // SAFETY: `words` is as long as `struct fsxattr` (28 bytes) and outlives the call.
    unsafe { request::set(file.as_raw_fd(), &raw const *words) }.map(drop)
}
