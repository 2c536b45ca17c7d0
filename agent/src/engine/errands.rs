//! Work that takes longer than a pass: the node does it beside the engine, which goes on,
//! and looks in a later pass at what came of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use berth_kernel::PciAddr;

use super::Engine;
use super::audits::{Foreign, News, Place};
use super::events::Event;
use super::handle::Condition;
use super::node::Node;
use crate::store::Phase;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Errand {
    /// Bring back a virtual function that is in quarantine.
    Free(PciAddr),
    /// Look through a directory for what does not count to its project.
    Audit(Place),
    /// Free the addresses that containers of an earlier boot had.
    Leases,
}

/// An errand that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// [`Errand::Free`].
    Free(PciAddr, Try),
    /// [`Errand::Audit`]; why it could not be done.
    Audit(Place, Result<Foreign, String>),
    /// [`Errand::Leases`]; why one could not be freed.
    Leases(Result<(), String>),
}

/// What came of bringing back a virtual function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Try {
    /// It is free; how that was reached.
    Freed(String),
    /// Somebody else works on it, or has done so: it was not touched.
    NotNow(String),
    /// It stays in quarantine, for this reason.
    Failed(String),
}

impl<N: Node> Engine<N> {
    /// Looks at what has ended, and sends the node for what is due at `now`.
    pub(crate) fn run_errands(&mut self, now: Instant) {
        for ended in self.node.ended() {
            match ended {
                Ended::Free(vf, came) => self.tried(vf, came, now),
                Ended::Audit(place, found) => self.audited(&place, found, now),
                Ended::Leases(Ok(())) => {}
                // The first ADD of the network tries again.
                Ended::Leases(Err(why)) => log::warn!("addresses of an earlier boot: {why}"),
            }
        }
        match self.node.quarantined() {
            Ok(quarantined) => self.quarantined = quarantined,
            Err(error) => log::warn!("{error}"),
        }
        let stuck: BTreeSet<PciAddr> = self.quarantined.keys().copied().collect();
        if let Some(vf) = self.retries.due(&stuck, now) {
            self.node.send(Errand::Free(vf));
        }
        let places = self.places();
        let every = Duration::from_secs(self.config.audit_sec);
        if let Some(place) = self.audits.due(&places, every, now) {
            self.node.send(Errand::Audit(place));
        }
    }

    /// The directories that have a project.
    fn places(&self) -> BTreeSet<Place> {
        let standing = self.records().values();
        let standing = standing.filter(|record| record.phase == Phase::Applied);
        standing.flat_map(Place::of).collect()
    }

    fn audited(&mut self, place: &Place, found: Result<Foreign, String>, now: Instant) {
        let every = Duration::from_secs(self.config.audit_sec);
        let object = place.dir.display().to_string();
        let event = match self.audits.ended(place, found, every, now) {
            News::None => return,
            News::Whole => {
                let why = format!("everything in it is of project {} again", place.project);
                Event::new("quota-whole", object, why)
            }
            News::Escaped(found) => {
                log::warn!("{object}: {}", found.told(place));
                Event::new("quota-escape", object, found.told(place))
            }
        };
        let mut owners = self.records().values();
        let owner = owners.find(|record| Place::of(record).any(|own| own == *place));
        let workload = owner.map(|record| record.spec.id.clone());
        self.told.push(Event { workload, ..event });
    }

    fn tried(&mut self, vf: PciAddr, came: Try, now: Instant) {
        let object = format!("VF {vf}");
        match came {
            Try::Freed(how) => {
                log::info!("{object} is free: it was {how}");
                self.retries.freed(vf);
                self.told.push(Event {
                    old: "quarantined".to_owned(),
                    new: "free".to_owned(),
                    ..Event::new("vf-released", object, how)
                });
            }
            Try::NotNow(why) => {
                log::debug!("{object} is not tried now: {why}");
                self.retries.put_off(vf, now);
            }
            Try::Failed(why) => {
                if self.retries.failed(vf, &why, now) {
                    log::warn!("{object} stays in quarantine: {why}");
                    self.told.push(Event::new("vf-stuck", object, why));
                }
            }
        }
    }

    /// The virtual functions in quarantine, each with what keeps it there.
    pub(super) fn quarantine_conditions(&self) -> Vec<Condition> {
        let stuck = self.quarantined.iter();
        stuck
            .map(|(vf, reason)| Condition {
                kind: "vf-quarantined".to_owned(),
                object: format!("VF {vf}"),
                effect: "no attachment gets it".to_owned(),
                reason: match self.retries.last(*vf) {
                    Some((tries, why)) if why.contains(reason.as_str()) => {
                        format!("tried {tries} times, {why}")
                    }
                    Some((tries, why)) => format!("{reason}; tried {tries} times, {why}"),
                    None => reason.clone(),
                },
                remedy: format!(
                    "remove what stands in the way; the agent tries again, at least every 10 \
                     min. berth vf release {vf} tries now, and where nothing else helps gives it \
                     the driver's defaults"
                ),
            })
            .collect()
    }
}
