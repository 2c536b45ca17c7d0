//! `berth detach`: repeated, after the container's end, of everything, past errors.

use std::fs;

use berth_tests::{Need, Node, Result, Space, Test, ensure, test};
use serde_json::json;

use crate::kit::{
    self, Process, attach, attached, detach, network, noted, remembered, told, write_conf,
};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    vec![
        test("detach_can_be_repeated", ROOT, twice),
        test("detach_works_after_the_process", ROOT, after_the_end),
        test("detach_works_after_the_namespace", ROOT, after_the_path),
        test("detach_all_takes_every_interface", ROOT, everything),
        test("what_is_attached_elsewhere_is_named", ROOT, elsewhere),
        test("a_failed_detach_can_be_repeated", ROOT, missing_plugin),
        test("detach_goes_by_what_attach_kept", ROOT, changed_file),
    ]
}

fn twice(node: &Node) -> Result<()> {
    let pod = node.pod("one")?;
    let process = Process::start(node)?;
    let of_process = format!("--pid {}", process.pid());
    node.as_before(|| {
        for (target, nothing) in [
            (
                "--netns /run/netns/one",
                "eth0 is not attached to container one",
            ),
            (&of_process, "eth0 is not attached to container pid-"),
        ] {
            write_conf("net.conf", &kit::net())?;
            attach(&format!("{target} --ip 10.1.0.1/24 net.conf"))?;
            detach(target)?;
            for _ in 0..2 {
                let note = noted(&format!("detach {target}"))?;
                ensure!(note.contains(nothing), "{note}");
            }
        }
        assert_eq!(pod.link_names()?, ["lo"]);
        Ok(())
    })?;
    process.end()
}

fn after_the_end(node: &Node) -> Result<()> {
    node.as_before(|| {
        let process = Process::start(node)?;
        let pid = process.pid();
        write_conf("net.conf", &kit::net())?;
        attach(&format!("--pid {pid} --ip 10.1.0.1/24 net.conf"))?;
        attach(&format!(
            "--pid {pid} --ifname net1 --ip 10.2.0.1/24 net.conf"
        ))?;
        process.end()?;
        assert_eq!(remembered()?.len(), 4, "{:?}", remembered()?);
        detach(&format!("--pid {pid}"))?;
        assert_eq!(remembered()?.len(), 2, "{:?}", remembered()?);
        detach(&format!("--pid {pid} --all"))?;
        assert_eq!(remembered()?.len(), 0, "{:?}", remembered()?);
        let note = noted(&format!("detach --pid {pid}"))?;
        let wish = format!("nothing is attached to process {pid}");
        ensure!(note.contains(&wish), "{note}");
        Ok(())
    })
}

fn after_the_path(node: &Node) -> Result<()> {
    node.as_before(|| {
        let pod = node.pod("one")?;
        attached(&pod, "10.1.0.1/24")?;
        drop(pod);
        detach("--netns /run/netns/one")
    })
}

fn everything(node: &Node) -> Result<()> {
    let (one, two) = (node.pod("one")?, node.pod("two")?);
    node.as_before(|| {
        attached(&one, "10.1.0.1/24")?;
        attached(&two, "10.1.0.2/24")?;
        let other = network("other", json!({"bridge": "br1"}));
        write_conf("other.conf", &other)?;
        for (ifname, conf) in [("net1", "net.conf"), ("net2", "other.conf")] {
            let wish = format!("--ifname {ifname} --ip 10.2.0.1/24 {conf}");
            attach(&format!("--netns /run/netns/one {wish}"))?;
        }
        assert_eq!(one.link_names()?, ["lo", "eth0", "net1", "net2"]);
        detach("--netns /run/netns/one --all")?;
        assert_eq!(one.link_names()?, ["lo"]);
        ensure!(!node.has_link("br1")?, "nobody uses br1 any more");
        assert_eq!(two.link_names()?, ["lo", "eth0"], "that is another's");
        let note = noted("detach --container-id one --all")?;
        ensure!(
            note.contains("nothing is attached to container one"),
            "{note}"
        );
        detach("--container-id two --all")
    })
}

fn elsewhere(node: &Node) -> Result<()> {
    let pod = node.pod("one")?;
    node.as_before(|| {
        attached(&pod, "10.1.0.1/24")?;
        let note = noted("detach --netns /run/netns/one --ifname net1")?;
        ensure!(note.contains("it has eth0 (network net)"), "{note}");
        assert_eq!(pod.link_names()?, ["lo", "eth0"]);
        detach("--netns /run/netns/one")
    })
}

fn missing_plugin(node: &Node) -> Result<()> {
    let (one, two) = (node.pod("one")?, node.pod("two")?);
    node.as_before(|| {
        attached(&one, "10.1.0.1/24")?;
        attached(&two, "10.1.0.2/24")?;
        let line = "detach --cni-path /run/nothing --netns /run/netns/one";
        let says = ["detach eth0 of container one", "/run/nothing", "install it"];
        told(line, 7, &says)?;
        assert_eq!(one.link_names()?, ["lo", "eth0"]);
        detach("--netns /run/netns/one")?;
        assert_eq!(one.link_names()?, ["lo"]);
        detach("--netns /run/netns/two")
    })
}

/// The file may say something else by now, or be gone.
fn changed_file(node: &Node) -> Result<()> {
    let pod = node.pod("one")?;
    node.as_before(|| {
        attached(&pod, "10.1.0.1/24")?;
        fs::remove_file(format!("{}/net.conf", kit::HERE))?;
        detach("--netns /run/netns/one")?;
        attached(&pod, "10.1.0.1/24")?;
        write_conf("net.conf", &network("net", json!({"bridge": "br7"})))?;
        detach("--netns /run/netns/one net.conf")?;
        assert_eq!(pod.link_names()?, ["lo"]);
        Ok(())
    })
}
