//! VF claims: the file `run/berth/vf/ADDRESS` is the allocation of that VF, made
//! with its owner in it or not at all. A VF that could not be restored stays claimed
//! by nobody: quarantine.

use std::fmt;
use std::path::{Path, PathBuf};

use berth_kernel::{PciAddr, Root};
use serde::{Deserialize, Serialize};

use crate::atomic::{self, Durability};
use crate::boot::Writer;
use crate::dirs;
use crate::error::{Error, Result};
use crate::format;
use crate::key::Key;
use crate::vf::SriovHost;

/// The format of claims this version writes.
const FORMAT: u64 = 2;

/// What a VF's claim says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "state",
    rename_all = "lowercase",
    rename_all_fields = "camelCase"
)]
pub enum Claim {
    /// The VF belongs to an attachment.
    Claimed {
        /// The attachment.
        owner: Key,
        /// The process that claimed it: dead and without a record, it was interrupted.
        writer: Writer,
    },
    /// The VF could not be brought back to what it was; nobody gets it.
    Quarantined {
        /// Whose it was last.
        #[serde(skip_serializing_if = "Option::is_none")]
        last_owner: Option<Key>,
        /// What is wrong with it.
        reason: String,
        /// What it should be brought back to, if that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vf: Option<Box<SriovHost>>,
    },
}

impl Claim {
    /// The attachment it belongs to now; in quarantine, none.
    pub fn owner(&self) -> Option<&Key> {
        match self {
            Self::Claimed { owner, .. } => Some(owner),
            Self::Quarantined { .. } => None,
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claimed { owner, .. } => write!(f, "claimed by {owner}"),
            Self::Quarantined { reason, .. } => write!(f, "in quarantine ({reason})"),
        }
    }
}

/// The claims of the node. Changes of an existing claim happen under its VF's lock.
#[derive(Debug)]
pub struct Claims {
    root: Root,
    dir: PathBuf,
}

impl Claims {
    /// The claims below `root.run`.
    pub fn new(root: &Root) -> Self {
        Self {
            root: root.clone(),
            dir: dirs::berth(root).join("vf"),
        }
    }

    /// Claims a VF for `key`. Of any number of callers at once one succeeds.
    ///
    /// # Errors
    /// [`Error::Taken`] with what stands there, even if it is `key` itself; an
    /// unreadable claim counts as taken and is reported as it is.
    pub fn claim(&self, address: PciAddr, key: &Key, writer: Writer) -> Result<()> {
        let claim = Claim::Claimed {
            owner: key.clone(),
            writer,
        };
        loop {
            match self.create(address, &claim) {
                Err(Error::Exists { .. }) => {}
                other => return other,
            }
            // Released between the two calls: it is free again.
            if let Some(claim) = self.load(address)?.map(Box::new) {
                return Err(Error::Taken { address, claim });
            }
        }
    }

    /// What the VF's claim says; `None`: the VF is not claimed.
    ///
    /// # Errors
    /// [`Error::NewerFormat`] and [`Error::Malformed`]: the VF is not free.
    pub fn load(&self, address: PciAddr) -> Result<Option<Claim>> {
        format::read(&self.path(address), FORMAT)
    }

    /// The attachment the VF belongs to.
    ///
    /// # Errors
    /// As [`Claims::load`].
    pub fn owner(&self, address: PciAddr) -> Result<Option<Key>> {
        let claim = self.load(address)?;
        Ok(claim.and_then(|claim| claim.owner().cloned()))
    }

    /// Gives up the claim of `key`; a VF that is not claimed is success.
    ///
    /// # Errors
    /// [`Error::NotOwner`] if it belongs to another or is in quarantine; as
    /// [`Claims::load`].
    pub fn release(&self, address: PciAddr, key: &Key) -> Result<()> {
        match self.load(address)? {
            Some(claim) if claim.owner() != Some(key) => Err(Error::NotOwner {
                address,
                claim: Box::new(claim),
                wisher: key.to_string(),
            }),
            _ => atomic::remove(&self.path(address)),
        }
    }

    /// Puts a VF into quarantine, whoever had it, also if nobody had. `vf` is what it
    /// should be brought back to; without it, what an earlier quarantine knew stays.
    ///
    /// # Errors
    /// As [`Claims::load`]; what the kernel refused.
    pub fn quarantine(&self, address: PciAddr, reason: &str, vf: Option<&SriovHost>) -> Result<()> {
        let (last_owner, known) = match self.load(address)? {
            None => (None, None),
            Some(Claim::Claimed { owner, .. }) => (Some(owner), None),
            Some(Claim::Quarantined { last_owner, vf, .. }) => (last_owner, vf),
        };
        let claim = Claim::Quarantined {
            last_owner,
            reason: reason.to_owned(),
            vf: vf.cloned().map(Box::new).or(known),
        };
        let path = self.prepared_path(address)?;
        let bytes = format::write(&path, FORMAT, claim)?;
        atomic::replace(&path, &bytes, dirs::PRIVATE_FILE, Durability::Volatile)
    }

    /// Ends a quarantine: the VF is free. One that is not claimed is success.
    ///
    /// # Errors
    /// [`Error::NotOwner`] if it belongs to an attachment; as [`Claims::load`].
    pub fn end_quarantine(&self, address: PciAddr) -> Result<()> {
        match self.load(address)? {
            Some(claim @ Claim::Claimed { .. }) => Err(Error::NotOwner {
                address,
                claim: Box::new(claim),
                wisher: "the end of a quarantine".to_owned(),
            }),
            _ => atomic::remove(&self.path(address)),
        }
    }

    /// Every claim by address; one that cannot be read says why.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn list(&self) -> Result<Vec<(PciAddr, Result<Claim>)>> {
        let names = dirs::names(&self.dir)?;
        let addresses = names.iter().filter_map(|name| name.parse().ok());
        let mut claims = Vec::new();
        for address in addresses {
            match self.load(address) {
                Ok(None) => {}
                Ok(Some(claim)) => claims.push((address, Ok(claim))),
                Err(error) => claims.push((address, Err(error))),
            }
        }
        Ok(claims)
    }

    /// The VFs that belong to `key`. Claims that cannot be read are logged.
    ///
    /// # Errors
    /// As [`Claims::list`].
    pub fn of_key(&self, key: &Key) -> Result<Vec<PciAddr>> {
        let mut own = Vec::new();
        for (address, claim) in self.list()? {
            match claim {
                Ok(claim) if claim.owner() == Some(key) => own.push(address),
                Ok(_) => {}
                Err(error) => log::warn!("{error}"),
            }
        }
        Ok(own)
    }

    /// Removes temporaries of writers that died while claiming, and names them.
    ///
    /// # Errors
    /// As [`atomic::sweep`].
    pub fn sweep(&self) -> Result<Vec<PathBuf>> {
        atomic::sweep(&self.dir)
    }

    fn create(&self, address: PciAddr, claim: &Claim) -> Result<()> {
        let path = self.prepared_path(address)?;
        let bytes = format::write(&path, FORMAT, claim)?;
        atomic::create_new(&path, &bytes, dirs::PRIVATE_FILE)
    }

    fn prepared_path(&self, address: PciAddr) -> Result<PathBuf> {
        dirs::ensure(&self.root, Path::new("vf"))?;
        Ok(self.path(address))
    }

    fn path(&self, address: PciAddr) -> PathBuf {
        self.dir.join(address.to_string())
    }
}

#[cfg(test)]
mod tests;
