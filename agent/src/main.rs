//! The node agent and its command line.

mod api;
mod apply;
mod attach;
mod bootstrap;
mod capacity;
mod cli;
mod client;
mod config;
mod ctl;
mod daemon;
mod doctor;
mod engine;
mod fields;
mod host;
mod observe;
mod policy;
mod refusal;
mod spec;
mod store;
mod target;
mod vf;

use std::io::{self, Write};
use std::process::ExitCode;

use berth_kernel::Root;
use clap::Parser;

use crate::attach::Runtime;
use crate::cli::{Cli, Command};
use crate::config::Config;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        // A reader that went away (`berth doctor | head`) is no failure of ours.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell it to if stderr is closed, too.
            writeln!(io::stderr().lock(), "berth: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let root = Root::host();
    // Not locked: the agent's threads log to standard error, too.
    let (out, notes) = (&mut io::stdout(), &mut io::stderr());
    match &cli.command {
        Command::Agent(args) => daemon::run(&root, Config::named(args.config.as_deref(), &root)?),
        Command::Apply(args) => ctl::apply::run(args, &root, out),
        Command::Attach(args) => attach::attach(args, &Runtime::host(root), out, notes),
        Command::Bootstrap(args) => bootstrap::run(args, &root, out, notes),
        Command::Capacity(args) => ctl::capacity::run(args, &root, out),
        Command::Delete(args) => ctl::delete::run(args, &root, out),
        Command::Detach(args) => attach::detach(args, &Runtime::host(root), notes),
        Command::Diff(args) => ctl::diff::run(args, &root, out),
        Command::Doctor(args) => doctor::run(args, &root, out),
        Command::Events(args) => ctl::events::run(args, &root, out),
        Command::Explain(args) => ctl::explain::run(args, &root, out),
        Command::Get(args) => ctl::get::run(args, &root, out, notes),
        Command::Release(args) => ctl::delete::release(args, &root, out),
        Command::Resize(args) => ctl::resize::run(args, &root, out),
        Command::Vf(args) => vf::run(args, &root, out, notes),
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
