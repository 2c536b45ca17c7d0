//! The container's end: addresses, routes and IPv6, through a socket in its namespace.

use std::cell::OnceCell;
use std::fmt::Display;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use berth_kernel::error::AbsentIsFine;
use berth_kernel::netlink::{AddressFlags, Net, Route};
use berth_kernel::{IfName, Kind, MacAddr, NetNs, Root, announce, sysctl};
use berth_state::undo::Undo;
use ipnetwork::IpNetwork;

use crate::error::{CniError, code};
use crate::request::Request;
use crate::result::{self, AddResult, IpConfig};
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
    /// Its index, once it was asked for.
    index: OnceCell<u32>,
}

/// Whether the kernel looks for another holder of an IPv6 address before it may be used
/// (RFC 4862 section 5.4), which takes a second or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dad {
    /// It does not: the address can be used at once.
    Off,
    /// It does, and ADD waits for what it finds.
    On,
}

/// `RT_SCOPE_LINK` (include/uapi/linux/rtnetlink.h): a destination on the link itself.
const SCOPE_LINK: u8 = 253;

/// How long duplicate address detection may take, and how often to look.
const DAD_LIMIT: Duration = Duration::from_secs(10);
const DAD_POLL: Duration = Duration::from_millis(20);

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
            index: OnceCell::new(),
        })
    }

    /// Notes the interface's index, which whoever made it may know.
    pub fn note_index(&self, index: u32) {
        self.index.get_or_init(|| index);
    }

    /// The interface's index; it has to be there by now.
    ///
    /// # Errors
    /// ENODEV when it is not.
    pub fn index(&self) -> berth_kernel::Result<u32> {
        if let Some(index) = self.index.get() {
            return Ok(*index);
        }
        let index = self.net.link(&self.ifname)?.index;
        Ok(*self.index.get_or_init(|| index))
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

    /// Keeps IPv6 silent until it is known whether there is an address for it. The
    /// interface must not be up yet.
    ///
    /// # Errors
    /// What the kernel refused; a namespace without IPv6 is fine.
    pub fn hush(&self) -> Result<(), CniError> {
        Ok(self.net.hush(self.index()?)?)
    }

    /// Lets IPv6 speak, with duplicate address detection, which would delay the address,
    /// only if that is wished. The interface gets its link-local address now, of the kind
    /// that the namespace has for new interfaces.
    fn speak(&self, root: &Root, dad: Dad) -> Result<(), CniError> {
        let own = |leaf: &str| format!("net/ipv6/conf/{}/{leaf}", self.ifname);
        let detect = if dad == Dad::On { "1" } else { "0" };
        let spoken = self.netns.run(|| {
            sysctl::write(root, &own("accept_dad"), detect)?;
            // A runtime may have switched IPv6 off for the namespace.
            sysctl::set(root, &own("disable_ipv6"), "0")?;
            let mode = sysctl::get(root, "net/ipv6/conf/default/addr_gen_mode")?;
            sysctl::write(root, &own("addr_gen_mode"), &mode)
        })?;
        spoken.absent_is_fine()?;
        Ok(())
    }

    /// Gives the interface, which is up, the result's addresses and routes, and IPv6 if
    /// it has an address of it. An inverse registered before must take the interface or
    /// its settings back.
    ///
    /// # Errors
    /// What the kernel refused; for a route with what may be wrong with it. Code 103 when
    /// duplicate address detection found another holder.
    pub fn configure(
        &self,
        root: &Root,
        result: &AddResult,
        dad: Dad,
        undo: &mut Undo,
    ) -> Result<(), CniError> {
        let index = self.index()?;
        if result.ips.iter().any(|ip| ip.address.is_ipv6()) {
            undo.covered("IPv6 on", || self.speak(root, dad))?;
        }
        for ip in &result.ips {
            undo.covered(format!("address {}", ip.address), || {
                let nodad = dad == Dad::Off;
                self.net
                    .add_address(index, ip.address, AddressFlags { nodad })
            })?;
        }
        if dad == Dad::On && result.ips.iter().any(|ip| ip.address.is_ipv6()) {
            self.wait_for_dad(index)?;
        }
        for route in routes(result) {
            undo.covered(format!("route {}", route.dst), || {
                self.net.add_route(index, &route).map_err(unroutable)
            })?;
        }
        Ok(())
    }

    /// Waits until the kernel knows of every IPv6 address whether another has it.
    fn wait_for_dad(&self, index: u32) -> Result<(), CniError> {
        let end = Instant::now() + DAD_LIMIT;
        loop {
            let live = self.net.addresses(index)?;
            if let Some(taken) = live.iter().find(|address| address.dad_failed) {
                return Err(CniError::told(
                    code::ADDRESS_CONFLICT,
                    format_args!("interface {}", self.ifname),
                    format_args!("use address {}", taken.net),
                    "another station has it (duplicate address detection)",
                    "give another address, or find the station that has this one",
                ));
            }
            if !live.iter().any(|address| address.tentative) {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(CniError::told(
                    code::TRY_AGAIN,
                    format_args!("interface {}", self.ifname),
                    "use its IPv6 addresses",
                    format_args!(
                        "duplicate address detection takes longer than {} s",
                        DAD_LIMIT.as_secs()
                    ),
                    "try again, or leave it out with \"enabledad\": false",
                ));
            }
            sleep(DAD_POLL);
        }
    }

    /// Has the kernel tell the neighbours that the addresses are at `mac`, the one the
    /// interface has, by setting it again. No socket for raw frames is needed for that,
    /// which the kernel closes only after a grace period of some 15 ms; but a device whose
    /// driver does more upon a new address than remember it needs [`Container::announce`].
    /// Nothing depends on it.
    pub fn renew(&self, root: &Root, mac: MacAddr, result: &AddResult) {
        let six = result.ips.iter().any(|ip| ip.address.is_ipv6());
        let done = self.index().map_err(CniError::from).and_then(|index| {
            self.net.set_arp_notify(index)?;
            if six {
                let key = format!("net/ipv6/conf/{}/ndisc_notify", self.ifname);
                self.netns.run(|| sysctl::write(root, &key, "1"))??;
            }
            Ok(self.net.set_mac(index, mac)?)
        });
        warn_unannounced(done);
    }

    /// Tells the neighbours that the addresses are at `mac` now. Nothing depends on it.
    pub fn announce(&self, mac: MacAddr, result: &AddResult) {
        let addresses: Vec<_> = result.ips.iter().map(|ip| ip.address.ip()).collect();
        let index = self.index();
        let done = index.and_then(|i| announce::announce(&self.netns, i, mac, &addresses));
        warn_unannounced(done);
    }
}

fn warn_unannounced<E: Display>(done: Result<(), E>) {
    if let Err(error) = done {
        log::warn!("addresses not announced, neighbours learn them by asking: {error}");
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
/// family (specification, section "IPAM": `gw` is optional), unless its scope says that
/// it goes no farther than the link.
pub fn routes(result: &AddResult) -> Vec<Route> {
    let near = |scope: Option<u8>| scope.is_some_and(|scope| scope >= SCOPE_LINK);
    let given = |route: &result::Route| {
        let first = || gateway_for(route.dst, &result.ips);
        route.gw.or_else(|| first().filter(|_| !near(route.scope)))
    };
    let routes = result.routes.iter().map(|route| Route {
        dst: route.dst,
        gateway: given(route),
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
