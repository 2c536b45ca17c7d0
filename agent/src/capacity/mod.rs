//! What the node has, what is promised, what is left: the report for schedulers.
//!
//! [`inventory`] reads the node, [`ledger`] keeps the promises and says whether one more
//! fits (pure), [`mod@report`] puts both together, [`mod@table`] shows it to people.
//! [`rivals`] finds other programs that pin CPUs.

use serde::{Deserialize, Serialize};

mod addresses;
mod disks;
mod inventory;
pub(crate) mod ledger;
mod network;
mod report;
pub(crate) mod rivals;
mod table;

pub(crate) use inventory::{DiskCapability, Inventory, Settings};
pub(crate) use ledger::{Booking, Bookings, IoRate, MemoryBooking, Totals, fits};
pub(crate) use report::{Capacity, CpuNumbers, Known, report};
pub(crate) use table::table;

/// Something the node cannot enforce or that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Condition {
    /// What kind; stable across versions.
    pub(crate) kind: String,
    /// On what: an option, a device, a mount point, a file.
    pub(crate) object: String,
    /// What it means.
    pub(crate) effect: String,
    /// What was seen.
    pub(crate) reason: String,
    /// What to do about it; may be empty.
    pub(crate) remedy: String,
}

impl Condition {
    /// That a part of the node could not be read, so that the report lacks it.
    fn unreadable(object: &str, error: &dyn std::fmt::Display) -> Self {
        Self {
            kind: "capacity.unreadable".to_owned(),
            object: object.to_owned(),
            effect: format!("the report lacks {object}"),
            reason: error.to_string(),
            remedy: "berth doctor says what the node lacks; it is read again at the next round"
                .to_owned(),
        }
    }
}

/// The value, or a condition that says why there is none.
fn or_condition<T, E: std::fmt::Display>(
    object: &str,
    read: Result<T, E>,
    conditions: &mut Vec<Condition>,
) -> Option<T> {
    read.map_err(|error| conditions.push(Condition::unreadable(object, &error)))
        .ok()
}
