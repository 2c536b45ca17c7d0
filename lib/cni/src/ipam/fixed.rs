//! The built-in `static`: addresses, routes and name service from the configuration,
//! addresses rather from the runtime.

use std::net::IpAddr;

use super::missing_addresses;
use super::section::{check_count, decode, list, refused, texts};
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
    let v4 = ips.iter().filter(|ip| ip.address.is_ipv4()).count();
    check_count(request.config.version, v4, ips.len() - v4)?;
    Ok(ips)
}

pub(super) fn add(request: &Request) -> Result<AddResult, CniError> {
    let result = foresee(request)?;
    if result.ips.is_empty() {
        return Err(missing_addresses(
            "none of ipam.addresses, CNI_ARGS IP, args.cni.ips and runtimeConfig.ips is set",
        ));
    }
    Ok(result)
}

/// What ADD would give; without an address it would fail.
pub(super) fn foresee(request: &Request) -> Result<AddResult, CniError> {
    let fixed = Fixed::of(&request.config)?;
    Ok(AddResult {
        interfaces: vec![],
        ips: addresses(request, fixed.addresses)?,
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

fn address(text: &str, argument: &Argument) -> Result<IpConfig, CniError> {
    Ok(IpConfig {
        interface: None,
        address: parse_cidr(text).map_err(|reason| refused(argument, &reason))?,
        gateway: None,
    })
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
