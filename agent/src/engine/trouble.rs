//! Repairs that do not hold: a step that fails is tried again later and later, and a
//! knob that somebody else keeps changing back is left alone for a while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::knob::Knob;

/// So many repairs of one knob within [`WINDOW`] are a fight.
const FIGHT: usize = 5;
/// See [`FIGHT`].
const WINDOW: Duration = Duration::from_secs(60);
/// The first pause; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What is known of the knobs that give trouble.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    knobs: BTreeMap<Knob, Trouble>,
}

/// One knob's.
#[derive(Debug)]
struct Trouble {
    repairs: Vec<Instant>,
    pause: Option<Pause>,
}

#[derive(Debug)]
struct Pause {
    until: Instant,
    length: Duration,
    why: String,
}

impl Troubles {
    /// Whether the knob may be set at `now`.
    pub(crate) fn allows(&self, knob: &Knob, now: Instant) -> bool {
        let pause = self
            .knobs
            .get(knob)
            .and_then(|trouble| trouble.pause.as_ref());
        pause.is_none_or(|pause| pause.until <= now)
    }

    /// The knob was repaired. True when this makes it a fight, which begins a pause.
    pub(crate) fn repaired(&mut self, knob: &Knob, now: Instant) -> bool {
        let trouble = self.entry(knob);
        trouble
            .repairs
            .retain(|then| now.duration_since(*then) < WINDOW);
        trouble.repairs.push(now);
        if trouble.repairs.len() < FIGHT {
            return false;
        }
        trouble.repairs.clear();
        let why = format!(
            "something else changed it back {FIGHT} times within {} s",
            WINDOW.as_secs()
        );
        trouble.pause(now, why);
        true
    }

    /// Setting the knob failed.
    pub(crate) fn failed(&mut self, knob: &Knob, why: String, now: Instant) {
        self.entry(knob).pause(now, why);
    }

    /// The knob is as it should be.
    pub(crate) fn settled(&mut self, knob: &Knob, now: Instant) {
        if let Some(trouble) = self.knobs.get_mut(knob) {
            trouble
                .repairs
                .retain(|then| now.duration_since(*then) < WINDOW);
            if trouble
                .pause
                .as_ref()
                .is_some_and(|pause| pause.until <= now)
            {
                trouble.pause = None;
            }
            if trouble.repairs.is_empty() && trouble.pause.is_none() {
                self.knobs.remove(knob);
            }
        }
    }

    /// The knobs with a pause, and why.
    pub(crate) fn list(&self) -> impl Iterator<Item = (&Knob, &str)> {
        self.knobs
            .iter()
            .filter_map(|(knob, trouble)| Some((knob, trouble.pause.as_ref()?.why.as_str())))
    }

    fn entry(&mut self, knob: &Knob) -> &mut Trouble {
        self.knobs.entry(knob.clone()).or_insert(Trouble {
            repairs: Vec::new(),
            pause: None,
        })
    }
}

impl Trouble {
    fn pause(&mut self, now: Instant, why: String) {
        let length = self
            .pause
            .as_ref()
            .map_or(FIRST_PAUSE, |last| (last.length * 2).min(LONGEST_PAUSE));
        self.pause = Some(Pause {
            until: now + length,
            length,
            why,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knob() -> Knob {
        Knob::Irq { irq: 24 }
    }

    #[test]
    fn the_fifth_repair_within_a_minute_is_a_fight() {
        let mut troubles = Troubles::default();
        let start = Instant::now();
        for n in 0..4 {
            assert!(!troubles.repaired(&knob(), start + Duration::from_secs(n)));
            assert!(troubles.allows(&knob(), start + Duration::from_secs(n)));
        }
        let now = start + Duration::from_secs(5);
        assert!(troubles.repaired(&knob(), now));
        assert!(!troubles.allows(&knob(), now));
        assert!(troubles.allows(&knob(), now + FIRST_PAUSE));
        assert_eq!(troubles.list().count(), 1);
    }

    #[test]
    fn repairs_now_and_then_are_none() {
        let mut troubles = Troubles::default();
        let start = Instant::now();
        for n in 0..20 {
            assert!(!troubles.repaired(&knob(), start + Duration::from_secs(20 * n)));
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_end_when_it_holds() {
        let mut troubles = Troubles::default();
        let mut now = Instant::now();
        let mut last = Duration::ZERO;
        for _ in 0..12 {
            troubles.failed(&knob(), "EBUSY".to_owned(), now);
            let mut length = FIRST_PAUSE;
            while !troubles.allows(&knob(), now + length) {
                length *= 2;
            }
            assert!(length >= last);
            last = length;
            now += length;
        }
        troubles.settled(&knob(), now);
        assert_eq!(troubles.list().count(), 0);
        assert!(troubles.allows(&knob(), now));
    }
}
