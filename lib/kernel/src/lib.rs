//! What Linux offers: one module per kernel surface, each with its types, reads,
//! writes and tests. No policy lives here and nothing here knows CNI.

pub mod announce;
pub mod block;
pub mod cgroup;
pub mod cpu;
pub mod error;
pub mod ethtool;
mod file;
pub mod irq;
pub mod kconfig;
pub mod meminfo;
pub mod module;
pub mod mounts;
pub mod names;
pub mod netlink;
pub mod netns;
mod packet;
pub mod pci;
pub mod placement;
pub mod pressure;
pub mod priority;
pub mod probe;
pub mod process;
pub mod quota;
pub mod release;
pub mod root;
pub mod start;
pub mod sysctl;
pub mod sysfs;

pub use block::DeviceNumber;
pub use cgroup::Limit;
pub use cpu::CpuSet;
pub use error::{Error, Kind, Result};
pub use irq::Irq;
pub use names::{AltName, IfName, MacAddr, PciAddr, VlanId};
pub use netns::NetNs;
pub use release::Release;
pub use root::Root;
pub use sysfs::NetSysfs;
