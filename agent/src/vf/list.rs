//! `berth vf list`: the table, and the same as JSON.

use std::io::{self, Write};

use anyhow::Result;
use berth_kernel::Root;
use berth_state::Claims;
use serde::Serialize;

use super::survey::{self, Entry};
use crate::cli::{ListArgs, Output};

/// The answer: stable, `schema` rises when a field changes its meaning.
#[derive(Debug, Serialize)]
struct Answer {
    schema: u32,
    vfs: Vec<Entry>,
}

/// Lists on `out`; that there is nothing is a note, and so are claims of VFs that went.
pub(super) fn run(
    args: &ListArgs,
    root: &Root,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<()> {
    let vfs: Vec<Entry> = survey::all(root)?.iter().map(Entry::of).collect();
    for (address, _) in Claims::new(root).list()? {
        if vfs.iter().all(|vf| vf.address != address) {
            let note = "there is a claim of it and no such VF; berth vf release gives it up";
            writeln!(notes, "berth: VF {address}: {note}")?;
        }
    }
    match args.output {
        Output::Json => {
            let answer = Answer { schema: 1, vfs };
            serde_json::to_writer_pretty(&mut *out, &answer).map_err(io::Error::from)?;
            writeln!(out)?;
        }
        Output::Text if vfs.is_empty() => writeln!(
            notes,
            "berth: this node has no VFs; berth bootstrap vfs PF=COUNT makes some"
        )?,
        Output::Text => text(&vfs, out)?,
    }
    Ok(())
}

fn text(vfs: &[Entry], out: &mut dyn Write) -> io::Result<()> {
    let head = ["ADDRESS", "PF", "VF", "NUMA", "DRIVER", "WHERE", "STATE"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(vfs.iter().map(row));
    table(&rows, out)
}

fn row(vf: &Entry) -> [String; 7] {
    let none = || "-".to_owned();
    let pf = vf.pf_name.as_ref().map(ToString::to_string);
    [
        vf.address.to_string(),
        pf.unwrap_or_else(|| vf.pf.to_string()),
        vf.index.to_string(),
        vf.numa_node.map_or_else(none, |node| node.to_string()),
        vf.driver.clone().unwrap_or_else(none),
        vf.whereabouts(),
        vf.standing(),
    ]
}

/// Writes rows with their columns below each other; the last column is left ragged.
pub(crate) fn table<const N: usize>(rows: &[[String; N]], out: &mut dyn Write) -> io::Result<()> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
