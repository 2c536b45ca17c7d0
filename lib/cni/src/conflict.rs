//! Addresses that another station has already: asked for on the wire before they are
//! used.

use std::net::IpAddr;

use berth_kernel::{IfName, MacAddr, NetNs, probe};
use serde_json::Value;

use crate::error::{CniError, code};
use crate::fields::Fields;

/// What to do about an address that another station has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// ADD fails, code 103.
    Refuse,
    /// It is logged.
    Warn,
    /// Nobody is asked.
    Off,
}

impl Policy {
    /// Key `addressConflict`. Without it, addresses that somebody gave are asked for, and
    /// those of a pool, whose keeper knows them, are not.
    ///
    /// # Errors
    /// Code 7.
    pub fn of(fields: &Fields<'_>) -> Result<Self, CniError> {
        let words = [
            ("refuse", Self::Refuse),
            ("warn", Self::Warn),
            ("off", Self::Off),
        ];
        let wish = fields.choice("addressConflict", &words)?;
        let ipam = fields.value("ipam").map(|ipam| &ipam["type"]);
        let default = match ipam.and_then(Value::as_str) {
            Some("static") => Self::Refuse,
            _ => Self::Off,
        };
        Ok(wish.unwrap_or(default))
    }

    /// Asks from the interface, which is up and can send, for each of `addresses`; takes
    /// some 200 ms if nobody has one.
    ///
    /// # Errors
    /// Code 103 for an address another station has, unless that is only to be logged;
    /// else what the kernel refused.
    pub fn ask(
        self,
        netns: &NetNs,
        (ifname, index, mac): (&IfName, u32, MacAddr),
        addresses: &[IpAddr],
    ) -> Result<(), CniError> {
        if self == Self::Off {
            return Ok(());
        }
        let Some(holder) = probe::holder_of(netns, index, mac, addresses)? else {
            return Ok(());
        };
        let error = CniError::told(
            code::ADDRESS_CONFLICT,
            format_args!("interface {ifname}"),
            format_args!("use address {}", holder.ip),
            format_args!("station {} on this network has it", holder.mac),
            "give another address, or find that station; \"addressConflict\": \"warn\" takes \
             the address all the same",
        );
        if self == Self::Refuse {
            return Err(error);
        }
        log::warn!("{error}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy(config: &Value) -> Result<Policy, CniError> {
        Policy::of(&Fields::of(config.as_object().unwrap()))
    }

    #[test]
    fn given_addresses_are_asked_for_and_a_pools_are_not() {
        let of = |name: &str| policy(&json!({"ipam": {"type": name}})).unwrap();
        assert_eq!(of("static"), Policy::Refuse);
        assert_eq!(of("host-local"), Policy::Off);
        assert_eq!(of("whereabouts"), Policy::Off);
        assert_eq!(policy(&json!({})).unwrap(), Policy::Off);
    }

    #[test]
    fn the_key_decides_for_every_kind() {
        for (word, wish) in [
            ("refuse", Policy::Refuse),
            ("warn", Policy::Warn),
            ("off", Policy::Off),
        ] {
            for ipam in ["static", "host-local"] {
                let config = json!({"addressConflict": word, "ipam": {"type": ipam}});
                assert_eq!(policy(&config), Ok(wish), "{word}");
            }
        }
        let error = policy(&json!({"addressConflict": "ignore"})).unwrap_err();
        assert_eq!(error.code, code::CONFIG);
    }
}
