//! `berth agent`: what may be typed.

use std::path::PathBuf;

use clap::Args;

/// `berth agent`.
#[derive(Debug, Args)]
#[command(
    long_about = "Enforce the workloads' specs on this node and keep it so, until told to end.\n\n\
        Runs in the foreground; under systemd it says when it is ready. One agent runs on a \
        node. What is enforced stays when it ends; berth release --all takes it off.",
    after_help = "\
Examples:
  berth agent
  berth agent --config /etc/berth/agent.toml"
)]
pub(crate) struct AgentArgs {
    /// Configuration file [default: /etc/berth/agent.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}
