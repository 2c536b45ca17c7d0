//! The plugin's process: everything happens in the library.

use std::process::ExitCode;

use berth_kernel::Root;
use cni_bridge_vlan::BridgeVlan;

fn main() -> ExitCode {
    berth_cni::run::main(&BridgeVlan::new(Root::host()))
}
