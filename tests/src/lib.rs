//! The end-to-end harness: one private node per test, pods on it, a plugin runner,
//! frames seen on a wire, and the node compared before and after.
//!
//! A suite is an integration test without libtest's own harness:
//!
//! ```no_run
//! use berth_tests::{Need, Node, Result, Space, suite, test};
//!
//! fn a_port_is_a_port(node: &Node) -> Result<()> {
//!     node.ip("link add br0 type bridge")?;
//!     assert_eq!(node.link("br0")?["mtu"], 1500);
//!     Ok(())
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     suite(vec![test("a_port_is_a_port", &[Need::Root], a_port_is_a_port)])
//! }
//! ```
//!
//! Each test runs in a process of its own with fresh network, mount, pid and IPC
//! namespaces: `/sys` shows its own devices, `/run`, `/var/lib` and `/etc/berth` are empty, and
//! nothing it starts outlives it. A test whose [`Need`]s are not met is skipped with
//! the reason; in the lab guest (`BERTH_LAB=1`) it fails instead, because there
//! everything is promised.

pub mod attached;
pub mod call;
pub mod capture;
pub mod cgroup;
pub mod command;
pub mod conformance;
pub mod cpus;
pub mod frames;
pub mod http;
pub mod need;
pub mod node;
pub mod plugin;
pub mod pod;
pub mod snapshot;
pub mod space;
pub mod spy;
pub mod suite;
pub mod trace;
pub mod vf;
pub mod worker;

mod sys;
mod world;

pub use anyhow::{Context, Result, anyhow, bail, ensure};
pub use attached::{Attached, fixed, refused, with};
pub use capture::{Capture, Frame, VlanTag};
pub use cgroup::{Cgroup, Tree};
pub use http::{Answer, Http};
pub use need::Need;
pub use node::{Node, Port, foreign_bridge, mac_bytes, quiet};
pub use plugin::{Attachment, CniError, Plugin, Reply, Running};
pub use pod::Pod;
pub use snapshot::{Change, Extent, Snapshot};
pub use space::{Pinged, Space, poll};
pub use suite::{Test, is_emulated, is_soak, suite, test};
pub use trace::{Side, Strike};
pub use vf::{Look, Vf};
pub use worker::{Worker, Written};
