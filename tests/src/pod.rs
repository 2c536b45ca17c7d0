//! A pod: a named network namespace of its own, as a container runtime makes one.

use std::any::Any;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::space::Space;
use crate::sys::{self, join_net};

/// A network namespace bound to a file, destroyed when dropped.
#[derive(Debug)]
pub struct Pod {
    path: PathBuf,
    namespace: File,
}

impl Pod {
    /// Makes a namespace with `lo` up and binds it to `path`, which must not exist.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        File::create_new(path).with_context(|| format!("create {}", path.display()))?;
        in_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("unshare the network namespace")?;
            bind(Path::new("/proc/thread-self/ns/net"), path)
        })?;
        let pod = Self {
            path: path.to_owned(),
            namespace: File::open(path)?,
        };
        pod.ip("link set lo up")?;
        Ok(pod)
    }

    /// The file it is bound to: what a runtime passes as `CNI_NETNS`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Unbinds and removes the file, as a runtime that lost its pod leaves it. The
    /// namespace itself lives on as long as this value (or a process) holds it.
    pub fn unbind(&self) -> Result<()> {
        umount2(&self.path, MntFlags::MNT_DETACH)
            .with_context(|| format!("unmount {}", self.path.display()))?;
        fs::remove_file(&self.path).with_context(|| format!("remove {}", self.path.display()))
    }

    /// Binds the namespace to a second file, for example to have it come back at
    /// another path.
    pub fn bind_to(&self, path: &Path) -> Result<()> {
        File::create(path).with_context(|| format!("create {}", path.display()))?;
        self.enter(|| bind(Path::new("/proc/thread-self/ns/net"), path))
    }

    /// The kernel's cookie of this namespace (`SO_NETNS_COOKIE`).
    pub fn cookie(&self) -> Result<u64> {
        self.enter(|| {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").context("open a socket")?;
            sys::netns_cookie(&socket).context("read the namespace cookie")
        })
    }
}

impl Space for Pod {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let namespace = self.namespace.try_clone();
        let join = move || match &namespace {
            Ok(namespace) => join_net(namespace),
            Err(error) => Err(error.kind().into()),
        };
        // SAFETY: between fork and exec `join` only calls setns(2): it neither
        // allocates nor takes a lock.
        unsafe { command.pre_exec(join) };
        command
    }

    fn enter<R: Send>(&self, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        in_thread(|| {
            join_net(&self.namespace).with_context(|| format!("enter {}", self.path.display()))?;
            work()
        })
    }

    fn in_sys<R: Send>(&self, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        self.enter(|| {
            private_sysfs()?;
            work()
        })
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // The mount namespace goes with the test, so what is left here is only early.
        umount2(&self.path, MntFlags::MNT_DETACH).ok();
        fs::remove_file(&self.path).ok();
    }
}

/// Gives the calling thread a mount namespace whose `/sys` is its own network's.
fn private_sysfs() -> Result<()> {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).context("unshare the mounts")?;
    let none: Option<&str> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).context("make the mounts private")?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).context("mount /sys")
}

pub(crate) fn read_trimmed(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.trim_end().to_owned())
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    let none: Option<&str> = None;
    mount(Some(from), to, none, MsFlags::MS_BIND, none)
        .with_context(|| format!("bind the namespace to {}", to.display()))
}

/// Runs `work` on a thread that ends with it: whatever namespace it joined, the caller
/// stays where it is.
pub(crate) fn in_thread<R: Send>(work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    std::thread::scope(|scope| {
        scope
            .spawn(work)
            .join()
            .map_err(|panic| anyhow!("{}", panic_text(panic.as_ref())))?
    })
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
    text.unwrap_or_else(|| "a panic without a message".to_owned())
}
