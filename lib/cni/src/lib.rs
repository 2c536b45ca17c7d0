//! What the CNI contract demands: the request as a plugin reads it, the order of its
//! checks, results in every version, errors with their codes, IPAM, the runner that
//! turns a [`Plugin`] into a process; and in [`client`] the caller's side of it.
//!
//! And what every kind of attachment does alike: its record through the verbs
//! ([`attachment`]), the container's side ([`container`], [`check`]), [`gc`], packet
//! [`steering`]. What differs comes in as a closure.
//!
//! Source of every rule here: the CNI specification 1.1.0 and, where it is silent,
//! what the reference library does.

pub mod args;
pub mod attachment;
pub mod check;
pub mod client;
pub mod conflict;
pub mod container;
pub mod error;
mod exec;
pub mod fields;
pub mod gc;
pub mod ipam;
pub mod keys;
pub mod log;
pub mod request;
pub mod result;
pub mod run;
pub mod steering;
pub mod steps;
pub mod units;
pub mod version;

pub use args::Args;
pub use attachment::Attachment;
pub use container::Container;
pub use error::{CniError, code};
pub use ipam::Ipam;
pub use keys::KeySpec;
pub use log::Log;
pub use request::{Argument, Call, Command, Config, GcRequest, Request};
pub use result::AddResult;
pub use run::{Io, Plugin, run};
pub use version::SpecVersion;
