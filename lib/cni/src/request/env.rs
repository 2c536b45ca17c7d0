//! The environment variables of the protocol: which a verb needs, and what they may
//! hold.

use std::path::PathBuf;

use berth_kernel::IfName;

use super::{Command, Variables};
use crate::error::CniError;

/// The environment of a call. An empty variable counts as absent, as runtimes set
/// all of them always.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Env(pub Variables);

/// Variables a verb about one attachment needs, in the order messages list them.
/// `CNI_PATH` is not among them: only a delegate that is executed needs it.
const REQUIRED: [&str; 3] = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"];

impl Env {
    /// The variable, if it is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The verb; `None` when `CNI_COMMAND` is absent.
    ///
    /// # Errors
    /// Code 4 for a verb that does not exist.
    pub fn command(&self) -> Result<Option<Command>, CniError> {
        let Some(text) = self.get("CNI_COMMAND") else {
            return Ok(None);
        };
        let all = [
            Command::Add,
            Command::Del,
            Command::Check,
            Command::Status,
            Command::Gc,
            Command::Version,
        ];
        match all.into_iter().find(|command| command.as_str() == text) {
            Some(command) => Ok(Some(command)),
            None => Err(CniError::env(format!("unknown CNI_COMMAND: {text}"))
                .details("use ADD, DEL, CHECK, GC, STATUS or VERSION")),
        }
    }

    /// Refuses missing and invalid variables; an invalid one is told first.
    ///
    /// # Errors
    /// Code 4.
    pub fn check(&self, command: Command) -> Result<(), CniError> {
        if !command.is_about_one_attachment() {
            return Ok(());
        }
        let mut missing = Vec::new();
        for name in REQUIRED {
            match self.get(name) {
                Some(value) => check_value(name, value)?,
                None if name == "CNI_NETNS" && command == Command::Del => {}
                None => missing.push(name),
            }
        }
        if missing.is_empty() {
            Ok(())
        } else {
            Err(missing_variables(&missing).details(format!("{command} needs them")))
        }
    }

    /// The directories of `CNI_PATH`, in order, without empty entries.
    pub fn path(&self) -> Vec<PathBuf> {
        let path = self.get("CNI_PATH").unwrap_or_default();
        let entries = path.split(':').filter(|entry| !entry.is_empty());
        entries.map(PathBuf::from).collect()
    }

    /// Whether the runtime allows `CNI_NETNS` to be the plugin's own namespace.
    pub fn netns_override(&self) -> bool {
        let value = self.get("CNI_NETNS_OVERRIDE").unwrap_or_default();
        value == "1" || value.eq_ignore_ascii_case("true")
    }
}

/// Code 4 naming variables that are not set.
pub(crate) fn missing_variables(names: &[&str]) -> CniError {
    CniError::env(format!(
        "required env variables [{}] missing",
        names.join(",")
    ))
}

fn check_value(name: &str, value: &str) -> Result<(), CniError> {
    match name {
        "CNI_CONTAINERID" if !is_word(value) => {
            Err(CniError::env("invalid characters in containerID").details(value))
        }
        "CNI_IFNAME" => value.parse::<IfName>().map(drop).map_err(|invalid| {
            CniError::env(invalid.to_string())
                .details(format!("CNI_IFNAME is {value:?}; use 1 to 15 bytes"))
        }),
        _ => Ok(()),
    }
}

/// `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`: container ids and network names.
pub(crate) fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}
