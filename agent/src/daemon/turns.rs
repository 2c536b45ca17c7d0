//! The engine's thread: requests as they come, a pass of the reconciler when something
//! changed and every period.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::report_file::ReportFile;
use super::watch::Watch;
use crate::engine::Engine;
use crate::engine::handle::{Message, Published};
use crate::engine::node::Node;

/// Changes within this time are seen in one pass: a container's start writes many files.
const SETTLE: Duration = Duration::from_millis(50);
/// Passes that events ask for are at least so far apart.
const APART: Duration = Duration::from_millis(250);
/// The watchdog is told at least so often.
const BEAT: Duration = Duration::from_secs(5);

/// The engine and whom it tells.
pub(crate) struct Turns<N> {
    pub(crate) engine: Engine<N>,
    pub(crate) messages: Receiver<Message>,
    pub(crate) published: watch::Sender<Arc<Published>>,
    /// Where it is written for who does not ask.
    pub(crate) report: ReportFile,
    pub(crate) watch: Option<Watch>,
    pub(crate) period: Duration,
    /// Told that the engine lives, for the service manager.
    pub(crate) beat: fn(),
}

impl<N: Node> Turns<N> {
    /// Runs until it is told to stop or nobody can ask any more.
    pub(crate) fn run(mut self) {
        let mut last = Instant::now();
        let mut due = last;
        loop {
            let now = Instant::now();
            if now >= due {
                self.pass();
                last = Instant::now();
                due = last + self.period;
            }
            (self.beat)();
            let wait = due.saturating_duration_since(Instant::now()).min(BEAT);
            match self.messages.recv_timeout(wait) {
                Ok(Message::Ask(request)) => {
                    let answer = self.engine.answer(&request.asked);
                    self.publish();
                    // Who asked may have gone; what was done stands.
                    request.answer.send(answer).ok();
                    // What was set is looked at once more, and watched from now on.
                    due = due.min((last + APART).max(Instant::now() + SETTLE));
                }
                Ok(Message::Changed) => {
                    due = due.min((last + APART).max(Instant::now() + SETTLE));
                }
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn pass(&mut self) {
        if let Err(error) = self.engine.reconcile() {
            log::error!("a pass failed: {error:#}");
            self.engine.unwell(format!("{error:#}"));
        }
        self.engine.tell_housekeeping();
        self.engine.run_errands(Instant::now());
        self.engine.look_around();
        self.publish();
        let (files, directories): (BTreeSet<PathBuf>, BTreeSet<PathBuf>) = self.engine.watched();
        if let Some(watch) = &mut self.watch {
            watch.keep(&files, &directories);
        }
    }

    fn publish(&mut self) {
        let published = Arc::new(self.engine.publish());
        self.report.write(&published.capacity);
        self.published.send_replace(published);
        self.engine.flush_events();
    }
}
