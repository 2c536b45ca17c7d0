//! Addresses that another station has already: asked for on the wire before they are
//! used.

use std::net::IpAddr;

use berth_kernel::{IfName, MacAddr, NetNs, probe};

use crate::error::{CniError, code};
use crate::fields::Fields;
use crate::ipam::Ipam;

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
    pub fn of(fields: &Fields<'_>, ipam: &Ipam) -> Result<Self, CniError> {
        let words = [
            ("refuse", Self::Refuse),
            ("warn", Self::Warn),
            ("off", Self::Off),
        ];
        let wish = fields.choice("addressConflict", &words)?;
        Ok(wish.unwrap_or(match ipam {
            Ipam::Static => Self::Refuse,
            Ipam::Delegate(delegate) if delegate.name == "static" => Self::Refuse,
            _ => Self::Off,
        }))
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
    use crate::ipam::Delegate;
    use serde_json::{Value, json};

    fn policy(config: &Value, ipam: &Ipam) -> Result<Policy, CniError> {
        Policy::of(&Fields::of(config.as_object().unwrap()), ipam)
    }

    fn delegate(name: &str) -> Ipam {
        Ipam::Delegate(Delegate {
            name: name.to_owned(),
            binary: name.into(),
        })
    }

    #[test]
    fn given_addresses_are_asked_for_and_a_pools_are_not() {
        let of = |ipam| policy(&json!({}), &ipam).unwrap();
        assert_eq!(of(Ipam::Static), Policy::Refuse);
        assert_eq!(of(delegate("static")), Policy::Refuse);
        assert_eq!(of(delegate("whereabouts")), Policy::Off);
        assert_eq!(of(Ipam::None), Policy::Off);
    }

    #[test]
    fn the_key_decides_for_every_kind() {
        for (word, wish) in [
            ("refuse", Policy::Refuse),
            ("warn", Policy::Warn),
            ("off", Policy::Off),
        ] {
            let config = json!({"addressConflict": word});
            for ipam in [Ipam::Static, delegate("host-local")] {
                assert_eq!(policy(&config, &ipam), Ok(wish), "{word}");
            }
        }
        let error = policy(&json!({"addressConflict": "ignore"}), &Ipam::None).unwrap_err();
        assert_eq!(error.code, code::CONFIG);
    }
}
