//! The filter of frames a container has no business to send: bridge protocol frames,
//! which a switch behind the uplink may shut its port for, and VLAN tags of its own.
//!
//! A port says what is to be dropped by the group it is in (IFLA_GROUP) from its creation
//! on. Table `bridge berth-frames` is the same for all of them: chain `prerouting` sees
//! what would be forwarded, `input` the link-local frames the bridge keeps to itself. So
//! an ADD has nothing to write there but for the first one, and reads the rules once; what
//! others removed is back for all ports with the next ADD.
//!
//! The table goes when no attachment on record is filtered any more. An ADD that comes
//! just then may have seen the rules already, so they are not removed at once: first they
//! are made to differ from what an ADD accepts, in nothing that matters, then the records
//! are looked at again. An ADD that came before that is seen; one that comes later puts
//! the rules right, and the removal is refused, as the ruleset has changed.

use berth_kernel::netlink::nft::{
    Base, BaseChain, Batch, ChainType, CmpOp, Expr, Family, Hook, Meta, Name, Nft, Register, Rule,
    Table, Verdict,
};
use berth_kernel::{MacAddr, Result};

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

/// Groups of ports that are filtered: these bits, and one for each thing that is dropped.
/// No other program is known to use numbers near it, and people use small ones.
const GROUP: u32 = 0x6265_7200;
/// Every tag is dropped.
const UNTAGGED: u32 = 1;
/// Bridge protocol frames are dropped.
const BPDUS: u32 = 2;

/// What is dropped of what comes in by a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    /// One 802.1Q tag may pass, for the bridge to judge by its VLAN; else no tag.
    pub trunk: bool,
    /// Bridge protocol frames are dropped.
    pub bpdus: bool,
}

impl Filter {
    /// The group a port with this filter is in.
    pub fn group(self) -> u32 {
        let untagged = if self.trunk { 0 } else { UNTAGGED };
        let bpdus = if self.bpdus { BPDUS } else { 0 };
        GROUP | untagged | bpdus
    }
}

/// The names of what is in the table.
#[derive(Debug)]
struct Names {
    table: Table,
    prerouting: Name,
    input: Name,
}

/// Has the rules for every group of [`Filter`] be there. Nothing is changed where they
/// are.
///
/// # Errors
/// Of the kind `Unsupported` with the option the kernel lacks; else what it refused.
pub fn ensure(nft: &Nft) -> Result<()> {
    let names = Names::new()?;
    // What cannot be read here the transaction tries, and says better.
    if names.stand(nft) == Ok(true) {
        return Ok(());
    }
    let done = nft.transact(|| {
        let mut batch = Batch::new();
        if !names.stand(nft)? {
            names.make(&mut batch);
        }
        Ok(batch)
    });
    done.map_err(|error| ruleset::explained(error, OPTIONS))
}

/// Removes the rules, unless somebody `is_used` by needs them, which is asked when an ADD
/// that nobody could see yet cannot rely on them any more. That there are none is success.
///
/// # Errors
/// What the kernel refused.
pub fn release(nft: &Nft, is_used: impl Fn() -> bool) -> Result<()> {
    let names = Names::new()?;
    let is_there = || {
        Ok(nft
            .tables(Family::Bridge)?
            .contains(&names.table.name.to_string()))
    };
    if !is_there()? {
        return Ok(());
    }
    nft.transact(|| {
        let mut batch = Batch::new();
        if names.stand(nft)? {
            names.mark(&mut batch);
        }
        Ok(batch)
    })?;
    nft.transact(|| {
        let mut batch = Batch::new();
        if is_used() {
            if !names.stand(nft)? {
                names.make(&mut batch);
            }
        } else if is_there()? {
            batch.delete_table(&names.table);
        }
        Ok(batch)
    })
}

/// What is missing of what [`ensure`] did, a sentence.
///
/// # Errors
/// What the kernel refused to tell.
pub fn check(nft: &Nft) -> Result<Option<String>> {
    let names = Names::new()?;
    let missing = || {
        let table = &names.table;
        format!("{table} has not the rules that drop foreign VLAN tags and bridge protocol frames")
    };
    Ok((!names.stand(nft)?).then(missing))
}

/// Whether the kernel can do it, without a change.
///
/// # Errors
/// As [`ensure`].
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
        })
    }

    /// The chains, and the rules each should have.
    fn chains(&self) -> [(&Name, Hook, Vec<Vec<Expr>>); 2] {
        let link_local = || rule(to_group(LINK_LOCAL), BPDUS);
        let forwarded = vec![
            link_local(),
            rule(to_group(CISCO), BPDUS),
            rule(tagged(DOT1Q), UNTAGGED),
            rule(tagged(DOT1AD), 0),
            rule(tagged_twice(DOT1Q), 0),
            rule(tagged_twice(DOT1AD), 0),
        ];
        [
            (&self.prerouting, Hook::Prerouting, forwarded),
            (&self.input, Hook::Input, vec![link_local()]),
        ]
    }

    /// Whether both chains have the rules they should have.
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

    /// Makes the rules other ones that do the same.
    fn mark(&self, batch: &mut Batch) {
        let accept = [Expr::Verdict(Verdict::Accept)];
        batch.add_rule(&self.table, &self.input, &accept, None);
    }
}

/// Such a frame, from a port whose group has this bit, or any of ours with 0: lost.
fn rule(frame: Vec<Expr>, bit: u32) -> Vec<Expr> {
    let others = (UNTAGGED | BPDUS) & !bit;
    let mut exprs = frame;
    exprs.extend([
        Expr::Meta {
            key: Meta::IifGroup,
            to: Register::One,
        },
        Expr::Mask {
            on: Register::One,
            mask: (!others).to_ne_bytes().to_vec(),
        },
        Expr::Cmp {
            from: Register::One,
            op: CmpOp::Equal,
            value: (GROUP | bit).to_ne_bytes().to_vec(),
        },
        Expr::Verdict(Verdict::Drop),
    ]);
    exprs
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

#[cfg(test)]
mod tests;
