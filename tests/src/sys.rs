//! The harness's own system calls, and nothing else: packet sockets (packet(7)),
//! setns(2), fork(2), the namespace cookie, a program for XDP.

use std::ffi::CString;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::space::poll;

/// One received frame as the kernel hands it over.
pub(crate) struct Received {
    /// The frame without its VLAN tag, if the kernel took that off.
    pub(crate) bytes: Vec<u8>,
    /// TPID and TCI of a tag the kernel took off.
    pub(crate) stripped: Option<(u16, u16)>,
    /// `PACKET_*` of linux/if_packet.h: to us, broadcast, outgoing.
    pub(crate) packet_type: u8,
}

const STATUS_VLAN_VALID: u32 = 1 << 4;
const STATUS_VLAN_TPID_VALID: u32 = 1 << 6;
const TPID_8021Q: u16 = 0x8100;

/// A raw socket bound to `link` that tells of stripped tags and wakes every 50 ms.
pub(crate) fn open(link: &str) -> Result<OwnedFd> {
    bound(link).with_context(|| format!("open a packet socket on {link}"))
}

fn bound(link: &str) -> Result<OwnedFd> {
    let protocol = u16::try_from(libc::ETH_P_ALL)?.to_be();
    // SAFETY: socket(2) takes three integers and owns no memory of ours.
    let fd = check(unsafe {
        libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::c_int::from(protocol),
        )
    })?;
    // SAFETY: the descriptor was returned just now, is open and has no other owner.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let on: libc::c_int = 1;
    option(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, &on)?;
    let wake = libc::timeval {
        tv_sec: 0,
        tv_usec: 50_000,
    };
    option(&socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &wake)?;
    // SAFETY: all-zero bytes are a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET)?;
    address.sll_protocol = protocol;
    address.sll_ifindex = index(link)?;
    // SAFETY: the pointer and the length describe `address`, which outlives the call.
    check(unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            length::<libc::sockaddr_ll>()?,
        )
    })?;
    Ok(socket)
}

/// Sends one whole Ethernet frame out of `link`.
pub(crate) fn send(link: &str, frame: &[u8]) -> Result<()> {
    let socket = open(link)?;
    // SAFETY: pointer and length are those of `frame`, which outlives the call.
    let sent = unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("send on {link}"));
    }
    Ok(())
}

/// The next frame, or `None` when none came within the socket's 50 ms.
pub(crate) fn receive(socket: &OwnedFd) -> Result<Option<Received>> {
    let mut bytes = vec![0u8; 65536];
    let mut control = [0u64; 16];
    // SAFETY: all-zero bytes are a valid sockaddr_ll.
    let mut from: libc::sockaddr_ll = unsafe { zeroed() };
    let mut part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all-zero bytes are a valid msghdr.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = length::<libc::sockaddr_ll>()?;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: every pointer in `message` is to a local that outlives the call, with
    // its true length beside it.
    let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let Ok(len) = usize::try_from(got) else {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error).context("receive from a packet socket"),
        };
    };
    bytes.truncate(len);
    // SAFETY: recvmsg filled `message`, and its control buffer is still alive.
    let stripped = unsafe { auxdata(&message) };
    Ok(Some(Received {
        bytes,
        stripped,
        packet_type: from.sll_pkttype,
    }))
}

/// # Safety
/// `message` must have been filled by recvmsg and its control buffer must be alive.
unsafe fn auxdata(message: &libc::msghdr) -> Option<(u16, u16)> {
    // SAFETY: the caller vouches for the message and its control buffer.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() }?;
    if header.cmsg_level != libc::SOL_PACKET || header.cmsg_type != libc::PACKET_AUXDATA {
        return None;
    }
    // SAFETY: a PACKET_AUXDATA message carries one tpacket_auxdata, unaligned at worst.
    let aux: libc::tpacket_auxdata = unsafe {
        libc::CMSG_DATA(header)
            .cast::<libc::tpacket_auxdata>()
            .read_unaligned()
    };
    let tpid = if aux.tp_status & STATUS_VLAN_TPID_VALID == 0 {
        TPID_8021Q
    } else {
        aux.tp_vlan_tpid
    };
    (aux.tp_status & STATUS_VLAN_VALID != 0).then_some((tpid, aux.tp_vlan_tci))
}

/// Joins a network namespace given by an open descriptor (setns(2)).
pub(crate) fn join_net(namespace: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: setns(2) takes two integers; the descriptor is open for the call.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }).map(|_| ())
}

/// How long [`receive`] waits at most.
pub(crate) const WAKE: Duration = Duration::from_millis(50);

/// `SO_NETNS_COOKIE` (asm-generic/socket.h): the cookie of the socket's namespace.
pub(crate) fn netns_cookie(socket: &impl AsRawFd) -> io::Result<u64> {
    let mut cookie = 0u64;
    let mut len: libc::socklen_t = 8;
    // SAFETY: the pointers are to `cookie` and to its length, both alive in the call.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    })?;
    Ok(cookie)
}

const SO_NETNS_COOKIE: libc::c_int = 71;

/// How long a thread that was joined may still be in `/proc`.
const REAP_LIMIT: Duration = Duration::from_secs(5);

/// fork(2) of a process that has one thread: `None` in the child, its pid in the parent.
/// A thread that was joined is waited for: the kernel takes it off the list a moment
/// after it has told of its end.
pub(crate) fn fork_single_threaded() -> Result<Option<nix::unistd::Pid>> {
    poll("end of all other threads", REAP_LIMIT, || {
        let tasks = std::fs::read_dir("/proc/self/task")?.count();
        Ok((tasks == 1).then_some(()))
    })
    .context("fork wants one thread")?;
    // SAFETY: counted just now: no other thread exists that could hold a lock the
    // child would wait for.
    match unsafe { nix::unistd::fork() }.context("fork")? {
        nix::unistd::ForkResult::Parent { child } => Ok(Some(child)),
        nix::unistd::ForkResult::Child => Ok(None),
    }
}

/// Has the kernel kill this process when its parent ends (prctl(2)).
pub(crate) fn die_with_parent() -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes one integer and owns no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }).map(|_| ())
}

/// Has the kernel ask `program` about each system call from now on (seccomp(2)). Makes
/// system calls only, so it may come between fork and exec.
pub(crate) fn set_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    // Without it only root may.
    nix::sys::prctl::set_no_new_privs()?;
    let program = libc::sock_fprog {
        len: libc::c_ushort::try_from(program.len()).unwrap_or(0),
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies the instructions, which outlive the call, and writes none.
    check(unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    })
    .map(|_| ())
}

fn index(link: &str) -> Result<libc::c_int> {
    let name = CString::new(link)?;
    // SAFETY: `name` is NUL-terminated and outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("find link {link}"));
    }
    Ok(libc::c_int::try_from(index)?)
}

fn option<T>(socket: &OwnedFd, level: i32, name: i32, value: &T) -> Result<()> {
    // SAFETY: pointer and length describe `value`, which outlives the call.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            length::<T>()?,
        )
    })?;
    Ok(())
}

fn length<T>() -> Result<libc::socklen_t> {
    Ok(libc::socklen_t::try_from(size_of::<T>())?)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Loads an XDP program that lets every frame pass, and pins it at `path`, which must
/// be on a mounted bpffs (bpf(2)).
pub(crate) fn pin_xdp_pass(path: &std::path::Path) -> io::Result<()> {
    const BPF_PROG_LOAD: libc::c_int = 5;
    const BPF_OBJ_PIN: libc::c_int = 6;
    const BPF_PROG_TYPE_XDP: u64 = 6;
    // r0 = XDP_PASS; exit.
    let code: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];
    let license = c"GPL";
    // prog_type and insn_cnt, insns, license; the rest is 0.
    let load: [u64; 16] = {
        let mut words = [0; 16];
        words[0] = BPF_PROG_TYPE_XDP | (code.len() as u64) << 32;
        words[1] = code.as_ptr() as u64;
        words[2] = license.as_ptr() as u64;
        words
    };
    let program = bpf(BPF_PROG_LOAD, &load)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    let program = unsafe { OwnedFd::from_raw_fd(program) };
    let name = CString::new(path.as_os_str().as_encoded_bytes())?;
    // pathname, bpf_fd and file_flags.
    let pin = [
        name.as_ptr() as u64,
        u64::from(program.as_raw_fd().cast_unsigned()),
    ];
    bpf(BPF_OBJ_PIN, &pin).map(drop)
}

fn bpf(command: libc::c_int, words: &[u64]) -> io::Result<libc::c_int> {
    // SAFETY: `words` are readable for the length given; the pointers in them are to
    // memory the callers hold until this returns.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, words.as_ptr(), size_of_val(words)) };
    match libc::c_int::try_from(result) {
        Ok(fd) if fd >= 0 => Ok(fd),
        _ => Err(io::Error::last_os_error()),
    }
}
