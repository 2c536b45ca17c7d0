//! The kernel's release, `6.12.43+deb13-amd64`, and what it is at least.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::names::Invalid;
use crate::{Root, file};

/// Major and minor number of a kernel: what a feature's first version is given in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// 6 of 6.12.
    pub major: u32,
    /// 12 of 6.12.
    pub minor: u32,
}

impl Version {
    /// The version `major.minor`.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A kernel's whole release text, with its version understood.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Release {
    text: String,
    version: Version,
}

impl Release {
    /// The running kernel's: `sys/kernel/osrelease` of procfs.
    ///
    /// # Errors
    /// When the file cannot be read or holds no release.
    pub fn running(root: &Root) -> Result<Self> {
        file::parse(&root.proc.join("sys/kernel/osrelease"))
    }

    /// The text as `uname -r` prints it: the name of its directory of modules.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Major and minor number.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether it is `version` or newer. A distribution may have taken a feature back
    /// to an older kernel: where the kernel can be asked, ask.
    pub fn is_at_least(&self, version: Version) -> bool {
        self.version >= version
    }
}

impl FromStr for Release {
    type Err = Invalid;

    fn from_str(text: &str) -> std::result::Result<Self, Invalid> {
        let invalid = || {
            Invalid(format!(
                "{text:?} is not a kernel release like 6.12.43-amd64"
            ))
        };
        // It becomes part of a path.
        if text.contains('/') || text.contains(char::is_whitespace) {
            return Err(invalid());
        }
        let (major, rest) = text.split_once('.').ok_or_else(invalid)?;
        let end = rest.find(|c: char| !c.is_ascii_digit());
        let minor = &rest[..end.unwrap_or(rest.len())];
        let number = |digits: &str| {
            let plain = digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse().ok().filter(|_| plain).ok_or_else(invalid)
        };
        Ok(Self {
            text: text.to_owned(),
            version: Version::new(number(major)?, number(minor)?),
        })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Release {
    type Error = Invalid;

    fn try_from(text: String) -> std::result::Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Release> for String {
    fn from(release: Release) -> String {
        release.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_understood() {
        for (text, major, minor) in [
            ("6.12.43+deb13-amd64", 6, 12),
            ("5.14.0-503.el9.x86_64", 5, 14),
            ("6.1", 6, 1),
            ("6.18-rc4", 6, 18),
            ("10.0.1", 10, 0),
        ] {
            let release: Release = text.parse().unwrap();
            assert_eq!(release.version(), Version::new(major, minor), "{text}");
            assert_eq!(release.to_string(), text);
        }
        for bad in [
            "",
            "6",
            "6.",
            ".1",
            "v6.1",
            "+6.1",
            "6.x",
            "6.1/../..",
            "6.1 2",
            "99999999999.1",
        ] {
            assert!(bad.parse::<Release>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn versions_compare_by_number_and_not_by_text() {
        let release: Release = "6.12.43".parse().unwrap();
        for (major, minor, expected) in [
            (6, 12, true),
            (6, 7, true),
            (5, 14, true),
            (6, 13, false),
            (7, 0, false),
        ] {
            let version = Version::new(major, minor);
            assert_eq!(release.is_at_least(version), expected, "{version}");
        }
    }

    #[test]
    fn the_running_release_comes_from_procfs() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        std::fs::create_dir_all(root.proc.join("sys/kernel")).unwrap();
        std::fs::write(root.proc.join("sys/kernel/osrelease"), "6.1.0-9-amd64\n").unwrap();
        assert_eq!(Release::running(&root).unwrap().as_str(), "6.1.0-9-amd64");
    }
}
