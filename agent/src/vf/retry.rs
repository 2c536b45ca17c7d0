//! A VF in quarantine, tried again by the agent: what `berth vf release` does, but for
//! the last resort. To give up what a VF was is a person's decision.

use std::time::Duration;

use anyhow::Result;
use berth_kernel::{PciAddr, Root};
use berth_state::claim::Claim;
use berth_state::vf::free::{Reason, Verdict};
use berth_state::{Error, Key, LockName, Locks};

use super::release::{Work, find, judge};
use super::way_out;
use crate::engine::errands::Try;

/// Tries once: restores it, and in vain does so again after a reset of the device. Waits
/// for no other process that works on it; for its PF, for the one namespace move, and for
/// its driver's interface as long as a DEL does.
pub(crate) fn retry(root: &Root, vf: PciAddr) -> Try {
    attempt(root, vf).unwrap_or_else(|error| Try::Failed(format!("{error:#}")))
}

fn attempt(root: &Root, vf: PciAddr) -> Result<Try> {
    let locks = Locks::new(root);
    let key = Key::new("berth", "agent", "retry".parse()?)?;
    let _lock = match locks.acquire(&LockName::Vf(vf), &key, Duration::ZERO) {
        Ok(lock) => lock,
        Err(error @ Error::LockBusy { .. }) => return Ok(Try::NotNow(error.to_string())),
        Err(error) => return Err(error.into()),
    };
    let (found, remembered) = find(root, vf)?;
    if !matches!(found.claim, Some(Ok(Claim::Quarantined { .. }))) {
        let why = "it is not in quarantine any more";
        return Ok(Try::NotNow(why.to_owned()));
    }
    let way = judge(&found)?;
    if let Some(user) = user(&found.verdict) {
        let out = way_out(user, vf);
        return Ok(Try::Failed(format!("somebody uses it, as {user}: {out}")));
    }
    let mut notes = Vec::new();
    let mut work = Work {
        root,
        locks: &locks,
        address: vf,
        key,
        remembered,
        notes: &mut notes,
    };
    Ok(match work.restore_or_reset(&way)? {
        Some(how) => Try::Freed(how.to_owned()),
        None => Try::Failed(in_one_line(&notes)),
    })
}

/// Who has begun to use it since, if anybody. A driver without an interface is nobody:
/// that is what a reset may cure.
fn user(verdict: &Verdict) -> Option<&Reason> {
    let Verdict::Busy(reasons) = verdict else {
        return None;
    };
    reasons.iter().find(|reason| {
        matches!(
            reason,
            Reason::Userspace(_)
                | Reason::Master(_)
                | Reason::Uppers(_)
                | Reason::Addresses(_)
                | Reason::ReferenceOwner(_)
        )
    })
}

/// What was tried in vain, without the beginning that a person's terminal needs.
fn in_one_line(notes: &[u8]) -> String {
    let text = String::from_utf8_lossy(notes);
    let lines = text.lines().map(|line| {
        let after = line.strip_prefix("berth: VF ");
        after
            .and_then(|rest| rest.split_once(": "))
            .map_or(line, |(_vf, said)| said)
    });
    lines.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use berth_state::Claims;

    use super::*;

    fn vf() -> PciAddr {
        "0000:01:10.2".parse().unwrap()
    }

    fn node() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        fs::create_dir_all(root.sys.join("bus/pci/devices")).unwrap();
        (dir, root)
    }

    #[test]
    fn a_vf_whose_lock_is_held_is_not_waited_for() {
        let (_dir, root) = node();
        Claims::new(&root)
            .quarantine(vf(), "differs", None)
            .unwrap();
        let key = "game/web-1:net1".parse().unwrap();
        let locks = Locks::new(&root);
        let held = locks
            .acquire(&LockName::Vf(vf()), &key, Duration::ZERO)
            .unwrap();
        let Try::NotNow(why) = retry(&root, vf()) else {
            panic!("it was tried");
        };
        assert!(why.contains("game/web-1:net1"), "{why}");
        drop(held);
        assert!(!matches!(retry(&root, vf()), Try::NotNow(_)));
    }

    #[test]
    fn one_that_is_no_more_is_given_up() {
        let (_dir, root) = node();
        let claims = Claims::new(&root);
        claims.quarantine(vf(), "differs", None).unwrap();
        assert!(matches!(retry(&root, vf()), Try::Freed(_)));
        assert_eq!(claims.load(vf()), Ok(None));
    }

    #[test]
    fn what_somebody_has_claimed_or_brought_back_is_not_touched() {
        let (_dir, root) = node();
        let claims = Claims::new(&root);
        let key: Key = "game/web-1:net1".parse().unwrap();
        let writer = berth_state::Writer::current(&Root::host()).unwrap();
        claims.claim(vf(), &key, writer).unwrap();
        let before = claims.load(vf()).unwrap();
        // Whoever writes claims lives here, as far as this tree says: nothing is judged.
        assert!(!matches!(retry(&root, vf()), Try::Freed(_)));
        assert_eq!(claims.load(vf()).unwrap(), before);
    }

    #[test]
    fn one_that_the_host_uses_meanwhile_is_left_to_it() {
        let quarantined = Reason::Quarantined("differs".to_owned());
        let of = |reason: Reason| Verdict::Busy(vec![quarantined.clone(), reason]);
        for used in [
            Reason::Userspace("vfio-pci".to_owned()),
            Reason::Master("br0".to_owned()),
            Reason::Addresses(vec!["10.0.0.1/24".parse().unwrap()]),
        ] {
            assert_eq!(user(&of(used.clone())), Some(&used));
        }
        for curable in [Reason::NotHere, Reason::NoDriver] {
            assert_eq!(user(&of(curable)), None);
        }
    }

    #[test]
    fn what_was_tried_is_one_line() {
        let notes = b"berth: VF 0000:01:10.2: in vain: MTU\nberth: VF 0000:01:10.2: nor after\n";
        assert_eq!(in_one_line(notes), "in vain: MTU; nor after");
    }
}
