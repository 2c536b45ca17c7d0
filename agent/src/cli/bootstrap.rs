//! `berth bootstrap`: what may be typed.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use berth_kernel::names::Invalid;
use berth_kernel::{IfName, PciAddr};
use clap::{Args, Subcommand, ValueEnum};

/// `berth bootstrap`.
#[derive(Debug, Args)]
#[command(
    long_about = "Make the node's devices as they should be, or say how they differ.\n\n\
        It may be repeated: what is as wished stays untouched.",
    after_help = "\
Examples:
  berth bootstrap vfs pf0=7
  berth bootstrap verify pf0=7"
)]
pub(crate) struct BootstrapArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: BootstrapCommand,
}

/// The subcommands of `berth bootstrap`.
#[derive(Debug, Subcommand)]
pub(crate) enum BootstrapCommand {
    /// Give physical functions their virtual functions (VFs), idempotently
    Vfs(VfsArgs),
    /// Say where physical and virtual functions differ from the wish; change nothing
    Verify(VerifyArgs),
}

/// `berth bootstrap vfs`.
#[derive(Debug, Args)]
#[command(
    long_about = "Give physical functions (PFs) their virtual functions (VFs).\n\n\
        Sets each PF up and waits for its carrier, makes COUNT VFs, gives every VF a MAC \
        address that is the same after each boot, and binds drivers that are missing. \
        Everything is validated before the first change; a failure half-way takes back what \
        this call did; a run that was killed is completed by running it again. What is as \
        wished stays untouched. Another COUNT or MTU while a VF of the PF is in use is refused, \
        with its users named.",
    after_help = "\
Examples:
  berth bootstrap vfs pf0=7
  berth bootstrap vfs pf0=7 0000:41:00.0=4 --mtu 9000
  berth bootstrap vfs pf0=7 --macs keep --dry-run"
)]
pub(crate) struct VfsArgs {
    /// What is wished.
    #[command(flatten)]
    pub(crate) wish: WishArgs,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `berth bootstrap verify`.
#[derive(Debug, Args)]
#[command(
    long_about = "Say where physical functions (PFs) and their virtual functions (VFs) differ \
        from the wish.\n\n\
        Only reads. Prints a line for each difference; exit status 1 if there is any.",
    after_help = "\
Examples:
  berth bootstrap verify pf0=7
  berth bootstrap verify pf0=7 0000:41:00.0=4 --mtu 9000"
)]
pub(crate) struct VerifyArgs {
    /// What is wished.
    #[command(flatten)]
    pub(crate) wish: WishArgs,
}

/// What is wished of PFs and VFs.
#[derive(Debug, Clone, Args)]
pub(crate) struct WishArgs {
    /// A PF, by name or PCI address, and how many VFs it should have
    #[arg(value_name = "PF=COUNT", required = true)]
    pub(crate) pfs: Vec<PfCount>,
    /// MTU of the PFs in bytes, which bounds that of their VFs [default: left as it is]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(68..=65535))]
    pub(crate) mtu: Option<u32>,
    /// MAC addresses of the VFs
    #[arg(long, value_enum, default_value_t = Macs::Stable)]
    pub(crate) macs: Macs,
}

/// Which MAC addresses VFs get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Macs {
    /// Made from the PF's permanent address and the VF's index: the same after each boot
    Stable,
    /// Left to the driver
    Keep,
}

/// A PF as it is named on the command line, and the number of its VFs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PfCount {
    /// The PF.
    pub(crate) pf: PfName,
    /// How many VFs it should have.
    pub(crate) count: u32,
}

/// How a PF may be named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PfName {
    /// By its network device.
    Link(IfName),
    /// By its PCI address.
    Address(PciAddr),
}

impl FromStr for PfCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pf, count) = text
            .rsplit_once('=')
            .ok_or("write PF=COUNT, for example pf0=7")?;
        let no_pf = |_: Invalid| format!("{pf:?} is neither an interface nor a PCI address");
        let pf = match pf.parse::<PciAddr>() {
            Ok(address) => PfName::Address(address),
            Err(_) => PfName::Link(pf.parse().map_err(no_pf)?),
        };
        let no_count = |_: ParseIntError| format!("{count:?} is not a number of VFs");
        let count = count.parse().map_err(no_count)?;
        Ok(Self { pf, count })
    }
}

impl fmt::Display for PfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}
