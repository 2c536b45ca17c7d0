//! The wish as it is given: capability `bandwidth`, or the key of that name for all
//! containers of a network.

use berth_cni::error::CniError;
use berth_cni::fields::Fields;
use berth_cni::request::{Argument, Call};
use berth_state::record::{Bandwidth, RateLimit};
use serde_json::Value;

/// In bits, as everything here.
const RATES: [&str; 2] = ["ingressRate", "egressRate"];
const BURSTS: [&str; 2] = ["ingressBurst", "egressBurst"];
/// Of the reference plugin, which looks at addresses; not here.
const SUBNETS: [&str; 2] = ["shapedSubnets", "unshapedSubnets"];

/// The kernel counts in bytes.
const MIN_RATE: u64 = 8;
/// Its limit of a bucket: 4 GB, less a byte.
const BURST_END: u64 = 8 * (u32::MAX as u64);

/// The limits that were given, wherever that was; a rate and a burst of 0 are none, as in
/// the reference plugin.
///
/// # Errors
/// Code 7 naming the key; code 2 for limits that are to hold for some addresses only.
pub fn of(given: Option<&Argument>) -> Result<Bandwidth, CniError> {
    let Some(given) = given else {
        return Ok(Bandwidth::default());
    };
    let fields = Fields::item(&given.origin, &given.value)?;
    for key in fields.keys() {
        must_be_known(&fields, key)?;
    }
    let [ingress, egress] = [0, 1].map(|at| limit(&fields, RATES[at], BURSTS[at]));
    Ok(Bandwidth {
        ingress: ingress?,
        egress: egress?,
    })
}

/// Whether containers of the network may be given limits: STATUS does not know of any one.
///
/// # Errors
/// As [`of`].
pub fn is_wished(call: &Call) -> Result<bool, CniError> {
    let raw = &call.config.raw;
    let declared = raw.get("capabilities").and_then(|all| all.get("bandwidth"));
    let for_all = raw.get("bandwidth").filter(|value| !value.is_null());
    let for_all = for_all.map(|value| Argument {
        value: value.clone(),
        origin: "bandwidth".to_owned(),
    });
    let limits = of(for_all.as_ref())?;
    Ok(declared == Some(&Value::Bool(true)) || !limits.is_unlimited())
}

fn must_be_known(fields: &Fields<'_>, key: &str) -> Result<(), CniError> {
    if RATES.contains(&key) || BURSTS.contains(&key) {
        return Ok(());
    }
    if !SUBNETS.contains(&key) {
        let known = [RATES, BURSTS].concat().join(", ");
        return Err(fields.invalid(key, format_args!("unknown; \"bandwidth\" takes {known}")));
    }
    match fields.value(key) {
        Some(list) if list.as_array().is_none_or(|list| !list.is_empty()) => {
            let next = "leave it out: the limits hold for all addresses; or chain the reference \
                        plugin \"bandwidth\" and take the capability out of this one";
            Err(CniError::unsupported(&fields.name(key), list, next))
        }
        _ => Ok(()),
    }
}

fn limit(fields: &Fields<'_>, rate: &str, burst: &str) -> Result<Option<RateLimit>, CniError> {
    let limit = RateLimit {
        rate: bits(fields, rate)?,
        burst: bits(fields, burst)?,
    };
    match limit {
        RateLimit { rate: 0, burst: 0 } => Ok(None),
        RateLimit { burst: 0, .. } => {
            Err(fields.invalid(rate, format_args!("give key {burst:?} beside it")))
        }
        RateLimit { rate: 0, .. } => {
            Err(fields.invalid(burst, format_args!("give key {rate:?} beside it")))
        }
        RateLimit { rate: bits, .. } if bits < MIN_RATE => {
            let want = format_args!("want {MIN_RATE} bits a second or more, or 0 for no limit");
            Err(fields.invalid(rate, want))
        }
        RateLimit { burst: bits, .. } if bits >= BURST_END => {
            let want = format_args!("want less than {BURST_END} bits, which are 4 GB");
            Err(fields.invalid(burst, want))
        }
        limit => Ok(Some(limit)),
    }
}

fn bits(fields: &Fields<'_>, key: &str) -> Result<u64, CniError> {
    let number = fields.whole(key)?.unwrap_or(0);
    u64::try_from(number).map_err(|_negative| fields.invalid(key, "want 0 or more bits"))
}
