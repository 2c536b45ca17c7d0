//! Suite `bridge`: the built `cni-bridge-vlan` run as a runtime runs it, against the
//! kernel. Every test leaves its node as it found it.

mod announce;
mod bandwidth;
mod capabilities;
mod chain;
mod check;
mod conflict;
mod dhcp;
mod filter;
mod gateway;
mod gc;
mod isolation;
mod kit;
mod lifecycle;
mod masquerade;
mod parallel;
mod per_vlan;
mod port;
mod refusals;
mod replaced;
mod rps;
mod soak;
mod trunk;
mod untagged;
mod uplink;

use std::process::ExitCode;

use berth_tests::frames;

fn main() -> ExitCode {
    let parts = [
        untagged::tests(),
        port::tests(),
        filter::tests(),
        gateway::tests(),
        masquerade::tests(),
        bandwidth::tests(),
        conflict::tests(),
        dhcp::tests(),
        isolation::tests(),
        trunk::tests(),
        per_vlan::tests(),
        uplink::tests(),
        refusals::tests(),
        lifecycle::tests(),
        replaced::tests(),
        capabilities::tests(),
        rps::tests(),
        announce::tests(),
        check::tests(),
        chain::tests(),
        gc::tests(),
        parallel::tests(),
        soak::tests(),
    ];
    berth_tests::suite(parts.into_iter().flatten().collect())
}
