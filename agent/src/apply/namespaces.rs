//! Network namespaces by cookie, found once per pass.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use berth_kernel::netns::is_gone;
use berth_kernel::{NetNs, NetSysfs, Result, Root};

/// The network namespaces that are worked on. Finding one without a hint looks at every
/// namespace of the node.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    hints: BTreeMap<u64, PathBuf>,
    found: BTreeMap<u64, Option<Arc<NetSysfs>>>,
}

impl Namespaces {
    /// Where the namespace `cookie` was seen: looked at first.
    pub(crate) fn hint(&mut self, cookie: u64, path: PathBuf) {
        self.hints.insert(cookie, path);
    }

    /// Forgets what was found, as it may be gone by now; hints stay.
    pub(crate) fn forget(&mut self) {
        self.found.clear();
    }

    /// Opens the namespace; `None` if it is gone.
    ///
    /// # Errors
    /// When namespaces cannot be listed or entered.
    pub(crate) fn open(&mut self, root: &Root, cookie: u64) -> Result<Option<NetNs>> {
        if let Some(path) = self.hints.get(&cookie) {
            match NetNs::open(path) {
                Ok(netns) if netns.cookie()? == cookie => return Ok(Some(netns)),
                Ok(_) => {}
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let found = NetNs::find_by_cookie(root, cookie)?;
        match &found {
            Some(netns) => self.hint(cookie, netns.path().to_owned()),
            None => drop(self.hints.remove(&cookie)),
        }
        Ok(found)
    }

    /// The namespace's network devices; `None` if it is gone. Looked for once per pass.
    ///
    /// # Errors
    /// As [`Self::open`], and when its sysfs cannot be mounted.
    pub(crate) fn devices(&mut self, root: &Root, cookie: u64) -> Result<Option<Arc<NetSysfs>>> {
        if let Some(known) = self.found.get(&cookie) {
            return Ok(known.clone());
        }
        let netns = self.open(root, cookie)?;
        let sysfs = netns.as_ref().map(NetSysfs::of).transpose()?;
        let sysfs = sysfs.map(Arc::new);
        self.found.insert(cookie, sysfs.clone());
        Ok(sysfs)
    }

    #[cfg(test)]
    pub(crate) fn known(&mut self, cookie: u64, sysfs: Option<NetSysfs>) {
        self.found.insert(cookie, sysfs.map(Arc::new));
    }
}
