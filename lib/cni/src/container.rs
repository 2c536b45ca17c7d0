//! The container's end: addresses, routes and IPv6, through a socket in its namespace.

use std::path::Path;

use berth_kernel::error::AbsentIsFine;
use berth_kernel::netlink::{AddressFlags, Net, Route};
use berth_kernel::{IfName, Kind, NetNs, Root, announce, sysctl};
use berth_state::undo::Undo;
use ipnetwork::IpNetwork;

use crate::error::{CniError, code};
use crate::request::Request;
use crate::result::{AddResult, IpConfig};
use crate::steps::Steps;

/// One container's namespace and the interface in it.
#[derive(Debug)]
pub struct Container {
    /// The namespace.
    pub netns: NetNs,
    /// A socket inside it.
    pub net: Net,
    /// The interface.
    pub ifname: IfName,
}

/// Opens CNI_NETNS.
///
/// # Errors
/// Code 8: what is no namespace is the runtime's mistake.
pub fn open_netns(request: &Request) -> Result<NetNs, CniError> {
    let path = request.netns.as_deref().unwrap_or(Path::new(""));
    NetNs::open(path).map_err(|error| {
        CniError::new(
            code::NETNS,
            format!("CNI_NETNS of {}: {error}", request.key()),
        )
        .details("give the path of a living network namespace, like /proc/PID/ns/net")
    })
}

impl Container {
    /// Opens a socket in the namespace; the interface may not be there yet.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn open(netns: NetNs, ifname: &IfName) -> Result<Self, CniError> {
        let net = Net::open_in(&netns)?;
        Ok(Self {
            netns,
            net,
            ifname: ifname.clone(),
        })
    }

    /// Refuses a name that is taken inside.
    ///
    /// # Errors
    /// Code 7 if it is.
    pub fn must_be_free(&self) -> Result<(), CniError> {
        if self.net.find_link(&self.ifname)?.is_none() {
            return Ok(());
        }
        let msg = format!(
            "interface {} already exists in namespace {}",
            self.ifname,
            self.netns.path().display()
        );
        Err(CniError::new(code::CONFIG, msg)
            .details("give another CNI_IFNAME, or remove the attachment that made it"))
    }

    /// Keeps IPv6 off until it is known whether there is an address for it, and
    /// duplicate address detection, which would delay the address by a second.
    ///
    /// # Errors
    /// What the kernel refused; a namespace without IPv6 is fine.
    pub fn hush(&self, root: &Root) -> Result<(), CniError> {
        self.sysctl(root, "disable_ipv6", "1")?;
        self.sysctl(root, "accept_dad", "0")
    }

    /// A namespace without IPv6 has no such file.
    fn sysctl(&self, root: &Root, leaf: &str, value: &str) -> Result<(), CniError> {
        let key = format!("net/ipv6/conf/{}/{leaf}", self.ifname);
        self.netns
            .run(|| sysctl::set(root, &key, value))?
            .absent_is_fine()?;
        Ok(())
    }

    /// Gives the interface, which is up, the result's addresses and routes, and IPv6 if
    /// it has an address of it. An inverse registered before must take the interface or
    /// its settings back.
    ///
    /// # Errors
    /// What the kernel refused; for a route with what may be wrong with it.
    pub fn configure(
        &self,
        root: &Root,
        result: &AddResult,
        undo: &mut Undo,
    ) -> Result<(), CniError> {
        let index = self.net.link(&self.ifname)?.index;
        if result.ips.iter().any(|ip| ip.address.is_ipv6()) {
            undo.covered("IPv6 on", || self.sysctl(root, "disable_ipv6", "0"))?;
        }
        for ip in &result.ips {
            undo.covered(format!("address {}", ip.address), || {
                self.net
                    .add_address(index, ip.address, AddressFlags { nodad: true })
            })?;
        }
        for route in routes(result) {
            undo.covered(format!("route {}", route.dst), || {
                self.net.add_route(index, &route).map_err(unroutable)
            })?;
        }
        Ok(())
    }

    /// Tells the neighbours where the addresses are now. Nothing depends on it.
    pub fn announce(&self, result: &AddResult) {
        let addresses: Vec<_> = result.ips.iter().map(|ip| ip.address.ip()).collect();
        let done = self.net.link(&self.ifname).and_then(|link| match link.mac {
            Some(mac) => announce::announce(&self.netns, link.index, mac, &addresses),
            None => Ok(()),
        });
        if let Err(error) = done {
            log::warn!("addresses not announced, neighbours learn them by asking: {error}");
        }
    }
}

fn unroutable(error: berth_kernel::Error) -> CniError {
    let help = match error.kind() {
        Kind::Exists => "the namespace has this route already: leave it out of key \"ipam\"",
        _ => {
            "a route's gateway must lie in the subnet of one of the container's addresses: \
             correct the route or the address (key \"ipam\", or what its plugin hands out)"
        }
    };
    CniError::from(error).details(help)
}

/// The routes to set: a route without a gateway takes that of the addresses of its
/// family (specification, section "IPAM": `gw` is optional).
pub fn routes(result: &AddResult) -> Vec<Route> {
    let routes = result.routes.iter().map(|route| Route {
        dst: route.dst,
        gateway: route.gw.or_else(|| gateway_for(route.dst, &result.ips)),
        mtu: route.mtu,
        advmss: route.advmss,
        priority: route.priority,
        table: route.table,
        scope: route.scope,
    });
    routes.collect()
}

fn gateway_for(dst: IpNetwork, ips: &[IpConfig]) -> Option<std::net::IpAddr> {
    let family = ips
        .iter()
        .filter(|ip| ip.address.is_ipv4() == dst.is_ipv4());
    family.filter_map(|ip| ip.gateway).next()
}
