//! Reading and writing the kernel's small text files, with errors that name the
//! file and, for a write, the data.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The whole file without the white space around it.
pub(crate) fn read(path: &Path) -> Result<String> {
    let file = File::open(path).map_err(|e| Error::io("open", path.display(), &e))?;
    read_open(file, path.display())
}

/// The rest of an open file without the white space around it; `name` is what an
/// error calls it.
pub(crate) fn read_open(mut file: File, name: impl std::fmt::Display) -> Result<String> {
    let mut text = String::new();
    file.read_to_string(&mut text)
        .map_err(|e| Error::io("read", name, &e))?;
    Ok(text.trim().to_owned())
}

/// The whole file, parsed.
pub(crate) fn parse<T>(path: &Path) -> Result<T>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    let text = read(path)?;
    text.parse()
        .map_err(|e| Error::malformed("read", path.display(), format!("{text:?}: {e}")))
}

/// Writes in one system call, without creating or truncating: a file the kernel
/// does not offer stays ENOENT.
pub(crate) fn write(path: &Path, data: &str) -> Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(|e| Error::io(format!("write {data:?} to"), path.display(), &e))?;
    write_open(&file, data, path.display())
}

/// Writes to an open file in one system call, as sysfs and procfs need it.
pub(crate) fn write_open(mut file: &File, data: &str, name: impl std::fmt::Display) -> Result<()> {
    let op = || format!("write {data:?} to");
    let written = file
        .write(data.as_bytes())
        .map_err(|e| Error::io(op(), &name, &e))?;
    if written == data.len() {
        Ok(())
    } else {
        let reason = format!("only {written} of {} bytes were taken", data.len());
        Err(Error::malformed(op(), name, reason))
    }
}

/// The names in a directory, sorted; names that are not UTF-8 are left out, as the
/// kernel makes none.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>> {
    let list = std::fs::read_dir(dir).map_err(|e| Error::io("list", dir.display(), &e))?;
    let mut names = Vec::new();
    for entry in list {
        let entry = entry.map_err(|e| Error::io("list", dir.display(), &e))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

/// The last part of where a symbolic link points to: how sysfs names a driver.
pub(crate) fn link_name(path: &Path) -> Result<String> {
    let target =
        std::fs::read_link(path).map_err(|e| Error::io("read link", path.display(), &e))?;
    let name = target.file_name().and_then(|n| n.to_str());
    name.map(str::to_owned).ok_or_else(|| {
        let reason = format!("{} has no last name", target.display());
        Error::malformed("read link", path.display(), reason)
    })
}
