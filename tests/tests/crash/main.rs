//! Suite `crash`: an ADD that fails at any step, and an ADD or DEL killed at any
//! system call, leave the node as it was. In emulation it does less, unless
//! `BERTH_SOAK=1`; see [`scene::is_reduced`].

mod kill;
mod rollback;
mod scene;

use std::process::ExitCode;

use berth_tests::suite;

fn main() -> ExitCode {
    let mut tests = rollback::tests();
    tests.extend(kill::tests());
    suite(tests)
}
