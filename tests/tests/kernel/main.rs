//! Suite `kernel`: the tests of `lib/kernel`, and those of a plugin's rulesets, on the
//! guest's kernel, which has what the machine's own may lack: VLANs on bridges, 802.1Q,
//! nf_tables, SR-IOV, project quota.

mod vf;

use std::process::{Command, ExitCode};
use std::time::Duration;

use berth_tests::{Need, Node, Result, command, ensure, plugin, suite, test};

/// How long all tests of one program may take in emulation.
const LIMIT: Duration = Duration::from_secs(480);

fn netlink(_node: &Node) -> Result<()> {
    run("netlink")
}

fn links(_node: &Node) -> Result<()> {
    run("links")
}

fn surfaces(_node: &Node) -> Result<()> {
    run("surfaces")
}

fn disks(_node: &Node) -> Result<()> {
    run("disks")
}

fn cgroups(_node: &Node) -> Result<()> {
    run("cgroups")
}

fn nftables(_node: &Node) -> Result<()> {
    run("nftables")
}

fn rulesets(_node: &Node) -> Result<()> {
    run("rulesets")
}

/// Runs a test program, every test of it.
fn run(program: &str) -> Result<()> {
    let mut tests = Command::new(plugin::binary(program)?);
    tests.args(["--include-ignored", "--test-threads", "1"]);
    let done = command::start(&mut tests, b"")?.finish(LIMIT)?;
    ensure!(done.status.success(), "{}\n{}", done.stdout, done.stderr);
    let line = done
        .stdout
        .lines()
        .find(|line| line.starts_with("test result:"));
    let ran = line.is_some_and(|line| line.contains("; 0 ignored;") && !line.contains(" 0 passed"));
    ensure!(ran, "not every test ran: {}", done.stdout);
    Ok(())
}

fn main() -> ExitCode {
    let needs = &[Need::VlanFiltering, Need::Vlan8021q];
    let mut tests = vec![
        test("netlink", needs, netlink).limit(LIMIT),
        test("links", needs, links).limit(LIMIT),
        test("surfaces", needs, surfaces).limit(LIMIT),
        test("cgroups", &[Need::CgroupV2], cgroups).limit(LIMIT),
    ];
    let nft = &[Need::Nftables];
    tests.push(test("nftables", nft, nftables).limit(LIMIT));
    tests.push(test("rulesets", nft, rulesets).limit(LIMIT));
    let quota = &[Need::XfsQuota, Need::Ext4Quota, Need::Tool("perl")];
    tests.push(test("disks", quota, disks).limit(LIMIT));
    tests.extend(vf::tests());
    suite(tests)
}
