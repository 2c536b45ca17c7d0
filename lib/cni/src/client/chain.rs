//! One verb through the plugins of a list: what each is asked, in which order, and how
//! its answer becomes the next one's.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Attachment, Client, NetworkList};
use crate::error::{CniError, code};
use crate::exec;
use crate::request::{Command, Env};
use crate::result::AddResult;
use crate::version::SpecVersion;

/// One verb on its way through the plugins of a list.
pub(super) struct Run<'a> {
    pub(super) list: &'a NetworkList,
    pub(super) attachment: Option<&'a Attachment>,
    pub(super) command: Command,
}

impl Client {
    pub(super) fn add_chain(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
    ) -> Result<Value, CniError> {
        let run = Run {
            list,
            attachment: Some(attachment),
            command: Command::Add,
        };
        let mut result = None;
        for plugin in list.plugins() {
            let answer = self.call(&run, plugin, result.as_ref(), &Map::new())?;
            result = Some(in_version(answer, list.version).map_err(|error| {
                error.context(format_args!(
                    "plugin {} at ADD",
                    NetworkList::type_of(plugin)
                ))
            })?);
        }
        result.ok_or_else(|| CniError::new(code::CONFIG, "the list has no plugin"))
    }

    pub(super) fn del_chain(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
        result: Option<&Value>,
    ) -> Result<(), CniError> {
        let run = Run {
            list,
            attachment: Some(attachment),
            command: Command::Del,
        };
        let result = result.filter(|_| list.version >= SpecVersion::V040);
        let errors = list
            .plugins()
            .rev()
            .filter_map(|plugin| self.call(&run, plugin, result, &Map::new()).err());
        all(errors)
    }

    pub(super) fn call(
        &self,
        run: &Run<'_>,
        plugin: &Map<String, Value>,
        previous: Option<&Value>,
        extra: &Map<String, Value>,
    ) -> Result<Option<Value>, CniError> {
        let binary = self.find(plugin)?;
        let nothing = Map::new();
        let capabilities = run.attachment.map_or(&nothing, |a| &a.capabilities);
        let mut config = run.list.config_of(plugin, capabilities);
        config.extend(extra.clone());
        if let Some(previous) = previous {
            config.insert("prevResult".into(), previous.clone());
        }
        let stdin = Value::Object(config).to_string().into_bytes();
        let answer = exec::execute(&binary, &self.env_of(run), &stdin, &self.log)
            .and_then(|outcome| outcome.answer());
        answer.map_err(|error| {
            let (name, command) = (NetworkList::type_of(plugin), run.command);
            error.context(format_args!("plugin {name} failed {command}"))
        })
    }

    pub(super) fn find(&self, plugin: &Map<String, Value>) -> Result<PathBuf, CniError> {
        let name = NetworkList::type_of(plugin);
        exec::find(&self.path, name).ok_or_else(|| {
            let dirs: Vec<_> = self.path.iter().map(|d| d.display().to_string()).collect();
            CniError::config(
                "type",
                &name.into(),
                format_args!("no such plugin in {}", dirs.join(":")),
                "install it there, or search elsewhere",
            )
        })
    }

    /// All six variables always, as runtimes set them; empty where there is nothing.
    fn env_of(&self, run: &Run<'_>) -> Env {
        let dirs: Vec<_> = self.path.iter().map(|d| d.display().to_string()).collect();
        let of = |get: fn(&Attachment) -> String| run.attachment.map(get).unwrap_or_default();
        let netns = |a: &Attachment| {
            let path = a.netns.as_deref().unwrap_or(Path::new(""));
            path.display().to_string()
        };
        let mut env = self.env.clone();
        for (name, value) in [
            ("CNI_COMMAND", run.command.as_str().to_owned()),
            ("CNI_CONTAINERID", of(|a| a.key.container_id().to_owned())),
            ("CNI_IFNAME", of(|a| a.key.ifname().to_string())),
            ("CNI_NETNS", of(netns)),
            ("CNI_ARGS", of(|a| a.args.clone())),
            ("CNI_PATH", dirs.join(":")),
        ] {
            env.insert(name.to_owned(), value);
        }
        Env(env)
    }
}

/// A plugin's result as the next one may read it: of the list's version.
fn in_version(answer: Option<Value>, version: SpecVersion) -> Result<Value, CniError> {
    let mut answer = match answer {
        Some(Value::Object(answer)) => answer,
        other => {
            let other = other.unwrap_or_default();
            let msg = format!("the answer is no result: {other}");
            return Err(CniError::new(code::DECODE, msg));
        }
    };
    let named = answer.get("cniVersion").and_then(Value::as_str);
    let named = named.unwrap_or_default().to_owned();
    if named.is_empty() {
        answer.insert("cniVersion".into(), version.as_str().into());
    }
    let answer = Value::Object(answer);
    let result = AddResult::from_json(&answer, version)?;
    if named.is_empty() || named == version.as_str() {
        Ok(answer)
    } else {
        result.to_json(version)
    }
}

/// All errors as one: the first, with the others in its details.
pub(super) fn all(mut errors: impl Iterator<Item = CniError>) -> Result<(), CniError> {
    match errors.next() {
        None => Ok(()),
        Some(first) => Err(errors.fold(first, |first, next| {
            first.details(format_args!("also: {next}"))
        })),
    }
}
