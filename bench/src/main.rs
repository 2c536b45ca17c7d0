//! The bench: what an attachment costs, beside the reference plugin and beside the bare
//! messages to the kernel, in one run on one machine. Absolute times are the machine's;
//! the bars are ratios of what was measured in the same round.

mod bars;
mod count;
mod footprint;
mod parallel;
mod program;
mod run;
mod sequence;
mod stage;
mod standing;
mod stats;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::bars::Bars;
use crate::program::Paths;

/// Measures Berth and prints its bars.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The bridge plugin; needs root, works in namespaces of its own.
    Bridge(Bridge),
}

/// What is measured of the bridge plugin.
#[derive(Debug, clap::Args)]
struct Bridge {
    #[command(flatten)]
    paths: Paths,
    /// Rounds that count; three more come first.
    #[arg(long, default_value_t = 120)]
    rounds: usize,
    /// Access ports of this VLAN instead of an untagged bridge, and limits twice as wide:
    /// for emulated machines. Only single calls are measured.
    #[arg(long)]
    vlan: Option<u16>,
    /// Only these parts.
    #[arg(long, value_delimiter = ',', default_values = ["sequence", "parallel", "standing", "footprint"])]
    parts: Vec<String>,
}

fn main() -> ExitCode {
    let What::Bridge(bridge) = Cli::parse().what;
    match measure(bridge) {
        Ok(bars) if bars.all_good() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn measure(mut bridge: Bridge) -> Result<Bars> {
    bridge.paths = bridge.paths.absolute()?;
    let mut bars = Bars::default();
    let wished = |part: &str| bridge.parts.iter().any(|name| name == part);
    if wished("sequence") {
        sequence::measure(&bridge, &mut bars)?;
    }
    if bridge.vlan.is_some() {
        return Ok(bars);
    }
    if wished("parallel") {
        parallel::measure(&bridge.paths, &mut bars)?;
    }
    if wished("standing") {
        standing::measure(&bridge.paths, &mut bars)?;
    }
    if wished("footprint") {
        footprint::measure(&bridge.paths, &mut bars)?;
    }
    Ok(bars)
}

/// Prints a line of the run's output.
fn say(line: &str) {
    // A reader that has gone is no reason to stop.
    writeln!(std::io::stdout(), "{line}").ok();
}
