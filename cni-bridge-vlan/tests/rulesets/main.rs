//! Masquerading, the spoof check and the filter of frames on the running kernel, in network namespaces of
//! their own. Without what they need of nf_tables each test is named as ignored, with
//! the reason, except in the lab guest (`BERTH_LAB=1`), which promises it; with it and
//! without root they fail.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests fail by panicking too"
)]

mod antispoof;
mod frames;
mod masquerade;
mod node;
mod wire;

use std::io::Write;
use std::process::ExitCode;

use berth_kernel::Kind;
use berth_kernel::netlink::nft::Nft;
use libtest_mimic::{Arguments, Trial};

const TESTS: [(&str, fn()); 15] = [
    (
        "masquerade::a_second_add_changes_nothing_and_the_last_remove_leaves_nothing",
        masquerade::a_second_add_changes_nothing_and_the_last_remove_leaves_nothing,
    ),
    (
        "masquerade::networks_and_subnets_do_not_meet",
        masquerade::networks_and_subnets_do_not_meet,
    ),
    (
        "masquerade::an_address_is_taken_over_and_stays_with_its_new_owner",
        masquerade::an_address_is_taken_over_and_stays_with_its_new_owner,
    ),
    (
        "masquerade::what_others_change_is_named_and_put_right",
        masquerade::what_others_change_is_named_and_put_right,
    ),
    (
        "masquerade::many_at_once_leave_nothing",
        masquerade::many_at_once_leave_nothing,
    ),
    (
        "masquerade::what_leaves_the_subnet_has_the_nodes_address",
        masquerade::what_leaves_the_subnet_has_the_nodes_address,
    ),
    (
        "antispoof::a_second_add_changes_nothing_and_the_last_remove_leaves_nothing",
        antispoof::a_second_add_changes_nothing_and_the_last_remove_leaves_nothing,
    ),
    (
        "antispoof::what_others_change_is_named_and_put_right",
        antispoof::what_others_change_is_named_and_put_right,
    ),
    (
        "antispoof::many_at_once_leave_nothing",
        antispoof::many_at_once_leave_nothing,
    ),
    (
        "antispoof::only_the_containers_address_gets_through_and_is_learned",
        antispoof::only_the_containers_address_gets_through_and_is_learned,
    ),
    (
        "frames::they_are_made_once_and_go_when_nobody_uses_them",
        frames::they_are_made_once_and_go_when_nobody_uses_them,
    ),
    (
        "frames::an_add_beside_the_last_del_has_its_rules",
        frames::an_add_beside_the_last_del_has_its_rules,
    ),
    (
        "frames::what_others_change_is_named_and_put_right",
        frames::what_others_change_is_named_and_put_right,
    ),
    (
        "frames::many_at_once_leave_nothing",
        frames::many_at_once_leave_nothing,
    ),
    (
        "frames::foreign_tags_and_bridge_frames_are_dropped",
        frames::foreign_tags_and_bridge_frames_are_dropped,
    ),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let in_lab = std::env::var_os("BERTH_LAB").is_some_and(|value| value == "1");
    let reason = if in_lab { None } else { why_not() };
    if let (Some(reason), false) = (&reason, arguments.list) {
        return name_all(reason).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let trial = |(name, run): (&str, fn())| {
        let run = move || {
            run();
            Ok(())
        };
        Trial::test(name, run)
            .with_ignored_flag(true)
            .with_kind("kernel: root, nf_tables")
    };
    libtest_mimic::run(&arguments, TESTS.map(trial).into()).exit_code()
}

/// Why the tests cannot run here: tried, where there are the rights to try.
fn why_not() -> Option<String> {
    let asked = Nft::open().and_then(|nft| nft.generation());
    let tried = asked.and_then(|_| {
        let Ok(ns) = node::try_namespace() else {
            return Ok(());
        };
        let nft = Nft::open_in(&ns)?;
        let addresses = ["10.1.0.5/16".parse(), "fd00::5/64".parse()].map(Result::unwrap);
        cni_bridge_vlan::masquerade::add(&nft, &node::key("probe", 0), &addresses)?;
        cni_bridge_vlan::antispoof::add(&nft, &node::key("probe", 0), node::mac(0))
    });
    match tried {
        Err(error) if error.kind() == Kind::Unsupported => Some(error.to_string()),
        _ => None,
    }
}

/// Names every test as ignored, in libtest's words, which scripts/test counts.
fn name_all(reason: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    for (name, _) in TESTS {
        writeln!(out, "test {name} ... ignored, {reason}")?;
    }
    let count = TESTS.len();
    writeln!(
        out,
        "\ntest result: ok. 0 passed; 0 failed; {count} ignored; 0 measured; 0 filtered out"
    )
}
