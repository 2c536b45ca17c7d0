//! The built-in `static`: addresses, routes and name service from the configuration,
//! addresses rather from the runtime.

use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::missing_addresses;
use crate::error::{CniError, code};
use crate::request::{Argument, Config, Request};
use crate::result::{AddResult, Dns, IpConfig, Route, parse_cidr};

/// The keys of `ipam` that the reference's `static` has.
#[derive(Debug, PartialEq)]
pub(super) struct Fixed {
    addresses: Vec<IpConfig>,
    routes: Vec<Route>,
    dns: Dns,
}

impl Fixed {
    pub(super) fn of(config: &Config) -> Result<Self, CniError> {
        let dns = config.raw.get("ipam").and_then(|ipam| ipam.get("dns"));
        let fixed = Self {
            addresses: list::<IpConfig>(config, "addresses")?,
            routes: list::<Route>(config, "routes")?,
            dns: match dns.filter(|dns| !dns.is_null()) {
                None => Dns::default(),
                Some(value) => decode("ipam.dns", value)?,
            },
        };
        for (index, ip) in fixed.addresses.iter().enumerate() {
            check_family(&format!("ipam.addresses[{index}].gateway"), ip)?;
        }
        Ok(fixed)
    }
}

/// The addresses in the order of precedence, with the gateways that `CNI_ARGS` gives.
fn addresses(request: &Request, configured: Vec<IpConfig>) -> Result<Vec<IpConfig>, CniError> {
    let mut ips = match request.argument_at_runtime("ips") {
        None => configured,
        Some(argument) => texts(&argument)?
            .iter()
            .map(|text| address(text, &argument))
            .collect::<Result<_, _>>()?,
    };
    if let Some(argument) = request.argument_at_runtime("gateway") {
        for text in texts(&argument)? {
            let gateway: IpAddr = text.parse().map_err(|_not_an_address| {
                refused(&argument, &format!("{text:?} is not an IP address"))
            })?;
            let mut unused = true;
            for ip in ips.iter_mut().filter(|ip| ip.address.contains(gateway)) {
                ip.gateway = Some(gateway);
                unused = false;
            }
            if unused {
                let origin = &argument.origin;
                request.log().warn(format_args!(
                    "{origin}: {gateway} is in the subnet of no address and has no effect"
                ));
            }
        }
    }
    check_count(request, &ips)?;
    Ok(ips)
}

pub(super) fn add(request: &Request) -> Result<AddResult, CniError> {
    let fixed = Fixed::of(&request.config)?;
    let ips = addresses(request, fixed.addresses)?;
    if ips.is_empty() {
        return Err(missing_addresses(
            "none of ipam.addresses, CNI_ARGS IP, args.cni.ips and runtimeConfig.ips is set",
        ));
    }
    Ok(AddResult {
        interfaces: vec![],
        ips,
        routes: fixed.routes,
        dns: fixed.dns,
    })
}

/// Every address must be in `prevResult`.
pub(super) fn check(request: &Request) -> Result<(), CniError> {
    let fixed = Fixed::of(&request.config)?;
    let had = request.prev_result().map(|result| result.ips.as_slice());
    let had = had.unwrap_or_default();
    for ip in addresses(request, fixed.addresses)? {
        if !had.iter().any(|one| one.address == ip.address) {
            return Err(CniError::told(
                code::CONFIG,
                format_args!("attachment {}", request.key()),
                format_args!("find address {} in prevResult", ip.address),
                "the configuration or the arguments changed since ADD",
                "detach and attach it again",
            ));
        }
    }
    Ok(())
}

/// Texts in a list (capability, `args.cni`) or between commas (`CNI_ARGS`).
fn texts(argument: &Argument) -> Result<Vec<String>, CniError> {
    let not_texts = || refused(argument, "it must be a list of texts");
    match &argument.value {
        Value::String(text) => Ok(text.split(',').map(|t| t.trim().to_owned()).collect()),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(not_texts))
            .collect(),
        _ => Err(not_texts()),
    }
}

fn address(text: &str, argument: &Argument) -> Result<IpConfig, CniError> {
    Ok(IpConfig {
        interface: None,
        address: parse_cidr(text).map_err(|reason| refused(argument, &reason))?,
        gateway: None,
    })
}

fn refused(argument: &Argument, reason: &str) -> CniError {
    let error = CniError::config(
        &argument.origin,
        &argument.value,
        reason,
        "correct what the scheduler passes",
    );
    if argument.origin.starts_with("CNI_ARGS") {
        CniError {
            code: code::ENV,
            ..error
        }
    } else {
        error
    }
}

fn check_family(key: &str, ip: &IpConfig) -> Result<(), CniError> {
    match ip.gateway {
        Some(gateway) if gateway.is_ipv4() != ip.address.is_ipv4() => Err(CniError::config(
            key,
            &gateway.to_string().into(),
            format!("address {} is of the other family", ip.address),
            "give a gateway of the address's family",
        )),
        _ => Ok(()),
    }
}

/// 0.1.0 and 0.2.0 have one address per family in their result.
fn check_count(request: &Request, ips: &[IpConfig]) -> Result<(), CniError> {
    let version = request.config.version;
    let v4 = ips.iter().filter(|ip| ip.address.is_ipv4()).count();
    if version.has_one_address_per_family() && (v4 > 1 || ips.len() - v4 > 1) {
        return Err(CniError::new(
            code::VERSION,
            format!("CNI version {version} does not support more than 1 address per family"),
        )
        .details("set cniVersion to 0.3.1 or later"));
    }
    Ok(())
}

fn list<T: DeserializeOwned>(config: &Config, key: &str) -> Result<Vec<T>, CniError> {
    let items = match config.raw.get("ipam").and_then(|ipam| ipam.get(key)) {
        None | Some(Value::Null) => return Ok(vec![]),
        Some(Value::Array(items)) => items,
        Some(other) => {
            return Err(CniError::config(
                format_args!("ipam.{key}"),
                other,
                "it must be a list",
                "write [...]",
            ));
        }
    };
    let item = |(index, item)| decode(&format!("ipam.{key}[{index}]"), item);
    items.iter().enumerate().map(item).collect()
}

fn decode<T: DeserializeOwned>(key: &str, value: &Value) -> Result<T, CniError> {
    T::deserialize(value).map_err(|e| CniError::config(key, value, e, "correct the value"))
}
