//! A node of its own for each program that is measured: its links, its `/run`, and the
//! containers on it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

const NONE: Option<&str> = None;
const OWN_NET: &str = "/proc/thread-self/ns/net";

/// Namespaces of network and mounts. They end with the value.
#[derive(Debug)]
pub(crate) struct Stage {
    net: File,
    mounts: File,
}

impl Stage {
    /// A new one: no links but `lo`, which is up, an empty `/run`, IPv6 off if so wished
    /// here and in the containers.
    ///
    /// # Errors
    /// The kernel's, usually for want of privileges.
    pub(crate) fn new() -> Result<Self> {
        in_thread(|| {
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
                .context("make namespaces (root?)")?;
            mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
                .context("make the mounts private")?;
            for (kind, at) in [("tmpfs", "/run"), ("sysfs", "/sys")] {
                mount(Some(kind), at, Some(kind), MsFlags::empty(), NONE)
                    .with_context(|| format!("mount {kind} on {at}"))?;
            }
            fs::create_dir("/run/netns")?;
            crate::run::plain("ip link set lo up")?;
            Ok(Self {
                net: File::open(OWN_NET)?,
                mounts: File::open("/proc/thread-self/ns/mnt")?,
            })
        })
    }

    /// Runs `work` on a thread that is here; what it starts is here, too.
    ///
    /// # Errors
    /// That of `work`.
    pub(crate) fn enter<R: Send>(&self, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        in_thread(|| {
            // A thread changes its mounts only if it shares no working directory.
            unshare(CloneFlags::CLONE_FS).context("unshare the working directory")?;
            setns(&self.mounts, CloneFlags::CLONE_NEWNS).context("enter the mounts")?;
            setns(&self.net, CloneFlags::CLONE_NEWNET).context("enter the network")?;
            work()
        })
    }
}

/// Turns IPv6 off for all links the calling thread's namespace will get.
///
/// # Errors
/// That of a write below `/proc/sys`.
pub(crate) fn without_ipv6() -> Result<()> {
    for which in ["all", "default"] {
        let file = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
        fs::write(&file, "1").with_context(|| format!("write {file}"))?;
    }
    Ok(())
}

/// A container's network namespace on the stage the calling thread is on.
#[derive(Debug)]
pub(crate) struct Container {
    path: PathBuf,
}

impl Container {
    /// Makes one, as a runtime does.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn new(name: &str, ipv6: bool) -> Result<Self> {
        let path = Path::new("/run/netns").join(name);
        File::create_new(&path).with_context(|| format!("create {}", path.display()))?;
        in_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("unshare the network namespace")?;
            mount(Some(OWN_NET), &path, NONE, MsFlags::MS_BIND, NONE)
                .with_context(|| format!("bind the namespace to {}", path.display()))?;
            if ipv6 { Ok(()) } else { without_ipv6() }
        })?;
        Ok(Self { path })
    }

    /// What a runtime passes as `CNI_NETNS`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` on a thread in it.
    ///
    /// # Errors
    /// That of `work`.
    pub(crate) fn enter<R: Send>(&self, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        let namespace = File::open(&self.path)?;
        in_thread(|| {
            setns(&namespace, CloneFlags::CLONE_NEWNET).context("enter the container")?;
            work()
        })
    }

    /// Removes it.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn remove(self) -> Result<()> {
        umount2(&self.path, MntFlags::MNT_DETACH)
            .with_context(|| format!("unmount {}", self.path.display()))?;
        Ok(fs::remove_file(&self.path)?)
    }
}

/// On a thread that ends with it: whatever it joined, the caller stays where it is.
fn in_thread<R: Send>(work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
