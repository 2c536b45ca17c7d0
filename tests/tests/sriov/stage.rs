//! VFs that several cases share, since making them takes seconds, and what must be as
//! before after each case.

use std::fmt::Write as _;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use berth_tests::vf::set_num_vfs;
use berth_tests::{Change, Look, Node, Port, Result, Snapshot, Space, Vf, anyhow, bail, ensure};

/// How long the kernel may take to bring a VF home whose namespace died.
const HOME_LIMIT: Duration = Duration::from_secs(5);

/// The MTU of the PFs while a test has them.
pub(crate) const PF_MTU: u32 = 9000;

/// VFs of a test, and how they were before anything was done to them.
pub(crate) struct Stage<'n> {
    pub(crate) node: &'n Node,
    pub(crate) vfs: Vec<Vf>,
    wanted: Vec<(Port, usize)>,
    before: Snapshot,
}

/// One of the things proven on a stage.
pub(crate) type Case = (&'static str, fn(&Stage<'_>) -> Result<()>);

impl<'n> Stage<'n> {
    /// Makes so many VFs per port.
    pub(crate) fn set(node: &'n Node, wanted: &[(Port, usize)]) -> Result<Self> {
        // A VF's MTU goes as far as its PF's.
        for (port, _) in wanted {
            node.ip(&format!("link set {} mtu {PF_MTU}", port.name()))?;
        }
        let vfs = node.vfs(wanted)?;
        let before = node.vf_facts(&vfs, Look::Whole)?;
        Ok(Self {
            node,
            vfs,
            wanted: wanted.to_vec(),
            before,
        })
    }

    /// How the VFs were before.
    pub(crate) fn before(&self) -> &Snapshot {
        &self.before
    }

    /// What is not as before: of the VFs, and files Berth keeps; within the time the
    /// kernel may take to bring a VF home.
    pub(crate) fn changes(&self, look: Look) -> Result<Vec<String>> {
        let end = Instant::now() + HOME_LIMIT;
        loop {
            let now = self.node.vf_facts(&self.vfs, look)?;
            let before = match look {
                Look::Whole => self.before.clone(),
                Look::Short => short(self.before.clone()),
            };
            let mut changes: Vec<String> =
                before.diff(&now).iter().map(Change::to_string).collect();
            changes.extend(kept_files().into_iter().map(|file| format!("  + {file}")));
            if changes.is_empty() || Instant::now() >= end {
                return Ok(changes);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Fails with what is not as before; `after` says after what.
    pub(crate) fn must_be_as_before(&self, after: &str, look: Look) -> Result<()> {
        let changes = self.changes(look)?;
        ensure!(
            changes.is_empty(),
            "after {after} the VFs are not as before:\n{}",
            changes.join("\n")
        );
        Ok(())
    }

    /// Runs every case, each from fresh VFs if the one before left something. All
    /// failures are told together.
    pub(crate) fn run(mut self, cases: &[Case]) -> Result<()> {
        let mut failed = String::new();
        let wanted = std::env::var("BERTH_CASES").unwrap_or_default();
        for (name, case) in cases.iter().filter(|(name, _)| name.contains(&wanted)) {
            let start = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| case(&self)));
            let outcome = outcome.unwrap_or_else(|_| bail!("it panicked, as told above"));
            let took = start.elapsed().as_secs_f64();
            let after = self.must_be_as_before(&format!("case {name}"), Look::Short);
            eprintln!("case {name}: {took:.1} s");
            for error in [&outcome, &after]
                .into_iter()
                .filter_map(|r| r.as_ref().err())
            {
                write!(failed, "\ncase {name}: {error:#}")?;
            }
            if outcome.is_err() || after.is_err() {
                self.mend()?;
            }
        }
        // Each case that changes what only `ethtool` shows looks at that itself.
        if let Err(error) = self.must_be_as_before("all cases", Look::Whole) {
            write!(failed, "\n{error:#}")?;
        }
        ensure!(failed.is_empty(), "{failed}");
        Ok(())
    }

    /// Makes the VFs anew and forgets what Berth kept, so that one failure is told once.
    pub(crate) fn mend(&mut self) -> Result<()> {
        for dir in ["/run/berth", "/var/lib/cni/networks"] {
            match fs::remove_dir_all(dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(anyhow!("remove {dir}: {error}"));
                }
                _ => {}
            }
        }
        for (port, _) in &self.wanted {
            set_num_vfs(*port, 0)?;
        }
        self.vfs = self.node.vfs(&self.wanted)?;
        self.before = self.node.vf_facts(&self.vfs, Look::Whole)?;
        Ok(())
    }
}

/// What [`Look::Short`] leaves out.
fn short(facts: Snapshot) -> Snapshot {
    let mut kept = Snapshot::default();
    for name in facts.names("") {
        let tool = ["feature", "ring", "coalesce"];
        let leaves_out = name.split(' ').nth(2).is_some_and(|w| tool.contains(&w));
        if !leaves_out {
            kept.put(name, facts.get(name).unwrap_or_default());
        }
    }
    kept
}

/// Records, claims and leases that are left.
pub(crate) fn kept_files() -> Vec<String> {
    let mut files = Vec::new();
    for dir in [
        "/run/berth/attachments",
        "/run/berth/vf",
        "/var/lib/cni/networks",
    ] {
        put_files(Path::new(dir), &mut files);
    }
    files
}

fn put_files(dir: &Path, files: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let stays = name == "lock" || name == ".lock" || name.starts_with("last_reserved_ip");
        if path.is_dir() {
            put_files(&path, files);
        } else if !stays {
            files.push(path.display().to_string());
        }
    }
}
