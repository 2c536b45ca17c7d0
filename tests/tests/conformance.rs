//! Suite `conformance`: our bridge plugin in both layouts through the suite that
//! `cni-conformance` puts any plugin through. Cases that tell nothing of VLANs run once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use berth_tests::conformance::{self, Case, Subject};
use berth_tests::{
    Context, Node, Result, Space, Test, call, ensure, is_emulated, plugin, suite, test,
};

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
    let in_lab = is_emulated();
    let mut tests = of("vlan-aware", |case| !in_lab || is_of_kernel(case))?;
    tests.extend(of("per-vlan", Case::is_of_vlans)?);
    if !in_lab {
        let limit = Duration::from_secs(300);
        tests.push(test("no_stub_passes", &[], no_stub_passes).limit(limit));
    }
    Ok(tests)
}

/// Whether a kernel may lack what it needs. Emulation is slow, so in the lab the other cases
/// are not run again that every machine can run; `scripts/conformance` runs all there.
fn is_of_kernel(case: &Case) -> bool {
    case.is_of_vlans() || case.has_needs()
}

/// A case that a plugin passes which always succeeds, and one that always fails,
/// shows nothing.
fn no_stub_passes(node: &Node) -> Result<()> {
    let all = conformance::all();
    let fails = "echo '{\"code\": 100, \"msg\": \"no\"}'; exit 1";
    let passed = passed_by_stub(node, "fails", fails, &all)?;
    ensure!(passed.len() * 4 < all.len(), "too many: {passed:?}");
    let passed = passed_by_stub(node, "succeeds", "exit 0", &passed)?;
    ensure!(passed.is_empty(), "passed by everything: {passed:?}");
    Ok(())
}

/// The cases that a plugin passes which does nothing but this.
fn passed_by_stub(node: &Node, name: &str, script: &str, cases: &[Case]) -> Result<Vec<Case>> {
    call::install(name, &format!("#!/bin/sh\n{script}\n"))?;
    let plugin = Path::new(call::PLUGINS).join(name);
    let subject = Subject::new(&plugin, &template("cni-bridge-vlan.vlan-aware.json")?, None)?;
    let mut passed = Vec::new();
    for case in cases {
        let held = catch_unwind(AssertUnwindSafe(|| case.hold(node, &subject)));
        if matches!(held, Ok(Ok(()))) {
            passed.push(case.clone());
        }
        for link in node.link_names()?.iter().filter(|link| *link != "lo") {
            // The other end of a pair goes with the first.
            node.ip(&format!("link del {link}")).ok();
        }
    }
    Ok(passed)
}

/// The cases of one layout that our plugin claims in it.
fn of(layout: &str, wanted: impl Fn(&Case) -> bool) -> Result<Vec<Test>> {
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
