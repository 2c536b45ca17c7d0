//! The node agent and its command line.

mod attach;
mod bootstrap;
mod capacity;
mod cli;
mod doctor;
mod engine;
mod refusal;
mod spec;
mod vf;

use std::io::{self, Write};
use std::process::ExitCode;

use berth_kernel::Root;
use clap::Parser;

use crate::attach::Runtime;
use crate::cli::{Cli, Command};

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
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let (out, notes) = (&mut stdout.lock(), &mut stderr.lock());
    match &cli.command {
        Command::Attach(args) => attach::attach(args, &Runtime::host(root), out, notes),
        Command::Bootstrap(args) => bootstrap::run(args, &root, out, notes),
        Command::Detach(args) => attach::detach(args, &Runtime::host(root), notes),
        Command::Doctor(args) => doctor::run(args, &root, out),
        Command::Vf(args) => vf::run(args, &root, out, notes),
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
