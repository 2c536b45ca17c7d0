//! What every kind of interface is given: MTU and MAC address as a configuration has
//! them, and the limits none of the plugins sets.

use berth_kernel::MacAddr;

use crate::error::CniError;
use crate::fields::Fields;
use crate::request::{Argument, Request};

/// Least MTU that Ethernet devices take (`ETH_MIN_MTU`, include/uapi/linux/if_ether.h).
const MIN_MTU: u32 = 68;

/// Least MTU that can carry IPv6 (RFC 8200, section 5).
const MIN_IPV6_MTU: u32 = 1280;

/// Key `mtu`, in bytes. 0 means the default, as in the reference's plugins; `default`
/// says in an error what that is: `the uplink's MTU`.
///
/// # Errors
/// Code 7.
pub fn mtu(fields: &Fields<'_>, default: &str) -> Result<Option<u32>, CniError> {
    let Some(number) = fields.whole("mtu")? else {
        return Ok(None);
    };
    match u32::try_from(number) {
        Ok(0) => Ok(None),
        Ok(mtu) if (MIN_MTU..=65535).contains(&mtu) => {
            if mtu < MIN_IPV6_MTU {
                log::info!("mtu {mtu} is below {MIN_IPV6_MTU}: IPv6 will not work here");
            }
            Ok(Some(mtu))
        }
        _ => Err(fields.invalid(
            "mtu",
            format_args!("want 68 to 65535, or leave it out for {default}"),
        )),
    }
}

/// A MAC address that an interface can have, from wherever it was given.
///
/// # Errors
/// Code 7 naming that place.
pub fn mac(given: &Argument) -> Result<MacAddr, CniError> {
    let invalid = |reason: String| {
        CniError::config(
            &given.origin,
            &given.value,
            reason,
            "give a unicast address like 02:00:5e:10:00:01, or leave it out",
        )
    };
    let text = given.value.as_str().unwrap_or_default();
    let mac: MacAddr = text
        .parse()
        .map_err(|reason| invalid(format!("{reason}")))?;
    if mac.is_assignable() {
        Ok(mac)
    } else {
        Err(invalid(
            "a multicast or all-zero address, no interface may have it".to_owned(),
        ))
    }
}

/// Refuses capability `bandwidth`: a limit that is asked for and not set would be worse
/// than an error. `next` says what to use in its place.
///
/// # Errors
/// Code 2 if it was given.
pub fn refuse_bandwidth(request: &Request, next: &str) -> Result<(), CniError> {
    match request.argument_at_runtime("bandwidth") {
        None => Ok(()),
        Some(limit) => Err(CniError::unsupported(&limit.origin, &limit.value, next)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn mtu_of(value: &Value) -> Result<Option<u32>, CniError> {
        let config = json!({"mtu": value});
        mtu(&Fields::of(config.as_object().unwrap()), "the link's")
    }

    #[test]
    fn an_mtu_is_what_ethernet_takes_and_0_is_the_default() {
        for (value, wish) in [
            (json!(null), None),
            (json!(0), None),
            (json!(68), Some(68)),
            (json!(65535), Some(65535)),
        ] {
            assert_eq!(mtu_of(&value), Ok(wish), "{value}");
        }
        for value in [json!(67), json!(65536), json!(-1), json!(4_294_967_296_i64)] {
            let error = mtu_of(&value).unwrap_err();
            assert!(error.msg.contains("leave it out for the link's"), "{error}");
        }
        assert!(mtu_of(&json!("1500")).is_err());
    }

    #[test]
    fn a_mac_is_unicast_and_an_error_names_its_place() {
        let given = |value: Value| Argument {
            value,
            origin: "CNI_ARGS MAC".into(),
        };
        let good = "02:00:5e:10:00:01";
        assert_eq!(mac(&given(json!(good))), Ok(good.parse().unwrap()));
        for value in [
            json!("01:00:5e:00:00:01"),
            json!("00:00:00:00:00:00"),
            json!("02:00:5e:10:00"),
            json!(2),
        ] {
            let error = mac(&given(value)).unwrap_err();
            assert!(error.msg.contains("CNI_ARGS MAC"), "{error}");
        }
    }
}
