//! The options the running kernel was built with, from wherever the distribution
//! keeps them; honest about not knowing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use crate::error::{AbsentIsFine, Error, Result};
use crate::release::Release;
use crate::{Root, file};

/// A configuration is 300 KiB at most; this stops a file that is none.
const MAX_BYTES: u64 = 16 << 20;

/// How an option was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// `=y`: part of the kernel.
    BuiltIn,
    /// `=m`: a module, which may or may not be installed.
    Module,
    /// A number or text, without its quotes.
    Value(String),
    /// Not set.
    Off,
    /// The configuration was not found.
    Unknown,
}

/// A kernel configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kconfig {
    source: Option<PathBuf>,
    options: BTreeMap<String, Setting>,
}

impl Kconfig {
    /// The configuration of the running kernel, whose release is `release`: from
    /// `proc/config.gz` (`CONFIG_IKCONFIG_PROC`), `boot/config-RELEASE` or
    /// `lib/modules/RELEASE/config`, the first that exists. Where none does, every
    /// option is [`Setting::Unknown`].
    ///
    /// # Errors
    /// When the one that exists cannot be read.
    pub fn running(root: &Root, release: &Release) -> Result<Self> {
        let plain = [
            root.boot.join(format!("config-{release}")),
            root.modules.join(release.as_str()).join("config"),
        ];
        let packed = root.proc.join("config.gz");
        if let Some(text) = unpack(&packed).absent_is_fine()? {
            return Ok(Self::parse(packed, &text));
        }
        for path in plain {
            if let Some(text) = file::read(&path).absent_is_fine()? {
                return Ok(Self::parse(path, &text));
            }
        }
        Ok(Self::default())
    }

    /// The file it came from; `None`: no file was found.
    pub fn source(&self) -> Option<&Path> {
        self.source.as_deref()
    }

    /// How `option` is set; its name is given without `CONFIG_`.
    pub fn get(&self, option: &str) -> Setting {
        match (self.options.get(option), &self.source) {
            (Some(setting), _) => setting.clone(),
            (None, Some(_)) => Setting::Off,
            (None, None) => Setting::Unknown,
        }
    }

    /// Lines are `CONFIG_NAME=value`; what is off is a comment or absent.
    fn parse(source: PathBuf, text: &str) -> Self {
        let setting = |value: &str| match value {
            "y" => Setting::BuiltIn,
            "m" => Setting::Module,
            _ => Setting::Value(value.trim_matches('"').to_owned()),
        };
        let option = |line: &str| {
            let (name, value) = line.trim().strip_prefix("CONFIG_")?.split_once('=')?;
            Some((name.to_owned(), setting(value)))
        };
        Self {
            source: Some(source),
            options: text.lines().filter_map(option).collect(),
        }
    }
}

fn unpack(path: &Path) -> Result<String> {
    let file = File::open(path).map_err(|e| Error::io("open", path.display(), &e))?;
    let mut text = String::new();
    GzDecoder::new(file)
        .take(MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(|e| Error::io("unpack", path.display(), &e))?;
    Ok(text)
}

#[cfg(test)]
mod tests;
