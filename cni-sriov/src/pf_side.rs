//! The PF's side of the VF: read once, told what differs, and the kernel's refusal in
//! words an operator can act on.

use berth_cni::error::{CniError, code};
use berth_cni::steps::Steps;
use berth_kernel::netlink::{Link, Vf, VfChange};
use berth_kernel::pci::{PhysicalFunction, VirtualFunction};
use berth_kernel::{IfName, Kind, MacAddr};
use berth_state::lock::LockName;
use berth_state::undo::Undo;
use berth_state::vf::{PfSide, SriovHost};

use crate::add::Work;
use crate::node::Node;

/// The PF's interface, by which it is told about its VFs.
pub fn interface(pf: &PhysicalFunction) -> Result<IfName, CniError> {
    pf.netdevs.first().cloned().ok_or_else(|| {
        let msg = format!(
            "PF {} has no interface in the host's namespace, so its VFs cannot be set up",
            pf.address
        );
        CniError::new(code::VF_UNUSABLE, msg)
            .details("bind the PF's network driver, or bring its interface back to the host")
    })
}

/// What the PF says of the VF. A MAC address that another VF of the PF has is refused
/// by the way: this is the only list of VFs that is read.
pub fn read(
    node: &Node,
    pf: &PhysicalFunction,
    vf: &VirtualFunction,
    mac: Option<MacAddr>,
) -> Result<PfSide, CniError> {
    let link = node.net.link(&interface(pf)?)?;
    let all = node.net.vfs(link.index)?;
    let twin = |other: &&Vf| mac.is_some() && other.mac == mac && other.index != vf.index;
    if let (Some(mac), Some(twin)) = (mac, all.iter().find(twin)) {
        let msg = format!(
            "MAC address {mac} belongs to VF {} of PF {} already",
            twin.index, link.name
        );
        return Err(CniError::new(code::CONFIG, msg)
            .details("give another MAC address, or remove the attachment that has it"));
    }
    let own = all.iter().find(|other| other.index == vf.index);
    own.map(PfSide::of).ok_or_else(|| {
        let msg = format!("driver of PF {} does not list VF {}", link.name, vf.index);
        CniError::new(code::VF_UNUSABLE, msg).details("take a VF of another PF")
    })
}

/// Tells the PF what differs from the wish, one message for each key, under its lock.
pub fn tell(node: &Node, work: &Work, undo: &mut Undo) -> Result<(), CniError> {
    let (target, now) = (&work.host.set.side, &work.host.baseline.side);
    must_be_reported(work, target)?;
    let changes = target.changes_from(now);
    if !changes.is_empty() {
        let _lock = node.lock(&LockName::Pf(work.host.pf))?;
        let pf = node.net.link(&interface(&work.taken.pf)?)?;
        for change in changes {
            undo.covered(format!("{change}"), || {
                let told = node.net.set_vf(pf.index, work.host.index, change);
                told.map_err(|error| refused(work, &pf, change, error))
            })?;
        }
    }
    Ok(())
}

/// What the driver does not report could not be put back, nor checked.
fn must_be_reported(work: &Work, target: &PfSide) -> Result<(), CniError> {
    let now = &work.host.baseline.side;
    let wished = [
        (
            "spoofchk",
            target.spoofchk.is_some(),
            now.spoofchk.is_some(),
        ),
        ("trust", target.trust.is_some(), now.trust.is_some()),
    ];
    let Some((key, ..)) = wished.iter().find(|(_, wished, told)| *wished && !told) else {
        return Ok(());
    };
    let (pf, driver) = (&work.host.pf_name, work.taken.pf.driver.as_deref());
    let msg = format!(
        "{key:?} at PF {pf} (driver {}): the driver does not report it, so it could not be put back",
        driver.unwrap_or("none")
    );
    Err(CniError::new(code::VF_UNUSABLE, msg).details(format!(
        "leave {key:?} out, or take a VF of a NIC whose driver reports it"
    )))
}

/// A refusal names PF, VF, driver and attribute: drivers differ in what they can.
fn refused(work: &Work, pf: &Link, change: VfChange, error: berth_kernel::Error) -> CniError {
    let driver = work.taken.pf.driver.as_deref().unwrap_or("none");
    let key = key_of(change);
    let cannot = matches!(error.kind(), Kind::Unsupported | Kind::Refused);
    let next = match change {
        VfChange::TxRate { min: 0, max } if max > 0 && cannot => format!(
            "driver {driver} refuses this rate: PF {} must be up, and its link faster than {max} Mbit/s",
            pf.name
        ),
        _ if cannot => format!(
            "driver {driver} of PF {} cannot do this: leave {key} out, or take a VF of a NIC that can",
            pf.name
        ),
        _ => "mend what the reason names and add again".to_owned(),
    };
    let told = CniError::from(error);
    CniError {
        details: String::new(),
        ..told
    }
    .context(format!("{key} at PF {} (driver {driver})", pf.name))
    .details(next)
}

/// The configuration's key for a change.
fn key_of(change: VfChange) -> &'static str {
    match change {
        VfChange::Mac(_) => "\"mac\"",
        VfChange::Vlan(_) => "\"vlan\", \"vlanQoS\" or \"vlanProto\"",
        VfChange::TxRate { min: 0, .. } => "\"max_tx_rate\"",
        VfChange::TxRate { .. } => "\"min_tx_rate\"",
        VfChange::SpoofCheck(_) => "\"spoofchk\"",
        VfChange::Trust(_) => "\"trust\"",
        VfChange::LinkState(_) => "\"link_state\"",
        VfChange::QueryRss(_) => "RSS query",
    }
}

/// The error for a VF that came up with another MAC address than it was given.
pub fn lost_mac(host: &SriovHost, wish: MacAddr, is: Option<MacAddr>) -> CniError {
    let is = is.map_or_else(|| "none".to_owned(), |mac| mac.to_string());
    let msg = format!("MAC address is {is} when up, was set to {wish}");
    CniError::new(code::VF_UNUSABLE, msg).details(format!(
        "driver {} changed it: leave \"mac\" out, or look into the kernel's log",
        host.driver
    ))
}
