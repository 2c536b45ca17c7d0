//! `berth apply`, `get`, `diff`, `explain`, `resize`, `delete`, `release`, `events`,
//! `capacity`: what may be typed.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::{Output, size};
use crate::spec::WorkloadId;

/// `berth apply`.
#[derive(Debug, Args)]
#[command(
    long_about = "Have specs enforced: a new workload is made, one that is there is resized \
        live.\n\n\
        FILE holds one spec as JSON, or a list of them, which are applied in order until one \
        is refused. Each is done wholly or not at all. What was done is printed.",
    after_help = "\
Examples:
  berth apply -f game-17.json --dry-run
  berth apply -f game-17.json
  berth apply -f - --if-match 42"
)]
pub(crate) struct ApplyArgs {
    /// The spec or specs; - reads standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Only if the node's generation is N
    #[arg(long, value_name = "N")]
    pub(crate) if_match: Option<u64>,
}

/// `berth get`.
#[derive(Debug, Args)]
#[command(
    long_about = "Show workloads: what each has, how often something of it was put right, and \
        what is not as wished.",
    after_help = "\
Examples:
  berth get
  berth get game-17
  berth get -o json"
)]
pub(crate) struct GetArgs {
    /// Only this workload
    #[arg(value_name = "ID", value_parser = id)]
    pub(crate) id: Option<WorkloadId>,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// `berth diff`.
#[derive(Debug, Args)]
#[command(
    long_about = "Compare what is wished with what the kernel says.\n\n\
        Prints what differs. Exit status 0 if nothing does, 1 if something does.",
    after_help = "\
Examples:
  berth diff
  berth diff game-17"
)]
pub(crate) struct DiffArgs {
    /// Only this workload
    #[arg(value_name = "ID", value_parser = id)]
    pub(crate) id: Option<WorkloadId>,
}

/// `berth explain`.
#[derive(Debug, Args)]
#[command(
    long_about = "Say why a workload has the CPUs and NUMA nodes it has, and what is not as \
        wished.",
    after_help = "\
Examples:
  berth explain game-17
  berth explain game-17 -o json"
)]
pub(crate) struct ExplainArgs {
    /// The workload
    #[arg(value_name = "ID", value_parser = id)]
    pub(crate) id: WorkloadId,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// `berth resize`.
#[derive(Debug, Args)]
#[command(
    long_about = "Give a running workload more or less of what its spec has.\n\n\
        All wishes are done together or none is. Growing keeps the cores it has; shrinking \
        memory never kills. SIZE is bytes, or a whole number with K, M, G, T in steps of \
        1024. What the spec does not have yet is added with berth apply.",
    after_help = "\
Examples:
  berth resize game-17 --cores 6 --memory 12G --dry-run
  berth resize game-17 --disk /data/game-17=80G
  berth resize game-17 --io-share /data=0.5",
    group = ArgGroup::new("wish")
        .args(["cores", "cpus", "memory", "disk", "io_share"])
        .required(true)
        .multiple(true)
)]
pub(crate) struct ResizeArgs {
    /// The workload
    #[arg(value_name = "ID", value_parser = id)]
    pub(crate) id: WorkloadId,
    /// Physical cores
    #[arg(long, value_name = "N", conflicts_with = "cpus")]
    pub(crate) cores: Option<u32>,
    /// Logical CPUs, where the spec has smt any
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<u32>,
    /// Memory
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) memory: Option<u64>,
    /// Quota of a directory; may be repeated
    #[arg(long, value_name = "PATH=SIZE", value_parser = disk)]
    pub(crate) disk: Vec<(PathBuf, u64)>,
    /// Share of a disk's capability, above 0, at most 1; may be repeated
    #[arg(long, value_name = "PATH=SHARE", value_parser = io_share)]
    pub(crate) io_share: Vec<(PathBuf, f64)>,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `berth delete`.
#[derive(Debug, Args)]
#[command(
    long_about = "Enforce nothing for a workload any more: everything that was set for it is \
        put back. Its processes and files stay.",
    after_help = "\
Examples:
  berth delete game-17 --dry-run
  berth delete game-17"
)]
pub(crate) struct DeleteArgs {
    /// The workload
    #[arg(value_name = "ID", value_parser = id)]
    pub(crate) id: WorkloadId,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `berth release`.
#[derive(Debug, Args)]
#[command(
    long_about = "Delete every workload: the node is as before the first one.\n\n\
        Stopping the agent leaves what is enforced as it is; this takes it off. A running \
        agent is asked to; where none runs, this command does it itself, as root.",
    after_help = "\
Examples:
  berth release --all --dry-run
  berth release --all
  systemctl stop berth && berth release --all"
)]
pub(crate) struct FreeArgs {
    /// Every workload; has to be said
    #[arg(long, required = true)]
    pub(crate) all: bool,
    /// Configuration file of the agent that does not run [default: /etc/berth/agent.toml,
    /// if it exists]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `berth events`.
#[derive(Debug, Args)]
#[command(
    long_about = "Show what the agent did: changes, repairs, workloads lost and returned.\n\n\
        The last thousand are kept. With --watch it goes on with those to come.",
    after_help = "\
Examples:
  berth events
  berth events --watch
  berth events --since 1790000000000 -o json"
)]
pub(crate) struct EventsArgs {
    /// Go on with those to come
    #[arg(long)]
    pub(crate) watch: bool,
    /// Only those after number N
    #[arg(long, value_name = "N")]
    pub(crate) since: Option<u64>,
    /// Form of the answer; json is one event a line
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// `berth capacity`.
#[derive(Debug, Args)]
#[command(
    long_about = "Show what this node has, what is committed and what is free.\n\n\
        With --watch again whenever that changes.",
    after_help = "\
Examples:
  berth capacity
  berth capacity -o json
  berth capacity --watch"
)]
pub(crate) struct CapacityArgs {
    /// Form of the answer; json with --watch is one report a line
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Again whenever it changes
    #[arg(long)]
    pub(crate) watch: bool,
}

fn id(text: &str) -> Result<WorkloadId, String> {
    text.parse()
}

fn disk(text: &str) -> Result<(PathBuf, u64), String> {
    let (path, value) = of_path(text, "/data/game-17=80G")?;
    Ok((path, size::parse(value)?))
}

fn io_share(text: &str) -> Result<(PathBuf, f64), String> {
    let (path, value) = of_path(text, "/data=0.25")?;
    let share = value
        .parse()
        .ok()
        .filter(|share| *share > 0.0 && *share <= 1.0);
    let share = share.ok_or_else(|| format!("{value:?} is no share: above 0, at most 1"))?;
    Ok((path, share))
}

/// Splits at the last `=`: a path may hold one, a value never does.
fn of_path<'a>(text: &'a str, example: &str) -> Result<(PathBuf, &'a str), String> {
    let parts = text
        .rsplit_once('=')
        .filter(|(path, _)| path.starts_with('/'));
    let (path, value) = parts.ok_or_else(|| format!("write {example}, the path in full"))?;
    Ok((path.into(), value))
}

#[cfg(test)]
mod tests;
