//! `berth explain`.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use berth_kernel::Root;

use crate::api::Explanation;
use crate::cli::{ExplainArgs, Output};
use crate::client::{Ask, Client};

/// Explains on `out`.
pub(crate) fn run(args: &ExplainArgs, root: &Root, out: &mut dyn Write) -> Result<ExitCode> {
    let path = super::path_of(&args.id) + "/explain";
    let answer = Client::new(root)?.ask(&Ask::get(path))?;
    match args.output {
        Output::Json => super::json(&answer.body, out)?,
        Output::Text => text(&super::read(answer.body)?, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The sentences, then what is not as wished.
pub(super) fn text(explanation: &Explanation, out: &mut dyn Write) -> io::Result<()> {
    let id = &explanation.id;
    write!(out, "{id}: {}", explanation.state.as_str())?;
    if let Some(cpus) = &explanation.cpus {
        write!(out, ", CPUs {cpus}")?;
    }
    if let Some(nodes) = &explanation.nodes {
        write!(out, ", NUMA nodes {nodes}")?;
    }
    writeln!(out)?;
    for why in &explanation.why {
        writeln!(out, "  {why}")?;
    }
    for condition in &explanation.conditions {
        writeln!(
            out,
            "  {}: {}: {}",
            condition.kind, condition.object, condition.reason
        )?;
        writeln!(out, "    next: {}", condition.remedy)?;
    }
    Ok(())
}
