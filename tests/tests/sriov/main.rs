//! Suite `sriov`: the built `cni-sriov` run as a runtime runs it, on the lab's VFs.
//! After every case each VF is compared, fact by fact, with how it was made.

mod allocation;
mod attributes;
mod baseline;
mod check;
mod crash;
mod dump;
mod ipam;
mod irq;
mod kit;
mod lifecycle;
mod network;
mod parallel;
mod stage;
mod wire;

use std::process::ExitCode;
use std::time::Duration;

/// How long a test with many cases may take in emulation.
const LIMIT: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let parts = [
        dump::tests(),
        attributes::tests(),
        wire::tests(),
        allocation::tests(),
        irq::tests(),
        baseline::tests(),
        lifecycle::tests(),
        check::tests(),
        network::tests(),
        parallel::tests(),
        crash::tests(),
    ];
    berth_tests::suite(parts.into_iter().flatten().collect())
}
