//! `berth attach` and `berth detach`: what a container runtime does with a CNI
//! configuration, by hand, also for a container that already runs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use berth_cni::client::{Attachment, Client, NetworkList};
use berth_cni::{CniError, Io, Log};
use berth_kernel::{Root, cgroup};
use berth_state::{Key, dirs};
use serde_json::Value;

use crate::cli::{AttachArgs, DetachArgs};

mod refused;
mod said;
mod target;
#[cfg(test)]
mod tests;
mod wishes;

use refused::Refused;
use said::Said;
use target::Target;
use wishes::Wishes;

/// Where plugins are on most distributions.
const PLUGIN_DIRS: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];

/// The node as a runtime sees it.
#[derive(Debug)]
pub(crate) struct Runtime {
    root: Root,
    /// Where plugins are searched unless the caller says otherwise.
    plugins: Vec<PathBuf>,
}

impl Runtime {
    /// The host's: the usual directories, and the one this program is in, so that an
    /// unpacked release works where it lies.
    pub(crate) fn host(root: Root) -> Self {
        let own = std::env::current_exe().ok();
        let own = own.as_deref().and_then(Path::parent).map(Path::to_owned);
        let usual = PLUGIN_DIRS.iter().map(PathBuf::from);
        Self {
            root,
            plugins: usual.chain(own).collect(),
        }
    }

    /// A client that searches `cni_path`, if given, and what its plugins say.
    fn client(&self, cni_path: Option<&str>) -> Result<(Client, Said)> {
        let path = match cni_path {
            Some(text) => std::env::split_paths(text).collect(),
            None => self.plugins.clone(),
        };
        let said = Said::default();
        let log = Log::new("client", Box::new(said.clone()));
        // Made here, because the modes of `run/berth` and below are the same whoever
        // comes first.
        let cache = dirs::ensure(&self.root, Path::new("client"))?;
        let client = Client::new(path, cache);
        Ok((client.with(Io::process().env, log), said))
    }
}

/// `berth attach`: the result as JSON on `out`, what plugins say on `notes`.
pub(crate) fn attach(
    args: &AttachArgs,
    runtime: &Runtime,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<ExitCode> {
    let list = load(&args.conf)?;
    let (netns, id) = (args.netns.as_deref(), args.container_id.as_deref());
    let target = Target::find(&runtime.root, netns, args.pid, id)?;
    let result = add(args, &list, &target, runtime, notes)?;
    writeln!(out, "{result:#}")?;
    Ok(ExitCode::SUCCESS)
}

fn load(conf: &Path) -> Result<NetworkList> {
    let list = NetworkList::load(conf);
    Ok(list.map_err(|error| Refused::new("use the network configuration", error))?)
}

fn add(
    args: &AttachArgs,
    list: &NetworkList,
    target: &Target,
    runtime: &Runtime,
    notes: &mut dyn Write,
) -> Result<Value> {
    let key = Key::new(&list.name, &target.container_id, args.ifname.clone())?;
    let process = target.process.as_ref();
    // Beside version 1 the unified hierarchy names processes and limits nothing.
    let unified = cgroup::version(&runtime.root) == cgroup::Version::V2;
    let wishes = Wishes {
        ips: &args.ip,
        mac: args.mac,
        args: args.args.as_deref(),
        capabilities: &args.capabilities,
        cgroup: process
            .filter(|_| unified)
            .and_then(|process| process.cgroup.as_deref()),
    };
    let spoken = wishes.speak(&list.name, &|name| list.declares(name))?;
    let attachment = Attachment {
        args: spoken.args,
        capabilities: spoken.capabilities,
        ..Attachment::new(key.clone(), Some(target.netns.clone()))
    };
    let (client, said) = runtime.client(args.cni_path.as_deref())?;
    let result = client.add(list, &attachment);
    said.pass_on(result.as_ref().err(), notes)?;
    Ok(result.map_err(|error| Refused::of(&key, "attach", "to", error))?)
}

/// `berth detach`: silent, but for notes on `notes` and the errors of all but the
/// last attachment that failed.
pub(crate) fn detach(
    args: &DetachArgs,
    runtime: &Runtime,
    notes: &mut dyn Write,
) -> Result<ExitCode> {
    let (client, said) = runtime.client(args.cni_path.as_deref())?;
    let known = known(&client)?;
    let list = args.conf.as_deref().map(load).transpose()?;
    let Some(id) = container(args, &runtime.root, &known)? else {
        let pid = args.pid.unwrap_or_default();
        writeln!(notes, "berth: nothing is attached to process {pid}")?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut failed: Option<Refused> = None;
    for key in wanted(args, &id, list.as_ref(), &known, notes)? {
        let attachment = Attachment::new(key.clone(), None);
        let result = client.del(list.as_ref(), &attachment);
        said.pass_on(result.as_ref().err(), notes)?;
        if let Err(error) = result {
            let refused = Refused::of(&key, "detach", "from", error);
            if let Some(before) = failed.replace(refused) {
                writeln!(notes, "berth: {before}")?;
            }
        }
    }
    failed.map_or(Ok(ExitCode::SUCCESS), |refused| Err(refused.into()))
}

/// Every attachment attach remembers.
fn known(client: &Client) -> Result<Vec<Key>, Refused> {
    let unreadable = |error: CniError| Refused::new("look up what is attached", error);
    let mut keys = Vec::new();
    for network in client.networks().map_err(unreadable)? {
        keys.extend(client.attachments(&network).map_err(unreadable)?);
    }
    Ok(keys)
}

/// The id attach gave to the container that is meant now; `None`: nothing is attached.
fn container(args: &DetachArgs, root: &Root, known: &[Key]) -> Result<Option<String>> {
    if let Some(id) = &args.container_id {
        return Ok(Some(id.clone()));
    }
    if let Some(pid) = args.pid {
        let ids: Vec<&str> = known.iter().map(Key::container_id).collect();
        return target::id_of_pid(root, pid, &ids);
    }
    let path = args.netns.as_deref().context("no container is named")?;
    target::id_of_path(path).map(Some)
}

/// The attachments that are meant. What nobody knows is a note: detach may be
/// repeated.
fn wanted(
    args: &DetachArgs,
    id: &str,
    list: Option<&NetworkList>,
    known: &[Key],
    notes: &mut dyn Write,
) -> Result<Vec<Key>> {
    if let Some(list) = list {
        return Ok(vec![Key::new(&list.name, id, args.ifname.clone())?]);
    }
    let of_container = |key: &&Key| key.container_id() == id;
    let (meant, others): (Vec<&Key>, Vec<&Key>) = known
        .iter()
        .filter(of_container)
        .partition(|key| args.all || *key.ifname() == args.ifname);
    if meant.is_empty() {
        let what = match args.all {
            true => "nothing is".to_owned(),
            false => format!("{} is not", args.ifname),
        };
        let others = listed(&others);
        writeln!(notes, "berth: {what} attached to container {id}{others}")?;
    }
    if meant.len() > 1 && !args.all {
        let networks: Vec<&str> = meant.iter().map(|key| key.network()).collect();
        anyhow::bail!(
            "{} of container {id} belongs to several networks: {}; name one by its configuration \
             file, or take all with --all",
            args.ifname,
            networks.join(", ")
        );
    }
    Ok(meant.into_iter().cloned().collect())
}

/// What a container has, as the end of a note.
fn listed(keys: &[&Key]) -> String {
    if keys.is_empty() {
        return String::new();
    }
    let one = |key: &&Key| format!("{} (network {})", key.ifname(), key.network());
    let all: Vec<String> = keys.iter().map(one).collect();
    format!("; it has {}", all.join(", "))
}
