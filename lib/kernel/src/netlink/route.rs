//! Unicast routes out of a link (rtnetlink(7), RTM_*ROUTE).

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::route::{
    RouteAttribute, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::RouteMessageBuilder;

use super::attr::{Attr, Attrs};
use super::socket::{NLM_F_CREATE, NLM_F_EXCL, Net, Object};
use crate::{Error, Result};

/// Length of `struct rtmsg`.
const RTMSG: usize = 12;
/// include/uapi/linux/rtnetlink.h, inside RTA_METRICS.
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;

/// A route out of a link. What is `None` the kernel chooses when the route is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where to; prefix length 0 is the default route. Host bits are ignored.
    pub dst: IpNetwork,
    /// Next hop; `None`: `dst` is on the link itself.
    pub gateway: Option<IpAddr>,
    /// Path MTU in bytes.
    pub mtu: Option<u32>,
    /// TCP segment size to announce, in bytes.
    pub advmss: Option<u32>,
    /// Metric; the lowest wins.
    pub priority: Option<u32>,
    /// Routing table; `None` is the main table, 254.
    pub table: Option<u32>,
    /// Scope of the destination (RT_SCOPE_*); `None` is universe with a gateway and
    /// link without.
    pub scope: Option<u8>,
}

impl Route {
    /// A route to `dst`, everything else left to the kernel.
    pub fn new(dst: IpNetwork, gateway: Option<IpAddr>) -> Self {
        Self {
            dst,
            gateway,
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
        }
    }

    /// Whether `live`, a route as the kernel reports it, is what adding `self` makes:
    /// same destination, gateway and table, and equal wherever `self` says something.
    pub fn is_met_by(&self, live: &Self) -> bool {
        fn meets<T: PartialEq + Copy>(wish: Option<T>, live: Option<T>) -> bool {
            wish.is_none() || wish == live
        }
        let table = |route: &Self| route.table.unwrap_or(libc::RT_TABLE_MAIN.into());
        // IPv6 has no scopes; the kernel reports 0 always.
        let scope = self.scope.filter(|_| self.dst.is_ipv4());
        (self.dst.network(), self.dst.prefix()) == (live.dst.network(), live.dst.prefix())
            && self.gateway == live.gateway
            && table(self) == table(live)
            && meets(self.mtu, live.mtu)
            && meets(self.advmss, live.advmss)
            && meets(self.priority, live.priority)
            && meets(scope, live.scope)
    }
}

impl Net {
    /// The unicast routes of all tables that leave by the link with this index, the
    /// kernel's own (to connected networks) among them; not those with several next
    /// hops. ENODEV if there is no such link.
    pub fn routes(&self, index: u32) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            message.attributes.push(RouteAttribute::Oif(index));
            let request = RouteNetlinkMessage::GetRoute(message);
            let bodies = self.dump("list routes of", Object::Index(index), request)?;
            // A kernel without IPv6 answers with those of all other families.
            let ours = bodies
                .iter()
                .filter(|body| body.first().copied().map(AddressFamily::from) == Some(family));
            routes.extend(ours.filter_map(|body| decode(body, index)));
        }
        Ok(routes)
    }

    /// Adds a route out of the link with index `dev`. EEXIST if one to the same
    /// destination with the same metric is in the table, ENETUNREACH if the gateway
    /// is not on a connected network.
    pub fn add_route(&self, dev: u32, route: &Route) -> Result<()> {
        let op = format!("add route {route} to");
        let message = RouteNetlinkMessage::NewRoute(message(dev, route, &op)?);
        self.act(op, Object::Index(dev), message, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Removes a route; ESRCH if it is not there.
    pub fn del_route(&self, dev: u32, route: &Route) -> Result<()> {
        let op = format!("remove route {route} from");
        let mut message = message(dev, route, &op)?;
        // The kernel compares what is given: who added it does not matter, nor, without
        // a wish, its scope.
        message.header.protocol = RouteProtocol::Unspec;
        if route.scope.is_none() {
            message.header.scope = RouteScope::NoWhere;
        }
        let message = RouteNetlinkMessage::DelRoute(message);
        self.act(op, Object::Index(dev), message, 0)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dst)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        let rest = [
            ("metric", self.priority),
            ("table", self.table),
            ("mtu", self.mtu),
            ("advmss", self.advmss),
        ];
        for (name, value) in rest {
            if let Some(value) = value {
                write!(f, " {name} {value}")?;
            }
        }
        Ok(())
    }
}

fn message(dev: u32, route: &Route, op: &str) -> Result<RouteMessage> {
    let unfit = |e: String| Error::malformed(op, Object::Index(dev), e);
    let scope = route.scope.unwrap_or(match route.gateway {
        None if route.dst.is_ipv4() => libc::RT_SCOPE_LINK,
        _ => libc::RT_SCOPE_UNIVERSE,
    });
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.dst.network(), route.dst.prefix())
        .map_err(|e| unfit(e.to_string()))?
        .output_interface(dev)
        .scope(RouteScope::from(scope));
    if let Some(gateway) = route.gateway {
        builder = builder.gateway(gateway).map_err(|e| unfit(e.to_string()))?;
    }
    if let Some(table) = route.table {
        builder = builder.table_id(table);
    }
    if let Some(priority) = route.priority {
        builder = builder.priority(priority);
    }
    let mut message = builder.build();
    let metrics: Vec<_> = [
        route.mtu.map(RouteMetric::Mtu),
        route.advmss.map(RouteMetric::Advmss),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !metrics.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    Ok(message)
}

/// Reads an RTM_NEWROUTE body; `None` if it is no unicast route out of `index`.
fn decode(body: &[u8], index: u32) -> Option<Route> {
    let &[
        family,
        prefix,
        _src,
        _tos,
        table,
        _protocol,
        scope,
        kind,
        ..,
    ] = body
    else {
        return None;
    };
    let any = if libc::c_int::from(family) == libc::AF_INET {
        IpAddr::from([0; 4])
    } else {
        IpAddr::from([0; 16])
    };
    let (mut dst, mut oif) = (any, None);
    let mut route = Route::new(IpNetwork::from(any), None);
    route.table = Some(table.into());
    route.scope = Some(scope);
    for attr in Attrs::after(body, RTMSG) {
        match attr.kind {
            libc::RTA_DST => dst = attr.ip()?,
            libc::RTA_OIF => oif = attr.u32(),
            libc::RTA_GATEWAY => route.gateway = attr.ip(),
            libc::RTA_VIA => route.gateway = via(attr),
            libc::RTA_PRIORITY => route.priority = attr.u32(),
            libc::RTA_TABLE => route.table = attr.u32(),
            libc::RTA_METRICS => {
                let metric = |kind| attr.nested().find(|a| a.kind == kind).and_then(Attr::u32);
                route.mtu = metric(RTAX_MTU);
                route.advmss = metric(RTAX_ADVMSS);
            }
            _ => {}
        }
    }
    route.dst = IpNetwork::new(dst, prefix).ok()?;
    (kind == libc::RTN_UNICAST && oif == Some(index)).then_some(route)
}

/// `struct rtvia`: a next hop of another family, its address after the family.
fn via(attr: Attr<'_>) -> Option<IpAddr> {
    let value = attr.value.get(2..)?;
    Attr { value, ..attr }.ip()
}

#[cfg(test)]
mod tests;
