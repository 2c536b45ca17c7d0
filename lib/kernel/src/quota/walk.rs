//! A walk over a tree that somebody else may be changing: no link is followed, no
//! mount entered, no special file opened, whatever is put in the way meanwhile.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::error::{Error, Result};

/// How often a walk begins again while directories are moved under it.
const PASSES: u32 = 16;
/// Longer paths are opened in steps: the kernel takes 4095 bytes (`PATH_MAX`).
const STEP_BYTES: usize = 3000;

/// What a walk calls with each thing it finds.
pub(super) trait Visit {
    /// A directory, before what is in it, or a file; `path` leads to it.
    fn tagged(&mut self, path: &Path, open: &File, is_dir: bool) -> Result<()>;
    /// A symbolic link or special file, which has no attributes to be opened for.
    fn untaggable(&mut self);
    /// Another walk begins: nothing found in the one before counts.
    fn begin(&mut self) {}
    /// Whether the walk is to be repeated though nothing moved.
    fn again(&self) -> bool {
        false
    }
    /// Whether all has to be seen. Else one walk is enough, though something moved, and
    /// what cannot be opened is passed over.
    fn is_thorough(&self) -> bool {
        true
    }
}

/// Walks over `top` and all below it, top first. Repeated while directories vanish
/// during the walk, as they may have been moved to where it had been already.
pub(super) fn walk(op: &str, top: &Path, visit: &mut dyn Visit) -> Result<()> {
    let file = open_top(op, top)?;
    for _ in 0..PASSES {
        visit.begin();
        let mut pass = Pass {
            op,
            top,
            file: &file,
            device: device(op, top, &file)?,
            pending: Vec::new(),
            moved: false,
        };
        pass.run(visit)?;
        let moved = pass.moved && visit.is_thorough();
        if !moved && !visit.again() {
            return Ok(());
        }
    }
    let reason = format!(
        "it was changed during each of {PASSES} walks over it; stop what moves directories, then try again"
    );
    Err(Error::errno(op, top.display(), Errno::EAGAIN).because(Some(reason)))
}

/// Opens the directory a walk begins at; a symbolic link is refused.
pub(super) fn open_top(op: &str, top: &Path) -> Result<File> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(top);
    opened.map_err(|e| {
        let error = Error::io(op, top.display(), &e);
        let link = matches!(error.errno, Some(Errno::ELOOP | Errno::ENOTDIR));
        let reason = "a directory is needed, and no symbolic link to one: give its own path";
        error.because(link.then(|| reason.to_owned()))
    })
}

/// Opens a file or directory to read its attributes; `None` if it is a symbolic link
/// or special file. Looked at before it is opened, as to open a device may do things.
pub(super) fn open_plain(name: &File) -> std::io::Result<Option<File>> {
    let kind = name.metadata()?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Ok(None);
    }
    // The same inode, whatever its name leads to by now.
    let own = format!("/proc/self/fd/{}", name.as_raw_fd());
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(own)?;
    Ok(Some(opened))
}

fn device(op: &str, path: &Path, file: &File) -> Result<u64> {
    let stat = file.metadata();
    Ok(stat.map_err(|e| Error::io(op, path.display(), &e))?.dev())
}

/// One walk.
struct Pass<'a> {
    op: &'a str,
    top: &'a Path,
    file: &'a File,
    device: u64,
    /// Directories not yet entered, relative to the top.
    pending: Vec<PathBuf>,
    /// Whether a directory was gone when it was to be entered.
    moved: bool,
}

impl Pass<'_> {
    fn run(&mut self, visit: &mut dyn Visit) -> Result<()> {
        let top = self.file.try_clone();
        let top = top.map_err(|e| Error::io(self.op, self.top.display(), &e))?;
        self.directory(Path::new(""), top, visit)?;
        while let Some(relative) = self.pending.pop() {
            match open_below(self.file, &relative, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
                Ok(dir) => self.directory(&relative, dir.into(), visit)?,
                // Gone, replaced, or renamed while it was looked up.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EAGAIN) => {
                    self.moved = true;
                }
                Err(Errno::EXDEV) => {}
                Err(errno) => return Err(self.error(&relative, errno)),
            }
        }
        Ok(())
    }

    /// The directory itself, then what is in it.
    fn directory(&mut self, relative: &Path, dir: File, visit: &mut dyn Visit) -> Result<()> {
        if device(self.op, self.top, &dir)? != self.device {
            return Ok(());
        }
        visit.tagged(&self.full(relative), &dir, true)?;
        for name in names(&dir).map_err(|errno| self.error(relative, errno))? {
            let path = relative.join(&name);
            let flags = OFlag::O_PATH;
            match open_below(&dir, Path::new(&name), flags) {
                Ok(entry) => self.entry(path, entry.into(), visit)?,
                Err(Errno::ENOENT | Errno::EXDEV) => {}
                Err(Errno::EAGAIN) => self.moved = true,
                Err(errno) => return Err(self.error(&path, errno)),
            }
        }
        Ok(())
    }

    fn entry(&mut self, relative: PathBuf, name: File, visit: &mut dyn Visit) -> Result<()> {
        let stat = name.metadata();
        let stat = stat.map_err(|e| Error::io(self.op, self.full(&relative).display(), &e))?;
        if stat.dev() != self.device {
            return Ok(());
        }
        if stat.is_dir() {
            self.pending.push(relative);
            return Ok(());
        }
        match open_plain(&name) {
            Ok(None) => visit.untaggable(),
            Ok(Some(file)) => visit.tagged(&self.full(&relative), &file, false)?,
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
            Err(_) if !visit.is_thorough() => {}
            Err(e) => return Err(self.unopened(&relative, &e)),
        }
        Ok(())
    }

    fn unopened(&self, relative: &Path, source: &std::io::Error) -> Error {
        let error = Error::io(self.op, self.full(relative).display(), source);
        let leased = error.errno == Some(Errno::EAGAIN);
        let reason = "a program holds a lease on it; the kernel takes that back within \
                      /proc/sys/fs/lease-break-time seconds, try again then";
        error.because(leased.then(|| reason.to_owned()))
    }

    fn full(&self, relative: &Path) -> PathBuf {
        if relative.as_os_str().is_empty() {
            return self.top.to_owned();
        }
        self.top.join(relative)
    }

    fn error(&self, relative: &Path, errno: Errno) -> Error {
        Error::errno(self.op, self.full(relative).display(), errno)
    }
}

/// The names in an open directory without `.` and `..`.
fn names(dir: &File) -> nix::Result<Vec<std::ffi::OsString>> {
    // A description of its own: the position of the one passed in is shared.
    let own = openat2(dir, ".", how(OFlag::O_RDONLY | OFlag::O_DIRECTORY))?;
    let mut names = Vec::new();
    for entry in Dir::from_fd(own)?.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(std::ffi::OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

/// Opens what `relative` leads to from `dir`: through no link and into no mount.
fn open_below(dir: &File, relative: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let mut from: Option<OwnedFd> = None;
    let mut step = PathBuf::new();
    for component in relative.components() {
        let Component::Normal(name) = component else {
            return Err(Errno::EINVAL);
        };
        if step.as_os_str().len() + name.len() > STEP_BYTES {
            let reached = OFlag::O_PATH | OFlag::O_DIRECTORY;
            from = Some(open_step(from.as_ref(), dir, &step, reached)?);
            step = PathBuf::new();
        }
        step.push(name);
    }
    open_step(from.as_ref(), dir, &step, flags)
}

fn open_step(
    from: Option<&OwnedFd>,
    dir: &File,
    step: &Path,
    flags: OFlag,
) -> nix::Result<OwnedFd> {
    match from {
        Some(from) => openat2(from, step, how(flags)),
        None => openat2(dir, step, how(flags)),
    }
}

fn how(flags: OFlag) -> OpenHow {
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    let always = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    OpenHow::new().flags(flags | always).resolve(resolve)
}
