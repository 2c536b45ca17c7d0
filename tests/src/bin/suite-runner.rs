//! Runs suites inside the lab guest, each in fresh namespaces, and compares the guest
//! before and after: `suite-runner SUITE... [-- ARG...]`.
//!
//! What a suite leaves changed counts as one failed test of that suite, with the
//! difference printed. The last line is `N passed, N failed, N skipped` over all.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::ops::AddAssign;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use berth_tests::{Context, Extent, Result, Snapshot, anyhow};

/// How long the kernel may take to clear away what the last test had: a namespace with
/// a physical port is taken apart with a grace period for each link in it.
const SETTLE_LIMIT: Duration = Duration::from_secs(15);

/// Where a suite writes its counts.
const COUNTS: &str = "/tmp/suite-counts";

/// Where the agent's configuration is.
const CONFIGURATION: &str = "/etc/berth";

/// Results of one suite, or of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Counts {
    /// The three numbers a suite writes: passed, failed, skipped.
    fn parse(text: &str) -> Result<Self> {
        let numbers: Vec<u64> = text
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .with_context(|| format!("not three numbers: {text:?}"))?;
        match numbers[..] {
            [passed, failed, skipped] => Ok(Self {
                passed,
                failed,
                skipped,
            }),
            _ => Err(anyhow!("not three numbers: {text:?}")),
        }
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let split = words.iter().position(|word| word == "--");
    let (suites, rest) = words.split_at(split.unwrap_or(words.len()));
    match run_all(suites, rest.get(1..).unwrap_or_default()) {
        Ok(counts) if counts.failed == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("suite-runner: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run_all(suites: &[String], arguments: &[String]) -> Result<Counts> {
    let mut out = io::stdout();
    // Each test gets an empty one of its own, mounted there.
    fs::create_dir_all(CONFIGURATION).with_context(|| format!("make {CONFIGURATION}"))?;
    let mut total = Counts::default();
    for suite in suites {
        let start = Instant::now();
        writeln!(out, "== suite {suite}")?;
        total += run_one(suite, arguments, &mut out)?;
        let seconds = start.elapsed().as_secs_f64();
        writeln!(out, "== suite {suite} took {seconds:.1} s\n")?;
    }
    let Counts {
        passed,
        failed,
        skipped,
    } = total;
    writeln!(out, "{passed} passed, {failed} failed, {skipped} skipped")?;
    Ok(total)
}

/// Runs a suite between two looks at the guest.
fn run_one(suite: &str, arguments: &[String], out: &mut impl Write) -> Result<Counts> {
    let before =
        Snapshot::take(Extent::Everything).context("look at the guest before the suite")?;
    let mut counts = run_suite(suite, arguments, out)?;
    if let Err(leak) = before.must_return(SETTLE_LIMIT) {
        writeln!(out, "suite {suite} leaks: {leak:#}")?;
        counts.failed += 1;
    }
    Ok(counts)
}

/// A suite that ends without counting has crashed, and that is a failure too.
fn run_suite(suite: &str, arguments: &[String], out: &mut impl Write) -> Result<Counts> {
    let dir = env::var_os("BERTH_BIN_DIR").context("BERTH_BIN_DIR is not set")?;
    fs::remove_file(COUNTS).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "--"])
        .arg(Path::new(&dir).join(suite))
        .args(arguments)
        .env("BERTH_LAB", "1")
        .env("BERTH_COUNTS", COUNTS)
        .status()
        .with_context(|| format!("start suite {suite}"))?;
    let written = fs::read_to_string(COUNTS).context("the suite wrote no counts");
    match written.and_then(|text| Counts::parse(&text)) {
        Ok(counts) => Ok(counts),
        Err(error) => {
            writeln!(out, "suite {suite} ended with {status}: {error:#}")?;
            Ok(Counts {
                failed: 1,
                ..Counts::default()
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_three_numbers() {
        let counts = Counts::parse("3 1 2\n").unwrap();
        assert_eq!((counts.passed, counts.failed, counts.skipped), (3, 1, 2));
        for bad in ["", "1 2", "1 2 3 4", "a b c", "-1 0 0"] {
            assert!(Counts::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn counts_add_up() {
        let mut total = Counts::parse("1 2 3").unwrap();
        total += Counts::parse("10 20 30").unwrap();
        assert_eq!(total, Counts::parse("11 22 33").unwrap());
    }
}
