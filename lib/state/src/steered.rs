//! `run/berth/steered.json`: the attachments whose virtual functions' packet work the
//! agent places. What a plugin set once there is the agent's to change from then on;
//! the file tells CHECK so, and DEL what to put back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use berth_kernel::{CpuSet, PciAddr, Root};
use serde::{Deserialize, Serialize};

use crate::atomic::{self, Durability};
use crate::dirs;
use crate::error::Result;
use crate::format;
use crate::key::Key;

/// The format of the file this version writes.
const FORMAT: u64 = 1;

/// One attachment whose VF the agent steers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steer {
    /// Its VF.
    pub vf: PciAddr,
    /// The workload it is steered for; none: its interrupts are only kept off the
    /// exclusive CPUs of others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// The interrupts the agent places, by number, with the CPUs they had before its
    /// first change.
    #[serde(default)]
    pub irqs: BTreeMap<u32, CpuSet>,
    /// Whether it sets RPS and XPS.
    #[serde(default)]
    pub queues: bool,
}

/// The attachments the agent steers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Steered {
    /// By their keys.
    #[serde(default)]
    pub attachments: BTreeMap<Key, Steer>,
}

impl Steered {
    /// Reads the file; without one nothing is steered.
    ///
    /// # Errors
    /// [`crate::Error::NewerFormat`], [`crate::Error::Malformed`], or what the kernel
    /// refused.
    pub fn load(root: &Root) -> Result<Self> {
        Ok(format::read(&path(root), FORMAT)?.unwrap_or_default())
    }

    /// Writes the file, replacing what is there, and removes it where nothing is
    /// steered.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn save(&self, root: &Root) -> Result<()> {
        let path = path(root);
        if self.attachments.is_empty() {
            return atomic::remove(&path);
        }
        dirs::ensure(root, Path::new(""))?;
        let bytes = format::write(&path, FORMAT, self)?;
        atomic::replace(&path, &bytes, dirs::PRIVATE_FILE, Durability::Volatile)
    }

    /// What the agent steers of the attachment `key`, if its VF is `vf`.
    pub fn of(&self, key: &Key, vf: PciAddr) -> Option<&Steer> {
        self.attachments.get(key).filter(|steer| steer.vf == vf)
    }

    /// What is steered before or after a change from `self` to `next`: to be written
    /// before the change. CPUs that `self` knows an interrupt had before stay.
    #[must_use]
    pub fn and(&self, next: &Self) -> Self {
        let mut both = next.clone();
        for (key, old) in &self.attachments {
            let Some(new) = both.attachments.get_mut(key) else {
                both.attachments.insert(key.clone(), old.clone());
                continue;
            };
            if new.vf != old.vf {
                continue;
            }
            new.queues |= old.queues;
            for (irq, cpus) in &old.irqs {
                new.irqs.insert(*irq, cpus.clone());
            }
        }
        both
    }
}

fn path(root: &Root) -> PathBuf {
    dirs::berth(root).join("steered.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    /// Key, VF, and each interrupt with its CPUs.
    type One<'a> = (&'a str, &'a str, &'a [(u32, &'a str)]);

    fn steered(list: &[One<'_>]) -> Steered {
        let one = |(key, vf, irqs): &One<'_>| {
            let irqs = irqs.iter().map(|(irq, cpus)| (*irq, cpus.parse().unwrap()));
            let steer = Steer {
                vf: vf.parse().unwrap(),
                workload: Some("game".into()),
                irqs: irqs.collect(),
                queues: false,
            };
            (key.parse().unwrap(), steer)
        };
        Steered {
            attachments: list.iter().map(one).collect(),
        }
    }

    #[test]
    fn what_is_saved_is_loaded_and_nothing_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        assert_eq!(Steered::load(&root), Ok(Steered::default()));
        let all = steered(&[("net/a:net1", "0000:01:10.2", &[(45, "0-3"), (46, "7")])]);
        all.save(&root).unwrap();
        assert_eq!(Steered::load(&root), Ok(all));
        Steered::default().save(&root).unwrap();
        assert!(!path(&root).exists());
        Steered::default().save(&root).unwrap();
    }

    #[test]
    fn an_attachment_is_steered_only_with_the_vf_it_was_steered_with() {
        let all = steered(&[("net/a:net1", "0000:01:10.2", &[])]);
        let key = "net/a:net1".parse().unwrap();
        assert!(all.of(&key, "0000:01:10.2".parse().unwrap()).is_some());
        assert!(all.of(&key, "0000:01:10.4".parse().unwrap()).is_none());
        let other = "net/b:net1".parse().unwrap();
        assert!(all.of(&other, "0000:01:10.2".parse().unwrap()).is_none());
    }

    #[test]
    fn during_a_change_both_sides_of_it_count() {
        let old = steered(&[
            ("net/a:net1", "0000:01:10.2", &[(45, "0-3")]),
            ("net/gone:net1", "0000:01:10.4", &[(50, "1")]),
        ]);
        let new = steered(&[
            ("net/a:net1", "0000:01:10.2", &[(45, "2"), (46, "0-7")]),
            ("net/b:net1", "0000:01:10.6", &[]),
        ]);
        let both = old.and(&new);
        let expected = steered(&[
            ("net/a:net1", "0000:01:10.2", &[(45, "0-3"), (46, "0-7")]),
            ("net/b:net1", "0000:01:10.6", &[]),
            ("net/gone:net1", "0000:01:10.4", &[(50, "1")]),
        ]);
        assert_eq!(both, expected, "45 was at 0-3 before the first change");
        // The key has got another VF since: its interrupts are others.
        let moved = steered(&[("net/a:net1", "0000:01:10.6", &[(60, "4")])]);
        assert_eq!(
            steered(&[("net/a:net1", "0000:01:10.2", &[(45, "0-3")])]).and(&moved),
            moved
        );
    }

    #[test]
    fn newer_and_broken_files_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        dirs::ensure(&root, Path::new("")).unwrap();
        for (text, kind) in [
            (r#"{"format": 2}"#, Kind::NewerFormat),
            (
                r#"{"format": 1, "attachments": {"x": {}}}"#,
                Kind::Malformed,
            ),
            ("", Kind::Malformed),
        ] {
            std::fs::write(path(&root), text).unwrap();
            let error = Steered::load(&root).unwrap_err();
            assert_eq!(error.kind(), kind, "{text}");
            assert!(error.to_string().contains("steered.json"), "{error}");
        }
    }
}
