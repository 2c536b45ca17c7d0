//! `berth apply`.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use berth_kernel::Root;
use hyper::Method;
use serde_json::Value;

use super::plan;
use crate::cli::ApplyArgs;
use crate::client::{Ask, Client, Refused};
use crate::engine::handle::{Outcome, View};
use crate::refusal::Code;
use crate::spec::{Spec, WorkloadId};

/// Applies on the node's agent, tells on `out`.
pub(crate) fn run(args: &ApplyArgs, root: &Root, out: &mut dyn Write) -> Result<ExitCode> {
    let specs = specs(&text(&args.file)?, &args.file)?;
    let client = Client::new(root)?;
    let mut if_match = args.if_match;
    for (id, body) in specs {
        let before = present(&client, &id)?;
        let ask = Ask {
            if_match,
            body: Some(body),
            ..Ask::new(Method::PUT, super::dry(super::path_of(&id), args.dry_run))
        };
        let outcome: Outcome = super::asked(&client, &ask)?;
        // Those that follow build on this one.
        if_match = if_match.map(|_| outcome.generation);
        let head = head(&id, before.as_ref(), &outcome, args.dry_run);
        plan::tell(&head, &outcome, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn head(id: &WorkloadId, before: Option<&Spec>, outcome: &Outcome, dry_run: bool) -> String {
    let after = outcome.workload.as_ref().map(|view| &view.spec);
    let done = match (outcome.created, outcome.plan.is_empty() && before == after) {
        (true, _) => plan::verb("created", dry_run),
        (false, false) => plan::verb("changed", dry_run),
        (false, true) => "unchanged".to_owned(),
    };
    format!("{id}: {done}, generation {}", outcome.generation)
}

/// The spec a workload has at present.
fn present(client: &Client, id: &WorkloadId) -> Result<Option<Spec>> {
    match super::asked::<View>(client, &Ask::get(super::path_of(id))) {
        Ok(view) => Ok(Some(view.spec)),
        Err(error) => match error.downcast_ref::<Refused>() {
            Some(Refused(refusal)) if refusal.code == Code::NotFound => Ok(None),
            _ => Err(error),
        },
    }
}

fn text(file: &Path) -> Result<String> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        io::stdin().lock().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.with_context(|| format!("cannot read the specs in {}", file.display()))?;
    Ok(text)
}

/// The specs in `text` by the names in them; what else they say the agent judges.
fn specs(text: &str, file: &Path) -> Result<Vec<(WorkloadId, Value)>> {
    let file = file.display();
    let all: Value = serde_json::from_str(text).with_context(|| {
        format!("{file} is not JSON; it should hold one spec, or a list of them")
    })?;
    let all = match all {
        Value::Array(specs) => specs,
        spec => vec![spec],
    };
    if all.is_empty() {
        bail!("{file} holds an empty list: there is nothing to apply");
    }
    let mut named = Vec::new();
    for (number, spec) in (1..).zip(all) {
        let Some(id) = spec["id"].as_str() else {
            bail!(
                "spec {number} in {file} has no \"id\" that is a text: that is the workload's name"
            );
        };
        let read = id.parse::<WorkloadId>().map_err(anyhow::Error::msg);
        let id = read.with_context(|| format!("spec {number} in {file}"))?;
        if named.iter().any(|(other, _)| *other == id) {
            bail!("{file} has two specs of {id}: the second would undo the first");
        }
        named.push((id, spec));
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(WorkloadId, Value)>, String> {
        specs(text, Path::new("a.json")).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn one_spec_or_a_list_of_them() {
        let ids = |text| {
            let specs = read(text).unwrap().into_iter();
            specs.map(|(id, _)| id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(ids(r#"{"id": "a"}"#), ["a"]);
        assert_eq!(ids(r#"[{"id": "b"}, {"id": "a"}]"#), ["b", "a"]);
    }

    #[test]
    fn what_names_no_workload_is_refused() {
        for (text, why) in [
            ("id: a", "not JSON"),
            ("[]", "nothing to apply"),
            ("7", "spec 1 in a.json has no \"id\""),
            (r#"[{"id": "a"}, {}]"#, "spec 2 in a.json has no"),
            (r#"{"id": 7}"#, "no \"id\" that is a text"),
            (r#"{"id": "A b"}"#, "is no workload id"),
            (r#"[{"id": "a"}, {"id": "a"}]"#, "two specs of a"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
