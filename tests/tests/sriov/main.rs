//! Suite `sriov`: the built `cni-sriov` run as a runtime runs it, on the lab's VFs.
//! After every case each VF is compared, fact by fact, with how it was made.

mod dump;
mod kit;
mod stage;

use std::process::ExitCode;

fn main() -> ExitCode {
    let parts = [dump::tests()];
    berth_tests::suite(parts.into_iter().flatten().collect())
}
