//! Network namespaces: opened by path or pid, told apart by cookie, entered for the time
//! of a call.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use crate::root::Root;
use crate::{Error, Result};

/// An open network namespace. It stays alive as long as this value does.
#[derive(Debug)]
pub struct NetNs {
    file: File,
    path: PathBuf,
    /// Once it was asked for: a namespace keeps its own.
    cookie: OnceLock<u64>,
}

thread_local! {
    /// The namespace this thread belongs to. It leaves it in [`NetNs::run`] only, for the
    /// time of a call, so it has to be opened only once.
    static HOME: OnceCell<Rc<NetNs>> = const { OnceCell::new() };
}

/// Where procfs shows the calling thread's namespace.
const CURRENT: &str = "/proc/thread-self/ns/net";

/// The way back to the namespace a thread belongs to.
struct Home(Rc<NetNs>);

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(errno) = setns(&self.0.file, CloneFlags::CLONE_NEWNET) {
            // The next change would hit the wrong namespace, and so would a rollback.
            eprintln!("cannot leave a network namespace ({errno}): stopping here");
            std::process::abort();
        }
    }
}

/// Device and inode of a namespace file. The kernel gives the inode of a dead
/// namespace to the next one at once: only the cookie proves sameness over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Device number of nsfs.
    pub dev: u64,
    /// Inode number in nsfs.
    pub ino: u64,
}

impl Identity {
    /// Of the file at `path`, which need not be a namespace's.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn of(path: &Path) -> Result<Self> {
        Self::from(path, fs::metadata(path))
    }

    /// Of the calling thread's namespace.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn current() -> Result<Self> {
        Self::of(Path::new(CURRENT))
    }

    fn from(path: &Path, seen: io::Result<Metadata>) -> Result<Self> {
        let seen = seen.map_err(|e| Error::io("examine namespace", path.display(), &e))?;
        Ok(Self {
            dev: seen.dev(),
            ino: seen.ino(),
        })
    }
}

impl NetNs {
    /// Opens the namespace that `path` names. A path that is no network namespace
    /// (a plain file, a mount point left behind) is refused.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)
            .map_err(|e| Error::io("open network namespace", path.display(), &e))?;
        let this = Self {
            file,
            path: path.to_owned(),
            cookie: OnceLock::new(),
        };
        match ns_type(this.as_fd()) {
            Ok(kind) if kind == CloneFlags::CLONE_NEWNET.bits() => Ok(this),
            Ok(_) | Err(Errno::ENOTTY | Errno::EINVAL) => Err(Error::malformed(
                "open network namespace",
                path.display(),
                "this file is not a network namespace",
            )),
            Err(errno) => Err(Error::errno("examine namespace", path.display(), errno)),
        }
    }

    /// Opens the namespace of process `pid`.
    pub fn of_pid(root: &Root, pid: u32) -> Result<Self> {
        Self::open(&root.proc.join(pid.to_string()).join("ns/net"))
    }

    /// Opens the namespace of the calling thread.
    pub fn current() -> Result<Self> {
        Self::open(Path::new(CURRENT))
    }

    /// The namespace the calling thread belongs to, opened once for the thread; also
    /// inside of [`NetNs::run`].
    fn home() -> Result<Rc<Self>> {
        HOME.with(|home| {
            if let Some(known) = home.get() {
                return Ok(known.clone());
            }
            let current = Rc::new(Self::current()?);
            Ok(home.get_or_init(|| current).clone())
        })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Device and inode of the namespace file.
    pub fn identity(&self) -> Result<Identity> {
        Identity::from(&self.path, self.file.metadata())
    }

    /// Whether both are the same living namespace.
    pub fn is_same(&self, other: &Self) -> Result<bool> {
        Ok(self.identity()? == other.identity()?)
    }

    /// The namespace's cookie: unique until reboot, never used again
    /// (`SO_NETNS_COOKIE`, Linux 5.14).
    pub fn cookie(&self) -> Result<u64> {
        if let Some(known) = self.cookie.get() {
            return Ok(*known);
        }
        let read = self.run(|| throw_away_socket().and_then(|socket| cookie_by(socket.as_fd())))?;
        let path = self.path.display();
        let cookie = read.map_err(|e| Error::errno("read cookie of namespace", path, e))?;
        Ok(*self.cookie.get_or_init(|| cookie))
    }

    /// Notes the cookie by a socket that is there anyway, so that nobody has to make one
    /// for it.
    pub(crate) fn learn_cookie(&self, socket: BorrowedFd<'_>) {
        if let Ok(cookie) = cookie_by(socket) {
            self.cookie.get_or_init(|| cookie);
        }
    }

    /// Runs `work` inside this namespace, on the calling thread, which is back where it
    /// was when this returns or panics. Other threads stay where they are.
    ///
    /// # Errors
    /// When the namespace cannot be entered: it needs `CAP_SYS_ADMIN`.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        let _home = Home(Self::home()?);
        setns(&self.file, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::errno("enter namespace", self.path.display(), errno))?;
        Ok(work())
    }

    /// Every network namespace that can be reached: those of all processes, and those
    /// kept by a bind mount of their file, as under `run/netns`. Each one once, opened
    /// as it is asked for. Not found are those that only a thread or an open file keeps.
    ///
    /// # Errors
    /// When the processes or the mounts cannot be listed. What ends meanwhile, or cannot
    /// be opened, is left out.
    pub fn all(root: &Root) -> Result<impl Iterator<Item = Self> + use<>> {
        let mut paths = process_paths(root)?;
        paths.extend(crate::mounts::namespaces(root)?);
        let mut seen = HashSet::new();
        Ok(paths.into_iter().filter_map(move |path| {
            let found = Self::open(&path).ok()?;
            let new = seen.insert(found.identity().ok()?);
            new.then_some(found)
        }))
    }

    /// Finds a living namespace by its cookie, for the case that the path it was known
    /// by is gone. `None`: it is not among [`NetNs::all`].
    pub fn find_by_cookie(root: &Root, cookie: u64) -> Result<Option<Self>> {
        let mut all = Self::all(root)?;
        Ok(all.find(|candidate| candidate.cookie().ok() == Some(cookie)))
    }
}

/// `ns/net` of every process.
fn process_paths(root: &Root) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(&root.proc).map_err(|e| Error::io("list", root.proc.display(), &e))?;
    let numeric = |name: &std::ffi::OsStr| {
        let name = name.to_str();
        name.is_some_and(|name| name.parse::<u32>().is_ok())
    };
    let processes = entries
        .flatten()
        .filter(|entry| numeric(&entry.file_name()));
    Ok(processes.map(|entry| entry.path().join("ns/net")).collect())
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// `NS_GET_NSTYPE` of ioctl_ns(2).
fn ns_type(fd: BorrowedFd<'_>) -> nix::Result<i32> {
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: the request takes no argument and only reads from the open file that
    // `fd` borrows for the length of the call.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) })
}

/// A socket of the calling thread's namespace, of the cheapest kind.
fn throw_away_socket() -> nix::Result<OwnedFd> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
}

/// The cookie of the namespace that `socket` was made in.
fn cookie_by(socket: BorrowedFd<'_>) -> nix::Result<u64> {
    let mut cookie = 0u64;
    let mut len: libc::socklen_t = 8;
    // SAFETY: `cookie` is 8 writable bytes and `len` says so; both outlive the call.
    let rc = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    Errno::result(rc).map(|_| cookie)
}

/// Whether `error` says that a namespace path leads nowhere any more: the file is
/// gone, or it is there and no longer a namespace.
pub fn is_gone(error: &Error) -> bool {
    matches!(error.kind(), crate::Kind::NotFound | crate::Kind::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::unshare;

    #[test]
    fn a_plain_file_is_no_namespace() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = NetNs::open(file.path()).unwrap_err();
        assert_eq!(
            error.reason.as_deref(),
            Some("this file is not a network namespace")
        );
        assert!(is_gone(&error));
        assert!(is_gone(
            &NetNs::open(Path::new("/nonexistent/ns")).unwrap_err()
        ));
    }

    #[test]
    fn other_namespace_kinds_are_refused() {
        let error = NetNs::open(Path::new("/proc/self/ns/uts")).unwrap_err();
        assert!(is_gone(&error), "{error}");
    }

    #[test]
    #[ignore = "kernel: root"]
    fn a_new_namespace_has_its_own_cookie_and_is_found_by_it() {
        let here = NetNs::current().unwrap();
        let (send, receive) = std::sync::mpsc::channel();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let keeper = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            send.send(NetNs::current().unwrap()).unwrap();
            wait.recv().ok();
        });
        let other = receive.recv().unwrap();
        assert!(!here.is_same(&other).unwrap());
        let cookie = other.cookie().unwrap();
        assert_ne!(cookie, here.cookie().unwrap());
        let again = other.run(|| cookie_by(throw_away_socket().unwrap().as_fd()));
        assert_eq!(again.unwrap(), Ok(cookie));
        // The process's own entry shows its first thread's namespace only.
        let own = here.cookie().unwrap();
        let found = NetNs::find_by_cookie(&Root::host(), own).unwrap().unwrap();
        assert!(found.is_same(&here).unwrap());
        assert!(
            NetNs::find_by_cookie(&Root::host(), u64::MAX)
                .unwrap()
                .is_none()
        );
        done.send(()).unwrap();
        keeper.join().unwrap();
    }
}
