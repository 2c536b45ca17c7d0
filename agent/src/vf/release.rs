//! `berth vf release`: a VF nobody will give back any more is brought back by hand.
//! [`judge`] decides whether that is so; the work itself is that of a DEL.

use std::io::Write;

use anyhow::{Context, Result, bail};
use berth_kernel::pci::Device;
use berth_kernel::{NetNs, PciAddr, Root};
use berth_state::claim::Claim;
use berth_state::error::Kind;
use berth_state::lock::WAIT;
use berth_state::record::{Host, NetnsRef, Record};
use berth_state::vf::free::{Reason, Verdict};
use berth_state::vf::{self, Ended, SriovHost};
use berth_state::{Claims, Key, LockName, Locks, Records};

use super::survey::{self, Entry, Place, Seen};
use super::way_out;
use crate::cli::ReleaseArgs;

/// What is known of a VF's owner.
#[derive(Debug)]
pub(super) struct Found {
    /// The VF, for messages.
    vf: PciAddr,
    /// Its claim; one that cannot be read says why.
    pub(super) claim: Option<Result<Claim, String>>,
    /// Whether it is free, and if not, why.
    pub(super) verdict: Verdict,
    /// Whether its network device is in a container's namespace, and in which.
    inside: Option<String>,
    /// Whether the process that claimed it still runs.
    writer_lives: bool,
    /// The record of the claim's owner.
    record: OnRecord,
}

/// The record of a claim's owner.
#[derive(Debug, PartialEq, Eq)]
enum OnRecord {
    /// There is none, or not one of this VF.
    No,
    /// It cannot be read: whether the container lives is not known from it.
    Unreadable(String),
    /// A newer version wrote it; it must not be touched.
    Newer(String),
    /// It is of this VF, and the container's namespace still exists.
    Lives,
    /// It is of this VF, and the container's namespace is gone.
    Dead,
}

/// What a record remembers: what to bring the VF back to, and where it was.
pub(super) type Remembered = (Box<SriovHost>, NetnsRef);

/// How a VF is brought back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It is free; nothing is to be done.
    Free,
    /// By what its quarantine remembers.
    Quarantine,
    /// By the record of its dead owner.
    Recorded(Key),
    /// To the driver's defaults: nobody knows what it was.
    Unrecorded(Key),
}

/// Brings back the VF, or says what would be done; answers on `out`, what was tried in
/// vain on `notes`.
pub(super) fn run(
    args: &ReleaseArgs,
    root: &Root,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<()> {
    let address = args.address;
    if args.dry_run {
        let (found, remembered) = find(root, address)?;
        let way = judge(&found)?;
        return foretell(root, address, (&way, remembered), out);
    }
    let locks = Locks::new(root);
    let _lock = locks.acquire(&LockName::Vf(address), &own_key()?, WAIT)?;
    // Only now: whoever had the lock may have changed all of it.
    let (found, remembered) = find(root, address)?;
    let way = judge(&found)?;
    if way == Way::Free {
        writeln!(out, "VF {address} is free; nothing was changed")?;
        return Ok(());
    }
    let mut work = Work {
        root,
        locks: &locks,
        address,
        key: own_key()?,
        remembered,
        notes,
    };
    let how = work.bring_back(&way)?;
    match Device::new(root, address).exists() {
        true => writeln!(out, "VF {address} is free: it was {how}")?,
        false => writeln!(out, "VF {address} is no more; its claim was given up")?,
    }
    if let Way::Recorded(key) = &way {
        let note = "its record stays for DEL or GC, which release its addresses";
        writeln!(work.notes, "berth: attachment {key}: {note}")?;
    }
    Ok(())
}

/// Who holds the locks, for others to see.
fn own_key() -> Result<Key> {
    Ok(Key::new("berth", "vf", "release".parse()?)?)
}

/// Looks at the VF and its owner.
///
/// # Errors
/// There is no such VF and no claim of it; what the kernel refused.
pub(super) fn find(root: &Root, vf: PciAddr) -> Result<(Found, Option<Remembered>)> {
    let seen = survey::one(root, vf)?;
    let claim = match Claims::new(root).load(vf) {
        // Its PF may have fewer VFs by now; the claim stands all the same.
        Ok(None) if seen.is_none() => return Err(survey::absent(vf)),
        Ok(claim) => claim.map(Ok),
        Err(error) => Some(Err(error.to_string())),
    };
    let (mut writer_lives, mut record) = (false, (OnRecord::No, None));
    if let Some(Ok(Claim::Claimed { owner, writer })) = &claim {
        writer_lives = writer.is_alive(root)?;
        record = on_record(root, owner, vf)?;
    }
    let none = || Verdict::Busy(Vec::new());
    let (record, remembered) = record;
    let found = Found {
        vf,
        claim,
        verdict: seen.as_ref().map_or_else(none, |seen| seen.facts.verdict()),
        inside: seen.as_ref().and_then(inside),
        writer_lives,
        record,
    };
    Ok((found, remembered))
}

/// In which other namespace its network device is.
fn inside(seen: &Seen) -> Option<String> {
    match &seen.place {
        Place::Container(..) => Some(Entry::of(seen).whereabouts()),
        Place::Host(_) | Place::Nowhere => None,
    }
}

fn on_record(root: &Root, owner: &Key, vf: PciAddr) -> Result<(OnRecord, Option<Remembered>)> {
    let record = match Records::new(root).load(owner) {
        Ok(record) => record,
        Err(error) if error.kind() == Kind::NewerFormat => {
            return Ok((OnRecord::Newer(error.to_string()), None));
        }
        Err(error) => return Ok((OnRecord::Unreadable(error.to_string()), None)),
    };
    match record {
        Some(Record {
            host: Host::Sriov(host),
            netns,
            ..
        }) if host.vf == vf => {
            let state = match lives(root, &netns)? {
                true => OnRecord::Lives,
                false => OnRecord::Dead,
            };
            Ok((state, Some((host, netns))))
        }
        _ => Ok((OnRecord::No, None)),
    }
}

/// Whether a namespace still exists, by its path or by any process in it.
fn lives(root: &Root, netns: &NetnsRef) -> Result<bool> {
    let by_path = netns.path.as_ref().and_then(|path| NetNs::open(path).ok());
    if by_path.is_some_and(|found| netns.is(&found).unwrap_or(false)) {
        return Ok(true);
    }
    Ok(NetNs::find_by_cookie(root, netns.cookie)?.is_some())
}

/// Whether the VF may be taken from its owner, and how it is brought back.
///
/// # Errors
/// Its owner lives, or is not ours to judge; with the way out.
pub(super) fn judge(found: &Found) -> Result<Way> {
    let vf = found.vf;
    match &found.claim {
        None => judge_unclaimed(found),
        Some(Err(reason)) => bail!("VF {vf} cannot be released: {reason}"),
        Some(Ok(Claim::Quarantined { .. })) => match &found.inside {
            None => Ok(Way::Quarantine),
            Some(inside) => bail!(
                "VF {vf} cannot be released: it is {inside}, which lives; end that container first"
            ),
        },
        Some(Ok(Claim::Claimed { owner, .. })) => judge_claimed(found, owner),
    }
}

fn judge_unclaimed(found: &Found) -> Result<Way> {
    let vf = found.vf;
    let reasons = match &found.verdict {
        Verdict::Free(_) => return Ok(Way::Free),
        Verdict::Busy(reasons) => reasons,
    };
    let why: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    let place = match &found.inside {
        Some(inside) => format!(" ({inside})"),
        None => String::new(),
    };
    let next = match reasons.first() {
        Some(Reason::NoDriver) => "berth bootstrap vfs binds drivers that are missing".to_owned(),
        Some(Reason::Reserved) => "take it out of reserved_vfs there".to_owned(),
        Some(reason) => way_out(reason, vf),
        None => "see berth vf show".to_owned(),
    };
    bail!(
        "VF {vf} cannot be released: no attachment has it, but {}{place}; {next}",
        why.join(", ")
    )
}

fn judge_claimed(found: &Found, owner: &Key) -> Result<Way> {
    let vf = found.vf;
    let refuse = |why: String| {
        let out = way_out(&Reason::Claimed(owner.clone()), vf);
        bail!("VF {vf} cannot be released: attachment {owner} {why}; {out}")
    };
    if found.writer_lives {
        bail!("VF {vf} cannot be released: the ADD of {owner} still runs; wait for its end");
    }
    match (&found.record, &found.inside) {
        (OnRecord::Newer(reason), _) => refuse(format!("is not ours to judge: {reason}")),
        (OnRecord::Lives, _) => refuse("lives".to_owned()),
        (OnRecord::Dead, None) => Ok(Way::Recorded(owner.clone())),
        (_, Some(inside)) => refuse(format!("lives: the VF is {inside}")),
        (OnRecord::No | OnRecord::Unreadable(_), None) => Ok(Way::Unrecorded(owner.clone())),
    }
}

fn foretell(
    root: &Root,
    vf: PciAddr,
    (way, remembered): (&Way, Option<Remembered>),
    out: &mut dyn Write,
) -> Result<()> {
    let (host, netns) = remembered.unzip();
    let (why, host) = match way {
        Way::Free => {
            writeln!(out, "VF {vf} is free; nothing would be changed")?;
            return Ok(());
        }
        Way::Quarantine => ("in quarantine".to_owned(), quarantined(root, vf)?),
        Way::Recorded(key) => (format!("claimed by {key}, whose namespace is gone"), host),
        Way::Unrecorded(key) => (format!("claimed by {key}, which is gone"), None),
    };
    let Some(host) = host else {
        let to = "it would get the PF's and the driver's defaults";
        writeln!(out, "VF {vf} is {why}, and nobody knows what it was; {to}")?;
        return Ok(());
    };
    writeln!(out, "VF {vf} is {why}; it would be restored:")?;
    match vf::compare(root, &host, netns.as_ref())? {
        None => writeln!(out, "  it has no network device; its driver would be bound")?,
        Some(differs) if differs.is_empty() => writeln!(out, "  it is what it was already")?,
        Some(differs) => {
            for difference in differs {
                writeln!(out, "  {difference}")?;
            }
        }
    }
    Ok(())
}

fn quarantined(root: &Root, vf: PciAddr) -> Result<Option<Box<SriovHost>>> {
    Ok(match Claims::new(root).load(vf)? {
        Some(Claim::Quarantined { vf, .. }) => vf,
        _ => None,
    })
}

/// A VF being brought back. Its lock is held.
pub(super) struct Work<'a> {
    pub(super) root: &'a Root,
    pub(super) locks: &'a Locks,
    pub(super) address: PciAddr,
    pub(super) key: Key,
    pub(super) remembered: Option<Remembered>,
    pub(super) notes: &'a mut dyn Write,
}

impl Work<'_> {
    /// [`Work::restore_or_reset`]; in vain, to the driver's defaults. Says which it was.
    fn bring_back(&mut self, way: &Way) -> Result<&'static str> {
        if let Some(how) = self.restore_or_reset(way)? {
            return Ok(how);
        }
        self.defaults(way)?;
        Ok("given the driver's defaults, for what it was could not be restored")
    }

    /// First to what it was; in vain, again after a reset of the device. Says which of
    /// these it was; `None`: both in vain.
    pub(super) fn restore_or_reset(&mut self, way: &Way) -> Result<Option<&'static str>> {
        let device = Device::new(self.root, self.address);
        if device.exists() {
            // Without a driver it has no network device that could be put right.
            device.probe()?;
        }
        let to = match way {
            Way::Unrecorded(_) => "given the driver's defaults",
            _ => "brought back to what it was",
        };
        if self.attempt(way, "it could not be brought back")? {
            return Ok(Some(to));
        }
        if device.can_reset() {
            match device.reset() {
                Err(error) => self.note(&error.to_string())?,
                Ok(()) if self.attempt(way, "nor after a reset")? => {
                    return Ok(Some("reset, and brought back"));
                }
                Ok(()) => {}
            }
        }
        Ok(None)
    }

    /// Whether the VF is free now. A claim may have turned to quarantine meanwhile.
    fn attempt(&mut self, way: &Way, in_vain: &str) -> Result<bool> {
        let (root, locks, vf) = (self.root, self.locks, self.address);
        let claim = Claims::new(root).load(vf)?;
        let ended = match (way, claim, &self.remembered) {
            (Way::Recorded(key), Some(Claim::Claimed { .. }), Some((host, netns))) => {
                vf::release(root, locks, key, host, Some(netns))
            }
            (Way::Unrecorded(key), Some(Claim::Claimed { .. }), _) => {
                vf::release_unrecorded(root, locks, key, vf)
            }
            _ => vf::end_quarantine(root, locks, &self.key, vf),
        };
        match ended {
            Ok(Ended::Free) => Ok(true),
            Ok(Ended::NotOurs(claim)) => bail!("VF {vf} is {claim} meanwhile; nothing was changed"),
            Ok(Ended::Quarantined(reason)) => {
                self.note(&format!("{in_vain}: {reason}"))?;
                Ok(false)
            }
            Err(failed) => {
                self.note(&format!("{in_vain}: {failed}"))?;
                Ok(false)
            }
        }
    }

    fn defaults(&mut self, way: &Way) -> Result<()> {
        let (root, vf) = (self.root, self.address);
        let claims = Claims::new(root);
        let restored = vf::neutral(root, self.locks, &self.key, vf);
        if !restored.is_whole() {
            let mut left = restored.failed;
            left.extend(restored.differs.iter().map(ToString::to_string));
            bail!(
                "VF {vf} stays taken, the driver's defaults cannot be had either: {}; remove what \
                 stands in the way, see the kernel's log, and run this again",
                left.join("; ")
            );
        }
        let given_up = match (claims.load(vf)?, way) {
            (Some(Claim::Quarantined { .. }), _) => claims.end_quarantine(vf),
            (_, Way::Recorded(key) | Way::Unrecorded(key)) => claims.release(vf, key),
            (_, Way::Free | Way::Quarantine) => Ok(()),
        };
        given_up.with_context(|| format!("give up the claim of VF {vf}"))
    }

    fn note(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(self.notes, "berth: VF {}: {text}", self.address)?)
    }
}

#[cfg(test)]
mod tests;
