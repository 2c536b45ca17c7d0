//! The attachments with virtual functions, and those of a workload.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use berth_kernel::irq::{self, Vector};
use berth_kernel::netlink::Net;
use berth_kernel::{IfName, NetNs, PciAddr, Result, Root, pci};
use berth_state::record::{Host, Phase};
use berth_state::vf::SriovHost;
use berth_state::{Claims, Key, Record, Records};

use crate::apply::Namespaces;
use crate::spec::NetworkSpec;

/// An attachment that has a VF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// Whose it is.
    pub(crate) key: Key,
    /// Its VF.
    pub(crate) vf: PciAddr,
    /// The VF's index at its PF.
    pub(crate) index: u32,
    /// The VF's NUMA node, if the firmware names one.
    pub(crate) numa_node: Option<u32>,
    /// The cookie of the container's network namespace.
    pub(crate) netns: u64,
    /// The VF's interrupts in their order.
    pub(crate) vectors: Vec<Vector>,
    /// Its interface in the container; `None` while it is not there.
    pub(crate) interface: Option<Interface>,
}

/// A VF's interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    /// Its name in the container, which may have renamed it.
    pub(crate) name: IfName,
    /// The numbers of its receive queues.
    pub(crate) rx: Vec<u32>,
    /// The numbers of its transmit queues.
    pub(crate) tx: Vec<u32>,
}

/// What was found, and what could not be read.
#[derive(Debug, Default)]
pub(crate) struct Attachments {
    /// Those that have been added and still have their VFs.
    pub(crate) found: Vec<Attachment>,
    /// Sentences for people.
    pub(crate) notes: Vec<String>,
}

impl Attachments {
    /// Reads them all. What cannot be read is a note and hides nothing else.
    pub(crate) fn read(root: &Root, namespaces: &mut Namespaces) -> Self {
        let mut all = Self::default();
        for record in all.records(root) {
            let Host::Sriov(host) = &record.host else {
                continue;
            };
            match look(root, &record, host, namespaces) {
                Ok(found) => all.found.extend(found),
                Err(error) => all
                    .notes
                    .push(format!("attachment {}: {error}", record.key)),
            }
        }
        all
    }

    fn records(&mut self, root: &Root) -> Vec<Record> {
        let records = Records::new(root);
        let mut found = Vec::new();
        let networks = records.networks().unwrap_or_else(|error| {
            self.notes.push(error.to_string());
            Vec::new()
        });
        for network in networks {
            match records.list(&network) {
                Ok(list) => {
                    for record in list {
                        match record {
                            Ok(record) => found.push(record),
                            Err(error) => self.notes.push(error.to_string()),
                        }
                    }
                }
                Err(error) => self.notes.push(error.to_string()),
            }
        }
        found
    }

    /// Whose VFs raise which interrupts.
    pub(crate) fn owners(&self) -> BTreeMap<u32, (PciAddr, Key)> {
        let each = |one: &Attachment| {
            let owner = (one.vf, one.key.clone());
            let irqs: Vec<u32> = one.vectors.iter().map(|vector| vector.irq.0).collect();
            irqs.into_iter().map(move |irq| (irq, owner.clone()))
        };
        self.found.iter().flat_map(each).collect()
    }

    /// Those of a workload with the processes `pids`: the ones that `spec` names, or else
    /// those in the network namespaces of its processes. With a note on each that is
    /// named and not there.
    ///
    /// # Errors
    /// When a process's namespace cannot be entered; a process that has ended is none.
    pub(crate) fn of_workload(
        &self,
        root: &Root,
        spec: &NetworkSpec,
        pids: &[u32],
    ) -> Result<(BTreeSet<Key>, Vec<String>)> {
        if spec.attachments.is_empty() {
            let cookies = cookies(root, pids)?;
            let inside = |one: &&Attachment| cookies.contains(&one.netns);
            let keys = self.found.iter().filter(inside);
            return Ok((keys.map(|one| one.key.clone()).collect(), Vec::new()));
        }
        let known: BTreeSet<&Key> = self.found.iter().map(|one| &one.key).collect();
        let named = spec.attachments.iter().cloned();
        let (there, absent): (BTreeSet<Key>, BTreeSet<Key>) =
            named.partition(|key| known.contains(key));
        let note = |key: &Key| {
            format!(
                "attachment {key} is not there, or has no VF: its packet work is placed once it is"
            )
        };
        Ok((there, absent.iter().map(note).collect()))
    }
}

/// `None` for one that is being added, or has lost its VF or its namespace.
fn look(
    root: &Root,
    record: &Record,
    host: &SriovHost,
    namespaces: &mut Namespaces,
) -> anyhow::Result<Option<Attachment>> {
    let owner = Claims::new(root).load(host.vf)?;
    let owns = owner.as_ref().and_then(|claim| claim.owner()) == Some(&record.key);
    if record.phase != Phase::Committed || !owns {
        return Ok(None);
    }
    let netns = record.netns.cookie;
    if let Some(path) = &record.netns.path {
        namespaces.hint(netns, path.clone());
    }
    let Some(inside) = namespaces.open(root, netns)? else {
        return Ok(None);
    };
    Ok(Some(Attachment {
        key: record.key.clone(),
        vf: host.vf,
        index: host.index,
        numa_node: pci::Device::new(root, host.vf).numa_node()?,
        netns,
        vectors: irq::vectors(root, host.vf)?,
        interface: interface(root, host.vf, &inside, namespaces)?,
    }))
}

fn interface(
    root: &Root,
    vf: PciAddr,
    inside: &NetNs,
    namespaces: &mut Namespaces,
) -> Result<Option<Interface>> {
    let links = Net::open_in(inside)?.links()?;
    let Some(link) = links.into_iter().find(|link| link.pci() == Some(vf)) else {
        return Ok(None);
    };
    let Some(devices) = namespaces.devices(root, inside.cookie()?)? else {
        return Ok(None);
    };
    Ok(Some(Interface {
        rx: devices.rx_queues(&link.name)?,
        tx: devices.tx_queues(&link.name)?,
        name: link.name,
    }))
}

/// The cookies of the processes' namespaces. Most share one: it is entered once.
fn cookies(root: &Root, pids: &[u32]) -> Result<BTreeSet<u64>> {
    let mut seen = HashSet::new();
    let mut cookies = BTreeSet::new();
    for pid in pids {
        let Ok(netns) = NetNs::of_pid(root, *pid) else {
            continue;
        };
        if seen.insert(netns.identity()?) {
            cookies.insert(netns.cookie()?);
        }
    }
    Ok(cookies)
}

#[cfg(test)]
mod tests;
