//! Puts a CNI bridge plugin through the conformance suite: see docs/conformance.md.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use berth_tests::conformance::{self, Format, Report, Runner, Subject, comparison};
use berth_tests::{Context, Result};
use clap::Parser;
use serde_json::Value;

/// Puts a CNI bridge plugin through the conformance suite.
///
/// Each case runs in network, mount and pid namespaces of its own, so root is needed and
/// nothing of the machine is touched. Exit status 1: a case failed; 2: it could not run.
#[derive(Debug, Parser)]
#[command(name = "cni-conformance", version)]
struct Arguments {
    /// The plugin's program.
    #[arg(long, value_name = "PATH", required_unless_present_any = ["compare", "list"])]
    plugin: Option<PathBuf>,
    /// What the plugin claims and how it says things (JSON).
    #[arg(long, value_name = "FILE", required_unless_present_any = ["compare", "list"])]
    template: Option<PathBuf>,
    /// Where the plugin finds IPAM plugins; beside it by default.
    #[arg(long, value_name = "DIR")]
    cni_path: Option<PathBuf>,
    /// table, json or markdown.
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,
    /// How reports call the plugin; by default the template's name and the line in which
    /// the plugin says its version.
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// Runs nothing: prints reports of --format json side by side, as Markdown.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "plugin")]
    compare: Vec<PathBuf>,
    /// Runs nothing: prints the cases.
    #[arg(long)]
    list: bool,
    /// Tells each case on stderr when it has ended, and how long it took.
    #[arg(long, short)]
    verbose: bool,
    /// Only cases with this in their id.
    filter: Option<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cni-conformance: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut out = io::stdout();
    if arguments.list {
        for case in conformance::all() {
            writeln!(out, "{:<34} {} ({})", case.id, case.meaning, case.source)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.compare.is_empty() {
        let reports = arguments
            .compare
            .iter()
            .map(read)
            .collect::<Result<Vec<_>>>()?;
        write!(out, "{}", comparison(&reports)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let plugin = arguments.plugin.as_ref().context("no --plugin")?;
    let template = arguments.template.as_ref().context("no --template")?;
    let subject = Subject::new(plugin, template, arguments.cni_path.clone())?;
    let subject = Arc::new(subject);
    if let Some(code) = conformance::child(&subject) {
        return Ok(code);
    }
    let report = report(arguments, &subject)?;
    write!(out, "{}", report.render(arguments.format))?;
    let failed = report.count("FAIL") > 0;
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn report(arguments: &Arguments, subject: &Arc<Subject>) -> Result<Report> {
    let own: Vec<OsString> = env::args_os().skip(1).collect();
    let runner = Runner::new(Arc::clone(subject), own);
    let filter = arguments.filter.as_deref().unwrap_or_default();
    let cases = conformance::all();
    let cases = cases.into_iter().filter(|case| case.id.contains(filter));
    let mut outcomes = Vec::new();
    for case in cases {
        let start = Instant::now();
        let outcome = runner.run(&case);
        if arguments.verbose {
            let seconds = start.elapsed().as_secs_f64();
            eprintln!("{seconds:6.2} s  {}: {}", case.id, outcome.word());
        }
        outcomes.push((case, outcome));
    }
    let subject = match &arguments.label {
        Some(label) => label.clone(),
        None => format!("{} ({})", subject.template.name, subject.about()?),
    };
    Ok(Report { subject, outcomes })
}

fn read(path: &PathBuf) -> Result<Value> {
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))
}
