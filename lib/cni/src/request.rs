//! What a plugin is asked: the verb, the attachment, the configuration, and where
//! each datum of it comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use berth_kernel::IfName;
use berth_state::Key;
use serde_json::{Map, Value};

use crate::args::Args;
use crate::error::{CniError, code};
use crate::log::Log;
use crate::result::AddResult;

mod config;
mod env;
mod saved;

pub use config::Config;
pub use env::Env;
pub(crate) use env::{is_word, missing_variables};

/// A verb of the specification ("CNI operations").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Attach a container to the network.
    Add,
    /// Detach it.
    Del,
    /// Compare an attachment with what ADD made.
    Check,
    /// Can an ADD be served?
    Status,
    /// Remove attachments that are not listed.
    Gc,
    /// Which versions are spoken?
    Version,
}

impl Command {
    /// The verb as `CNI_COMMAND` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Status => "STATUS",
            Self::Gc => "GC",
            Self::Version => "VERSION",
        }
    }

    /// Whether the verb is about one attachment, so that it needs an id and a name.
    pub fn is_about_one_attachment(self) -> bool {
        matches!(self, Self::Add | Self::Del | Self::Check)
    }

    /// Whether the configuration's keys are looked at. Not in DEL and GC: what an
    /// older configuration made must always be removable.
    pub fn validates_keys(self) -> bool {
        matches!(self, Self::Add | Self::Check | Self::Status)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What every verb with a configuration carries. STATUS carries nothing else.
#[derive(Debug, Clone)]
pub struct Call {
    /// The verb.
    pub command: Command,
    /// The directories of `CNI_PATH`; empty when it was not given.
    pub path: Vec<PathBuf>,
    /// The network configuration.
    pub config: Config,
    /// The environment, for a delegate.
    pub(crate) env: Arc<Env>,
    /// Standard input as it came, for a delegate.
    pub(crate) stdin: Arc<[u8]>,
    log: Log,
}

impl Call {
    /// The call with this configuration, checked in every verb's order.
    fn of(
        command: Command,
        env: Env,
        stdin: Vec<u8>,
        (log, learned): (&Log, &mut crate::version::SpecVersion),
    ) -> Result<Self, CniError> {
        let mut config = Config::parse(&stdin)?;
        config.check_version(command)?;
        *learned = config.version;
        let log = log.for_call(&config, &env)?;
        config.check(command, &log)?;
        Ok(Self {
            command,
            path: env.path(),
            config,
            env: Arc::new(env),
            stdin: stdin.into(),
            log,
        })
    }

    /// Where messages about this call go.
    pub fn log(&self) -> &Log {
        &self.log
    }
}

/// ADD, DEL and CHECK: a call about one attachment.
#[derive(Debug, Clone)]
pub struct Request {
    /// The verb and the configuration.
    pub call: Call,
    /// The container's id.
    pub container_id: String,
    /// The interface's name inside the container.
    pub ifname: IfName,
    /// The container's network namespace; only DEL may have none.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS`.
    pub args: Args,
    key: Key,
}

impl Deref for Request {
    type Target = Call;

    fn deref(&self) -> &Call {
        &self.call
    }
}

/// A datum and where it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    /// The value; from `CNI_ARGS` it is always a text.
    pub value: Value,
    /// The place, as a message should name it: `runtimeConfig.mac`.
    pub origin: String,
}

/// What most configurations fit into, so that they are read at once.
const CONFIG_BYTES: usize = 4096;

/// Configuration keys that have another name in `CNI_ARGS` (CONVENTIONS, and the
/// reference's plugins).
const NAMES_IN_ARGS: [(&str, &str); 3] = [("mac", "MAC"), ("ips", "IP"), ("gateway", "GATEWAY")];

impl Request {
    /// The attachment's key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The datum `name` from the strongest place that has it: `runtimeConfig`, then
    /// `args.cni`, then `CNI_ARGS`, then the configuration itself. Null and the empty
    /// text count as absent.
    pub fn argument(&self, name: &str) -> Option<Argument> {
        self.argument_at_runtime(name)
            .or_else(|| found(self.config.raw.get(name), name.to_owned()))
    }

    /// As [`Request::argument`], without the configuration itself.
    pub fn argument_at_runtime(&self, name: &str) -> Option<Argument> {
        let raw = &self.config.raw;
        let runtime = raw.get("runtimeConfig").and_then(|c| c.get(name));
        let args = || raw.get("args")?.get("cni")?.get(name);
        found(runtime, format!("runtimeConfig.{name}"))
            .or_else(|| found(args(), format!("args.cni.{name}")))
            .or_else(|| self.argument_in_args(name))
    }

    fn argument_in_args(&self, name: &str) -> Option<Argument> {
        let renamed = NAMES_IN_ARGS.iter().find(|(key, _)| *key == name);
        let key = renamed.map_or(name, |(_, key)| key);
        self.args.get(key).map(|text| Argument {
            value: text.into(),
            origin: format!("CNI_ARGS {key}"),
        })
    }
}

fn found(value: Option<&Value>, origin: String) -> Option<Argument> {
    let value = value.filter(|value| is_given(value))?.clone();
    Some(Argument { value, origin })
}

fn is_given(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    }
}

/// GC: the attachments of the network that stay.
#[derive(Debug, Clone)]
pub struct GcRequest {
    /// The verb and the configuration.
    pub call: Call,
    valid: BTreeSet<(String, String)>,
}

impl Deref for GcRequest {
    type Target = Call;

    fn deref(&self) -> &Call {
        &self.call
    }
}

impl GcRequest {
    /// Whether the attachment is listed, so that it must stay. Attachments of other
    /// networks always stay.
    pub fn is_valid(&self, key: &Key) -> bool {
        key.network() != self.config.name
            || self
                .valid
                .iter()
                .any(|(id, ifname)| id == key.container_id() && ifname == key.ifname().as_str())
    }

    /// Whether any attachment of this container is listed.
    pub(crate) fn is_valid_container(&self, container_id: &str) -> bool {
        self.valid.iter().any(|(id, _)| id == container_id)
    }
}

/// A call after all checks that need nothing but environment and standard input.
#[derive(Debug)]
pub(crate) enum Incoming {
    One(Request),
    Status(Call),
    Gc(GcRequest),
}

impl Incoming {
    pub(crate) fn call(&self) -> &Call {
        match self {
            Self::One(request) => &request.call,
            Self::Status(call) => call,
            Self::Gc(gc) => &gc.call,
        }
    }

    /// Reads standard input and makes the request of it. `learned` is told the
    /// version as soon as it is known, for the error document.
    pub(crate) fn read(
        command: Command,
        env: Env,
        stdin: &mut dyn Read,
        parts: (&Log, &mut crate::version::SpecVersion),
    ) -> Result<Self, CniError> {
        env.check(command)?;
        let mut bytes = Vec::with_capacity(CONFIG_BYTES);
        stdin.read_to_end(&mut bytes).map_err(|e| {
            CniError::new(code::IO, format!("error reading from stdin: {e}"))
                .details("the runtime must write the network configuration and close the pipe")
        })?;
        let call = Call::of(command, env, bytes, parts)?;
        match command {
            Command::Gc => Ok(Self::Gc(GcRequest {
                valid: call.config.valid_attachments()?,
                call,
            })),
            Command::Add | Command::Del | Command::Check => Request::of(call).map(Self::One),
            Command::Status | Command::Version => Ok(Self::Status(call)),
        }
    }
}

impl Request {
    /// The request for the attachment that the call's environment names.
    pub(crate) fn of(call: Call) -> Result<Self, CniError> {
        let env = &call.env;
        let container_id = env.get("CNI_CONTAINERID").unwrap_or_default().to_owned();
        let ifname = env.get("CNI_IFNAME").unwrap_or_default();
        let ifname: IfName = ifname
            .parse()
            .map_err(|e: berth_kernel::names::Invalid| CniError::env(e.to_string()))?;
        let key = Key::new(&call.config.name, &container_id, ifname.clone())
            .map_err(|e| CniError::new(code::CONFIG, e.to_string()))?;
        let args = env.get("CNI_ARGS").unwrap_or_default();
        let args = match Args::parse(args) {
            Err(error) if call.command == Command::Del => {
                call.log.warn(format_args!("ignored for DEL: {error}"));
                Args::default()
            }
            parsed => parsed?,
        };
        Ok(Self {
            netns: env.get("CNI_NETNS").map(PathBuf::from),
            container_id,
            ifname,
            args,
            key,
            call,
        })
    }

    /// The ADD that a runtime would ask for with `config`, to be looked at and not to be
    /// served: container, interface and namespace are placeholders, nothing is logged.
    /// `cni_path` is where plugins are, as `CNI_PATH` has it.
    ///
    /// # Errors
    /// What an ADD is refused for before its plugin is asked.
    pub fn imagined(config: &Map<String, Value>, cni_path: &str) -> Result<Self, CniError> {
        let variables = [
            ("CNI_COMMAND", Command::Add.as_str()),
            ("CNI_CONTAINERID", "container"),
            ("CNI_NETNS", "/proc/PID/ns/net"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", cni_path),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let env = Env(variables.into());
        env.check(Command::Add)?;
        let stdin = Value::Object(config.clone()).to_string().into_bytes();
        let mut version = crate::version::SpecVersion::NEWEST;
        Self::of(Call::of(
            Command::Add,
            env,
            stdin,
            (&Log::silent(), &mut version),
        )?)
    }

    /// The result of the plugin before this one, or of the ADD to be checked.
    pub fn prev_result(&self) -> Option<&AddResult> {
        self.config.prev_result.as_ref()
    }
}

/// The environment as a map: one of the values a call is made of.
pub type Variables = BTreeMap<String, String>;

#[cfg(test)]
mod tests;
