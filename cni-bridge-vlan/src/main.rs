//! The plugin's process: everything happens in the library.

use std::ffi::OsString;
use std::process::ExitCode;

use berth_kernel::Root;
use cni_bridge_vlan::{BridgeVlan, cli};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    // A runtime gives variables and no arguments; where there are both it is one.
    if !arguments.is_empty() && std::env::var_os("CNI_COMMAND").is_none_or(|c| c.is_empty()) {
        return cli::main(&Root::host(), &arguments);
    }
    berth_cni::run::main(&BridgeVlan::new(Root::host()))
}
