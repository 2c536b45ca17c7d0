//! irqbalance, told to keep interrupts off exclusive CPUs and to leave those alone that
//! the agent places there: through its socket, as irqbalance(1) has it under API. It acts on what it is told with its next look at the
//! node, every ten seconds by default, and forgets it when it ends.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
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

/// What irqbalance is to keep its hands off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Banned {
    /// CPUs it moves nothing to.
    pub(crate) cpus: CpuSet,
    /// Interrupts it does not move.
    pub(crate) irqs: BTreeSet<u32>,
}

impl Banned {
    fn is_empty(&self) -> bool {
        self.cpus.is_empty() && self.irqs.is_empty()
    }

    fn union(&self, other: &Self) -> Self {
        Self {
            cpus: self.cpus.union(&other.cpus),
            irqs: self.irqs.union(&other.irqs).copied().collect(),
        }
    }
}

/// `run/berth/irqbalance.json`: what it was told, and how to undo that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    /// The process; another one knows nothing.
    daemon: Writer,
    /// What it kept off before.
    before: Banned,
    /// What it was told to keep off.
    wish: Banned,
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
    /// What it keeps off.
    banned: Banned,
}

/// Makes a running irqbalance keep off `ban` and what it kept off before; off the latter
/// alone if `ban` is empty. To be called with every pass: it is told once, and seen to
/// obey later. `None`: all is well, or on its way.
///
/// # Errors
/// When processes or our own file cannot be read or written.
pub(crate) fn settle(root: &Root, ban: &Banned) -> Result<Option<Complaint>> {
    let Some(daemon) = running(root)? else {
        return forget(root).map(|()| None);
    };
    let told = load(root)?.filter(|told| told.daemon == daemon);
    if told.is_none() && ban.is_empty() {
        return forget(root).map(|()| None);
    }
    let outcome = tell(root, daemon, told, ban);
    Ok(outcome
        .err()
        .map(|error| complaint(daemon.pid, &error, ban)))
}

/// The irqbalance that runs, if any.
///
/// # Errors
/// When processes cannot be read.
pub(crate) fn running(root: &Root) -> Result<Option<Writer>> {
    for pid in process::named(root, NAME)? {
        if let Some(daemon) = Writer::of(root, pid)? {
            return Ok(Some(daemon));
        }
    }
    Ok(None)
}

fn complaint(pid: u32, error: &anyhow::Error, ban: &Banned) -> Complaint {
    Complaint {
        object: format!("irqbalance (process {pid})"),
        reason: format!("it may move interrupts onto exclusive CPUs: {error:#}"),
        remedy: format!(
            "set IRQBALANCE_BANNED_CPULIST={} in its environment \
             (/etc/default/irqbalance or /etc/sysconfig/irqbalance) and restart it, or stop it; \
             until then interrupts are put back with every reconcile",
            ban.cpus
        ),
    }
}

fn tell(root: &Root, daemon: Writer, told: Option<Told>, ban: &Banned) -> Result<()> {
    let path = socket_of(root, daemon.pid)?;
    let setup = Setup::parse(&ask(&path, "setup")?)?;
    let before = told.as_ref().map_or(&setup.banned, |told| &told.before);
    let mut next = Told {
        daemon,
        before: before.clone(),
        wish: before.union(ban),
        since: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        done: setup.banned == before.union(ban),
    };
    if next.done {
        return match told {
            _ if ban.is_empty() => forget(root),
            Some(told) if told.done && told.wish == next.wish => Ok(()),
            _ => save(root, &next),
        };
    }
    let now = next.since;
    if let Some(told) = told.filter(|told| told.wish == next.wish && !told.done) {
        next.since = told.since;
    }
    // First, so that it is known how to undo it.
    save(root, &next)?;
    order(&path, &setup.banned, &next.wish)?;
    let waited = now.saturating_sub(next.since);
    if waited > setup.interval.saturating_mul(LOOKS) {
        bail!(
            "told to keep off CPUs {} for {waited} s, it keeps off \"{}\"",
            next.wish.cpus,
            setup.banned.cpus
        );
    }
    Ok(())
}

/// Each list replaces the one before. `NULL` makes it go by its own configuration again,
/// `NONE` is the empty list.
fn order(path: &Path, now: &Banned, wish: &Banned) -> Result<()> {
    if now.irqs != wish.irqs {
        let irqs: Vec<String> = wish.irqs.iter().map(u32::to_string).collect();
        let list = match irqs.is_empty() {
            true => "NONE".to_owned(),
            false => irqs.join(" "),
        };
        ask(path, &format!("settings ban irqs {list}"))?;
    }
    if now.cpus != wish.cpus {
        let list = match wish.cpus.is_empty() {
            true => "NULL".to_owned(),
            false => wish.cpus.to_string(),
        };
        ask(path, &format!("settings cpus {list}"))?;
    }
    Ok(())
}

/// Sends one command and reads the answer up to its end; each has its own connection.
fn ask(path: &Path, command: &str) -> Result<String> {
    let name = || format!("ask irqbalance through {}", path.display());
    let mut stream = open(path).with_context(name)?;
    let mut answer = Vec::new();
    let mut talk = || {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(WAIT))?;
        stream.set_write_timeout(Some(WAIT))?;
        // The end tells it how long the command is.
        stream.write_all(command.as_bytes())?;
        (&mut stream).take(LONGEST).read_to_end(&mut answer)
    };
    talk().with_context(name)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Never waits: one that is stopped takes no connections after the first few.
fn open(path: &Path) -> Result<UnixStream, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
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
    /// `SLEEP 10 IRQ 45 LOAD 0 DIFF 0 CLASS 5 ... BANNED 0000000f`: an `IRQ` for each
    /// banned interrupt.
    fn parse(answer: &str) -> Result<Self> {
        let words: Vec<&str> = answer.split_ascii_whitespace().collect();
        let pairs = || words.iter().zip(words.iter().skip(1));
        let first = |key: &str| pairs().find(|(word, _)| **word == key);
        let interval = first("SLEEP").and_then(|(_, seconds)| seconds.parse().ok());
        let cpus = first("BANNED").and_then(|(_, mask)| CpuSet::from_mask(mask).ok());
        let irqs = pairs().filter(|(word, _)| **word == "IRQ");
        let irqs: Result<BTreeSet<u32>, _> = irqs.map(|(_, number)| number.parse()).collect();
        match (interval, cpus, irqs) {
            (Some(interval), Some(cpus), Ok(irqs)) => Ok(Self {
                interval,
                banned: Banned { cpus, irqs },
            }),
            _ => bail!("its answer is not understood: {answer:?}"),
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
    Ok(atomic::replace(
        &file(root),
        &bytes,
        dirs::PRIVATE_FILE,
        durability,
    )?)
}

fn forget(root: &Root) -> Result<()> {
    Ok(atomic::remove(&file(root))?)
}

fn file(root: &Root) -> PathBuf {
    dirs::berth(root).join("irqbalance.json")
}

#[cfg(test)]
mod tests;
