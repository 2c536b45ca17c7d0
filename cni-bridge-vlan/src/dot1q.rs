//! 802.1Q devices of ours, for a gateway or an uplink of one VLAN: whose a name is, how
//! it is marked, and what a kernel without them says.

use berth_cni::error::{CniError, code};
use berth_kernel::netlink::Link;
use berth_kernel::{IfName, Kind, VlanId};
use berth_state::key::ALIAS_TAG;

/// The mark of a device made for a `gateway` or an `uplink`.
pub fn alias(purpose: &str, lower: &IfName, vlan: VlanId) -> String {
    format!("{ALIAS_TAG} {purpose} {lower} {vlan}")
}

/// Refuses a link that has the name of a device for `vlan` on `lower` and is none.
pub fn must_be_of(link: &Link, lower: &Link, vlan: VlanId) -> Result<(), CniError> {
    let on_lower = link.peer == Some(lower.index) && link.peer_netns.is_none();
    if on_lower && link.vlan == Some(vlan.get()) {
        return Ok(());
    }
    let msg = format!(
        "VLAN {vlan} of {} needs the name {}, but that is another link's",
        lower.name, link.name
    );
    Err(CniError::new(code::CONFIG, msg)
        .details(format!("rename or remove {} and add again", link.name)))
}

/// Whether an ADD made this device: it has the mark, or had no time to get one.
pub fn is_made(device: &Link, vlan: VlanId, alias: &str) -> bool {
    let marked = device.alias.as_deref();
    device.vlan == Some(vlan.get()) && marked.is_none_or(|mark| mark == alias)
}

/// A kernel without 802.1Q devices says only EOPNOTSUPP; `instead` is what to leave out.
pub fn no_8021q(error: berth_kernel::Error, instead: &str) -> CniError {
    match error.kind() {
        Kind::Unsupported => CniError::new(code::KERNEL, error.to_string()).details(format!(
            "802.1Q devices need a kernel with CONFIG_VLAN_8021Q: boot one that has it, or \
             leave out {instead}"
        )),
        Kind::Exists => CniError::new(code::CONFIG, error.to_string())
            .details("the link below has a device for this VLAN under another name: remove it"),
        _ => error.into(),
    }
}
