//! The key of an attachment and the names derived from it, by which DEL and GC find
//! their things on the node even without a record.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use berth_kernel::names::Invalid;
use berth_kernel::{IfName, VlanId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// First word of every alias of ours; the digit changes with the alias's shape.
pub const ALIAS_TAG: &str = "berth1";

/// The longest alias the kernel keeps: `IFALIASZ` (include/uapi/linux/if.h) less one.
const ALIAS_MAX: usize = 255;

/// One attachment: network name, container id, interface name in the container.
///
/// Network and container id are what the CNI specification allows (a letter or a
/// digit, then letters, digits, `_`, `.` and `-`), so each can be a file name. All
/// three together fit an interface alias.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key {
    network: String,
    container_id: String,
    ifname: IfName,
}

impl Key {
    /// The key of an attachment.
    ///
    /// # Errors
    /// A network name or container id with other characters, or all three together
    /// too long for an interface alias.
    pub fn new(network: &str, container_id: &str, ifname: IfName) -> Result<Self, Invalid> {
        check_word("network name", network)?;
        check_word("container id", container_id)?;
        let key = Self {
            network: network.to_owned(),
            container_id: container_id.to_owned(),
            ifname,
        };
        match key.alias().len() {
            0..=ALIAS_MAX => Ok(key),
            length => Err(Invalid(format!(
                "network name, container id and interface name make an alias of {length} bytes, \
                 the kernel keeps {ALIAS_MAX}: shorten the network name"
            ))),
        }
    }

    /// The network's name.
    pub fn network(&self) -> &str {
        &self.network
    }

    /// The container's id, as the runtime gave it.
    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    /// The interface's name inside the container.
    pub fn ifname(&self) -> &IfName {
        &self.ifname
    }

    /// The name of the host's end: `bv` and the first 12 hex digits of SHA-256 over
    /// network NUL id NUL ifname.
    pub fn port_name(&self) -> IfName {
        let parts = [&self.network, &self.container_id, self.ifname.as_str()];
        hashed_name("bv", &parts)
    }

    /// The name of the device through which what the container sends is limited: `bi` and
    /// the digits of [`Key::port_name`].
    pub fn ifb_name(&self) -> IfName {
        let parts = [&self.network, &self.container_id, self.ifname.as_str()];
        hashed_name("bi", &parts)
    }

    /// The owner's mark on a link: `berth1 NETWORK ID IFNAME`.
    pub fn alias(&self) -> String {
        let Self {
            network,
            container_id,
            ifname,
        } = self;
        format!("{ALIAS_TAG} {network} {container_id} {ifname}")
    }

    /// The key an alias names; `None` for every alias that is not exactly of that shape.
    pub fn from_alias(alias: &str) -> Option<Self> {
        let mut words = alias.split(' ');
        if words.next() != Some(ALIAS_TAG) {
            return None;
        }
        let (network, id, ifname) = (words.next()?, words.next()?, words.next()?);
        match words.next() {
            Some(_) => None,
            None => Self::new(network, id, ifname.parse().ok()?).ok(),
        }
    }
}

/// A short name derived from longer ones: `prefix` and the first 12 hex digits of
/// SHA-256 over the parts, a NUL between them.
pub fn name_of(prefix: &str, parts: &[&str]) -> String {
    let digest = Sha256::digest(parts.join("\0"));
    let mut name = prefix.to_owned();
    for byte in digest.iter().take(6) {
        // Writing to a String cannot fail.
        let _ok = write!(name, "{byte:02x}");
    }
    name
}

/// The name of the link for one VLAN of `lower`, `LOWER.VLAN`; where that is longer than
/// the kernel allows, `bd` and 12 hex digits of its SHA-256.
pub fn vlan_link_name(lower: &IfName, vlan: VlanId) -> IfName {
    let plain = format!("{lower}.{vlan}");
    plain
        .parse()
        .unwrap_or_else(|_long| hashed_name("bd", &[&plain]))
}

/// [`name_of`] as a link's, with a prefix of two letters.
fn hashed_name(prefix: &str, parts: &[&str]) -> IfName {
    #[allow(
        clippy::expect_used,
        reason = "two letters and 12 hex digits are an interface name"
    )]
    name_of(prefix, parts).parse().expect("derived name")
}

/// `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`, the CNI specification's names (section 2,
/// "Parameters"). It is also what makes them safe as file names.
fn check_word(what: &str, text: &str) -> Result<(), Invalid> {
    let first = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let rest = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if first && rest {
        Ok(())
    } else {
        Err(Invalid(format!(
            "{what} {text:?} does not match [a-zA-Z0-9][a-zA-Z0-9_.-]*"
        )))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.network, self.container_id, self.ifname)
    }
}

impl FromStr for Key {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parts = text
            .split_once('/')
            .and_then(|(network, rest)| rest.split_once(':').map(|(id, name)| (network, id, name)));
        let (network, id, ifname) = parts.ok_or_else(|| {
            Invalid(format!(
                "{text:?} is not an attachment like NETWORK/CONTAINERID:IFNAME"
            ))
        })?;
        Self::new(network, id, ifname.parse()?)
    }
}

impl TryFrom<String> for Key {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Key> for String {
    fn from(key: Key) -> String {
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(network: &str, id: &str, ifname: &str) -> Result<Key, Invalid> {
        Key::new(network, id, ifname.parse()?)
    }

    #[test]
    fn port_name_is_the_documented_hash() {
        // printf 'blue\0c1\0eth0' | sha256sum
        let key = key("blue", "c1", "eth0").unwrap();
        assert_eq!(key.port_name().as_str(), "bvb07fa601e514");
        assert_eq!(key.ifb_name().as_str(), "bib07fa601e514");
    }

    #[test]
    fn what_could_leave_a_directory_or_split_an_alias_is_refused() {
        for bad in [
            "", ".", "..", "a/b", "../x", "a b", "a:b", "-a", "é", "a\n", "a\0",
        ] {
            assert!(key(bad, "c1", "eth0").is_err(), "network {bad:?}");
            assert!(key("blue", bad, "eth0").is_err(), "id {bad:?}");
        }
    }

    #[test]
    fn a_vlans_link_is_named_after_its_lower_one_where_that_fits() {
        let of = |lower: &str| {
            let vlan = 100.try_into().unwrap();
            vlan_link_name(&lower.parse().unwrap(), vlan).to_string()
        };
        assert_eq!(of("br0"), "br0.100");
        assert_eq!(of("bridge-long"), "bridge-long.100");
        let hashed = of("bridge-longer");
        assert!(hashed.starts_with("bd") && hashed.len() == 14, "{hashed}");
        assert_ne!(hashed, of("bridge-longes"));
    }

    #[test]
    fn the_alias_fits_the_kernel_to_the_byte() {
        let fits = "c".repeat(ALIAS_MAX - "berth1 blue  eth0".len());
        assert_eq!(key("blue", &fits, "eth0").unwrap().alias().len(), ALIAS_MAX);
        let error = key("blue", &format!("{fits}c"), "eth0").unwrap_err();
        assert!(error.to_string().contains("256 bytes"), "{error}");
    }

    #[test]
    fn foreign_aliases_are_nobodys() {
        for alias in [
            "",
            "berth1",
            "berth1 bridge",
            "berth1 bridge keep",
            "berth1 blue c1 eth0 more",
            "berth1 blue c1  eth0",
            "berth1  blue c1 eth0",
            "berth1 blue c1 eth0 ",
            "berth1 blue c1 ../eth0",
            "berth2 blue c1 eth0",
            "Berth1 blue c1 eth0",
            "berth1\tblue c1 eth0",
        ] {
            assert_eq!(Key::from_alias(alias), None, "{alias:?}");
        }
    }

    prop_compose! {
        fn any_key()(
            network in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,80}",
            id in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,130}",
            ifname in "[^/:\\s\\x00.]{1,3}[^/:\\s\\x00]{0,3}",
        ) -> Key {
            let ifname = ifname.parse().unwrap_or_else(|_| "eth0".parse().unwrap());
            Key::new(&network, &id, ifname).unwrap()
        }
    }

    proptest! {
        #[test]
        fn alias_and_text_give_the_key_back(key in any_key()) {
            prop_assert_eq!(Key::from_alias(&key.alias()), Some(key.clone()));
            prop_assert_eq!(key.to_string().parse::<Key>(), Ok(key.clone()));
            let json = serde_json::to_string(&key).unwrap();
            prop_assert_eq!(serde_json::from_str::<Key>(&json).unwrap(), key);
        }

        #[test]
        fn no_text_is_a_key_but_its_own(text in "\\PC{0,40}", tail in "[a-z]/[a-z]:[a-z ]{0,4}") {
            for text in [text, tail] {
                if let Ok(key) = text.parse::<Key>() {
                    prop_assert_eq!(key.to_string(), text);
                }
            }
        }

        #[test]
        fn port_names_tell_keys_apart(one in any_key(), other in any_key()) {
            prop_assert_eq!(one == other, one.port_name() == other.port_name());
            prop_assert_eq!(one.port_name().as_str().len(), 14);
        }

        // NUL between the parts: "ab"+"c" and "a"+"bc" must not meet.
        #[test]
        fn moving_a_letter_between_parts_changes_the_port(word in "[a-z]{3,20}", at in 1usize..20) {
            let at = 1 + at % (word.len() - 2);
            let ports = [at, at + 1].map(|at| {
                let (network, id) = word.split_at(at);
                key(network, id, "eth0").unwrap().port_name()
            });
            prop_assert_ne!(&ports[0], &ports[1]);
        }
    }
}
