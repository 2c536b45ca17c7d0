//! Decides, from what the kernel shows, what has to be done to the bridge and its
//! uplink, or why the wish must be refused. Pure: nothing here touches the kernel.

use berth_cni::error::{CniError, code};
use berth_kernel::netlink::{Link, VlanEntry, VlanRange};
use berth_kernel::{IfName, VlanId};
use berth_state::bridge::BridgeRecord;

use crate::conf::Conf;

mod netfilter;
mod uplink;

pub use netfilter::{SETTINGS as NETFILTER_SETTINGS, of_bridge as netfilter_of_bridge};

/// Alias of a bridge made by an ADD: it goes with its last port.
pub const BRIDGE_ALIAS: &str = "berth1 bridge";

/// What was read before deciding.
#[derive(Debug, Default)]
pub struct Observed {
    /// The bridge, if the name is taken.
    pub bridge: Option<Link>,
    /// Its ports, less an uplink that an ADD made one; read only for a bridge that
    /// may have to be switched to filtering.
    pub ports: Vec<Link>,
    /// The uplink, if one is configured and exists.
    pub uplink: Option<UplinkSeen>,
    /// Node-wide settings by which the packet filter sees what bridges forward; read
    /// only where that must not be.
    pub filtering: Vec<&'static str>,
    /// Another port of the bridge whose changes as its uplink are on record.
    pub rival: Option<IfName>,
}

/// What was read about the uplink.
#[derive(Debug)]
pub struct UplinkSeen {
    /// The link.
    pub link: Link,
    /// Name of its master, if it has one.
    pub master: Option<IfName>,
    /// VLANs it carries as a bridge port.
    pub vlans: Vec<VlanEntry>,
    /// Addresses on it, in CIDR notation, link-local ones left out.
    pub addresses: Vec<String>,
    /// 802.1Q devices stacked on it, with their VLANs.
    pub stacked: Vec<(IfName, u16)>,
}

/// What to do to the bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BridgeStep {
    /// It is as wished.
    Keep,
    /// Make it.
    Create,
    /// It is ours and not as it must be: set alias and state, and filtering if asked.
    Finish {
        /// Switch VLAN filtering on.
        filter: bool,
    },
}

/// What to do to the uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkStep {
    /// The uplink.
    pub name: IfName,
    /// Its interface index.
    pub index: u32,
    /// Make it a port of the bridge.
    pub enslave: bool,
    /// Set it up.
    pub raise: bool,
    /// Let these VLANs through.
    pub add_vlans: Vec<VlanRange>,
}

impl UplinkStep {
    /// Whether nothing has to be done to it.
    pub fn is_idle(&self) -> bool {
        !self.enslave && !self.raise && self.add_vlans.is_empty()
    }
}

/// Everything to be done before the port can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The bridge.
    pub bridge: BridgeStep,
    /// The uplink, if one is configured.
    pub uplink: Option<UplinkStep>,
    /// MTU of both ends of the veth, in bytes.
    pub mtu: u32,
    /// VLAN the kernel puts on a new port by itself and that must go again.
    pub unwanted_vlan: Option<VlanId>,
    /// The same where it is to stay.
    pub kept_vlan: Option<VlanId>,
}

/// MTU of an Ethernet device nobody has configured, in bytes.
const ETHERNET_MTU: u32 = 1500;

/// EtherType of a provider (802.1ad) tag.
const PROVIDER_TAG: u16 = 0x88a8;

/// Makes the plan, or says why there is none.
pub fn decide(conf: &Conf, seen: &Observed, record: &BridgeRecord) -> Result<Plan, CniError> {
    if conf.flags.unfiltered {
        netfilter::must_be_off(conf, seen)?;
    }
    let bridge = match &seen.bridge {
        None => BridgeStep::Create,
        Some(link) => bridge_step(conf, link, &seen.ports, record)?,
    };
    let uplink = match &conf.uplink {
        None => None,
        Some(uplink) => Some(uplink::step(conf, uplink, seen)?),
    };
    let default = default_vlan(conf, seen.bridge.as_ref(), &bridge);
    Ok(Plan {
        unwanted_vlan: default.filter(|_| !conf.keep_default_vlan),
        kept_vlan: default.filter(|_| conf.keep_default_vlan),
        mtu: mtu(conf, seen)?,
        bridge,
        uplink,
    })
}

/// Whether an ADD made `link`: by its alias, or, before that is set, by the intent on
/// record and the address it was to be created with.
pub fn is_made_by_add(link: &Link, record: &BridgeRecord) -> bool {
    match link.alias.as_deref() {
        Some(alias) => alias == BRIDGE_ALIAS,
        None => record.created_with.is_some() && record.created_with == link.mac,
    }
}

/// Whether the bridge is Berth's at all, made by an ADD or by the node's bootstrap.
fn is_ours(link: &Link, record: &BridgeRecord) -> bool {
    let marked =
        |alias: &str| alias == BRIDGE_ALIAS || alias.starts_with(&format!("{BRIDGE_ALIAS} "));
    is_made_by_add(link, record) || link.alias.as_deref().is_some_and(marked)
}

fn refuse(msg: String, next: impl Into<String>) -> CniError {
    CniError::new(code::CONFIG, msg).details(next.into())
}

fn bridge_step(
    conf: &Conf,
    link: &Link,
    ports: &[Link],
    record: &BridgeRecord,
) -> Result<BridgeStep, CniError> {
    let name = &conf.bridge;
    let Some(bridge) = &link.bridge else {
        let kind = link.kind.as_deref().unwrap_or("physical link");
        return Err(refuse(
            format!("bridge {name} is wished, but the link of that name is a {kind}"),
            "name another bridge in key \"bridge\", or rename that link",
        ));
    };
    if link.name != *name {
        return Err(refuse(
            format!("{name} is only an alternative name of bridge {}", link.name),
            format!("write {} in key \"bridge\"", link.name),
        ));
    }
    if bridge.stp {
        return Err(refuse(
            format!(
                "bridge {name} has the spanning tree protocol on: a new port would stay deaf for 30 s"
            ),
            format!("`ip link set {name} type bridge stp_state 0`, or name another bridge"),
        ));
    }
    if conf.filters() && bridge.vlan_protocol == Some(PROVIDER_TAG) {
        return Err(refuse(
            format!("bridge {name} tags by 802.1ad: its VLAN ids are not 802.1Q's"),
            format!(
                "`ip link set {name} type bridge vlan_protocol 802.1Q`, or name another bridge"
            ),
        ));
    }
    if is_ours(link, record) {
        return our_bridge(conf, link, bridge.vlan_filtering, ports);
    }
    if !link.up {
        return Err(refuse(
            format!("bridge {name} is down"),
            format!("`ip link set {name} up`"),
        ));
    }
    match (conf.filters(), bridge.vlan_filtering) {
        (true, true) | (false, false) => Ok(BridgeStep::Keep),
        (false, true) if bridge.default_pvid != 0 => Ok(BridgeStep::Keep),
        (false, true) => Err(without_vlan(name)),
        (true, false) => Err(refuse(
            format!(
                "{}; the bridge is not Berth's, so it is not changed",
                without_filtering(conf)
            ),
            format!(
                "name another bridge in key \"bridge\", or, once every port of {name} has its \
                 VLANs, `ip link set {name} type bridge vlan_filtering 1`"
            ),
        )),
    }
}

fn our_bridge(
    conf: &Conf,
    link: &Link,
    filtering: bool,
    ports: &[Link],
) -> Result<BridgeStep, CniError> {
    let name = &conf.bridge;
    let filter = match (conf.filters(), filtering) {
        (false, true) => return Err(without_vlan(name)),
        (true, false) if !ports.is_empty() => {
            let users: Vec<String> = ports.iter().map(|port| port.name.to_string()).collect();
            return Err(refuse(
                format!(
                    "{}, and switching it on would cut off {}",
                    without_filtering(conf),
                    users.join(", ")
                ),
                "use another bridge for VLANs, or remove the untagged attachments first",
            ));
        }
        (wished, filtering) => wished && !filtering,
    };
    if filter || link.alias.is_none() || !link.up {
        return Ok(BridgeStep::Finish { filter });
    }
    Ok(BridgeStep::Keep)
}

/// A VLAN on a bridge that does not separate VLANs would be no separation at all.
fn without_filtering(conf: &Conf) -> String {
    let vlans = VlanRange::list(&conf.vlans());
    format!(
        "bridge {} has VLAN filtering off: VLAN {vlans} would not be isolated",
        conf.bridge
    )
}

fn without_vlan(name: &IfName) -> CniError {
    refuse(
        format!("bridge {name} filters VLANs: a port without one would reach nobody"),
        "give the attachment's VLAN in key \"vlan\", or name an untagged bridge",
    )
}

/// The VLAN that the bridge puts every new port into, if none of those wished.
fn default_vlan(conf: &Conf, link: Option<&Link>, step: &BridgeStep) -> Option<VlanId> {
    if !conf.filters() || *step != BridgeStep::Keep {
        return None;
    }
    let default = VlanId::try_from(link?.bridge.as_ref()?.default_pvid).ok()?;
    let wished = conf.vlans();
    let is_wished = wished
        .iter()
        .any(|range| range.ids().any(|id| id == default));
    (!is_wished).then_some(default)
}

fn mtu(conf: &Conf, seen: &Observed) -> Result<u32, CniError> {
    let uplink = seen.uplink.as_ref().map(|uplink| uplink.link.mtu);
    match (conf.mtu, uplink) {
        (Some(mtu), Some(limit)) if mtu > limit => Err(refuse(
            format!(
                "key \"mtu\" is {mtu}, but uplink {} carries {limit} at most",
                seen_name(seen)
            ),
            "lower \"mtu\", leave it out to take the uplink's, or raise the uplink's MTU first",
        )),
        (Some(mtu), _) => Ok(mtu),
        (None, Some(mtu)) => Ok(mtu),
        (None, None) => Ok(seen
            .bridge
            .as_ref()
            .map_or(ETHERNET_MTU, |bridge| bridge.mtu)),
    }
}

fn seen_name(seen: &Observed) -> String {
    seen.uplink
        .as_ref()
        .map(|uplink| uplink.link.name.to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
