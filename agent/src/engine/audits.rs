//! Files that have left the quota of their directory: when which directory is looked
//! through, and what was found. Pure.
//!
//! A directory's own project is repaired at every pass; what each file says of its own
//! is known only by a walk over all of them, which is too dear for that.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::handle::Condition;
use crate::store::Record;

/// From when a directory is first seen to the first look, unless they are closer anyway:
/// an agent that starts has more urgent work.
const FIRST: Duration = Duration::from_secs(60);

/// A directory with the project that it, and all in it, should have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The directory.
    pub(crate) dir: PathBuf,
    /// The project's id.
    pub(crate) project: u32,
}

impl Place {
    /// Those of a workload.
    pub(crate) fn of(record: &Record) -> impl Iterator<Item = Self> {
        let projects = record.projects.iter();
        projects.map(|(dir, state)| Self {
            dir: dir.clone(),
            project: state.project,
        })
    }
}

/// What does not count to the project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Foreign {
    /// How many files and directories; 0: all is as it should be.
    pub(crate) count: u64,
    /// One of them.
    pub(crate) example: Option<PathBuf>,
}

impl Foreign {
    /// In words.
    pub(crate) fn told(&self, place: &Place) -> String {
        let example = self.example.as_ref().map(|path| path.display().to_string());
        format!(
            "{} files or directories in it are not of project {}, or let what is made in them be \
             of none; one is {}",
            self.count,
            place.project,
            example.unwrap_or_default()
        )
    }
}

/// What a look has changed in what is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// Nothing.
    None,
    /// More, less or others have left than before.
    Escaped(Foreign),
    /// What had left is back.
    Whole,
}

/// What is known of the directories.
#[derive(Debug, Default)]
pub(crate) struct Audits {
    places: BTreeMap<Place, Audit>,
    /// The one that is being looked through.
    under_way: Option<Place>,
}

#[derive(Debug)]
struct Audit {
    next: Instant,
    found: Foreign,
    /// Why the last look was none.
    failed: Option<String>,
}

impl Audits {
    /// Which of `places` is to be looked through at `now`, each `every` so long (zero:
    /// never): one at a time, the one that waits longest first. The caller says how it
    /// ended.
    pub(crate) fn due(
        &mut self,
        places: &BTreeSet<Place>,
        every: Duration,
        now: Instant,
    ) -> Option<Place> {
        if every.is_zero() {
            return None;
        }
        self.places.retain(|place, _| places.contains(place));
        for place in places {
            if self.places.contains_key(place) {
                continue;
            }
            let audit = Audit {
                next: now + FIRST.min(every),
                found: Foreign::default(),
                failed: None,
            };
            self.places.insert(place.clone(), audit);
        }
        if self.under_way.is_some() {
            return None;
        }
        let over = self.places.iter().filter(|(_, audit)| audit.next <= now);
        let longest = over.min_by_key(|(_, audit)| audit.next);
        self.under_way = longest.map(|(place, _)| place.clone());
        self.under_way.clone()
    }

    /// A look has ended. One at what nobody wishes any more is no news.
    pub(crate) fn ended(
        &mut self,
        place: &Place,
        found: Result<Foreign, String>,
        every: Duration,
        now: Instant,
    ) -> News {
        self.under_way = None;
        let Some(audit) = self.places.get_mut(place) else {
            return News::None;
        };
        audit.next = now + every;
        let found = match found {
            Ok(found) => found,
            Err(why) => {
                audit.failed = Some(why);
                return News::None;
            }
        };
        audit.failed = None;
        let before = std::mem::replace(&mut audit.found, found.clone());
        match (before.count, found.count) {
            _ if before == found => News::None,
            (_, 0) => News::Whole,
            _ => News::Escaped(found),
        }
    }

    /// What is not as it should be.
    pub(crate) fn conditions(&self) -> impl Iterator<Item = Condition> {
        self.places
            .iter()
            .flat_map(|(place, audit)| conditions(place, audit))
    }

    /// The same of one directory.
    pub(crate) fn conditions_of(&self, place: &Place) -> Vec<Condition> {
        let audit = self.places.get(place);
        audit.map_or_else(Vec::new, |audit| conditions(place, audit))
    }
}

fn conditions(place: &Place, audit: &Audit) -> Vec<Condition> {
    let (dir, project) = (place.dir.display(), place.project);
    let escape = (audit.found.count > 0).then(|| Condition {
        kind: "quota-escape".to_owned(),
        object: dir.to_string(),
        effect: "they do not count against its limit".to_owned(),
        reason: audit.found.told(place),
        remedy: format!(
            "give them back: chattr -R -p {project} {dir}, then find {dir} -type d -exec chattr \
             +P {{}} +; the next look clears this. Who owns a file may do it again: run the \
             workload in a user namespace, or deny it FS_IOC_FSSETXATTR by seccomp"
        ),
    });
    let failed = audit.failed.clone().map(|why| Condition {
        kind: "quota-unaudited".to_owned(),
        object: dir.to_string(),
        effect: "files that have left its quota are not found".to_owned(),
        reason: why,
        remedy: "remove the cause; it is looked through again after audit_sec".to_owned(),
    });
    escape.into_iter().chain(failed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn place(dir: &str) -> Place {
        Place {
            dir: dir.into(),
            project: 7,
        }
    }

    fn foreign(count: u64) -> Foreign {
        Foreign {
            count,
            example: (count > 0).then(|| "/data/a/f".into()),
        }
    }

    fn minutes(count: u64) -> Duration {
        Duration::from_secs(60 * count)
    }

    #[test]
    fn each_is_looked_through_once_an_hour_and_one_at_a_time() {
        let mut audits = Audits::default();
        let both: BTreeSet<Place> = [place("/data/a"), place("/data/b")].into();
        let start = Instant::now();
        assert_eq!(audits.due(&both, HOUR, start), None);
        let now = start + minutes(1);
        assert_eq!(audits.due(&both, HOUR, now), Some(place("/data/a")));
        assert_eq!(audits.due(&both, HOUR, now), None, "one is under way");
        audits.ended(&place("/data/a"), Ok(foreign(0)), HOUR, now);
        assert_eq!(audits.due(&both, HOUR, now), Some(place("/data/b")));
        audits.ended(
            &place("/data/b"),
            Err("EIO".to_owned()),
            HOUR,
            now + minutes(30),
        );
        assert_eq!(audits.due(&both, HOUR, now + minutes(59)), None);
        assert_eq!(
            audits.due(&both, HOUR, now + minutes(60)),
            Some(place("/data/a"))
        );
        audits.ended(&place("/data/a"), Ok(foreign(0)), HOUR, now + minutes(61));
        assert_eq!(audits.due(&both, HOUR, now + minutes(89)), None);
        assert_eq!(
            audits.due(&both, HOUR, now + minutes(90)),
            Some(place("/data/b"))
        );
    }

    #[test]
    fn zero_is_never_and_a_short_time_is_the_first_too() {
        let mut audits = Audits::default();
        let one: BTreeSet<Place> = [place("/data/a")].into();
        let now = Instant::now();
        assert_eq!(audits.due(&one, Duration::ZERO, now), None);
        assert_eq!(audits.due(&one, Duration::ZERO, now + HOUR), None);
        let second = Duration::from_secs(1);
        assert_eq!(audits.due(&one, second, now), None);
        assert_eq!(
            audits.due(&one, second, now + second),
            Some(place("/data/a"))
        );
    }

    #[test]
    fn only_what_changed_is_news_and_a_clean_look_clears() {
        let mut audits = Audits::default();
        let a = place("/data/a");
        let one: BTreeSet<Place> = [a.clone()].into();
        let now = Instant::now();
        audits.due(&one, HOUR, now);
        let mut look = |found: Result<Foreign, String>| {
            let news = audits.ended(&a, found, HOUR, now);
            let kinds = audits.conditions().map(|condition| condition.kind);
            (news, kinds.collect::<Vec<_>>())
        };
        assert_eq!(look(Ok(foreign(0))), (News::None, vec![]));
        let escaped = vec!["quota-escape".to_owned()];
        assert_eq!(
            look(Ok(foreign(2))),
            (News::Escaped(foreign(2)), escaped.clone())
        );
        assert_eq!(look(Ok(foreign(2))), (News::None, escaped.clone()));
        let both = vec!["quota-escape".to_owned(), "quota-unaudited".to_owned()];
        assert_eq!(look(Err("EIO".to_owned())), (News::None, both));
        assert_eq!(look(Ok(foreign(3))), (News::Escaped(foreign(3)), escaped));
        assert_eq!(look(Ok(foreign(0))), (News::Whole, vec![]));
        // The workload is gone meanwhile.
        audits.due(&BTreeSet::new(), HOUR, now);
        assert_eq!(audits.ended(&a, Ok(foreign(1)), HOUR, now), News::None);
        assert_eq!(audits.conditions().count(), 0);
    }
}
