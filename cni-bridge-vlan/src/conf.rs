//! The configuration: what an operator may write, validated into units.

use berth_cni::conflict::Policy;
use berth_cni::container::Dad;
use berth_cni::error::CniError;
use berth_cni::fields::Fields;
use berth_cni::ipam;
use berth_cni::keys::KeySpec;
use berth_cni::request::{Argument, Call};
use berth_cni::result::Dns;
use berth_cni::steering::Rps;
use berth_cni::units;
use berth_kernel::netlink::VlanRange;
use berth_kernel::{IfName, MacAddr, VlanId};
use berth_state::key::vlan_link_name;
use berth_state::record::PortFlags;
use serde_json::json;

use crate::frames;

/// Bridge name when the configuration gives none, as the reference plugin has it.
const DEFAULT_BRIDGE: &str = "cni0";

/// What the operator wishes for one attachment, checked and in units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conf {
    /// The bridge the port joins.
    pub bridge: IfName,
    /// The physical way out, if the bridge has one.
    pub uplink: Option<Uplink>,
    /// The untagged VLAN; none, and no trunk: a plain untagged bridge.
    pub vlan: Option<VlanId>,
    /// The tagged VLANs, ascending, without the untagged one.
    pub trunk: Vec<VlanRange>,
    /// Whether the port stays in the VLAN that the bridge puts every port into.
    pub keep_default_vlan: bool,
    /// MTU of both ends; none: the uplink's, else the bridge's.
    pub mtu: Option<u32>,
    /// The container's MAC address; none: derived from the attachment's key.
    pub mac: Option<MacAddr>,
    /// Which CPUs process the packets of both ends.
    pub rps: Rps,
    /// What the port does with frames.
    pub flags: PortFlags,
    /// Whether the node is the containers' gateway, and how.
    pub gateway: Option<Gateway>,
    /// Whether what the container sends out of its subnets gets the node's address.
    pub masquerade: bool,
    /// Whether bridge protocol frames of the container are dropped; none: if the kernel
    /// can, and foreign VLAN tags likewise.
    pub bpdu_filter: Option<bool>,
    /// Whether the kernel looks for other holders of IPv6 addresses.
    pub dad: Dad,
    /// Whether the container's end is left down, for someone else to set up.
    pub leave_down: bool,
    /// The kernel gives the container's end IPv6 addresses of its own making, as it does
    /// in the namespace.
    pub keep_ipv6: bool,
    /// What to do about an address that another station has.
    pub conflict: Policy,
    /// Whether neighbours are told of the container's addresses.
    pub announce: bool,
    /// Name service settings that replace those of IPAM.
    pub dns: Option<Dns>,
}

/// A gateway of the containers on the node itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gateway {
    /// It is the containers' default route, too.
    pub is_default: bool,
    /// An address that is in its way is replaced.
    pub force: bool,
}

/// The link that connects a bridge to the world outside the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// Its name.
    pub name: IfName,
    /// What may be done to it.
    pub mode: UplinkMode,
    /// What it is made of, where a bridge has one VLAN only.
    pub lower: Option<Lower>,
}

/// The physical link below the uplink of one VLAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lower {
    /// Its name.
    pub name: IfName,
    /// The VLAN whose frames are taken from it.
    pub vlan: VlanId,
}

impl Uplink {
    /// The physical link.
    pub fn physical(&self) -> &IfName {
        self.lower.as_ref().map_or(&self.name, |lower| &lower.name)
    }
}

/// Whether an ADD may change who owns the uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UplinkMode {
    /// It must be a port of the bridge already.
    Verify,
    /// A bare one may be made a port of the bridge.
    Ensure,
}

/// Every key of the plugin.
pub const KEYS: &[KeySpec] = &[
    KeySpec::built("bridge"),
    KeySpec::built("uplink"),
    KeySpec::built("uplinkMode"),
    KeySpec::built("layout"),
    KeySpec::built("vlan"),
    KeySpec::built("vlanTrunk"),
    KeySpec::built("preserveDefaultVlan"),
    KeySpec::built("mtu"),
    KeySpec::built("mac"),
    KeySpec::built("rps"),
    KeySpec::built("announce"),
    KeySpec::built("hairpinMode"),
    KeySpec::built("promiscMode"),
    KeySpec::built("portIsolation"),
    KeySpec::built("isGateway"),
    KeySpec::built("isDefaultGateway"),
    KeySpec::built("forceAddress"),
    KeySpec::built("enabledad"),
    KeySpec::built("disableContainerInterface"),
    KeySpec::built("bridgeNetfilter"),
    KeySpec::built("ipv6"),
    KeySpec::built("addressConflict"),
    KeySpec::built("bandwidth"),
    KeySpec::built("macspoofchk").mistaken_for(&["spoofchk"]),
    KeySpec::built("ipMasq"),
    KeySpec::built("ipMasqBackend"),
    KeySpec::built("bpduFilter"),
];

/// The bridge's name alone: all that a removal needs of the configuration.
pub fn bridge_name(fields: &Fields<'_>) -> Result<IfName, CniError> {
    let name = match fields.parsed("bridge")? {
        Some(name) => name,
        None => DEFAULT_BRIDGE
            .parse()
            .map_err(|reason| fields.invalid("bridge", reason))?,
    };
    match (layout(fields)?, vlans::native(fields)?) {
        (Layout::PerVlan, Some(vlan)) => Ok(vlan_link_name(&name, vlan)),
        _ => Ok(name),
    }
}

impl Conf {
    /// With a bridge for each VLAN the port is a plain one on a plain bridge, whose uplink
    /// is a device of its own and therefore made and enslaved by need.
    fn split(&mut self, fields: &Fields<'_>) -> Result<(), CniError> {
        if !self.trunk.is_empty() {
            return Err(fields.invalid(
                "vlanTrunk",
                "a bridge has one VLAN only with \"layout\": \"per-vlan\"; use \"vlan-aware\"",
            ));
        }
        let Some(vlan) = self.vlan.take() else {
            return Err(fields.invalid("layout", "give the VLAN in key \"vlan\" too"));
        };
        self.uplink = self.uplink.take().map(|uplink| Uplink {
            name: vlan_link_name(&uplink.name, vlan),
            mode: UplinkMode::Ensure,
            lower: Some(Lower {
                name: uplink.name,
                vlan,
            }),
        });
        Ok(())
    }

    /// The VLANs the port is in by wish, none on a plain untagged bridge.
    pub fn vlans(&self) -> Vec<VlanRange> {
        let tagged = self.trunk.iter().flat_map(|range| range.ids());
        VlanRange::of(self.vlan.into_iter().chain(tagged))
    }

    /// What of the container's frames is dropped.
    pub fn frame_filter(&self) -> frames::Filter {
        frames::Filter {
            trunk: !self.trunk.is_empty(),
            bpdus: self.bpdu_filter != Some(false),
        }
    }

    /// Whether the bridge has to keep VLANs apart.
    pub fn filters(&self) -> bool {
        self.vlan.is_some() || !self.trunk.is_empty()
    }

    /// Whether it takes 802.1Q devices: of the uplink, or for the gateway.
    pub fn needs_dot1q(&self) -> bool {
        let uplink = self.uplink.as_ref();
        let of_uplink = uplink.is_some_and(|uplink| uplink.lower.is_some());
        of_uplink || (self.gateway.is_some() && self.vlan.is_some())
    }

    /// Validates the call's configuration, and the MAC address it was given, from
    /// wherever that came.
    pub fn of(call: &Call, given_mac: Option<Argument>) -> Result<Self, CniError> {
        let fields = Fields::of(&call.config.raw);
        let layout = layout(&fields)?;
        let mut conf = Self {
            bridge: bridge_name(&fields)?,
            uplink: uplink(&fields)?,
            vlan: vlans::native(&fields)?,
            trunk: vlans::trunk(&fields)?,
            keep_default_vlan: fields.flag("preserveDefaultVlan")?.unwrap_or(false),
            mtu: units::mtu(&fields, "the uplink's MTU")?,
            mac: given_mac.as_ref().map(units::mac).transpose()?,
            rps: Rps::of(&fields)?,
            flags: flags(&fields)?,
            gateway: gateway(&fields)?,
            masquerade: masquerade(&fields)?,
            bpdu_filter: fields.flag("bpduFilter")?,
            dad: match fields.flag("enabledad")? {
                Some(true) => Dad::On,
                _ => Dad::Off,
            },
            leave_down: leave_down(&fields, call)?,
            keep_ipv6: fields
                .choice("ipv6", &[("auto", false), ("keep", true)])?
                .unwrap_or(false),
            conflict: Policy::of(&fields)?,
            announce: fields.flag("announce")?.unwrap_or(true),
            dns: call.config.dns()?,
        };
        if layout == Layout::PerVlan {
            conf.split(&fields)?;
        }
        if conf.gateway.is_some() && conf.vlan.is_none() && conf.filters() {
            return Err(fields.invalid(
                "vlanTrunk",
                "a gateway needs the untagged VLAN it is in: give key \"vlan\" too",
            ));
        }
        if conf
            .uplink
            .as_ref()
            .is_some_and(|uplink| uplink.name == conf.bridge)
        {
            return Err(fields.invalid(
                "uplink",
                "this is the bridge itself: name the link that leads out",
            ));
        }
        Ok(conf)
    }
}

/// How VLANs are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// By one bridge that filters.
    VlanAware,
    /// By a bridge for each, on an 802.1Q device of the uplink.
    PerVlan,
}

fn layout(fields: &Fields<'_>) -> Result<Layout, CniError> {
    let words = [
        ("vlan-aware", Layout::VlanAware),
        ("per-vlan", Layout::PerVlan),
    ];
    let layout = fields.choice("layout", &words)?;
    Ok(layout.unwrap_or(Layout::VlanAware))
}

fn uplink(fields: &Fields<'_>) -> Result<Option<Uplink>, CniError> {
    let words = [
        ("verify", UplinkMode::Verify),
        ("ensure", UplinkMode::Ensure),
    ];
    let mode = fields.choice("uplinkMode", &words)?;
    match (fields.parsed("uplink")?, mode) {
        (Some(name), mode) => Ok(Some(Uplink {
            name,
            mode: mode.unwrap_or(UplinkMode::Verify),
            lower: None,
        })),
        (None, None | Some(UplinkMode::Verify)) => Ok(None),
        (None, Some(UplinkMode::Ensure)) => {
            Err(fields.invalid("uplinkMode", "name the link in key \"uplink\" too"))
        }
    }
}

/// What is down can have no addresses: refused together, as by the reference plugin.
fn leave_down(fields: &Fields<'_>, call: &Call) -> Result<bool, CniError> {
    let wished = fields.flag("disableContainerInterface")?.unwrap_or(false);
    if wished && ipam::is_wished(call)? {
        return Err(fields.invalid(
            "disableContainerInterface",
            "an interface that is left down can have no addresses: leave out key \"ipam\"",
        ));
    }
    Ok(wished)
}

/// A default gateway is a gateway, as in the reference plugin.
fn gateway(fields: &Fields<'_>) -> Result<Option<Gateway>, CniError> {
    let is_default = fields.flag("isDefaultGateway")?.unwrap_or(false);
    let wished = fields.flag("isGateway")?.unwrap_or(false) || is_default;
    let force = fields.flag("forceAddress")?.unwrap_or(false);
    Ok(wished.then_some(Gateway { is_default, force }))
}

/// There is one backend; that of the reference's that needs a process is refused.
fn masquerade(fields: &Fields<'_>) -> Result<bool, CniError> {
    let backends = [("", true), ("nftables", true), ("iptables", false)];
    if fields.choice("ipMasqBackend", &backends)? == Some(false) {
        return Err(CniError::unsupported(
            "ipMasqBackend",
            &json!("iptables"),
            "use \"nftables\", or leave the key out",
        ));
    }
    Ok(fields.flag("ipMasq")?.unwrap_or(false))
}

/// Hairpin and promiscuous mode exclude each other, as in the reference plugin.
fn flags(fields: &Fields<'_>) -> Result<PortFlags, CniError> {
    let flags = PortFlags {
        hairpin: fields.flag("hairpinMode")?.unwrap_or(false),
        isolated: fields.flag("portIsolation")?.unwrap_or(false),
        locked: fields.flag("macspoofchk")?.unwrap_or(true),
        promisc: fields.flag("promiscMode")?.unwrap_or(false),
        unfiltered: fields
            .choice("bridgeNetfilter", &[("keep", false), ("off", true)])?
            .unwrap_or(false),
    };
    if flags.hairpin && flags.promisc {
        return Err(fields.invalid(
            "hairpinMode",
            "hairpin mode and promiscuous mode exclude each other: leave either out",
        ));
    }
    Ok(flags)
}

mod vlans;

#[cfg(test)]
mod tests;
