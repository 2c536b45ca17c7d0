//! The state of a node as a list of named facts, and the difference of two of them.

mod files;
mod network;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Facts about a node: name, for example `link br0`, and value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    extent: Extent,
    facts: BTreeMap<String, String>,
}

/// How much is looked at. In emulation a look at disks and cgroups takes seconds, one at
/// the network a tenth of that, so each test looks at what it may change and the whole
/// suite is held against everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Extent {
    /// Links, addresses, routes, bridge VLANs and static FDB entries, nftables, queue
    /// masks, sysctls, mounts, records, leases, named namespaces.
    #[default]
    Network,
    /// Also SR-IOV, the drivers of virtual functions, pinned interrupts.
    Lanes,
    /// Also cgroups, online CPUs, iocost, writeback throttling, project quotas and what is
    /// in a project.
    Everything,
}

/// One fact that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The fact's name.
    pub what: String,
    /// Its value before; `None` when it is new.
    pub before: Option<String>,
    /// Its value after; `None` when it is gone.
    pub after: Option<String>,
}

impl Snapshot {
    /// The facts of the calling process's node to this extent.
    ///
    /// Left out is what comes and goes by itself (carrier, learned addresses, counters)
    /// and what is meant to stay: lock files, empty directories, a pool's last address.
    pub fn take(extent: Extent) -> Result<Self> {
        let mut snapshot = Self {
            extent,
            ..Self::default()
        };
        network::read(&mut snapshot)?;
        files::read(&mut snapshot)?;
        if extent != Extent::Network {
            files::read_lanes(&mut snapshot);
        }
        if extent == Extent::Everything {
            files::read_machine(&mut snapshot)?;
        }
        Ok(snapshot)
    }

    /// Notes a fact; a second one of the same name is numbered.
    pub fn put(&mut self, what: impl Into<String>, value: impl Into<String>) {
        let what = what.into();
        let mut key = what.clone();
        let mut number = 2;
        while self.facts.contains_key(&key) {
            key = format!("{what} #{number}");
            number += 1;
        }
        self.facts.insert(key, value.into());
    }

    /// The value of a fact.
    pub fn get(&self, what: &str) -> Option<&str> {
        self.facts.get(what).map(String::as_str)
    }

    /// The names of all facts that begin with `prefix`.
    pub fn names(&self, prefix: &str) -> Vec<&str> {
        let all = self.facts.keys().map(String::as_str);
        all.filter(|name| name.starts_with(prefix)).collect()
    }

    /// The same without the facts that begin with `prefix`.
    #[must_use]
    pub fn without(mut self, prefix: &str) -> Self {
        self.facts.retain(|name, _| !name.starts_with(prefix));
        self
    }

    /// What is different in `after`, by name.
    pub fn diff(&self, after: &Self) -> Vec<Change> {
        let names: BTreeSet<&String> = self.facts.keys().chain(after.facts.keys()).collect();
        names
            .into_iter()
            .filter(|name| self.facts.get(*name) != after.facts.get(*name))
            .map(|name| Change {
                what: name.clone(),
                before: self.facts.get(name).cloned(),
                after: after.facts.get(name).cloned(),
            })
            .collect()
    }

    /// Like [`Snapshot::must_equal`] for the node as it is within `limit`: the kernel
    /// takes a namespace apart some time after its last user is gone.
    pub fn must_return(&self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            let outcome = self.must_equal(&Self::take(self.extent)?);
            if outcome.is_ok() || Instant::now() >= end {
                return outcome;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// An error that lists the differences, if there are any.
    pub fn must_equal(&self, after: &Self) -> Result<()> {
        let changes = self.diff(after);
        if changes.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = changes.iter().map(Change::to_string).collect();
        bail!("the node is not as before:\n{}", lines.join("\n"))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => {
                write!(f, "  ~ {}: {before}\n    now: {after}", self.what)
            }
            (Some(before), None) => write!(f, "  - {}: {before}", self.what),
            (None, after) => {
                let after = after.as_deref().unwrap_or_default();
                write!(f, "  + {}: {after}", self.what)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(list: &[(&str, &str)]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (what, value) in list {
            snapshot.put(*what, *value);
        }
        snapshot
    }

    #[test]
    fn new_gone_and_changed_facts_are_told_apart() {
        let before = facts(&[("link a", "1"), ("link b", "2"), ("link c", "3")]);
        let after = facts(&[("link a", "1"), ("link b", "9"), ("link d", "4")]);
        let text: Vec<String> = before.diff(&after).iter().map(Change::to_string).collect();
        assert_eq!(
            text,
            [
                "  ~ link b: 2\n    now: 9",
                "  - link c: 3",
                "  + link d: 4"
            ]
        );
        assert!(before.must_equal(&after).is_err());
        assert!(before.must_equal(&before.clone()).is_ok());
    }

    #[test]
    fn equal_names_do_not_hide_each_other() {
        let one = facts(&[("mount /a", "x")]);
        let two = facts(&[("mount /a", "x"), ("mount /a", "x")]);
        let changes = one.diff(&two);
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].what, "mount /a #2");
    }

    #[test]
    fn facts_can_be_left_out() {
        let before = facts(&[("link a", "1"), ("mount /a", "x")]);
        assert_eq!(before.clone().without("mount "), facts(&[("link a", "1")]));
        assert_eq!(before.names("mount "), ["mount /a"]);
        assert_eq!(before.get("link a"), Some("1"));
    }
}
