//! `berth resize`: the spec is read, changed, and sent under the condition that nothing
//! else changed in between; if it did, again.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use berth_kernel::Root;
use hyper::Method;
use serde_json::{Map, Value, json};

use super::plan;
use crate::cli::ResizeArgs;
use crate::client::{Answer, Ask, Client, Refused};
use crate::engine::handle::{Outcome, View};
use crate::refusal::Code;
use crate::spec::Spec;

/// How often it is tried while others change the node.
const TRIES: u32 = 8;

/// Resizes on the node's agent, tells on `out`.
pub(crate) fn run(args: &ResizeArgs, root: &Root, out: &mut dyn Write) -> Result<ExitCode> {
    let client = Client::new(root)?;
    let mut tries = 1;
    let outcome = loop {
        match once(args, &client) {
            Err(error) if is_stale(&error) && tries < TRIES => tries += 1,
            done => break done?,
        }
    };
    let done = match outcome.plan.is_empty() {
        true => "unchanged".to_owned(),
        false => plan::verb("resized", args.dry_run),
    };
    let head = format!("{}: {done}, generation {}", args.id, outcome.generation);
    plan::tell(&head, &outcome, out)?;
    Ok(ExitCode::SUCCESS)
}

fn once(args: &ResizeArgs, client: &Client) -> Result<Outcome> {
    let path = super::path_of(&args.id);
    let Answer { generation, body } = client.ask(&Ask::get(path.clone()))?;
    let view: View = super::read(body)?;
    let ask = Ask {
        if_match: generation,
        body: Some(patch(args, &view.spec)?),
        ..Ask::new(Method::PATCH, super::dry(path, args.dry_run))
    };
    super::asked(client, &ask)
}

fn is_stale(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Refused>();
    refused.is_some_and(|Refused(refusal)| refusal.code == Code::StaleGeneration)
}

/// The merge patch that makes `spec` as wished. Lists are replaced whole by one, so
/// those that change are in it with all that they had.
pub(super) fn patch(args: &ResizeArgs, spec: &Spec) -> Result<Value> {
    let mut patch = Map::new();
    if args.cores.is_some() || args.cpus.is_some() {
        if spec.cpu.is_none() {
            bail!(absent(args, "cpu"));
        }
        // Null takes the other one away.
        patch.insert(
            "cpu".into(),
            json!({"cores": args.cores, "cpus": args.cpus}),
        );
    }
    if let Some(bytes) = args.memory {
        if spec.memory.is_none() {
            bail!(absent(args, "memory"));
        }
        patch.insert("memory".into(), json!({"max_bytes": bytes}));
    }
    if !args.disk.is_empty() {
        let mut disks = spec.disk.clone();
        for (path, bytes) in &args.disk {
            let disk = disks.iter_mut().find(|disk| disk.path == *path);
            disk.ok_or_else(|| no_path(args, "disk", path))?.limit_bytes = *bytes;
        }
        patch.insert("disk".into(), json!(disks));
    }
    if !args.io_share.is_empty() {
        let mut entries = spec.io.clone();
        for (path, share) in &args.io_share {
            let entry = entries.iter_mut().find(|entry| entry.path == *path);
            let entry = entry.ok_or_else(|| no_path(args, "io", path))?;
            // One of three ways is chosen.
            (entry.read_bytes_per_sec, entry.write_bytes_per_sec) = (None, None);
            (entry.weight, entry.share) = (None, Some(*share));
        }
        patch.insert("io".into(), json!(entries));
    }
    Ok(Value::Object(patch))
}

fn absent(args: &ResizeArgs, part: &str) -> String {
    let id = &args.id;
    format!(
        "workload {id}: resize its {part}\n  reason: its spec has no {part}, so there is nothing \
         to resize\n  next:   add it to the spec: berth apply -f FILE"
    )
}

fn no_path(args: &ResizeArgs, part: &str, path: &Path) -> anyhow::Error {
    let (id, path) = (&args.id, path.display());
    anyhow::anyhow!(
        "workload {id}: resize {part} {path}\n  reason: {part} of its spec does not have this \
         path\n  next:   take a path as berth get {id} shows it, or add it: berth apply -f FILE"
    )
}
