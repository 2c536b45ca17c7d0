//! Names and numbers the kernel knows things by, checked once at the border.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not the name it should be. Callers add the key it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid(pub String);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Invalid {}

/// A network interface name: 1 to 15 bytes (IFNAMSIZ less the NUL), not `.` or
/// `..`, without `/`, `:` and white space (`dev_valid_name` in net/core/dev.c), and
/// without `%`, of which the kernel makes a free name (`dev_alloc_name`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(String);

impl IfName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IfName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let problem = if text.is_empty() {
            "interface name is empty"
        } else if text.len() > 15 {
            "interface name is too long"
        } else if text == "." || text == ".." {
            "interface name is . or .."
        } else if text.contains(['/', ':']) || text.contains(char::is_whitespace) {
            "interface name contains / or : or whitespace characters"
        } else if text.contains('%') {
            "interface name contains %: the kernel would make up another name from it"
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(Invalid(problem.to_owned()))
    }
}

/// An alternative interface name: 1 to 127 bytes (ALTIFNAMSIZ less the NUL). The kernel
/// checks nothing else (`rtnl_alt_ifname` in net/core/rtnetlink.c), so the bytes are
/// kept; as text, what is not UTF-8 is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AltName(Vec<u8>);

impl AltName {
    /// The name these bytes make; an empty one, one of over 127 bytes or one with a
    /// NUL inside is none.
    pub fn of(bytes: &[u8]) -> Result<Self, Invalid> {
        let problem = if bytes.is_empty() {
            "alternative interface name is empty"
        } else if bytes.len() > 127 {
            "alternative interface name is longer than 127 bytes"
        } else if bytes.contains(&0) {
            "alternative interface name contains a NUL"
        } else {
            return Ok(Self(bytes.to_vec()));
        };
        Err(Invalid(problem.to_owned()))
    }

    /// The name as the kernel has it, without NUL.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&IfName> for AltName {
    fn from(name: &IfName) -> Self {
        Self(name.as_str().as_bytes().to_vec())
    }
}

impl FromStr for AltName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::of(text.as_bytes())
    }
}

impl fmt::Display for AltName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// An 802.1Q VLAN id, 1 to 4094 (0 and 4095 are reserved).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct VlanId(u16);

impl VlanId {
    /// The id every port gets by default on a bridge with `default_pvid 1`.
    pub const DEFAULT: Self = Self(1);

    /// The id as a number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for VlanId {
    type Error = Invalid;

    fn try_from(id: u16) -> Result<Self, Invalid> {
        if (1..=4094).contains(&id) {
            Ok(Self(id))
        } else {
            Err(Invalid(format!("VLAN ID {id} is not between 1 and 4094")))
        }
    }
}

impl From<VlanId> for u16 {
    fn from(id: VlanId) -> Self {
        id.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A 48-bit Ethernet address, written `02:00:5e:10:00:01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// Whether an interface may carry it: neither multicast nor all zero
    /// (`is_valid_ether_addr` in include/linux/etherdevice.h).
    pub fn is_assignable(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }

    /// A locally administered unicast address made of six digest bytes.
    pub fn local(bytes: [u8; 6]) -> Self {
        let mut mac = bytes;
        mac[0] = (mac[0] & 0xfc) | 0x02;
        Self(mac)
    }
}

impl FromStr for MacAddr {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || {
            Invalid(format!(
                "{text:?} is not a MAC address like 02:00:5e:10:00:01"
            ))
        };
        let mut mac = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut mac {
            let part = parts.next().filter(|p| p.len() == 2 && !p.starts_with('+'));
            *byte = part
                .and_then(|p| u8::from_str_radix(p, 16).ok())
                .ok_or_else(invalid)?;
        }
        if parts.next().is_some() {
            Err(invalid())
        } else {
            Ok(Self(mac))
        }
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A PCI function, written `0000:01:10.2` (domain, bus, device, function).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciAddr {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl FromStr for PciAddr {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid(format!("{text:?} is not a PCI address like 0000:01:10.2"));
        let hex = |part: &str, len: usize| {
            let digits = part.len() == len && part.bytes().all(|b| b.is_ascii_hexdigit());
            if digits {
                u32::from_str_radix(part, 16).ok()
            } else {
                None
            }
        };
        let byte = |part: &str, len: usize, max: u8| {
            hex(part, len)
                .and_then(|n| u8::try_from(n).ok())
                .filter(|n| *n <= max)
        };
        let (domain, rest) = text.split_once(':').ok_or_else(invalid)?;
        let (bus, rest) = rest.split_once(':').ok_or_else(invalid)?;
        let (device, function) = rest.split_once('.').ok_or_else(invalid)?;
        Ok(Self {
            domain: hex(domain, domain.len().clamp(4, 8)).ok_or_else(invalid)?,
            bus: byte(bus, 2, u8::MAX).ok_or_else(invalid)?,
            device: byte(device, 2, 0x1f).ok_or_else(invalid)?,
            function: byte(function, 1, 7).ok_or_else(invalid)?,
        })
    }
}

impl fmt::Display for PciAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04x}:{:02x}:{:02x}.{:x}",
            self.domain, self.bus, self.device, self.function
        )
    }
}

/// Conversions to and from `String`, which serde asks for, out of `FromStr` and `Display`.
macro_rules! text_conversions {
    ($($type:ty),*) => {$(
        impl TryFrom<String> for $type {
            type Error = Invalid;
            fn try_from(text: String) -> std::result::Result<Self, Invalid> { text.parse() }
        }
        impl From<$type> for String {
            fn from(value: $type) -> String { value.to_string() }
        }
    )*};
}
pub(crate) use text_conversions;
text_conversions!(MacAddr, PciAddr, IfName, AltName);

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_keep_the_kernels_limits() {
        for good in ["a", "eth0", "bv0123456789ab", "123456789012345", "br-é"] {
            assert_eq!(
                good.parse::<IfName>().map(|n| n.to_string()),
                Ok(good.to_owned())
            );
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a:b",
            "a b",
            "1234567890123456",
            "br%d",
        ] {
            assert!(bad.parse::<IfName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn alternative_names_are_bytes_of_limited_length() {
        let name = AltName::of(&[0xff, b'a']).unwrap();
        assert_eq!(
            (name.as_bytes(), name.to_string().as_str()),
            (&[0xff, b'a'][..], "\u{fffd}a")
        );
        assert!(AltName::of(&[b'x'; 127]).is_ok() && AltName::of(&[b'x'; 128]).is_err());
        assert!(AltName::of(b"").is_err() && AltName::of(b"a\0b").is_err());
        assert_eq!(
            AltName::from(&"eth0".parse().unwrap()),
            "eth0".parse().unwrap()
        );
    }

    #[test]
    fn vlan_ids_exclude_both_reserved_values() {
        assert!(VlanId::try_from(0).is_err());
        assert_eq!(VlanId::try_from(1).map(VlanId::get), Ok(1));
        assert_eq!(VlanId::try_from(4094).map(VlanId::get), Ok(4094));
        assert!(VlanId::try_from(4095).is_err());
    }

    #[test]
    fn mac_addresses_round_trip_and_refuse_near_misses() {
        let mac: MacAddr = "02:00:5E:10:00:ff".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:5e:10:00:ff");
        for bad in [
            "",
            "02:00:5e:10:00",
            "02:00:5e:10:00:01:02",
            "+2:00:5e:10:00:01",
            "2:0:5:1:0:1",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad:?}");
        }
        assert!(!MacAddr([1, 0, 0, 0, 0, 0]).is_assignable());
        assert!(!MacAddr([0; 6]).is_assignable());
        assert!(MacAddr::local([0xff; 6]).is_assignable());
    }

    #[test]
    fn pci_addresses_round_trip_and_refuse_near_misses() {
        for good in ["0000:01:10.2", "10000:e1:00.0", "ffff:ff:1f.7"] {
            assert_eq!(
                good.parse::<PciAddr>().map(|a| a.to_string()),
                Ok(good.to_owned())
            );
        }
        for bad in [
            "",
            "01:10.2",
            "0000:01:20.0",
            "0000:01:10.8",
            "0000:1:10.2",
            "000g:01:10.2",
        ] {
            assert!(bad.parse::<PciAddr>().is_err(), "{bad:?}");
        }
    }
}
