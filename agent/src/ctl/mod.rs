//! What the command line does about workloads: it asks the agent and tells the answer.
//! Only the release of all of them is done without an agent, too ([`alone`]).

mod alone;
pub(crate) mod apply;
pub(crate) mod capacity;
pub(crate) mod delete;
pub(crate) mod diff;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod get;
mod plan;
pub(crate) mod resize;

use std::io::{self, Write};

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::client::{Ask, Client};
use crate::spec::WorkloadId;

/// The path of a workload.
fn path_of(id: &WorkloadId) -> String {
    format!("/v1/workloads/{id}")
}

/// `path`, as a dry run if wished.
fn dry(path: String, dry_run: bool) -> String {
    if dry_run {
        path + "?dry_run=true"
    } else {
        path
    }
}

/// Asks and reads the answer as a `T`.
fn asked<T: DeserializeOwned>(client: &Client, ask: &Ask) -> Result<T> {
    read(client.ask(ask)?.body)
}

/// What the agent sent, as a `T`.
fn read<T: DeserializeOwned>(body: Value) -> Result<T> {
    let why = "the agent's answer is none that this berth knows; both have to be of one version";
    serde_json::from_value(body).context(why)
}

fn json(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
    writeln!(out)
}

#[cfg(test)]
mod tests;
