//! A program run once, and what it took.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// What one call took, from before its start to after its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Elapsed time, ms.
    pub(crate) wall: f64,
    /// Processor time of the program and all it started, user's and kernel's, ms. Of no
    /// meaning where several run at once.
    pub(crate) cpu: f64,
}

/// Runs `command` with this input; its output, and what it took.
///
/// # Errors
/// It cannot be started, or its end is not a success; with what it said.
pub(crate) fn sampled(command: &mut Command, stdin: &str) -> Result<(Sample, String)> {
    let before = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let start = Instant::now();
    let output = output(command, stdin)?;
    let wall = start.elapsed().as_secs_f64() * 1e3;
    let after = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = cpu(&after) - cpu(&before);
    Ok((Sample { wall, cpu }, output))
}

fn output(command: &mut Command, stdin: &str) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let (input, pipes) = (stdin.as_bytes(), [Stdio::piped(), Stdio::piped()]);
    let [stdin, stdout] = pipes;
    let mut child = command
        .stdin(stdin)
        .stdout(stdout)
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("start {program}"))?;
    if let Some(mut pipe) = child.stdin.take() {
        // Who does not read it has closed its end.
        pipe.write_all(input).ok();
    }
    let mut said = String::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_string(&mut said)?;
    }
    let status = child.wait()?;
    ensure!(status.success(), "{program}: {status}: {said}");
    Ok(said)
}

fn cpu(usage: &Usage) -> f64 {
    (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e3
}

/// Runs a command line, split at white space, and gives its output.
///
/// # Errors
/// As [`sampled`].
pub(crate) fn plain(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    let (_, said) = sampled(command.args(words), "").with_context(|| line.to_owned())?;
    Ok(said)
}
