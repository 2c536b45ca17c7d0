//! ADD: a transaction. A VF is claimed, the record with its baseline is written, and
//! from then on one inverse takes every change back: the restore that DEL does.

use std::collections::BTreeSet;
use std::time::Duration;

use berth_cni::attachment::cgroup_path;
use berth_cni::container::{Container, Dad, open_netns};
use berth_cni::error::{CniError, code};
use berth_cni::ipam::Ipam;
use berth_cni::request::Request;
use berth_cni::result::{AddResult, Interface};
use berth_cni::steps::Steps;
use berth_cni::{steering, units};
use berth_kernel::netlink::{Link, wait_running};
use berth_kernel::placement::AutoInput;
use berth_kernel::{AltName, Root, cpu};
use berth_state::lock::LockName;
use berth_state::record::{Host, Phase, Record};
use berth_state::undo::Undo;
use berth_state::vf::{self, SriovHost, VfSet};

use crate::claim::{self, Taken};
use crate::conf::{Conf, Given};
use crate::node::Node;
use crate::{del, pf_side, steer};

/// What to use in place of the bandwidth capability.
const NO_BANDWIDTH: &str = "take the capability out of this plugin's configuration; key \
                            \"max_tx_rate\" limits what the VF sends";
/// How long the announcement waits for the VF's carrier.
const CARRIER_WAIT: Duration = Duration::from_millis(200);

/// One ADD under way: what was wished and where, nothing changed yet.
struct Add<'a> {
    node: Node,
    conf: Conf,
    request: &'a Request,
    container: Container,
    ipam: Ipam,
    /// What `auto` CPUs are decided from, but for what is near the VF.
    cpus: AutoInput,
}

/// The VF under work. The lock is held until the ADD has ended.
pub struct Work {
    /// The claimed VF and its PF.
    pub taken: Taken,
    /// The attachment's record; [`Work::host`] is newer.
    record: Record,
    /// The record's host side.
    pub host: SriovHost,
}

impl Work {
    /// Writes what is known by now to the record.
    pub fn note(&mut self, node: &Node) -> Result<(), CniError> {
        self.record.host = Host::Sriov(Box::new(self.host.clone()));
        Ok(node.attachment.records().replace(&self.record)?)
    }
}

/// Creates the attachment.
pub fn add(root: &Root, request: &Request, undo: &mut Undo) -> Result<AddResult, CniError> {
    let add = Add::prepare(root, request)?;
    let taken = claim::take(&add.node, &add.conf, &near_nodes(root, &add.cpus)?, undo)?;
    let name = taken.name();
    let made = add
        .make(taken, undo)
        .map_err(|error| add.located(&name, error))?;
    if add.conf.announce {
        add.announce(&made);
    }
    Ok(match request.prev_result() {
        Some(previous) => made.after(previous),
        None => made,
    })
}

/// The NUMA nodes of a pinned container's CPUs.
fn near_nodes(root: &Root, cpus: &AutoInput) -> Result<BTreeSet<u32>, CniError> {
    let mut near = BTreeSet::new();
    let Some(own) = steer::pinned(cpus) else {
        return Ok(near);
    };
    for node in cpu::nodes(root)? {
        if !cpu::of_node(root, node)?.intersection(&own).is_empty() {
            near.insert(node);
        }
    }
    Ok(near)
}

impl<'a> Add<'a> {
    fn prepare(root: &Root, request: &'a Request) -> Result<Self, CniError> {
        let given = Given {
            device: request.argument("deviceID"),
            mac: request.argument("mac"),
        };
        let conf = Conf::of(request, given)?;
        units::refuse_bandwidth(request, NO_BANDWIDTH)?;
        conf.work.must_be_online(root)?;
        let node = Node::open(root, request.key())?;
        let netns = open_netns(request)?;
        del::settle(&node, request, &netns)?;
        let container = Container::open(netns, request.key().ifname())?;
        container.must_be_free()?;
        let cgroup = cgroup_path(request);
        Ok(Self {
            cpus: steering::inputs(root, cgroup.as_deref(), None)?,
            ipam: Ipam::of(root, request)?,
            node,
            conf,
            request,
            container,
        })
    }

    fn make(&self, taken: Taken, undo: &mut Undo) -> Result<AddResult, CniError> {
        let mut work = self.remember(taken, undo)?;
        pf_side::tell(&self.node, &work, undo)?;
        let link = self.settle_mac(&mut work, undo)?;
        let plan = steer::Plan::of(&self.node.root, &self.conf.work, &self.cpus, &work)?;
        let link = plan.queues(&self.node, link, &mut work, undo)?;
        self.move_in(&link, undo)?;
        let link = self.raise(&mut work, undo)?;
        plan.pin(&self.node, &mut work, undo)?;
        let result = self.address(&link, &work, undo)?;
        self.finish(&mut work, &link, &result);
        undo.covered("commit record", || work.note(&self.node))?;
        Ok(result)
    }

    /// The record, with everything DEL has to bring back, before the first change.
    fn remember(&self, taken: Taken, undo: &mut Undo) -> Result<Work, CniError> {
        let (node, pf, function) = (&self.node, &taken.pf, &taken.vf);
        let side = pf_side::read(node, pf, function, self.conf.mac)?;
        let baseline = vf::capture(&node.root, &node.net, function, side)?;
        self.must_fit(&taken, &baseline)?;
        // What is going to be set is known to DEL whenever this ADD may die.
        let set = VfSet {
            side: self.conf.side.target(self.conf.mac, &baseline.side),
            ..VfSet::default()
        };
        let host = SriovHost {
            pf: pf.address,
            pf_name: pf_side::interface(pf)?,
            vf: function.address,
            index: function.index,
            driver: function.driver.clone().unwrap_or_default(),
            baseline,
            irqs: Default::default(),
            set,
        };
        let kept = Host::Sriov(Box::new(host.clone()));
        let attachment = &node.attachment;
        let record = attachment.intent(self.request, &self.container.netns, kept)?;
        attachment.remember(&record, undo)?;
        let inverse = node.clone();
        undo.before("VF", move || del::give_back_recorded(&inverse));
        taken.touched.set(true);
        Ok(Work {
            taken,
            record,
            host,
        })
    }

    /// Wishes that only the chosen VF shows to be impossible.
    fn must_fit(&self, taken: &Taken, baseline: &vf::Baseline) -> Result<(), CniError> {
        let pf = self.node.net.link(&pf_side::interface(&taken.pf)?)?;
        if let Some(mtu) = self.conf.mtu.filter(|mtu| *mtu > pf.mtu) {
            let msg = format!(
                "invalid configuration: mtu = {mtu}: PF {} carries {} at most",
                pf.name, pf.mtu
            );
            let next = format!(
                "lower \"mtu\", or `ip link set {} mtu {mtu}` first",
                pf.name
            );
            return Err(CniError::new(code::CONFIG, msg).details(next));
        }
        let all = self.conf.promisc == Some(true) || self.conf.allmulti == Some(true);
        let trusted = self.conf.side.trust.or(baseline.side.trust);
        if all && trusted == Some(false) {
            let msg = "invalid configuration: promisc or allmulti = true: the VF is not trusted, \
                       so its NIC would not give it foreign frames";
            return Err(CniError::new(code::CONFIG, msg)
                .details("add \"trust\": \"on\", or leave the two keys out"));
        }
        Ok(())
    }

    /// A MAC address wished at the PF has to reach the VF's interface; many drivers ask
    /// the PF only when they are bound.
    fn settle_mac(&self, work: &mut Work, undo: &mut Undo) -> Result<Link, CniError> {
        let (node, address) = (&self.node, work.host.vf);
        let Some(mac) = self.conf.mac else {
            return Ok(vf::present(&node.root, &node.net, address)?);
        };
        undo.covered(format!("MAC address {mac}"), || {
            vf::settle_mac(&node.root, &node.net, address, mac)
        })
        .inspect(|_| work.host.set.mac = Some(mac))
    }

    /// Marks the interface and moves it under its new name, in one message. `move` is
    /// locked meanwhile: each move keeps the kernel's network lock for some 16 ms.
    fn move_in(&self, link: &Link, undo: &mut Undo) -> Result<(), CniError> {
        let (net, key) = (&self.node.net, self.node.key());
        undo.covered("alias", || net.set_alias(link.index, &key.alias()))?;
        // The kernel refuses a name that the link has as an alternative one already.
        let same = |name: &&AltName| name.to_string() == key.ifname().as_str();
        if let Some(name) = link.altnames.iter().find(same) {
            undo.covered("alternative name off", || net.del_altname(link.index, name))?;
        }
        let _lock = self.node.lock(&LockName::Move)?;
        undo.covered("move into namespace", || {
            net.move_to(link.index, &self.container.netns, Some(key.ifname()))
        })
    }

    /// The interface as wished, and up.
    fn raise(&self, work: &mut Work, undo: &mut Undo) -> Result<Link, CniError> {
        let (net, conf, set) = (&self.container.net, &self.conf, &mut work.host.set);
        undo.covered("quiet interface", || self.container.hush())?;
        let index = self.container.index()?;
        if let Some(mtu) = conf.mtu {
            undo.covered(format!("MTU {mtu}"), || net.set_mtu(index, mtu))?;
            set.mtu = Some(mtu);
        }
        if let Some(on) = conf.promisc {
            undo.covered("promiscuous mode", || net.set_promisc(index, on))?;
            set.promisc = Some(on);
        }
        if let Some(on) = conf.allmulti {
            undo.covered("all multicast", || net.set_allmulti(index, on))?;
            set.allmulti = Some(on);
        }
        undo.covered("interface up", || net.set_up(index))?;
        let link = net.link_at(index)?;
        match conf.mac.filter(|mac| link.mac != Some(*mac)) {
            None => Ok(link),
            Some(mac) => Err(pf_side::lost_mac(&work.host, mac, link.mac)),
        }
    }

    fn address(&self, link: &Link, work: &Work, undo: &mut Undo) -> Result<AddResult, CniError> {
        let inverse = self.ipam.release(self.request);
        let given = undo.change("IPAM", inverse, || self.ipam.add(self.request))?;
        let result = self.result(link, work, given);
        self.container
            .configure(&self.node.root, &result, Dad::Off, undo)?;
        Ok(result)
    }

    fn result(&self, link: &Link, work: &Work, given: AddResult) -> AddResult {
        let mut result = given;
        if let Some(dns) = &self.conf.dns {
            result.dns.clone_from(dns);
        }
        result.interfaces = vec![Interface {
            name: self.container.ifname.to_string(),
            mac: link.mac.map(|mac| mac.to_string()),
            mtu: Some(link.mtu),
            sandbox: Some(self.container.netns.path().display().to_string()),
            socket_path: None,
            pci_id: Some(work.host.vf.to_string()),
        }];
        for ip in &mut result.ips {
            ip.interface = Some(0);
        }
        result
    }

    fn finish(&self, work: &mut Work, link: &Link, result: &AddResult) {
        let queues = |count: usize| u32::try_from(count).ok();
        let record = &mut work.record;
        record.phase = Phase::Committed;
        record.container.mac = link.mac;
        record.container.mtu = Some(link.mtu);
        record.container.ips = result.ips.iter().map(|ip| ip.address).collect();
        record.container.rx_queues = queues(work.host.set.rps.len());
        record.container.tx_queues = queues(work.host.set.xps.len());
    }

    /// Without a carrier the announcement would be lost; it is never worth an error.
    fn announce(&self, result: &AddResult) {
        let netns = &self.container.netns;
        let link = self.container.net.link(&self.container.ifname);
        let ready = link.and_then(|link| {
            let running = wait_running(netns, link.index, CARRIER_WAIT)?;
            Ok(link.mac.filter(|_| running))
        });
        match ready {
            Ok(Some(mac)) => self.container.announce(mac, result),
            Ok(None) => log::warn!(
                "{} has no carrier yet: addresses not announced, neighbours learn them by asking",
                self.container.ifname
            ),
            Err(error) => log::warn!("addresses not announced: {error}"),
        }
    }

    /// Says of which VF an error speaks, as the kernel knows only its object, and what
    /// to do where nothing better is known.
    fn located(&self, vf: &str, error: CniError) -> CniError {
        let error = error.context(format!("{}, VF {vf}", self.node.key()));
        if error.details.is_empty() {
            return error.details("mend what the reason names and add again");
        }
        error
    }
}
