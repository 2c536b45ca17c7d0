//! The built-in `host-local`: an address of each range set, leased for this node in
//! files that the reference's `host-local` understands ([`berth_state::lease`]).

use std::net::IpAddr;
use std::path::Path;

use berth_kernel::Root;
use berth_state::lease::{LastReserved, Lease, Locked, Owner, Pool};
use berth_state::{Key, Records, lock};
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use super::foresee;
use crate::error::{CniError, code};
use crate::request::{Call, GcRequest, Request};
use crate::result::AddResult;

mod conf;
mod ranges;
mod resolv;

use conf::Conf;
use ranges::RangeSet;

/// Why an ADD gave no address.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: CniError,
    /// The attachment holds leases that this ADD did not make, so that its undo must
    /// not release them.
    pub(super) others: bool,
}

impl<E: Into<CniError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            others: false,
        }
    }
}

/// Leases an address of each range set, or none at all.
pub(super) fn add(root: &Root, request: &Request) -> Result<AddResult, Refusal> {
    let conf = Conf::of(request)?;
    let asked = conf::asked(request, &conf.sets)?;
    let pool = conf::pool(root, &request.config);
    let mut locked = pool.lock(lock::WAIT)?;
    locked.settle()?;
    let key = request.key();
    let older = refuse_second(&locked, &conf.sets, key)?;
    let mut given = Vec::new();
    let wishes = conf.sets.iter().zip(asked).enumerate();
    for (index, (set, wish)) in wishes {
        let wish = Wish { index, set, wish };
        match wish.give(&pool, &locked, key, &mut given) {
            Ok(()) => {}
            Err(error) => {
                return Err(match locked.take_back(&given) {
                    Ok(()) => error.into(),
                    Err(also) => error.details(also).into(),
                });
            }
        }
    }
    locked.note(key, &[older, given.clone()].concat());
    let ips = conf.sets.iter().zip(given);
    Ok(AddResult {
        interfaces: vec![],
        ips: ips.filter_map(|(set, ip)| set.config(ip)).collect(),
        routes: conf.routes,
        dns: conf.dns,
    })
}

/// What ADDs are given from.
pub(super) fn foresee(call: &Call) -> Result<foresee::Pool, CniError> {
    let Conf { sets, routes, dns } = Conf::of(call)?;
    let set = |set: &RangeSet| foresee::Set {
        ranges: set.to_string(),
        addresses: set.size(),
    };
    Ok(foresee::Pool {
        sets: sets.iter().map(set).collect(),
        routes,
        dns,
    })
}

/// An attachment is added once: leases of its key are left alone and told, like in the
/// reference. Those of ranges this network has no more are no obstacle, and are returned.
fn refuse_second(
    locked: &Locked<'_>,
    sets: &[RangeSet],
    key: &Key,
) -> Result<Vec<IpAddr>, Refusal> {
    let held = locked.owned(key)?;
    let of_ours = |lease: &&Lease| sets.iter().any(|set| set.contains(lease.address));
    let Some(lease) = held.iter().find(of_ours) else {
        return Ok(held.into_iter().map(|lease| lease.address).collect());
    };
    let error = CniError::told(
        code::CONFIG,
        format_args!("attachment {key}"),
        "give it an address",
        format_args!(
            "{} has been allocated to it, duplicate allocation is not allowed",
            lease.address
        ),
        "send DEL for it first; a runtime must not ADD the same attachment twice",
    );
    Err(Refusal {
        error,
        others: true,
    })
}

/// One range set and the address of it that is asked for, if any.
struct Wish<'a> {
    index: usize,
    set: &'a RangeSet,
    wish: Option<IpAddr>,
}

impl Wish<'_> {
    /// Leases one address and adds it to `given`.
    fn give(
        &self,
        pool: &Pool,
        locked: &Locked<'_>,
        key: &Key,
        given: &mut Vec<IpAddr>,
    ) -> Result<(), CniError> {
        let last: LastReserved = locked.last_reserved(self.index)?;
        let address = match self.wish {
            Some(wish) => locked.reserve(key, std::iter::once(wish))?,
            None => locked.reserve(key, self.set.candidates(last.address()))?,
        };
        let Some(address) = address else {
            return Err(match self.wish {
                Some(wish) => taken(pool, key, wish),
                None => self.exhausted(pool, key),
            });
        };
        given.push(address);
        Ok(last.set(address)?)
    }

    fn exhausted(&self, pool: &Pool, key: &Key) -> CniError {
        let set = self.set;
        let leases = pool.leases().unwrap_or_default();
        let held = leases.iter().filter(|lease| set.contains(lease.address));
        CniError::told(
            code::TRY_AGAIN,
            format_args!("network {}", key.network()),
            format_args!("give {} {} an address", key.container_id(), key.ifname()),
            format_args!(
                "no IP addresses available in range set: {set} ({}, {} held)",
                set.name(),
                held.count()
            ),
            format_args!(
                "remove containers, enlarge the range, or let the runtime call GC; the holders \
                 are in {}",
                pool.dir().display()
            ),
        )
    }
}

fn taken(pool: &Pool, key: &Key, address: IpAddr) -> CniError {
    let owner = pool.lease(address).ok().flatten().and_then(|l| l.owner);
    let owner = owner.map_or_else(|| "nobody any more".to_owned(), |owner| owner.to_string());
    CniError::told(
        code::TRY_AGAIN,
        format_args!("address {address} of network {}", key.network()),
        format_args!("give it to {} {}", key.container_id(), key.ifname()),
        format_args!("it is held by {owner}"),
        "wait for that one's DEL, or ask for another address",
    )
}

/// Releases what the attachment holds, if anything.
pub(super) fn del(root: &Root, request: &Request) -> Result<(), CniError> {
    let pool = conf::pool(root, &request.config);
    if let Some(mut locked) = pool.lock_if_there(lock::WAIT)? {
        for address in locked.release(request.key())? {
            request.log().debug(format_args!("{address} is free again"));
        }
    }
    Ok(())
}

/// The attachment's leases and the addresses of `prevResult` must be the same, as far
/// as they are of this network's ranges.
pub(super) fn check(root: &Root, request: &Request) -> Result<(), CniError> {
    let conf = Conf::of(request)?;
    let pool = conf::pool(root, &request.config);
    let key = request.key();
    let held: Vec<IpAddr> = pool.owned(key)?.iter().map(|lease| lease.address).collect();
    let had = request.prev_result().map(|result| result.ips.as_slice());
    let had: Vec<IpAddr> = had
        .unwrap_or_default()
        .iter()
        .map(|ip| ip.address.ip())
        .collect();
    let drift = |reason: String| {
        CniError::told(
            code::DRIFT,
            format_args!("attachment {key}"),
            "find its addresses leased as ADD did",
            reason,
            "detach and attach it again",
        )
    };
    for set in &conf.sets {
        if !had.iter().any(|address| set.contains(*address)) {
            return Err(drift(format!(
                "prevResult has no address of {} ({set})",
                set.name()
            )));
        }
    }
    let ours = |address: &&IpAddr| conf.sets.iter().any(|set| set.contains(**address));
    if let Some(lost) = had.iter().filter(ours).find(|ip| !held.contains(ip)) {
        let now = pool.lease(*lost)?.and_then(|lease| lease.owner);
        return Err(drift(match now {
            Some(owner) => format!("the lease of {lost} is that of {owner}"),
            None => format!("the lease of {lost} is gone from {}", pool.dir().display()),
        }));
    }
    if let Some(extra) = held.iter().filter(ours).find(|ip| !had.contains(ip)) {
        return Err(drift(format!(
            "it holds {extra}, which is not in prevResult"
        )));
    }
    Ok(())
}

/// Whether the configuration is right and leases could be written. That every address
/// is given out at the moment is no reason to keep containers away.
pub(super) fn status(root: &Root, call: &Call) -> Result<(), CniError> {
    Conf::of(call)?;
    let pool = conf::pool(root, &call.config);
    let mut dir = pool.dir();
    loop {
        match access(dir, AccessFlags::W_OK | AccessFlags::X_OK) {
            Ok(()) if dir.is_dir() => return Ok(()),
            Ok(()) => return Err(unwritable(&pool, dir, Errno::ENOTDIR)),
            Err(Errno::ENOENT) => dir = dir.parent().unwrap_or(Path::new("/")),
            Err(errno) => return Err(unwritable(&pool, dir, errno)),
        }
    }
}

fn unwritable(pool: &Pool, dir: &Path, errno: Errno) -> CniError {
    CniError::told(
        code::NOT_AVAILABLE,
        format_args!("ipam.dataDir: {}", pool.dir().display()),
        "keep leases there",
        format_args!("{}: {errno}", dir.display()),
        "make it a directory that can be written, or set ipam.dataDir",
    )
}

/// Releases the leases of attachments that are neither valid nor on record: what has a
/// record is being added, or could not be removed, and still uses its addresses.
pub(super) fn gc(root: &Root, request: &GcRequest) -> Result<(), CniError> {
    let pool = conf::pool(root, &request.config);
    let Some(mut locked) = pool.lock_if_there(lock::WAIT)? else {
        return Ok(());
    };
    let records = Records::new(root);
    let on_record = |key: &Key| !matches!(records.load(key), Ok(None));
    locked.collect(|owner| stays(request, owner, on_record))?;
    Ok(())
}

fn stays(request: &GcRequest, owner: &Owner, on_record: impl Fn(&Key) -> bool) -> bool {
    let Some(ifname) = &owner.ifname else {
        return request.is_valid_container(&owner.container_id);
    };
    let key = ifname
        .parse()
        .ok()
        .and_then(|ifname| Key::new(&request.config.name, &owner.container_id, ifname).ok());
    // What cannot be an attachment's name is not among the valid ones.
    key.is_some_and(|key| request.is_valid(&key) || on_record(&key))
}

#[cfg(test)]
mod tests;
