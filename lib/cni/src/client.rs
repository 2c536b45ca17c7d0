//! The caller's side: what a container runtime's library does with a network
//! configuration. Runs the chain, passes results on, remembers what DEL will need.

use std::path::{Path, PathBuf};

use berth_kernel::Root;
use berth_state::{Key, Writer};
use serde_json::{Map, Value, json};

use crate::error::{CniError, code};
use crate::log::Log;
use crate::request::{Command, Variables};
use crate::version::SpecVersion;

mod cache;
mod chain;
mod network;

use cache::{Cache, Cached, Slot};
use chain::{Run, all};
pub use network::NetworkList;

/// One attachment as the caller wants it.
#[derive(Debug, Clone, PartialEq)]
pub struct Attachment {
    /// Network, container id and interface name.
    pub key: Key,
    /// The container's network namespace; ADD and CHECK need it.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS`.
    pub args: String,
    /// Values for capabilities; a plugin gets those its configuration declares.
    pub capabilities: Map<String, Value>,
}

impl Attachment {
    /// An attachment without arguments.
    pub fn new(key: Key, netns: Option<PathBuf>) -> Self {
        Self {
            key,
            netns,
            args: String::new(),
            capabilities: Map::new(),
        }
    }
}

/// A caller of plugins.
#[derive(Debug)]
pub struct Client {
    path: Vec<PathBuf>,
    cache: Cache,
    env: Variables,
    log: Log,
}

impl Client {
    /// Plugins are searched in `path`, what DEL needs is kept below `cache`, a
    /// directory of the caller's on a tmpfs. Plugins inherit this process's
    /// environment, and their messages go to its standard error.
    pub fn new(path: Vec<PathBuf>, cache: PathBuf) -> Self {
        let io = crate::run::Io::process();
        Self {
            path,
            cache: Cache::new(cache, Root::host()),
            env: io.env,
            log: Log::new("client", io.stderr),
        }
    }

    /// The same client with another environment for plugins and another log.
    #[must_use]
    pub fn with(self, env: Variables, log: Log) -> Self {
        Self { env, log, ..self }
    }

    /// Attaches: every plugin in order, each with the result of the one before. If one
    /// fails, all are told to DEL, the last first. Returns the last result as the
    /// configuration's version has it.
    ///
    /// # Errors
    /// The failed plugin's; 7 when the attachment exists, 11 while another process
    /// makes it, 102 when the DEL after a failure failed too (then [`Client::del`] can
    /// be tried again).
    pub fn add(&self, list: &NetworkList, attachment: &Attachment) -> Result<Value, CniError> {
        let key = &attachment.key;
        belongs(list, key)?;
        if attachment.netns.is_none() {
            return Err(CniError::told(
                code::NETNS,
                format_args!("attachment {key}"),
                "add it",
                "no network namespace is given",
                "pass the path of the container's network namespace",
            ));
        }
        // Nothing is begun with a plugin missing.
        for plugin in list.plugins() {
            self.find(plugin)?;
        }
        let mut cached = self.reserve(list, attachment)?;
        let outcome = self.add_chain(list, attachment).and_then(|result| {
            cached.result = Some(result.clone());
            self.cache.replace(&cached)?;
            Ok(result)
        });
        outcome.map_err(|error| self.taken_back(error, list, cached))
    }

    /// Takes the attachment's place in the cache before anything is done, so that a
    /// second ADD cannot run beside this one and a killed one leaves a trace.
    fn reserve(&self, list: &NetworkList, attachment: &Attachment) -> Result<Cached, CniError> {
        let key = &attachment.key;
        let cached = Cached {
            attachment: key.clone(),
            netns: attachment.netns.clone(),
            args: attachment.args.clone(),
            capabilities: attachment.capabilities.clone(),
            config: list.to_value(),
            result: None,
            writer: Some(Writer::current(self.cache.root())?),
        };
        let _one_at_a_time = self.cache.lock()?;
        match self.cache.load(key)? {
            Slot::Free => {}
            Slot::Unreadable(error) => return Err(error),
            Slot::Held(held) if held.result.is_some() => {
                return Err(CniError::told(
                    code::CONFIG,
                    format_args!("attachment {key}"),
                    "add it",
                    format_args!("it exists, as {} says", self.cache.file(key).display()),
                    "detach it first",
                ));
            }
            Slot::Held(held) => {
                self.refuse_while_written(&held)?;
                self.log
                    .info(format_args!("sweeping {key}: its ADD was killed"));
                self.del_cached(&held, None)?;
            }
        }
        self.cache.create(&cached)?;
        Ok(cached)
    }

    fn refuse_while_written(&self, held: &Cached) -> Result<(), CniError> {
        let writer = held.writer.filter(|_| held.result.is_none());
        match writer {
            Some(writer) if writer.is_alive(self.cache.root())? => Err(CniError::told(
                code::TRY_AGAIN,
                format_args!("attachment {}", held.attachment),
                "touch it",
                format_args!("process {} is adding it", writer.pid),
                "try again when that has ended",
            )),
            _ => Ok(()),
        }
    }

    /// After a failed ADD: DEL for all, the last first (specification, "ADD"). What
    /// cannot be taken back stays remembered, as nobody's work any more.
    fn taken_back(&self, error: CniError, list: &NetworkList, mut cached: Cached) -> CniError {
        let deleted = self
            .del_chain(list, &cached.wanted(), None)
            .and_then(|()| Ok(self.cache.remove(&cached.attachment)?))
            .or_else(|left| {
                cached.result = None;
                cached.writer = None;
                self.cache.replace(&cached)?;
                Err(left)
            });
        match deleted {
            Ok(()) => error,
            Err(left) => CniError::new(
                code::INCOMPLETE,
                format!(
                    "ADD failed and could not be taken back whole: {}",
                    error.msg
                ),
            )
            .details(error.details)
            .details(format_args!("DEL after it failed: {left}"))
            .details("detach it again when the reason is gone"),
        }
    }

    /// Detaches, with the configuration, arguments and result of the ADD where they
    /// are known, else with `list`. Every plugin is called, the last first, past
    /// errors. May be repeated; a namespace that is gone is no error.
    ///
    /// # Errors
    /// The first plugin's that failed, the others' in its details; 7 when neither the
    /// cache nor `list` says how; 11 while another process makes the attachment.
    pub fn del(&self, list: Option<&NetworkList>, attachment: &Attachment) -> Result<(), CniError> {
        let key = &attachment.key;
        match self.cache.load(key)? {
            Slot::Held(held) => {
                self.refuse_while_written(&held)?;
                return self.del_cached(&held, attachment.netns.as_deref());
            }
            Slot::Unreadable(error) if list.is_some() => {
                self.log.warn(format_args!("DEL without result: {error}"));
            }
            Slot::Unreadable(error) => return Err(error),
            Slot::Free => {}
        }
        let Some(list) = list else {
            return Err(CniError::told(
                code::CONFIG,
                format_args!("attachment {key}"),
                "detach it",
                "it is not known here",
                "check the name, or pass the network configuration it was made with",
            ));
        };
        belongs(list, key)?;
        self.del_chain(list, attachment, None)?;
        Ok(self.cache.remove(key)?)
    }

    fn del_cached(&self, held: &Cached, netns: Option<&Path>) -> Result<(), CniError> {
        let list = NetworkList::of(&held.config)?;
        let mut attachment = held.wanted();
        if let Some(netns) = netns {
            attachment.netns = Some(netns.to_owned());
        }
        self.del_chain(&list, &attachment, held.result.as_ref())?;
        Ok(self.cache.remove(&held.attachment)?)
    }

    /// Compares the attachment with what its ADD made. Nothing is done where the list
    /// says `disableCheck`.
    ///
    /// # Errors
    /// The first plugin's that disagrees; 1 below version 0.4.0; 7 when the ADD's
    /// result is not known.
    pub fn check(&self, attachment: &Attachment) -> Result<(), CniError> {
        let key = &attachment.key;
        let unknown = || {
            CniError::told(
                code::CONFIG,
                format_args!("attachment {key}"),
                "check it",
                "the result of its ADD is not known here",
                "attach it first",
            )
        };
        let held = match self.cache.load(key)? {
            Slot::Held(held) => held,
            Slot::Unreadable(error) => return Err(error),
            Slot::Free => return Err(unknown()),
        };
        let list = NetworkList::of(&held.config)?;
        if list.disable_check {
            return Ok(());
        }
        let run = Run {
            list: &list,
            attachment: Some(&held.wanted()),
            command: Command::Check,
        };
        if list.version < SpecVersion::V040 {
            return Err(CniError::new(
                code::VERSION,
                "config version does not allow CHECK",
            ));
        }
        let result = held.result.as_ref().ok_or_else(unknown)?;
        list.plugins()
            .try_for_each(|plugin| self.call(&run, plugin, Some(result), &Map::new()).map(drop))
    }

    /// Whether an ADD of this network could be served. Always, below version 1.1.0.
    ///
    /// # Errors
    /// The first plugin's that is not ready, with its code 50 or 51.
    pub fn status(&self, list: &NetworkList) -> Result<(), CniError> {
        if list.version < SpecVersion::V110 {
            return Ok(());
        }
        let run = Run {
            list,
            attachment: None,
            command: Command::Status,
        };
        list.plugins()
            .try_for_each(|plugin| self.call(&run, plugin, None, &Map::new()).map(drop))
    }

    /// Removes every attachment of the network that is not in `valid`: DEL for those
    /// remembered here, then GC of each plugin from version 1.1.0 on. Goes on past
    /// errors. Nothing is done where the list says `disableGC`.
    ///
    /// # Errors
    /// The first that failed, the others in its details.
    pub fn gc(&self, list: &NetworkList, valid: &[Key]) -> Result<(), CniError> {
        if list.disable_gc {
            return Ok(());
        }
        let mut errors = Vec::new();
        for key in self.cache.keys(&list.name)? {
            if !valid.contains(&key) {
                errors.extend(self.del(Some(list), &Attachment::new(key, None)).err());
            }
        }
        if list.version >= SpecVersion::V110 {
            let item = |key: &Key| json!({"containerID": key.container_id(), "ifname": key.ifname().as_str()});
            let mine = valid.iter().filter(|key| key.network() == list.name);
            let items: Value = mine.map(item).collect();
            let extra = ["cni.dev/valid-attachments", "cni.dev/attachments"]
                .map(|key| (key.to_owned(), items.clone()));
            let extra = extra.into_iter().collect();
            let run = Run {
                list,
                attachment: None,
                command: Command::Gc,
            };
            errors.extend(
                list.plugins()
                    .filter_map(|plugin| self.call(&run, plugin, None, &extra).err()),
            );
        }
        all(errors.into_iter())
    }

    /// The networks something is remembered for, by name.
    ///
    /// # Errors
    /// Code 5 when the cache cannot be read.
    pub fn networks(&self) -> Result<Vec<String>, CniError> {
        self.cache.networks()
    }

    /// The attachments remembered for a network.
    ///
    /// # Errors
    /// Code 5 when the cache cannot be read.
    pub fn attachments(&self, network: &str) -> Result<Vec<Key>, CniError> {
        self.cache.keys(network)
    }

    /// The result of an attachment's ADD; `None` when there is none.
    ///
    /// # Errors
    /// Code 6 when what is remembered cannot be understood.
    pub fn result(&self, key: &Key) -> Result<Option<Value>, CniError> {
        match self.cache.load(key)? {
            Slot::Free => Ok(None),
            Slot::Held(held) => Ok(held.result),
            Slot::Unreadable(error) => Err(error),
        }
    }

    /// The versions the plugin of this name speaks.
    ///
    /// # Errors
    /// Code 7 when it is not found; 6 when it does not answer as VERSION should.
    pub fn versions(&self, plugin: &str) -> Result<Vec<String>, CniError> {
        let plugin = Map::from_iter([("type".to_owned(), plugin.into())]);
        let list = NetworkList::for_version();
        let run = Run {
            list: &list,
            attachment: None,
            command: Command::Version,
        };
        let answer = self.call(&run, &plugin, None, &Map::new())?;
        let versions = answer.as_ref().and_then(|a| a.get("supportedVersions"));
        versions
            .and_then(|versions| serde_json::from_value(versions.clone()).ok())
            .ok_or_else(|| {
                let name = NetworkList::type_of(&plugin);
                let msg = format!("plugin {name} at VERSION: no supportedVersions in its answer");
                CniError::new(code::DECODE, msg)
            })
    }
}

fn belongs(list: &NetworkList, key: &Key) -> Result<(), CniError> {
    if key.network() == list.name {
        return Ok(());
    }
    let msg = format!("attachment {key} is not of network {}", list.name);
    Err(CniError::new(code::CONFIG, msg).details("use the network's own configuration"))
}

#[cfg(test)]
mod tests;
