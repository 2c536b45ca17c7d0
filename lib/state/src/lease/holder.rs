//! Who holds a pool's lock. The reference does not say, but the kernel does.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use berth_kernel::Root;
use nix::sys::stat::{major, minor};

/// The holder of the flock(2) on `file`, by `proc/locks` (proc_locks(5)).
pub(super) fn of(root: &Root, file: &File) -> Option<String> {
    let meta = file.metadata().ok()?;
    let (major, minor) = (major(meta.dev()), minor(meta.dev()));
    let object = format!("{major:02x}:{minor:02x}:{}", meta.ino());
    let pid = parse(&fs::read_to_string(root.proc.join("locks")).ok()?, &object)?;
    let comm = fs::read_to_string(root.proc.join(format!("{pid}/comm")));
    Some(match comm {
        Ok(comm) => format!("pid {pid} ({})", comm.trim()),
        Err(_) => format!("pid {pid}"),
    })
}

/// The process whose whole-file lock on `object` is granted. Those that wait for it
/// have an arrow before the kind; one of another pid namespace has no pid (0 or less).
fn parse(locks: &str, object: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (kind, _advisory, _access) = (words.next()?, words.next()?, words.next()?);
        let (pid, file) = (words.next()?, words.next()?);
        let pid = pid.parse().ok().filter(|pid| *pid > 0)?;
        (kind == "FLOCK" && file == object).then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // cat /proc/locks, Linux 6.18, with one holder and one waiter.
    const LOCKS: &str = "1: FLOCK  ADVISORY  WRITE 3121 fe:00:7471136 0 EOF
1: -> FLOCK  ADVISORY  WRITE 3125 fe:00:7471136 0 EOF
2: POSIX  ADVISORY  WRITE 811 00:1c:1036 0 EOF
3: FLOCK  ADVISORY  WRITE 0 fe:00:99 0 EOF
";

    #[test]
    fn the_holder_is_told_from_waiters_and_other_locks() {
        assert_eq!(parse(LOCKS, "fe:00:7471136"), Some(3121));
        assert_eq!(parse(LOCKS, "00:1c:1036"), None, "no flock");
        assert_eq!(parse(LOCKS, "fe:00:99"), None, "of another pid namespace");
        assert_eq!(parse(LOCKS, "fe:00:747113"), None);
        assert_eq!(parse("", "fe:00:99"), None);
        assert_eq!(parse("nonsense\n1: FLOCK", "fe:00:99"), None);
    }

    #[test]
    fn the_kernel_names_us() {
        let file = tempfile::tempfile().unwrap();
        file.lock().unwrap();
        let told = of(&Root::host(), &file).unwrap();
        let pid = std::process::id();
        assert!(told.starts_with(&format!("pid {pid} (")), "{told}");
        file.unlock().unwrap();
        assert_eq!(of(&Root::host(), &file), None);
    }
}
