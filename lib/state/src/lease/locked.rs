//! What changes a pool: only under its lock.

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::SystemTime;

use super::draft::Draft;
use super::{Lease, Owner, Pool, is_empty, of_owner};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::{atomic, boot, lock};

/// A pool whose lock is held until this is dropped.
#[derive(Debug)]
#[must_use = "the pool is locked only as long as this lives"]
pub struct Locked<'a> {
    pool: &'a Pool,
    file: File,
    /// Every lease, where they had to be read.
    pub(super) read: Option<Vec<Lease>>,
    /// Whether the index says all of them.
    indexed: bool,
}

impl<'a> Locked<'a> {
    pub(super) fn new(pool: &'a Pool, file: File) -> Self {
        Self {
            pool,
            file,
            read: None,
            indexed: false,
        }
    }

    /// Before anything is given out: removes what is nobody's since the last boot, once
    /// in each boot, and brings the index up to what others have done. Neither needs a
    /// lease to be read as long as nobody but Berth serves the pool.
    ///
    /// # Errors
    /// The leases, or what tells this boot from others, cannot be read.
    pub fn settle(&mut self) -> Result<()> {
        let Pool {
            root, index, dir, ..
        } = self.pool;
        let boot_id = boot::boot_id(root)?;
        let swept = index.is_of_boot(&boot_id);
        if swept && index.is_in_step(dir) {
            self.indexed = true;
            return Ok(());
        }
        let mut leases = self.pool.leases()?;
        if !swept {
            let started = boot::started(root)?;
            leases = self.remove_all(leases, |lease| is_stale(lease, started))?;
        }
        let indexed = index
            .rebuild(&leases)
            .and_then(|()| {
                if swept {
                    Ok(())
                } else {
                    index.mark_boot(&boot_id)
                }
            })
            .and_then(|()| index.step(dir));
        self.indexed = hint(indexed);
        self.read = Some(leases);
        Ok(())
    }

    /// Whether `key` has leases already, after [`Locked::settle`].
    ///
    /// # Errors
    /// They cannot be read.
    pub fn owned(&self, key: &Key) -> Result<Vec<Lease>> {
        match &self.read {
            Some(leases) => Ok(of_owner(leases.clone(), key)),
            // The index is complete: who is not in it has none.
            None if !self.pool.index.has(key) => Ok(Vec::new()),
            None => self.pool.owned(key),
        }
    }

    /// Leases to `key` the first of `candidates` that is free.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn reserve(
        &self,
        key: &Key,
        candidates: impl Iterator<Item = IpAddr> + Clone,
    ) -> Result<Option<IpAddr>> {
        let draft = Draft::write(&self.pool.dir, &Owner::text(key))?;
        for address in candidates.clone() {
            if draft.link(&self.pool.path(address))? {
                return Ok(Some(address));
            }
        }
        for address in candidates {
            let path = self.pool.path(address);
            if is_empty(&path) {
                log::info!("{address} was left without an owner by a killed process");
                atomic::remove(&path)?;
                if draft.link(&path)? {
                    return Ok(Some(address));
                }
            }
        }
        Ok(None)
    }

    /// The address last given out of range set `set`.
    ///
    /// # Errors
    /// The file can be neither read nor made.
    pub fn last_reserved(&self, set: usize) -> Result<LastReserved> {
        LastReserved::open(self.pool.dir.join(format!("last_reserved_ip.{set}")))
    }

    /// Notes in the index all that `key` has now.
    pub fn note(&mut self, key: &Key, addresses: &[IpAddr]) {
        self.indexed &= hint(self.pool.index.enter(key, addresses));
        self.step();
    }

    /// After a change of ours that the index says too.
    fn step(&self) {
        if self.indexed {
            hint(self.pool.index.step(&self.pool.dir));
        }
    }

    /// Takes back what `key` was just given, where that is not all it asked for.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn take_back(&self, addresses: &[IpAddr]) -> Result<()> {
        let mut paths = addresses.iter().map(|address| self.pool.path(*address));
        paths.try_for_each(|path| atomic::remove(&path))?;
        self.step();
        Ok(())
    }

    /// Removes the leases of `key`, if it has any; returns their addresses.
    ///
    /// # Errors
    /// They cannot be read or removed.
    pub fn release(&mut self, key: &Key) -> Result<Vec<IpAddr>> {
        let Pool { index, dir, .. } = self.pool;
        self.indexed = index.is_in_step(dir);
        let leases = self.pool.owned(key)?;
        for lease in &leases {
            atomic::remove(&lease.file)?;
        }
        self.indexed &= hint(index.forget(key));
        self.step();
        Ok(leases.into_iter().map(|lease| lease.address).collect())
    }

    /// Removes every lease whose owner does not stay, or that has none; returns them.
    ///
    /// # Errors
    /// A lease cannot be read or removed; the others are done all the same.
    pub fn collect(&mut self, stays: impl Fn(&Owner) -> bool) -> Result<Vec<Lease>> {
        self.settle()?;
        let leases = match self.read.take() {
            Some(leases) => leases,
            None => self.pool.leases()?,
        };
        let goes = |lease: &Lease| !lease.owner.as_ref().is_some_and(&stays);
        let gone: Vec<Lease> = leases.iter().filter(|lease| goes(lease)).cloned().collect();
        let left = self.remove_all(leases, goes)?;
        let Pool { index, dir, .. } = self.pool;
        self.indexed = hint(index.rebuild(&left).and_then(|()| index.step(dir)));
        Ok(gone)
    }

    /// Removes the leases that go, past errors, and returns the others.
    fn remove_all(&self, leases: Vec<Lease>, goes: impl Fn(&Lease) -> bool) -> Result<Vec<Lease>> {
        let (going, left): (Vec<_>, Vec<_>) = leases.into_iter().partition(goes);
        let mut outcome = Ok(left);
        for lease in going {
            let whose = match &lease.owner {
                Some(owner) => owner.to_string(),
                None => "nobody".to_owned(),
            };
            log::info!(
                "network {}: {} of {whose} is free again",
                self.pool.network,
                lease.address
            );
            if let Err(error) = atomic::remove(&lease.file) {
                outcome = outcome.and(Err(error));
            }
        }
        outcome
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        lock::release(&self.file);
    }
}

/// Whether a lease is provably of a boot before this one, or nobody's.
fn is_stale(lease: &Lease, started: SystemTime) -> bool {
    let modified = || fs::symlink_metadata(&lease.file).and_then(|meta| meta.modified());
    lease.owner.is_none() || modified().is_ok_and(|modified| modified < started)
}

/// A hint that cannot be kept costs time later, nothing else.
fn hint(kept: Result<()>) -> bool {
    if let Err(error) = &kept {
        log::warn!("addresses will be searched for, their index cannot be kept: {error}");
    }
    kept.is_ok()
}

/// `last_reserved_ip.N`: where the next search begins. Like the reference, written in
/// place: what it says is only used if it is an address of the range set.
#[derive(Debug)]
pub struct LastReserved {
    path: PathBuf,
    file: File,
    length: usize,
    address: Option<IpAddr>,
}

impl LastReserved {
    fn open(path: PathBuf) -> Result<Self> {
        let mut text = [0; 64];
        let read = lock::open(&path).and_then(|file| Ok((file.read_at(&mut text, 0)?, file)));
        let (length, file) = read.map_err(|error| Error::io("read", &path, &error))?;
        let known = text
            .get(..length)
            .and_then(|text| std::str::from_utf8(text).ok());
        Ok(Self {
            address: known.and_then(|text| text.trim().parse().ok()),
            path,
            file,
            length,
        })
    }

    /// The address; `None` if none was given yet, or the file does not say.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Remembers the next one.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn set(&self, address: IpAddr) -> Result<()> {
        let text = address.to_canonical().to_string();
        // Never cut to nothing first: some file systems would write it out at once.
        let cut = match text.len() < self.length {
            true => self.file.set_len(text.len() as u64),
            false => Ok(()),
        };
        cut.and_then(|()| self.file.write_all_at(text.as_bytes(), 0))
            .map_err(|error| Error::io("write", &self.path, &error))
    }
}
