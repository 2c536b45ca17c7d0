//! Explains a network configuration: what ADD would do, step by step, and what is wrong.
//! The configuration is read by what ADD reads it with, so the two cannot disagree.

use std::fmt;

use berth_cni::client::NetworkList;
use berth_cni::error::CniError;
use berth_cni::ipam::foresee::{Foreseen, foresee};
use berth_cni::keys;
use berth_cni::request::Request;
use berth_kernel::Root;
use berth_state::record::Bandwidth;
use serde_json::{Map, Value};

use crate::bandwidth;
use crate::conf::{self, Conf};

mod chain;
mod faults;
mod node;
mod steps;

/// What is said of a configuration.
#[derive(Debug)]
pub struct Lint {
    head: String,
    plugins: Vec<Explained>,
    problems: Vec<CniError>,
}

/// What is said of one plugin of a list.
#[derive(Debug, Default)]
struct Explained {
    title: String,
    steps: Vec<String>,
    on_this_node: Option<Vec<String>>,
    problems: Vec<CniError>,
    hints: Vec<String>,
}

/// A configuration as ADD understands it.
#[derive(Debug)]
struct Understood {
    conf: Conf,
    bandwidth: Bandwidth,
    ipam: Foreseen,
    notes: Vec<String>,
    request: Request,
}

/// Reads `config` as an ADD of it would.
fn read(config: &Map<String, Value>, cni_path: &str) -> Result<Understood, CniError> {
    let request = Request::imagined(config, cni_path)?;
    let notes = keys::check(config, conf::KEYS)?;
    let conf = Conf::of(&request, request.argument("mac"))?;
    let bandwidth = bandwidth::of(request.argument("bandwidth").as_ref())?;
    let ipam = foresee(&request)?;
    steps::gateways(&conf, &ipam)?;
    Ok(Understood {
        conf,
        bandwidth,
        ipam,
        notes,
        request,
    })
}

impl Lint {
    /// For a file that is no network configuration.
    pub fn unreadable(problem: CniError) -> Self {
        Self {
            head: "no network configuration\n".into(),
            plugins: Vec::new(),
            problems: vec![problem],
        }
    }

    /// Whether ADD would refuse the configuration.
    pub fn is_refused(&self) -> bool {
        self.count() > 0
    }

    fn count(&self) -> usize {
        let of_plugins = self.plugins.iter().map(|plugin| plugin.problems.len());
        self.problems.len() + of_plugins.sum::<usize>()
    }
}

/// Explains each plugin of `list` that has one of `names`, or the only one. `cni_path` is
/// where IPAM plugins are, as `CNI_PATH` has it; `node` is looked at, too. None if no
/// plugin has such a name.
pub fn explain(
    list: &NetworkList,
    names: &[&str],
    cni_path: &str,
    node: Option<&Root>,
) -> Option<Lint> {
    let all: Vec<&Map<String, Value>> = list.plugins().collect();
    let is_ours = |plugin: &Map<String, Value>| {
        all.len() == 1 || names.contains(&NetworkList::type_of(plugin))
    };
    let mut plugins = Vec::new();
    for (index, plugin) in all.iter().enumerate() {
        if is_ours(plugin) {
            let config = list.config_of(plugin, &Map::new());
            let (before, after) = (&all[..index], &all[index + 1..]);
            let place = chain::Place {
                plugin,
                before,
                after,
            };
            let mut one = explain_one(&config, &place, cni_path, node);
            one.title = format!("plugins[{index}]: {}", NetworkList::type_of(plugin));
            plugins.push(one);
        }
    }
    let kinds: Vec<&str> = all.iter().map(|p| NetworkList::type_of(p)).collect();
    let head = format!(
        "network {}, CNI {}: {}\n",
        list.name,
        list.version,
        kinds.join(", then ")
    );
    (!plugins.is_empty()).then_some(Lint {
        head,
        plugins,
        problems: Vec::new(),
    })
}

fn explain_one(
    config: &Map<String, Value>,
    place: &chain::Place<'_>,
    cni_path: &str,
    node: Option<&Root>,
) -> Explained {
    let (problems, understood) = faults::all(config, |config| read(config, cni_path));
    let mut told = Explained {
        problems,
        ..Explained::default()
    };
    let Some(Understood {
        conf,
        bandwidth,
        ipam,
        notes,
        request,
    }) = understood
    else {
        return told;
    };
    told.problems.extend(chain::problems(&conf, place));
    told.hints.extend(notes);
    told.hints.extend(chain::hints(&conf, &ipam, place));
    // The steps of a configuration that is not as written would mislead.
    if told.problems.is_empty() {
        told.steps = steps::of(&conf, bandwidth, &ipam);
        if let Some(root) = node {
            match node::look(root, &request, &conf) {
                Ok(words) => told.on_this_node = Some(words),
                Err(error) => told.problems.push(error.context("on this node")),
            }
        }
    }
    told
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head)?;
        for plugin in &self.plugins {
            write!(f, "\n{plugin}")?;
        }
        for problem in &self.problems {
            tell(f, problem)?;
        }
        match self.count() {
            0 => writeln!(f, "\nnothing is wrong with it"),
            1 => writeln!(f, "\nADD would be refused: 1 problem"),
            count => writeln!(f, "\nADD would be refused: {count} problems"),
        }
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(f, "{:3}. {step}", index + 1)?;
        }
        if let Some(words) = &self.on_this_node {
            writeln!(f, "  on this node now:")?;
            for word in words {
                writeln!(f, "     {word}")?;
            }
        }
        for problem in &self.problems {
            tell(f, problem)?;
        }
        for hint in &self.hints {
            writeln!(f, "  hint: {hint}")?;
        }
        Ok(())
    }
}

fn tell(f: &mut fmt::Formatter<'_>, problem: &CniError) -> fmt::Result {
    writeln!(f, "  problem, code {}: {}", problem.code, problem.msg)?;
    if problem.details.is_empty() {
        return Ok(());
    }
    writeln!(f, "    way out: {}", problem.details)
}

#[cfg(test)]
mod tests;
