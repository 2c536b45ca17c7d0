//! Commands run to their end within a bound, with everything they said in the error.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long any command of the harness may take, seconds of emulated hardware included.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// What a finished command left behind.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// Its standard error, invalid UTF-8 replaced.
    pub stderr: String,
}

/// A started command whose output goes to unnamed files: no reader threads, and a
/// grandchild that keeps the descriptor open cannot hang the caller.
#[derive(Debug)]
pub struct Started {
    child: Child,
    stdout: File,
    stderr: File,
    words: String,
}

/// Starts `command` with `stdin` as its input. Fails when the program cannot be run.
pub fn start(command: &mut Command, stdin: &[u8]) -> Result<Started> {
    let words = words(command);
    let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let input = if stdin.is_empty() {
        Stdio::null()
    } else {
        Stdio::from(file_with(stdin)?)
    };
    let child = command
        .stdin(input)
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        .spawn()
        .with_context(|| format!("start `{words}`"))?;
    Ok(Started {
        child,
        stdout,
        stderr,
        words,
    })
}

impl Started {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with SIGKILL and reaps it. No error when it had ended already.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child
            .kill()
            .with_context(|| format!("kill `{}`", self.words))?;
        Ok(self.child.wait()?)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits for its end. After `limit` it is killed and that is the error.
    pub fn finish(mut self, limit: Duration) -> Result<Finished> {
        let Some(status) = wait(&mut self.child, limit)? else {
            self.kill()?;
            let said = (contents(&mut self.stdout)?, contents(&mut self.stderr)?);
            bail!(
                "`{}` did not end within {} s and was killed; stdout: {:?}, stderr: {:?}",
                self.words,
                limit.as_secs(),
                said.0,
                said.1
            );
        };
        self.ended(status)
    }

    /// What it left behind, once somebody else has waited for its end.
    pub(crate) fn ended(mut self, status: ExitStatus) -> Result<Finished> {
        Ok(Finished {
            status,
            stdout: contents(&mut self.stdout)?,
            stderr: contents(&mut self.stderr)?,
        })
    }
}

/// Runs `command` to its end and gives its standard output; any end but exit status 0
/// is an error with everything it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let words = words(command);
    let done = start(command, b"")?.finish(COMMAND_LIMIT)?;
    if !done.status.success() {
        bail!(
            "`{words}`: {}: {}{}",
            done.status,
            done.stderr.trim_end(),
            done.stdout.trim_end()
        );
    }
    Ok(done.stdout)
}

/// Waits for a child at most `limit`; `None` when it still runs.
pub fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(4));
    }
}

/// The command as one would type it, for messages.
pub fn words(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

fn file_with(bytes: &[u8]) -> Result<File> {
    let mut file = tempfile::tempfile()?;
    std::io::Write::write_all(&mut file, bytes)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

fn contents(file: &mut File) -> Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_status_and_words() {
        let error = run(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 3"), "{text}");
        assert!(text.contains("why"), "{text}");
    }

    #[test]
    fn input_reaches_the_command() {
        let done = start(&mut Command::new("cat"), b"hello")
            .and_then(|started| started.finish(COMMAND_LIMIT))
            .unwrap();
        assert_eq!(done.stdout, "hello");
    }

    #[test]
    fn a_command_that_hangs_is_killed() {
        let started = start(Command::new("sleep").arg("60"), b"").unwrap();
        let error = started.finish(Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("was killed"), "{error}");
    }
}
