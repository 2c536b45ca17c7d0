//! ADD: a transaction. The record comes first and is committed last; every change
//! between them has its inverse registered before it is made.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use berth_cni::error::{CniError, code};
use berth_cni::ipam::Ipam;
use berth_cni::request::Request;
use berth_cni::result::{AddResult, Interface};
use berth_cni::steps::Steps;
use berth_kernel::cpu::CpuSet;
use berth_kernel::netlink::Link;
use berth_kernel::sysfs::queues::NetSysfs;
use berth_kernel::{MacAddr, NetNs, Root};
use berth_state::record::{Phase, Record};
use berth_state::undo::Undo;

use crate::bridge::{self, Ready};
use crate::conf::Conf;
use crate::container::Container;
use crate::node::Node;
use crate::record::fresh;
use crate::{del, port, rps};

/// One ADD under way: everything read and decided, nothing changed yet.
struct Add<'a> {
    node: Node,
    conf: Conf,
    request: &'a Request,
    container: Container,
    mac: MacAddr,
    ipam: Ipam,
    rps: Option<CpuSet>,
}

/// Creates the attachment.
pub fn add(root: &Root, request: &Request, undo: &mut Undo) -> Result<AddResult, CniError> {
    let add = Add::prepare(root, request)?;
    let mut record = fresh(&add.node, &add.conf, request, &add.container.netns)?;
    remember(&add.node, &record, undo)?;
    let result = add
        .apply(&mut record, undo)
        .map_err(|error| add.located(error))?;
    if add.conf.announce {
        add.container.announce(&result);
    }
    Ok(match request.prev_result() {
        Some(previous) => result.after(previous),
        None => result,
    })
}

/// Writes the record before the first change. It is taken back only when everything
/// else could be: what is left over needs it. One that another ADD of the same
/// attachment wrote first is that one's, and stays.
fn remember(node: &Node, record: &Record, undo: &mut Undo) -> Result<(), CniError> {
    let (inverse, others) = (node.clone(), Rc::new(Cell::new(false)));
    let lost = others.clone();
    undo.last("record", move || match lost.get() {
        true => Ok(()),
        false => inverse.records.remove(inverse.key()),
    });
    undo.covered("write record", || {
        let created = node.records.create(record);
        created.inspect_err(|error| others.set(error.kind() == berth_state::Kind::Exists))
    })
}

impl<'a> Add<'a> {
    fn prepare(root: &Root, request: &'a Request) -> Result<Self, CniError> {
        let conf = Conf::of(request, request.argument("mac"))?;
        refuse_bandwidth(request)?;
        let key = request.key();
        let node = Node::open(root, key)?;
        let netns = open_netns(request)?;
        settle_own_key(&node, request, &netns)?;
        let container = Container::open(netns, key.ifname())?;
        container.must_be_free()?;
        let uplink = conf.uplink.as_ref().map(|uplink| &uplink.name);
        let cgroup = cgroup_path(request);
        Ok(Self {
            mac: conf
                .mac
                .unwrap_or_else(|| port::derived_mac(key, "container")),
            ipam: Ipam::of(request)?,
            rps: rps::decide(root, &conf.rps, cgroup.as_deref(), uplink)?,
            node,
            conf,
            request,
            container,
        })
    }

    fn apply(&self, record: &mut Record, undo: &mut Undo) -> Result<AddResult, CniError> {
        let (bridge, port) = self.attach(undo)?;
        self.raise(undo)?;
        let result = self.address(&bridge, &port, undo)?;
        self.steer(&port, undo)?;
        self.note(record, &bridge, &result);
        undo.covered("commit record", || self.node.records.replace(record))?;
        Ok(result)
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
        let wish = port::Wish {
            netns: &self.container.netns,
            mac: self.mac,
            vlan: self.conf.vlan,
        };
        let port = port::create(&self.node, &bridge, &wish, undo)?;
        Ok((bridge, port))
    }

    /// The container's end up, so that an IPAM plugin can use it.
    fn raise(&self, undo: &mut Undo) -> Result<(), CniError> {
        undo.covered("quiet container end", || {
            self.container.hush(&self.node.root)
        })?;
        let index = self.container.net.link(&self.container.ifname)?.index;
        undo.covered("container end up", || self.container.net.set_up(index))
    }

    fn address(&self, bridge: &Ready, port: &Link, undo: &mut Undo) -> Result<AddResult, CniError> {
        let inverse = self.ipam.release(self.request);
        let given = undo.change("IPAM", inverse, || self.ipam.add(self.request))?;
        let result = self.result(bridge, port, given);
        self.container.configure(&self.node.root, &result, undo)?;
        Ok(result)
    }

    fn steer(&self, port: &Link, undo: &mut Undo) -> Result<(), CniError> {
        let Some(cpus) = &self.rps else { return Ok(()) };
        let entries = self.conf.rps.flow_entries;
        let (outside, inside) = (
            NetSysfs::at(&self.node.root)?,
            NetSysfs::of(&self.container.netns)?,
        );
        undo.covered("RPS of port", || {
            rps::apply(&outside, &port.name, cpus, entries)
        })?;
        undo.covered("RPS of container end", || {
            rps::apply(&inside, &self.container.ifname, cpus, entries)
        })
    }

    /// Interfaces in the order of the reference plugin: bridge, port, container.
    fn result(&self, bridge: &Ready, port: &Link, given: AddResult) -> AddResult {
        let interface = |name: String, mac: Option<MacAddr>| Interface {
            name,
            mac: mac.map(|mac| mac.to_string()),
            ..Interface::default()
        };
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
        record.container.ips = result.ips.iter().map(|ip| ip.address).collect();
        if let Some(rps) = &mut record.rps {
            rps.set_host.clone_from(&self.rps);
            rps.set_container.clone_from(&self.rps);
        }
    }
}

/// A limit that is asked for and not set would be worse than an error.
fn refuse_bandwidth(request: &Request) -> Result<(), CniError> {
    let Some(limit) = request.argument_at_runtime("bandwidth") else {
        return Ok(());
    };
    let next = "take the capability out of this plugin's configuration and chain the \
                reference plugin \"bandwidth\" after it";
    Err(CniError::unsupported(&limit.origin, &limit.value, next))
}

/// Opens CNI_NETNS; what is no namespace is the runtime's mistake (code 8).
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

/// The container's cgroup, if the runtime gave it as a capability.
pub fn cgroup_path(request: &Request) -> Option<PathBuf> {
    let given = request.argument("cgroupPath")?;
    given.value.as_str().map(PathBuf::from)
}

/// What to do when this attachment is on record already: leave a living one alone,
/// sweep what a dead ADD or a former namespace left.
fn settle_own_key(node: &Node, request: &Request, netns: &NetNs) -> Result<(), CniError> {
    let key = node.key();
    let Some(record) = node.records.load(key)? else {
        return Ok(());
    };
    if record.is_being_added(&node.root)? {
        let msg = format!(
            "attachment {key} is being added by process {}",
            record.writer.pid
        );
        return Err(
            CniError::new(code::TRY_AGAIN, msg).details("wait for it to end, then try again")
        );
    }
    if record.phase == Phase::Committed && record.netns.is(netns)? {
        let path = node.records.path(key);
        let msg = format!(
            "attachment {key} exists already, on record in {}",
            path.display()
        );
        return Err(CniError::new(code::CONFIG, msg)
            .details("send DEL for it first; a runtime must not ADD the same attachment twice"));
    }
    log::info!("{key}: an earlier ADD left a record; cleaning up after it first");
    del::sweep(node, request, Some(record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_state::boot::Writer;
    use berth_state::key::Key;
    use berth_state::record::{BridgeHost, ContainerSide, Host, NetnsRef, SavedRequest};

    fn record(key: &Key) -> Record {
        Record {
            key: key.clone(),
            phase: Phase::Prepared,
            boot_id: "boot".to_owned(),
            writer: Writer {
                pid: 1,
                start_time: 1,
            },
            netns: NetnsRef {
                path: None,
                dev: 1,
                ino: 1,
                cookie: 1,
            },
            host: Host::Bridge(BridgeHost {
                bridge: "br0".parse().unwrap(),
                port: key.port_name(),
                vlan: None,
                uplink: None,
            }),
            container: ContainerSide::default(),
            rps: None,
            cgroup_path: None,
            request: SavedRequest::default(),
        }
    }

    #[test]
    fn the_record_of_the_add_that_came_first_survives_the_other_ones_rollback() {
        let dir = tempfile::tempdir().unwrap();
        let key = Key::new("net", "one", "eth0".parse().unwrap()).unwrap();
        let node = Node::open(&Root::under(dir.path()), &key).unwrap();
        let first = record(&key);
        let mut undo = Undo::new(berth_state::undo::Faults::none());
        remember(&node, &first, &mut undo).unwrap();
        let mut late = Undo::new(berth_state::undo::Faults::none());
        let error = remember(&node, &record(&key), &mut late).unwrap_err();
        assert_eq!(error.code, code::TRY_AGAIN);
        assert_eq!(late.rollback(), []);
        assert_eq!(node.records.load(&key).unwrap(), Some(first));
        assert_eq!(undo.rollback(), []);
        assert_eq!(node.records.load(&key).unwrap(), None);
    }
}
