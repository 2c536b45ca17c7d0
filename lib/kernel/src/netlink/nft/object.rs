//! Chains, sets, elements and rules, and how each is written and read.

use std::net::IpAddr;

use super::writer::{HEADER, Kind, Writer, data, entries};
use super::{Comment, Expr, Name, Table};
use crate::names::{IfName, MacAddr};
use crate::netlink::attr::{Attr, Attrs, align, find};
use crate::netlink::wire::Request;

/// Every message about something in a table names the table so.
const NFTA_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_USERDATA: u16 = 13;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_USERDATA: u16 = 6;
/// `nft`'s own records in user data (libnftnl's udata.h): comments of rules and
/// elements, byte order of a set's keys, comments of sets.
const UDATA_COMMENT: u8 = 0;
const UDATA_SET_KEYBYTEORDER: u8 = 0;
const UDATA_SET_COMMENT: u8 = 7;
/// Bytes of an interface name in a key (IFNAMSIZ).
const IFNAMSIZ: usize = 16;

/// What a chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainType {
    /// Judge packets.
    Filter,
    /// Change the addresses of connections; sees the first packet of each.
    Nat,
}

/// Where on a packet's way a chain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Everything that comes in.
    Prerouting = 0,
    /// What is for this node; on a bridge also what it keeps to itself.
    Input = 1,
    /// Everything that goes out.
    Postrouting = 4,
}

/// A chain the kernel enters by itself. Packets it says nothing about go on.
#[derive(Debug, Clone, Copy)]
pub struct BaseChain<'a> {
    /// Its name, unique in the table.
    pub name: &'a Name,
    /// What it may do.
    pub kind: ChainType,
    /// Where it is.
    pub hook: Hook,
    /// Its place among the chains there: lower ones come first.
    pub priority: i32,
}

/// What the keys of a set are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetKey {
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// An interface name.
    IfName,
    /// An interface name and an Ethernet address.
    IfNameMac,
}

impl SetKey {
    /// `nft`'s number for the type, by which it shows keys, the key's length in bytes,
    /// and the byte order `nft` is to show it in (1 host's, 2 network's, 0 mixed). For
    /// the kernel only the length counts.
    fn numbers(self) -> (u32, u32, u32) {
        // datatype.h of nftables; parts of a concatenation are six bits apart.
        const IPADDR: u32 = 7;
        const IP6ADDR: u32 = 8;
        const ETHERADDR: u32 = 9;
        const IFNAME: u32 = 41;
        match self {
            Self::Ipv4 => (IPADDR, 4, 2),
            Self::Ipv6 => (IP6ADDR, 16, 2),
            Self::IfName => (IFNAME, 16, 1),
            Self::IfNameMac => (IFNAME << 6 | ETHERADDR, 24, 0),
        }
    }
}

/// A set to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewSet<'a> {
    /// Its name, unique in the table.
    pub name: &'a Name,
    /// What its keys are.
    pub key: SetKey,
    /// What it is for.
    pub comment: Option<&'a Comment>,
}

/// A set as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name; one we would not give is kept as text.
    pub name: String,
    /// Its comment.
    pub comment: Option<String>,
}

/// The key of an element, in the bytes a packet has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ElementKey(Vec<u8>);

impl ElementKey {
    /// An address, in a set of its family.
    pub fn ip(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        })
    }

    /// An interface name.
    pub fn interface(name: &IfName) -> Self {
        let mut bytes = name.as_str().as_bytes().to_vec();
        bytes.resize(IFNAMSIZ, 0);
        Self(bytes)
    }

    /// An interface name and an Ethernet address.
    pub fn interface_mac(name: &IfName, mac: MacAddr) -> Self {
        let Self(mut bytes) = Self::interface(name);
        bytes.extend(mac.0);
        // Each part of a concatenation takes whole words.
        bytes.resize(align(bytes.len()), 0);
        Self(bytes)
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// An element of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// What is in the set.
    pub key: ElementKey,
    /// Its comment.
    pub comment: Option<String>,
}

/// A rule as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The chain it is in.
    pub chain: String,
    /// Its steps.
    pub exprs: Vec<Expr>,
    /// Its comment.
    pub comment: Option<String>,
}

/// A message about a table as a whole, or about all of something in it.
pub(super) fn of_table(kind: Kind, table: &Table) -> Request {
    named(kind, table, None)
}

/// A message about one chain.
pub(super) fn of_chain(kind: Kind, table: &Table, chain: &Name) -> Request {
    named(kind, table, Some((NFTA_CHAIN_NAME, chain)))
}

/// A message about all rules of a chain.
pub(super) fn of_rules(kind: Kind, table: &Table, chain: &Name) -> Request {
    named(kind, table, Some((NFTA_RULE_CHAIN, chain)))
}

/// A message about one set, or about all its elements.
pub(super) fn of_set(kind: Kind, table: &Table, set: &Name) -> Request {
    // The attribute of elements has the same number.
    named(kind, table, Some((NFTA_SET_NAME, set)))
}

fn named(kind: Kind, table: &Table, object: Option<(u16, &Name)>) -> Request {
    request(kind, table, |message| {
        if let Some((attr, name)) = object {
            message.text(attr, name.as_str());
        }
    })
}

fn request(kind: Kind, table: &Table, fill: impl FnOnce(&mut Writer)) -> Request {
    let mut message = Writer::message(Some(table.family));
    message.text(NFTA_TABLE, table.name.as_str());
    fill(&mut message);
    Request {
        kind: kind.number(),
        body: message.into_body(),
    }
}

pub(super) fn new_table(table: &Table) -> Request {
    const NFTA_TABLE_FLAGS: u16 = 2;
    request(Kind::NewTable, table, |message| {
        message.number(NFTA_TABLE_FLAGS, 0);
    })
}

pub(super) fn new_chain(table: &Table, chain: &BaseChain<'_>) -> Request {
    request(Kind::NewChain, table, |message| {
        message.text(NFTA_CHAIN_NAME, chain.name.as_str());
        let kind = match chain.kind {
            ChainType::Filter => "filter",
            ChainType::Nat => "nat",
        };
        message.text(NFTA_CHAIN_TYPE, kind);
        message.nest(NFTA_CHAIN_HOOK, |hook| {
            hook.number(NFTA_HOOK_HOOKNUM, chain.hook as u32);
            hook.number(NFTA_HOOK_PRIORITY, chain.priority.cast_unsigned());
        });
    })
}

/// `id` tells the sets apart that one batch makes.
pub(super) fn new_set(table: &Table, set: &NewSet<'_>, id: u32) -> Request {
    let (kind, len, order) = set.key.numbers();
    request(Kind::NewSet, table, |message| {
        message.text(NFTA_SET_NAME, set.name.as_str());
        message.number(NFTA_SET_FLAGS, 0);
        message.number(NFTA_SET_KEY_TYPE, kind);
        message.number(NFTA_SET_KEY_LEN, len);
        message.number(NFTA_SET_ID, id);
        let mut user = user_data(UDATA_SET_KEYBYTEORDER, &order.to_ne_bytes());
        if let Some(comment) = set.comment {
            user.extend(comment_data(UDATA_SET_COMMENT, comment));
        }
        message.put(NFTA_SET_USERDATA, &user);
    })
}

pub(super) fn new_rule(
    table: &Table,
    chain: &Name,
    exprs: &[Expr],
    comment: Option<&Comment>,
) -> Request {
    request(Kind::NewRule, table, |message| {
        message.text(NFTA_RULE_CHAIN, chain.as_str());
        message.nest(NFTA_RULE_EXPRESSIONS, |list| {
            for expr in exprs {
                list.entry(|entry| expr.write(entry));
            }
        });
        if let Some(comment) = comment {
            message.put(NFTA_RULE_USERDATA, &comment_data(UDATA_COMMENT, comment));
        }
    })
}

/// A message about one element of a set.
pub(super) fn of_element(
    kind: Kind,
    (table, set): (&Table, &Name),
    key: &ElementKey,
    comment: Option<&Comment>,
) -> Request {
    request(kind, table, |message| {
        message.text(NFTA_SET_ELEM_LIST_SET, set.as_str());
        message.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
            list.entry(|element| {
                element.data(NFTA_SET_ELEM_KEY, &key.0);
                if let Some(comment) = comment {
                    element.put(
                        NFTA_SET_ELEM_USERDATA,
                        &comment_data(UDATA_COMMENT, comment),
                    );
                }
            });
        });
    })
}

/// A record of user data: type, length and value, of a byte, a byte and so many.
fn user_data(kind: u8, value: &[u8]) -> Vec<u8> {
    let len = u8::try_from(value.len()).unwrap_or(u8::MAX);
    [&[kind, len], value].concat()
}

fn comment_data(kind: u8, comment: &Comment) -> Vec<u8> {
    user_data(kind, &[comment.as_str().as_bytes(), &[0]].concat())
}

/// The record of this type in user data, as text up to its NUL.
fn comment_in(user: Attr<'_>, kind: u8) -> Option<String> {
    let mut rest = user.value;
    while let [found, len, tail @ ..] = rest {
        let value = tail.get(..usize::from(*len))?;
        if *found == kind {
            return Some(Attr { kind: 0, value }.text());
        }
        rest = tail.get(value.len()..).unwrap_or_default();
    }
    None
}

/// Reads the name in an NFT_MSG_NEWTABLE.
pub(super) fn read_table(body: &[u8]) -> Option<String> {
    find(Attrs::after(body, HEADER), NFTA_TABLE).map(Attr::text)
}

/// Reads an NFT_MSG_NEWSET.
pub(super) fn read_set(body: &[u8]) -> Option<Set> {
    let attrs = Attrs::after(body, HEADER);
    let user = find(attrs, NFTA_SET_USERDATA);
    Some(Set {
        name: find(attrs, NFTA_SET_NAME)?.text(),
        comment: user.and_then(|user| comment_in(user, UDATA_SET_COMMENT)),
    })
}

/// Reads an NFT_MSG_NEWRULE.
pub(super) fn read_rule(body: &[u8]) -> Rule {
    let attrs = Attrs::after(body, HEADER);
    let exprs = find(attrs, NFTA_RULE_EXPRESSIONS);
    let user = find(attrs, NFTA_RULE_USERDATA);
    let chain = find(attrs, NFTA_RULE_CHAIN);
    Rule {
        chain: chain.map_or_else(String::new, Attr::text),
        exprs: exprs.map_or_else(Vec::new, |list| entries(list).map(Expr::read).collect()),
        comment: user.and_then(|user| comment_in(user, UDATA_COMMENT)),
    }
}

/// Reads an NFT_MSG_NEWSETELEM: some elements of a set.
pub(super) fn read_elements(body: &[u8]) -> Vec<Element> {
    let list = find(Attrs::after(body, HEADER), NFTA_SET_ELEM_LIST_ELEMENTS);
    let read = |entry: Attr<'_>| {
        let key = data(find(entry.nested(), NFTA_SET_ELEM_KEY)?)?.to_vec();
        let user = find(entry.nested(), NFTA_SET_ELEM_USERDATA);
        Some(Element {
            key: ElementKey(key),
            comment: user.and_then(|user| comment_in(user, UDATA_COMMENT)),
        })
    };
    list.map_or_else(Vec::new, |list| entries(list).filter_map(read).collect())
}
