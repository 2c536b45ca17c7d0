//! Receive packet steering, as sysfs shows it on both ends.

use std::fs;
use std::path::Path;

use berth_tests::{Need, Node, Result, Space, Test, ensure, test};
use serde_json::{Value, json};

use crate::kit::{Attached, IFNAME, conf};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    vec![
        test("rps_list_is_set_on_both_ends", ROOT, list),
        test("rps_is_left_alone_unless_wished", ROOT, off),
        test(
            "rps_auto_takes_the_containers_cpus",
            &[Need::CgroupV2],
            auto,
        ),
    ]
}

fn wish(rps: Value) -> Value {
    conf("net", json!({"bridge": "br0", "rps": rps}))
}

/// The value of one file of every receive queue of `link`, which has at least one.
fn queues(space: &impl Space, link: &str, file: &str) -> Result<Vec<String>> {
    let count = space.link(link)?["num_rx_queues"].as_u64().unwrap_or(1);
    let mut seen = Vec::new();
    for queue in 0..count {
        let path = format!("class/net/{link}/queues/rx-{queue}/{file}");
        match space.read_sys(&path) {
            Ok(text) => seen.push(text),
            // More may be allocated than are in use.
            Err(_) if queue > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(seen)
}

/// The CPUs of a mask like `00000000,00000003`.
fn cpus(mask: &str) -> Vec<usize> {
    let digits = mask.chars().rev().filter_map(|c| c.to_digit(16));
    let bits = digits.enumerate().flat_map(|(place, digit)| {
        (0..4)
            .filter(move |bit| digit >> bit & 1 == 1)
            .map(move |bit| place * 4 + bit)
    });
    bits.collect()
}

/// Every receive queue of both ends is steered to exactly these CPUs.
fn must_be_on(node: &Node, pod: &Attached, wish: &[usize]) -> Result<()> {
    for mask in queues(node, &pod.port()?, "rps_cpus")? {
        ensure!(cpus(&mask) == wish, "port: {mask}, not {wish:?}");
    }
    for mask in queues(&pod.pod, IFNAME, "rps_cpus")? {
        ensure!(cpus(&mask) == wish, "container: {mask}, not {wish:?}");
    }
    Ok(())
}

fn list(node: &Node) -> Result<()> {
    let two = fs::read_to_string("/sys/devices/system/cpu/online")?.trim() != "0";
    let (text, wish_cpus) = if two {
        ("0-1", &[0, 1][..])
    } else {
        ("0", &[0][..])
    };
    node.as_before(|| {
        let pod = Attached::new(node, "one", wish(json!({"cpus": text, "flowEntries": 512})))?;
        must_be_on(node, &pod, wish_cpus)?;
        for flows in queues(node, &pod.port()?, "rps_flow_cnt")? {
            assert_eq!(flows, "512");
        }
        for flows in queues(&pod.pod, IFNAME, "rps_flow_cnt")? {
            assert_eq!(flows, "512");
        }
        pod.must_hold()?;
        pod.del()
    })
}

/// Off, and automatic where nothing is known of the container's CPUs.
fn off(node: &Node) -> Result<()> {
    node.as_before(|| {
        for rps in [json!({"cpus": "off"}), json!({"cpus": "auto"}), json!({})] {
            let pod = Attached::new(node, "one", wish(rps))?;
            must_be_on(node, &pod, &[])?;
            for flows in queues(node, &pod.port()?, "rps_flow_cnt")? {
                assert_eq!(flows, "0");
            }
            pod.must_hold()?;
            pod.del()?;
        }
        Ok(())
    })
}

/// A cgroup that goes with this value.
struct Cgroup(&'static Path);

impl Cgroup {
    fn with_cpus(path: &'static str, cpus: &str) -> Result<Self> {
        let cgroup = Self(Path::new(path));
        fs::create_dir(cgroup.0)?;
        fs::write(cgroup.0.join("cpuset.cpus"), cpus)?;
        Ok(cgroup)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        fs::remove_dir(self.0).ok();
    }
}

fn auto(node: &Node) -> Result<()> {
    node.as_before(|| {
        let _cgroup = Cgroup::with_cpus("/sys/fs/cgroup/bridge-rps-test", "1-2")?;
        let given = |path: &str| {
            let mut conf = wish(json!({"cpus": "auto"}));
            conf["runtimeConfig"] = json!({"cgroupPath": path});
            conf
        };
        let pod = Attached::new(node, "one", given("/bridge-rps-test"))?;
        must_be_on(node, &pod, &[1, 2])?;
        pod.must_hold()?;
        pod.del()?;
        // One that may run anywhere is steered nowhere.
        let pod = Attached::new(node, "two", given("/"))?;
        must_be_on(node, &pod, &[])?;
        pod.del()
    })
}
