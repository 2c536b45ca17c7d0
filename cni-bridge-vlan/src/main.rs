//! The plugin's process: everything happens in the library.
#![no_main]

use std::ffi::{OsString, c_char, c_int};
use std::panic::catch_unwind;

use berth_kernel::{Root, start};
use cni_bridge_vlan::{BridgeVlan, cli};

// SAFETY: this is the one `main` of the program, with the type that the C library's start
// calls it by.
#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    catch_unwind(run).map_or(PANICKED, c_int::from)
}

/// Exit status of a program that panicked, as by the standard library.
const PANICKED: c_int = 101;

fn run() -> u8 {
    if let Err(error) = start::prepare() {
        eprintln!("cni-bridge-vlan: {error}");
        return 1;
    }
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    // A runtime gives variables and no arguments; where there are both it is one.
    let is_typed =
        !arguments.is_empty() && std::env::var_os("CNI_COMMAND").is_none_or(|c| c.is_empty());
    match is_typed {
        true => cli::main(&Root::host(), &arguments),
        false => berth_cni::run::main(&BridgeVlan::new(Root::host())),
    }
}
