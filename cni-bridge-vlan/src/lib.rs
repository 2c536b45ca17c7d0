//! The CNI plugin `cni-bridge-vlan`: a veth on a VLAN bridge.
//!
//! Data goes one way: configuration -> [`conf::Conf`] -> [`plan::Plan`] -> changes
//! under an undo list -> result. DEL and GC need none of that: they sweep.

pub mod add;
pub mod antispoof;
pub mod bandwidth;
pub mod bridge;
pub mod check;
pub mod cli;
pub mod conf;
pub mod del;
pub mod dot1q;
pub mod features;
pub mod frames;
pub mod gateway;
pub mod gc;
pub mod lint;
pub mod masquerade;
pub mod node;
pub mod plan;
pub mod port;
pub mod rules;
mod ruleset;
pub mod status;

use berth_cni::error::CniError;
use berth_cni::keys::KeySpec;
use berth_cni::request::{Call, GcRequest, Request};
use berth_cni::result::AddResult;
use berth_cni::run::Plugin;
use berth_kernel::Root;
use berth_state::undo::{Faults, Undo};

/// The plugin, for one process or one test.
#[derive(Debug)]
pub struct BridgeVlan {
    root: Root,
    faults: Faults,
}

impl BridgeVlan {
    /// The plugin on the trees of `root`.
    pub fn new(root: Root) -> Self {
        Self {
            root,
            faults: Faults::none(),
        }
    }

    /// The same with a step of ADD that fails: for tests of the rollback.
    #[must_use]
    pub fn failing(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }
}

impl Plugin for BridgeVlan {
    fn name(&self) -> &str {
        env!("CARGO_PKG_NAME")
    }

    fn version(&self) -> &str {
        env!("CARGO_PKG_VERSION")
    }

    fn keys(&self) -> &[KeySpec] {
        conf::KEYS
    }

    fn add(&self, request: &Request, undo: &mut Undo) -> Result<AddResult, CniError> {
        add::add(&self.root, request, undo)
    }

    fn del(&self, request: &Request) -> Result<(), CniError> {
        del::del(&self.root, request)
    }

    fn check(&self, request: &Request) -> Result<(), CniError> {
        check::check(&self.root, request)
    }

    fn status(&self, call: &Call) -> Result<(), CniError> {
        status::status(&self.root, call)
    }

    fn gc(&self, request: &GcRequest) -> Result<(), CniError> {
        gc::gc(&self.root, request)
    }

    fn faults(&self) -> Faults {
        self.faults.clone()
    }
}
