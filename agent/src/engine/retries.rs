//! When which virtual function in quarantine is tried again: one at a time, each later
//! and later. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use berth_kernel::PciAddr;

/// From when it is first seen to the first try, and from that to the second; each further
/// pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// What is known of the virtual functions in quarantine.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    vfs: BTreeMap<PciAddr, Retry>,
    /// The one that is being tried.
    under_way: Option<PciAddr>,
}

#[derive(Debug)]
struct Retry {
    next: Instant,
    /// What follows the next failure.
    pause: Duration,
    tries: u32,
    why: String,
}

impl Retries {
    /// Which of the `quarantined` is to be tried at `now`: of those whose pause is over
    /// the one that waits longest. None while one is under way; the caller says how each
    /// ended.
    pub(crate) fn due(&mut self, quarantined: &BTreeSet<PciAddr>, now: Instant) -> Option<PciAddr> {
        self.vfs.retain(|vf, _| quarantined.contains(vf));
        for vf in quarantined {
            self.vfs.entry(*vf).or_insert_with(|| Retry {
                next: now + FIRST_PAUSE,
                pause: FIRST_PAUSE,
                tries: 0,
                why: String::new(),
            });
        }
        if self.under_way.is_some() {
            return None;
        }
        let over = self.vfs.iter().filter(|(_, retry)| retry.next <= now);
        let longest = over.min_by_key(|(_, retry)| retry.next);
        self.under_way = longest.map(|(vf, _)| *vf);
        self.under_way
    }

    /// It is free.
    pub(crate) fn freed(&mut self, vf: PciAddr) {
        self.under_way = None;
        self.vfs.remove(&vf);
    }

    /// It was not touched: its turn comes again, which is no failure.
    pub(crate) fn put_off(&mut self, vf: PciAddr, now: Instant) {
        self.under_way = None;
        if let Some(retry) = self.vfs.get_mut(&vf) {
            retry.next = now + FIRST_PAUSE;
        }
    }

    /// It stays. True if the reason is another one than last time.
    pub(crate) fn failed(&mut self, vf: PciAddr, why: &str, now: Instant) -> bool {
        self.under_way = None;
        let Some(retry) = self.vfs.get_mut(&vf) else {
            return true;
        };
        retry.next = now + retry.pause;
        retry.pause = (retry.pause * 2).min(LONGEST_PAUSE);
        retry.tries += 1;
        let news = retry.why != why;
        why.clone_into(&mut retry.why);
        news
    }

    /// How often it was tried, and why in vain; `None`: not yet.
    pub(crate) fn last(&self, vf: PciAddr) -> Option<(u32, &str)> {
        let tried = self.vfs.get(&vf).filter(|retry| retry.tries > 0);
        tried.map(|retry| (retry.tries, retry.why.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vfs(count: u32) -> BTreeSet<PciAddr> {
        let addresses = (0..count).map(|n| format!("0000:01:10.{n}"));
        addresses.map(|text| text.parse().unwrap()).collect()
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn pauses_double_up_to_ten_minutes() {
        let (mut retries, one) = (Retries::default(), vfs(1));
        let vf = *one.first().unwrap();
        let mut now = Instant::now();
        assert_eq!(retries.due(&one, now), None);
        for pause in [10, 10, 20, 40, 80, 160, 320, 600, 600] {
            assert_eq!(retries.due(&one, now + seconds(pause - 1)), None);
            now += seconds(pause);
            assert_eq!(retries.due(&one, now), Some(vf));
            retries.failed(vf, "EBUSY", now);
        }
        assert_eq!(retries.last(vf), Some((9, "EBUSY")));
    }

    #[test]
    fn one_at_a_time_and_who_waits_longest_first() {
        let (mut retries, two) = (Retries::default(), vfs(2));
        let [first, second] = [0, 1].map(|n| *two.iter().nth(n).unwrap());
        let start = Instant::now();
        assert_eq!(retries.due(&[second].into(), start), None);
        assert_eq!(retries.due(&two, start + seconds(1)), None);
        let now = start + seconds(30);
        assert_eq!(retries.due(&two, now), Some(second));
        assert_eq!(retries.due(&two, now), None, "one is under way");
        assert!(retries.failed(second, "EBUSY", now));
        assert_eq!(retries.due(&two, now), Some(first));
        retries.freed(first);
        assert!(!retries.failed(second, "EBUSY", now), "no news");
        assert!(retries.failed(second, "EIO", now));
    }

    #[test]
    fn who_is_put_off_waits_no_longer_for_it_and_who_is_back_begins_anew() {
        let (mut retries, one) = (Retries::default(), vfs(1));
        let vf = *one.first().unwrap();
        let mut now = Instant::now();
        retries.due(&one, now);
        for _ in 0..5 {
            now += FIRST_PAUSE;
            assert_eq!(retries.due(&one, now), Some(vf));
            retries.put_off(vf, now);
        }
        assert_eq!(retries.last(vf), None);
        now += FIRST_PAUSE;
        retries.due(&one, now);
        retries.failed(vf, "EBUSY", now);
        // Brought back by somebody else, and in quarantine again.
        assert_eq!(retries.due(&BTreeSet::new(), now), None);
        assert_eq!(retries.due(&one, now + seconds(60)), None);
        assert_eq!(retries.last(vf), None);
    }
}
