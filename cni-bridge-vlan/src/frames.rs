//! The filter of frames a container has no business to send: bridge protocol frames,
//! which a switch behind the uplink may shut its port for, and VLAN tags of its own.
//!
//! Table `bridge berth-frames`: set `ports` holds the ports that are filtered, its
//! comments the keys of their attachments; `untagged` those of them that may send no tag
//! at all, `bpdus` those that may send no bridge protocol frame. Chain `prerouting` sees
//! what would be forwarded, `input` the link-local frames the bridge keeps to itself.
//! What a frame is comes first in each rule, so that of ordinary ones no port is looked
//! up.
//!
//! A port is a member by its elements alone, and in steady state the rules are only read.
//! An ADD puts its elements without comparing generations, so any number of them do not
//! disturb one another; the table goes with the last port, by a transaction that each of
//! them would make fail.

use berth_kernel::error::AbsentIsFine;
use berth_kernel::netlink::nft::{
    Base, BaseChain, Batch, ChainType, CmpOp, ElementKey, Expr, Family, Hook, Meta, Name, NewSet,
    Nft, Register, Rule, SetKey, Table, Verdict,
};
use berth_kernel::{MacAddr, Result};
use berth_state::Key;

use crate::ruleset::{self, FILTER_BRIDGED};

/// What the kernel must have for it.
pub const OPTIONS: &str = "CONFIG_NF_TABLES_BRIDGE";

/// `ETH_P_8021Q` and `ETH_P_8021AD` (include/uapi/linux/if_ether.h).
const DOT1Q: u16 = 0x8100;
const DOT1AD: u16 = 0x88a8;

/// The addresses bridges speak to one another by (IEEE 802.1Q, table 8-1): spanning tree,
/// LACP, 802.1X, LLDP. The last four bits are any.
const LINK_LOCAL: (MacAddr, MacAddr) = (
    MacAddr([0x01, 0x80, 0xc2, 0, 0, 0]),
    MacAddr([0xff, 0xff, 0xff, 0xff, 0xff, 0xf0]),
);
/// Those of Cisco's switches: per-VLAN spanning tree (...cd), and VTP, DTP, CDP (...cc).
const CISCO: (MacAddr, MacAddr) = (
    MacAddr([0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc]),
    MacAddr([0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]),
);

/// What is dropped of what comes in by a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    /// One 802.1Q tag may pass, for the bridge to judge by its VLAN; else no tag.
    pub trunk: bool,
    /// Bridge protocol frames are dropped.
    pub bpdus: bool,
}

/// The names of what is in the table.
#[derive(Debug)]
struct Names {
    table: Table,
    prerouting: Name,
    input: Name,
    ports: Name,
    untagged: Name,
    bpdus: Name,
}

/// Filters what comes in by the attachment's port. Makes what is missing and puts right
/// what is wrong.
///
/// # Errors
/// Of the kind `Unsupported` with the option the kernel lacks; else what it refused.
pub fn add(nft: &Nft, key: &Key, filter: Filter) -> Result<()> {
    let names = Names::new()?;
    // What cannot be read here the transaction tries, and says better.
    if names.stand(nft) == Ok(true) {
        // Where the last port took the table with it just now, it is made anew.
        let put = nft.apply(&plan_add(&names, key, filter, true)?, None);
        if put.absent_is_fine()?.is_some() {
            return Ok(());
        }
    }
    let done = nft.transact(|| plan_add(&names, key, filter, names.stand(nft)?));
    done.map_err(|error| ruleset::explained(error, OPTIONS))
}

/// Filters nothing of the attachment's port any more; with the last port everything
/// goes. That there is nothing is success.
///
/// # Errors
/// What the kernel refused.
pub fn remove(nft: Nft, key: &Key) -> Result<()> {
    let names = Names::new()?;
    let Names { table, ports, .. } = &names;
    let port = ElementKey::interface(&key.port_name());
    if nft.find_element((table, ports), &port)?.is_some() {
        nft.apply(&plan_remove(&names, &port), None)
            .absent_is_fine()?;
    }
    // Each looks after its own is gone, so of those that go at once the last finds none.
    let Some(nft) = nft.if_empty((table, ports))? else {
        return Ok(());
    };
    nft.transact(|| {
        let mut batch = Batch::new();
        let stands = !nft.sets(table)?.is_empty();
        if stands && nft.elements((table, ports))?.is_empty() {
            batch.delete_table(table);
        }
        Ok(batch)
    })
}

/// What is missing of what [`add`] did, each a sentence.
///
/// # Errors
/// What the kernel refused to tell.
pub fn check(nft: &Nft, key: &Key, filter: Filter) -> Result<Vec<String>> {
    let names = Names::new()?;
    let (table, port) = (&names.table, key.port_name());
    let mut missing = Vec::new();
    if !names.stand(nft)? {
        missing.push(format!(
            "{table} has not the rules that drop foreign VLAN tags and bridge protocol frames"
        ));
    }
    for (set, wished) in names.memberships(filter) {
        let found = nft.find_element((table, set), &ElementKey::interface(&port))?;
        if found.is_some() != wished {
            let is = if wished { "is not" } else { "is" };
            let dropped = names.dropped_by(set);
            missing.push(format!(
                "port {port} {is} in set {set} of {table}, whose ports' {dropped} are dropped"
            ));
        }
    }
    Ok(missing)
}

/// The attachments of `network` whose port is filtered.
///
/// # Errors
/// What the kernel refused to tell.
pub fn marked(nft: &Nft, network: &str) -> Result<Vec<Key>> {
    let names = Names::new()?;
    ruleset::owners(nft, (&names.table, &names.ports), network)
}

/// Whether the kernel can do it, without a change.
///
/// # Errors
/// As [`add`].
pub fn possible(nft: &Nft) -> Result<()> {
    let names = Names::new()?;
    nft.generation()?;
    if names.stand(nft)? {
        return Ok(());
    }
    let mut batch = Batch::new();
    names.make(&mut batch);
    nft.try_out(&batch)
        .map_err(|error| ruleset::explained(error, OPTIONS))
}

impl Names {
    fn new() -> Result<Self> {
        Ok(Self {
            table: Table {
                family: Family::Bridge,
                name: ruleset::name("berth-frames")?,
            },
            prerouting: ruleset::name("prerouting")?,
            input: ruleset::name("input")?,
            ports: ruleset::name("ports")?,
            untagged: ruleset::name("untagged")?,
            bpdus: ruleset::name("bpdus")?,
        })
    }

    /// Each set, and whether a port with this filter is in it.
    fn memberships(&self, filter: Filter) -> [(&Name, bool); 3] {
        [
            (&self.ports, true),
            (&self.untagged, !filter.trunk),
            (&self.bpdus, filter.bpdus),
        ]
    }

    /// In words.
    fn dropped_by(&self, set: &Name) -> &'static str {
        if *set == self.ports {
            "second VLAN tags and 802.1ad tags"
        } else if *set == self.untagged {
            "802.1Q tags"
        } else {
            "bridge protocol frames"
        }
    }

    /// The chains, and the rules each should have.
    fn chains(&self) -> [(&Name, Hook, Vec<Vec<Expr>>); 2] {
        let link_local = || self.rule(to_group(LINK_LOCAL), &self.bpdus);
        let forwarded = vec![
            link_local(),
            self.rule(to_group(CISCO), &self.bpdus),
            self.rule(tagged(DOT1Q), &self.untagged),
            self.rule(tagged(DOT1AD), &self.ports),
            self.rule(tagged_twice(DOT1Q), &self.ports),
            self.rule(tagged_twice(DOT1AD), &self.ports),
        ];
        [
            (&self.prerouting, Hook::Prerouting, forwarded),
            (&self.input, Hook::Input, vec![link_local()]),
        ]
    }

    /// Such a frame, from a port of the set: lost.
    fn rule(&self, frame: Vec<Expr>, set: &Name) -> Vec<Expr> {
        let mut exprs = frame;
        exprs.extend([
            Expr::Meta {
                key: Meta::IifName,
                to: Register::One,
            },
            Expr::Lookup {
                from: Register::One,
                set: set.clone(),
                absent: false,
            },
            Expr::Verdict(Verdict::Drop),
        ]);
        exprs
    }

    /// Whether both chains have the rules they should have, so that the sets are there,
    /// too.
    fn stand(&self, nft: &Nft) -> Result<bool> {
        let live = nft.all_rules(&self.table)?;
        Ok(self.are_right(&live))
    }

    fn are_right(&self, live: &[Rule]) -> bool {
        self.chains().iter().all(|(chain, _, wished)| {
            let of_chain = live.iter().filter(|rule| rule.chain == chain.as_str());
            of_chain.map(|rule| &rule.exprs).eq(wished)
        })
    }

    fn make(&self, batch: &mut Batch) {
        let Self { table, .. } = self;
        batch.add_table(table);
        for name in [&self.ports, &self.untagged, &self.bpdus] {
            let (key, comment) = (SetKey::IfName, None);
            batch.add_set(table, &NewSet { name, key, comment });
        }
        for (name, hook, rules) in self.chains() {
            batch.add_chain(
                table,
                &BaseChain {
                    name,
                    kind: ChainType::Filter,
                    hook,
                    priority: FILTER_BRIDGED,
                },
            );
            batch.flush_chain(table, name);
            for rule in rules {
                batch.add_rule(table, name, &rule, None);
            }
        }
    }
}

fn to_group((group, mask): (MacAddr, MacAddr)) -> Vec<Expr> {
    vec![
        Expr::Payload {
            base: Base::Link,
            offset: 0,
            len: 6,
            to: Register::One,
        },
        Expr::Mask {
            on: Register::One,
            mask: mask.0.to_vec(),
        },
        Expr::Cmp {
            from: Register::One,
            op: CmpOp::Equal,
            value: group.0.to_vec(),
        },
    ]
}

/// The first type in the Ethernet header is a tag's.
fn tagged(tag: u16) -> Vec<Expr> {
    let first = Expr::Payload {
        base: Base::Link,
        offset: 12,
        len: 2,
        to: Register::One,
    };
    vec![first, equals(tag)]
}

/// Behind the first tag, which the kernel takes off before any chain, comes another.
fn tagged_twice(tag: u16) -> Vec<Expr> {
    let second = Expr::Meta {
        key: Meta::Protocol,
        to: Register::One,
    };
    vec![second, equals(tag)]
}

fn equals(ethertype: u16) -> Expr {
    Expr::Cmp {
        from: Register::One,
        op: CmpOp::Equal,
        value: ethertype.to_be_bytes().to_vec(),
    }
}

fn plan_add(names: &Names, key: &Key, filter: Filter, stands: bool) -> Result<Batch> {
    let mut batch = Batch::new();
    if !stands {
        names.make(&mut batch);
    }
    let (table, port) = (&names.table, ElementKey::interface(&key.port_name()));
    let mark = ruleset::comment(&key.to_string())?;
    for (set, is_member) in names.memberships(filter) {
        if is_member {
            let comment = (*set == names.ports).then_some(&mark);
            batch.put_element((table, set), &port, comment);
        } else {
            // Of a former attachment of this name that nothing else is known of.
            batch.clear_element((table, set), &port);
        }
    }
    Ok(batch)
}

fn plan_remove(names: &Names, port: &ElementKey) -> Batch {
    let mut batch = Batch::new();
    for set in [&names.ports, &names.untagged, &names.bpdus] {
        batch.clear_element((&names.table, set), port);
    }
    batch
}

#[cfg(test)]
mod tests;
