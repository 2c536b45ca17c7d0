//! `berth vf list` and `show`, and the help's own examples.

use std::fs;

use berth_tests::{Context, Node, Result, Space, ensure};
use serde_json::Value;

use crate::{
    address, all, berth, done, entries, go_home, guest, netdev, numvfs, refused, without_vfs,
};

pub(crate) fn listed(node: &Node) -> Result<()> {
    without_vfs(node, || {
        assert!(entries()?.is_empty());
        done("bootstrap vfs pf0=4 pf1=1")?;
        fresh(&entries()?);
        let (host, moved) = (netdev("pf0", 0)?, netdev("pf0", 1)?);
        node.ip(&format!("addr add 10.9.0.1/24 dev {host}"))?;
        let pod = node.pod("c")?;
        let mut process = guest(&pod)?;
        node.move_link(&moved, &pod, "net0")?;
        set_apart(&address("pf0", 2)?, &address("pf0", 3)?)?;
        let list = entries()?;
        let states: Vec<&str> = list.iter().filter_map(|vf| vf["state"].as_str()).collect();
        let expected = ["in_use", "in_use", "quarantined", "reserved", "free"];
        assert_eq!(states, expected);
        assert_eq!(list[1]["netdev"], "net0");
        ensure!(list[1]["netns"].is_string(), "{}", list[1]);
        let text = done("vf list")?;
        let quarantine = "in quarantine (its MTU is 9000)";
        for part in ["net0 in /", quarantine, "10.9.0.1/24"] {
            ensure!(text.contains(part), "{part} in {text}");
        }
        go_home(&pod, &moved)?;
        process.kill()?;
        gone(node)
    })
}

/// As bootstrap makes them: four at the first PF, one at the second.
fn fresh(list: &[Value]) {
    assert_eq!(list.len(), 5);
    for vf in list {
        assert_eq!(
            (&vf["state"], &vf["driver"]),
            (&"free".into(), &"igbvf".into())
        );
    }
    assert_eq!(list[0]["pf_name"], "pf0");
    assert_eq!(list[0]["numa_node"], 0);
    assert_eq!(list[4]["numa_node"], 1);
}

/// Puts one VF into quarantine, and reserves another.
fn set_apart(quarantined: &str, reserved: &str) -> Result<()> {
    fs::create_dir_all("/run/berth/vf")?;
    let claim = r#"{"format": 1, "state": "quarantined", "reason": "its MTU is 9000"}"#;
    fs::write(format!("/run/berth/vf/{quarantined}"), claim)?;
    let reserved = format!(r#"{{"format": 1, "reserved_vfs": ["{reserved}"]}}"#);
    fs::write("/run/berth/node.json", reserved)?;
    Ok(())
}

/// A claim outlives its VF, and can be given up.
fn gone(node: &Node) -> Result<()> {
    let vf = address("pf0", 2)?;
    node.write(&numvfs("pf0"), "0")?;
    let said = berth("vf list")?;
    let note = format!("VF {vf}: there is a claim of it and no such VF");
    ensure!(said.stderr.contains(&note), "{}", all(&said));
    let said = done(&format!("vf release {vf}"))?;
    ensure!(said.contains("its claim was given up"), "{said}");
    let said = berth("vf list")?;
    ensure!(said.stderr.is_empty(), "{}", all(&said));
    refused(&format!("vf release {vf}"), &["there is no VF"])
}

pub(crate) fn shown(node: &Node) -> Result<()> {
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
        for way in ["received", "sent"] {
            ensure!(said[way]["packets"].is_u64(), "{way}: {}", said[way]);
        }
        assert_eq!(said["unknown"], Value::Array(Vec::new()));
        let text = done(&format!("vf show {vf}"))?;
        for part in [
            "100 qos 3 (802.1Q)",
            "not reported",
            "net0 in /",
            "rx 0",
            "DROPPED",
        ] {
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
pub(crate) fn examples(node: &Node) -> Result<()> {
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
