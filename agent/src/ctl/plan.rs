//! How a plan is told.

use std::io::{self, Write};

use crate::engine::handle::Outcome;

/// Writes `head`, then the steps and the notes below it.
pub(super) fn tell(head: &str, outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{head}")?;
    for step in &outcome.plan {
        write!(out, "  {}: {} -> {}", step.object, step.from, step.to)?;
        match step.why.as_str() {
            "" => writeln!(out)?,
            why => writeln!(out, "  ({why})")?,
        }
    }
    for note in &outcome.notes {
        writeln!(out, "  note: {note}")?;
    }
    Ok(())
}

/// `done`, or with a dry run that it would be.
pub(super) fn verb(done: &str, dry_run: bool) -> String {
    if dry_run {
        format!("would be {done}")
    } else {
        done.to_owned()
    }
}
