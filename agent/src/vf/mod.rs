//! `berth vf`: what virtual functions there are, where and whose, and bringing back
//! one that is stuck.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use berth_kernel::Root;

use crate::cli::{VfArgs, VfCommand};

pub(crate) mod list;
mod release;
mod retry;
mod show;
pub(crate) mod survey;
mod way_out;

pub(crate) use retry::retry;
pub(crate) use way_out::way_out;

/// Runs the subcommand: answers on `out`, what should be known on `notes`.
pub(crate) fn run(
    args: &VfArgs,
    root: &Root,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<ExitCode> {
    match &args.command {
        VfCommand::List(args) => list::run(args, root, out, notes)?,
        VfCommand::Show(args) => show::run(args, root, out)?,
        VfCommand::Release(args) => release::run(args, root, out, notes)?,
    }
    Ok(ExitCode::SUCCESS)
}
