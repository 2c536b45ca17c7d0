//! Offloads and the like: read with their names, set by difference (ETHTOOL_GFEATURES,
//! ETHTOOL_SFEATURES).

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::AsFd;

use super::Ethtool;
use super::ioctl::{
    self, ETH_SS_FEATURES, GFEATURES, GSSET_INFO, GSTRING_WORDS, GSTRINGS, SFEATURES,
};
use crate::error::{Error, Result};
use crate::names::IfName;

/// Bytes of one name with its NULs.
const GSTRING: usize = GSTRING_WORDS * size_of::<u32>();
/// Features a word holds, and so a block.
const BLOCK: usize = 32;

/// A feature of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// Whether it is on.
    pub active: bool,
    /// Whether it was asked for; it is on as soon as what it needs is.
    pub requested: bool,
    /// Whether it can be switched at all.
    pub changeable: bool,
}

/// A link's features by their names in the kernel, `rx-gro`, `tx-checksum-ipv4`
/// (`netdev_features_strings` in net/ethtool/common.c).
pub type Features = BTreeMap<String, Feature>;

impl Ethtool {
    /// The features of a link, those it does not have included.
    ///
    /// # Errors
    /// ENODEV if there is no such link.
    pub fn features(&self, link: &IfName) -> Result<Features> {
        let names = self.feature_names(link)?;
        let failed = |errno| Error::errno("read features of", link, errno);
        let blocks = names.len().div_ceil(BLOCK);
        // Command, number of blocks; then available, requested, active and
        // never changed of each.
        let mut words = vec![0; 2 + 4 * blocks];
        words[0] = GFEATURES;
        words[1] = count(blocks);
        ioctl::ethtool(self.socket.as_fd(), link, &mut words).map_err(failed)?;
        Ok(read(&names, &words[2..]))
    }

    /// Asks for features to be on or off, those named alone; whether all of them came
    /// to be so. A feature that cannot be switched, or needs another one, stays as it
    /// is and makes it `false`.
    ///
    /// # Errors
    /// ENODEV if there is no such link; a name the kernel does not know is malformed.
    pub fn set_features(&self, link: &IfName, wish: &BTreeMap<String, bool>) -> Result<bool> {
        let names = self.feature_names(link)?;
        let op = || format!("set features {} of", Wish(wish));
        let mut words = vec![0; 2 + 2 * names.len().div_ceil(BLOCK)];
        words[0] = SFEATURES;
        words[1] = count(names.len().div_ceil(BLOCK));
        write(&names, wish, &mut words[2..]).map_err(|unknown| {
            let reason = format!("the kernel knows no feature {unknown}");
            Error::malformed(op(), link, reason)
        })?;
        let left = ioctl::ethtool(self.socket.as_fd(), link, &mut words)
            .map_err(|errno| Error::errno(op(), link, errno))?;
        log::debug!("{} {link}", op());
        Ok(left == 0)
    }

    /// The names of all features, by bit.
    fn feature_names(&self, link: &IfName) -> Result<Vec<String>> {
        let failed = |errno| Error::errno("read names of features of", link, errno);
        // Command, reserved, mask of string sets in two words, and the length of the
        // one set asked for.
        let mut info = [GSSET_INFO, 0, 1 << ETH_SS_FEATURES, 0, 0];
        ioctl::ethtool(self.socket.as_fd(), link, &mut info).map_err(failed)?;
        let len = usize::try_from(info[4]).unwrap_or_default();
        // Command, string set, number of strings, strings.
        let mut words = vec![0; 3 + len * GSTRING_WORDS];
        words[..3].copy_from_slice(&[GSTRINGS, ETH_SS_FEATURES, count(len)]);
        ioctl::ethtool(self.socket.as_fd(), link, &mut words).map_err(failed)?;
        let bytes: Vec<u8> = words[3..].iter().flat_map(|w| w.to_ne_bytes()).collect();
        Ok(bytes.chunks_exact(GSTRING).map(name).collect())
    }
}

/// One name: a string of at most 31 bytes, padded with NULs.
fn name(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

/// A length of one of the kernel's small tables.
fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Reads blocks of available, requested, active and never changed bits. Bits without a
/// name are not in use.
fn read(names: &[String], words: &[u32]) -> Features {
    let blocks = words.chunks_exact(4);
    let named = names.chunks(BLOCK).zip(blocks).flat_map(|(names, block)| {
        names.iter().enumerate().map(move |(bit, name)| {
            let has = |word: usize| block[word] & (1 << bit) != 0;
            let feature = Feature {
                active: has(2),
                requested: has(1),
                changeable: has(0) && !has(3),
            };
            (name.clone(), feature)
        })
    });
    named.filter(|(name, _)| !name.is_empty()).collect()
}

/// Fills blocks of valid and requested bits; a name without bit is the error.
fn write<'a>(
    names: &[String],
    wish: &'a BTreeMap<String, bool>,
    words: &mut [u32],
) -> std::result::Result<(), &'a str> {
    for (name, on) in wish {
        let bit = names.iter().position(|n| n == name && !n.is_empty());
        let bit = bit.ok_or(name.as_str())?;
        let (block, mask) = (2 * (bit / BLOCK), 1 << (bit % BLOCK));
        words[block] |= mask;
        if *on {
            words[block + 1] |= mask;
        }
    }
    Ok(())
}

/// A wish as text: `rx-gro on, tx-lockless off`.
struct Wish<'a>(&'a BTreeMap<String, bool>);

impl fmt::Display for Wish<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, on)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{name} {}", if *on { "on" } else { "off" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        let mut names: Vec<String> = (0..40).map(|i| format!("f{i}")).collect();
        names[3].clear();
        names
    }

    #[test]
    fn bits_become_features_across_words() {
        // f0: on and asked for; f1: asked for, not on; f33: fixed on.
        let words = [0b11, 0b11, 0b01, 0, 0b10, 0b10, 0b10, 0b10];
        let read = read(&names(), &words);
        assert_eq!(read.len(), 39, "one bit has no name");
        let feature = |name: &str| {
            (
                read[name].active,
                read[name].requested,
                read[name].changeable,
            )
        };
        assert_eq!(feature("f0"), (true, true, true));
        assert_eq!(feature("f1"), (false, true, true));
        assert_eq!(feature("f2"), (false, false, false));
        assert_eq!(feature("f33"), (true, true, false));
    }

    #[test]
    fn a_wish_touches_the_named_bits_alone() {
        let wish = BTreeMap::from([("f1".to_owned(), true), ("f39".to_owned(), false)]);
        let mut words = [0; 4];
        assert_eq!(write(&names(), &wish, &mut words), Ok(()));
        assert_eq!(words, [0b10, 0b10, 1 << 7, 0]);
        assert_eq!(Wish(&wish).to_string(), "f1 on, f39 off");
    }

    #[test]
    fn an_unknown_name_is_refused() {
        for unknown in ["f40", ""] {
            let wish = BTreeMap::from([(unknown.to_owned(), true)]);
            assert_eq!(write(&names(), &wish, &mut [0; 4]), Err(unknown));
        }
    }

    #[test]
    fn names_end_at_their_nul() {
        let mut bytes = [0; GSTRING];
        bytes[..6].copy_from_slice(b"rx-gro");
        assert_eq!(name(&bytes), "rx-gro");
        assert_eq!(name(&[b'x'; GSTRING]).len(), GSTRING);
    }
}
