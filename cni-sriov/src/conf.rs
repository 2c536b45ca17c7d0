//! The configuration: what an operator may write, validated into units.

mod device;
mod side;
mod work;

use berth_cni::error::CniError;
use berth_cni::fields::Fields;
use berth_cni::keys::{Inactive, KeySpec};
use berth_cni::request::{Argument, Call};
use berth_cni::result::Dns;
use berth_cni::units;
use berth_kernel::MacAddr;

pub use device::{Device, Master, Policy};
pub use side::SideWish;
pub use work::{Channels, Work};

/// What the operator wishes for one attachment, checked and in units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conf {
    /// Which VF, or which ones to choose from.
    pub device: Device,
    /// Not from a PF of which the container has a VF already.
    pub distinct_pf: bool,
    /// What the PF is told about the VF.
    pub side: SideWish,
    /// The VF's MAC address; none: the one it has.
    pub mac: Option<MacAddr>,
    /// Its MTU in bytes; none: the one it has.
    pub mtu: Option<u32>,
    /// Promiscuous mode; none: as it is.
    pub promisc: Option<bool>,
    /// Reception of every multicast; none: as it is.
    pub allmulti: Option<bool>,
    /// Which CPUs take its interrupts and its packets.
    pub work: Work,
    /// Whether neighbours are told of the container's addresses.
    pub announce: bool,
    /// Name service settings that replace those of IPAM.
    pub dns: Option<Dns>,
}

/// Every key of the plugin. What is not built yet may be given only with the value
/// that changes nothing.
pub const KEYS: &[KeySpec] = &[
    KeySpec::built("deviceID"),
    KeySpec::built("master"),
    KeySpec::built("vf"),
    KeySpec::built("policy"),
    KeySpec::built("distinctPf"),
    KeySpec::built("vlan"),
    KeySpec::built("vlanQoS"),
    KeySpec::built("vlanProto"),
    KeySpec::built("mac"),
    KeySpec::built("spoofchk"),
    KeySpec::built("trust"),
    KeySpec::built("link_state"),
    KeySpec::built("min_tx_rate"),
    KeySpec::built("max_tx_rate"),
    KeySpec::built("mtu"),
    KeySpec::built("promisc"),
    KeySpec::built("allmulti"),
    KeySpec::built("channels"),
    KeySpec::built("irq"),
    KeySpec::built("rps"),
    KeySpec::built("xps"),
    KeySpec::built("announce"),
    KeySpec::unbuilt("pfOnly", &[Inactive::Bool(false)]),
    KeySpec::unbuilt("addressConflict", &[Inactive::Str("off")]),
];

impl Conf {
    /// Validates the call's configuration, and the device and MAC address it was given,
    /// from wherever those came.
    pub fn of(call: &Call, given: Given) -> Result<Self, CniError> {
        let fields = Fields::of(&call.config.raw);
        Ok(Self {
            device: device::device(&fields, given.device)?,
            distinct_pf: fields.flag("distinctPf")?.unwrap_or(false),
            side: side::side(&fields)?,
            mac: given.mac.as_ref().map(units::mac).transpose()?,
            mtu: units::mtu(&fields, "the MTU the VF has")?,
            promisc: fields.flag("promisc")?,
            allmulti: fields.flag("allmulti")?,
            work: work::work(&fields)?,
            announce: fields.flag("announce")?.unwrap_or(true),
            dns: call.config.dns()?,
        })
    }
}

/// What a runtime may give for one attachment only.
#[derive(Debug, Default)]
pub struct Given {
    /// The VF's PCI address, `deviceID`.
    pub device: Option<Argument>,
    /// The MAC address.
    pub mac: Option<Argument>,
}

#[cfg(test)]
mod tests;
