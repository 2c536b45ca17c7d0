//! `berth capacity`.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use berth_kernel::Root;
use serde_json::Value;

use crate::capacity;
use crate::cli::{CapacityArgs, Output};
use crate::client::{Ask, Client};

/// Shows on `out`.
pub(crate) fn run(args: &CapacityArgs, root: &Root, out: &mut dyn Write) -> Result<ExitCode> {
    let client = Client::new(root)?;
    if args.watch {
        client.follow("/v1/capacity?watch=true", &mut |report| {
            match args.output {
                Output::Json => writeln!(out, "{report}")?,
                Output::Text => text(&report, out)?,
            }
            Ok(out.flush()?)
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let report = client.ask(&Ask::get("/v1/capacity"))?.body;
    match args.output {
        Output::Json => super::json(&report, out)?,
        Output::Text => text(&report, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The report for people.
fn text(report: &Value, out: &mut dyn Write) -> io::Result<()> {
    match serde_json::from_value(report.clone()) {
        Ok(report) => capacity::table(&report, out),
        // Of an agent of another version.
        Err(_) => super::json(report, out),
    }
}
