//! Programs killed at a chosen system call: ptrace(2) stops them at every call, and
//! those that change something are counted over all their threads.
//!
//! `strace -e inject` counts per thread and per call, so it cannot name the n-th
//! change of a program that works on several threads; this can.

use std::collections::BTreeSet;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::command::{self, Finished, Started};

mod calls;
mod daemon;

pub use daemon::Daemon;
use daemon::Watch;

/// On which side of a call the kill comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The kernel has not carried it out.
    Before,
    /// It has, but the program does not learn of it.
    After,
}

/// Where a program is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strike {
    /// Which of its changing calls, from 0.
    pub call: usize,
    /// Before or after it.
    pub side: Side,
}

/// A traced run.
#[derive(Debug, Clone)]
pub struct Traced {
    /// How it ended and what it said.
    pub finished: Finished,
    /// Its changing calls in order, up to the kill: `sendto RTM_NEWLINK`.
    pub calls: Vec<String>,
    /// Whether the kill came; if not, there were fewer calls.
    pub struck: bool,
}

/// Runs `command` to its end, or to `strike`. Programs it starts itself are neither
/// traced nor killed, as when a runtime kills a plugin.
///
/// The calling thread must have no other children: their ends would be swallowed.
pub fn run(command: &mut Command, stdin: &[u8], strike: Option<Strike>) -> Result<Traced> {
    trace(command, stdin, strike, &Arc::new(Watch::of_all()))
}

/// As [`run`], of the changes `watch` lets count.
fn trace(
    command: &mut Command,
    stdin: &[u8],
    strike: Option<Strike>,
    watch: &Arc<Watch>,
) -> Result<Traced> {
    // SAFETY: between fork and exec this makes one system call that touches no memory.
    unsafe { command.pre_exec(|| ptrace::traceme().map_err(Into::into)) };
    let started = command::start(command, stdin)?;
    watch.begun(started.pid());
    let main = Pid::from_raw(i32::try_from(started.pid())?);
    let mut tracer = Tracer {
        main,
        known: BTreeSet::from([main]),
        strike,
        watch: Arc::clone(watch),
        calls: Vec::new(),
        awaited: None,
        restarting: BTreeSet::new(),
        struck: false,
    };
    let status = tracer.drive(&started)?;
    Ok(Traced {
        finished: started.ended(status)?,
        calls: tracer.calls,
        struck: tracer.struck,
    })
}

struct Tracer {
    main: Pid,
    known: BTreeSet<Pid>,
    strike: Option<Strike>,
    watch: Arc<Watch>,
    calls: Vec<String>,
    /// The thread whose call is to be followed by the kill.
    awaited: Option<Pid>,
    /// Threads whose next call is the last one again.
    restarting: BTreeSet<Pid>,
    struck: bool,
}

impl Tracer {
    fn drive(&mut self, started: &Started) -> Result<ExitStatus> {
        let first = waitpid(self.main, None).context("wait for the traced program")?;
        ensure!(
            matches!(first, WaitStatus::Stopped(_, Signal::SIGTRAP)),
            "{} did not stop at its start: {first:?}",
            started.pid()
        );
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(self.main, options).context("trace the threads too")?;
        go_on(self.main, None)?;
        let limit = self.watch.limit();
        let end = Instant::now() + limit;
        // Threads that were born traced too, but no other thread's children.
        let wished = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD | WaitPidFlag::WNOHANG;
        loop {
            match waitpid(None, Some(wished))? {
                WaitStatus::StillAlive if Instant::now() >= end => self.give_up(limit)?,
                WaitStatus::StillAlive => std::thread::sleep(Duration::from_micros(50)),
                WaitStatus::Exited(pid, code) if pid == self.main => {
                    return Ok(ExitStatus::from_raw(code << 8));
                }
                WaitStatus::Signaled(pid, signal, _) if pid == self.main => {
                    return Ok(ExitStatus::from_raw(signal as i32));
                }
                status => self.stopped(status)?,
            }
        }
    }

    fn give_up(&self, limit: Duration) -> Result<()> {
        kill(self.main, Signal::SIGKILL)?;
        let last = self.calls.last().map_or("none", String::as_str);
        bail!(
            "the traced program did not end within {} s; its last change: {last}",
            limit.as_secs()
        )
    }

    fn stopped(&mut self, status: WaitStatus) -> Result<()> {
        match status {
            WaitStatus::PtraceSyscall(pid) => {
                self.call(pid)?;
                go_on(pid, None)
            }
            // A new thread begins with a stop that is the tracer's alone.
            WaitStatus::Stopped(pid, Signal::SIGSTOP) if self.known.insert(pid) => go_on(pid, None),
            WaitStatus::Stopped(pid, signal) => go_on(pid, Some(signal)),
            WaitStatus::PtraceEvent(pid, ..) => go_on(pid, None),
            _ => Ok(()),
        }
    }

    fn call(&mut self, pid: Pid) -> Result<()> {
        let stop = match calls::at_stop(pid) {
            Err(Errno::ESRCH) => return Ok(()),
            other => other.context("look at a stopped thread")?,
        };
        match stop {
            calls::Stop::Entry(_) if self.restarting.remove(&pid) => Ok(()),
            calls::Stop::Entry(None) => Ok(()),
            calls::Stop::Entry(Some(text)) if !self.watch.counts(&text) => Ok(()),
            calls::Stop::Entry(Some(text)) => {
                self.calls.push(text);
                self.begun(pid)
            }
            calls::Stop::Exit { restarts: true } => {
                self.restarting.insert(pid);
                Ok(())
            }
            calls::Stop::Exit { restarts: false } => {
                match self.awaited.take_if(|thread| *thread == pid) {
                    Some(_) => self.kill(),
                    None => Ok(()),
                }
            }
        }
    }

    /// A thread is about to make the latest of the calls.
    fn begun(&mut self, pid: Pid) -> Result<()> {
        let here = |strike: &Strike| strike.call + 1 == self.calls.len();
        match self.strike.filter(here).map(|strike| strike.side) {
            Some(Side::Before) => self.kill(),
            Some(Side::After) => {
                self.awaited = Some(pid);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn kill(&mut self) -> Result<()> {
        self.struck = true;
        kill(self.main, Signal::SIGKILL).context("kill the traced program")
    }
}

/// A thread that was killed meanwhile cannot go on, which is as well.
fn go_on(pid: Pid, signal: Option<Signal>) -> Result<()> {
    match ptrace::syscall(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno).with_context(|| format!("let thread {pid} go on")),
    }
}

#[cfg(test)]
mod tests;
