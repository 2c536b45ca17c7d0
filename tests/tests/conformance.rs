//! Suite `conformance`: our bridge plugin in both layouts through the suite that
//! `cni-conformance` puts any plugin through. Cases that tell nothing of VLANs run once.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use berth_tests::conformance::{self, Subject};
use berth_tests::{Context, Result, Test, plugin, suite};

/// Where the templates are: in the guest, whose tree is elsewhere, and where it was built.
const DIRS: [&str; 2] = [
    "/berth/src/tests/conformance",
    concat!(env!("CARGO_MANIFEST_DIR"), "/conformance"),
];

fn main() -> ExitCode {
    match tests() {
        Ok(tests) => suite(tests),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn tests() -> Result<Vec<Test>> {
    let mut tests = of("vlan-aware", |_| true)?;
    tests.extend(of("per-vlan", conformance::Case::is_of_vlans)?);
    Ok(tests)
}

/// The cases of one layout that our plugin claims in it.
fn of(layout: &str, wanted: impl Fn(&conformance::Case) -> bool) -> Result<Vec<Test>> {
    let file = format!("cni-bridge-vlan.{layout}.json");
    let plugin = plugin::binary("cni-bridge-vlan")?;
    let subject = Arc::new(Subject::new(&plugin, &template(&file)?, None)?);
    let cases = conformance::all().into_iter().filter(|case| wanted(case));
    let claimed = cases.filter(|case| case.unclaimed(&subject.template).is_none());
    Ok(claimed.map(|case| case.test(&subject)).collect())
}

fn template(file: &str) -> Result<PathBuf> {
    let paths = DIRS.iter().map(|dir| Path::new(dir).join(file));
    let mut there = paths.filter(|path| path.is_file());
    there
        .next()
        .with_context(|| format!("no {file} in {DIRS:?}"))
}
