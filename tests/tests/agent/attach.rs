//! `berth attach` that succeeds: by namespace, by process, with wishes.

use std::fs;
use std::path::Path;

use berth_tests::{Need, Node, Result, Space, Test, ensure, plugin, test};
use serde_json::{Value, json};

use crate::kit::{self, Process, attach, attached, detach, network, remembered, write_conf};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    const PING: &[Need] = &[Need::Tool("ping")];
    const NSENTER: &[Need] = &[Need::Tool("nsenter")];
    vec![
        test("attached_namespaces_reach_each_other", PING, reach),
        test("result_is_what_the_plugin_printed", ROOT, result),
        test("a_running_process_is_attached", NSENTER, by_pid),
        test("address_and_mac_are_as_wished", ROOT, wishes),
        test("extra_arguments_reach_the_plugin", ROOT, arguments),
        test("a_second_interface_is_attached", ROOT, second_interface),
        test("plugins_lie_beside_berth", ROOT, beside),
    ]
}

fn reach(node: &Node) -> Result<()> {
    let (one, two) = (node.pod("one")?, node.pod("two")?);
    node.as_before(|| {
        attached(&one, "10.1.0.1/24")?;
        attached(&two, "10.1.0.2/24")?;
        let reached = one.ping("10.1.0.2".parse()?, 2)?.reached();
        ensure!(reached, "one does not reach two");
        detach("--netns /run/netns/two")?;
        let cut_off = one.ping("10.1.0.2".parse()?, 2)?.isolated();
        ensure!(cut_off, "two answers after its detach");
        detach("--netns /run/netns/one")
    })
}

fn result(node: &Node) -> Result<()> {
    let pod = node.pod("one")?;
    node.as_before(|| {
        let seen = attached(&pod, "10.1.0.1/24")?;
        assert_eq!(seen["cniVersion"], "1.0.0");
        assert_eq!(seen["interfaces"][0]["name"], "br0");
        let inside = &seen["interfaces"][2];
        assert_eq!(inside["name"], "eth0");
        assert_eq!(inside["sandbox"], "/run/netns/one");
        assert_eq!(inside["mac"], pod.link("eth0")?["address"]);
        assert_eq!(
            seen["ips"],
            json!([{"interface": 2, "address": "10.1.0.1/24"}])
        );
        // One attachment under the namespace's name: the plugin's record, the client's
        // result, which is the printed one.
        let files = remembered()?;
        assert_eq!(files.len(), 2, "{files:?}");
        let mut kept = 0;
        for file in &files {
            let text = fs::read_to_string(file)?;
            ensure!(file.ends_with("net/one:eth0.json"), "{}", file.display());
            let value: Value = serde_json::from_str(&text)?;
            kept += usize::from(value["result"] == seen);
        }
        ensure!(kept == 1, "{kept} of {files:?} keep the result");
        detach("--netns /run/netns/one")?;
        assert_eq!(pod.link_names()?, ["lo"]);
        assert_eq!(remembered()?, Vec::<std::path::PathBuf>::new());
        Ok(())
    })
}

fn by_pid(node: &Node) -> Result<()> {
    let process = Process::start(node)?;
    let pid = process.pid();
    node.as_before(|| {
        write_conf("net.conf", &kit::net())?;
        let seen = attach(&format!("--pid {pid} --ip 10.1.0.1/24 net.conf"))?;
        let sandbox = format!("/proc/{pid}/ns/net");
        assert_eq!(seen["interfaces"][2]["sandbox"], sandbox);
        let text = process.ip(node, "-4 addr show dev eth0")?;
        ensure!(
            text.contains(",UP") && text.contains("10.1.0.1/24"),
            "{text}"
        );
        // Its id holds the start time, so that a later process of this pid is another.
        let files = remembered()?;
        let id = format!("pid-{pid}-");
        let named = |file: &std::path::PathBuf| file.to_string_lossy().contains(&id);
        ensure!(files.iter().any(named), "{id} in {files:?}");
        detach(&format!("--pid {pid}"))?;
        let left = process.ip(node, "-br link show")?;
        ensure!(!left.contains("eth0"), "{left}");
        Ok(())
    })?;
    process.end()
}

/// Through the capability where the plugin declares it, else through CNI_ARGS.
fn wishes(node: &Node) -> Result<()> {
    let pod = node.pod("one")?;
    let mac = "02:00:5e:10:00:07";
    for conf in [kit::net(), network("net", json!({}))] {
        node.as_before(|| {
            write_conf("net.conf", &conf)?;
            let seen = attach(&format!(
                "--netns /run/netns/one --ip 10.1.0.7/24 --ip fd00:1::7/64 --mac {mac} net.conf"
            ))?;
            let live = pod.addresses("eth0")?;
            for address in ["10.1.0.7/24", "fd00:1::7/64"] {
                ensure!(live.iter().any(|a| a == address), "{address} in {live:?}");
            }
            assert_eq!(pod.link("eth0")?["address"], mac);
            assert_eq!(seen["interfaces"][2]["mac"], mac);
            detach("--netns /run/netns/one")
        })?;
    }
    Ok(())
}

fn arguments(node: &Node) -> Result<()> {
    let pod = node.pod("one")?;
    node.as_before(|| {
        write_conf("net.conf", &kit::net())?;
        let args = "IP=10.1.0.1/24;GATEWAY=10.1.0.254";
        let seen = attach(&format!("--netns /run/netns/one --args {args} net.conf"))?;
        assert_eq!(seen["ips"][0]["gateway"], "10.1.0.254");
        detach("--netns /run/netns/one")?;
        // The same by hand as what --ip says.
        let ips = r#"ips=["10.1.0.3/24"]"#;
        attach(&format!(
            "--netns /run/netns/one --container-id web-1 --capability {ips} net.conf"
        ))?;
        let live = pod.addresses("eth0")?;
        ensure!(live.iter().any(|a| a == "10.1.0.3/24"), "{live:?}");
        detach("--container-id web-1")
    })
}

fn second_interface(node: &Node) -> Result<()> {
    let pod = node.pod("one")?;
    node.as_before(|| {
        attached(&pod, "10.1.0.1/24")?;
        let wish = "--netns /run/netns/one --ifname net1 --ip 10.2.0.1/24 net.conf";
        let seen = attach(wish)?;
        assert_eq!(seen["interfaces"][2]["name"], "net1");
        assert_eq!(pod.link_names()?, ["lo", "eth0", "net1"]);
        detach("--netns /run/netns/one --ifname eth0")?;
        assert_eq!(pod.link_names()?, ["lo", "net1"]);
        let live = pod.addresses("net1")?;
        ensure!(live.iter().any(|a| a == "10.2.0.1/24"), "{live:?}");
        ensure!(node.has_link("br0")?, "the bridge is in use");
        detach("--netns /run/netns/one --ifname net1")
    })
}

/// An unpacked release works where it lies. The plugin's name there is none that an
/// installed one could have.
fn beside(node: &Node) -> Result<()> {
    let pod = node.pod("one")?;
    let dir = Path::new("/run/release");
    fs::create_dir(dir)?;
    let program = dir.join("berth");
    fs::copy(plugin::binary("berth")?, &program)?;
    fs::copy(plugin::binary("cni-bridge-vlan")?, dir.join("unpacked"))?;
    write_conf("net.conf", &network("net", json!({"type": "unpacked"})))?;
    node.as_before(|| {
        let line = "attach --netns /run/netns/one --ip 10.1.0.1/24 net.conf";
        let done = kit::run(&program, line)?;
        ensure!(done.status.success(), "{}", kit::all(&done));
        assert_eq!(pod.link_names()?, ["lo", "eth0"]);
        let done = kit::run(&program, "detach --netns /run/netns/one")?;
        ensure!(done.status.success(), "{}", kit::all(&done));
        Ok(())
    })
}
