//! The generation's file: one number.

use std::fs;
use std::io;

use super::Damaged;
use super::files::{self, Place};
use crate::refusal::Refusal;

/// The generation of a node nobody has booked yet.
const FIRST: u64 = 1;

/// Where the file is lost, the records tell how high the generation was when each was
/// written; it may have risen since without one (a VF in quarantine), but hardly so
/// often.
const UNSEEN: u64 = 1 << 20;

/// The stored generation. If it is lost, unreadable or behind what records saw
/// (`seen`), one that none can have seen.
pub(super) fn read(place: &Place, seen: Option<u64>, damaged: &mut Vec<Damaged>) -> u64 {
    let path = place.generation();
    let stored = match fs::read_to_string(&path) {
        Ok(text) => text
            .trim()
            .parse::<u64>()
            .map_err(|error| format!("{:?}: {error}", text.trim())),
        Err(error) if error.kind() == io::ErrorKind::NotFound && seen.is_none() => Ok(FIRST),
        Err(error) => Err(error.to_string()),
    };
    let recovered = seen.map_or(FIRST, |seen| seen.saturating_add(UNSEEN));
    match stored {
        Ok(stored) if seen <= Some(stored) => stored.max(FIRST),
        Ok(stored) => {
            let reason = format!("it says {stored}, and a record was written later");
            damaged.push(Damaged { path, reason });
            recovered
        }
        Err(reason) => {
            let reason = format!("{reason}; going on with {recovered}");
            damaged.push(Damaged { path, reason });
            recovered
        }
    }
}

/// Writes it.
pub(super) fn write(place: &Place, generation: u64) -> Result<(), Refusal> {
    files::replace(&place.generation(), format!("{generation}\n").as_bytes())
}
