//! What a program does, counted by its tracer (ptrace(2)).

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::program::Caller;

/// The counts of one run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counted {
    /// System calls of all threads and processes.
    pub(crate) calls: usize,
    /// Threads, the first one among them, of the first program.
    pub(crate) threads: usize,
    /// Programs, the first one among them.
    pub(crate) programs: usize,
}

/// Counts what `command` of `caller` does until its end.
///
/// # Errors
/// It fails, or cannot be traced.
pub(crate) fn of(caller: &Caller, command: &Command) -> Result<Counted> {
    let mut traced = caller.traced(command);
    let mut child = traced.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    stdin.write_all(caller.conf().as_bytes())?;
    drop(stdin);
    follow(Pid::from_raw(i32::try_from(child.id())?))
}

fn follow(main: Pid) -> Result<Counted> {
    // Its first stop is that of exec.
    waitpid(main, None)?;
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(main, options)?;
    ptrace::syscall(main, None)?;
    let mut counted = Counted {
        calls: 0,
        threads: 1,
        programs: 1,
    };
    let mut inside = BTreeSet::new();
    loop {
        // Only threads of this process's child are waited for by this tracer.
        let status = waitpid(None, Some(WaitPidFlag::__WALL))?;
        let signal = match status {
            WaitStatus::Exited(pid, code) if pid == main => {
                ensure!(code == 0, "the program failed while it was traced: {code}");
                return Ok(counted);
            }
            WaitStatus::PtraceSyscall(pid) => {
                if inside.insert(pid) {
                    counted.calls += 1;
                } else {
                    inside.remove(&pid);
                }
                None
            }
            WaitStatus::PtraceEvent(_, _, event) => {
                let thread = event == ptrace::Event::PTRACE_EVENT_CLONE as i32;
                counted.threads += usize::from(thread);
                counted.programs += usize::from(!thread);
                None
            }
            // A new thread's first stop, and that of an exec.
            WaitStatus::Stopped(_, Signal::SIGSTOP | Signal::SIGTRAP) => None,
            WaitStatus::Stopped(_, signal) => Some(signal),
            _ => continue,
        };
        if let Some(pid) = status.pid() {
            // Killed meanwhile: its end comes next.
            ptrace::syscall(pid, signal).ok();
        }
    }
}
