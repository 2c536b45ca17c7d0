//! Suite `bootstrap`: `berth bootstrap` and `berth vf` on real functions. Every test
//! works where the ports live, and leaves them without VFs.

use std::fs;
use std::process::{Command, ExitCode};
use std::time::Duration;

use berth_tests::command::{self, Finished, Started};
use berth_tests::{Context, Need, Node, Pod, Result, Space, Test, ensure, plugin, suite, test};
use serde_json::Value;

mod release;
mod vf;
mod vfs;

fn main() -> ExitCode {
    const LAB: &[Need] = &[Need::Sriov, Need::Wire];
    let here = |name, body: fn(&Node) -> Result<()>| -> Test {
        test(name, LAB, body)
            .at_home()
            .limit(Duration::from_secs(240))
    };
    suite(vec![
        here("vfs_are_made_once_with_stable_macs", vfs::made_once),
        here(
            "what_cannot_be_is_refused_before_a_change",
            vfs::refused_whole,
        ),
        here("a_vf_in_use_keeps_the_number", vfs::in_use),
        here("a_killed_run_is_completed", vfs::killed),
        here("a_failure_takes_back_every_pf", vfs::taken_back),
        here("verify_tells_each_difference", vfs::verify),
        here(
            "without_autoprobe_drivers_are_left_alone",
            vfs::no_autoprobe,
        ),
        here("vfs_are_listed_with_place_and_state", vf::listed),
        here("a_vf_in_a_container_is_shown", vf::shown),
        here("a_quarantined_vf_is_brought_back", release::quarantined),
        here("a_dead_containers_vf_is_brought_back", release::dead),
        here(
            "a_vf_of_which_nothing_is_known_gets_defaults",
            release::unknown,
        ),
        here("examples_work_as_printed", vf::examples),
    ])
}

/// Made by the PFs' permanent addresses, so the same wherever this runs.
const PFS: [&str; 2] = ["pf0", "pf1"];

fn berth(line: &str) -> Result<Finished> {
    let mut command = Command::new(plugin::binary("berth")?);
    command.args(line.split_whitespace());
    command::start(&mut command, b"")?.finish(Duration::from_secs(120))
}

fn all(done: &Finished) -> String {
    format!(
        "{}; stdout: {}; stderr: {}",
        done.status, done.stdout, done.stderr
    )
}

/// `berth LINE` that must succeed without a note: what it printed.
fn done(line: &str) -> Result<String> {
    let done = berth(line)?;
    let quiet = done.status.success() && done.stderr.is_empty();
    ensure!(quiet, "`berth {line}`: {}", all(&done));
    Ok(done.stdout)
}

/// `berth LINE` that must end with 1 and an error that says all of this.
fn refused(line: &str, says: &[&str]) -> Result<()> {
    let done = berth(line)?;
    let all = all(&done);
    ensure!(done.status.code() == Some(1), "`berth {line}`: {all}");
    for part in says {
        ensure!(done.stderr.contains(part), "{part:?} is not in: {all}");
    }
    Ok(())
}

/// Runs `work` and takes away all VFs, and what it left of claims.
fn without_vfs(node: &Node, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let result = work();
    for pf in PFS {
        node.write(&numvfs(pf), "0")?;
        let autoprobe = format!("/sys/class/net/{pf}/device/sriov_drivers_autoprobe");
        node.write(&autoprobe, "1")?;
    }
    result
}

fn numvfs(pf: &str) -> String {
    format!("/sys/class/net/{pf}/device/sriov_numvfs")
}

fn count(node: &Node, pf: &str) -> Result<String> {
    node.read_sys(&format!("class/net/{pf}/device/sriov_numvfs"))
}

/// PCI address of a VF.
fn address(pf: &str, index: u32) -> Result<String> {
    let link = fs::read_link(format!("/sys/class/net/{pf}/device/virtfn{index}"))?;
    let name = link.file_name().context("no address")?;
    Ok(name.to_string_lossy().into_owned())
}

/// The network device of a VF that is here.
fn netdev(pf: &str, index: u32) -> Result<String> {
    let dir = format!("/sys/class/net/{pf}/device/virtfn{index}/net");
    let mut names = fs::read_dir(&dir)?.flatten();
    let name = names.next().with_context(|| format!("{dir} is empty"))?;
    Ok(name.file_name().to_string_lossy().into_owned())
}

/// The MACs of a PF's VFs as the PF tells them.
fn admin_macs(node: &Node, pf: &str) -> Result<Vec<String>> {
    let link = node.link(pf)?;
    let vfs = link["vfinfo_list"].as_array().cloned().unwrap_or_default();
    let mac = |vf: &Value| vf["address"].as_str().map(str::to_owned);
    Ok(vfs.iter().filter_map(mac).collect())
}

/// Whether every VF has a driver and a network device with the MAC the PF tells.
fn ready(node: &Node, pf: &str, wished: u32) -> Result<()> {
    let macs = admin_macs(node, pf)?;
    ensure!(macs.len() == wished as usize, "{pf}: {macs:?}");
    for index in 0..wished {
        let name = netdev(pf, index)?;
        let mac = &node.link(&name)?["address"];
        ensure!(*mac == macs[index as usize], "{name}: {mac}, {macs:?}");
        let first = u8::from_str_radix(&macs[index as usize][..2], 16)?;
        ensure!(first & 3 == 2, "not local: {macs:?}");
    }
    Ok(())
}

/// A process in the namespace of `pod`: one that lives.
fn guest(pod: &Pod) -> Result<Started> {
    command::start(pod.command("sleep").arg("300"), b"")
}

/// Brings the VF of a pod, `net0` there, home under its old name.
fn go_home(pod: &Pod, name: &str) -> Result<()> {
    let here = format!("/proc/{}/ns/net", std::process::id());
    pod.ip(&format!("link set net0 netns {here} name {name}"))?;
    Ok(())
}

/// `berth vf list -o json`.
fn entries() -> Result<Vec<Value>> {
    let said: Value = serde_json::from_str(&done("vf list -o json")?)?;
    assert_eq!(said["schema"], 1);
    let vfs = said["vfs"].as_array().context("no list")?;
    Ok(vfs.clone())
}
