//! Every VF of the node: where it is and whose. Reads only.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Error, Result, anyhow};
use berth_kernel::netlink::{Link, Net};
use berth_kernel::pci::{self, PhysicalFunction, VirtualFunction};
use berth_kernel::{IfName, NetNs, PciAddr, Root};
use berth_state::Key;
use berth_state::vf::free::{Facts, Reader, Reason, Verdict};
use serde::{Deserialize, Serialize};

/// A VF as it was found.
#[derive(Debug)]
pub(super) struct Seen {
    /// Its PF.
    pub(super) pf: PhysicalFunction,
    /// Itself.
    pub(super) vf: VirtualFunction,
    /// What decides whether it is free.
    pub(super) facts: Facts,
    /// Where its network device is.
    pub(super) place: Place,
}

/// Where a VF's network device is.
#[derive(Debug)]
pub(super) enum Place {
    /// In the host's namespace.
    Host(Box<Link>),
    /// In this other namespace.
    Container(Rc<NetNs>, Box<Link>),
    /// In no namespace that can be reached; a VF without a driver has none.
    Nowhere,
}

impl Place {
    /// The network device.
    pub(super) fn link(&self) -> Option<&Link> {
        match self {
            Self::Host(link) | Self::Container(_, link) => Some(link),
            Self::Nowhere => None,
        }
    }
}

/// Every VF of the node's network cards, by PF and index.
///
/// # Errors
/// What the kernel refused; `node.json` that cannot be read. A namespace that cannot
/// be entered is passed over: its VFs are nowhere.
pub(super) fn all(root: &Root) -> Result<Vec<Seen>> {
    let net = Net::open()?;
    let reader = Reader::new(root, &net)?;
    let mut seen = Vec::new();
    for pf in pci::physical_functions(root)? {
        if !pf.is_network {
            continue;
        }
        for vf in pf.vfs.clone() {
            seen.push(look(&reader, &net, pf.clone(), vf)?);
        }
    }
    find(root, &mut seen)?;
    Ok(seen)
}

/// A VF in one word and why it is not free, as [`Entry`] has it; other namespaces are
/// not looked into, so that it is cheap enough to be asked over and over.
///
/// # Errors
/// What the kernel refused.
pub(crate) fn standing(reader: &Reader<'_>, vf: &VirtualFunction) -> Result<Standing> {
    Ok(Standing::of(&reader.facts(vf)?))
}

/// The VF at `address`; `None` if there is none.
///
/// # Errors
/// As [`all`].
pub(super) fn one(root: &Root, address: PciAddr) -> Result<Option<Seen>> {
    let Some((pf, vf)) = pci::virtual_function(root, address)? else {
        return Ok(None);
    };
    let net = Net::open()?;
    let mut seen = [look(&Reader::new(root, &net)?, &net, pf, vf)?];
    find(root, &mut seen)?;
    let [seen] = seen;
    Ok(Some(seen))
}

/// That there is no such VF.
pub(super) fn absent(address: PciAddr) -> Error {
    anyhow!("there is no VF {address}; berth vf list shows those there are")
}

fn look(reader: &Reader<'_>, net: &Net, pf: PhysicalFunction, vf: VirtualFunction) -> Result<Seen> {
    let facts = reader.facts(&vf)?;
    let here = match facts.netdevs.first() {
        Some(name) => net.find_link(name)?,
        None => None,
    };
    let place = here.map_or(Place::Nowhere, |link| Place::Host(Box::new(link)));
    Ok(Seen {
        pf,
        vf,
        facts,
        place,
    })
}

/// Looks into the other namespaces for the VFs that are not here: each is walked
/// through once, however many VFs are missing.
fn find(root: &Root, seen: &mut [Seen]) -> Result<()> {
    let mut missing: BTreeMap<PciAddr, &mut Place> = seen
        .iter_mut()
        .filter(|seen| matches!(seen.place, Place::Nowhere) && seen.vf.driver.is_some())
        .map(|seen| (seen.vf.address, &mut seen.place))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let here = NetNs::current()?;
    for netns in NetNs::all(root)? {
        // One that came home since it was looked for here was on its way: nowhere.
        if netns.is_same(&here)? {
            continue;
        }
        let netns = Rc::new(netns);
        let Ok(links) = Net::open_in(&netns).and_then(|net| net.links()) else {
            continue;
        };
        for link in links {
            let found = link.pci().and_then(|address| missing.remove(&address));
            if let Some(place) = found {
                *place = Place::Container(netns.clone(), Box::new(link));
            }
        }
    }
    Ok(())
}

/// A VF in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// It may be handed out.
    Free,
    /// It belongs to an attachment.
    Claimed,
    /// It could not be brought back to what it was.
    Quarantined,
    /// `node.json` keeps it from attachments.
    Reserved,
    /// The host or another program uses it.
    InUse,
    /// It has no driver, or is of a kind that cannot be handed out.
    Unusable,
}

/// What a VF's first reason makes of it.
fn state_of(reason: &Reason) -> State {
    match reason {
        Reason::Claimed(_) | Reason::UnreadableClaim(_) => State::Claimed,
        Reason::Quarantined(_) => State::Quarantined,
        Reason::Reserved => State::Reserved,
        Reason::NoDriver | Reason::Several(_) => State::Unusable,
        Reason::ReferenceOwner(_)
        | Reason::Userspace(_)
        | Reason::NotHere
        | Reason::Master(_)
        | Reason::Uppers(_)
        | Reason::Addresses(_) => State::InUse,
    }
}

/// A VF's state with all that is told about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// In one word.
    pub(crate) state: State,
    /// Why it is not free; empty if it is.
    pub(crate) reasons: Vec<String>,
    /// The attachment its claim names.
    pub(crate) owner: Option<Key>,
}

impl Standing {
    /// What the facts make of it.
    pub(crate) fn of(facts: &Facts) -> Self {
        let reasons = match facts.verdict() {
            Verdict::Free(_) => Vec::new(),
            Verdict::Busy(reasons) => reasons,
        };
        let owner = match &facts.claim {
            Some(Ok(claim)) => claim.owner().cloned(),
            _ => None,
        };
        Self {
            state: reasons.first().map_or(State::Free, state_of),
            reasons: reasons.iter().map(ToString::to_string).collect(),
            owner,
        }
    }
}

/// A VF in the list; its form is that of the JSON answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Entry {
    /// PCI address.
    pub(super) address: PciAddr,
    /// PCI address of its PF.
    pub(super) pf: PciAddr,
    /// The PF's network device, if it is in the host's namespace.
    pub(super) pf_name: Option<IfName>,
    /// Its index at the PF.
    pub(super) index: u32,
    /// Its NUMA node, if the firmware names one.
    pub(super) numa_node: Option<u32>,
    /// The bound driver's name.
    pub(super) driver: Option<String>,
    /// Its network device, if it is anywhere.
    pub(super) netdev: Option<IfName>,
    /// Path of the namespace that is in, if not the host's.
    pub(super) netns: Option<PathBuf>,
    /// The attachment it belongs to, by its claim or the mark on its network device.
    pub(super) owner: Option<Key>,
    /// In one word.
    pub(super) state: State,
    /// Why it is not free; empty if it is.
    pub(super) reasons: Vec<String>,
}

impl Entry {
    /// What is told of a VF.
    pub(super) fn of(seen: &Seen) -> Self {
        let Standing {
            state,
            reasons,
            owner,
        } = Standing::of(&seen.facts);
        let link = seen.place.link();
        let marked = || link.and_then(|link| Key::from_alias(link.alias.as_deref()?));
        Self {
            address: seen.vf.address,
            pf: seen.pf.address,
            pf_name: seen.pf.netdevs.first().cloned(),
            index: seen.vf.index,
            numa_node: seen.vf.numa_node,
            driver: seen.vf.driver.clone(),
            netdev: link.map(|link| link.name.clone()),
            netns: match &seen.place {
                Place::Container(netns, _) => Some(netns.path().to_owned()),
                Place::Host(_) | Place::Nowhere => None,
            },
            owner: owner.or_else(marked),
            state,
            reasons,
        }
    }

    /// Where its network device is, in words.
    pub(super) fn whereabouts(&self) -> String {
        match (&self.netdev, &self.netns, &self.owner) {
            (None, ..) => "nowhere".to_owned(),
            (Some(name), None, _) => name.to_string(),
            (Some(name), Some(_), Some(owner)) => format!("{name} in {}", owner.container_id()),
            (Some(name), Some(netns), None) => format!("{name} in {}", netns.display()),
        }
    }

    /// The state with its reason, in words.
    pub(super) fn standing(&self) -> String {
        let why = self.reasons.join(", ");
        match self.state {
            State::Free => "free".to_owned(),
            State::Claimed | State::Quarantined | State::Reserved => why,
            State::InUse => format!("in use: {why}"),
            State::Unusable => format!("unusable: {why}"),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VF {}, VF {} of ", self.address, self.index)?;
        match &self.pf_name {
            Some(name) => write!(f, "{name} ({})", self.pf),
            None => self.pf.fmt(f),
        }
    }
}
