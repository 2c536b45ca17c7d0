//! What the plugin takes beside time: memory, disk, threads, processes.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::bars::Bars;
use crate::program::{Caller, Paths, Program, Work};
use crate::stage::{Container, Stage};
use crate::{count, say};

/// Bytes in the megabyte of the bars.
const MEGABYTE: f64 = 1e6;

/// Measures one ADD of each kind and prints figures and bars.
///
/// # Errors
/// The plugin fails.
pub(crate) fn measure(paths: &Paths, bars: &mut Bars) -> Result<()> {
    let (mut peak, mut threads, mut programs) = (0.0_f64, 1, 1);
    let works = [Work::L2, Work::L3, Work::Masquerade];
    let both = works.map(|work| [(Program::Ours, work), (Program::Guarded, work)]);
    for (program, work) in both.into_iter().flatten() {
        let caller = Caller::new(program, work, None, paths, "footprint");
        let stage = Stage::new()?;
        let (memory, counted) = stage.enter(|| {
            caller.prepare()?;
            Ok((memory(&caller, paths)?, calls(&caller)?))
        })?;
        let name = work.name();
        say(&format!(
            "{name:4} ADD {program:?}: {:.2} MB, {} system calls, {} thread(s), {} program(s)",
            memory / MEGABYTE,
            counted.calls,
            counted.threads,
            counted.programs
        ));
        peak = peak.max(memory);
        threads = threads.max(counted.threads);
        programs = programs.max(counted.programs);
    }
    bars.at_most("bridge.peak-memory-MB", peak / MEGABYTE, 3.0);
    let size = std::fs::metadata(&paths.ours)?.len();
    bars.at_most("bridge.binary-MB", size as f64 / MEGABYTE, 3.0);
    bars.at_most("bridge.threads", threads as f64, 1.0);
    bars.at_most("bridge.processes", programs as f64, 1.0);
    Ok(())
}

/// The peak resident set of an ADD in bytes.
fn memory(caller: &Caller, paths: &Paths) -> Result<f64> {
    let container = Container::new("memory", true)?;
    let call = caller.command("ADD", 0, &container);
    let mut command = Command::new(&paths.floor);
    command.arg("memory").arg(call.get_program()).env_clear();
    command.envs(
        call.get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    std::io::Write::write_all(
        &mut child.stdin.as_ref().context("no stdin")?,
        caller.conf().as_bytes(),
    )?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    let kib: f64 = said.lines().last().unwrap_or_default().parse()?;
    caller.del(0, &container)?;
    container.remove()?;
    Ok(kib * 1024.0)
}

fn calls(caller: &Caller) -> Result<count::Counted> {
    let container = Container::new("counted", true)?;
    let counted = count::of(caller, &caller.command("ADD", 1, &container))?;
    caller.del(1, &container)?;
    container.remove()?;
    Ok(counted)
}
