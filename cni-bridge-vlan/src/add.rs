//! ADD: a transaction. The record comes first and is committed last; every change
//! between them has its inverse registered before it is made.

use std::net::IpAddr;
use std::panic::resume_unwind;

use berth_cni::attachment::cgroup_path;
use berth_cni::conflict::Policy;
use berth_cni::container::{Container, open_netns};
use berth_cni::error::CniError;
use berth_cni::ipam::Ipam;
use berth_cni::request::Request;
use berth_cni::result::{AddResult, Interface};
use berth_cni::steering;
use berth_cni::steps::Steps;
use berth_kernel::cpu::{self, CpuSet};
use berth_kernel::error::AbsentIsFine;
use berth_kernel::netlink::Link;
use berth_kernel::sysfs::queues::NetSysfs;
use berth_kernel::{IfName, MacAddr, Root};
use berth_state::mac;
use berth_state::record::{
    Bandwidth, BridgeHost, GatewayHost, Host, PacketRules, Phase, Record, Rps,
};
use berth_state::undo::Undo;
use ipnetwork::IpNetwork;

use crate::bridge::{self, Ready};
use crate::conf::Conf;
use crate::node::Node;
use crate::plan::Plan;
use crate::port::Membership;
use crate::{bandwidth, del, gateway, port, rules};

/// One ADD under way: everything read and decided, nothing changed yet.
struct Add<'a> {
    node: Node,
    conf: Conf,
    request: &'a Request,
    container: Container,
    mac: MacAddr,
    ipam: Ipam,
    rps: Option<CpuSet>,
    rules: PacketRules,
    bandwidth: Bandwidth,
}

/// Creates the attachment.
pub fn add(root: &Root, request: &Request, undo: &mut Undo) -> Result<AddResult, CniError> {
    let add = Add::prepare(root, request)?;
    let mut record = intent(&add)?;
    add.node.attachment.remember(&record, undo)?;
    let (port, result) = add
        .apply(&mut record, undo)
        .map_err(|error| add.located(error))?;
    if add.conf.announce && !result.ips.is_empty() {
        add.announce(&port, &result);
    }
    Ok(match request.prev_result() {
        Some(previous) => result.after(previous),
        None => result,
    })
}

impl<'a> Add<'a> {
    fn prepare(root: &Root, request: &'a Request) -> Result<Self, CniError> {
        let conf = Conf::of(request, request.argument("mac"))?;
        let bandwidth = bandwidth::of(request.argument("bandwidth").as_ref())?;
        let key = request.key();
        let node = Node::open(root, key)?;
        let netns = open_netns(request)?;
        node.attachment
            .settle(&netns, |record| del::sweep(&node, request, Some(&record)))?;
        let container = Container::open(netns, key.ifname())?;
        container.must_be_free()?;
        let uplink = conf.uplink.as_ref().map(|uplink| uplink.physical());
        let inputs =
            || steering::rps_inputs(root, cgroup_path(request).as_deref(), near(root, uplink)?);
        Ok(Self {
            mac: conf.mac.unwrap_or_else(|| mac::of_end(key, "container")),
            ipam: Ipam::of(root, request)?,
            rps: steering::decide_rps(root, &conf.rps, inputs)?,
            rules: rules::wished(root, &conf)?,
            bandwidth,
            node,
            conf,
            request,
            container,
        })
    }

    fn apply(&self, record: &mut Record, undo: &mut Undo) -> Result<(Link, AddResult), CniError> {
        // Before there is a port that needs them.
        let is_filtered = rules::filter_frames(&self.node, &self.conf, undo)?;
        let (bridge, port) = self.attach(undo)?;
        let ifb = bandwidth::limit(&self.node, &port, self.bandwidth, undo)?;
        self.raise(undo)?;
        // Last, with all in force.
        let vlans = self.vlans(&bridge.plan);
        port::open(&self.node, &port, &self.wish(&vlans), undo)?;
        let (mut result, gateway) = self.address(&bridge, &port, undo)?;
        let ifb = ifb.map(|ifb| interface(ifb.name.to_string(), ifb.mac));
        result.interfaces.extend(ifb);
        self.note(record, &bridge, &result);
        if let Host::Bridge(host) = &mut record.host {
            host.gateway = gateway;
            host.default_vlan = bridge.plan.kept_vlan;
            host.rules.tags = is_filtered;
            host.rules.bpdus &= is_filtered;
        }
        undo.covered("commit record", || {
            self.node.attachment.records().replace(record)
        })?;
        Ok((port, result))
    }

    /// An announcement that the bridge does not forward yet would be lost; it is never
    /// worth an error.
    fn announce(&self, port: &Link, result: &AddResult) {
        match port::wait_forwarding(&self.node.net, port) {
            Ok(true) => self.container.renew(&self.node.root, self.mac, result),
            Ok(false) => log::warn!(
                "port {} does not forward yet: addresses not announced, neighbours learn \
                 them by asking",
                port.name
            ),
            Err(error) => log::warn!("addresses not announced: {error}"),
        }
    }

    /// Says of which port and bridge an error speaks, as the kernel knows only its
    /// object, and what to do where nothing better is known.
    fn located(&self, error: CniError) -> CniError {
        let key = self.node.key();
        let port = format!(
            "{key}, port {} on bridge {}",
            key.port_name(),
            self.conf.bridge
        );
        let error = error.context(port);
        if error.details.is_empty() {
            return error.details("mend what the reason names and add again");
        }
        error
    }

    /// Bridge and port, under the bridge's lock: a DEL that removes the last port
    /// removes the bridge, and must not do so in between.
    fn attach(&self, undo: &mut Undo) -> Result<(Ready, Link), CniError> {
        let _lock = self.node.lock_bridge(&self.conf.bridge)?;
        let bridge = bridge::ensure(&self.node, &self.conf, undo)?;
        let vlans = self.vlans(&bridge.plan);
        let port = port::create(&self.node, &bridge, &self.wish(&vlans), undo)?;
        if let Some(peer) = port.peer {
            self.container.note_index(peer);
        }
        Ok((bridge, port))
    }

    fn wish<'w>(&'w self, vlans: &'w Membership) -> port::Wish<'w> {
        port::Wish {
            netns: &self.container.netns,
            mac: self.mac,
            vlans,
            flags: self.conf.flags,
            filter: self.conf.frame_filter(),
            rules: self.rules,
        }
    }

    /// The VLANs of the port, that of every port of the bridge among them if it is kept.
    fn vlans(&self, plan: &Plan) -> Membership {
        Membership {
            native: self.conf.vlan,
            trunk: self.conf.trunk.clone(),
            default: plan.kept_vlan,
        }
    }

    /// The container's end up, so that an IPAM plugin can use it; the port is still down,
    /// so there is no carrier yet.
    fn raise(&self, undo: &mut Undo) -> Result<(), CniError> {
        let index = self.container.index()?;
        let net = &self.container.net;
        match (self.conf.leave_down, self.conf.keep_ipv6) {
            (true, true) => Ok(()),
            (true, false) => undo.covered("quiet container end", || net.hush(index)),
            (false, true) => undo.covered("container end up", || net.set_up(index)),
            (false, false) => undo.covered("container end up", || net.set_up_hushed(index)),
        }
    }

    fn address(
        &self,
        bridge: &Ready,
        port: &Link,
        undo: &mut Undo,
    ) -> Result<(AddResult, Option<GatewayHost>), CniError> {
        let inverse = self.ipam.release(self.request);
        let given = undo.change("IPAM", inverse, || self.ipam.add(self.request))?;
        let mut result = self.result(bridge, port, given);
        let gateway = self.beside_probes(port, &mut result, undo)?;
        self.container
            .configure(&self.node.root, &result, self.conf.dad, undo)?;
        if self.rules.masquerade {
            let ips: Vec<IpNetwork> = result.ips.iter().map(|ip| ip.address).collect();
            rules::masquerade(&self.node, &ips, undo)?;
        }
        Ok((result, gateway))
    }

    /// What needs none of the addresses, while it is asked whether another has them.
    fn beside_probes(
        &self,
        port: &Link,
        result: &mut AddResult,
        undo: &mut Undo,
    ) -> Result<Option<GatewayHost>, CniError> {
        let (policy, ips) = (self.conf.conflict, addresses(result));
        let mut rest = |undo: &mut Undo| {
            let gateway = self.gateway(result, undo)?;
            self.steer(port, undo)?;
            Ok(gateway)
        };
        if policy == Policy::Off || ips.is_empty() {
            return rest(undo);
        }
        if !port::wait_forwarding(&self.node.net, port)? {
            log::warn!("port {} does not forward yet: nobody can answer", port.name);
        }
        let Container { netns, ifname, .. } = &self.container;
        let end = (ifname, self.container.index()?, self.mac);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| policy.ask(netns, end, &ips));
            let done = rest(undo);
            // The first of both in the order of steps.
            let asked = asking.join().unwrap_or_else(|panic| resume_unwind(panic));
            let gateway = done?;
            asked.map(|()| gateway)
        })
    }

    /// The node's own address in the container's subnets, where that is wished; a device
    /// of its own is listed after the other interfaces, as the reference plugin does.
    fn gateway(
        &self,
        result: &mut AddResult,
        undo: &mut Undo,
    ) -> Result<Option<GatewayHost>, CniError> {
        let Some(wish) = self.conf.gateway else {
            return Ok(None);
        };
        gateway::complete(result, wish)?;
        let device = gateway::ensure(&self.node, &self.conf, wish, result, undo)?;
        if let Some(device) = device.as_ref().filter(|d| d.name != self.conf.bridge) {
            result
                .interfaces
                .push(interface(device.name.to_string(), device.mac));
        }
        Ok(device.map(|device| GatewayHost {
            device: device.name,
            addresses: gateway::gateways(result),
        }))
    }

    fn steer(&self, port: &Link, undo: &mut Undo) -> Result<(), CniError> {
        let Some(cpus) = &self.rps else { return Ok(()) };
        let entries = self.conf.rps.flow_entries;
        let (outside, inside) = (
            NetSysfs::at(&self.node.root)?,
            NetSysfs::of(&self.container.netns)?,
        );
        undo.covered("RPS of port", || {
            steering::apply_rps(&outside, &port.name, cpus, entries)
        })?;
        undo.covered("RPS of container end", || {
            steering::apply_rps(&inside, &self.container.ifname, cpus, entries)
        })
    }

    /// Interfaces in the order of the reference plugin: bridge, port, container.
    fn result(&self, bridge: &Ready, port: &Link, given: AddResult) -> AddResult {
        let mut container = interface(self.container.ifname.to_string(), Some(self.mac));
        container.mtu = Some(bridge.plan.mtu);
        container.sandbox = Some(self.container.netns.path().display().to_string());
        let mut result = given;
        if let Some(dns) = &self.conf.dns {
            result.dns.clone_from(dns);
        }
        result.interfaces = vec![
            interface(self.conf.bridge.to_string(), bridge.mac),
            interface(port.name.to_string(), port.mac),
            container,
        ];
        for ip in &mut result.ips {
            ip.interface = Some(2);
        }
        result
    }

    fn note(&self, record: &mut Record, bridge: &Ready, result: &AddResult) {
        record.phase = Phase::Committed;
        record.container.mac = Some(self.mac);
        record.container.mtu = Some(bridge.plan.mtu);
        record.container.left_down = self.conf.leave_down;
        record.container.ips = result.ips.iter().map(|ip| ip.address).collect();
        if let Some(rps) = &mut record.rps {
            rps.set_host.clone_from(&self.rps);
            rps.set_container.clone_from(&self.rps);
        }
    }
}

fn addresses(result: &AddResult) -> Vec<IpAddr> {
    result.ips.iter().map(|ip| ip.address.ip()).collect()
}

fn interface(name: String, mac: Option<MacAddr>) -> Interface {
    Interface {
        name,
        mac: mac.map(|mac| mac.to_string()),
        ..Interface::default()
    }
}

/// The record of an ADD that has not changed anything yet.
fn intent(add: &Add<'_>) -> Result<Record, CniError> {
    let (node, conf) = (&add.node, &add.conf);
    let host = Host::Bridge(BridgeHost {
        vlan: conf.vlan,
        trunk: conf.trunk.clone(),
        uplink: conf.uplink.as_ref().map(|uplink| uplink.name.clone()),
        flags: conf.flags,
        rules: add.rules,
        bandwidth: add.bandwidth,
        ..BridgeHost::new(conf.bridge.clone(), node.key().port_name())
    });
    let netns = &add.container.netns;
    Ok(Record {
        rps: Some(Rps {
            wished: conf.rps.cpus.to_string(),
            set_host: None,
            set_container: None,
            flow_entries: conf.rps.flow_entries,
        }),
        ..node.attachment.intent(add.request, netns, host)?
    })
}

/// The CPUs near the uplink; none in particular without one.
fn near(root: &Root, uplink: Option<&IfName>) -> Result<Option<CpuSet>, CniError> {
    let Some(name) = uplink else { return Ok(None) };
    // An uplink that does not exist is refused where all its faults are.
    let node = NetSysfs::at(root)?.numa_node(name).absent_is_fine()?;
    Ok(cpu::local_to(root, node.flatten())?)
}
