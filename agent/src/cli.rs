//! The command line: what may be typed, its help and its examples.

use std::path::PathBuf;

use berth_kernel::{IfName, MacAddr};
use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::doctor::Area;

mod agent;
mod bootstrap;
pub(crate) mod size;
mod vf;
mod workload;

pub(crate) use agent::AgentArgs;
pub(crate) use bootstrap::{
    BootstrapArgs, BootstrapCommand, Macs, PfName, VerifyArgs, VfsArgs, WishArgs,
};
pub(crate) use vf::{ListArgs, ReleaseArgs, ShowArgs, VfArgs, VfCommand};
pub(crate) use workload::{
    ApplyArgs, CapacityArgs, DeleteArgs, DiffArgs, EventsArgs, ExplainArgs, FreeArgs, GetArgs,
    ResizeArgs,
};

/// Gives every container its own berth on a node.
#[derive(Debug, Parser)]
#[command(name = "berth", version, after_help = EXAMPLES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  berth doctor
  berth bootstrap vfs pf0=7
  berth attach --pid 4711 game.conflist
  berth detach --pid 4711
  berth vf list
  berth apply -f game-17.json
  berth get
  berth capacity";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the node agent
    Agent(AgentArgs),
    /// Have specs enforced: cores, memory, disk, IO
    Apply(ApplyArgs),
    /// Connect a running container, or any network namespace, to a CNI network
    Attach(AttachArgs),
    /// Make the node's network cards as they should be, or say how they differ
    Bootstrap(BootstrapArgs),
    /// Show what the node has, what is committed and what is free
    Capacity(CapacityArgs),
    /// Enforce nothing for a workload any more
    Delete(DeleteArgs),
    /// Undo an attach
    Detach(DetachArgs),
    /// Compare what is wished with what the kernel says
    Diff(DiffArgs),
    /// Say what this node can do for Berth, what it cannot, and what to do about it
    Doctor(DoctorArgs),
    /// Show what the agent did
    Events(EventsArgs),
    /// Say why a workload has what it has
    Explain(ExplainArgs),
    /// Show workloads
    Get(GetArgs),
    /// Delete every workload
    Release(FreeArgs),
    /// Give a running workload more or less
    Resize(ResizeArgs),
    /// Show virtual functions, and bring back one that is stuck
    Vf(VfArgs),
}

/// `berth attach`.
#[derive(Debug, Args)]
#[command(
    long_about = "Connect a running container, or any network namespace, to a CNI network.\n\n\
        Runs ADD over the plugins of CONF as a container runtime would and prints the result \
        as JSON. If a plugin fails, the plugins that ran are undone and the error says what to \
        do next. Configuration and result are kept until detach.",
    after_help = "\
Examples:
  berth attach --pid 4711 game.conflist
  berth attach --netns /run/netns/blue --ip 10.1.0.5/24 vlan100.conf
  berth attach --pid 4711 --capability 'ips=[\"10.1.0.5/24\"]' game.conflist"
)]
pub(crate) struct AttachArgs {
    /// The network namespace, by path
    #[arg(
        long,
        value_name = "PATH",
        required_unless_present = "pid",
        conflicts_with = "pid"
    )]
    pub(crate) netns: Option<PathBuf>,
    /// The network namespace of this process
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pid: Option<u32>,
    /// Container id given to the plugins [default: pid-PID-STARTTIME, or the file name of PATH]
    #[arg(long, value_name = "ID", value_parser = container_id)]
    pub(crate) container_id: Option<String>,
    /// Name of the interface in the container
    #[arg(long, value_name = "NAME", default_value = "eth0", value_parser = ifname)]
    pub(crate) ifname: IfName,
    /// Address for the interface, with its prefix length; may be repeated
    #[arg(long, value_name = "ADDRESS/LEN", value_parser = address)]
    pub(crate) ip: Vec<IpNetwork>,
    /// Hardware address for the interface
    #[arg(long, value_name = "MAC", value_parser = mac)]
    pub(crate) mac: Option<MacAddr>,
    /// Extra arguments for the plugins (CNI_ARGS)
    #[arg(long, value_name = "KEY=VALUE;...")]
    pub(crate) args: Option<String>,
    /// A capability's value (runtimeConfig); may be repeated
    #[arg(long = "capability", value_name = "NAME=JSON", value_parser = capability)]
    pub(crate) capabilities: Vec<(String, Value)>,
    /// Where the plugins are
    #[arg(long, value_name = "DIR[:DIR]", long_help = CNI_PATH_HELP)]
    pub(crate) cni_path: Option<String>,
    /// Network configuration, a .conf or .conflist file
    #[arg(value_name = "CONF")]
    pub(crate) conf: PathBuf,
}

const CNI_PATH_HELP: &str = "Where the plugins are [default: /opt/cni/bin, /usr/lib/cni, and the \
    directory of berth itself]";

/// `berth detach`.
#[derive(Debug, Args)]
#[command(
    long_about = "Undo an attach.\n\n\
        Runs DEL over the plugins in reverse order, with the configuration and the result that \
        attach kept. It may be repeated: what is gone already is no error, and an attachment \
        nobody knows is a note. The container may have ended.",
    after_help = "\
Examples:
  berth detach --pid 4711
  berth detach --netns /run/netns/blue --ifname net1
  berth detach --container-id web-1 --all
  berth detach --container-id web-1 --ifname net1 vlan100.conf"
)]
pub(crate) struct DetachArgs {
    /// The network namespace, by the path given to attach
    #[arg(
        long,
        value_name = "PATH",
        required_unless_present_any = ["pid", "container_id"],
        conflicts_with = "pid"
    )]
    pub(crate) netns: Option<PathBuf>,
    /// The process given to attach; it may have ended
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pid: Option<u32>,
    /// Container id given to attach
    #[arg(long, value_name = "ID", value_parser = container_id)]
    pub(crate) container_id: Option<String>,
    /// Name of the interface in the container
    #[arg(long, value_name = "NAME", default_value = "eth0", value_parser = ifname)]
    pub(crate) ifname: IfName,
    /// Every attachment of the container
    #[arg(long, conflicts_with_all = ["ifname", "conf"])]
    pub(crate) all: bool,
    /// Where the plugins are
    #[arg(long, value_name = "DIR[:DIR]", long_help = CNI_PATH_HELP)]
    pub(crate) cni_path: Option<String>,
    /// Network configuration, for what was not attached by berth
    #[arg(value_name = "CONF")]
    pub(crate) conf: Option<PathBuf>,
}

/// `berth doctor`.
#[derive(Debug, Args)]
#[command(
    long_about = "Say what this node can do for Berth, what it cannot, and what to do about it.\n\n\
        Only reads. Each check is ok, limited (works in part), missing, or unknown (could not \
        be read, with the reason). Exit status 0 whatever was found; with --strict 1 if \
        something is missing.",
    after_help = "\
Examples:
  berth doctor
  berth doctor --area vlan,disk --strict
  berth doctor -o json"
)]
pub(crate) struct DoctorArgs {
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Only these areas; may be repeated or separated by commas
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) area: Vec<Area>,
    /// Exit with 1 if something is missing
    #[arg(long)]
    pub(crate) strict: bool,
    /// Show the checks that are ok one by one, too
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// Form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs: stable, fields are only ever added.
    Json,
}

/// The specification's alphabet for container ids.
pub(crate) fn container_id(text: &str) -> Result<String, String> {
    let mut chars = text.chars();
    let starts = chars.next().is_some_and(|c| c.is_ascii_alphanumeric());
    if starts && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
        return Ok(text.to_owned());
    }
    Err("a container id starts with a letter or digit and holds letters, digits, _ . -".into())
}

fn ifname(text: &str) -> Result<IfName, String> {
    text.parse::<IfName>().map_err(|e| e.to_string())
}

fn mac(text: &str) -> Result<MacAddr, String> {
    text.parse::<MacAddr>().map_err(|e| e.to_string())
}

/// An address with its prefix length: a bare one would silently mean /32.
fn address(text: &str) -> Result<IpNetwork, String> {
    if !text.contains('/') {
        return Err("the prefix length is missing; write it as 10.1.0.5/24".into());
    }
    text.parse::<IpNetwork>().map_err(|e| e.to_string())
}

fn capability(text: &str) -> Result<(String, Value), String> {
    let (name, json) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("write NAME=JSON, for example ips=[\"10.1.0.5/24\"]")?;
    let value = serde_json::from_str(json)
        .map_err(|e| format!("the value of {name} is not JSON ({e}); a text needs quotes"))?;
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests;
