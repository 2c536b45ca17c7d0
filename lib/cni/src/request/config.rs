//! The network configuration on standard input.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Command;
use super::env::is_word;
use crate::error::{CniError, code};
use crate::log::Log;
use crate::result::{AddResult, Dns};
use crate::version::{Numbers, SUPPORTED, SpecVersion};

/// One plugin's configuration (specification, "Execution configuration").
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The version of the protocol in use.
    pub version: SpecVersion,
    /// The network's name.
    pub name: String,
    /// Every key, as it came.
    pub raw: Map<String, Value>,
    /// The result of the plugin before this one, or of the ADD to be checked or
    /// undone. DEL works without it.
    pub prev_result: Option<AddResult>,
}

impl Config {
    /// Reads the document and the network's name; nothing else is checked yet.
    ///
    /// # Errors
    /// Code 6 for what is no JSON object, 7 for a missing or invalid name.
    pub fn parse(bytes: &[u8]) -> Result<Self, CniError> {
        let broken = |why: String| {
            CniError::new(
                code::DECODE,
                format!("error unmarshall network config: {why}"),
            )
            .details("standard input must hold one JSON object, the network configuration")
        };
        let raw: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|e| broken(e.to_string()))?;
        let text = |key: &str| match raw.get(key) {
            None | Some(Value::Null) => Ok(""),
            Some(Value::String(text)) => Ok(text.as_str()),
            Some(other) => Err(broken(format!("{key} = {other} is not a text"))),
        };
        text("cniVersion")?;
        let name = text("name")?.to_owned();
        if name.is_empty() {
            return Err(
                CniError::new(code::CONFIG, "missing network name").details("set the key \"name\"")
            );
        }
        if !is_word(&name) {
            return Err(
                CniError::new(code::CONFIG, "invalid characters found in network name").details(
                    format!("name is {name:?}; use letters, digits, and _.- after the first"),
                ),
            );
        }
        Ok(Self {
            version: SpecVersion::NEWEST,
            name,
            raw,
            prev_result: None,
        })
    }

    /// Checks `cniVersion` and that it allows the verb.
    ///
    /// # Errors
    /// Code 6 when CHECK, GC or STATUS cannot read it as numbers, code 1 when it
    /// does not allow the verb or is not supported.
    pub fn check_version(&mut self, command: Command) -> Result<(), CniError> {
        let asked = self.text("cniVersion");
        let floor = match command {
            Command::Check => Some(Numbers(0, 4, 0)),
            Command::Gc | Command::Status => Some(Numbers(1, 1, 0)),
            Command::Add | Command::Del | Command::Version => None,
        };
        if let Some(floor) = floor {
            let numbers = Numbers::parse(asked).map_err(|e| CniError::new(code::DECODE, e))?;
            if numbers < floor {
                let Numbers(major, minor, patch) = floor;
                let msg = format!("config version does not allow {command}");
                return Err(CniError::new(code::VERSION, msg).details(format!(
                    "cniVersion is {asked:?}, {command} exists since {major}.{minor}.{patch}"
                )));
            }
        }
        let supported = SUPPORTED.map(SpecVersion::as_str);
        self.version = SpecVersion::exactly(asked).ok_or_else(|| {
            CniError::new(code::VERSION, "incompatible CNI versions").details(format!(
                "config is {asked:?}, plugin supports {supported:?}"
            ))
        })?;
        Ok(())
    }

    /// Checks what every plugin's configuration has in common and reads `prevResult`.
    /// DEL and GC accept everything here.
    ///
    /// # Errors
    /// Code 7 for a key of the wrong type, 6 for an unreadable `prevResult`, 7 for a
    /// CHECK without one.
    pub fn check(&mut self, command: Command, log: &Log) -> Result<(), CniError> {
        if command.validates_keys() {
            self.check_objects()?;
        }
        if !command.is_about_one_attachment() {
            return Ok(());
        }
        let previous = self.raw.get("prevResult").filter(|value| !value.is_null());
        let previous = previous.map(|value| AddResult::from_json(value, self.version));
        self.prev_result = match previous.transpose() {
            Ok(result) => result,
            Err(error) if command == Command::Del => {
                log.warn(format_args!("prevResult ignored for DEL: {error}"));
                None
            }
            Err(error) => return Err(error.context("prevResult")),
        };
        if command == Command::Check && self.prev_result.is_none() {
            return Err(
                CniError::new(code::CONFIG, "CHECK: required prevResult missing")
                    .details("the runtime must pass the result of the ADD to be checked"),
            );
        }
        Ok(())
    }

    fn check_objects(&self) -> Result<(), CniError> {
        let args = self.raw.get("args");
        let places = [
            ("args", args),
            ("args.cni", args.and_then(|args| args.get("cni"))),
            ("capabilities", self.raw.get("capabilities")),
            ("ipam", self.raw.get("ipam")),
            ("dns", self.raw.get("dns")),
            ("runtimeConfig", self.raw.get("runtimeConfig")),
        ];
        for (key, value) in places {
            if let Some(value) = value.filter(|v| !v.is_object() && !v.is_null()) {
                return Err(CniError::config(
                    key,
                    value,
                    "it must be an object",
                    "write {...}, or leave the key away",
                ));
            }
        }
        Ok(())
    }

    /// The text at `key`; empty when there is none.
    pub fn text(&self, key: &str) -> &str {
        let value = self.raw.get(key).and_then(Value::as_str);
        value.unwrap_or_default()
    }

    /// The value at `key` as a `T`; null counts as absent.
    ///
    /// # Errors
    /// Code 7 naming key and value when it is no `T`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, CniError> {
        let Some(value) = self.raw.get(key).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        T::deserialize(value)
            .map(Some)
            .map_err(|e| CniError::config(key, value, e, "correct the value"))
    }

    /// The plugin's own `dns`; if it sets anything it replaces what IPAM says.
    ///
    /// # Errors
    /// Code 7 when it is malformed.
    pub fn dns(&self) -> Result<Option<Dns>, CniError> {
        Ok(self.get::<Dns>("dns")?.filter(|dns| !dns.is_empty()))
    }

    /// The pairs (container id, interface name) that GC must keep. `null` is an empty
    /// list; the newer of the two spellings wins.
    pub(super) fn valid_attachments(&self) -> Result<BTreeSet<(String, String)>, CniError> {
        let keys = ["cni.dev/valid-attachments", "cni.dev/attachments"];
        let found = keys
            .iter()
            .find_map(|key| Some((*key, self.raw.get(*key)?)));
        let Some((key, value)) = found else {
            return Err(CniError::new(
                code::CONFIG,
                format!(
                    "GC: cannot tell what is valid: neither {} nor {} is set",
                    keys[0], keys[1]
                ),
            )
            .details("without the list everything would be removed; pass [] to mean that"));
        };
        let malformed = |item: &Value| {
            CniError::config(
                key,
                item,
                "it must be a list of {\"containerID\": ..., \"ifname\": ...}",
                "nothing was removed; correct the list",
            )
        };
        let items = match value {
            Value::Null => return Ok(BTreeSet::new()),
            Value::Array(items) => items,
            other => return Err(malformed(other)),
        };
        let pair = |item: &Value| {
            let text = |key: &str| item.get(key)?.as_str().map(str::to_owned);
            Some((text("containerID")?, text("ifname")?))
        };
        let pairs = items
            .iter()
            .map(|item| pair(item).ok_or_else(|| malformed(item)));
        pairs.collect()
    }
}
