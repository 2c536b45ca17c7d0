//! Versions of the CNI specification: which exist, and what each allows.

use std::fmt;

/// A version of the specification this library speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpecVersion {
    /// 0.1.0; also what an absent `cniVersion` means.
    V010,
    /// 0.2.0, the last with `ip4` and `ip6` in its result.
    V020,
    /// 0.3.0: interfaces, and a list of addresses.
    V030,
    /// 0.3.1, same as 0.3.0 in everything a plugin sees.
    V031,
    /// 0.4.0: CHECK, and `prevResult` for DEL.
    V040,
    /// 1.0.0: no `version` in addresses.
    V100,
    /// 1.1.0: GC, STATUS, more fields of interfaces and routes.
    V110,
}

/// Every version, oldest first: the answer to VERSION.
pub const SUPPORTED: [SpecVersion; 7] = [
    SpecVersion::V010,
    SpecVersion::V020,
    SpecVersion::V030,
    SpecVersion::V031,
    SpecVersion::V040,
    SpecVersion::V100,
    SpecVersion::V110,
];

impl SpecVersion {
    /// The newest version of the specification.
    pub const NEWEST: Self = Self::V110;

    /// The version as the specification writes it, `1.1.0`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V010 => "0.1.0",
            Self::V020 => "0.2.0",
            Self::V030 => "0.3.0",
            Self::V031 => "0.3.1",
            Self::V040 => "0.4.0",
            Self::V100 => "1.0.0",
            Self::V110 => "1.1.0",
        }
    }

    /// The version written exactly as `text`; empty means 0.1.0. `1.0` is not 1.0.0:
    /// the reference compares bytes.
    pub fn exactly(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::V010);
        }
        SUPPORTED.into_iter().find(|v| v.as_str() == text)
    }

    /// Whether results have `ip4` and `ip6` instead of a list of addresses.
    pub fn has_one_address_per_family(self) -> bool {
        self <= Self::V020
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A version as three numbers, which is how the minimum for a verb is compared even
/// for versions nobody supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Numbers(pub u32, pub u32, pub u32);

impl Numbers {
    /// Reads one to three numbers with dots between them; empty means 0.1.0.
    ///
    /// # Errors
    /// The sentence to show when `text` is not of that form.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(0, 1, 0));
        }
        let parts: Vec<&str> = text.split('.').collect();
        if parts.len() > 3 {
            return Err(format!(
                "invalid version {text:?}: more than three parts, expected one like 1.1.0"
            ));
        }
        let mut numbers = [0; 3];
        for (number, part) in numbers.iter_mut().zip(&parts) {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            *number = part.parse().ok().filter(|_| digits).ok_or_else(|| {
                format!("invalid version {text:?}: {part:?} is not a number, expected 1.1.0")
            })?;
        }
        Ok(Self(numbers[0], numbers[1], numbers[2]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_bytes_are_a_supported_version() {
        for version in SUPPORTED {
            assert_eq!(SpecVersion::exactly(version.as_str()), Some(version));
        }
        assert_eq!(SpecVersion::exactly(""), Some(SpecVersion::V010));
        for text in ["1.0", "1", "v1.0.0", "1.1.1", "0.3.2", " 1.0.0", "1.00.0"] {
            assert_eq!(SpecVersion::exactly(text), None, "{text:?}");
        }
    }

    #[test]
    fn versions_are_ordered_as_they_were_published() {
        assert!(SUPPORTED.windows(2).all(|pair| pair[0] < pair[1]));
        let numbers = |v: SpecVersion| Numbers::parse(v.as_str());
        assert!(SUPPORTED.windows(2).all(|p| numbers(p[0]) < numbers(p[1])));
        assert_eq!(SUPPORTED.last(), Some(&SpecVersion::NEWEST));
    }

    #[test]
    fn one_to_three_numbers_make_a_version() {
        assert_eq!(Numbers::parse("1"), Ok(Numbers(1, 0, 0)));
        assert_eq!(Numbers::parse("0.4"), Ok(Numbers(0, 4, 0)));
        assert_eq!(Numbers::parse("12.3.45"), Ok(Numbers(12, 3, 45)));
        assert_eq!(Numbers::parse(""), Ok(Numbers(0, 1, 0)));
        for bad in [
            "a",
            "1.",
            "1.2.3.4",
            "+1.0.0",
            "1.-2.0",
            "1..0",
            "99999999999",
        ] {
            assert!(Numbers::parse(bad).is_err(), "{bad:?}");
        }
    }
}
