//! How a workload comes and goes: reserved until its target is there, active, lost
//! when the target is gone. Pure.

use crate::store::{Bound, Record, State};

/// The times a workload is kept without a target, seconds, where its spec says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Defaults {
    /// While it is reserved.
    pub(crate) ttl_sec: u64,
    /// After the target is gone.
    pub(crate) lost_ttl_sec: u64,
}

/// What happened to a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing.
    Stays,
    /// Its target has come for the first time.
    Arrived,
    /// Its target has come back, as another cgroup than before.
    Returned,
    /// Its target is gone.
    Lost,
    /// Nobody waits for it any more: it is to be released.
    Expired,
}

/// What `found` means for the workload at `now` (Unix time, seconds).
pub(crate) fn turn(record: &Record, found: Option<&Bound>, now: u64, defaults: Defaults) -> Turn {
    let spec = &record.spec;
    match (&record.state, found) {
        (State::Active { .. }, Some(found)) if record.target.as_ref() == Some(found) => Turn::Stays,
        (State::Active { .. } | State::Lost { .. }, Some(_)) => Turn::Returned,
        (State::Reserved { .. }, Some(_)) if record.target.is_some() => Turn::Returned,
        (State::Reserved { .. }, Some(_)) => Turn::Arrived,
        (State::Active { .. }, None) => Turn::Lost,
        (State::Reserved { since_unix }, None) => {
            expires(*since_unix, spec.ttl_sec.unwrap_or(defaults.ttl_sec), now)
        }
        (State::Lost { since_unix }, None) => expires(
            *since_unix,
            spec.lost_ttl_sec.unwrap_or(defaults.lost_ttl_sec),
            now,
        ),
    }
}

/// A clock that was set back makes nothing expire.
fn expires(since: u64, seconds: u64, now: u64) -> Turn {
    if now.saturating_sub(since) >= seconds {
        Turn::Expired
    } else {
        Turn::Stays
    }
}

#[cfg(test)]
mod tests;
