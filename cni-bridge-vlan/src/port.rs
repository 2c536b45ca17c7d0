//! The veth pair: its host end is the bridge's port, named and marked so that it is
//! found without a record.

use std::time::{Duration, Instant};

use berth_cni::error::{CniError, code};
use berth_cni::steps::Steps;
use berth_kernel::error::AbsentIsFine;
use berth_kernel::netlink::{Link, Mark, Net, PortOptions, Veth, VlanEntry};
use berth_kernel::release::{Release, Version};
use berth_kernel::{IfName, Kind, MacAddr, NetNs, Root};
use berth_state::mac;
use berth_state::record::{PacketRules, PortFlags};
use berth_state::undo::Undo;
use nix::errno::Errno;

use crate::bridge::Ready;
use crate::frames::Filter;
use crate::node::Node;
use crate::rules;

mod vlans;

pub use vlans::{Membership, shown};

/// Where the pair goes.
#[derive(Debug)]
pub struct Wish<'a> {
    /// The container's namespace.
    pub netns: &'a NetNs,
    /// The container end's address.
    pub mac: MacAddr,
    /// The port's VLANs.
    pub vlans: &'a Membership,
    /// What the port does with frames.
    pub flags: PortFlags,
    /// Which frames that come in by it are dropped.
    pub filter: Filter,
    /// What of all that takes rules of the packet filter.
    pub rules: PacketRules,
}

/// `BR_STATE_FORWARDING` (include/uapi/linux/if_bridge.h).
const FORWARDING: u8 = 3;
/// How long the kernel may take to get there, and how often to look.
const FORWARDING_LIMIT: Duration = Duration::from_millis(200);
const FORWARDING_POLL: Duration = Duration::from_millis(1);

/// The first kernel whose bridge ports can be locked (`IFLA_BRPORT_LOCKED`).
pub const LOCKED_SINCE: Version = Version::new(5, 18);

/// Makes the pair, marks the port and puts it into its VLAN; both ends are down. The caller
/// holds the bridge's lock: from here on the port and its mark keep bridge and VLANs.
pub fn create(
    node: &Node,
    bridge: &Ready,
    wish: &Wish<'_>,
    undo: &mut Undo,
) -> Result<Link, CniError> {
    let key = node.key();
    let name = key.port_name();
    let veth = Veth {
        host: &name,
        host_mac: Some(mac::of_end(key, "host")),
        master: Some(bridge.index),
        group: Some(wish.filter.group()),
        mtu: Some(bridge.plan.mtu),
        up: false,
        peer: key.ifname(),
        peer_mac: Some(wish.mac),
        peer_ns: wish.netns,
    };
    let inverse = node.clone();
    undo.change(
        format!("port {name}"),
        move || remove(&inverse, true),
        || node.net.create_veth(&veth).map_err(no_room),
    )?;
    let port = node.net.link(&name)?;
    if wish.locks() && port.port.is_some_and(|port| port.locked.is_none()) {
        return Err(cannot_lock(&node.root));
    }
    let mark = Mark {
        alias: &key.alias(),
        options: wish.options(),
    };
    undo.covered("mark port", || node.net.mark_port(port.index, &mark))?;
    if !wish.vlans.is_plain() {
        vlans::join(node, &port, wish.vlans, bridge.plan.unwanted_vlan, undo)?;
    }
    Ok(port)
}

/// Has the port's senders checked, then sets it up: nothing passes before.
pub fn open(node: &Node, port: &Link, wish: &Wish<'_>, undo: &mut Undo) -> Result<(), CniError> {
    if wish.flags.locked {
        undo.covered("port FDB entry", || {
            // Without a VLAN in every one the port is in.
            let one = wish
                .vlans
                .native
                .filter(|_| wish.vlans.entries().len() == 1);
            node.net.add_fdb(port.index, wish.mac, one)
        })?;
    }
    if wish.rules.senders {
        rules::check_senders(node, wish.mac, undo)?;
    }
    undo.covered("port up", || node.net.set_up(port.index))
}

/// How many ports a bridge can have (`BR_MAX_PORTS` of net/bridge/br_private.h, less the
/// number 0).
pub const MOST: usize = 1023;
/// The same in words.
pub const FULL: &str = "the bridge has all the 1023 ports it can have";

/// The kernel says "Exchange full" and no more.
fn no_room(error: berth_kernel::Error) -> CniError {
    if error.errno != Some(Errno::EXFULL) {
        return error.into();
    }
    full(error.because(Some(FULL.into())).to_string())
}

/// The refusal of a port for which there is no room.
pub fn full(told: String) -> CniError {
    CniError::try_again(told).details(
        "remove attachments that are gone, or use another bridge; with \"layout\": \"per-vlan\" \
         each VLAN has one",
    )
}

impl Wish<'_> {
    /// Whether the kernel is to check senders by itself.
    fn locks(&self) -> bool {
        self.flags.locked && !self.rules.senders
    }

    /// What differs from how the kernel makes a port. Behind a locked one there is one
    /// address, known from the start: nothing has to be learned there, nor flooded to find
    /// others.
    fn options(&self) -> PortOptions {
        let PortFlags {
            hairpin,
            isolated,
            locked,
            ..
        } = self.flags;
        PortOptions {
            hairpin: hairpin.then_some(true),
            isolated: isolated.then_some(true),
            learning: locked.then_some(false),
            flood: locked.then_some(false),
            locked: self.locks().then_some(true),
            ..PortOptions::default()
        }
    }
}

/// Why a port cannot be locked: without it any address could be claimed.
pub fn cannot_lock(root: &Root) -> CniError {
    let release = Release::running(root);
    let release = release.map_or_else(|_unread| "of this node".to_owned(), |r| r.to_string());
    let msg = format!(
        "key \"macspoofchk\" is on, but kernel {release} has no locked bridge ports (Linux \
         {LOCKED_SINCE}): the container could send from any MAC address"
    );
    CniError::new(code::KERNEL, msg)
        .details("boot a newer kernel, or accept it with \"macspoofchk\": false")
}

/// Waits until the bridge forwards what comes in by the port, which it does at once or a
/// moment after it is set up; whether it does. Before that a frame would be lost.
pub fn wait_forwarding(net: &Net, port: &Link) -> Result<bool, CniError> {
    let end = Instant::now() + FORWARDING_LIMIT;
    loop {
        let now = net.link_at(port.index)?;
        if now.port.is_some_and(|port| port.state == FORWARDING) {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        std::thread::sleep(FORWARDING_POLL);
    }
}

/// The VLANs of a port; none on a kernel without VLAN filtering, which cannot list them.
pub fn vlans_if_any(net: &Net, port: u32) -> berth_kernel::Result<Vec<VlanEntry>> {
    match net.vlans_of(port) {
        Err(error) if error.kind() == Kind::Unsupported => Ok(Vec::new()),
        listed => listed,
    }
}

/// The bridge of this attachment's port, if it is there and marked: where the record is
/// lost, the configuration may name another by now.
pub fn place(node: &Node) -> Result<Option<IfName>, CniError> {
    let key = node.key();
    let link = node.net.find_link(&key.port_name())?;
    let Some(link) = link.filter(|link| link.alias.as_deref() == Some(&key.alias())) else {
        return Ok(None);
    };
    let Some(bridge) = link.master.map(|index| node.net.find_link_at(index)) else {
        return Ok(None);
    };
    Ok(bridge?.map(|bridge| bridge.name))
}

/// Lets nothing pass the port any more, if it is there.
pub fn silence(node: &Node, on_record: bool) -> Result<(), CniError> {
    if let Some(port) = node.own_link(&node.key().port_name(), "veth", on_record)? {
        node.net.set_down(port.index).absent_is_fine()?;
    }
    Ok(())
}

/// Deletes the pair, if its host end is this attachment's.
pub fn remove(node: &Node, on_record: bool) -> Result<(), CniError> {
    node.remove_link(&node.key().port_name(), "veth", on_record)
}
