//! Suite `cni`: the protocol as a runtime sees it, by the built plugin: environment,
//! order of checks, texts and codes, result shapes, verbs, arguments, delegation.

mod arguments;
mod delegation;
mod environment;
mod host_local;
mod lint;
mod order;
mod results;
mod stage;
mod verbs;

use std::process::ExitCode;

use berth_tests::suite;

fn main() -> ExitCode {
    let all = [
        environment::tests(),
        order::tests(),
        results::tests(),
        verbs::tests(),
        arguments::tests(),
        delegation::tests(),
        host_local::tests(),
        lint::tests(),
    ];
    suite(all.into_iter().flatten().collect())
}
