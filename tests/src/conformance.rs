//! The CNI contract and the behaviour of a bridge plugin as a suite for any binary: each
//! case is one sentence of the specification, or one behaviour, observed from outside.
//!
//! What a plugin calls its keys, and which of the optional behaviours it claims, is in a
//! [`Template`]. A case runs on a node of its own, as every test here.

mod cases;
mod report;
mod stage;
mod template;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

pub use cases::all;
pub use report::{Format, Report, comparison};
pub use stage::Stage;
pub use template::{Feature, Layout, Template};

use crate::need::{Need, Probes};
use crate::node::Node;
use crate::plugin::Plugin;
use crate::suite::{self, Test};

/// One thing a plugin must do.
#[derive(Clone)]
pub struct Case {
    /// `section.row`, which stays the same from version to version.
    pub id: &'static str,
    /// What must be so, in one line.
    pub meaning: &'static str,
    /// Who says so: a section of the specification, a page, a thread.
    pub source: &'static str,
    claims: Vec<Feature>,
    since: Option<&'static str>,
    layout: Option<Layout>,
    needs: Vec<Need>,
    run: Run,
}

type Run = Arc<dyn Fn(&Stage<'_>) -> Result<()> + Send + Sync>;

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Case").field(&self.id).finish()
    }
}

/// A case for every plugin.
fn case(
    id: &'static str,
    meaning: &'static str,
    source: &'static str,
    run: impl Fn(&Stage<'_>) -> Result<()> + Send + Sync + 'static,
) -> Case {
    Case {
        id,
        meaning,
        source,
        claims: Vec::new(),
        since: None,
        layout: None,
        needs: Vec::new(),
        run: Arc::new(run),
    }
}

impl Case {
    /// Only for plugins that claim these.
    fn claims(mut self, features: &[Feature]) -> Self {
        self.claims.extend(features);
        self
    }

    /// Only for plugins that know this version of the specification.
    fn since(mut self, version: &'static str) -> Self {
        self.since = Some(version);
        self
    }

    /// Only for plugins that separate VLANs so.
    fn only(mut self, layout: Layout) -> Self {
        self.layout = Some(layout);
        self
    }

    /// Only on machines that have these.
    fn needs(mut self, needs: &[Need]) -> Self {
        self.needs.extend(needs);
        self
    }

    /// Why `template` does not claim this.
    pub fn unclaimed(&self, template: &Template) -> Option<String> {
        if let Some(feature) = self.claims.iter().find(|f| !template.claims(**f)) {
            return Some(format!("feature {feature}"));
        }
        let version = self.since.filter(|since| template.newest() < *since);
        let layout = self.layout.filter(|layout| *layout != template.layout);
        version
            .map(|since| format!("CNI {since}"))
            .or_else(|| layout.map(|layout| format!("layout {layout}")))
    }

    /// Whether what it shows depends on how VLANs are separated.
    pub fn is_of_vlans(&self) -> bool {
        self.claims
            .iter()
            .any(|f| matches!(f, Feature::Vlan | Feature::Trunk))
    }

    /// Whether it needs something of the machine beside VLANs.
    pub fn has_needs(&self) -> bool {
        !self.needs.is_empty()
    }

    /// What it needs of the machine.
    pub fn requires(&self, template: &Template) -> Vec<Need> {
        let mut needs = self.needs.clone();
        if self.is_of_vlans() && template.layout == Layout::VlanAware {
            needs.push(Need::VlanFiltering);
            if self.claims.contains(&Feature::Gateway) {
                needs.push(Need::Vlan8021q);
            }
        }
        needs
    }

    /// Runs it here and now, on this node.
    pub fn hold(&self, node: &Node, subject: &Subject) -> Result<()> {
        (self.run)(&Stage::set(node, subject)?)
    }

    /// The case as a test of `subject`.
    pub fn test(&self, subject: &Arc<Subject>) -> Test {
        let (case, subject) = (self.clone(), Arc::clone(subject));
        let name = format!("{}::{}", subject.template.name, self.id);
        let needs = self.requires(&subject.template);
        Test::new(name, needs, move |node| case.hold(node, &subject))
    }
}

/// What is put through the suite.
#[derive(Debug)]
pub struct Subject {
    /// The plugin.
    pub plugin: Plugin,
    /// What it claims.
    pub template: Template,
    /// Where it finds other plugins.
    pub cni_path: PathBuf,
}

impl Subject {
    /// The plugin at `plugin` as `template` says; other plugins beside it unless
    /// `cni_path` says otherwise.
    pub fn new(plugin: &Path, template: &Path, cni_path: Option<PathBuf>) -> Result<Self> {
        let plugin = plugin
            .canonicalize()
            .with_context(|| format!("find the plugin {}", plugin.display()))?;
        let beside = plugin.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(Self {
            plugin: Plugin::at(&plugin),
            template: Template::read(template)?,
            cni_path: cni_path.unwrap_or(beside),
        })
    }

    /// The one line a plugin prints when nothing is asked of it: name and version.
    pub fn about(&self) -> Result<String> {
        let said = self.plugin.raw(&[], b"")?.stderr;
        Ok(said
            .lines()
            .next()
            .unwrap_or("no version")
            .trim()
            .to_owned())
    }
}

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As it must be.
    Pass,
    /// Not so; what was expected and what was seen, in one line.
    Fail(String),
    /// The template does not claim it.
    Unclaimed(String),
    /// The machine lacks something.
    Skipped(String),
}

impl Outcome {
    /// In one word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail(_) => "FAIL",
            Self::Unclaimed(_) => "not claimed",
            Self::Skipped(_) => "skipped",
        }
    }

    /// The evidence or the reason; empty for a pass.
    pub fn text(&self) -> &str {
        match self {
            Self::Pass => "",
            Self::Fail(text) | Self::Unclaimed(text) | Self::Skipped(text) => text,
        }
    }
}

/// Runs cases, each in a process of its own.
#[derive(Debug)]
pub struct Runner {
    subject: Arc<Subject>,
    arguments: Vec<OsString>,
    probes: Probes,
}

impl Runner {
    /// Of this program, whose `main` calls [`child`] first, with these arguments.
    pub fn new(subject: Arc<Subject>, arguments: Vec<OsString>) -> Self {
        Self {
            subject,
            arguments,
            probes: Probes::default(),
        }
    }

    /// Runs one case to its end.
    pub fn run(&self, case: &Case) -> Outcome {
        let template = &self.subject.template;
        if let Some(what) = case.unclaimed(template) {
            return Outcome::Unclaimed(what);
        }
        if let Some(reason) = self.probes.missing(&case.requires(template)) {
            return Outcome::Skipped(report::one_line(&reason));
        }
        match suite::run_child(&case.test(&self.subject), &self.arguments, false) {
            Ok(()) => Outcome::Pass,
            Err(error) => Outcome::Fail(report::one_line(&format!("{error:#}"))),
        }
    }
}

/// In the child of a [`Runner`]: runs its case. `None` in every other process.
pub fn child(subject: &Arc<Subject>) -> Option<std::process::ExitCode> {
    let name = suite::trial_name()?;
    let tests = all().into_iter().map(|case| case.test(subject));
    Some(suite::run_named(&tests.collect::<Vec<_>>(), &name))
}
