//! Berth's directories below `run`: the outer one open to readers, everything in it
//! for root alone, whoever makes them first and whatever its umask is.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use berth_kernel::Root;

use crate::error::{Error, Result};

/// Mode of `run/berth`: the report and the agent's socket are reached through it.
const OUTER: u32 = 0o755;
/// Mode of every directory below.
const INNER: u32 = 0o700;
/// Mode of every file below that has no reason to be read by others.
pub const PRIVATE_FILE: u32 = 0o600;

/// `run/berth`, whether it exists or not.
pub fn berth(root: &Root) -> PathBuf {
    root.run.join("berth")
}

/// Makes `run/berth` and the directory `below` it, part by part, and returns its path.
/// Parts that exist with another mode are corrected: the first maker may have been
/// killed before its `chmod`.
///
/// # Errors
/// The kernel refuses, or a part is something else than a directory.
pub fn ensure(root: &Root, below: &Path) -> Result<PathBuf> {
    let mut path = berth(root);
    ensure_one(&path, OUTER)?;
    for part in below.components() {
        path.push(part);
        ensure_one(&path, INNER)?;
    }
    Ok(path)
}

fn ensure_one(path: &Path, mode: u32) -> Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(path, mode)?;
            fs::symlink_metadata(path)
        }
        there => there,
    };
    let meta = meta.map_err(|error| Error::io("examine directory", path, &error))?;
    if !meta.is_dir() {
        return Err(Error::malformed(path, "it is not a directory"));
    }
    if meta.permissions().mode() & 0o7777 == mode {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|error| Error::io("set mode of", path, &error))
}

/// Another may have been faster.
fn make(path: &Path, mode: u32) -> Result<()> {
    let make = || DirBuilder::new().mode(mode).create(path);
    let made = match make() {
        // Only in a fresh tree: the host's `run` is always there.
        Err(error) if error.kind() == io::ErrorKind::NotFound => path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| make()),
        other => other,
    };
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::io("make directory", path, &error))
        }
        _ => Ok(()),
    }
}

/// The names in a directory in order, none if the directory does not exist.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = each(dir)?.collect::<Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

/// The same in no order, read as far as they are taken.
pub(crate) fn each(dir: &Path) -> Result<impl Iterator<Item = Result<String>>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => Some(entries),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Error::io("list", dir, &error)),
    };
    let name = |entry: io::Result<fs::DirEntry>| match entry {
        Ok(entry) => Ok(entry.file_name().to_string_lossy().into_owned()),
        Err(error) => Err(Error::io("list", dir, &error)),
    };
    Ok(entries.into_iter().flatten().map(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn the_outer_directory_is_open_and_the_inner_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        let path = ensure(&root, Path::new("attachments/blue")).unwrap();
        assert_eq!(path, root.run.join("berth/attachments/blue"));
        assert_eq!(mode(&root.run.join("berth")), 0o755);
        assert_eq!(mode(&root.run.join("berth/attachments")), 0o700);
        assert_eq!(mode(&path), 0o700);
    }

    #[test]
    fn a_mode_left_by_another_maker_is_corrected() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        let locks = ensure(&root, Path::new("locks")).unwrap();
        fs::set_permissions(&locks, Permissions::from_mode(0o777)).unwrap();
        fs::set_permissions(berth(&root), Permissions::from_mode(0o700)).unwrap();
        ensure(&root, Path::new("locks")).unwrap();
        assert_eq!((mode(&berth(&root)), mode(&locks)), (0o755, 0o700));
    }

    #[test]
    fn a_file_or_symlink_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        ensure(&root, Path::new("")).unwrap();
        let path = berth(&root).join("vf");
        fs::write(&path, "").unwrap();
        let error = ensure(&root, Path::new("vf")).unwrap_err().to_string();
        assert!(
            error.contains("berth/vf") && error.contains("not a directory"),
            "{error}"
        );
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(dir.path(), &path).unwrap();
        assert!(ensure(&root, Path::new("vf")).is_err());
    }
}
