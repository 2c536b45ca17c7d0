//! The plugin's process: everything happens in the library.

use std::process::ExitCode;

use berth_kernel::Root;
use cni_sriov::Sriov;

fn main() -> ExitCode {
    ExitCode::from(berth_cni::run::main(&Sriov::new(Root::host())))
}
