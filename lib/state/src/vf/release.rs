//! The end of a VF's use: restored, and its claim given up or turned to quarantine.

use std::fmt;

use berth_kernel::{PciAddr, Root};

use super::neutral::neutral;
use super::restore::{Restored, restore};
use super::{Difference, SriovHost};
use crate::claim::{Claim, Claims};
use crate::key::Key;
use crate::lock::Locks;
use crate::record::NetnsRef;

/// How a VF's use ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The VF is what it was before, and free.
    Free,
    /// It is not; nobody gets it until somebody has seen to it.
    Quarantined(String),
    /// It was another's already, or in quarantine, and was not touched.
    NotOurs(Claim),
}

/// A VF's use that could not be ended: the claim stands, and the same can be tried
/// again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// What was refused, each with its object and the reason.
    pub left: Vec<String>,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.left.join("; "))
    }
}

impl std::error::Error for Failed {}

impl Failed {
    fn of(error: impl fmt::Display) -> Self {
        Self {
            left: vec![error.to_string()],
        }
    }
}

/// Ends the use of a VF by `key`: see [`restore`]. The caller holds the VF's lock. A
/// VF that nobody has claimed is free and is not touched.
///
/// # Errors
/// [`Failed`] when a step was refused or the claim cannot be read or changed.
pub fn release(
    root: &Root,
    locks: &Locks,
    key: &Key,
    host: &SriovHost,
    netns: Option<&NetnsRef>,
) -> Result<Ended, Failed> {
    end(root, key, host.vf, Some(host), || {
        restore(root, locks, key, host, netns)
    })
}

/// Ends the use of a VF by `key` of which no record tells what it was before: see
/// [`neutral`]. The caller holds the VF's lock.
///
/// # Errors
/// As [`release`].
pub fn release_unrecorded(
    root: &Root,
    locks: &Locks,
    key: &Key,
    vf: PciAddr,
) -> Result<Ended, Failed> {
    end(root, key, vf, None, || neutral(root, locks, key, vf))
}

/// Tries again what put a VF into quarantine, and ends that if it succeeds. `key` is
/// named as the holder of the locks; the caller holds the VF's.
///
/// # Errors
/// As [`release`]; the quarantine stands.
pub fn end_quarantine(root: &Root, locks: &Locks, key: &Key, vf: PciAddr) -> Result<Ended, Failed> {
    let claims = Claims::new(root);
    let host = match claims.load(vf).map_err(Failed::of)? {
        None => return Ok(Ended::Free),
        Some(Claim::Quarantined { vf: host, .. }) => host,
        Some(claim) => return Ok(Ended::NotOurs(claim)),
    };
    let restored = match &host {
        Some(host) => restore(root, locks, key, host, None),
        None => neutral(root, locks, key, vf),
    };
    if restored.is_whole() {
        claims.end_quarantine(vf).map_err(Failed::of)?;
        return Ok(Ended::Free);
    }
    conclude(&claims, vf, host.as_deref(), restored)
}

fn end(
    root: &Root,
    key: &Key,
    vf: PciAddr,
    host: Option<&SriovHost>,
    restore: impl FnOnce() -> Restored,
) -> Result<Ended, Failed> {
    let claims = Claims::new(root);
    match claims.load(vf).map_err(Failed::of)? {
        None => return Ok(Ended::Free),
        Some(claim) if claim.owner() != Some(key) => return Ok(Ended::NotOurs(claim)),
        Some(_) => {}
    }
    let restored = restore();
    if restored.is_whole() {
        claims.release(vf, key).map_err(Failed::of)?;
        return Ok(Ended::Free);
    }
    conclude(&claims, vf, host, restored)
}

/// What failed can be tried again; what differs although nothing did, or is refused for
/// good, somebody has to look at.
fn conclude(
    claims: &Claims,
    vf: PciAddr,
    host: Option<&SriovHost>,
    restored: Restored,
) -> Result<Ended, Failed> {
    if !restored.failed.is_empty() {
        return Err(Failed {
            left: restored.failed,
        });
    }
    let differs = restored.differs.iter().map(Difference::to_string);
    let reasons: Vec<String> = differs.chain(restored.refused).collect();
    let reason = reasons.join("; ");
    claims.quarantine(vf, &reason, host).map_err(Failed::of)?;
    Ok(Ended::Quarantined(reason))
}
