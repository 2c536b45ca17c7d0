//! Which system calls change something outside the program that makes them, and how
//! to name one.

use std::ffi::c_long;
use std::fs;

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::unistd::Pid;

use super::filter::Condition;

/// Where a call's object is found in its arguments.
#[derive(Clone, Copy)]
enum Object {
    /// A path at this argument.
    Path(usize),
    /// A path at the first argument given; a change if the second has [`OPEN_CHANGES`].
    Opened(usize, usize),
    /// A descriptor at argument 0.
    Descriptor,
    /// A descriptor at argument 0 and bytes at argument 1: perhaps a netlink message.
    Message,
    /// As `Message`, inside the msghdr at argument 1.
    Header,
    /// A descriptor at argument 0; the call changes something if the command at
    /// argument 1 does.
    Control,
    /// As `Control`, of quotactl_fd(2).
    Quota,
    /// Nothing that can be named.
    None,
}

const CALLS: &[(c_long, &str, Object)] = &[
    (libc::SYS_openat, "openat", Object::Opened(1, 2)),
    (libc::SYS_write, "write", Object::Descriptor),
    (libc::SYS_writev, "writev", Object::Descriptor),
    (libc::SYS_pwrite64, "pwrite64", Object::Descriptor),
    (libc::SYS_ftruncate, "ftruncate", Object::Descriptor),
    (libc::SYS_fchmod, "fchmod", Object::Descriptor),
    (libc::SYS_fchmodat, "fchmodat", Object::Path(1)),
    (libc::SYS_mkdirat, "mkdirat", Object::Path(1)),
    (libc::SYS_linkat, "linkat", Object::Path(3)),
    (libc::SYS_unlinkat, "unlinkat", Object::Path(1)),
    (libc::SYS_renameat, "renameat", Object::Path(3)),
    (libc::SYS_renameat2, "renameat2", Object::Path(3)),
    (libc::SYS_symlinkat, "symlinkat", Object::Path(2)),
    (libc::SYS_mount, "mount", Object::Path(1)),
    (libc::SYS_umount2, "umount2", Object::Path(0)),
    (libc::SYS_sendto, "sendto", Object::Message),
    (libc::SYS_sendmsg, "sendmsg", Object::Header),
    (libc::SYS_ioctl, "ioctl", Object::Control),
    (libc::SYS_quotactl_fd, "quotactl_fd", Object::Quota),
    (libc::SYS_bpf, "bpf", Object::None),
];

/// Calls that newer architectures no longer have.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[(c_long, &str, Object)] = &[
    (libc::SYS_open, "open", Object::Opened(0, 1)),
    (libc::SYS_chmod, "chmod", Object::Path(0)),
    (libc::SYS_mkdir, "mkdir", Object::Path(0)),
    (libc::SYS_rmdir, "rmdir", Object::Path(0)),
    (libc::SYS_link, "link", Object::Path(1)),
    (libc::SYS_unlink, "unlink", Object::Path(0)),
    (libc::SYS_rename, "rename", Object::Path(1)),
    (libc::SYS_symlink, "symlink", Object::Path(1)),
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[(c_long, &str, Object)] = &[];

/// First of the rtnetlink message types; every third of four is a GET
/// (linux/rtnetlink.h).
const RTM_BASE: u16 = 16;
const RTM_MAX: u16 = 128;
const MESSAGES: &[(u16, &str)] = &[
    (16, "RTM_NEWLINK"),
    (17, "RTM_DELLINK"),
    (19, "RTM_SETLINK"),
    (20, "RTM_NEWADDR"),
    (21, "RTM_DELADDR"),
    (24, "RTM_NEWROUTE"),
    (25, "RTM_DELROUTE"),
    (28, "RTM_NEWNEIGH"),
    (29, "RTM_DELNEIGH"),
    (36, "RTM_NEWQDISC"),
    (44, "RTM_NEWTFILTER"),
];

/// Kinds of stops (linux/ptrace.h, PTRACE_SYSCALL_INFO_*).
const EXIT: u8 = 2;
const SECCOMP: u8 = 3;
/// Flags of open(2) that change something.
const OPEN_CHANGES: u32 = (libc::O_CREAT | libc::O_TRUNC).unsigned_abs();

/// nf_tables: a batch's first message, which has no more than a generation after its
/// header, and the messages that only ask (linux/netfilter/{nfnetlink,nf_tables}.h).
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_BEGIN_MAX: u32 = 28;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_GETS: [u16; 6] = [1, 4, 7, 10, 13, 16];

/// Asks for the project of a file (linux/fs.h).
const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;
/// Of the quota commands Berth uses, the one that changes something (linux/dqblk_xfs.h).
const Q_XSETQLIM: u64 = 0x5804;
/// ERESTARTSYS, ERESTARTNOINTR and ERESTARTNOHAND, which only a tracer sees.
const RESTARTS: std::ops::RangeInclusive<i64> = -514..=-512;

/// The calls to stop at, with what in their arguments makes them a change.
pub(super) fn watched() -> impl Iterator<Item = (c_long, Condition)> {
    CALLS.iter().chain(OLD_CALLS).map(|(number, _, object)| {
        let condition = match object {
            Object::Opened(_, flags) => Condition::AnyOf(*flags, OPEN_CHANGES),
            Object::Control => Condition::Not(1, FS_IOC_FSGETXATTR),
            _ => Condition::Always,
        };
        (*number, condition)
    })
}

/// The name and object of the call a thread is stopped at, before it is made; `None` if it
/// only asks.
pub(super) fn at_entry(pid: Pid) -> Result<Option<String>, Errno> {
    let info = ptrace::syscall_info(pid)?;
    if info.op != SECCOMP {
        return Ok(None);
    }
    // SAFETY: `op` says that the kernel filled the union's seccomp.
    let call = unsafe { info.u.seccomp };
    let mut known = CALLS.iter().chain(OLD_CALLS);
    let known = known.find(|(number, ..)| u64::try_from(*number) == Ok(call.nr));
    Ok(known.and_then(|(_, name, object)| {
        let text = describe(pid, *object, &call.args)?;
        Some(format!("{name} {text}"))
    }))
}

/// Whether the call a thread has just left is made again by the kernel: the write of a
/// sysctl restarts as long as another holds the lock it needs.
pub(super) fn restarts(pid: Pid) -> Result<bool, Errno> {
    let info = ptrace::syscall_info(pid)?;
    if info.op != EXIT {
        return Ok(false);
    }
    // SAFETY: `op` says that the kernel filled the union's exit.
    let result = unsafe { info.u.exit }.sval;
    Ok(RESTARTS.contains(&result))
}

/// The object of a call in words; `None` if the call only asks.
fn describe(pid: Pid, object: Object, args: &[u64; 6]) -> Option<String> {
    match object {
        Object::None => Some(String::new()),
        Object::Path(at) => Some(text_at(pid, args[at])),
        Object::Opened(at, _) => Some(text_at(pid, args[at])),
        Object::Descriptor | Object::Control => Some(descriptor(pid, args[0])),
        Object::Quota => (args[1] >> 8 == Q_XSETQLIM).then(|| descriptor(pid, args[0])),
        // A connected netlink socket needs no address; a packet socket does.
        Object::Message if args[4] != 0 => Some("a frame".to_owned()),
        Object::Message => message(word(pid, args[1])),
        Object::Header => {
            let parts = word(pid, args[1] + 16);
            message(parts.and_then(|at| word(pid, word(pid, at)?)))
        }
    }
}

fn message(start: Option<u64>) -> Option<String> {
    message_name(start.unwrap_or_default().to_ne_bytes())
}

/// A netlink message begins with its length and its type (linux/netlink.h).
fn message_name(bytes: [u8; 8]) -> Option<String> {
    let [a, b, c, d, e, f, ..] = bytes;
    let (len, kind) = (u32::from_ne_bytes([a, b, c, d]), u16::from_ne_bytes([e, f]));
    if kind == NFNL_MSG_BATCH_BEGIN && len <= NFNL_MSG_BATCH_BEGIN_MAX {
        return Some("NFNL_MSG_BATCH_BEGIN".to_owned());
    }
    let asks = if kind >> 8 == NFNL_SUBSYS_NFTABLES {
        NFT_GETS.contains(&(kind & 0xff))
    } else {
        (RTM_BASE..RTM_MAX).contains(&kind) && (kind - RTM_BASE) % 4 == 2
    };
    if asks {
        return None;
    }
    let known = MESSAGES.iter().find(|(number, _)| *number == kind);
    Some(known.map_or_else(|| format!("message type {kind}"), |(_, n)| (*n).to_owned()))
}

fn descriptor(pid: Pid, fd: u64) -> String {
    let link = fs::read_link(format!("/proc/{pid}/fd/{fd}"));
    link.map_or_else(
        |_| format!("descriptor {fd}"),
        |path| path.display().to_string(),
    )
}

/// Eight bytes of the program's memory.
fn word(pid: Pid, at: u64) -> Option<u64> {
    let at = std::ptr::with_exposed_provenance_mut(usize::try_from(at).ok()?);
    let word = ptrace::read(pid, at).ok()?;
    Some(u64::from_ne_bytes(word.to_ne_bytes()))
}

/// A NUL-terminated text of the program's memory.
fn text_at(pid: Pid, mut at: u64) -> String {
    let mut bytes = Vec::new();
    while let Some(word) = word(pid, at).filter(|_| bytes.len() < 4096) {
        let word = word.to_ne_bytes();
        let end = word.iter().position(|byte| *byte == 0);
        bytes.extend_from_slice(&word[..end.unwrap_or(word.len())]);
        if end.is_some() {
            break;
        }
        at += 8;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(len: u32, kind: u16) -> Option<String> {
        let [a, b, c, d] = len.to_ne_bytes();
        let [e, f] = kind.to_ne_bytes();
        message_name([a, b, c, d, e, f, 1, 0])
    }

    #[test]
    fn messages_that_change_something_are_told_from_those_that_ask() {
        for asking in [18, 22, 26, 0x0a01, 0x0a07, 0x0a0a, 0x0a0d, 0x0a10] {
            assert_eq!(name(40, asking), None, "{asking}");
        }
        for (len, kind, told) in [
            (20, 16, "NFNL_MSG_BATCH_BEGIN"),
            (28, 16, "NFNL_MSG_BATCH_BEGIN"),
            (32, 16, "RTM_NEWLINK"),
            (32, 19, "RTM_SETLINK"),
            (40, 0x0a0c, "message type 2572"),
        ] {
            assert_eq!(name(len, kind).as_deref(), Some(told));
        }
    }
}
