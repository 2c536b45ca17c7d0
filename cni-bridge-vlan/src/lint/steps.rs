//! The steps of an ADD in words, in its order. What depends on the node is said as a
//! condition.

use berth_cni::conflict::Policy;
use berth_cni::container::Dad;
use berth_cni::error::CniError;
use berth_cni::ipam::foresee::{Foreseen, Pool};
use berth_cni::result::{AddResult, Dns, Route};
use berth_cni::steering::Cpus;
use berth_kernel::netlink::VlanRange;
use berth_state::key::vlan_link_name;
use berth_state::record::{Bandwidth, RateLimit};
use ipnetwork::IpNetwork;

use crate::conf::{Conf, Gateway};
use crate::gateway;

mod bridge;

/// What ADD does with `conf`, given addresses from `ipam`.
pub(super) fn of(conf: &Conf, bandwidth: Bandwidth, ipam: &Foreseen) -> Vec<String> {
    let mut steps = bridge::of(conf);
    steps.extend(port(conf));
    steps.extend(limits(bandwidth));
    steps.extend(container(conf));
    steps.extend(addresses(ipam));
    let has_addresses = *ipam != Foreseen::Nobody;
    if has_addresses {
        steps.extend(probes(conf));
    }
    if let Some(wish) = conf.gateway {
        steps.push(gateway_words(conf, wish, ipam));
    }
    steps.push(rps(conf));
    if has_addresses {
        steps.push(given(conf, ipam));
        if conf.masquerade {
            steps.push(
                "what the container sends out of its subnets gets the node's address: its \
                 addresses join the network's sets in nf_tables table ip berth or ip6 berth"
                    .into(),
            );
        }
        if conf.announce {
            steps.push("the addresses are announced to the neighbours".into());
        }
    }
    steps
}

fn port(conf: &Conf) -> Vec<String> {
    let mut steps = vec![format!(
        "a veth pair: port bv and 12 hex digits on {}, {}; the other end CNI_IFNAME in the \
         container, {}; {}",
        conf.bridge,
        vlans(conf),
        match conf.mac {
            Some(mac) => format!("MAC {mac}"),
            None => "MAC derived from network, container and interface".into(),
        },
        mtu(conf)
    )];
    let flags = conf.flags;
    if flags.locked {
        steps.push(
            "the port is locked to the container's MAC address (macspoofchk), by rules in \
             nf_tables table bridge berth before Linux 5.18; it neither learns nor is flooded"
                .into(),
        );
    } else {
        steps.push("the container may send from any MAC address (macspoofchk is false)".into());
    }
    if flags.isolated {
        steps.push("the port exchanges no frame with other isolated ports".into());
    }
    if flags.hairpin {
        steps.push("a frame may leave by the port it came from (hairpinMode)".into());
    }
    steps.push(filtered(conf));
    steps.push("no IPv6 address on the host's end (addrgenmode none)".into());
    steps
}

/// What the rules of nf_tables drop of the port's frames.
fn filtered(conf: &Conf) -> String {
    let tags = match conf.trunk.is_empty() {
        true => "VLAN tags",
        false => "second VLAN tags and those of 802.1ad",
    };
    let dropped = match conf.bpdu_filter {
        Some(false) => "",
        Some(true) | None => "and bridge protocol frames ",
    };
    let otherwise = match conf.bpdu_filter {
        Some(true) => "refused",
        Some(false) | None => "left out with a warning",
    };
    format!(
        "{tags} {dropped}from the container are dropped by nf_tables table bridge \
         berth-frames (bpduFilter); {otherwise} where the kernel cannot"
    )
}

fn limits(bandwidth: Bandwidth) -> Vec<String> {
    let limit = |what: &str, limit: Option<RateLimit>, how: &str| {
        limit.map(|limit| {
            let RateLimit { rate, burst } = limit;
            format!("the container {what} at most {rate} bit/s, {burst} bits at once, by {how}")
        })
    };
    let words = [
        limit("receives", bandwidth.ingress, "a token bucket on the port"),
        limit(
            "sends",
            bandwidth.egress,
            "one on an ifb, bi and 12 hex digits",
        ),
    ];
    words.into_iter().flatten().collect()
}

fn vlans(conf: &Conf) -> String {
    let mut words = Vec::new();
    match conf.vlan {
        Some(vlan) => words.push(format!("untagged in VLAN {vlan}")),
        None if conf.filters() => words.push("untagged frames dropped".into()),
        None => words.push("no VLANs".into()),
    }
    if !conf.trunk.is_empty() {
        words.push(format!(
            "VLAN {} by their tags",
            VlanRange::list(&conf.trunk)
        ));
    }
    if conf.filters() {
        words.push(match conf.keep_default_vlan {
            true => "the bridge's default VLAN kept".into(),
            false => "the bridge's default VLAN taken off unless it is one of these".into(),
        });
    }
    words.join(", ")
}

fn mtu(conf: &Conf) -> String {
    match (conf.mtu, &conf.uplink) {
        (Some(mtu), Some(uplink)) => {
            format!("MTU {mtu}, refused if {} carries less", uplink.name)
        }
        (Some(mtu), None) => format!("MTU {mtu}"),
        (None, Some(uplink)) => format!("the MTU of {}", uplink.name),
        (None, None) => "the MTU of the bridge, 1500 if it is made".into(),
    }
}

fn container(conf: &Conf) -> Vec<String> {
    let dad = u8::from(conf.dad == Dad::On);
    let silence = match conf.keep_ipv6 {
        true => format!(
            "IPv6 in the container as its namespace has it (ipv6 keep); with an address from \
             IPAM accept_dad = {dad}"
        ),
        false => format!(
            "no IPv6 address in the container either, until there is one from IPAM; then \
             accept_dad = {dad}"
        ),
    };
    let state = match conf.leave_down {
        true => "the container's end is left down (disableContainerInterface)",
        false => "the container's end is set up, then the port",
    };
    vec![silence, state.into()]
}

fn addresses(ipam: &Foreseen) -> Vec<String> {
    match ipam {
        Foreseen::Nobody => vec!["no addresses: layer 2 only (no key \"ipam\")".into()],
        Foreseen::Static(result) if result.ips.is_empty() => {
            vec!["addresses as the runtime gives them; refused without any".into()]
        }
        Foreseen::Static(result) => {
            let ips: Vec<IpNetwork> = result.ips.iter().map(|ip| ip.address).collect();
            vec![format!(
                "address {} from the configuration, unless the runtime gives others",
                list(&ips)
            )]
        }
        Foreseen::HostLocal(pool) => pool
            .sets
            .iter()
            .map(|set| {
                format!(
                    "the next free address of {}: {} to give out",
                    set.ranges,
                    amount(set.addresses)
                )
            })
            .collect(),
        Foreseen::Delegate(delegate) => vec![format!(
            "addresses from IPAM plugin {}, {}",
            delegate.name,
            delegate.binary.display()
        )],
    }
}

fn list(addresses: &[IpNetwork]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

/// A number nobody could count as a power of two.
fn amount(addresses: u128) -> String {
    match addresses {
        0..=0xffff_ffff => addresses.to_string(),
        _ => format!(
            "about 2^{}",
            addresses.ilog2() + u32::from(!addresses.is_power_of_two())
        ),
    }
}

fn probes(conf: &Conf) -> Vec<String> {
    let found = match conf.conflict {
        Policy::Off => return Vec::new(),
        Policy::Refuse => "refused, code 103, if a station has one",
        Policy::Warn => "logged if a station has one",
    };
    vec![format!(
        "the network is asked for each address, 200 ms beside other work: {found}"
    )]
}

/// The gateways on the node, where the addresses are known.
///
/// # Errors
/// Code 7 where a subnet has no room for one.
pub(super) fn gateways(conf: &Conf, ipam: &Foreseen) -> Result<Vec<IpNetwork>, CniError> {
    let (Some(wish), Foreseen::Static(result)) = (conf.gateway, ipam) else {
        return Ok(Vec::new());
    };
    let mut result = result.clone();
    gateway::complete(&mut result, wish)?;
    Ok(gateway::gateways(&result))
}

fn gateway_words(conf: &Conf, wish: Gateway, ipam: &Foreseen) -> String {
    if *ipam == Foreseen::Nobody {
        return "no gateway, though isGateway is set: there are no addresses".into();
    }
    let device = match conf.vlan {
        None => format!("bridge {}", conf.bridge),
        Some(vlan) => format!(
            "device {}, 802.1Q VLAN {vlan} on {}, made if it is missing",
            vlan_link_name(&conf.bridge, vlan),
            conf.bridge
        ),
    };
    let known = gateways(conf, ipam).unwrap_or_default();
    let addresses = match known.is_empty() {
        true => "the gateway of each address".into(),
        false => list(&known),
    };
    let of_family =
        |(_, is): &&(&str, fn(&IpNetwork) -> bool)| known.is_empty() || known.iter().any(is);
    let forwarding = gateway::FORWARDING.iter().filter(of_family);
    let forwarding: Vec<String> = forwarding.map(|(key, _)| key.replace('/', ".")).collect();
    let force = match wish.force {
        true => "another address of that subnet there is replaced",
        false => "refused if another address of that subnet is there",
    };
    let route = match wish.is_default {
        true => "; a default route by it for each family without one",
        false => "",
    };
    format!(
        "gateway: {addresses} on {device}; {force}; {} = 1, which stays{route}",
        forwarding.join(" or ")
    )
}

fn rps(conf: &Conf) -> String {
    let flows = match conf.rps.flow_entries {
        0 => String::new(),
        flows => format!(", rps_flow_cnt = {flows}"),
    };
    match &conf.rps.cpus {
        Cpus::Off => "RPS is left as the kernel has it".into(),
        Cpus::List(cpus) => {
            format!("RPS of both ends on CPUs {cpus}, refused if one is not online{flows}")
        }
        Cpus::Auto => format!(
            "RPS of both ends on the container's CPUs if its cgroup is given and has not all, \
             else on those near the uplink, else left{flows}"
        ),
    }
}

/// What the container's end gets, and the caller is told.
fn given(conf: &Conf, ipam: &Foreseen) -> String {
    let none = (Vec::new(), Dns::default());
    let (routes, dns) = match ipam {
        Foreseen::Static(AddResult { routes, dns, .. })
        | Foreseen::HostLocal(Pool { routes, dns, .. }) => (routes.clone(), dns.clone()),
        Foreseen::Nobody | Foreseen::Delegate(_) => none,
    };
    let mut words = vec!["addresses".to_owned()];
    words.extend(routes.iter().map(route));
    let dns = conf.dns.as_ref().unwrap_or(&dns);
    let mut sentence = format!("set in the container: {}", words.join(", "));
    if !dns.is_empty() {
        sentence.push_str("; name service settings are passed on");
    }
    sentence
}

fn route(route: &Route) -> String {
    match route.gw {
        Some(gw) => format!("route {} via {gw}", route.dst),
        None if route.scope.is_some() => format!("route {}", route.dst),
        None => format!("route {} via the gateway", route.dst),
    }
}
