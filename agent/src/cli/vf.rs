//! `berth vf`: what may be typed.

use berth_kernel::PciAddr;
use clap::{Args, Subcommand};

use super::Output;

/// `berth vf`.
#[derive(Debug, Args)]
#[command(
    long_about = "Show virtual functions (VFs), and bring back one that is stuck.",
    after_help = "\
Examples:
  berth vf list
  berth vf show 0000:01:10.2
  berth vf release 0000:01:10.2 --dry-run"
)]
pub(crate) struct VfArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: VfCommand,
}

/// The subcommands of `berth vf`.
#[derive(Debug, Subcommand)]
pub(crate) enum VfCommand {
    /// List the node's VFs: where each is and whose
    List(ListArgs),
    /// Show one VF: settings, interrupts, queues, owner
    Show(ShowArgs),
    /// Bring back a VF that is in quarantine or whose container is gone
    Release(ReleaseArgs),
}

/// `berth vf list`.
#[derive(Debug, Args)]
#[command(
    long_about = "List the node's VFs: where each is and whose.\n\n\
        Only reads. A VF is free, claimed by an attachment, quarantined (it could not be \
        brought back to what it was), reserved in node.json, in use by the host or another \
        program, or unusable; the reason is given.",
    after_help = "\
Examples:
  berth vf list
  berth vf list -o json"
)]
pub(crate) struct ListArgs {
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// `berth vf show`.
#[derive(Debug, Args)]
#[command(
    long_about = "Show one VF: its settings at the physical function, its network device, \
        interrupts with their CPUs and counts, queues, owner.\n\n\
        Only reads; works while the VF is in a container.",
    after_help = "\
Examples:
  berth vf show 0000:01:10.2
  berth vf show 0000:01:10.2 -o json"
)]
pub(crate) struct ShowArgs {
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// PCI address of the VF, as `berth vf list` shows it
    #[arg(value_name = "ADDRESS", value_parser = address)]
    pub(crate) address: PciAddr,
}

/// `berth vf release`.
#[derive(Debug, Args)]
#[command(
    long_about = "Bring back a VF that is in quarantine, or whose container is gone for good.\n\n\
        It is put back to what it was before its attachment; where that is not known, to the \
        driver's defaults. Then it is free. A VF whose container lives is refused: detach it.",
    after_help = "\
Examples:
  berth vf release 0000:01:10.2 --dry-run
  berth vf release 0000:01:10.2"
)]
pub(crate) struct ReleaseArgs {
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// PCI address of the VF, as `berth vf list` shows it
    #[arg(value_name = "ADDRESS", value_parser = address)]
    pub(crate) address: PciAddr,
}

fn address(text: &str) -> Result<PciAddr, String> {
    text.parse::<PciAddr>().map_err(|e| e.to_string())
}
