//! Masquerading (`ipMasq`): what a container sends out of its subnet leaves the node
//! with the node's address.
//!
//! Tables `ip berth` and `ip6 berth`. For each network and subnet there is a set with
//! the containers' addresses and a chain with one rule, both of one name derived from
//! the two. The set's comment is the network, an element's the key of its attachment:
//! so everything is found without a record. A chain and its set go with their last
//! element, a table with its last set. All that happens in transactions against the
//! kernel's generation counter; there is no lock.

use std::net::IpAddr;

use berth_kernel::netlink::nft::{
    Base, BaseChain, Batch, ChainType, CmpOp, Comment, Element, ElementKey, Expr, Family, Hook,
    Name, NewSet, Nft, Register, Set, SetKey, Table,
};
use berth_kernel::{Error, Result};
use berth_state::Key;
use berth_state::key::name_of;
use ipnetwork::IpNetwork;

use crate::ruleset::{self, Standing};

/// `NF_IP_PRI_NAT_SRC` (include/uapi/linux/netfilter_ipv4.h), `nft`'s `srcnat`.
const SRCNAT: i32 = 100;
const OPTIONS: &str = "CONFIG_NF_TABLES_IPV4, CONFIG_NF_TABLES_IPV6, CONFIG_NFT_NAT or \
                       CONFIG_NFT_MASQ";

/// Where the addresses of one subnet of a network are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    table: Table,
    /// Of the set and of the chain.
    name: Name,
    network: Comment,
    subnet: IpNetwork,
}

/// A place and the addresses one attachment has there.
#[derive(Debug)]
struct Wish {
    place: Place,
    addresses: Vec<IpAddr>,
}

/// What there is of a wish: the chain, and the element of each address.
#[derive(Debug)]
struct Seen {
    chain: Standing,
    elements: Vec<Option<Element>>,
}

/// One of our sets with its elements.
#[derive(Debug)]
struct Occupied {
    name: Name,
    elements: Vec<Element>,
}

/// Masquerades what the attachment `key` sends from `addresses`, each with the prefix
/// length of its subnet, to anything but that subnet and multicast groups. Makes what is
/// missing, puts right what is wrong, and takes an address over whose container is gone;
/// nothing is changed where all is as wished.
///
/// # Errors
/// Of the kind `Unsupported` with the options the kernel lacks; E2BIG with its limit of
/// 1024 chains, so of subnets; else what it refused.
pub fn add(nft: &Nft, key: &Key, addresses: &[IpNetwork]) -> Result<()> {
    let wishes = wishes(key, addresses)?;
    let mark = ruleset::comment(&key.to_string())?;
    let done = nft.transact(|| {
        let mut batch = Batch::new();
        for wish in &wishes {
            let seen = observe(nft, wish)?;
            plan_add(&mut batch, wish, &seen, &mark);
        }
        Ok(batch)
    });
    done.map_err(|error| ruleset::explained(error, OPTIONS))
}

/// Whether the kernel can do it, without a change.
///
/// # Errors
/// As [`add`].
pub fn possible(nft: &Nft) -> Result<()> {
    // An address kept for documentation (RFC 5737), which no network has.
    let nowhere = IpNetwork::from(IpAddr::from([192, 0, 2, 1]));
    let mut batch = Batch::new();
    Place::of("status", nowhere)?.make(&mut batch, Standing::Empty);
    let judged = nft.try_out(&batch);
    judged.map_err(|error| ruleset::explained(error, OPTIONS))
}

/// Masquerades nothing of the attachment `key` any more, wherever its network's
/// addresses are; what nobody needs any more goes too. That there is nothing is success.
///
/// # Errors
/// What the kernel refused.
pub fn remove(nft: &Nft, key: &Key) -> Result<()> {
    nft.transact(|| {
        let mut batch = Batch::new();
        for table in tables()? {
            let sets = nft.sets(&table)?;
            let occupied = occupied(nft, &table, key.network(), &sets)?;
            plan_remove(&mut batch, &table, sets.len(), &occupied, key);
        }
        Ok(batch)
    })
}

/// What is missing of what [`add`] did, each a sentence.
///
/// # Errors
/// What the kernel refused to tell.
pub fn check(nft: &Nft, key: &Key, addresses: &[IpNetwork]) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for wish in wishes(key, addresses)? {
        let Place {
            table,
            name,
            subnet,
            ..
        } = &wish.place;
        let seen = observe(nft, &wish)?;
        if seen.chain != Standing::Right {
            missing.push(format!(
                "chain {name} of {table} has not the one rule that masquerades {subnet}"
            ));
        }
        for (address, element) in wish.addresses.iter().zip(&seen.elements) {
            if !is_of(element.as_ref(), key) {
                missing.push(format!(
                    "{address} is not in set {name} of {table} for {key}: it is not masqueraded"
                ));
            }
        }
    }
    Ok(missing)
}

/// The attachments of `network` that have an address masqueraded.
///
/// # Errors
/// What the kernel refused to tell.
pub fn marked(nft: &Nft, network: &str) -> Result<Vec<Key>> {
    let mut keys = Vec::new();
    for table in tables()? {
        let sets = nft.sets(&table)?;
        for set in occupied(nft, &table, network, &sets)? {
            let owners = set.elements.iter().filter_map(ruleset::owner);
            keys.extend(owners.filter(|key| key.network() == network));
        }
    }
    keys.sort();
    keys.dedup();
    Ok(keys)
}

fn tables() -> Result<[Table; 2]> {
    Ok([ruleset::table(Family::Ip)?, ruleset::table(Family::Ip6)?])
}

fn wishes(key: &Key, addresses: &[IpNetwork]) -> Result<Vec<Wish>> {
    let mut wishes: Vec<Wish> = Vec::new();
    for address in addresses {
        let place = Place::of(key.network(), *address)?;
        match wishes.iter_mut().find(|wish| wish.place == place) {
            Some(wish) if wish.addresses.contains(&address.ip()) => {}
            Some(wish) => wish.addresses.push(address.ip()),
            None => wishes.push(Wish {
                place,
                addresses: vec![address.ip()],
            }),
        }
    }
    Ok(wishes)
}

impl Place {
    fn of(network: &str, address: IpNetwork) -> Result<Self> {
        let family = match address {
            IpNetwork::V4(_) => Family::Ip,
            IpNetwork::V6(_) => Family::Ip6,
        };
        let subnet = IpNetwork::new(address.network(), address.prefix())
            .map_err(|e| Error::malformed("masquerade", address, e.to_string()))?;
        Ok(Self {
            table: ruleset::table(family)?,
            name: ruleset::name(&name_of("masq-", &[network, &subnet.to_string()]))?,
            network: ruleset::comment(network)?,
            subnet,
        })
    }

    /// From an address of the set, to what is neither the subnet nor multicast.
    fn rule(&self) -> Vec<Expr> {
        let (source, destination, multicast) = match self.subnet {
            // Offsets in the IP headers (RFC 791, RFC 8200).
            IpNetwork::V4(_) => (12, 16, "224.0.0.0/4"),
            IpNetwork::V6(_) => (8, 24, "ff00::/8"),
        };
        let mut exprs = vec![
            self.load(source),
            Expr::Lookup {
                from: Register::One,
                set: self.name.clone(),
                absent: false,
            },
        ];
        let multicast = multicast.parse().ok();
        for net in [Some(self.subnet), multicast].into_iter().flatten() {
            exprs.push(self.load(destination));
            exprs.extend(outside(net));
        }
        exprs.push(Expr::Masquerade);
        exprs
    }

    fn load(&self, offset: u32) -> Expr {
        Expr::Payload {
            base: Base::Network,
            offset,
            len: if self.subnet.is_ipv4() { 4 } else { 16 },
            to: Register::One,
        }
    }

    fn make(&self, batch: &mut Batch, chain: Standing) {
        let Self { table, name, .. } = self;
        batch.add_table(table);
        batch.add_chain(
            table,
            &BaseChain {
                name,
                kind: ChainType::Nat,
                hook: Hook::Postrouting,
                priority: SRCNAT,
            },
        );
        let key = match self.subnet {
            IpNetwork::V4(_) => SetKey::Ipv4,
            IpNetwork::V6(_) => SetKey::Ipv6,
        };
        let comment = Some(&self.network);
        batch.add_set(table, &NewSet { name, key, comment });
        if chain == Standing::Wrong {
            batch.flush_chain(table, name);
        }
        batch.add_rule(table, name, &self.rule(), None);
    }
}

/// Goes on if the address in the first register is not in `net`.
fn outside(net: IpNetwork) -> Vec<Expr> {
    let bytes = |address: IpAddr| ElementKey::ip(address).as_bytes().to_vec();
    let differs = Expr::Cmp {
        from: Register::One,
        op: CmpOp::Differs,
        value: bytes(net.network()),
    };
    let mask = Expr::Mask {
        on: Register::One,
        mask: bytes(net.mask()),
    };
    vec![mask, differs]
}

fn observe(nft: &Nft, wish: &Wish) -> Result<Seen> {
    let Place { table, name, .. } = &wish.place;
    let chain = Standing::read(nft, table, name, &wish.place.rule())?;
    let look = |address: &IpAddr| nft.find_element((table, name), &ElementKey::ip(*address));
    let elements = wish.addresses.iter().map(look).collect::<Result<_>>()?;
    Ok(Seen { chain, elements })
}

fn plan_add(batch: &mut Batch, wish: &Wish, seen: &Seen, mark: &Comment) {
    let Wish { place, addresses } = wish;
    if seen.chain != Standing::Right {
        place.make(batch, seen.chain);
    }
    let set = (&place.table, &place.name);
    for (address, element) in addresses.iter().zip(&seen.elements) {
        let key = ElementKey::ip(*address);
        match element {
            Some(element) if element.comment.as_deref() == Some(mark.as_str()) => continue,
            // The address was given to us: its former owner is gone without a DEL.
            Some(_) => batch.delete_element(set, &key),
            None => {}
        }
        batch.add_element(set, &key, Some(mark));
    }
}

/// The sets of `network` among those of a table.
fn occupied(nft: &Nft, table: &Table, network: &str, sets: &[Set]) -> Result<Vec<Occupied>> {
    let ours = sets
        .iter()
        .filter(|set| set.comment.as_deref() == Some(network));
    ours.map(|set| {
        let name = ruleset::name(&set.name)?;
        let elements = nft.elements((table, &name))?;
        Ok(Occupied { name, elements })
    })
    .collect()
}

/// `sets` is how many sets the table has, of all networks.
fn plan_remove(batch: &mut Batch, table: &Table, sets: usize, occupied: &[Occupied], key: &Key) {
    let stays = |element: &Element| !is_of(Some(element), key);
    let (kept, empty): (Vec<_>, Vec<_>) = occupied
        .iter()
        .partition(|set| set.elements.iter().any(stays));
    if !empty.is_empty() && empty.len() == sets {
        batch.delete_table(table);
        return;
    }
    for Occupied { name, .. } in empty {
        batch.delete_chain(table, name);
        batch.delete_set(table, name);
    }
    for Occupied { name, elements } in kept {
        for element in elements.iter().filter(|element| !stays(element)) {
            batch.delete_element((table, name), &element.key);
        }
    }
}

fn is_of(element: Option<&Element>, key: &Key) -> bool {
    element.and_then(ruleset::owner).as_ref() == Some(key)
}

#[cfg(test)]
mod tests;
