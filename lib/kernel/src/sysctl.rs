//! Kernel parameters under `/proc/sys`, by their path (`net/ipv4/conf/eth0.5/arp_notify`):
//! with dots as separators an interface name with a dot would be two names.
//!
//! The files below `net/` belong to the network namespace of the thread that opens
//! them; for another namespace call these inside [`crate::NetNs::run`].

use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};
use crate::{Root, file};

/// The value of `key` without the white space around it.
///
/// # Errors
/// When the kernel has no such parameter, or it cannot be read.
pub fn get(root: &Root, key: &str) -> Result<String> {
    file::read(&path("read", root, key)?)
}

/// Makes `key` have `value`. A parameter that has it already is not written: some
/// act upon every write.
///
/// # Errors
/// When the kernel has no such parameter or refuses the value.
pub fn set(root: &Root, key: &str, value: &str) -> Result<()> {
    let path = path("write", root, key)?;
    // A parameter that cannot be read may still be written.
    if file::read(&path).is_ok_and(|now| same(&now, value)) {
        return Ok(());
    }
    file::write(&path, value)
}

/// Makes `key` have `value` without looking first, where the look costs as much as the
/// write: the kernel finds the parameters of a container's interface among those of all
/// interfaces of that name on the node.
///
/// # Errors
/// When the kernel has no such parameter or refuses the value.
pub fn write(root: &Root, key: &str, value: &str) -> Result<()> {
    file::write(&path("write", root, key)?, value)
}

/// Parameters with several values print tabs between them and take any white space.
fn same(a: &str, b: &str) -> bool {
    a.split_whitespace().eq(b.split_whitespace())
}

fn path(op: &str, root: &Root, key: &str) -> Result<PathBuf> {
    let plain = |part| matches!(part, Component::Normal(_));
    if key.is_empty() || !Path::new(key).components().all(plain) {
        let reason = "a parameter is a relative path like net/ipv4/ip_forward";
        return Err(Error::malformed(op, format!("sysctl {key:?}"), reason));
    }
    Ok(root.proc.join("sys").join(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn values_are_read_trimmed_and_written_only_when_they_differ() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        let file = root.proc.join("sys/net/ipv4/tcp_rmem");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "4096\t131072\t6291456\n").unwrap();
        let key = "net/ipv4/tcp_rmem";
        assert_eq!(get(&root, key).as_deref(), Ok("4096\t131072\t6291456"));
        let mtime = || std::fs::metadata(&file).unwrap().mtime_nsec();
        let before = mtime();
        set(&root, key, "4096 131072 6291456").unwrap();
        assert_eq!(mtime(), before, "an equal value was written");
        set(&root, key, "4096 131072 9999999").unwrap();
        assert_eq!(get(&root, key).as_deref(), Ok("4096 131072 9999999"));
    }

    #[test]
    fn an_absent_parameter_is_not_created() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        std::fs::create_dir_all(root.proc.join("sys/net")).unwrap();
        let error = set(&root, "net/none", "1").unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.to_string().contains("write \"1\" to"), "{error}");
        assert!(error.to_string().contains("sys/net/none"), "{error}");
        assert!(!root.proc.join("sys/net/none").exists());
    }

    #[test]
    fn keys_stay_below_proc_sys() {
        let root = Root::under(Path::new("/nonexistent"));
        for key in ["", "/etc/passwd", "../1/comm", "net/../../x"] {
            let error = get(&root, key).unwrap_err();
            assert_eq!(error.kind(), Kind::Malformed, "{key:?}: {error}");
        }
    }
}
