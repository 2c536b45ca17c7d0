//! One process at a time changes the node: the agent, or `berth release --all`.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use berth_kernel::Root;
use berth_state::dirs;

use super::files::failed;
use crate::refusal::{Code, Refusal};

/// `run/berth/agent.lock`, held until this is dropped or the process ends. The file is
/// never unlinked: two processes would hold one lock through two inodes.
#[derive(Debug)]
pub(super) struct AgentLock {
    file: File,
}

impl AgentLock {
    /// Takes the lock for `who` without waiting.
    ///
    /// # Errors
    /// [`Code::Conflict`] with the holder's pid and name.
    pub(super) fn take(root: &Root, who: &str) -> Result<Self, Refusal> {
        let dir = dirs::ensure(root, Path::new("")).map_err(|error| failed("open", &error))?;
        let path = dir.join("agent.lock");
        let wish = || format!("lock {}", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(dirs::PRIVATE_FILE)
            .open(&path)
            .map_err(|error| failed(wish(), &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(failed(wish(), &error)),
            Err(TryLockError::WouldBlock) => {
                return Err(Refusal::new(
                    Code::Conflict,
                    path.display().to_string(),
                    format!("taken by {who}"),
                    format!("it is held by {}", holder(&mut file)),
                    "use the running agent, or stop that process first",
                ));
            }
        }
        // The lock holds without the text too.
        if let Err(error) = name(&file, who) {
            log::warn!("write holder to {}: {error}", path.display());
        }
        Ok(Self { file })
    }
}

fn name(file: &File, who: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all_at(format!("{} {who}\n", std::process::id()).as_bytes(), 0)
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(512).read_to_string(&mut text);
    match text.trim_end().split_once(' ') {
        Some((pid, who)) if read.is_ok() => format!("pid {pid}, {who}"),
        _ => "a process that has not named itself".to_owned(),
    }
}

impl Drop for AgentLock {
    fn drop(&mut self) {
        // Cleared, so that nobody takes us for the holder; unlocked, because a child
        // between fork and exec may hold the file open a little longer.
        if let Err(error) = self.file.set_len(0).and_then(|()| self.file.unlock()) {
            log::warn!("release the agent's lock: {error}");
        }
    }
}
