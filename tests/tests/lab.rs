//! Suite `lab`: what the guest promises to every other suite.

use std::process::ExitCode;

use berth_tests::{Need, Node, Result, Space, suite, test};

fn main() -> ExitCode {
    suite(vec![test("world", &[Need::Root], world)])
}

fn world(node: &Node) -> Result<()> {
    assert_eq!(node.link_names()?, ["lo"]);
    Ok(())
}
