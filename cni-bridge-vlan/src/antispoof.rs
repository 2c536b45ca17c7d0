//! The spoof check on kernels without locked bridge ports (before 5.18): frames that
//! come in by a container's port with another source address than the container's are
//! lost.
//!
//! Table `bridge berth`: set `ports` holds the ports that are checked, its comments the
//! address each may send from; set `senders` holds port and address together, its
//! comments the key of the attachment. Two chains with one rule each look into both:
//! `prerouting` for what is forwarded, `input` for the link-local frames the bridge
//! keeps to itself but would learn addresses from. Everything goes with the last port.
//!
//! From frames to the LLDP group the bridge learns before any chain: the caller turns
//! learning off on the port and enters the container's address itself.

use berth_kernel::netlink::nft::{
    Base, BaseChain, Batch, ChainType, Element, ElementKey, Expr, Family, Hook, Meta, Name, NewSet,
    Nft, Register, SetKey, Table, Verdict,
};
use berth_kernel::{IfName, MacAddr, Result};
use berth_state::Key;

use crate::ruleset::{self, FILTER_BRIDGED, Standing};

const OPTIONS: &str = "CONFIG_NF_TABLES_BRIDGE";

/// The names of what is in the table.
#[derive(Debug)]
struct Names {
    table: Table,
    chains: [(Name, Hook); 2],
    ports: Name,
    senders: Name,
}

/// What there is for one port.
#[derive(Debug)]
struct Seen {
    chains: [Standing; 2],
    /// The port's element, and the address it names.
    port: Option<Element>,
    /// The elements with the port and this address, or the one that `port` names.
    senders: Vec<Element>,
}

/// Loses what comes in by the attachment's port from another address than `mac`. Makes
/// what is missing and puts right what is wrong; nothing is changed where all is as
/// wished.
///
/// # Errors
/// Of the kind `Unsupported` with the option the kernel lacks; else what it refused.
pub fn add(nft: &Nft, key: &Key, mac: MacAddr) -> Result<()> {
    let names = Names::new()?;
    let done = nft.transact(|| {
        let seen = observe(nft, &names, &key.port_name(), mac)?;
        plan_add(&names, key, mac, &seen)
    });
    done.map_err(|error| ruleset::explained(error, OPTIONS))
}

/// Checks the attachment's port no more. That there is nothing is success.
///
/// # Errors
/// What the kernel refused.
pub fn remove(nft: &Nft, key: &Key) -> Result<()> {
    let names = Names::new()?;
    let port = key.port_name();
    nft.transact(|| {
        let ports = nft.elements((&names.table, &names.ports))?;
        let senders = match ports.iter().find(|element| is_port(element, &port)) {
            Some(element) => senders(nft, &names, &port, allowed(element))?,
            None => Vec::new(),
        };
        Ok(plan_remove(&names, &port, &ports, &senders))
    })
}

/// What is missing of what [`add`] did, each a sentence.
///
/// # Errors
/// What the kernel refused to tell.
pub fn check(nft: &Nft, key: &Key, mac: MacAddr) -> Result<Vec<String>> {
    let names = Names::new()?;
    let port = key.port_name();
    let seen = observe(nft, &names, &port, mac)?;
    let mut missing = Vec::new();
    for ((chain, _), standing) in names.chains.iter().zip(seen.chains) {
        if standing != Standing::Right {
            missing.push(format!(
                "chain {chain} of {} has not the one rule that checks senders",
                names.table
            ));
        }
    }
    if seen.port.is_none() {
        missing.push(format!(
            "port {port} is not in set {} of {}: it may send from any address",
            names.ports, names.table
        ));
    }
    for element in &seen.senders {
        if element.key != ElementKey::interface_mac(&port, mac) {
            missing.push(format!(
                "port {port} may send from another address than {mac}"
            ));
        }
    }
    if !seen.has_sender(&port, mac) {
        missing.push(format!(
            "port {port} with {mac} is not in set {} of {}: what it sends is lost",
            names.senders, names.table
        ));
    }
    Ok(missing)
}

/// The attachments of `network` whose port is checked.
///
/// # Errors
/// What the kernel refused to tell.
pub fn marked(nft: &Nft, network: &str) -> Result<Vec<Key>> {
    let names = Names::new()?;
    let elements = nft.elements((&names.table, &names.senders))?;
    let mut keys: Vec<Key> = elements.iter().filter_map(ruleset::owner).collect();
    keys.retain(|key| key.network() == network);
    keys.sort();
    keys.dedup();
    Ok(keys)
}

impl Names {
    fn new() -> Result<Self> {
        Ok(Self {
            table: ruleset::table(Family::Bridge)?,
            chains: [
                (ruleset::name("prerouting")?, Hook::Prerouting),
                (ruleset::name("input")?, Hook::Input),
            ],
            ports: ruleset::name("ports")?,
            senders: ruleset::name("senders")?,
        })
    }

    /// From one of the ports, with no address of it: lost.
    fn rule(&self) -> Vec<Expr> {
        let port = Expr::Meta {
            key: Meta::IifName,
            to: Register::One,
        };
        vec![
            port.clone(),
            Expr::Lookup {
                from: Register::One,
                set: self.ports.clone(),
                absent: false,
            },
            port,
            // The source in an Ethernet header.
            Expr::Payload {
                base: Base::Link,
                offset: 6,
                len: 6,
                to: Register::Two,
            },
            Expr::Lookup {
                from: Register::One,
                set: self.senders.clone(),
                absent: true,
            },
            Expr::Verdict(Verdict::Drop),
        ]
    }

    fn make(&self, batch: &mut Batch, chains: [Standing; 2]) {
        let Self { table, .. } = self;
        batch.add_table(table);
        let sets = [
            (&self.ports, SetKey::IfName),
            (&self.senders, SetKey::IfNameMac),
        ];
        for (name, key) in sets {
            let comment = None;
            batch.add_set(table, &NewSet { name, key, comment });
        }
        for ((name, hook), standing) in self.chains.iter().zip(chains) {
            let chain = BaseChain {
                name,
                kind: ChainType::Filter,
                hook: *hook,
                priority: FILTER_BRIDGED,
            };
            match standing {
                Standing::Right => continue,
                Standing::Wrong => batch.flush_chain(table, name),
                Standing::Empty => batch.add_chain(table, &chain),
            }
            batch.add_rule(table, name, &self.rule(), None);
        }
    }
}

impl Seen {
    fn has_sender(&self, port: &IfName, mac: MacAddr) -> bool {
        let key = ElementKey::interface_mac(port, mac);
        self.senders.iter().any(|element| element.key == key)
    }
}

fn observe(nft: &Nft, names: &Names, port: &IfName, mac: MacAddr) -> Result<Seen> {
    let rule = names.rule();
    let [first, second] = &names.chains;
    let standing = |chain| Standing::read(nft, &names.table, chain, &rule);
    let chains = [standing(&first.0)?, standing(&second.0)?];
    let key = ElementKey::interface(port);
    let element = nft.find_element((&names.table, &names.ports), &key)?;
    let named = element.as_ref().and_then(allowed);
    let mut found = senders(nft, names, port, Some(mac))?;
    if named != Some(mac) {
        found.extend(senders(nft, names, port, named)?);
    }
    Ok(Seen {
        chains,
        port: element,
        senders: found,
    })
}

/// The address a port's element names.
fn allowed(port: &Element) -> Option<MacAddr> {
    port.comment.as_deref()?.parse().ok()
}

fn senders(nft: &Nft, names: &Names, port: &IfName, mac: Option<MacAddr>) -> Result<Vec<Element>> {
    let Some(mac) = mac else {
        return Ok(Vec::new());
    };
    let key = ElementKey::interface_mac(port, mac);
    let found = nft.find_element((&names.table, &names.senders), &key)?;
    Ok(found.into_iter().collect())
}

fn plan_add(names: &Names, key: &Key, mac: MacAddr, seen: &Seen) -> Result<Batch> {
    let mut batch = Batch::new();
    let mark = ruleset::comment(&key.to_string())?;
    if seen.chains != [Standing::Right; 2] {
        names.make(&mut batch, seen.chains);
    }
    let port = key.port_name();
    let wished = ElementKey::interface_mac(&port, mac);
    let (ports, senders) = ((&names.table, &names.ports), (&names.table, &names.senders));
    let mut stands = false;
    for element in &seen.senders {
        if element.key == wished && element.comment.as_deref() == Some(mark.as_str()) {
            stands = true;
        } else {
            batch.delete_element(senders, &element.key);
        }
    }
    if !stands {
        batch.add_element(senders, &wished, Some(&mark));
    }
    match &seen.port {
        Some(element) if allowed(element) == Some(mac) => return Ok(batch),
        Some(element) => batch.delete_element(ports, &element.key),
        None => {}
    }
    let address = ruleset::comment(&mac.to_string())?;
    batch.add_element(ports, &ElementKey::interface(&port), Some(&address));
    Ok(batch)
}

fn plan_remove(names: &Names, port: &IfName, ports: &[Element], senders: &[Element]) -> Batch {
    let mut batch = Batch::new();
    let Some(own) = ports.iter().find(|element| is_port(element, port)) else {
        return batch;
    };
    if ports.len() == 1 {
        batch.delete_table(&names.table);
        return batch;
    }
    batch.delete_element((&names.table, &names.ports), &own.key);
    for element in senders {
        batch.delete_element((&names.table, &names.senders), &element.key);
    }
    batch
}

fn is_port(element: &Element, port: &IfName) -> bool {
    element.key == ElementKey::interface(port)
}

#[cfg(test)]
mod tests;
