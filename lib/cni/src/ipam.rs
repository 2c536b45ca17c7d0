//! Addresses: whoever `ipam.type` names. A plugin on `CNI_PATH` is run as the
//! specification has it (section 4, "Plugin Delegation"); without one, a built-in of
//! the same configuration serves where there is one; no `ipam` means layer 2 only.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;

use berth_kernel::Root;
use serde_json::{Map, Value};

use crate::error::{CniError, code};
use crate::exec;
use crate::request::{Call, Command, Env, GcRequest, Request};
use crate::result::AddResult;

mod fixed;
pub mod foresee;
mod host_local;
mod section;

/// What to do about a delegate older than the network's version.
const VERSION_HELP: &str = "set cniVersion to one this IPAM plugin supports (cniVersions lets \
    the runtime choose), or install a newer one";

/// Who gives addresses to the attachments of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ipam {
    /// Nobody: `ipam` is absent or `{}`.
    None,
    /// The built-in of the reference's `static`.
    Static,
    /// The built-in of the reference's `host-local`.
    HostLocal(HostLocal),
    /// A plugin that is executed.
    Delegate(Delegate),
}

/// An IPAM plugin found on `CNI_PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegate {
    /// Its `ipam.type`.
    pub name: String,
    /// Its file.
    pub binary: PathBuf,
}

/// The built-in `host-local` of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostLocal {
    root: Root,
    /// Set when ADD found leases that are not its own; clones share it.
    others: Rc<Cell<bool>>,
}

impl HostLocal {
    fn add(&self, request: &Request) -> Result<AddResult, CniError> {
        host_local::add(&self.root, request).map_err(|refusal| {
            self.others.set(refusal.others);
            refusal.error
        })
    }
}

/// Whether anybody gives addresses in the call's network.
///
/// # Errors
/// As [`Ipam::of`].
pub fn is_wished(call: &Call) -> Result<bool, CniError> {
    Ok(Who::of(call)? != Who::Nobody)
}

/// Who `ipam.type` names.
#[derive(Debug, PartialEq, Eq)]
enum Who {
    Nobody,
    Static,
    HostLocal,
    Delegate(Delegate),
}

impl Who {
    fn of(call: &Call) -> Result<Self, CniError> {
        let ipam = match call.config.raw.get("ipam") {
            None | Some(Value::Null) => return Ok(Self::Nobody),
            Some(Value::Object(ipam)) if ipam.is_empty() => return Ok(Self::Nobody),
            Some(Value::Object(ipam)) => ipam,
            Some(other) => {
                return Err(CniError::config(
                    "ipam",
                    other,
                    "it must be an object",
                    "write {\"type\": ...}, or leave it away for layer 2 only",
                ));
            }
        };
        let name = type_of(ipam)?;
        match exec::find(&call.path, name) {
            Some(binary) => Ok(Self::Delegate(Delegate {
                name: name.to_owned(),
                binary,
            })),
            None if name == "static" => Ok(Self::Static),
            None if name == "host-local" => Ok(Self::HostLocal),
            None => Err(nobody(call, name)),
        }
    }
}

impl Ipam {
    /// Who serves the call's configuration on the node whose trees are `root`.
    ///
    /// # Errors
    /// Code 7 when `ipam.type` is missing, malformed, or names nobody; code 4 when
    /// `CNI_PATH` is missing and needed.
    pub fn of(root: &Root, call: &Call) -> Result<Self, CniError> {
        Ok(match Who::of(call)? {
            Who::Nobody => Self::None,
            Who::Static => Self::Static,
            Who::HostLocal => Self::HostLocal(HostLocal {
                root: root.clone(),
                others: Rc::default(),
            }),
            Who::Delegate(delegate) => Self::Delegate(delegate),
        })
    }

    /// Whether the network has no addresses.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// ADD: addresses, routes and name service; empty without IPAM. A delegate whose
    /// ADD fails gets a DEL before this returns.
    ///
    /// # Errors
    /// The delegate's own, or code 7 when there is no address or it is malformed.
    pub fn add(&self, request: &Request) -> Result<AddResult, CniError> {
        match self {
            Self::None => Ok(AddResult::default()),
            Self::Static => fixed::add(request),
            Self::HostLocal(built_in) => built_in.add(request),
            Self::Delegate(delegate) => delegate.add(request).map_err(|error| {
                if error.code == code::VERSION {
                    return error.details(VERSION_HELP);
                }
                match self.del_unserved(request) {
                    Ok(()) => error,
                    Err(also) => error.details(format!("the DEL after it failed too: {also}")),
                }
            }),
        }
    }

    /// DEL: gives the addresses back. Works for a request of any verb, so that an undo
    /// can call it.
    ///
    /// # Errors
    /// The delegate's own.
    pub fn del(&self, request: &Request) -> Result<(), CniError> {
        match self {
            Self::None | Self::Static => Ok(()),
            Self::HostLocal(HostLocal { root, .. }) => host_local::del(root, request),
            Self::Delegate(delegate) => delegate.run(request, Command::Del).map(drop),
        }
    }

    /// DEL after an ADD that did not succeed: a delegate that does not speak the
    /// network's version has refused that ADD too, so it holds nothing.
    ///
    /// # Errors
    /// The delegate's own.
    pub fn del_unserved(&self, request: &Request) -> Result<(), CniError> {
        match self.del(request) {
            Err(error) if error.code == code::VERSION => Ok(()),
            done => done,
        }
    }

    /// The inverse of [`Ipam::add`] as an undo list wants it: leases that were there
    /// before are not that ADD's to release.
    pub fn release(&self, request: &Request) -> impl FnOnce() -> Result<(), CniError> + 'static {
        let (ipam, request) = (self.clone(), request.clone());
        move || match &ipam {
            Self::HostLocal(HostLocal { others, .. }) if others.get() => Ok(()),
            _ => ipam.del_unserved(&request),
        }
    }

    /// CHECK: whether the attachment still has what `prevResult` says.
    ///
    /// # Errors
    /// The delegate's own, or code 7 naming the address that is missing.
    pub fn check(&self, request: &Request) -> Result<(), CniError> {
        match self {
            Self::None => Ok(()),
            Self::Static => fixed::check(request),
            Self::HostLocal(HostLocal { root, .. }) => host_local::check(root, request),
            Self::Delegate(delegate) => delegate.run(request, Command::Check).map(drop),
        }
    }

    /// STATUS: whether an ADD could get an address. A delegate too old to know the verb
    /// costs a warning only.
    ///
    /// # Errors
    /// The delegate's own, or code 7 for a malformed configuration.
    pub fn status(&self, call: &Call) -> Result<(), CniError> {
        match self {
            Self::None => Ok(()),
            Self::Static => fixed::Fixed::of(&call.config).map(drop),
            Self::HostLocal(HostLocal { root, .. }) => host_local::status(root, call),
            Self::Delegate(delegate) => delegate.run_if_known(call, Command::Status),
        }
    }

    /// GC: releases what attachments that are not valid hold. A delegate too old to know the verb
    /// costs a warning only.
    ///
    /// # Errors
    /// The delegate's own.
    pub fn gc(&self, request: &GcRequest) -> Result<(), CniError> {
        match self {
            Self::None | Self::Static => Ok(()),
            Self::HostLocal(HostLocal { root, .. }) => host_local::gc(root, request),
            Self::Delegate(delegate) => delegate.run_if_known(&request.call, Command::Gc),
        }
    }
}

fn type_of(ipam: &Map<String, Value>) -> Result<&str, CniError> {
    let value = ipam.get("type").unwrap_or(&Value::Null);
    let wrong = |reason: &str| {
        CniError::config(
            "ipam.type",
            value,
            reason,
            "name an IPAM plugin, for example static, or leave ipam away for layer 2 only",
        )
    };
    match value.as_str() {
        None | Some("") => Err(wrong("it must name an IPAM plugin")),
        Some("." | "..") => Err(wrong("it is no file name")),
        Some(name) if name.contains('/') => Err(wrong("a plugin's name has no /")),
        Some(name) => Ok(name),
    }
}

fn nobody(call: &Call, name: &str) -> CniError {
    if call.path.is_empty() {
        return crate::request::missing_variables(&["CNI_PATH"]).details(format!(
            "ipam.type {name:?} is a plugin that must be found there"
        ));
    }
    let dirs: Vec<String> = call.path.iter().map(|d| d.display().to_string()).collect();
    CniError::config(
        "ipam.type",
        &name.into(),
        format!(
            "no such plugin in CNI_PATH {} and none built in",
            dirs.join(":")
        ),
        "install it there, or use static or host-local, which are built in",
    )
}

impl Delegate {
    fn add(&self, request: &Request) -> Result<AddResult, CniError> {
        let document = self.run(request, Command::Add)?.unwrap_or(Value::Null);
        let mut result = AddResult::from_json(&document, request.config.version)
            .map_err(|error| error.context(format!("IPAM plugin {} at ADD", self.name)))?;
        if result.ips.is_empty() {
            return Err(missing_addresses(&format!(
                "{} answered ADD without an address",
                self.binary.display()
            )));
        }
        // An IPAM result knows no interfaces (specification, "Delegated Plugins").
        result.interfaces.clear();
        for ip in &mut result.ips {
            ip.interface = None;
        }
        Ok(result)
    }

    /// Runs the delegate: the same environment but for the verb, the same standard
    /// input, standard error passed through.
    fn run(&self, call: &Call, command: Command) -> Result<Option<Value>, CniError> {
        let mut variables = call.env.0.clone();
        variables.insert("CNI_COMMAND".into(), command.as_str().into());
        let answer = exec::execute(&self.binary, &Env(variables), &call.stdin, call.log())
            .and_then(|outcome| outcome.answer());
        answer.map_err(|error| {
            CniError {
                code: shown(error.code),
                ..error
            }
            .context(format_args!("IPAM plugin {} failed {command}", self.name))
        })
    }

    fn run_if_known(&self, call: &Call, command: Command) -> Result<(), CniError> {
        match self.run(call, command) {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.code, code::VERSION | code::ENV) => {
                call.log().warn(format_args!(
                    "{command} is not known to the delegate: {error}"
                ));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// A delegate's code as ours. What the specification defines keeps its meaning; 0, 3
/// (which would keep the runtime from calling DEL), 999 and a foreign plugin's own
/// codes would be misread, and become 5.
fn shown(theirs: u32) -> u32 {
    match theirs {
        code::VERSION
        | code::UNSUPPORTED
        | code::ENV
        | code::DECODE
        | code::CONFIG
        | code::NETNS
        | code::TRY_AGAIN
        | code::NOT_AVAILABLE
        | code::LIMITED => theirs,
        _ => code::IO,
    }
}

fn missing_addresses(why: &str) -> CniError {
    CniError::new(
        code::CONFIG,
        format!("IPAM plugin returned missing IP config: {why}"),
    )
    .details("give it addresses, or leave ipam away for layer 2 only")
}

#[cfg(test)]
pub(crate) mod tests;
