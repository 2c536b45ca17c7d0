//! Suite `workload`: the agent and what it enforces on real cgroups, disks and CPUs. A
//! process in each workload's cgroup says how it feels there.
//!
//! `BERTH_SOAK=1` kills the agent at every changing system call instead of some.

mod concurrency;
mod cpu;
mod crash;
mod disk;
mod interrupts;
mod io;
mod kit;
mod lifecycle;
mod memory;
mod resize;
mod schema;

use std::process::ExitCode;

use berth_tests::suite;

fn main() -> ExitCode {
    let mut tests = lifecycle::tests();
    tests.extend(schema::tests());
    tests.extend(cpu::tests());
    tests.extend(resize::tests());
    tests.extend(memory::tests());
    tests.extend(disk::tests());
    tests.extend(io::tests());
    tests.extend(interrupts::tests());
    tests.extend(crash::tests());
    tests.extend(concurrency::tests());
    suite(tests)
}
