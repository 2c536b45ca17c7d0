//! One VF as facts: the PF's side of it, its link, queues, interrupts, driver.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Look, Vf, affinity, device, pf_name};
use crate::command;
use crate::node::Node;
use crate::snapshot::Snapshot;
use crate::space::Space;

/// What `ip` tells of a link that nobody set: numbering, carrier, what a driver offers,
/// the queueing discipline, which is another once a link was up, and the permanent
/// address, which igbvf takes from the present one at every reset.
const NOT_SET: [&str; 10] = [
    "permaddr",
    "ifindex",
    "operstate",
    "qdisc",
    "min_mtu",
    "max_mtu",
    "addr_info",
    "flags",
    "vfinfo_list",
    "parentdev",
];
/// Flags that follow the carrier.
const CARRIER: [&str; 3] = ["LOWER_UP", "NO-CARRIER", "RUNNING"];
const LINK_FILES: [&str; 3] = ["gro_flush_timeout", "napi_defer_hard_irqs", "threaded"];
const QUEUE_FILES: [&str; 6] = [
    "rps_cpus",
    "rps_flow_cnt",
    "xps_cpus",
    "xps_rxqs",
    "tx_maxrate",
    "byte_queue_limits/limit_max",
];
const DEVICE_FILES: [&str; 2] = ["driver_override", "physfn/sriov_drivers_autoprobe"];

/// The facts about `vfs`, whose links are looked for in `space`.
pub(super) fn read<S: Space>(node: &Node, space: &S, vfs: &[Vf], look: Look) -> Result<Snapshot> {
    let mut facts = Snapshot::default();
    let pfs = list(node)?;
    let links = list(space)?;
    for vf in vfs {
        let about = format!("VF {}", vf.address);
        put_side(&mut facts, &about, vf, &pfs)?;
        put_device(&mut facts, &about, vf)?;
        let own = links
            .iter()
            .filter(|l| l["parentdev"] == vf.address.as_str());
        for link in own {
            put_link(&mut facts, &about, link);
            let name = link["ifname"].as_str().unwrap_or_default();
            space.in_sys(|| {
                put_files(&mut facts, &about, name);
                Ok(())
            })?;
            if look == Look::Whole {
                put_ethtool(&mut facts, &about, space, name)?;
            }
        }
    }
    Ok(facts)
}

fn list(space: &impl Space) -> Result<Vec<Value>> {
    let all = space.ip_json("addr show")?;
    Ok(all.as_array().cloned().unwrap_or_default())
}

fn put_side(facts: &mut Snapshot, about: &str, vf: &Vf, links: &[Value]) -> Result<()> {
    let pf = pf_name(&vf.address)?;
    let pf = links.iter().find(|link| link["ifname"] == pf.as_str());
    let list = pf.and_then(|pf| pf["vfinfo_list"].as_array());
    let own = list.into_iter().flatten().find(|own| own["vf"] == vf.index);
    let own = own.with_context(|| format!("{about} is in no list of its PF"))?;
    for (key, value) in own.as_object().into_iter().flatten() {
        facts.put(format!("{about} PF side {key}"), value.to_string());
    }
    Ok(())
}

fn put_device(facts: &mut Snapshot, about: &str, vf: &Vf) -> Result<()> {
    let driver = vf.driver().unwrap_or_default();
    facts.put(format!("{about} driver"), driver);
    let device = device(&vf.address);
    for file in DEVICE_FILES {
        put_file(facts, about, &device.join(file), file);
    }
    let home = fs::read_to_string(device.join("local_cpulist")).unwrap_or_default();
    for (vector, irq) in vf.irqs()?.into_iter().enumerate() {
        // The file is there once the link was up for the first time.
        let cpus = affinity(irq).filter(|cpus| cpus != home.trim());
        let cpus = cpus.unwrap_or_else(|| "the device's".to_owned());
        facts.put(format!("{about} CPUs of vector {vector}"), cpus);
    }
    Ok(())
}

fn put_link(facts: &mut Snapshot, about: &str, link: &Value) {
    for (key, value) in link.as_object().into_iter().flatten() {
        if !NOT_SET.contains(&key.as_str()) {
            facts.put(format!("{about} link {key}"), value.to_string());
        }
    }
    let flags = link["flags"].as_array().into_iter().flatten();
    for flag in flags.filter_map(Value::as_str) {
        if !CARRIER.contains(&flag) {
            facts.put(format!("{about} flag {flag}"), "");
        }
    }
    for address in link["addr_info"].as_array().into_iter().flatten() {
        let local = address["local"].as_str().unwrap_or_default();
        facts.put(
            format!("{about} address {local}/{}", address["prefixlen"]),
            "",
        );
    }
}

fn put_files(facts: &mut Snapshot, about: &str, name: &str) {
    let link = Path::new("/sys/class/net").join(name);
    for file in LINK_FILES {
        put_file(facts, about, &link.join(file), file);
    }
    let queues = fs::read_dir(link.join("queues"));
    for queue in queues.into_iter().flatten().flatten() {
        let number = queue.file_name().to_string_lossy().into_owned();
        for file in QUEUE_FILES {
            let what = format!("{number} {file}");
            put_file(facts, about, &queue.path().join(file), &what);
        }
    }
}

/// Many files exist and cannot be read: the queue of a link with one has no XPS.
fn put_file(facts: &mut Snapshot, about: &str, path: &Path, what: &str) {
    if let Ok(text) = fs::read_to_string(path) {
        facts.put(format!("{about} {what}"), text.trim());
    }
}

fn put_ethtool(facts: &mut Snapshot, about: &str, space: &impl Space, name: &str) -> Result<()> {
    for (what, option) in [("feature", "-k"), ("ring", "-g"), ("coalesce", "-c")] {
        let mut ethtool: Command = space.command("ethtool");
        let text = command::run(ethtool.args(["--json", option, name]))?;
        let list: Value = serde_json::from_str(&text)
            .with_context(|| format!("`ethtool --json {option} {name}` printed no list"))?;
        for (key, value) in list[0].as_object().into_iter().flatten() {
            if key != "ifname" {
                facts.put(format!("{about} {what} {key}"), value.to_string());
            }
        }
    }
    Ok(())
}
