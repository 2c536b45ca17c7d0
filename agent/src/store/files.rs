//! The store's directories and durable writes.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use berth_kernel::Root;
use berth_state::atomic::{self, Durability};
use berth_state::dirs::PRIVATE_FILE;

use crate::refusal::{Code, Refusal};
use crate::spec::WorkloadId;

/// Mode of the directories: what runs here and how is nobody else's business.
const MODE: u32 = 0o700;

/// `var/lib/berth`.
#[derive(Debug, Clone)]
pub(super) struct Place {
    dir: PathBuf,
}

impl Place {
    /// Makes the directories, corrects their modes, sweeps them.
    pub(super) fn make(root: &Root) -> Result<Self, Refusal> {
        let dir = root.var.join("lib/berth");
        let place = Self { dir };
        for dir in [&place.dir, &place.workloads()] {
            make(dir).map_err(|error| failed(format!("make {}", dir.display()), &error))?;
            let swept = atomic::sweep(dir).map_err(|error| failed("sweep", &error))?;
            for path in swept {
                log::info!("removed {}, left by a dead writer", path.display());
            }
        }
        Ok(place)
    }

    pub(super) fn workloads(&self) -> PathBuf {
        self.dir.join("workloads")
    }

    pub(super) fn record(&self, id: &WorkloadId) -> PathBuf {
        self.workloads().join(format!("{id}.json"))
    }

    pub(super) fn generation(&self) -> PathBuf {
        self.dir.join("generation")
    }

    pub(super) fn before(&self) -> PathBuf {
        self.dir.join("before.json")
    }
}

fn make(dir: &Path) -> io::Result<()> {
    if !dir.is_dir() {
        DirBuilder::new().recursive(true).mode(MODE).create(dir)?;
        let parent = dir.parent().unwrap_or(dir);
        File::open(parent)?.sync_all()?;
    }
    if fs::metadata(dir)?.permissions().mode() & 0o7777 != MODE {
        fs::set_permissions(dir, Permissions::from_mode(MODE))?;
    }
    Ok(())
}

/// Puts this content at `path`, so that it outlives a power failure.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Refusal> {
    atomic::replace(path, bytes, PRIVATE_FILE, Durability::Durable)
        .map_err(|error| failed(format!("write {}", path.display()), &error))
}

/// Removes `path`, so that a power failure does not bring it back.
pub(super) fn remove(path: &Path) -> Result<(), Refusal> {
    let wish = || format!("remove {}", path.display());
    atomic::remove(path).map_err(|error| failed(wish(), &error))?;
    let dir = path.parent().unwrap_or(path);
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| failed(wish(), &error))
}

/// The kernel refused a file operation of ours.
pub(super) fn failed(wish: impl Into<String>, error: &dyn std::error::Error) -> Refusal {
    let next = "look for space, permissions and errors of that filesystem, then try again";
    Refusal::new(
        Code::Kernel,
        "the agent's memory",
        wish,
        error.to_string(),
        next,
    )
}
