//! The result of 0.1.0 and 0.2.0: one address per family, no interfaces.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AddResult, Dns, IpConfig, Route, cidr, decode, encode, ip, or_default};
use crate::error::{CniError, code};
use crate::version::SpecVersion;

#[derive(Serialize, Deserialize)]
struct Legacy {
    #[serde(rename = "cniVersion", default)]
    version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip4: Option<Family>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip6: Option<Family>,
    #[serde(default, deserialize_with = "or_default")]
    dns: Dns,
}

#[derive(Serialize, Deserialize)]
struct Family {
    #[serde(deserialize_with = "cidr")]
    ip: IpNetwork,
    #[serde(
        default,
        deserialize_with = "ip",
        skip_serializing_if = "Option::is_none"
    )]
    gateway: Option<IpAddr>,
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    routes: Vec<Plain>,
}

#[derive(Serialize, Deserialize)]
struct Plain {
    #[serde(deserialize_with = "cidr")]
    dst: IpNetwork,
    #[serde(
        default,
        deserialize_with = "ip",
        skip_serializing_if = "Option::is_none"
    )]
    gw: Option<IpAddr>,
}

/// The first address of each family, and the routes of that family.
pub(super) fn to_json(result: &AddResult, version: SpecVersion) -> Result<Value, CniError> {
    if result.ips.is_empty() {
        return Err(
            CniError::new(code::VERSION, "cannot convert: no valid IP addresses").details(format!(
                "a result of cniVersion {version} must have an address and this attachment has \
             none: set cniVersion to 0.3.1 or later"
            )),
        );
    }
    encode(&Legacy {
        version: version.as_str().to_owned(),
        ip4: family(result, IpNetwork::is_ipv4),
        ip6: family(result, IpNetwork::is_ipv6),
        dns: result.dns.clone(),
    })
}

fn family(result: &AddResult, is_of: fn(&IpNetwork) -> bool) -> Option<Family> {
    let first = result.ips.iter().find(|ip| is_of(&ip.address))?;
    let routes = result.routes.iter().filter(|route| is_of(&route.dst));
    Some(Family {
        ip: first.address,
        gateway: first.gateway,
        routes: routes
            .map(|route| Plain {
                dst: route.dst,
                gw: route.gw,
            })
            .collect(),
    })
}

pub(super) fn from_json(document: &Value) -> Result<AddResult, CniError> {
    let legacy: Legacy = decode(document)?;
    let mut result = AddResult {
        dns: legacy.dns,
        ..AddResult::default()
    };
    for family in [legacy.ip4, legacy.ip6].into_iter().flatten() {
        result.ips.push(IpConfig {
            interface: None,
            address: family.ip,
            gateway: family.gateway,
        });
        let routes = family.routes.into_iter();
        result
            .routes
            .extend(routes.map(|r| Route::new(r.dst, r.gw)));
    }
    Ok(result)
}
