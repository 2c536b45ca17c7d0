//! Wakes the engine when somebody writes to what it has set: inotify(7) on the cgroup
//! files and on the directories in which targets come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::thread;

use inotify::{Inotify, WatchDescriptor, WatchMask, Watches};

use crate::engine::handle::Message;

/// Room for several events; one without a name takes 16 bytes.
const BUFFER: usize = 4096;

/// The files and directories that are watched.
pub(crate) struct Watch {
    watches: Watches,
    kept: BTreeMap<PathBuf, WatchDescriptor>,
}

impl Watch {
    /// Starts the thread that wakes the engine by `wake`.
    ///
    /// # Errors
    /// When the kernel has no inotify instance left or no thread can be started.
    pub(crate) fn start(wake: SyncSender<Message>) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let watches = inotify.watches();
        thread::Builder::new()
            .name("inotify".to_owned())
            .spawn(move || listen(inotify, &wake))?;
        Ok(Self {
            watches,
            kept: BTreeMap::new(),
        })
    }

    /// Watches `files` for writes and `directories` for what comes and goes in them, and
    /// nothing else any more. What cannot be watched is looked at every period all the
    /// same.
    pub(crate) fn keep(&mut self, files: &BTreeSet<PathBuf>, directories: &BTreeSet<PathBuf>) {
        let wanted = |path: &Path| files.contains(path) || directories.contains(path);
        let gone: Vec<PathBuf> = self.kept.keys().filter(|p| !wanted(p)).cloned().collect();
        for path in gone {
            if let Some(watch) = self.kept.remove(&path) {
                // The kernel has dropped it with its file, mostly.
                self.watches.remove(watch).ok();
            }
        }
        for path in files {
            self.add(path, WatchMask::MODIFY);
        }
        let comes_and_goes = WatchMask::CREATE | WatchMask::DELETE | WatchMask::ONLYDIR;
        for path in directories {
            self.add(path, comes_and_goes);
        }
    }

    /// Adding a path again is how a file that was replaced gets its watch.
    fn add(&mut self, path: &Path, mask: WatchMask) {
        match self.watches.add(path, mask) {
            Ok(watch) => drop(self.kept.insert(path.to_owned(), watch)),
            Err(error) => log::debug!("cannot watch {}: {error}", path.display()),
        }
    }
}

/// Ends with the engine.
fn listen(mut inotify: Inotify, wake: &SyncSender<Message>) {
    let mut buffer = [0; BUFFER];
    loop {
        match inotify.read_events_blocking(&mut buffer) {
            // What it was is seen by looking.
            Ok(_events) => {
                match wake.try_send(Message::Changed) {
                    Err(TrySendError::Disconnected(_)) => return,
                    // A full queue wakes it as well.
                    Ok(()) | Err(TrySendError::Full(_)) => {}
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                log::error!("inotify ended: {error}; changes are seen every period only");
                return;
            }
        }
    }
}
