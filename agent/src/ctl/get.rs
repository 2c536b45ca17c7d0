//! `berth get`: the table, and the same as JSON.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use berth_kernel::Root;

use crate::api::WorkloadList;
use crate::cli::size::human;
use crate::cli::{GetArgs, Output};
use crate::client::{Ask, Client};
use crate::engine::handle::View;
use crate::spec::{CpuSpec, DiskSpec, IoSpec, WorkloadId};
use crate::vf::list::table;

/// Shows on `out`; that there is nothing is a note.
pub(crate) fn run(
    args: &GetArgs,
    root: &Root,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<ExitCode> {
    let client = Client::new(root)?;
    if args.output == Output::Json {
        let path = args
            .id
            .as_ref()
            .map_or("/v1/workloads".to_owned(), super::path_of);
        super::json(&client.ask(&Ask::get(path))?.body, out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let views = views(&client, args.id.as_ref())?;
    if views.is_empty() {
        writeln!(
            notes,
            "berth: there are no workloads; berth apply -f FILE makes one"
        )?;
    } else {
        text(&views, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The named workload, or all.
pub(super) fn views(client: &Client, id: Option<&WorkloadId>) -> Result<Vec<View>> {
    match id {
        Some(id) => Ok(vec![super::asked(client, &Ask::get(super::path_of(id)))?]),
        None => {
            let list: WorkloadList = super::asked(client, &Ask::get("/v1/workloads"))?;
            Ok(list.workloads)
        }
    }
}

/// The table, and below it each condition in full.
pub(super) fn text(views: &[View], out: &mut dyn Write) -> io::Result<()> {
    let head = [
        "ID",
        "STATE",
        "CPUS",
        "MEMORY",
        "DISK",
        "IO",
        "REPAIRS",
        "CONDITIONS",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(views.iter().map(row));
    table(&rows, out)?;
    for view in views {
        conditions(view, out)?;
    }
    Ok(())
}

fn row(view: &View) -> [String; 8] {
    let spec = &view.spec;
    let kinds = view
        .conditions
        .iter()
        .map(|condition| condition.kind.clone());
    [
        view.id.to_string(),
        view.state.as_str().to_owned(),
        cpus(view),
        spec.memory
            .as_ref()
            .map_or_else(none, |memory| human(memory.max_bytes)),
        list(spec.disk.iter().map(disk)),
        list(spec.io.iter().map(io_wish)),
        view.repairs.to_string(),
        list(kinds),
    ]
}

/// Writes what is not as wished.
pub(super) fn conditions(view: &View, out: &mut dyn Write) -> io::Result<()> {
    for condition in &view.conditions {
        let (kind, object) = (&condition.kind, &condition.object);
        writeln!(out, "{}: {kind}: {object}", view.id)?;
        writeln!(out, "  reason: {}", condition.reason)?;
        writeln!(out, "  next:   {}", condition.remedy)?;
    }
    Ok(())
}

/// Its own CPUs, else what of the shared pool is booked.
fn cpus(view: &View) -> String {
    match (&view.cpus, &view.spec.cpu) {
        (Some(cpus), _) => cpus.to_string(),
        (
            None,
            Some(CpuSpec {
                cores: Some(cores), ..
            }),
        ) => format!("{cores} cores"),
        (
            None,
            Some(CpuSpec {
                cpus: Some(cpus), ..
            }),
        ) => format!("{cpus} cpus"),
        (None, _) => none(),
    }
}

fn disk(disk: &DiskSpec) -> String {
    format!("{}={}", disk.path.display(), human(disk.limit_bytes))
}

fn io_wish(io: &IoSpec) -> String {
    let share = io.share.map(|share| format!("share {share}"));
    let weight = io.weight.map(|weight| format!("weight {weight}"));
    let read = io
        .read_bytes_per_sec
        .map(|bytes| format!("read {}/s", human(bytes)));
    let write = io
        .write_bytes_per_sec
        .map(|bytes| format!("write {}/s", human(bytes)));
    let wishes: Vec<_> = [share, weight, read, write].into_iter().flatten().collect();
    format!("{}={}", io.path.display(), wishes.join(" "))
}

fn list(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<_> = parts.collect();
    if parts.is_empty() {
        none()
    } else {
        parts.join(", ")
    }
}

fn none() -> String {
    "-".to_owned()
}
