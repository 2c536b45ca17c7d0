//! `run/berth/node.json`: what the agent or bootstrap tells the plugins of this node.
//! It is optional; a plugin never needs the agent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use berth_kernel::{CpuSet, PciAddr, Root};
use serde::{Deserialize, Serialize};

use crate::atomic::{self, Durability};
use crate::dirs;
use crate::error::Result;
use crate::format;

/// The format of the file this version writes.
const FORMAT: u64 = 1;

/// The node's own wishes. Keys this version does not know are refused: a reserved VF
/// under a misspelt key would be handed out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeFile {
    /// Logical CPUs for housekeeping; none: not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub housekeeping: Option<CpuSet>,
    /// VFs no attachment may have.
    #[serde(default)]
    pub reserved_vfs: Vec<PciAddr>,
    /// VFs by the name of their pool.
    #[serde(default)]
    pub vf_pools: BTreeMap<String, Vec<PciAddr>>,
}

impl NodeFile {
    /// Reads the file; `None` if there is none.
    ///
    /// # Errors
    /// [`crate::Error::NewerFormat`], [`crate::Error::Malformed`], or what the kernel
    /// refused.
    pub fn load(root: &Root) -> Result<Option<Self>> {
        format::read(&path(root), FORMAT)
    }

    /// Writes the file, replacing what is there.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn save(&self, root: &Root) -> Result<()> {
        dirs::ensure(root, Path::new(""))?;
        let path = path(root);
        let bytes = format::write(&path, FORMAT, self)?;
        atomic::replace(&path, &bytes, dirs::PRIVATE_FILE, Durability::Volatile)
    }

    /// Has the file name `cpus` for housekeeping (an empty set: not said) and keeps
    /// everything else it says. Whether it had to be written.
    ///
    /// # Errors
    /// As [`NodeFile::load`] and [`NodeFile::save`]; a file that is not understood is
    /// left as it is.
    pub fn keep_housekeeping(root: &Root, cpus: &CpuSet) -> Result<bool> {
        let wish = Some(cpus.clone()).filter(|cpus| !cpus.is_empty());
        let file = Self::load(root)?.unwrap_or_default();
        if file.housekeeping == wish {
            return Ok(false);
        }
        let housekeeping = wish;
        let file = Self {
            housekeeping,
            ..file
        };
        file.save(root)?;
        Ok(true)
    }
}

fn path(root: &Root) -> PathBuf {
    dirs::berth(root).join("node.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn load(text: &str) -> Result<Option<NodeFile>> {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        dirs::ensure(&root, Path::new("")).unwrap();
        std::fs::write(path(&root), text).unwrap();
        NodeFile::load(&root)
    }

    #[test]
    fn no_file_says_nothing_and_a_short_one_says_what_it_says() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(NodeFile::load(&Root::under(dir.path())), Ok(None));
        assert_eq!(load(r#"{"format": 1}"#), Ok(Some(NodeFile::default())));
        let text = r#"{"format": 1, "housekeeping": "0-1,8", "reserved_vfs": ["0000:01:10.2"],
            "vf_pools": {"fast": ["0000:01:10.4"]}}"#;
        let file = load(text).unwrap().unwrap();
        assert_eq!(file.housekeeping, Some([0, 1, 8].into_iter().collect()));
        assert_eq!(file.reserved_vfs, ["0000:01:10.2".parse().unwrap()]);
        assert_eq!(file.vf_pools["fast"], ["0000:01:10.4".parse().unwrap()]);
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        let file = NodeFile {
            housekeeping: Some([0, 4].into_iter().collect()),
            reserved_vfs: vec!["0000:01:10.2".parse().unwrap()],
            vf_pools: BTreeMap::new(),
        };
        file.save(&root).unwrap();
        assert_eq!(NodeFile::load(&root), Ok(Some(file)));
    }

    #[test]
    fn housekeeping_is_written_where_it_differs_and_nothing_else_changes() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        let cpus = |list: &str| list.parse::<CpuSet>().unwrap();
        assert_eq!(
            NodeFile::keep_housekeeping(&root, &CpuSet::new()),
            Ok(false)
        );
        assert!(!path(&root).exists());
        assert_eq!(NodeFile::keep_housekeeping(&root, &cpus("0,4")), Ok(true));
        let file = NodeFile {
            housekeeping: Some(cpus("0,4")),
            reserved_vfs: vec!["0000:01:10.2".parse().unwrap()],
            vf_pools: [("fast".to_owned(), vec!["0000:01:10.4".parse().unwrap()])].into(),
        };
        file.save(&root).unwrap();
        let written = std::fs::metadata(path(&root)).unwrap().modified().unwrap();
        assert_eq!(NodeFile::keep_housekeeping(&root, &cpus("0,4")), Ok(false));
        let now = std::fs::metadata(path(&root)).unwrap().modified().unwrap();
        assert_eq!(now, written);
        assert_eq!(NodeFile::keep_housekeeping(&root, &cpus("1")), Ok(true));
        let changed = NodeFile {
            housekeeping: Some(cpus("1")),
            ..file
        };
        assert_eq!(NodeFile::load(&root), Ok(Some(changed)));
    }

    #[test]
    fn what_is_not_understood_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        dirs::ensure(&root, Path::new("")).unwrap();
        for text in [r#"{"format": 1, "reservedVfs": []}"#, r#"{"format": 2}"#] {
            std::fs::write(path(&root), text).unwrap();
            let cpus = [0].into_iter().collect();
            assert!(NodeFile::keep_housekeeping(&root, &cpus).is_err());
            assert_eq!(std::fs::read_to_string(path(&root)).unwrap(), text);
        }
    }

    #[test]
    fn misspelt_newer_and_broken_files_are_refused_by_name() {
        for (text, kind, word) in [
            (
                r#"{"format": 1, "reservedVfs": []}"#,
                Kind::Malformed,
                "reservedVfs",
            ),
            (
                r#"{"format": 1, "housekeeping": "3-1"}"#,
                Kind::Malformed,
                "3-1",
            ),
            (
                r#"{"format": 1, "reserved_vfs": ["1"]}"#,
                Kind::Malformed,
                "PCI address",
            ),
            (r#"{"housekeeping": "0"}"#, Kind::Malformed, "format"),
            ("", Kind::Malformed, "EOF"),
            (r#"{"format": 2, "new": {}}"#, Kind::NewerFormat, "format 2"),
        ] {
            let error = load(text).unwrap_err();
            assert_eq!(error.kind(), kind, "{text}");
            let message = error.to_string();
            assert!(
                message.contains("berth/node.json") && message.contains(word),
                "{message}"
            );
        }
    }
}
