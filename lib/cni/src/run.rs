//! From a [`Plugin`] to a process: reads the request, makes every check in the order
//! of the specification, runs the verb, rolls back what failed or panicked, prints
//! one document.

use std::any::Any;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use berth_kernel::netns::{Identity, NetNs};
use berth_state::{FailedInverse, Faults, Undo};
use serde_json::{Value, json};

use crate::error::{CniError, code};
use crate::ipam;
use crate::keys::{self, KeySpec};
use crate::log::Log;
use crate::request::{Call, Command, Env, GcRequest, Incoming, Request, Variables};
use crate::result::AddResult;
use crate::version::{SUPPORTED, SpecVersion};

/// A CNI plugin: the verbs, without the protocol around them.
pub trait Plugin {
    /// The program's name, `cni-bridge-vlan`.
    fn name(&self) -> &str;

    /// The program's version, three numbers with dots.
    fn version(&self) -> &str;

    /// The plugin's own configuration keys, beside [`keys::COMMON`].
    fn keys(&self) -> &[KeySpec];

    /// The `CNI_ARGS` it reads itself; IPAM's are known without.
    fn args(&self) -> &[&str] {
        &["MAC"]
    }

    /// Attaches. Every change goes through `undo`, which is rolled back when this
    /// returns an error or panics, or when the result cannot be delivered.
    ///
    /// # Errors
    /// Any but codes 3, 50 and 51.
    fn add(&self, request: &Request, undo: &mut Undo) -> Result<AddResult, CniError>;

    /// Detaches, as often as it is asked, whatever is missing.
    ///
    /// # Errors
    /// Code 102 when something is left, after everything else was done.
    fn del(&self, request: &Request) -> Result<(), CniError>;

    /// Compares with `prevResult` and with everything else that ADD set.
    ///
    /// # Errors
    /// What differs.
    fn check(&self, request: &Request) -> Result<(), CniError>;

    /// Whether an ADD could be served now.
    ///
    /// # Errors
    /// Code 50 or 51.
    fn status(&self, call: &Call) -> Result<(), CniError>;

    /// Removes every attachment of the network that is not valid, past errors.
    ///
    /// # Errors
    /// All that failed, in one.
    fn gc(&self, request: &GcRequest) -> Result<(), CniError>;

    /// Faults a test wants in the undo list of ADD.
    fn faults(&self) -> Faults {
        Faults::none()
    }
}

/// What a process is given, as values.
pub struct Io {
    /// The environment.
    pub env: Variables,
    /// The network configuration is read from here.
    pub stdin: Box<dyn Read>,
    /// The one document goes here.
    pub stdout: Box<dyn Write>,
    /// Messages go here.
    pub stderr: Box<dyn Write + Send>,
}

impl Io {
    /// This process's own. A variable that is not UTF-8 is none of CNI's and dropped.
    pub fn process() -> Self {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self {
            env: std::env::vars_os().filter_map(utf8).collect(),
            stdin: Box::new(std::io::stdin()),
            stdout: Box::new(std::io::stdout()),
            stderr: Box::new(std::io::stderr()),
        }
    }
}

/// The whole `main` of a plugin; the process's exit status, as of [`run`].
pub fn main(plugin: &dyn Plugin) -> u8 {
    // The default hook takes a backtrace where RUST_BACKTRACE is set, which costs more
    // than the whole ADD; what a panic said is reported anyway.
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    serve(plugin, Io::process(), true)
}

/// Serves one request; the process's exit status: 0, or 1 with an error document.
pub fn run(plugin: &dyn Plugin, io: Io) -> u8 {
    serve(plugin, io, false)
}

fn serve(plugin: &dyn Plugin, io: Io, install_log: bool) -> u8 {
    let mut session = Session {
        plugin,
        stdout: io.stdout,
        log: Log::new(plugin.name(), io.stderr),
        version: SpecVersion::NEWEST,
        install_log,
    };
    let mut stdin = io.stdin;
    match session.answer(Env(io.env), &mut *stdin) {
        Ok(()) => 0,
        Err(failure) => {
            session.log.error(&failure.error);
            if !failure.mute {
                let document = failure.error.to_json(session.version);
                if let Err(error) = write(&mut *session.stdout, &document) {
                    session.log.error(error);
                }
            }
            1
        }
    }
}

/// A failed request. Mute: standard output is broken or half written, and a second
/// document would make it worse.
struct Failure {
    error: CniError,
    mute: bool,
}

impl From<CniError> for Failure {
    fn from(error: CniError) -> Self {
        Self { error, mute: false }
    }
}

struct Session<'a> {
    plugin: &'a dyn Plugin,
    stdout: Box<dyn Write>,
    log: Log,
    version: SpecVersion,
    install_log: bool,
}

impl Session<'_> {
    fn answer(&mut self, env: Env, stdin: &mut dyn Read) -> Result<(), Failure> {
        let Some(command) = env.command()? else {
            let (name, version) = (self.plugin.name(), self.plugin.version());
            self.log
                .raw(format!("CNI {name} plugin v{version}\n").as_bytes());
            return Ok(());
        };
        if command == Command::Version {
            // Standard input may stay open for ever and is not read.
            return self.print(&versions());
        }
        let incoming = Incoming::read(command, env, stdin, (&self.log, &mut self.version))?;
        self.log = incoming.call().log().clone();
        if self.install_log {
            self.log.install();
        }
        self.check(&incoming)?;
        let plugin = self.plugin;
        match &incoming {
            Incoming::One(request) => match command {
                Command::Add => self.add(request),
                Command::Check => Ok(guard(|| plugin.check(request))?),
                _ => Ok(guard(|| plugin.del(request))?),
            },
            Incoming::Status(call) => Ok(guard(|| plugin.status(call))?),
            Incoming::Gc(request) => Ok(guard(|| plugin.gc(request))?),
        }
    }

    /// What is left to check after environment, document and version: keys,
    /// arguments, and the namespace, before anything is changed.
    fn check(&self, incoming: &Incoming) -> Result<(), CniError> {
        let call = incoming.call();
        if call.command.validates_keys() {
            for note in keys::check(&call.config.raw, self.plugin.keys())? {
                call.log().info(note);
            }
        }
        let Incoming::One(request) = incoming else {
            return Ok(());
        };
        if call.command.validates_keys() {
            let mut known = self.plugin.args().to_vec();
            if ipam::is_wished(call)? {
                known.extend(["IP", "GATEWAY"]);
            }
            request.args.refuse_unknown(&known)?;
        }
        check_netns(request)
    }

    fn add(&mut self, request: &Request) -> Result<(), Failure> {
        let mut undo = Undo::new(self.plugin.faults());
        let plugin = self.plugin;
        let outcome = guard(|| {
            plugin
                .add(request, &mut undo)?
                .to_json(request.config.version)
        });
        let delivered = outcome
            .map_err(Failure::from)
            .and_then(|document| self.print(&document));
        match delivered {
            Ok(()) => {
                undo.commit();
                Ok(())
            }
            Err(failure) => Err(Failure {
                error: rolled_back(failure.error, &undo.rollback()),
                ..failure
            }),
        }
    }

    fn print(&mut self, document: &Value) -> Result<(), Failure> {
        write(&mut *self.stdout, document).map_err(|error| Failure { error, mute: true })
    }
}

fn versions() -> Value {
    json!({
        "cniVersion": SpecVersion::NEWEST.as_str(),
        "supportedVersions": SUPPORTED.map(SpecVersion::as_str),
    })
}

/// One write of the whole document, checked: `println!` would panic on a closed pipe.
fn write(stdout: &mut dyn Write, document: &Value) -> Result<(), CniError> {
    let line = format!("{document}\n");
    stdout
        .write_all(line.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|e| CniError::new(code::IO, format!("cannot write to stdout: {e}")))
}

/// ADD into the plugin's own namespace would change the host, DEL would sweep it: the
/// same test as the reference's, but before acting.
fn check_netns(request: &Request) -> Result<(), CniError> {
    let acts = matches!(request.command, Command::Add | Command::Del);
    let Some(path) = request.netns.as_ref().filter(|_| acts) else {
        return Ok(());
    };
    if request.env.netns_override() {
        return Ok(());
    }
    let theirs = match request.command {
        // It may be gone, and DEL has to work without.
        Command::Del => match Identity::of(path) {
            Ok(theirs) => theirs,
            Err(_gone) => return Ok(()),
        },
        _ => NetNs::open(path)
            .and_then(|netns| netns.identity())
            .map_err(|error| {
                CniError::told(
                    code::NETNS,
                    format_args!("CNI_NETNS {}", path.display()),
                    "use it as the container's namespace",
                    error,
                    "pass the path of a living network namespace",
                )
            })?,
    };
    if theirs == Identity::current()? {
        let msg = "plugin's netns and netns from CNI_NETNS should not be the same";
        return Err(CniError::new(code::NETNS, msg).details(format!(
            "CNI_NETNS is {}; pass the container's, or set CNI_NETNS_OVERRIDE=1 to mean it",
            path.display()
        )));
    }
    Ok(())
}

/// Runs a verb; a panic becomes code 104.
fn guard<T>(verb: impl FnOnce() -> Result<T, CniError>) -> Result<T, CniError> {
    // Nothing the verb touched is used afterwards but the undo list, whose entries are
    // complete at every point.
    catch_unwind(AssertUnwindSafe(verb)).unwrap_or_else(|panic| {
        let text = panic_text(&*panic);
        Err(
            CniError::new(code::INTERNAL, format!("internal error: {text}"))
                .details("this is a defect in the plugin; please report it with its log"),
        )
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic without a message")
}

/// The error after a rollback: unchanged if nothing is left, else code 102.
fn rolled_back(error: CniError, left: &[FailedInverse]) -> CniError {
    if left.is_empty() {
        return error;
    }
    let mut told = CniError::new(
        code::INCOMPLETE,
        format!(
            "ADD failed and could not be taken back whole: {}",
            error.msg
        ),
    );
    for inverse in left {
        told = told.details(inverse);
    }
    told.details(format!(
        "ADD failed with code {}: {}",
        error.code, error.details
    ))
    .details("run DEL for this attachment, it removes what is left")
}

#[cfg(test)]
mod tests;
