//! The report as text and as JSON.

use std::io::{self, Write};

use super::{Check, Report, Status};

/// One JSON document.
pub(super) fn json(report: &Report, out: &mut dyn Write) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

/// Problems first, each with reason and remedy; what works as one line, or one
/// line each if `verbose`.
pub(super) fn text(report: &Report, verbose: bool, out: &mut dyn Write) -> io::Result<()> {
    let kernel = match report.node.kernel.as_str() {
        "" => "unknown",
        release => release,
    };
    writeln!(out, "kernel {kernel}, cgroup {}", report.node.cgroup)?;
    for status in [Status::Missing, Status::Limited, Status::Unknown] {
        problems(report, status, out)?;
    }
    if verbose {
        writeln!(out)?;
        for check in report.checks.iter().filter(|c| c.status == Status::Ok) {
            line(check, &check.reason, out)?;
        }
    }
    let count = |status| report.count(status);
    let hint = if verbose {
        ""
    } else {
        "; --verbose shows what is ok"
    };
    writeln!(
        out,
        "\n{} ok, {} limited, {} missing, {} unknown{hint}",
        count(Status::Ok),
        count(Status::Limited),
        count(Status::Missing),
        count(Status::Unknown),
    )
}

/// The checks of one outcome. A reason and remedy shared with the check above
/// (no kernel configuration, not root) are said once, below the last of them.
fn problems(report: &Report, status: Status, out: &mut dyn Write) -> io::Result<()> {
    let checks: Vec<&Check> = report
        .checks
        .iter()
        .filter(|c| c.status == status)
        .collect();
    if !checks.is_empty() {
        writeln!(out)?;
    }
    for (index, check) in checks.iter().enumerate() {
        line(check, &check.effect, out)?;
        let same = |next: &&Check| next.reason == check.reason && next.remedy == check.remedy;
        if checks.get(index + 1).is_some_and(same) {
            continue;
        }
        for (label, text) in [("reason", &check.reason), ("remedy", &check.remedy)] {
            if !text.is_empty() {
                writeln!(out, "                {label}: {text}")?;
            }
        }
    }
    Ok(())
}

fn line(check: &Check, text: &str, out: &mut dyn Write) -> io::Result<()> {
    let (status, area) = (check.status.name(), check.area.name());
    let colon = if text.is_empty() { "" } else { ": " };
    writeln!(out, "{status:<8} {area:<6} {}{colon}{text}", check.object)
}
