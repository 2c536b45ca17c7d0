//! Netlink, spoken synchronously: one blocking socket per network namespace.
//!
//! Requests are built by pure functions, from the message types of
//! `netlink-packet-route`; [`Net`] only sends them. Replies are read attribute by
//! attribute, taking what is needed: one odd attribute of a foreign link must not
//! hide all others. [`nft`] speaks of nf_tables on a socket of its own.

mod addr;
mod attr;
mod bridge;
mod dot1q;
mod events;
mod filter;
mod ifb;
mod link;
mod neigh;
pub mod nft;
mod qdisc;
mod route;
mod socket;
mod veth;
mod vf;
mod vlan;
mod wire;

pub use addr::{Address, AddressFlags};
pub use bridge::{Bridge, Mark, NewBridge, Port, PortOptions};
pub use dot1q::NewDot1q;
pub use events::{LinkEvent, LinkEvents, wait_running};
pub use link::{Link, Tune, Tuning};
pub use neigh::{FdbEntry, Neighbour};
pub use qdisc::{LiveTbf, Tbf};
pub use route::Route;
pub use socket::Net;
pub use veth::Veth;
pub use vf::{Vf, VfChange, VfLinkState, VfVlan, VlanProto};
pub use vlan::{On, VlanEntry, VlanFlags, VlanRange};
