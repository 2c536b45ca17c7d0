//! `run/berth/capacity.json`: the report for who reads files and does not ask. It is the
//! text of `GET /v1/capacity`, and stays when the agent ends: its generation and its time
//! say how old it is.

use std::path::{Path, PathBuf};

use berth_kernel::Root;
use berth_state::atomic::{self, Durability};
use berth_state::{dirs, error};
use serde_json::Value;

/// Mode of the file: whoever places workloads may read it.
const MODE: u32 = 0o644;

/// The file, replaced whenever the report is another one.
#[derive(Debug)]
pub(crate) struct ReportFile {
    root: Root,
    /// What this process has written last.
    written: Option<String>,
    /// Why that did not succeed, so that it is told once.
    complaint: Option<String>,
}

impl ReportFile {
    /// The file below `root.run`; nothing is written yet. Temporaries of writers that died
    /// are swept.
    pub(crate) fn new(root: &Root) -> Self {
        if let Err(error) = atomic::sweep(&dirs::berth(root)) {
            log::warn!("{error}");
        }
        Self {
            root: root.clone(),
            written: None,
            complaint: None,
        }
    }

    /// Writes `report` if it differs from what was written last. A reader sees one report
    /// or the next, never a part. That it cannot be written is told once and tried again
    /// with the next report.
    pub(crate) fn write(&mut self, report: &Value) {
        let text = report.to_string();
        if self.written.as_deref() == Some(&text) {
            return;
        }
        match self.replace(text.as_bytes()) {
            Ok(()) => {
                self.written = Some(text);
                self.complaint = None;
            }
            Err(error) => {
                let complaint = error.to_string();
                if self.complaint.as_ref() != Some(&complaint) {
                    log::error!("the report is not in its file: {complaint}");
                }
                self.complaint = Some(complaint);
            }
        }
    }

    fn replace(&self, text: &[u8]) -> error::Result<()> {
        dirs::ensure(&self.root, Path::new(""))?;
        atomic::replace(&path(&self.root), text, MODE, Durability::Volatile)
    }
}

fn path(root: &Root) -> PathBuf {
    dirs::berth(root).join("capacity.json")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use serde_json::json;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn everybody_may_read_the_latest_and_only_news_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        let mut file = ReportFile::new(&root);
        let path = path(&root);
        assert!(!path.exists());
        let inode = |generation: u64, file: &mut ReportFile| {
            let report = json!({"generation": generation, "schema": 1});
            file.write(&report);
            assert_eq!(fs::read_to_string(&path).unwrap(), report.to_string());
            fs::metadata(&path).unwrap().ino()
        };
        let first = inode(1, &mut file);
        assert_eq!((mode(&path), mode(&dirs::berth(&root))), (0o644, 0o755));
        // Another's file in its place would stand out as another inode.
        let own = fs::File::open(&path).unwrap();
        assert_eq!(inode(1, &mut file), first);
        assert_ne!(inode(2, &mut file), own.metadata().unwrap().ino());
        // Who had it open still reads all of the old one.
        assert_eq!(
            std::io::read_to_string(own).unwrap(),
            json!({"generation": 1, "schema": 1}).to_string()
        );
        let names = fs::read_dir(dirs::berth(&root)).unwrap().count();
        assert_eq!(names, 1, "no temporary is left");
    }

    #[test]
    fn what_could_not_be_written_is_written_next_time() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        let mut file = ReportFile::new(&root);
        fs::create_dir_all(&root.run).unwrap();
        fs::write(dirs::berth(&root), "in the way").unwrap();
        file.write(&json!(1));
        assert!(file.complaint.as_ref().unwrap().contains("run/berth"));
        fs::remove_file(dirs::berth(&root)).unwrap();
        file.write(&json!(1));
        assert_eq!(file.complaint, None);
        assert_eq!(fs::read_to_string(path(&root)).unwrap(), "1");
    }
}
