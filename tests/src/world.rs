//! The private world one test runs in: how its namespaces and mounts are made.
//!
//! The test process becomes three: the outer one holds the network namespace, pid 1
//! of the new pid namespace reaps orphans as an init does, and the body runs as its
//! child. When any outer one dies the kernel kills the rest.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, wait, waitpid};
use nix::unistd::Pid;

use crate::command;
use crate::node::{Port, join_home};
use crate::sys;

/// Which of the three processes [`enter`] returned in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The body: run the test now.
    Body,
    /// A process around it: the body is over, with this exit status.
    Around(u8),
}

/// The network namespace of a test.
#[derive(Debug)]
pub(crate) enum Net<'a> {
    /// A new one, lent these ports.
    Own(&'a [Port]),
    /// That of the machine's pid 1.
    Home,
}

/// Builds the world and returns once per process in it.
pub(crate) fn enter(net: &Net<'_>) -> Result<Role> {
    match net {
        Net::Own(ports) => {
            unshare(CloneFlags::CLONE_NEWNET).context("unshare the network namespace")?;
            for port in *ports {
                port.lend_to(std::process::id())?;
            }
        }
        Net::Home => join_home()?,
    }
    unshare(CloneFlags::CLONE_NEWPID).context("unshare the pid namespace")?;
    if let Some(init) = sys::fork_single_threaded()? {
        let status = waitpid(init, None).context("wait for the test's pid 1")?;
        return Ok(Role::Around(exit_status(status)));
    }
    sys::die_with_parent().context("tie pid 1 to its parent")?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC)
        .context("unshare mounts and IPC")?;
    private_mounts()?;
    command::run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    match sys::fork_single_threaded()? {
        Some(body) => Ok(Role::Around(reap_until(body)?)),
        None => Ok(Role::Body),
    }
}

/// What pid 1 is for: orphans are reaped, so a killed process is gone and no zombie.
fn reap_until(body: Pid) -> Result<u8> {
    loop {
        let status = wait().context("wait for the test")?;
        if status.pid() == Some(body) {
            return Ok(exit_status(status));
        }
    }
}

/// A shell's convention: 128 and the signal for a killed process.
fn exit_status(status: WaitStatus) -> u8 {
    let code = match status {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        _ => 255,
    };
    u8::try_from(code).unwrap_or(255)
}

const NONE: Option<&str> = None;

fn private_mounts() -> Result<()> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(NONE, "/", NONE, private, NONE).context("make the mounts private")?;
    tmpfs("/run")?;
    private_sys()?;
    private_var_lib()?;
    private_etc()?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), NONE).context("mount /proc")
}

/// A sysfs mount shows the devices of the namespace it was made in. The cgroup trees
/// on the old one are moved over, since a test must not mount hierarchies of its own.
fn private_sys() -> Result<()> {
    let kept = "/run/.cgroup";
    bind("/sys/fs/cgroup", kept)?;
    match mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), NONE) {
        // The kernel does not stack a filesystem on itself: /sys is this namespace's.
        Ok(()) | Err(Errno::EBUSY) => {}
        Err(error) => return Err(error).context("mount sysfs on /sys"),
    }
    mount(Some(kept), "/sys/fs/cgroup", NONE, MsFlags::MS_MOVE, NONE)
        .context("move the cgroup tree over")?;
    fs::remove_dir(kept).with_context(|| format!("remove {kept}"))
}

/// An empty `/var/lib` but for what belongs to others: a checkout or a runtime may
/// live there, Berth's and CNI's state is the test's own.
fn private_var_lib() -> Result<()> {
    let kept = "/run/.varlib";
    bind("/var/lib", kept)?;
    tmpfs("/var/lib")?;
    for entry in fs::read_dir(kept)? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name == "cni" || name == "berth";
        if entry.file_type()?.is_dir() && !ours {
            bind(entry.path(), Path::new("/var/lib").join(name))?;
        }
    }
    umount2(kept, MntFlags::MNT_DETACH).with_context(|| format!("unmount {kept}"))?;
    fs::remove_dir(kept).with_context(|| format!("remove {kept}"))
}

/// An empty `/etc/berth`: the agent of a test is configured by the test. The machine's own
/// is hidden; where it has none there is nothing to hide, and none is made.
fn private_etc() -> Result<()> {
    match Path::new("/etc/berth").is_dir() {
        true => tmpfs("/etc/berth"),
        false => Ok(()),
    }
}

fn bind(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(from), to, NONE, flags, NONE)
        .with_context(|| format!("bind {} to {}", from.display(), to.display()))
}

fn tmpfs(at: &str) -> Result<()> {
    mount(
        Some("tmpfs"),
        at,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=0755"),
    )
    .with_context(|| format!("mount a tmpfs on {at}"))
}
