//! Which boot this is and which process writes: with both, state left behind by a
//! dead writer or an earlier boot is told from state somebody still works on.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_kernel::{Error, Result, Root};
use serde::{Deserialize, Serialize};

/// This boot's id, a UUID (`proc/sys/kernel/random/boot_id`, random(4)).
///
/// # Errors
/// The file cannot be read or is empty.
pub fn boot_id(root: &Root) -> Result<String> {
    // What the running kernel says it says as long as this process lives.
    static RUNNING: OnceLock<String> = OnceLock::new();
    let is_running = root.proc == Path::new("/proc");
    if let Some(known) = RUNNING.get().filter(|_| is_running) {
        return Ok(known.clone());
    }
    let path = root.proc.join("sys/kernel/random/boot_id");
    let text = read(&path).map_err(|error| Error::io("read", path.display(), &error))?;
    match text.trim() {
        "" => Err(Error::malformed("read", path.display(), "it is empty")),
        id if is_running => Ok(RUNNING.get_or_init(|| id.to_owned()).clone()),
        id => Ok(id.to_owned()),
    }
}

/// A file of procfs, which does not say how long it is, in as few calls as may be.
fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(1024);
    File::open(path)?.read_to_end(&mut bytes)?;
    // A process may call itself anything.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// When this boot began, by the clock as it is now (`btime` of `proc/stat`, proc_stat(5)),
/// or an earlier moment that also lies in it: a clock that was set right after `run`
/// was made would make what was written before look older than the boot.
///
/// # Errors
/// The file cannot be read or does not say.
pub fn started(root: &Root) -> Result<SystemTime> {
    let path = root.proc.join("stat");
    let text = read(&path).map_err(|error| Error::io("read", path.display(), &error))?;
    let seconds = text
        .lines()
        .find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
        .ok_or_else(|| Error::malformed("read", path.display(), "it has no btime"))?;
    let booted = UNIX_EPOCH + Duration::from_secs(seconds);
    // Not every kernel keeps when a tmpfs was made.
    let made = fs::metadata(&root.run).and_then(|run| run.created());
    Ok(made.map_or(booted, |made| made.min(booted)))
}

/// A process, told apart from a later one with the same pid by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Writer {
    /// Process id.
    pub pid: u32,
    /// Clock ticks from boot to the start of the process (field 22 of
    /// `proc/PID/stat`, proc_pid_stat(5)).
    pub start_time: u64,
}

impl Writer {
    /// The calling process.
    ///
    /// # Errors
    /// `proc` does not know us.
    pub fn current(root: &Root) -> Result<Self> {
        let pid = std::process::id();
        let stat = Stat::of(root, pid)?.ok_or_else(|| {
            Error::malformed("find own process in", root.proc.display(), "absent")
        })?;
        Ok(Self {
            pid,
            start_time: stat.start_time,
        })
    }

    /// The process with this pid; `None` if there is none, or it is a zombie.
    ///
    /// # Errors
    /// `proc` cannot be read or understood.
    pub fn of(root: &Root, pid: u32) -> Result<Option<Self>> {
        let stat = Stat::of(root, pid)?.filter(|stat| stat.runs);
        Ok(stat.map(|stat| Self {
            pid,
            start_time: stat.start_time,
        }))
    }

    /// Whether the process still runs. A zombie does not: it writes nothing more.
    ///
    /// # Errors
    /// `proc` cannot be read or understood, so that nothing may be concluded.
    pub fn is_alive(&self, root: &Root) -> Result<bool> {
        let stat = Stat::of(root, self.pid)?;
        Ok(stat.is_some_and(|stat| stat.runs && stat.start_time == self.start_time))
    }
}

/// What we want from `proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    runs: bool,
    start_time: u64,
}

impl Stat {
    /// `None`: there is no such process.
    fn of(root: &Root, pid: u32) -> Result<Option<Self>> {
        let path = root.proc.join(pid.to_string()).join("stat");
        let text = match read(&path) {
            Ok(text) => text,
            // ESRCH: it ended between open and read.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    || error.raw_os_error() == Some(nix::libc::ESRCH) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(Error::io("read", path.display(), &error)),
        };
        match Self::parse(&text) {
            Some(stat) => Ok(Some(stat)),
            None => Err(Error::malformed(
                "read",
                path.display(),
                format!("no state and start time in {text:?}"),
            )),
        }
    }

    /// The command name, the second field, may hold anything, also `)` and spaces:
    /// the fields are counted from its last parenthesis.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        Some(Self {
            runs: !matches!(state, "Z" | "X" | "x"),
            start_time: fields.nth(18)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const TAIL: &str = "1 99 99 0 -1 4194560 85 0 0 0 0 0 0 0 20 0 1 0 27135 2449408 7";

    #[test]
    fn command_names_cannot_mislead_the_count() {
        for name in ["cat", "a) R 1 (", ") Z", "tmux: server"] {
            let stat = Stat::parse(&format!("99 ({name}) S {TAIL}"));
            let start_time = 27135;
            assert_eq!(
                stat,
                Some(Stat {
                    runs: true,
                    start_time
                }),
                "{name}"
            );
        }
        assert_eq!(Stat::parse("99 (cat) S 1 2 3"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn we_are_alive_and_another_with_our_pid_is_not() {
        let root = Root::host();
        let me = Writer::current(&root).unwrap();
        assert_eq!(me.is_alive(&root), Ok(true));
        let earlier = Writer {
            start_time: me.start_time - 1,
            ..me
        };
        assert_eq!(earlier.is_alive(&root), Ok(false));
    }

    #[test]
    fn a_child_is_alive_until_it_ends_even_unreaped() {
        let root = Root::host();
        let mut child = Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let stat = Stat::of(&root, child.id()).unwrap().unwrap();
        let writer = Writer {
            pid: child.id(),
            start_time: stat.start_time,
        };
        assert_eq!(writer.is_alive(&root), Ok(true));
        child.kill().unwrap();
        // A zombie as soon as the signal is handled; nothing reaps it before wait().
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while writer.is_alive(&root).unwrap() {
            assert!(std::time::Instant::now() < deadline, "killed, yet alive");
            std::thread::yield_now();
        }
        assert!(root.proc.join(child.id().to_string()).exists(), "a zombie");
        child.wait().unwrap();
        assert_eq!(writer.is_alive(&root), Ok(false));
    }

    #[test]
    fn what_proc_does_not_say_is_an_error_not_a_death() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        let writer = Writer {
            pid: 7,
            start_time: 1,
        };
        assert_eq!(writer.is_alive(&root), Ok(false));
        fs::create_dir_all(root.proc.join("7")).unwrap();
        fs::write(root.proc.join("7/stat"), "7 (x) S nonsense").unwrap();
        assert!(writer.is_alive(&root).is_err());
    }

    #[test]
    fn the_boot_id_is_read_and_never_empty() {
        assert_eq!(boot_id(&Root::host()).unwrap().len(), 36);
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        assert!(boot_id(&root).is_err());
        let random = root.proc.join("sys/kernel/random");
        fs::create_dir_all(&random).unwrap();
        fs::write(random.join("boot_id"), "\n").unwrap();
        assert!(boot_id(&root).is_err());
    }
}
