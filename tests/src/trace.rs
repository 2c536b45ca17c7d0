//! Programs killed at a chosen system call: a filter (seccomp(2)) has the kernel stop them
//! at those calls that may change something, for the tracer (ptrace(2)) to count them over
//! all threads.
//!
//! `strace -e inject` counts per thread and per call, so it cannot name the n-th
//! change of a program that works on several threads; this can. Stopping at every call
//! instead costs a daemon that looks at a whole node a minute in emulation.

use std::collections::BTreeSet;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::command::{self, Finished, Started};
use crate::sys;

mod calls;
mod daemon;
mod filter;

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

/// How long programs it had started may go on after its end, with the tracer's help.
const ORPHANS_LIMIT: Duration = Duration::from_secs(5);

/// Runs `command` to its end, or to `strike`. Programs it starts itself are neither
/// counted nor killed, as when a runtime kills a plugin: they have come to their end, too,
/// when this returns.
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
    let filter = filter::of(calls::watched());
    let prepare = move || {
        ptrace::traceme()?;
        sys::set_filter(&filter)
    };
    // SAFETY: between fork and exec this makes system calls only; the filter was made before.
    unsafe { command.pre_exec(prepare) };
    let started = command::start(command, stdin)?;
    watch.begun(started.pid());
    let main = Pid::from_raw(i32::try_from(started.pid())?);
    let mut tracer = Tracer {
        main,
        known: BTreeSet::from([main]),
        others: BTreeSet::new(),
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
    /// Every thread there is.
    known: BTreeSet<Pid>,
    /// Those of programs it started itself.
    others: BTreeSet<Pid>,
    strike: Option<Strike>,
    watch: Arc<Watch>,
    calls: Vec<String>,
    /// The thread whose call is to be followed by the kill.
    awaited: Option<Pid>,
    /// Threads whose next call is the last one again.
    restarting: BTreeSet<Pid>,
    struck: bool,
}

/// Threads that were born traced too, but no other thread's children.
const ALL_OURS: WaitPidFlag = WaitPidFlag::__WALL.union(WaitPidFlag::__WNOTHREAD);

impl Tracer {
    fn drive(&mut self, started: &Started) -> Result<ExitStatus> {
        let first = waitpid(self.main, None).context("wait for the traced program")?;
        ensure!(
            matches!(first, WaitStatus::Stopped(_, Signal::SIGTRAP)),
            "{} did not stop at its start: {first:?}",
            started.pid()
        );
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACESECCOMP
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(self.main, options).context("trace the threads too")?;
        go_on(self.main, Until::Change)?;
        let status = self.within_limit(Self::until_its_end)?;
        self.until_others_end()?;
        Ok(status)
    }

    /// Runs `work`, which waits in the kernel, with somebody beside it who looks at the
    /// clock.
    fn within_limit(&mut self, work: fn(&mut Self) -> Result<ExitStatus>) -> Result<ExitStatus> {
        let (main, limit) = (self.main, self.watch.limit());
        let (over, is_over) = mpsc::channel::<()>();
        let clock = thread::spawn(move || {
            let late = is_over.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            // It may have ended by itself at the last moment.
            late && kill(main, Signal::SIGKILL).is_ok()
        });
        let status = work(self);
        drop(over);
        let late = clock.join().is_ok_and(|late| late);
        let last = self.calls.last().map_or("none", String::as_str);
        ensure!(
            !late,
            "the traced program did not end within {} s; its last change: {last}",
            limit.as_secs()
        );
        status
    }

    fn until_its_end(&mut self) -> Result<ExitStatus> {
        loop {
            match waitpid(None, Some(ALL_OURS))? {
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

    /// Without a tracer a call the filter stops at would fail.
    fn until_others_end(&mut self) -> Result<()> {
        let end = Instant::now() + ORPHANS_LIMIT;
        while Instant::now() < end {
            match waitpid(None, Some(ALL_OURS | WaitPidFlag::WNOHANG)) {
                Err(Errno::ECHILD) => break,
                Ok(WaitStatus::StillAlive) => thread::sleep(Duration::from_millis(1)),
                status => self.stopped(status?)?,
            }
        }
        Ok(())
    }

    fn stopped(&mut self, status: WaitStatus) -> Result<()> {
        match status {
            WaitStatus::PtraceEvent(pid, _, libc::PTRACE_EVENT_SECCOMP) => {
                let until = self.entered(pid)?;
                go_on(pid, until)
            }
            WaitStatus::PtraceSyscall(pid) => {
                self.left(pid)?;
                go_on(pid, Until::Change)
            }
            // A new thread begins with a stop that is the tracer's alone.
            WaitStatus::Stopped(pid, Signal::SIGSTOP) if self.known.insert(pid) => {
                if !Path::new(&format!("/proc/{}/task/{pid}", self.main)).exists() {
                    self.others.insert(pid);
                }
                go_on(pid, Until::Change)
            }
            WaitStatus::Stopped(pid, signal) => go_on(pid, Until::ChangeAfter(signal)),
            WaitStatus::PtraceEvent(pid, ..) => go_on(pid, Until::Change),
            _ => Ok(()),
        }
    }

    /// A thread is about to make a call that may change something. One that counts is
    /// followed to its end.
    fn entered(&mut self, pid: Pid) -> Result<Until> {
        if self.others.contains(&pid) {
            return Ok(Until::Change);
        }
        if self.restarting.remove(&pid) {
            return Ok(Until::CallsEnd);
        }
        let text = match calls::at_entry(pid) {
            Err(Errno::ESRCH) => return Ok(Until::Change),
            other => other.context("look at a stopped thread")?,
        };
        let Some(text) = text.filter(|text| self.watch.counts(text)) else {
            return Ok(Until::Change);
        };
        self.calls.push(text);
        self.begun(pid)?;
        Ok(Until::CallsEnd)
    }

    /// A thread has made a call that counts.
    fn left(&mut self, pid: Pid) -> Result<()> {
        match calls::restarts(pid) {
            Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno).context("look at a stopped thread"),
            Ok(true) => {
                self.restarting.insert(pid);
                Ok(())
            }
            Ok(false) => match self.awaited.take_if(|thread| *thread == pid) {
                Some(_) => self.kill(),
                None => Ok(()),
            },
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

/// How far a stopped thread goes on.
#[derive(Debug, Clone, Copy)]
enum Until {
    /// To its next call that may change something.
    Change,
    /// The same, with this signal delivered.
    ChangeAfter(Signal),
    /// To the end of the call it is about to make.
    CallsEnd,
}

/// A thread that was killed meanwhile cannot go on, which is as well.
fn go_on(pid: Pid, until: Until) -> Result<()> {
    let gone = match until {
        Until::Change => ptrace::cont(pid, None),
        Until::ChangeAfter(signal) => ptrace::cont(pid, signal),
        Until::CallsEnd => ptrace::syscall(pid, None),
    };
    match gone {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno).with_context(|| format!("let thread {pid} go on")),
    }
}

#[cfg(test)]
mod tests;
