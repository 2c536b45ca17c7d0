//! Messages: one line each, with network, container and interface, to standard error
//! (from where the runtime's journal takes it) or to `logFile`. Standard output is
//! the protocol's.
//!
//! Error: what was asked for failed. Warn: odd, but done. Info: state changed.
//! Debug: each write to the kernel.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter};
use serde_json::Value;

use crate::error::CniError;
use crate::request::{Config, Env};

/// Where standard error goes, shared by the log and by what a delegate writes.
pub(crate) type Sink = Arc<Mutex<Box<dyn Write + Send>>>;

/// A logger; clones write to the same place.
#[derive(Clone)]
pub struct Log {
    plugin: String,
    about: String,
    filter: LevelFilter,
    sink: Sink,
    file: Option<Arc<File>>,
    /// Whether `logFile` is opened, which makes it.
    opens_file: bool,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log({}{}, {})", self.plugin, self.about, self.filter)
    }
}

impl Log {
    /// A logger on `stderr` at level info.
    pub fn new(plugin: &str, stderr: Box<dyn Write + Send>) -> Self {
        Self {
            plugin: plugin.to_owned(),
            about: String::new(),
            filter: LevelFilter::Info,
            sink: Arc::new(Mutex::new(stderr)),
            file: None,
            opens_file: true,
        }
    }

    /// A logger that writes nothing anywhere: for a request that is only looked at.
    pub(crate) fn silent() -> Self {
        Self {
            opens_file: false,
            ..Self::new("", Box::new(std::io::sink()))
        }
    }

    /// The same logger at another level.
    #[must_use]
    pub fn at(mut self, level: LevelFilter) -> Self {
        self.filter = level;
        self
    }

    /// The same logger with what `config` wants, naming the attachment in each line.
    ///
    /// # Errors
    /// Code 7 for an unknown `logLevel` or a relative `logFile`.
    pub(crate) fn for_call(&self, config: &Config, env: &Env) -> Result<Self, CniError> {
        let mut log = self.clone();
        log.about = format!(" network={}", config.name);
        for (label, variable) in [
            ("container", "CNI_CONTAINERID"),
            ("ifname", "CNI_IFNAME"),
            ("traceparent", "TRACEPARENT"),
        ] {
            if let Some(value) = env.get(variable) {
                log.about.push_str(&format!(" {label}={}", one_word(value)));
            }
        }
        let lenient = env
            .command()
            .ok()
            .flatten()
            .is_some_and(|command| !command.validates_keys());
        let level = level(config);
        let file = file(config);
        if lenient {
            log.filter = level.unwrap_or(LevelFilter::Info);
            log.open(file.unwrap_or_default());
        } else {
            log.filter = level?;
            log.open(file?);
        }
        Ok(log)
    }

    /// A log file that cannot be opened costs a warning, never the attachment.
    fn open(&mut self, path: &str) {
        if path.is_empty() || !self.opens_file {
            return;
        }
        let mut how = OpenOptions::new();
        let opened = how.append(true).create(true).mode(0o600).open(path);
        match opened {
            Ok(file) => self.file = Some(Arc::new(file)),
            Err(e) => self.warn(format_args!("cannot open logFile {path}: {e}")),
        }
    }

    /// Makes this the process's logger, so that the libraries' messages come here.
    pub fn install(&self) {
        log::set_max_level(self.filter);
        if log::set_boxed_logger(Box::new(self.clone())).is_err() {
            self.debug("another logger is installed already");
        }
    }

    /// What was asked for failed.
    pub fn error(&self, message: impl fmt::Display) {
        self.write(Level::Error, &message);
    }

    /// Odd, but done.
    pub fn warn(&self, message: impl fmt::Display) {
        self.write(Level::Warn, &message);
    }

    /// State changed.
    pub fn info(&self, message: impl fmt::Display) {
        self.write(Level::Info, &message);
    }

    /// A write to the kernel, with its value.
    pub fn debug(&self, message: impl fmt::Display) {
        self.write(Level::Debug, &message);
    }

    fn write(&self, level: Level, message: &dyn fmt::Display) {
        if level > self.filter {
            return;
        }
        let level = level.as_str().to_lowercase();
        let message = message.to_string().replace('\n', " | ");
        let line = format!("{level} {}{}: {message}\n", self.plugin, self.about);
        match &self.file {
            // One write for a line, so that plugins running at once do not mix.
            Some(file) => {
                let line = format!("{} {line}", timestamp(SystemTime::now()));
                let mut file: &File = file;
                if file.write_all(line.as_bytes()).is_err() {
                    self.raw(line.as_bytes());
                }
            }
            None => self.raw(line.as_bytes()),
        }
    }

    /// Passes bytes to standard error as they are: a delegate's words. Nothing can be
    /// done when standard error is gone.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let _gone = sink.write_all(bytes).and_then(|()| sink.flush());
    }
}

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= self.filter
    }

    fn log(&self, record: &log::Record<'_>) {
        self.write(record.level(), record.args());
    }

    fn flush(&self) {}
}

/// What to write for a level.
pub const LEVELS: &str = "use error, warn, info or debug";

/// The level of this name; `None` if there is none.
pub fn level_of(name: &str) -> Option<LevelFilter> {
    match name {
        "error" => Some(LevelFilter::Error),
        "warn" | "warning" => Some(LevelFilter::Warn),
        "info" => Some(LevelFilter::Info),
        "debug" => Some(LevelFilter::Debug),
        _ => None,
    }
}

fn level(config: &Config) -> Result<LevelFilter, CniError> {
    match config.raw.get("logLevel") {
        None | Some(Value::Null) => Ok(LevelFilter::Info),
        Some(Value::String(name)) if name.is_empty() => Ok(LevelFilter::Info),
        Some(value) => value
            .as_str()
            .and_then(level_of)
            .ok_or_else(|| CniError::config("logLevel", value, "no such level", LEVELS)),
    }
}

fn file(config: &Config) -> Result<&str, CniError> {
    match config.raw.get("logFile") {
        None | Some(Value::Null) => Ok(""),
        Some(value) => value
            .as_str()
            .filter(|path| path.is_empty() || Path::new(path).is_absolute())
            .ok_or_else(|| {
                CniError::config(
                    "logFile",
                    value,
                    "it must be an absolute path",
                    "correct it",
                )
            }),
    }
}

/// Keeps a value from another program from breaking the line apart.
fn one_word(text: &str) -> String {
    let plain = |c: char| {
        if c.is_whitespace() || c.is_control() {
            '_'
        } else {
            c
        }
    };
    text.chars().map(plain).collect()
}

/// `2026-01-31T23:59:59Z`, the civil date of Howard Hinnant's days algorithm.
fn timestamp(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests;
