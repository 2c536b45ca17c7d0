//! The cgroup a runtime named after a container: `ID` (cgroupfs drivers), `PREFIX-ID`
//! (podman), `PREFIX-ID.scope` (systemd drivers) or `SLICE:PREFIX:ID` (a systemd
//! driver's name under a cgroupfs one).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use berth_kernel::Root;

use super::{is_absent, refused, unreadable};
use crate::refusal::{Code, Refusal};
use crate::spec::Target;

/// Digits of a full id (SHA-256).
const FULL: usize = 64;

/// The path of the cgroup named after container `id`, or, if `id` is the beginning of
/// one, after the only container whose id begins so; `None`: there is none.
///
/// # Errors
/// [`Code::Conflict`] if there are two; [`Code::Kernel`] if the tree cannot be read.
pub(super) fn find(root: &Root, id: &str, target: &Target) -> Result<Option<PathBuf>, Refusal> {
    let mut exact = Vec::new();
    let mut longer = Vec::new();
    let mut left = vec![PathBuf::new()];
    while let Some(parent) = left.pop() {
        for name in directories(&root.cgroup.join(&parent), target)? {
            let path = parent.join(&name);
            match container_id(&name) {
                Some(found) if found == id => exact.push(path),
                Some(found) if found.len() == FULL && found.starts_with(id) => longer.push(path),
                _ => left.push(path),
            }
        }
    }
    let mut found = if exact.is_empty() { longer } else { exact };
    found.sort_unstable();
    match &found[..] {
        [] => Ok(None),
        [path] => Ok(Some(Path::new("/").join(path))),
        [first, second, ..] => {
            let reason = format!(
                "both /{} and /{} are named so",
                first.display(),
                second.display()
            );
            let next = "write the full id, or give one of them as target.cgroup";
            Err(refused(Code::Conflict, target, reason, next))
        }
    }
}

/// The id in a cgroup's name. `conmon` is not the container but its watcher.
fn container_id(name: &str) -> Option<&str> {
    let stem = name.strip_suffix(".scope").unwrap_or(name);
    let (prefix, id) = match stem.rfind(['-', ':']) {
        Some(at) => (stem.get(..at)?, stem.get(at + 1..)?),
        None => ("", stem),
    };
    let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    let is_id = (12..=FULL).contains(&id.len()) && id.bytes().all(hex);
    (is_id && !prefix.ends_with("conmon")).then_some(id)
}

/// The directories in one; none if it went meanwhile.
fn directories(dir: &Path, target: &Target) -> Result<Vec<String>, Refusal> {
    let wrong = |error: &io::Error| unreadable(target, dir, error);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(wrong(&error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if is_absent(&error) => break,
            Err(error) => return Err(wrong(&error)),
        };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}
