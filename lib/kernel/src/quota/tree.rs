//! The project of a whole tree: given, taken off, looked through.

use std::fs::File;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::walk::{self, Visit};
use super::{ProjectId, ProjectTag, shell, show};
use crate::error::{Error, Result};

/// `FS_XFLAG_PROJINHERIT` (include/uapi/linux/fs.h).
const INHERIT: u32 = 0x200;
/// Words of `struct fsxattr`.
const FLAGS: usize = 0;
const PROJECT: usize = 3;

/// How many entries [`audit`] names at most.
pub const AUDIT_LIMIT: usize = 1000;

/// What a walk over a tree did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tagged {
    /// Directories and files that had another project, or another inheritance.
    pub changed: u64,
    /// Symbolic links and special files: the kernel gives no way to set theirs.
    pub skipped: u64,
}

/// What does not count to a project that it should count to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Foreign {
    /// How many files and directories.
    pub count: u64,
    /// At most [`AUDIT_LIMIT`] of them, in order.
    pub paths: Vec<PathBuf>,
}

/// The project of a file or directory.
///
/// # Errors
/// When it does not exist, is a symbolic link or special file, or its filesystem
/// knows no projects ([`crate::error::Kind::Unsupported`]).
pub fn project_of(path: &Path) -> Result<ProjectTag> {
    let op = "read the project of";
    let name = open_name(op, path)?;
    let opened = walk::open_plain(&name).map_err(|e| Error::io(op, show(path), &e))?;
    let file = opened.ok_or_else(|| {
        let reason = "a symbolic link or special file has none that can be read";
        Error::malformed(op, show(path), reason)
    })?;
    let words = attributes(op, path, &file)?;
    Ok(tag(&words))
}

/// Gives `top`, a directory, and all below it to project `id`, whatever project each
/// had. Directories come before what is in them, and new files inherit, so that a tree
/// in use is whole at the end too; after an interruption it is simply done again.
///
/// No link is followed, no other mount entered. A file that is open and has no name any
/// more keeps its project.
///
/// # Errors
/// When `top` is no directory (a symbolic link is refused), an entry cannot be opened
/// or set, or directories move too often to be caught.
pub fn tag_tree(top: &Path, id: ProjectId) -> Result<Tagged> {
    let op = format!("give to project {id}");
    let mut tagging = Setting {
        op: &op,
        only: None,
        wish: id,
        inherit: true,
        done: Tagged::default(),
        before: 0,
        until_quiet: false,
    };
    walk::walk(&op, top, &mut tagging)?;
    Ok(tagging.done)
}

/// Takes `top`, a directory, and all below it that has project `id` out of it: back to
/// none, and nothing inherits. What has another project is left alone.
///
/// # Errors
/// As [`tag_tree`].
pub fn untag_tree(top: &Path, id: ProjectId) -> Result<Tagged> {
    let op = format!("take out of project {id}");
    let mut untagging = Setting {
        op: &op,
        only: Some(id),
        wish: ProjectId::NONE,
        inherit: false,
        done: Tagged::default(),
        before: 0,
        // A file may move from a directory not yet done into one that is.
        until_quiet: true,
    };
    walk::walk(&op, top, &mut untagging)?;
    Ok(untagging.done)
}

/// What below `top`, and `top` itself, does not count to project `id`, and the
/// directories whose new files would not. An owner outside of a user namespace may set
/// the project of his files as he likes.
///
/// One walk: what is moved meanwhile, or cannot be opened, may be missed. `go_on` is
/// asked at every entry; `None` once it says no.
///
/// # Errors
/// When `top` is no directory (a symbolic link is refused), or the kernel refuses.
pub fn audit(top: &Path, id: ProjectId, go_on: &dyn Fn() -> bool) -> Result<Option<Foreign>> {
    let op = format!("look for what is not of project {id} in");
    let mut audit = Audit {
        op: &op,
        id,
        go_on,
        stopped: false,
        foreign: Foreign::default(),
    };
    let walked = walk::walk(&op, top, &mut audit);
    if audit.stopped {
        return Ok(None);
    }
    walked?;
    audit.foreign.paths.sort_unstable();
    Ok(Some(audit.foreign))
}

struct Setting<'a> {
    op: &'a str,
    /// Only entries with this project, if any.
    only: Option<ProjectId>,
    wish: ProjectId,
    /// What directories are to have.
    inherit: bool,
    done: Tagged,
    /// How many had been changed when this pass began.
    before: u64,
    /// Whether to repeat until a pass changes nothing.
    until_quiet: bool,
}

impl Visit for Setting<'_> {
    fn begin(&mut self) {
        self.before = self.done.changed;
        self.done.skipped = 0;
    }

    fn tagged(&mut self, path: &Path, open: &File, is_dir: bool) -> Result<()> {
        let mut words = attributes(self.op, path, open)?;
        let has = tag(&words);
        let wish = ProjectTag {
            id: self.wish,
            inherit: is_dir && self.inherit,
        };
        if has == wish || self.only.is_some_and(|only| only != has.id) {
            return Ok(());
        }
        words[PROJECT] = wish.id.0;
        words[FLAGS] = words[FLAGS] & !INHERIT | if wish.inherit { INHERIT } else { 0 };
        shell::set_attributes(open, &words).map_err(|errno| unset(self.op, path, errno))?;
        self.done.changed += 1;
        Ok(())
    }

    fn untaggable(&mut self) {
        self.done.skipped += 1;
    }

    fn again(&self) -> bool {
        self.until_quiet && self.done.changed != self.before
    }
}

struct Audit<'a> {
    op: &'a str,
    id: ProjectId,
    go_on: &'a dyn Fn() -> bool,
    stopped: bool,
    foreign: Foreign,
}

impl Visit for Audit<'_> {
    fn tagged(&mut self, path: &Path, open: &File, is_dir: bool) -> Result<()> {
        if !(self.go_on)() {
            self.stopped = true;
            return Err(Error::errno(self.op, show(path), Errno::ECANCELED));
        }
        let has = tag(&attributes(self.op, path, open)?);
        let ours = has.id == self.id && has.inherit == is_dir;
        if !ours {
            self.foreign.count += 1;
            if self.foreign.paths.len() < AUDIT_LIMIT {
                self.foreign.paths.push(path.to_owned());
            }
        }
        Ok(())
    }

    fn untaggable(&mut self) {}

    fn is_thorough(&self) -> bool {
        false
    }
}

fn tag(words: &[u32; shell::ATTR_WORDS]) -> ProjectTag {
    ProjectTag {
        id: ProjectId(words[PROJECT]),
        inherit: words[FLAGS] & INHERIT != 0,
    }
}

fn open_name(op: &str, path: &Path) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
        .open(path);
    opened.map_err(|e| Error::io(op, show(path), &e))
}

fn attributes(op: &str, path: &Path, file: &File) -> Result<[u32; shell::ATTR_WORDS]> {
    shell::attributes(file).map_err(|errno| unset(op, path, errno))
}

/// The error with reason and next step, where the errno alone has none.
fn unset(op: &str, path: &Path, errno: Errno) -> Error {
    let (errno, reason) = match errno {
        Errno::ENOTTY | Errno::EOPNOTSUPP => (
            Errno::EOPNOTSUPP,
            "this filesystem knows no projects; put the data on xfs or ext4 with prjquota",
        ),
        Errno::EPERM => (
            errno,
            "only its owner or root may, and nobody while it is immutable (lsattr shows i): \
             take that off with chattr -i, then try again",
        ),
        Errno::EINVAL => (
            errno,
            "the filesystem keeps no such projects: ext4 needs the feature, by \
             tune2fs -O project,quota on the unmounted device; no user namespace may set them",
        ),
        Errno::EROFS => (errno, "the mount is read-only; mount it with rw"),
        other => return Error::errno(op, show(path), other),
    };
    Error::errno(op, show(path), errno).because(Some(reason.to_owned()))
}
