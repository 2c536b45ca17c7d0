//! Our JSON files: each says its format, a newer one is refused by name.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// A file's content behind its format number.
#[derive(Serialize)]
struct Stored<T> {
    format: u64,
    #[serde(flatten)]
    body: T,
}

/// The text of a file of this format.
///
/// # Errors
/// [`Error::Malformed`] if `body` cannot be said in JSON.
pub fn write<T: Serialize>(path: &Path, format: u64, body: T) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(&Stored { format, body })
        .map_err(|error| Error::malformed(path, error))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads a file of format 1 to `newest`; `None` if there is none.
///
/// # Errors
/// [`Error::NewerFormat`], [`Error::Malformed`], or what the kernel refused.
pub fn read<T: DeserializeOwned>(path: &Path, newest: u64) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path, &error)),
    };
    let malformed = |error: serde_json::Error| Error::malformed(path, error);
    let mut body: Map<String, Value> = serde_json::from_slice(&bytes).map_err(malformed)?;
    // The format first: what a newer one looks like, nobody here knows.
    match body.remove("format").and_then(|format| format.as_u64()) {
        None | Some(0) => Err(Error::malformed(path, "its format is no number from 1")),
        Some(found) if found > newest => Err(Error::NewerFormat {
            path: path.to_owned(),
            found,
            newest,
        }),
        Some(_) => T::deserialize(Value::Object(body))
            .map(Some)
            .map_err(malformed),
    }
}
