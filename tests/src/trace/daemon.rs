//! A program that serves under the tracer: it is asked things from outside while it
//! runs, and only what it changes meanwhile counts.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Strike, Traced, trace};
use crate::command::COMMAND_LIMIT;
use crate::pod::panic_text;

/// How long a program may serve.
const SERVE_LIMIT: Duration = Duration::from_secs(300);

/// Which changes of a traced program count, and what is known of it meanwhile.
#[derive(Debug)]
pub(super) struct Watch {
    pid: AtomicU32,
    counting: AtomicBool,
    only: fn(&str) -> bool,
    limit: Duration,
}

impl Watch {
    /// Every change of a program that comes to its end by itself.
    pub(super) fn of_all() -> Self {
        Self {
            pid: AtomicU32::new(0),
            counting: AtomicBool::new(true),
            only: |_| true,
            limit: COMMAND_LIMIT,
        }
    }

    /// The program runs.
    pub(super) fn begun(&self, pid: u32) {
        self.pid.store(pid, Ordering::SeqCst);
    }

    /// Whether this change counts.
    pub(super) fn counts(&self, call: &str) -> bool {
        self.counting.load(Ordering::SeqCst) && (self.only)(call)
    }

    /// How long the program may run.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }
}

/// A program that runs traced until it is ended or struck.
#[derive(Debug)]
pub struct Daemon {
    watch: Arc<Watch>,
    tracer: Option<JoinHandle<Result<Traced>>>,
}

impl Daemon {
    /// Starts `command`. Of its changes those count that `only` says yes to, and none
    /// before [`Daemon::count`].
    pub fn start(
        mut command: Command,
        strike: Option<Strike>,
        only: fn(&str) -> bool,
    ) -> Result<Self> {
        let watch = Arc::new(Watch {
            pid: AtomicU32::new(0),
            counting: AtomicBool::new(false),
            only,
            limit: SERVE_LIMIT,
        });
        let of_tracer = Arc::clone(&watch);
        // A tracer is one thread, and only it may wait for what it traces.
        let tracer = std::thread::Builder::new()
            .name("tracer".to_owned())
            .spawn(move || trace(&mut command, b"", strike, &of_tracer))?;
        Ok(Self {
            watch,
            tracer: Some(tracer),
        })
    }

    /// From now on its changes count.
    pub fn count(&self) {
        self.watch.counting.store(true, Ordering::SeqCst);
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.tracer.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Kills it with SIGKILL if it still runs: what it had changed.
    pub fn end(mut self) -> Result<Traced> {
        self.kill();
        let tracer = self.tracer.take().ok_or_else(|| anyhow!("ended twice"))?;
        tracer
            .join()
            .map_err(|panic| anyhow!("the tracer: {}", panic_text(panic.as_ref())))?
    }

    fn kill(&self) {
        let pid = self.watch.pid.load(Ordering::SeqCst);
        if let (false, Ok(pid @ 1..)) = (self.is_over(), i32::try_from(pid)) {
            // It may end by itself meanwhile.
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
