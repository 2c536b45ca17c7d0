//! Reading the kernel's small text files, with errors that name the file.

use std::fs::File;
use std::io::Read;
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
