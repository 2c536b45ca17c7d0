//! Who uses what attachments of one bridge share: one empty file per user in a
//! directory per thing, so that counting costs the same with a thousand users as with
//! one. Read and written only under the bridge's lock.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use berth_kernel::{IfName, Root};

use crate::atomic;
use crate::dirs;
use crate::error::{Error, Result};

/// Their directory below `run/berth`.
const DIR: &str = "uses";

/// The users of the things shared on one bridge,
/// `run/berth/uses/<bridge>/<thing>/<user>`.
#[derive(Debug, Clone)]
pub struct Uses {
    root: Root,
    below: PathBuf,
}

impl Uses {
    /// Those on `bridge`.
    pub fn of(root: &Root, bridge: &IfName) -> Self {
        Self {
            root: root.clone(),
            below: Path::new(DIR).join(bridge.as_str()),
        }
    }

    fn dir(&self) -> PathBuf {
        dirs::berth(&self.root).join(&self.below)
    }

    /// Notes that `user` uses `thing`, a word for a file name. Repeating it is no error.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn join(&self, thing: &str, user: &IfName) -> Result<()> {
        let dir = dirs::ensure(&self.root, &self.below.join(thing))?;
        let path = dir.join(user.as_str());
        fs::write(&path, "").map_err(|error| Error::io("create", &path, &error))
    }

    /// Notes that `user` uses nothing any more. Absence is success.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn leave(&self, user: &IfName) -> Result<()> {
        for thing in dirs::names(&self.dir())? {
            let dir = self.dir().join(thing);
            atomic::remove(&dir.join(user.as_str()))?;
            remove_if_empty(&dir)?;
        }
        remove_if_empty(&self.dir())
    }

    /// Whether anybody uses `thing`.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn has_users(&self, thing: &str) -> Result<bool> {
        Ok(!dirs::names(&self.dir().join(thing))?.is_empty())
    }

    /// Forgets all users: the bridge is gone.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn clear(&self) -> Result<()> {
        match fs::remove_dir_all(self.dir()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove directory", &self.dir(), &error))
            }
            _ => Ok(()),
        }
    }
}

fn remove_if_empty(dir: &Path) -> Result<()> {
    use io::ErrorKind::{DirectoryNotEmpty, NotFound};
    match fs::remove_dir(dir) {
        Err(error) if !matches!(error.kind(), DirectoryNotEmpty | NotFound) => {
            Err(Error::io("remove directory", dir, &error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> IfName {
        text.parse().unwrap()
    }

    #[test]
    fn a_thing_is_used_until_its_last_user_leaves() {
        let dir = tempfile::tempdir().unwrap();
        let uses = Uses::of(&Root::under(dir.path()), &name("br0"));
        assert!(!uses.has_users("promisc").unwrap());
        uses.join("promisc", &name("bv1")).unwrap();
        uses.join("promisc", &name("bv1")).unwrap();
        uses.join("promisc", &name("bv2")).unwrap();
        uses.join("gateway", &name("bv2")).unwrap();
        uses.leave(&name("bv1")).unwrap();
        assert!(uses.has_users("promisc").unwrap());
        uses.leave(&name("bv2")).unwrap();
        for thing in ["promisc", "gateway"] {
            assert!(!uses.has_users(thing).unwrap(), "{thing}");
        }
        assert!(!uses.dir().exists(), "an empty directory is left");
        uses.leave(&name("bv2")).unwrap();
    }

    #[test]
    fn bridges_are_counted_apart_and_forgotten_whole() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        let (one, two) = (Uses::of(&root, &name("br0")), Uses::of(&root, &name("br1")));
        one.join("promisc", &name("bv1")).unwrap();
        two.join("promisc", &name("bv1")).unwrap();
        one.clear().unwrap();
        one.clear().unwrap();
        assert!(!one.has_users("promisc").unwrap());
        assert!(two.has_users("promisc").unwrap());
    }
}
