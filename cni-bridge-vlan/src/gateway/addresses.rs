//! Which addresses a gateway has, and what is in their way. Pure.

use std::net::IpAddr;

use berth_cni::error::{CniError, code};
use berth_cni::result::{AddResult, IpConfig, Route};
use ipnetwork::IpNetwork;

use crate::conf::Gateway;

/// Gives every address without a gateway the first one of its subnet, and, for a
/// default gateway, every family without a default route that route.
///
/// # Errors
/// Code 7 where a subnet has no room for a gateway.
pub fn complete(result: &mut AddResult, wish: Gateway) -> Result<(), CniError> {
    for ip in &mut result.ips {
        if ip.gateway.is_none() {
            ip.gateway = Some(first_host(ip)?);
        }
        if ip.gateway == Some(ip.address.ip()) {
            return Err(no_room(ip, "it is the gateway's own"));
        }
    }
    if !wish.is_default {
        return Ok(());
    }
    for any in ["0.0.0.0/0", "::/0"].map(str::parse::<IpNetwork>) {
        let Ok(any) = any else { continue };
        let of_family = |net: &IpNetwork| net.is_ipv4() == any.is_ipv4();
        let first = result.ips.iter().find(|ip| of_family(&ip.address));
        let gateway = first.and_then(|ip| ip.gateway);
        let has = |route: &Route| route.dst.prefix() == 0 && of_family(&route.dst);
        if gateway.is_some() && !result.routes.iter().any(has) {
            result.routes.push(Route::new(any, gateway));
        }
    }
    Ok(())
}

/// The first address after the subnet's own, as the reference plugin has it.
fn first_host(ip: &IpConfig) -> Result<IpAddr, CniError> {
    let next = match ip.address.network() {
        IpAddr::V4(v4) => IpAddr::from(u32::from(v4).saturating_add(1).to_be_bytes()),
        IpAddr::V6(v6) => IpAddr::from(u128::from(v6).saturating_add(1).to_be_bytes()),
    };
    if ip.address.contains(next) {
        return Ok(next);
    }
    Err(no_room(ip, "its subnet has no other address for a gateway"))
}

fn no_room(ip: &IpConfig, reason: &str) -> CniError {
    CniError::told(
        code::CONFIG,
        format_args!("address {}", ip.address),
        "give it a gateway on the node",
        reason,
        "give its \"gateway\" in \"ipam\", another address, or leave out \"isGateway\"",
    )
}

/// The gateways of `result` with the prefix lengths of their subnets, each once.
pub fn gateways(result: &AddResult) -> Vec<IpNetwork> {
    let mut all: Vec<IpNetwork> = Vec::new();
    for ip in &result.ips {
        let net = ip.gateway.map(|gw| IpNetwork::new(gw, ip.address.prefix()));
        if let Some(Ok(net)) = net
            && !all.contains(&net)
        {
            all.push(net);
        }
    }
    all
}

/// What a device has where a gateway's address is to go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The address itself.
    It,
    /// Other addresses of an overlapping subnet: with them two links of the node would
    /// claim one subnet, or one address would be lost among the other's.
    Others(Vec<IpNetwork>),
    /// Nothing that matters.
    Room,
}

/// Looks at the device's addresses.
pub(super) fn look(wish: IpNetwork, live: &[IpNetwork]) -> Found {
    if live.contains(&wish) {
        return Found::It;
    }
    let overlap = |other: &&IpNetwork| {
        other.is_ipv4() == wish.is_ipv4()
            && (other.contains(wish.network()) || wish.contains(other.network()))
    };
    let others: Vec<IpNetwork> = live.iter().filter(overlap).copied().collect();
    if others.is_empty() {
        Found::Room
    } else {
        Found::Others(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    fn result(addresses: &[(&str, Option<&str>)], routes: &[&str]) -> AddResult {
        AddResult {
            ips: addresses
                .iter()
                .map(|(address, gateway)| IpConfig {
                    interface: None,
                    address: net(address),
                    gateway: gateway.map(|gw| gw.parse().unwrap()),
                })
                .collect(),
            routes: routes
                .iter()
                .map(|dst| Route::new(net(dst), None))
                .collect(),
            ..AddResult::default()
        }
    }

    fn completed(mut result: AddResult, is_default: bool) -> Result<AddResult, CniError> {
        let wish = Gateway {
            is_default,
            force: false,
        };
        complete(&mut result, wish).map(|()| result)
    }

    #[test]
    fn a_missing_gateway_is_the_first_address_of_the_subnet() {
        let wish = [
            ("10.1.2.77/24", None),
            ("10.3.0.9/16", Some("10.3.0.254")),
            ("fd00:1::77/64", None),
        ];
        let done = completed(result(&wish, &[]), false).unwrap();
        let expected = [
            net("10.1.2.1/24"),
            net("10.3.0.254/16"),
            net("fd00:1::1/64"),
        ];
        assert_eq!(gateways(&done), expected);
        assert_eq!(done.routes, []);
    }

    #[test]
    fn a_subnet_without_room_is_refused() {
        for address in [
            "10.1.0.7/32",
            "255.255.255.255/32",
            "fd00::7/128",
            "10.1.0.1/24",
        ] {
            let error = completed(result(&[(address, None)], &[]), false).unwrap_err();
            assert_eq!(error.code, code::CONFIG, "{address}");
            assert!(error.msg.contains(address), "{error}");
        }
        completed(result(&[("10.1.0.7/32", Some("10.1.0.1"))], &[]), false).unwrap();
    }

    #[test]
    fn a_default_gateway_adds_the_default_route_each_family_lacks() {
        let both = [
            ("10.1.0.7/24", None),
            ("10.2.0.7/24", None),
            ("fd00::7/64", None),
        ];
        let done = completed(result(&both, &["10.9.0.0/16"]), true).unwrap();
        let added: Vec<_> = done.routes[1..].iter().map(|r| (r.dst, r.gw)).collect();
        let gateway = |text: &str| Some(text.parse().unwrap());
        let expected = [
            (net("0.0.0.0/0"), gateway("10.1.0.1")),
            (net("::/0"), gateway("fd00::1")),
        ];
        assert_eq!(added, expected);
        let done = completed(result(&both, &["0.0.0.0/0", "::/0"]), true).unwrap();
        assert_eq!(done.routes.len(), 2, "IPAM gave them");
    }

    #[test]
    fn two_addresses_of_one_subnet_have_one_gateway() {
        let two = [("10.1.0.7/24", None), ("10.1.0.8/24", None)];
        let done = completed(result(&two, &[]), false).unwrap();
        assert_eq!(gateways(&done), [net("10.1.0.1/24")]);
    }

    #[test]
    fn only_an_overlapping_subnet_is_in_the_way() {
        let live = ["10.1.0.1/24", "fd00:1::1/64"].map(net);
        let others = |text: &str| Found::Others(vec![net(text)]);
        for (wish, found) in [
            ("10.1.0.1/24", Found::It),
            ("10.1.0.254/24", others("10.1.0.1/24")),
            ("10.1.0.1/16", others("10.1.0.1/24")),
            ("10.1.0.129/25", others("10.1.0.1/24")),
            ("10.2.0.1/24", Found::Room),
            ("fd00:1::2/64", others("fd00:1::1/64")),
            ("fd00:2::1/64", Found::Room),
        ] {
            assert_eq!(look(net(wish), &live), found, "{wish}");
        }
    }
}
