//! `berth diff`.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use berth_kernel::Root;

use super::get;
use crate::cli::DiffArgs;
use crate::client::Client;
use crate::engine::handle::View;

/// Tells on `out` what differs.
pub(crate) fn run(args: &DiffArgs, root: &Root, out: &mut dyn Write) -> Result<ExitCode> {
    let views = get::views(&Client::new(root)?, args.id.as_ref())?;
    let differs = text(&views, out)?;
    Ok(if differs {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Whether something differs.
pub(super) fn text(views: &[View], out: &mut dyn Write) -> io::Result<bool> {
    let mut differs = false;
    for view in views {
        for setting in view.settings.iter().filter(|setting| !setting.ok) {
            differs = true;
            writeln!(out, "{}: {}", view.id, setting.object)?;
            writeln!(out, "  wished: {}", setting.wished)?;
            writeln!(out, "  live:   {}", setting.live)?;
        }
    }
    Ok(differs)
}
