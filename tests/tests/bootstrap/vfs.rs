//! `berth bootstrap`: made once, taken back, refused, completed.

use std::fs;
use std::process::Command;
use std::time::Duration;

use berth_tests::{Context, Node, Result, Space, command, ensure, plugin};

use crate::{
    address, admin_macs, all, berth, count, done, entries, go_home, netdev, numvfs, ready, refused,
    without_vfs,
};

pub(crate) fn made_once(node: &Node) -> Result<()> {
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

pub(crate) fn refused_whole(node: &Node) -> Result<()> {
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

pub(crate) fn in_use(node: &Node) -> Result<()> {
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

/// Killed at a random moment, and again, the run is completed by the next.
pub(crate) fn killed(node: &Node) -> Result<()> {
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
pub(crate) fn taken_back(node: &Node) -> Result<()> {
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

pub(crate) fn verify(node: &Node) -> Result<()> {
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

pub(crate) fn no_autoprobe(node: &Node) -> Result<()> {
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
