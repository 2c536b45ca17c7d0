//! `berth delete` and `berth release --all`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use berth_kernel::Root;
use hyper::Method;

use super::{alone, plan};
use crate::cli::{DeleteArgs, FreeArgs};
use crate::client::{Ask, Client};
use crate::engine::handle::Outcome;

/// Deletes one.
pub(crate) fn run(args: &DeleteArgs, root: &Root, out: &mut dyn Write) -> Result<ExitCode> {
    let path = super::dry(super::path_of(&args.id), args.dry_run);
    tell(
        &args.id.to_string(),
        "deleted",
        &Ask::new(Method::DELETE, path),
        root,
        out,
    )
}

/// Deletes all: the agent does, or this process where none runs.
pub(crate) fn release(args: &FreeArgs, root: &Root, out: &mut dyn Write) -> Result<ExitCode> {
    if !Client::new(root)?.may_reach() {
        let outcome = alone::release(args, root)?;
        let done = plan::verb("released, by this command as no agent runs", args.dry_run);
        let head = format!("all workloads: {done}, generation {}", outcome.generation);
        plan::tell(&head, &outcome, out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let path = super::dry("/v1/release".to_owned(), args.dry_run);
    tell(
        "all workloads",
        "released",
        &Ask::new(Method::POST, path),
        root,
        out,
    )
}

fn tell(what: &str, done: &str, ask: &Ask, root: &Root, out: &mut dyn Write) -> Result<ExitCode> {
    let outcome: Outcome = super::asked(&Client::new(root)?, ask)?;
    let done = plan::verb(done, ask.path.ends_with("?dry_run=true"));
    let head = format!("{what}: {done}, generation {}", outcome.generation);
    plan::tell(&head, &outcome, out)?;
    Ok(ExitCode::SUCCESS)
}
