//! Block devices: which disk a path is on, what it is made of, and its writeback
//! throttling (Documentation/ABI/stable/sysfs-block).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::Invalid;

mod device;

pub use device::{Device, OnDisk, of_path};

/// A device's major and minor number, `254:16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceNumber {
    /// The driver's.
    pub major: u32,
    /// The device's at that driver.
    pub minor: u32,
}

impl DeviceNumber {
    /// The numbers in a `dev_t`, as stat(2) has it.
    pub fn of(device: u64) -> Self {
        // `libc::major` and `libc::minor` have other types on other C libraries.
        let (major, minor) = (libc::major(device), libc::minor(device));
        #[expect(
            clippy::useless_conversion,
            reason = "the type differs between C libraries"
        )]
        Self {
            major: u32::try_from(major).unwrap_or(u32::MAX),
            minor: u32::try_from(minor).unwrap_or(u32::MAX),
        }
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl FromStr for DeviceNumber {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let numbers = text
            .split_once(':')
            .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        let (major, minor) = numbers
            .ok_or_else(|| Invalid(format!("{text:?} is not a device number like 254:16")))?;
        Ok(Self { major, minor })
    }
}

impl TryFrom<String> for DeviceNumber {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<DeviceNumber> for String {
    fn from(number: DeviceNumber) -> Self {
        number.to_string()
    }
}
