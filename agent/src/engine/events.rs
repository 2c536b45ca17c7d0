//! What the engine did, newest last: the last thousand, for whoever asks later, and a
//! signal for whoever follows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::spec::WorkloadId;

/// How many are kept.
pub(crate) const KEPT: usize = 1000;

/// Something the engine did or saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Its number: one more than that of the event before. [`Events::push`] gives it.
    pub(crate) seq: u64,
    /// When, milliseconds since 1970. [`Events::push`] gives it.
    pub(crate) unix_ms: u64,
    /// What, in one word: `put`, `patch`, `delete`, `repair`, `lost`, `returned`,
    /// `expired`, `fight`, `offline`, `online`, `rollback`, `vf-released`,
    /// `vf-stuck`, `quota-escape`, `quota-whole` ...
    pub(crate) kind: String,
    /// The workload; absent: the node's.
    pub(crate) workload: Option<WorkloadId>,
    /// The thing that was set or seen.
    pub(crate) object: String,
    /// Its value before; may be empty.
    pub(crate) old: String,
    /// Its value afterwards; may be empty.
    pub(crate) new: String,
    /// Why.
    pub(crate) why: String,
}

impl Event {
    /// One about `object`; what else there is to say is set by the caller.
    pub(crate) fn new(kind: &str, object: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            seq: 0,
            unix_ms: 0,
            kind: kind.to_owned(),
            workload: None,
            object: object.into(),
            old: String::new(),
            new: String::new(),
            why: why.into(),
        }
    }
}

/// The events; every clone is the same.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    ring: Arc<Mutex<Ring>>,
    last: watch::Sender<u64>,
}

#[derive(Debug)]
struct Ring {
    next: u64,
    events: VecDeque<Event>,
}

impl Events {
    /// None yet. Numbers start at the present millisecond since 1970, so that they go on
    /// rising when the agent is started anew and who asks "since" misses nothing.
    pub(crate) fn new() -> Self {
        Self::starting_at(unix_ms().max(1))
    }

    /// None yet; the first gets number `first`, which is at least 1.
    pub(crate) fn starting_at(first: u64) -> Self {
        let ring = Ring {
            next: first,
            events: VecDeque::new(),
        };
        Self {
            ring: Arc::new(Mutex::new(ring)),
            last: watch::Sender::new(first.saturating_sub(1)),
        }
    }

    /// Adds one with the next number and the present time; the number is returned.
    pub(crate) fn push(&self, event: Event) -> u64 {
        let mut ring = self.ring();
        let seq = ring.next;
        ring.next += 1;
        if ring.events.len() == KEPT {
            ring.events.pop_front();
        }
        ring.events.push_back(Event {
            seq,
            unix_ms: unix_ms(),
            ..event
        });
        // While the ring is held: the number never goes back.
        self.last.send_replace(seq);
        seq
    }

    /// Those after number `seq`, oldest first, as far as they are kept.
    pub(crate) fn since(&self, seq: u64) -> Vec<Event> {
        let ring = self.ring();
        let newer = ring.events.iter().filter(|event| event.seq > seq);
        newer.cloned().collect()
    }

    /// The number of the last one.
    pub(crate) fn last(&self) -> u64 {
        *self.last.borrow()
    }

    /// Follows the number of the last one.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // Nothing in here can be left half done.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds since 1970; 0 before.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str) -> Event {
        Event::new(kind, "io.max of /a", "it was changed")
    }

    #[test]
    fn numbers_rise_and_the_last_thousand_are_kept() {
        let events = Events::starting_at(7);
        assert_eq!((events.last(), events.since(0)), (6, vec![]));
        assert_eq!(events.push(event("repair")), 7);
        for _ in 0..KEPT {
            events.push(event("put"));
        }
        let kept = events.since(0);
        assert_eq!((kept.len(), kept[0].seq), (KEPT, 8));
        assert!(kept.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1));
        assert!(kept[0].unix_ms > 1_600_000_000_000);
        let newest = events.since(events.last() - 1);
        assert_eq!((newest.len(), newest[0].seq), (1, 1007));
        assert_eq!(events.since(events.last()), []);
    }

    #[test]
    fn a_follower_hears_of_those_of_every_clone() {
        let events = Events::new();
        let mut follower = events.subscribe();
        assert!(!follower.has_changed().unwrap());
        let seq = events.clone().push(event("lost"));
        assert!(follower.has_changed().unwrap());
        assert_eq!(*follower.borrow_and_update(), seq);
    }
}
