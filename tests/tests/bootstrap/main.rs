//! Suite `bootstrap`: `berth bootstrap` and `berth vf` on real functions. Every test
//! works where the ports live, and leaves them without VFs.

use std::fs;
use std::process::{Command, ExitCode};
use std::time::Duration;

use berth_tests::command::{self, Finished, Started};
use berth_tests::{Context, Need, Node, Pod, Result, Space, Test, ensure, plugin, suite, test};
use serde_json::Value;

mod release;

fn main() -> ExitCode {
    const LAB: &[Need] = &[Need::Sriov, Need::Wire];
    let here = |name, body: fn(&Node) -> Result<()>| -> Test {
        test(name, LAB, body)
            .at_home()
            .limit(Duration::from_secs(240))
    };
    suite(vec![
        here("vfs_are_made_once_with_stable_macs", made_once),
        here("what_cannot_be_is_refused_before_a_change", refused_whole),
        here("a_vf_in_use_keeps_the_number", in_use),
        here("a_killed_run_is_completed", killed),
        here("a_failure_takes_back_every_pf", taken_back),
        here("verify_tells_each_difference", verify),
        here("without_autoprobe_drivers_are_left_alone", no_autoprobe),
        here("vfs_are_listed_with_place_and_state", listed),
        here("a_vf_in_a_container_is_shown", shown),
        here("a_quarantined_vf_is_brought_back", release::quarantined),
        here("a_dead_containers_vf_is_brought_back", release::dead),
        here(
            "a_vf_of_which_nothing_is_known_gets_defaults",
            release::unknown,
        ),
        here("examples_work_as_printed", examples),
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

fn made_once(node: &Node) -> Result<()> {
    without_vfs(node, || {
        let foretold = done("bootstrap vfs pf0=7 --dry-run")?;
        ensure!(foretold.contains("make 7 VFs (had 0)"), "{foretold}");
        ensure!(foretold.lines().count() == 9, "{foretold}");
        assert_eq!(count(node, "pf0")?, "0");
        let said = done("bootstrap vfs pf0=7")?;
        ensure!(said.contains("make 7 VFs (had 0)"), "{said}");
        ready(node, "pf0", 7)?;
        let macs = admin_macs(node, "pf0")?;
        for mac in &macs {
            ensure!(foretold.contains(mac), "{mac} was not foretold: {foretold}");
        }
        let before = node.snapshot()?;
        let again = done("bootstrap vfs pf0=7")?;
        ensure!(again.trim_end().ends_with(": 7 VFs, as wished"), "{again}");
        before.must_equal(&node.snapshot()?)?;
        assert_eq!(done("bootstrap verify pf0=7")?, "");
        // As after a boot.
        node.write(&numvfs("pf0"), "0")?;
        done("bootstrap vfs pf0=3")?;
        assert_eq!(admin_macs(node, "pf0")?, macs[..3]);
        ready(node, "pf0", 3)?;
        done("bootstrap vfs pf0=0")?;
        assert_eq!(count(node, "pf0")?, "0");
        Ok(())
    })
}

fn refused_whole(node: &Node) -> Result<()> {
    without_vfs(node, || {
        let before = node.snapshot()?;
        for (line, says) in [
            ("vfs pf0=2 pf1=8", "pf1"),
            ("vfs pf0=2 nope0=1", "there is no interface nope0"),
            (
                "vfs pf0=2 0000:ff:1f.7=1",
                "no physical function of a network card",
            ),
            ("vfs pf0=2 lo=1", "no physical function of a network card"),
        ] {
            refused(&format!("bootstrap {line}"), &[says])?;
        }
        let named = node.read_sys("class/net/pf0/device/uevent")?;
        let slot = named.lines().find_map(|l| l.strip_prefix("PCI_SLOT_NAME="));
        let twice = format!("bootstrap vfs pf0=2 {}=2", slot.context("no slot")?);
        refused(&twice, &["is named twice"])?;
        before.must_equal(&node.snapshot()?)?;
        Ok(())
    })
}

/// A process in the namespace of `pod`: one that lives.
fn guest(pod: &Pod) -> Result<Started> {
    command::start(pod.command("sleep").arg("300"), b"")
}

fn in_use(node: &Node) -> Result<()> {
    without_vfs(node, || {
        done("bootstrap vfs pf0=2 --mtu 1500")?;
        let name = netdev("pf0", 1)?;
        let vf = address("pf0", 1)?;
        node.ip(&format!("addr add 10.9.0.1/24 dev {name}"))?;
        for wish in ["pf0=3", "pf0=0", "pf0=2 --mtu 2000"] {
            let line = format!("bootstrap vfs {wish}");
            let why = "the host uses it with address 10.9.0.1/24";
            refused(&line, &[&vf, why, "remove the address"])?;
        }
        node.ip(&format!("addr del 10.9.0.1/24 dev {name}"))?;
        let pod = node.pod("c")?;
        node.move_link(&name, &pod, "net0")?;
        let line = "bootstrap vfs pf0=3";
        refused(line, &[&vf, "end the container that has it"])?;
        let said = done("bootstrap vfs pf0=2")?;
        ensure!(said.contains("as wished"), "{said}");
        go_home(&pod, &name)
    })
}

/// Brings the VF of a pod, `net0` there, home under its old name.
fn go_home(pod: &Pod, name: &str) -> Result<()> {
    let here = format!("/proc/{}/ns/net", std::process::id());
    pod.ip(&format!("link set net0 netns {here} name {name}"))?;
    Ok(())
}

/// Killed at a random moment, and again, the run is completed by the next.
fn killed(node: &Node) -> Result<()> {
    without_vfs(node, || {
        let program = plugin::binary("berth")?;
        for pause in [200, 1500, 3000, 4500] {
            let mut command = Command::new(&program);
            command.args(["bootstrap", "vfs", "pf0=4"]);
            let mut run = command::start(&mut command, b"")?;
            std::thread::sleep(Duration::from_millis(pause));
            run.kill()?;
        }
        done("bootstrap vfs pf0=4")?;
        ready(node, "pf0", 4)?;
        assert_eq!(done("bootstrap verify pf0=4")?, "");
        Ok(())
    })
}

/// Without a driver for its VFs the second PF fails, when the first is done.
fn taken_back(node: &Node) -> Result<()> {
    without_vfs(node, || {
        node.run("rmmod igbvf")?;
        let before = node.snapshot()?;
        let line = "bootstrap vfs pf0=0 pf1=2 --mtu 2000";
        let says = ["no driver is bound to it; load it: modprobe", "taken back"];
        let result = refused(line, &says);
        node.run("modprobe igbvf")?;
        result?;
        before.must_return(Duration::from_secs(10))?;
        // Nothing of it stands in the way now.
        done(line)?;
        ready(node, "pf1", 2)?;
        assert_eq!(node.link("pf0")?["mtu"], 2000);
        Ok(())
    })
}

fn verify(node: &Node) -> Result<()> {
    without_vfs(node, || {
        let differs = |line: &str| -> Result<String> {
            let done = berth(&format!("bootstrap verify {line}"))?;
            ensure!(done.status.code() == Some(1), "{}", all(&done));
            ensure!(done.stderr.is_empty(), "{}", all(&done));
            Ok(done.stdout)
        };
        let said = differs("pf0=2")?;
        ensure!(said.contains("it is down"), "{said}");
        ensure!(said.contains("it has 0 VFs, not 2"), "{said}");
        done("bootstrap vfs pf0=2")?;
        assert_eq!(done("bootstrap verify pf0=2")?, "");
        let vf = address("pf0", 1)?;
        node.ip("link set pf0 vf 1 mac 02:00:00:00:00:77")?;
        node.write("/sys/bus/pci/drivers/igbvf/unbind", &vf)?;
        let said = differs("pf0=2 --mtu 2000")?;
        ensure!(said.lines().count() == 3, "{said}");
        for part in [
            "its MTU is 1500, not 2000".to_owned(),
            format!("VF 1 ({vf}): its MAC at the PF is 02:00:00:00:00:77, not "),
            format!("VF 1 ({vf}): no driver is bound to it"),
        ] {
            ensure!(said.contains(&part), "{part} in {said}");
        }
        let said = done("bootstrap vfs pf0=2")?;
        ensure!(said.contains("bind its driver"), "{said}");
        ready(node, "pf0", 2)
    })
}

fn no_autoprobe(node: &Node) -> Result<()> {
    without_vfs(node, || {
        let file = "/sys/class/net/pf0/device/sriov_drivers_autoprobe";
        node.write(file, "0")?;
        let made = berth("bootstrap vfs pf0=2")?;
        ensure!(made.status.success(), "{}", all(&made));
        let note = "sriov_drivers_autoprobe is 0";
        ensure!(made.stderr.contains(note), "{}", all(&made));
        assert_eq!(fs::read_to_string(file)?.trim(), "0");
        ensure!(netdev("pf0", 0).is_err(), "a driver was bound");
        ensure!(!admin_macs(node, "pf0")?[0].starts_with("00:00"));
        let list = entries()?;
        assert_eq!(list[0]["state"], "unusable");
        Ok(())
    })
}

/// `berth vf list -o json`.
fn entries() -> Result<Vec<Value>> {
    let said: Value = serde_json::from_str(&done("vf list -o json")?)?;
    assert_eq!(said["schema"], 1);
    let vfs = said["vfs"].as_array().context("no list")?;
    Ok(vfs.clone())
}

fn listed(node: &Node) -> Result<()> {
    without_vfs(node, || {
        assert!(entries()?.is_empty());
        done("bootstrap vfs pf0=4 pf1=1")?;
        let list = entries()?;
        assert_eq!(list.len(), 5);
        for vf in &list {
            assert_eq!(
                (&vf["state"], &vf["driver"]),
                (&"free".into(), &"igbvf".into())
            );
        }
        assert_eq!(list[0]["pf_name"], "pf0");
        assert_eq!(list[0]["numa_node"], 0);
        assert_eq!(list[4]["numa_node"], 1);
        let (host, moved) = (netdev("pf0", 0)?, netdev("pf0", 1)?);
        node.ip(&format!("addr add 10.9.0.1/24 dev {host}"))?;
        let pod = node.pod("c")?;
        let mut process = guest(&pod)?;
        node.move_link(&moved, &pod, "net0")?;
        fs::create_dir_all("/run/berth/vf")?;
        let claim = |text: &str, index| -> Result<()> {
            let path = format!("/run/berth/vf/{}", address("pf0", index)?);
            Ok(fs::write(path, text)?)
        };
        claim(
            r#"{"format": 1, "state": "quarantined", "reason": "its MTU is 9000"}"#,
            2,
        )?;
        let reserved = format!(
            r#"{{"format": 1, "reserved_vfs": ["{}"]}}"#,
            address("pf0", 3)?
        );
        fs::write("/run/berth/node.json", reserved)?;
        let list = entries()?;
        let states: Vec<&str> = list.iter().filter_map(|vf| vf["state"].as_str()).collect();
        assert_eq!(
            states,
            ["in_use", "in_use", "quarantined", "reserved", "free"]
        );
        assert_eq!(list[1]["netdev"], "net0");
        ensure!(list[1]["netns"].is_string(), "{}", list[1]);
        let text = done("vf list")?;
        for part in [
            "net0 in /",
            "in quarantine (its MTU is 9000)",
            "10.9.0.1/24",
        ] {
            ensure!(text.contains(part), "{part} in {text}");
        }
        go_home(&pod, &moved)?;
        process.kill()?;
        Ok(())
    })
}

fn shown(node: &Node) -> Result<()> {
    without_vfs(node, || {
        done("bootstrap vfs pf0=1")?;
        let (vf, name) = (address("pf0", 0)?, netdev("pf0", 0)?);
        node.ip("link set pf0 vf 0 vlan 100 qos 3")?;
        let pod = node.pod("c")?;
        let mut process = guest(&pod)?;
        node.move_link(&name, &pod, "net0")?;
        pod.ip("link set net0 up")?;
        let said: Value = serde_json::from_str(&done(&format!("vf show {vf} -o json"))?)?;
        assert_eq!(
            (&said["schema"], &said["address"]),
            (&1.into(), &vf.clone().into())
        );
        let side = &said["at_pf"];
        assert_eq!((&side["vlan"], &side["vlan_qos"]), (&100.into(), &3.into()));
        assert_eq!(side["query_rss"], Value::Null, "igb does not report it");
        assert_eq!(said["link"]["name"], "net0");
        assert_eq!(said["link"]["up"], true);
        let vectors = said["vectors"].as_array().context("no vectors")?;
        let roles: Vec<&str> = vectors.iter().filter_map(|v| v["role"].as_str()).collect();
        assert_eq!(roles, ["tx 0", "rx 0", "control"]);
        for vector in vectors {
            let irq = &vector["irq"];
            let path = format!("/proc/irq/{irq}/smp_affinity_list");
            assert_eq!(vector["actual"], fs::read_to_string(path)?.trim());
        }
        assert_eq!(said["rx_queues"][0]["rps_cpus"], "");
        assert_eq!(said["unknown"], Value::Array(Vec::new()));
        let text = done(&format!("vf show {vf}"))?;
        for part in ["100 qos 3 (802.1Q)", "not reported", "net0 in /", "rx 0"] {
            ensure!(text.contains(part), "{part} in {text}");
        }
        refused("vf show 0000:ff:1f.7", &["there is no VF 0000:ff:1f.7"])?;
        go_home(&pod, &name)?;
        process.kill()?;
        Ok(())
    })
}

/// The lines below "Examples:" in the help of `berth VERB`.
fn examples_of(verb: &str) -> Result<Vec<String>> {
    let text = done(&format!("{verb} --help"))?;
    let (_, rest) = text.split_once("Examples:\n").context("no examples")?;
    let lines = rest
        .lines()
        .filter_map(|line| line.strip_prefix("  berth "));
    Ok(lines.map(str::to_owned).collect())
}

/// On the functions that are here.
fn examples(node: &Node) -> Result<()> {
    without_vfs(node, || {
        let uevent = node.read_sys("class/net/pf1/device/uevent")?;
        let slot = uevent
            .lines()
            .find_map(|l| l.strip_prefix("PCI_SLOT_NAME="));
        let pf1 = slot.context("no slot")?;
        for verb in ["bootstrap vfs", "bootstrap verify", "vf show", "vf release"] {
            let lines = examples_of(verb)?;
            ensure!(lines.len() >= 2, "{verb}: {lines:?}");
            for line in lines {
                let mut line = line.replace("0000:41:00.0", pf1);
                if line.contains("0000:01:10.2") {
                    line = line.replace("0000:01:10.2", &address("pf0", 1)?);
                }
                let said = done(&line).with_context(|| line.clone())?;
                ensure!(
                    said.is_empty() == line.contains(" verify "),
                    "{line}: {said}"
                );
            }
        }
        Ok(())
    })
}
