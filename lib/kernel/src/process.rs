//! Processes by name: whether a daemon that competes with us runs.

use crate::error::{AbsentIsFine, Error, Result};
use crate::{Root, file};

/// The kernel keeps this many bytes of a name (`TASK_COMM_LEN` less the NUL).
const COMM_BYTES: usize = 15;

/// The pids of the processes called `name` (`proc/PID/comm`), ascending. The kernel
/// knows only the first 15 bytes of a name, and a process may call itself anything.
///
/// # Errors
/// When procfs cannot be read.
pub fn named(root: &Root, name: &str) -> Result<Vec<u32>> {
    let found = named_any(root, &[name])?;
    Ok(found.into_iter().map(|(pid, _name)| pid).collect())
}

/// As [`named`] for several names at once: the pids, ascending, each with the name it
/// was found by.
///
/// # Errors
/// When procfs cannot be read.
pub fn named_any<'a>(root: &Root, names: &[&'a str]) -> Result<Vec<(u32, &'a str)>> {
    let kept = |name: &'a str| &name.as_bytes()[..name.len().min(COMM_BYTES)];
    let mut pids = Vec::new();
    for entry in file::names(&root.proc)? {
        let Ok(pid) = entry.parse::<u32>() else {
            continue;
        };
        let path = root.proc.join(&entry).join("comm");
        // A process may end while we look, and its name need not be UTF-8.
        let found = std::fs::read(&path)
            .map_err(|e| Error::io("read", path.display(), &e))
            .absent_is_fine()?;
        let comm = found.unwrap_or_default();
        let name = names
            .iter()
            .find(|name| kept(name) == comm.trim_ascii_end());
        pids.extend(name.map(|name| (pid, *name)));
    }
    pids.sort_unstable();
    Ok(pids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn processes_are_found_by_the_name_the_kernel_keeps() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        for (pid, comm) in [
            ("100", "irqbalance\n"),
            ("20", "irqbalance\n"),
            ("3", "irqbalance-ui\n"),
            ("4", "systemd-resolve\n"),
            ("self", "irqbalance\n"),
        ] {
            std::fs::create_dir_all(root.proc.join(pid)).unwrap();
            std::fs::write(root.proc.join(pid).join("comm"), comm).unwrap();
        }
        std::fs::create_dir_all(root.proc.join("6")).unwrap();
        std::fs::write(root.proc.join("6/comm"), b"\xff\n").unwrap();
        // Ended between the listing and the reading.
        std::fs::create_dir_all(root.proc.join("5")).unwrap();
        assert_eq!(named(&root, "irqbalance"), Ok(vec![20, 100]));
        assert_eq!(named(&root, "systemd-resolved"), Ok(vec![4]));
        assert_eq!(named(&root, "tuned"), Ok(vec![]));
        let several = named_any(&root, &["irqbalance-ui", "irqbalance"]);
        let expected = vec![
            (3, "irqbalance-ui"),
            (20, "irqbalance"),
            (100, "irqbalance"),
        ];
        assert_eq!(several, Ok(expected));
    }

    #[test]
    fn without_procfs_nothing_is_claimed() {
        let root = Root::under(std::path::Path::new("/nonexistent"));
        assert_eq!(
            named(&root, "irqbalance").unwrap_err().kind(),
            Kind::NotFound
        );
    }
}
