//! Suite `agent`: the built `berth` as an operator types it, with the built
//! `cni-bridge-vlan`. Every test leaves its node as it found it.

mod attach;
mod detach;
mod doctor;
mod help;
mod kit;
mod refusals;
mod vf;

use std::process::ExitCode;

fn main() -> ExitCode {
    let parts = [
        attach::tests(),
        detach::tests(),
        refusals::tests(),
        help::tests(),
        doctor::tests(),
        vf::tests(),
    ];
    berth_tests::suite(parts.into_iter().flatten().collect())
}
