//! Allocation: reads which VFs are free and claims one. The claim is the allocation;
//! of any number of ADDs at once one gets it, and the others go on to the next VF.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use berth_cni::error::{CniError, code};
use berth_cni::steps::Steps;
use berth_kernel::error::AbsentIsFine;
use berth_kernel::pci::{self, PhysicalFunction, VirtualFunction};
use berth_kernel::{PciAddr, Root};
use berth_state::boot::Writer;
use berth_state::lock::{Guard, LockName};
use berth_state::undo::Undo;
use berth_state::vf::free::{Reader, Reason, Verdict};

use crate::choose::{self, Candidate};
use crate::conf::{Conf, Device, Master};
use crate::node::Node;

/// How many VFs an error lists before it only counts the rest.
const LISTED: usize = 16;

/// A claimed VF.
#[derive(Debug)]
pub struct Taken {
    /// Its PF as it was when read.
    pub pf: PhysicalFunction,
    /// The VF as it was when read.
    pub vf: VirtualFunction,
    /// Held as long as the VF is worked on.
    pub lock: Guard,
    /// To be set before the first change: from then on the claim goes with the VF's
    /// way back, and not before it.
    pub touched: Rc<Cell<bool>>,
}

/// One VF that the configuration allows.
struct Found<'a> {
    pf: &'a PhysicalFunction,
    vf: &'a VirtualFunction,
    verdict: Verdict,
}

impl Taken {
    /// The VF as an operator would look for it.
    pub fn name(&self) -> String {
        name(&self.pf, &self.vf)
    }
}

fn name(pf: &PhysicalFunction, vf: &VirtualFunction) -> String {
    format!("{} ({} VF {})", vf.address, pf_name(pf), vf.index)
}

impl Found<'_> {
    fn candidate(&self) -> Candidate {
        Candidate {
            pf: self.pf.address,
            node: self.pf.numa_node,
            vf: self.vf.address,
            index: self.vf.index,
        }
    }
}

/// A PF by its interface, or by its address if it has none here.
pub fn pf_name(pf: &PhysicalFunction) -> String {
    match pf.netdevs.first() {
        Some(name) => name.to_string(),
        None => pf.address.to_string(),
    }
}

/// Claims a VF as the configuration wishes. `near` are the NUMA nodes of the
/// container's CPUs.
pub fn take(
    node: &Node,
    conf: &Conf,
    near: &BTreeSet<u32>,
    undo: &mut Undo,
) -> Result<Taken, CniError> {
    let functions = functions(&node.root, &conf.device)?;
    let mut search = Search {
        functions: &functions,
        own: BTreeSet::new(),
        near,
    };
    let (address, touched) = if conf.distinct_pf {
        // Two interfaces of one container must not both find the same PF unused.
        let _choice = lock_all(node, &functions)?;
        search.own = functions_of_container(node)?;
        claim_one(node, &conf.device, &search, undo)?
    } else {
        claim_one(node, &conf.device, &search, undo)?
    };
    hold(node, address, touched)
}

/// Where a VF is looked for.
struct Search<'a> {
    functions: &'a [PhysicalFunction],
    /// PFs that are out of the question: the container has a VF of each.
    own: BTreeSet<PciAddr>,
    /// NUMA nodes of the container's CPUs.
    near: &'a BTreeSet<u32>,
}

fn claim_one(
    node: &Node,
    device: &Device,
    search: &Search<'_>,
    undo: &mut Undo,
) -> Result<(PciAddr, Rc<Cell<bool>>), CniError> {
    let found = found(node, search.functions, device)?;
    let free = found.iter().filter(|found| {
        matches!(found.verdict, Verdict::Free(_)) && !search.own.contains(&found.pf.address)
    });
    let free: Vec<Candidate> = free.map(Found::candidate).collect();
    for candidate in choose::order(&free, device.policy, search.near) {
        if let Some(touched) = claim(node, candidate.vf, undo)? {
            return Ok((candidate.vf, touched));
        }
    }
    Err(none_free(node, device, &search.own)?)
}

/// The claimed VF under its lock, read again: what it and its PF were before the claim
/// does not count, and until the lock is held nobody is kept from ending the claim.
fn hold(node: &Node, address: PciAddr, touched: Rc<Cell<bool>>) -> Result<Taken, CniError> {
    let lock = node.lock_vf(address)?;
    let lost = |what: String| {
        CniError::try_again(format!("VF {address} {what}"))
            .details("add again: it takes another VF if one is free; `berth vf list` shows them")
    };
    match node.claims.load(address)? {
        Some(claim) if claim.owner() == Some(node.key()) => {}
        Some(claim) => return Err(lost(format!("was claimed and is not now: it is {claim}"))),
        None => return Err(lost("was claimed, and somebody ended that".to_owned())),
    }
    let (pf, vf) = pci::virtual_function(&node.root, address)?
        .ok_or_else(|| lost("went away while it was claimed".to_owned()))?;
    let mut facts = Reader::new(&node.root, &node.net)?.facts(&vf)?;
    facts.claim = None;
    match facts.verdict() {
        Verdict::Free(_) => Ok(Taken {
            pf,
            vf,
            lock,
            touched,
        }),
        Verdict::Busy(reasons) => Err(lost(format!("was free and is not now: {}", said(&reasons)))),
    }
}

/// `None`: another ADD was faster.
fn claim(
    node: &Node,
    address: PciAddr,
    undo: &mut Undo,
) -> Result<Option<Rc<Cell<bool>>>, CniError> {
    let (inverse, mine, touched) = (
        node.clone(),
        Rc::new(Cell::new(true)),
        Rc::new(Cell::new(false)),
    );
    let (still_mine, was_touched) = (mine.clone(), touched.clone());
    let release = move || {
        if !still_mine.get() || was_touched.get() {
            return Ok(());
        }
        match inverse.claims.release(address, inverse.key()) {
            // Somebody ended the claim, and the VF is another's by now.
            Err(error) if error.kind() == berth_state::Kind::NotOwner => Ok(()),
            other => Ok(other?),
        }
    };
    let writer = Writer::current(&node.root)?;
    let claimed = undo.change(format!("claim of VF {address}"), release, || {
        match node.claims.claim(address, node.key(), writer) {
            Err(error) if error.kind() == berth_state::Kind::Taken => {
                mine.set(false);
                Ok(false)
            }
            other => other.map(|()| true),
        }
    })?;
    Ok(claimed.then_some(touched))
}

/// The PFs that the configuration names, by address each once.
pub fn functions(root: &Root, device: &Device) -> Result<Vec<PhysicalFunction>, CniError> {
    let mut functions: Vec<PhysicalFunction> = Vec::new();
    for master in &device.masters {
        let pf = function(root, master)?;
        if functions.iter().all(|other| other.address != pf.address) {
            functions.push(pf);
        }
    }
    let Some(address) = device.address else {
        return Ok(functions);
    };
    let Some((pf, _)) = pci::virtual_function(root, address)? else {
        let msg = format!("PCI device {address}, wished as \"deviceID\", is not a VF of this node");
        return Err(CniError::new(code::VF_UNUSABLE, msg)
            .details("`berth vf list` shows the VFs; `berth bootstrap vfs PF=COUNT` makes some"));
    };
    let allowed = functions.is_empty() || functions.iter().any(|f| f.address == pf.address);
    if allowed {
        return Ok(vec![pf]);
    }
    let msg = format!(
        "VF {address}, wished as \"deviceID\", belongs to PF {}, which key \"master\" does not name",
        pf_name(&pf)
    );
    Err(CniError::new(code::CONFIG, msg)
        .details("add that PF to \"master\", or leave \"master\" out beside \"deviceID\""))
}

fn function(root: &Root, master: &Master) -> Result<PhysicalFunction, CniError> {
    let found = match master {
        Master::Address(address) => pci::physical_function(root, *address)?,
        Master::Name(name) => pci::physical_function_of(root, name)
            .absent_is_fine()?
            .flatten(),
    };
    found.ok_or_else(|| {
        let msg = format!("key \"master\" names {master}, which is no SR-IOV device of this node");
        CniError::new(code::CONFIG, msg)
            .details("`berth vf list` shows the PFs and VFs; give a PF's interface or PCI address")
    })
}

/// The VFs that the configuration allows, with what is known of each.
fn found<'a>(
    node: &Node,
    functions: &'a [PhysicalFunction],
    device: &Device,
) -> Result<Vec<Found<'a>>, CniError> {
    let reader = Reader::new(&node.root, &node.net)?;
    let mut found = Vec::new();
    for pf in functions {
        for vf in &pf.vfs {
            let wished = device.address.is_none_or(|address| address == vf.address)
                && device.index.is_none_or(|index| index == vf.index);
            if wished {
                let verdict = reader.verdict(vf)?;
                found.push(Found { pf, vf, verdict });
            }
        }
    }
    Ok(found)
}

/// The error when nothing could be claimed, from what the VFs look like by now.
fn none_free(node: &Node, device: &Device, own: &BTreeSet<PciAddr>) -> Result<CniError, CniError> {
    let functions = functions(&node.root, device)?;
    let found = found(node, &functions, device)?;
    let names: Vec<String> = functions.iter().map(pf_name).collect();
    let names = names.join(", ");
    if found.is_empty() {
        return Ok(no_vfs(&functions, device));
    }
    let mut lines: Vec<String> = found.iter().map(|found| line(found, own)).collect();
    if lines.len() > LISTED {
        let more = lines.len() - LISTED;
        lines.truncate(LISTED);
        lines.push(format!("and {more} more"));
    }
    let (count, list) = (found.len(), lines.join("; "));
    if found.iter().all(is_unusable) {
        let msg = format!("none of {count} VFs of PF {names} can be handed out: {list}");
        return Ok(CniError::new(code::VF_UNUSABLE, msg).details(
            "bind the VF's network driver (`berth vf release ADDRESS` does), or name other VFs",
        ));
    }
    let msg = format!("no free VF among {count} of PF {names}: {list}");
    Ok(CniError::new(code::TRY_AGAIN, msg).details(
        "remove an attachment, or make more VFs with `berth bootstrap vfs`, and try again",
    ))
}

fn is_unusable(found: &Found<'_>) -> bool {
    match &found.verdict {
        Verdict::Free(_) => false,
        Verdict::Busy(reasons) => reasons.iter().any(Reason::is_unusable),
    }
}

fn line(found: &Found<'_>, own: &BTreeSet<PciAddr>) -> String {
    let name = name(found.pf, found.vf);
    match &found.verdict {
        Verdict::Busy(reasons) => format!("{name}: {}", said(reasons)),
        Verdict::Free(_) if own.contains(&found.pf.address) => {
            format!("{name}: the container has a VF of this PF already (\"distinctPf\")")
        }
        Verdict::Free(_) => format!("{name}: given back this moment"),
    }
}

/// Of several reasons the first says whose it is.
fn said(reasons: &[Reason]) -> String {
    reasons.first().map(ToString::to_string).unwrap_or_default()
}

/// By address: any other order could wait for one who waits for us.
fn lock_all(node: &Node, functions: &[PhysicalFunction]) -> Result<Vec<Guard>, CniError> {
    let addresses: BTreeSet<PciAddr> = functions.iter().map(|pf| pf.address).collect();
    let locks = addresses.into_iter().map(|pf| node.lock(&LockName::Pf(pf)));
    locks.collect()
}

/// The PFs of which this attachment's container holds a VF.
fn functions_of_container(node: &Node) -> Result<BTreeSet<PciAddr>, CniError> {
    let mut functions = BTreeSet::new();
    for (address, claim) in node.claims.list()? {
        let owner = claim.ok().and_then(|claim| claim.owner().cloned());
        let own = owner.is_some_and(|key| key.container_id() == node.key().container_id());
        if own && let Some((pf, _)) = pci::virtual_function(&node.root, address)? {
            functions.insert(pf.address);
        }
    }
    Ok(functions)
}

/// Refuses PFs that are not there or have no VFs: for STATUS.
pub fn exists(root: &Root, device: &Device) -> Result<(), CniError> {
    let functions = functions(root, device)?;
    if functions.iter().any(|pf| !pf.vfs.is_empty()) {
        return Ok(());
    }
    Err(no_vfs(&functions, device))
}

fn no_vfs(functions: &[PhysicalFunction], device: &Device) -> CniError {
    let names: Vec<String> = functions.iter().map(pf_name).collect();
    let names = names.join(", ");
    let what = match device.index {
        Some(index) => format!("VF {index} of PF {names} does not exist"),
        None => format!("PF {names} has no VFs"),
    };
    CniError::new(code::VF_UNUSABLE, what).details("make some with `berth bootstrap vfs PF=COUNT`")
}

#[cfg(test)]
mod tests;
