//! What Linux offers: one module per kernel surface, each with its types, reads,
//! writes and tests. No policy lives here and nothing here knows CNI.

pub mod error;
pub mod names;
pub mod netlink;
pub mod netns;
pub mod root;

pub use error::{Error, Kind, Result};
pub use names::{IfName, MacAddr, PciAddr, VlanId};
pub use netns::NetNs;
pub use root::Root;
