//! irqbalance, told to keep interrupts off exclusive CPUs: through its socket, as
//! irqbalance(1) has it under API. It acts on what it is told with its next look at the
//! node, every ten seconds by default, and forgets it when it ends.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use berth_kernel::{CpuSet, Root, process};
use berth_state::Writer;
use berth_state::atomic::{self, Durability};
use berth_state::dirs;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use serde::{Deserialize, Serialize};

/// Its process's name.
const NAME: &str = "irqbalance";
/// How long it may take to answer.
const WAIT: Duration = Duration::from_secs(1);
/// The longest answer that is read; it grows with the interrupts it leaves alone.
const LONGEST: u64 = 1 << 20;
/// How many of its own intervals it may take to act on what it was told.
const LOOKS: u64 = 3;

/// Why irqbalance may still move interrupts onto exclusive CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// The process.
    pub(crate) object: String,
    /// What is wrong.
    pub(crate) reason: String,
    /// What to do.
    pub(crate) remedy: String,
}

/// `run/berth/irqbalance.json`: what it was told, and how to undo that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    /// The process; another one knows nothing.
    daemon: Writer,
    /// The CPUs it kept off before.
    before: CpuSet,
    /// The CPUs it was told to keep off.
    cpus: CpuSet,
    /// Since when, in seconds since 1970.
    since: u64,
    /// Whether it has been seen to do so.
    done: bool,
}

/// What it answers to `setup`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setup {
    /// Seconds between two looks.
    interval: u64,
    /// The CPUs it keeps off.
    cpus: CpuSet,
}

/// Makes a running irqbalance keep off `exclusive` and what it kept off before; off the
/// latter alone if `exclusive` is empty. To be called with every pass: it is told once,
/// and seen to obey later. `None`: all is well, or on its way.
///
/// # Errors
/// When processes or our own file cannot be read or written.
pub(crate) fn settle(root: &Root, exclusive: &CpuSet) -> Result<Option<Complaint>> {
    let pids = process::named(root, NAME)?;
    let Some(daemon) = pids.first().map(|pid| Writer::of(root, *pid)).transpose()? else {
        return forget(root).map(|()| None);
    };
    let Some(daemon) = daemon else {
        return Ok(None);
    };
    let told = load(root)?.filter(|told| told.daemon == daemon);
    if told.is_none() && exclusive.is_empty() {
        return forget(root).map(|()| None);
    }
    let told = tell(root, daemon, told, exclusive);
    Ok(told.err().map(|error| complaint(daemon.pid, &error, exclusive)))
}

fn complaint(pid: u32, error: &anyhow::Error, exclusive: &CpuSet) -> Complaint {
    Complaint {
        object: format!("irqbalance (process {pid})"),
        reason: format!("it may move interrupts onto exclusive CPUs: {error:#}"),
        remedy: format!(
            "set IRQBALANCE_BANNED_CPULIST={exclusive} in its environment \
             (/etc/default/irqbalance or /etc/sysconfig/irqbalance) and restart it, or stop it; \
             until then interrupts are put back with every reconcile"
        ),
    }
}

fn tell(root: &Root, daemon: Writer, told: Option<Told>, exclusive: &CpuSet) -> Result<()> {
    let path = socket_of(root, daemon.pid)?;
    let setup = Setup::parse(&ask(&path, "setup")?)?;
    let before = told.as_ref().map_or(&setup.cpus, |told| &told.before);
    let wish = before.union(exclusive);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    if setup.cpus == wish {
        let done = Told {
            daemon,
            before: before.clone(),
            cpus: wish,
            since: now,
            done: true,
        };
        return match told {
            _ if exclusive.is_empty() => forget(root),
            Some(told) if told.done && told.cpus == done.cpus => Ok(()),
            _ => save(root, &done),
        };
    }
    let waiting = told.as_ref().filter(|told| told.cpus == wish && !told.done);
    let since = waiting.map_or(now, |told| told.since);
    let next = Told {
        daemon,
        before: before.clone(),
        cpus: wish.clone(),
        since,
        done: false,
    };
    // First, so that it is known how to undo it.
    save(root, &next)?;
    order(&path, &wish)?;
    if now.saturating_sub(since) > setup.interval.saturating_mul(LOOKS) {
        bail!(
            "told to keep off CPUs {wish} for {} s, it keeps off {}",
            now.saturating_sub(since),
            none_or(&setup.cpus)
        );
    }
    Ok(())
}

fn none_or(cpus: &CpuSet) -> String {
    match cpus.is_empty() {
        true => "none".to_owned(),
        false => cpus.to_string(),
    }
}

/// `NULL` makes it go by its own configuration again.
fn order(path: &Path, cpus: &CpuSet) -> Result<()> {
    let list = match cpus.is_empty() {
        true => "NULL".to_owned(),
        false => cpus.to_string(),
    };
    ask(path, &format!("settings cpus {list}")).map(drop)
}

/// Sends one command and reads the answer up to its end; each has its own connection.
fn ask(path: &Path, command: &str) -> Result<String> {
    let name = || format!("ask irqbalance through {}", path.display());
    let mut stream = open(path).with_context(name)?;
    let mut answer = Vec::new();
    let talk = || {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(WAIT))?;
        stream.set_write_timeout(Some(WAIT))?;
        // The end tells it how long the command is.
        stream.write_all(command.as_bytes())?;
        (&mut stream).take(LONGEST).read_to_end(&mut answer)
    };
    let mut talk = talk;
    talk().with_context(name)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Never waits: one that is stopped takes no connections after the first few.
fn open(path: &Path) -> Result<UnixStream, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(std::os::fd::AsRawFd::as_raw_fd(&fd), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(fd))
}

/// In a container of its own it knows itself by another pid.
fn socket_of(root: &Root, pid: u32) -> Result<PathBuf> {
    let dir = root.run.join(NAME);
    let own = dir.join(format!("{NAME}{pid}.sock"));
    if own.exists() {
        return Ok(own);
    }
    let names = std::fs::read_dir(&dir).into_iter().flatten().flatten();
    let is_socket = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(NAME) && name.ends_with(".sock"))
    };
    let found: Vec<PathBuf> = names.map(|entry| entry.path()).filter(is_socket).collect();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        _ => bail!("it has no socket {}", own.display()),
    }
}

impl Setup {
    /// `SLEEP 10 ... BANNED 00000000,0000000f`.
    fn parse(answer: &str) -> Result<Self> {
        let odd = || format!("irqbalance's answer is not understood: {answer:?}");
        let words: Vec<&str> = answer.split_ascii_whitespace().collect();
        let after = |key: &str| {
            let mut words = words.iter().skip_while(|word| **word != key);
            words.nth(1).copied()
        };
        let interval = after("SLEEP").and_then(|number| number.parse().ok());
        let cpus = after("BANNED").map(CpuSet::from_mask);
        match (interval, cpus) {
            (Some(interval), Some(Ok(cpus))) => Ok(Self { interval, cpus }),
            _ => bail!(odd()),
        }
    }
}

fn load(root: &Root) -> Result<Option<Told>> {
    let path = file(root);
    match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .with_context(|| format!("read {}", path.display())),
    }
}

fn save(root: &Root, told: &Told) -> Result<()> {
    dirs::ensure(root, Path::new(""))?;
    let bytes = serde_json::to_vec_pretty(told)?;
    let durability = Durability::Volatile;
    Ok(atomic::replace(&file(root), &bytes, dirs::PRIVATE_FILE, durability)?)
}

fn forget(root: &Root) -> Result<()> {
    Ok(atomic::remove(&file(root))?)
}

fn file(root: &Root) -> PathBuf {
    dirs::berth(root).join("irqbalance.json")
}

#[cfg(test)]
mod tests;
