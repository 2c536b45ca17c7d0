//! Running a plugin as the specification has it: found on `CNI_PATH`, environment and
//! configuration handed over, one document back.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::error::{CniError, code};
use crate::log::Log;
use crate::request::Env;

/// How often, 5 ms apart, a binary that is just being written is tried again.
const BUSY_TRIES: u32 = 10;

/// How much of a plugin's standard error is kept for a message, in bytes.
const SAID_MAX: usize = 1024;

/// The first regular file called `name` in `path`. The executable bit is not looked
/// at, as in the reference: a file that cannot run is an error worth showing.
pub(crate) fn find(path: &[PathBuf], name: &str) -> Option<PathBuf> {
    path.iter()
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// What a plugin that was run left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    status: ExitStatus,
    stdout: Vec<u8>,
    said: String,
}

/// Runs `binary` to its end. No time limit: that is the runtime's, which ends us both.
///
/// # Errors
/// Code 11 while the file is being replaced, code 5 when it cannot be run.
pub(crate) fn execute(
    binary: &Path,
    env: &Env,
    stdin: &[u8],
    log: &Log,
) -> Result<Outcome, CniError> {
    let mut child = spawn(binary, env)?;
    let (input, errors) = (child.stdin.take(), child.stderr.take());
    let mut stdout = Vec::new();
    let (read, said) = thread::scope(|scope| {
        // A plugin may answer without reading: a closed pipe is no failure.
        scope.spawn(move || input.map(|mut pipe| pipe.write_all(stdin)));
        let said = scope.spawn(move || errors.map(|pipe| pass_on(pipe, log)));
        let read = child
            .stdout
            .take()
            .map(|mut pipe| pipe.read_to_end(&mut stdout));
        (read, said.join().ok().flatten().unwrap_or_default())
    });
    let failed = |e| failed(binary, "read the answer of", &e);
    read.transpose().map_err(failed)?;
    let status = child.wait().map_err(failed)?;
    Ok(Outcome {
        status,
        stdout,
        said,
    })
}

fn spawn(binary: &Path, env: &Env) -> Result<Child, CniError> {
    let mut tries = 0;
    loop {
        let spawned = Process::new(binary)
            .env_clear()
            .envs(&env.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        match spawned {
            Err(e) if e.kind() == ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                tries += 1;
                thread::sleep(Duration::from_millis(5));
            }
            Err(e) => return Err(failed(binary, "run", &e)),
            Ok(child) => return Ok(child),
        }
    }
}

fn failed(binary: &Path, wish: &str, error: &std::io::Error) -> CniError {
    let (code, next) = match error.kind() {
        ErrorKind::ExecutableFileBusy => (
            code::TRY_AGAIN,
            "the file is being written; install plugins by rename",
        ),
        ErrorKind::PermissionDenied => (code::IO, "make it executable"),
        _ => (code::IO, "check that it is a program for this machine"),
    };
    CniError::new(code, format!("cannot {wish} {}: {error}", binary.display())).details(next)
}

/// Passes standard error through as it comes and keeps its end for a message.
fn pass_on(mut pipe: impl Read, log: &Log) -> String {
    let mut kept: Vec<u8> = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count) = pipe.read(&mut buffer) {
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else {
            break;
        };
        log.raw(read);
        kept.extend_from_slice(read);
        let surplus = kept.len().saturating_sub(SAID_MAX);
        kept.drain(..surplus);
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

impl Outcome {
    /// The document on standard output; `None` when there is none.
    ///
    /// # Errors
    /// The plugin's own error, or code 6 when it printed no JSON.
    pub(crate) fn answer(&self) -> Result<Option<Value>, CniError> {
        let text = String::from_utf8_lossy(&self.stdout);
        let document = match text.trim() {
            "" => Ok(None),
            text => serde_json::from_str::<Value>(text).map(Some),
        };
        match (self.status.success(), document) {
            (true, Ok(document)) => Ok(document),
            (true, Err(e)) => Err(self.unreadable(code::DECODE, &e)),
            (false, Ok(Some(document))) => Err(CniError::from_json(&document)
                .unwrap_or_else(|| self.unreadable(code::IO, &"it is no CNI error"))),
            (false, Ok(None)) => Err(CniError::new(
                code::IO,
                format!("it {} and printed no error", self.ended()),
            )
            .details(self.last_words())),
            (false, Err(e)) => Err(self.unreadable(code::IO, &e)),
        }
    }

    fn unreadable(&self, code: u32, why: &dyn std::fmt::Display) -> CniError {
        let output: String = String::from_utf8_lossy(&self.stdout)
            .trim()
            .chars()
            .take(200)
            .collect();
        let msg = format!("it {} and its output cannot be read: {why}", self.ended());
        CniError::new(code, msg)
            .details(format!("output: {output:?}"))
            .details(self.last_words())
    }

    fn ended(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exited with status {code}"),
            (None, Some(signal)) => format!("was killed by signal {signal}"),
            (None, None) => "ended".to_owned(),
        }
    }

    fn last_words(&self) -> String {
        if self.said.is_empty() {
            "nothing on its standard error".to_owned()
        } else {
            format!("its standard error: {}", self.said.replace('\n', " | "))
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
