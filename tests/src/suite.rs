//! A suite: its tests as libtest-mimic trials, each run in a process of its own.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::command;
use crate::need::{Need, Probes};
use crate::node::{Node, Port};
use crate::world::{self, Net, Role};

/// Names of suites, with white space between.
const ELSEWHERE: &str = "BERTH_ELSEWHERE";

/// Names the test a child process is to run.
const TRIAL: &str = "BERTH_TRIAL";
/// Set to 1 in the lab guest: an unmet need is a failure there.
const LAB: &str = "BERTH_LAB";
/// A file the counts are written to as `PASSED FAILED SKIPPED`.
const COUNTS: &str = "BERTH_COUNTS";

/// Set to 1: full counts instead of reduced ones.
const SOAK: &str = "BERTH_SOAK";

/// Whether this is the lab guest, where everything is promised and whose CPUs are emulated:
/// slow, and a CPU's share is many times dearer than it is to sleep.
pub fn is_emulated() -> bool {
    is_on(LAB)
}

/// Whether everything is to be run in full, however long it takes.
pub fn is_soak() -> bool {
    is_on(SOAK)
}

fn is_on(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| value == "1")
}

/// A test: what it is called, what it needs, what it does.
#[derive(Clone)]
pub struct Test {
    name: String,
    needs: Vec<Need>,
    ports: Vec<Port>,
    at_home: bool,
    varies: bool,
    limit: Duration,
    body: Body,
}

type Body = Arc<dyn Fn(&Node) -> Result<()> + Send + Sync>;

/// A test of at most 120 s. It passes when `body` returns `Ok` and does not panic.
pub fn test(name: &'static str, needs: &'static [Need], body: fn(&Node) -> Result<()>) -> Test {
    Test::new(name.to_owned(), needs.to_vec(), body)
}

impl fmt::Debug for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Test")
            .field("name", &self.name)
            .field("needs", &self.needs)
            .finish_non_exhaustive()
    }
}

impl Test {
    /// As [`test()`], of what is known only when the suite starts.
    pub fn new(
        name: String,
        needs: Vec<Need>,
        body: impl Fn(&Node) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        let ports = needs.iter().flat_map(|need| need.ports()).copied();
        Self {
            ports: ports.collect(),
            name,
            needs,
            at_home: false,
            varies: false,
            limit: Duration::from_secs(120),
            body: Arc::new(body),
        }
    }

    /// Lends the test further physical ports; tests with ports run one at a time.
    #[must_use]
    pub fn lend(mut self, ports: &[Port]) -> Self {
        self.ports.extend(ports);
        self
    }

    /// Has the test work in the lab guest's first network namespace instead of one of its
    /// own: the kernel puts the links of new VFs, and physical links whose namespace died,
    /// there and nowhere else. All four ports are there then. Skipped outside the lab,
    /// where that namespace is the machine's.
    #[must_use]
    pub fn at_home(mut self) -> Self {
        self.ports = Port::ALL.to_vec();
        self.at_home = true;
        self
    }

    /// Says that it does more where the kernel can do more, so that it is worth running in
    /// the lab whoever has run it elsewhere.
    #[must_use]
    pub fn varies(mut self) -> Self {
        self.varies = true;
        self
    }

    /// Whether any kernel can run it as it is, so that where one did the lab need not.
    fn is_for_any_kernel(&self) -> bool {
        let anywhere = |need: &Need| matches!(need, Need::Root | Need::Tool("ping" | "nsenter"));
        let is_plain = self.ports.is_empty() && !self.at_home && !self.varies;
        is_plain && self.needs.iter().all(anywhere)
    }

    /// Another time limit, after which the test is killed and has failed.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

/// The `main` of a suite: runs what the command line asks for, as `cargo test` would.
pub fn suite(mut tests: Vec<Test>) -> ExitCode {
    if let Some(name) = trial_name() {
        return run_named(&tests, &name);
    }
    if ran_elsewhere() {
        tests.retain(|test| !test.is_for_any_kernel());
    }
    let mut arguments = Arguments::from_args();
    let in_lab = is_emulated();
    if in_lab {
        // All of the guest's CPUs are one thread of the host: more tests at once only
        // make each slower, and what they do to cgroups would mix.
        arguments.test_threads.get_or_insert(1);
    }
    let shared = Arc::new(Shared::new(in_lab, arguments.nocapture));
    let trials = tests.into_iter().map(|t| trial(t, Arc::clone(&shared)));
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    let counts = format!(
        "{} {} {}\n",
        conclusion.num_passed, conclusion.num_failed, conclusion.num_ignored
    );
    if let Some(path) = std::env::var_os(COUNTS)
        && let Err(error) = fs::write(&path, counts)
    {
        eprintln!("cannot write the counts to {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

/// Whether this suite is among those that a kernel elsewhere has run, as far as it can
/// ([`ELSEWHERE`]).
fn ran_elsewhere() -> bool {
    let suites = std::env::var(ELSEWHERE).unwrap_or_default();
    let own = std::env::args().next().unwrap_or_default();
    let own = Path::new(&own).file_name().unwrap_or_default();
    suites.split_whitespace().any(|suite| own == suite)
}

/// What the trials of one suite share.
struct Shared {
    in_lab: bool,
    nocapture: bool,
    probes: Probes,
    wire: Mutex<()>,
}

impl Shared {
    fn new(in_lab: bool, nocapture: bool) -> Self {
        Self {
            in_lab,
            nocapture,
            probes: Probes::default(),
            wire: Mutex::default(),
        }
    }
}

fn trial(test: Test, shared: Arc<Shared>) -> Trial {
    Trial::ignorable_test(test.name.clone(), move || {
        if test.at_home && !shared.in_lab {
            let reason = "works on the machine's own links, so only in the lab";
            return Ok(Completion::ignored_with(reason));
        }
        if let Some(reason) = shared.probes.missing(&test.needs) {
            return if shared.in_lab {
                Err(Failed::from(format!(
                    "the lab lacks what it promises: {reason}"
                )))
            } else {
                Ok(Completion::ignored_with(reason))
            };
        }
        run(&test, &shared)
            .map(|()| Completion::Completed)
            .map_err(|error| Failed::from(format!("{error:#}")))
    })
}

/// Runs a test in a child, one at a time if it has physical ports, and takes them back.
fn run(test: &Test, shared: &Shared) -> Result<()> {
    if test.ports.is_empty() {
        return run_child(test, &[], shared.nocapture);
    }
    let _wire = shared.wire.lock().unwrap_or_else(PoisonError::into_inner);
    let result = run_child(test, &[], shared.nocapture);
    for port in &test.ports {
        port.settle()?;
    }
    result
}

/// The test this process is to run, if it is a test's child.
pub(crate) fn trial_name() -> Option<OsString> {
    std::env::var_os(TRIAL)
}

/// Runs this program again, with `arguments`, as the child that is to run `test`.
pub(crate) fn run_child(test: &Test, arguments: &[OsString], nocapture: bool) -> Result<()> {
    let mut output = tempfile::tempfile()?;
    let mut child = Command::new("/proc/self/exe");
    child
        .args(arguments)
        .env(TRIAL, &test.name)
        .stdin(Stdio::null());
    if !nocapture {
        child
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?);
    }
    let mut child = child.spawn().context("start the test's process")?;
    let status = command::wait(&mut child, test.limit)?;
    if status.is_none() {
        child.kill()?;
        child.wait()?;
    }
    let mut said = Vec::new();
    output.seek(SeekFrom::Start(0))?;
    output.read_to_end(&mut said)?;
    verdict(
        status,
        test.limit,
        String::from_utf8_lossy(&said).trim_end(),
    )
}

fn verdict(status: Option<ExitStatus>, limit: Duration, said: &str) -> Result<()> {
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) if status.code() == Some(1) => Err(anyhow!("{said}")),
        Some(status) => Err(anyhow!("{status}\n{said}")),
        None => Err(anyhow!("killed after {} s\n{said}", limit.as_secs())),
    }
}

/// In the child: runs the test of this name.
pub(crate) fn run_named(tests: &[Test], name: &OsStr) -> ExitCode {
    let wanted = tests.iter().find(|test| name == test.name.as_str());
    wanted.map_or(ExitCode::FAILURE, in_child)
}

/// The child's side: one thread from the start, so that it may fork and unshare.
fn in_child(test: &Test) -> ExitCode {
    let net = if test.at_home {
        Net::Home
    } else {
        Net::Own(&test.ports)
    };
    match world::enter(&net) {
        Ok(Role::Around(status)) => ExitCode::from(status),
        Ok(Role::Body) => {
            let node = Node::new(&test.ports);
            match catch_unwind(AssertUnwindSafe(|| (test.body)(&node))) {
                Ok(Ok(())) => ExitCode::SUCCESS,
                Ok(Err(error)) => {
                    eprintln!("{error:#}");
                    ExitCode::FAILURE
                }
                // The panic hook has said where and why.
                Err(_) => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("cannot make the test's node: {error:#}");
            ExitCode::FAILURE
        }
    }
}
