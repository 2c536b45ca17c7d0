//! What differs from the wish, what of it may be changed, and what would be done:
//! pure decisions on what was seen.

use std::fmt;

use berth_kernel::{IfName, MacAddr, PciAddr};
use berth_state::vf::free::{Reason, Verdict};

use crate::cli::Macs;
use crate::vf::way_out;

/// What is wished of one PF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    /// How many VFs it should have.
    pub(super) count: u32,
    /// Its MTU in bytes; none: left as it is.
    pub(super) mtu: Option<u32>,
    /// The MAC addresses of its VFs.
    pub(super) macs: Macs,
}

/// A PF as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pf {
    /// Its PCI address.
    pub(super) address: PciAddr,
    /// Its network device.
    pub(super) name: IfName,
    /// Whether that is set up.
    pub(super) up: bool,
    /// Its MTU in bytes.
    pub(super) mtu: u32,
    /// The address it was made with, which no setting changes.
    pub(super) permanent_mac: Option<MacAddr>,
    /// How many VFs it can have.
    pub(super) total_vfs: u32,
    /// Whether drivers are bound to its VFs by themselves.
    pub(super) autoprobe: bool,
    /// Its VFs, by index.
    pub(super) vfs: Vec<Vf>,
}

/// A VF as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vf {
    /// Its index at the PF.
    pub(super) index: u32,
    /// Its PCI address.
    pub(super) address: PciAddr,
    /// The bound driver's name.
    pub(super) driver: Option<String>,
    /// Whether it may be handed out, and if not, why.
    pub(super) verdict: Verdict,
    /// Its MAC at the PF, if the PF's driver reports it; all zero: none was given.
    pub(super) admin_mac: Option<MacAddr>,
    /// The MAC of its network device, if that is in the host's namespace.
    pub(super) netdev_mac: Option<MacAddr>,
}

impl Vf {
    /// Who or what uses it; empty: it may be changed and removed.
    pub(super) fn users(&self) -> Vec<&Reason> {
        match &self.verdict {
            Verdict::Free(_) => Vec::new(),
            Verdict::Busy(reasons) => reasons.iter().filter(|reason| reason.is_use()).collect(),
        }
    }
}

impl fmt::Display for Pf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.address)
    }
}

/// One difference between a PF and the wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Difference {
    /// It is set down.
    Down,
    /// Its MTU.
    Mtu {
        /// As it is, in bytes.
        is: u32,
        /// As it should be.
        wish: u32,
    },
    /// The number of its VFs.
    Count {
        /// As it is.
        is: u32,
        /// As it should be.
        wish: u32,
    },
    /// A VF's MAC at the PF.
    AdminMac {
        /// The VF.
        vf: (u32, PciAddr),
        /// As it is; none: not reported.
        is: Option<MacAddr>,
        /// As it should be.
        wish: MacAddr,
    },
    /// A VF has no driver.
    NoDriver {
        /// The VF.
        vf: (u32, PciAddr),
    },
    /// A VF's network device has another MAC than the PF gives it: many drivers ask
    /// for it only when they are bound.
    NetdevMac {
        /// The VF.
        vf: (u32, PciAddr),
        /// As it is.
        is: MacAddr,
        /// As it should be.
        wish: MacAddr,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down => f.write_str("it is down"),
            Self::Mtu { is, wish } => write!(f, "its MTU is {is}, not {wish}"),
            Self::Count { is, wish } => write!(f, "it has {}, not {wish}", vfs(*is)),
            Self::AdminMac { vf, is, wish } => {
                let is = is.map_or_else(|| "not reported".to_owned(), |mac| mac.to_string());
                write!(
                    f,
                    "VF {} ({}): its MAC at the PF is {is}, not {wish}",
                    vf.0, vf.1
                )
            }
            Self::NoDriver { vf } => write!(f, "VF {} ({}): no driver is bound to it", vf.0, vf.1),
            Self::NetdevMac { vf, is, wish } => write!(
                f,
                "VF {} ({}): its network device has MAC {is}, not {wish}",
                vf.0, vf.1
            ),
        }
    }
}

/// `1 VF`, `7 VFs`.
pub(super) fn vfs(count: u32) -> String {
    match count {
        1 => "1 VF".to_owned(),
        count => format!("{count} VFs"),
    }
}

/// When a difference is dealt with: VFs vanish when their number changes, and a driver
/// that is bound asks for the MAC that is there then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// The PF itself.
    Pf,
    /// VFs at the PF.
    Macs,
    /// Drivers of VFs.
    Drivers,
}

impl Difference {
    /// When it is dealt with.
    pub(super) fn stage(&self) -> Stage {
        match self {
            Self::Down | Self::Mtu { .. } | Self::Count { .. } => Stage::Pf,
            Self::AdminMac { .. } => Stage::Macs,
            Self::NoDriver { .. } | Self::NetdevMac { .. } => Stage::Drivers,
        }
    }

    /// Whether VFs lose their link or themselves by it.
    fn disturbs_vfs(&self) -> bool {
        matches!(self, Self::Mtu { .. } | Self::Count { .. })
    }
}

/// Everything that differs, in the order it is dealt with. A VF somebody uses is not
/// looked at: it may have been given other settings.
pub(super) fn differences(pf: &Pf, wish: &Wish) -> Vec<Difference> {
    let mut all = Vec::new();
    if wish.count > 0 && !pf.up {
        all.push(Difference::Down);
    }
    if let Some(wish) = wish.mtu.filter(|mtu| *mtu != pf.mtu) {
        all.push(Difference::Mtu { is: pf.mtu, wish });
    }
    let is = u32::try_from(pf.vfs.len()).unwrap_or(u32::MAX);
    if is != wish.count {
        // What is wrong with VFs that have to go is of no interest.
        let wish = wish.count;
        all.push(Difference::Count { is, wish });
        return all;
    }
    let idle = pf.vfs.iter().filter(|vf| vf.users().is_empty());
    for vf in idle {
        all.extend(of_vf(pf, vf, wish.macs));
    }
    all.sort_by_key(Difference::stage);
    all
}

fn of_vf(pf: &Pf, vf: &Vf, macs: Macs) -> Vec<Difference> {
    let place = (vf.index, vf.address);
    let mut all = Vec::new();
    let wish = wished_mac(pf, vf.index, macs);
    if let Some(wish) = wish.filter(|wish| vf.admin_mac != Some(*wish)) {
        let is = vf.admin_mac;
        all.push(Difference::AdminMac {
            vf: place,
            is,
            wish,
        });
    }
    // Where drivers are not bound by themselves, they are somebody else's business,
    // and one that is taken off cannot be bound again.
    if !pf.autoprobe {
        return all;
    }
    if vf.driver.is_none() {
        all.push(Difference::NoDriver { vf: place });
    }
    let differs = vf.netdev_mac.zip(wish).filter(|(is, wish)| is != wish);
    all.extend(differs.map(|(is, wish)| Difference::NetdevMac {
        vf: place,
        is,
        wish,
    }));
    all
}

/// The MAC a VF should have; none: the driver's business.
pub(super) fn wished_mac(pf: &Pf, index: u32, macs: Macs) -> Option<MacAddr> {
    match macs {
        Macs::Keep => None,
        Macs::Stable => pf.permanent_mac.map(|mac| stable_mac(mac, index)),
    }
}

/// The stable MAC of the VF with this index: the same after each boot and on no other
/// port, as the PF's permanent address is on none.
fn stable_mac(permanent: MacAddr, index: u32) -> MacAddr {
    berth_state::mac::derived(&format!("{permanent} vf {index}"))
}

/// Why the wish must not be carried out, each reason with its way out; empty: it may.
pub(super) fn objections(pf: &Pf, wish: &Wish) -> Vec<String> {
    let mut all = impossible(pf, wish);
    let disturbs = |what: &Difference| what.disturbs_vfs();
    if let Some(what) = differences(pf, wish).into_iter().find(disturbs) {
        all.extend(pf.vfs.iter().filter_map(|vf| in_the_way(pf, vf, &what)));
    }
    all
}

/// What this hardware cannot do.
pub(super) fn impossible(pf: &Pf, wish: &Wish) -> Vec<String> {
    let mut all = Vec::new();
    let (count, total) = (wish.count, pf.total_vfs);
    if count > total {
        all.push(match total {
            0 => format!("{pf}: its firmware offers no VF; switch SR-IOV on in its setup"),
            _ => format!("{pf}: it can have {total} VFs at most, not {count}"),
        });
    }
    if count > 0 && wish.macs == Macs::Stable && pf.permanent_mac.is_none() {
        all.push(format!(
            "{pf}: it has no permanent MAC that stable ones could be made of; use --macs keep"
        ));
    }
    all
}

fn in_the_way(pf: &Pf, vf: &Vf, what: &Difference) -> Option<String> {
    let users = vf.users();
    let first = users.first()?;
    let why: Vec<String> = users.iter().map(ToString::to_string).collect();
    Some(format!(
        "{pf}: {what}, and VF {} ({}) is in use: {}; {}",
        vf.index,
        vf.address,
        why.join(", "),
        way_out(first, vf.address)
    ))
}

/// What would be done, a line each.
pub(super) fn foretold(pf: &Pf, wish: &Wish) -> Vec<String> {
    let found = differences(pf, wish);
    let remade = found
        .iter()
        .any(|one| matches!(one, Difference::Count { .. }));
    let mut lines: Vec<String> = found.iter().map(change).collect();
    if remade {
        lines.extend((0..wish.count).filter_map(|index| {
            let mac = wished_mac(pf, index, wish.macs)?;
            Some(format!("VF {index}: MAC {mac}"))
        }));
    }
    lines
}

/// What is done about a difference, as it is told.
pub(super) fn change(what: &Difference) -> String {
    match what {
        Difference::Down => "set up".to_owned(),
        Difference::Mtu { is, wish } => format!("MTU {wish} (was {is})"),
        Difference::Count { is, wish } => format!("make {} (had {is})", vfs(*wish)),
        Difference::AdminMac { vf, wish, .. } => format!("VF {} ({}): MAC {wish}", vf.0, vf.1),
        Difference::NoDriver { vf } => format!("VF {} ({}): bind its driver", vf.0, vf.1),
        Difference::NetdevMac { vf, wish, .. } => format!(
            "VF {} ({}): bind its driver anew, so that it takes MAC {wish}",
            vf.0, vf.1
        ),
    }
}

/// What is left alone and should be known.
pub(super) fn remarks(pf: &Pf, wish: &Wish) -> Vec<String> {
    let mut all = Vec::new();
    if wish.count > 0 && !pf.autoprobe {
        all.push(format!(
            "{pf}: sriov_drivers_autoprobe is 0, so drivers of its VFs are left alone; echo 1 > \
             /sys/bus/pci/devices/{}/sriov_drivers_autoprobe if they should be bound",
            pf.address
        ));
    }
    all
}

#[cfg(test)]
mod tests;
