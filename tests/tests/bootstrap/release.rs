//! `berth vf release` on a real function: claims and records are written as a plugin
//! writes them, then the VF is changed as a container might.

use berth_kernel::netlink::Net;
use berth_kernel::{NetNs, PciAddr, Root, pci};
use berth_state::record::{ContainerSide, Host, NetnsRef, Phase, Record, SavedRequest};
use berth_state::vf::{SriovHost, VfSet, capture, side};
use berth_state::{Claims, Key, Records, Writer, boot};
use berth_tests::{Context, Node, Result, Space, ensure};
use serde_json::Value;

use crate::{address, berth, done, entries, netdev, refused, without_vfs};

/// What the VF is now, as a plugin remembers it.
fn host(vf: PciAddr) -> Result<SriovHost> {
    let (root, net) = (Root::host(), Net::open()?);
    let (pf, function) = pci::virtual_function(&root, vf)?.context("no such VF")?;
    Ok(SriovHost {
        pf: pf.address,
        pf_name: "pf0".parse()?,
        vf,
        index: function.index,
        driver: function.driver.clone().context("no driver")?,
        baseline: capture(&root, &net, &function, side(&net, &pf, function.index)?.1)?,
        irqs: Default::default(),
        set: VfSet::default(),
    })
}

fn key() -> Result<Key> {
    Ok("game/web-1:net0".parse()?)
}

/// A process that has ended: nothing started with pid 1 at that time.
const DEAD: Writer = Writer {
    pid: 1,
    start_time: u64::MAX,
};

fn record(host: SriovHost, netns: NetnsRef) -> Result<Record> {
    Ok(Record {
        key: key()?,
        phase: Phase::Committed,
        boot_id: boot::boot_id(&Root::host())?,
        writer: DEAD,
        netns,
        host: Host::Sriov(Box::new(host)),
        container: ContainerSide::default(),
        rps: None,
        cgroup_path: None,
        request: SavedRequest::default(),
    })
}

/// Whether the PF puts a VF into VLAN 100.
fn tagged(node: &Node) -> Result<bool> {
    Ok(node.ip("link show dev pf0")?.contains("vlan 100"))
}

fn state() -> Result<Value> {
    Ok(entries()?[0]["state"].clone())
}

pub(crate) fn quarantined(node: &Node) -> Result<()> {
    without_vfs(node, || {
        done("bootstrap vfs pf0=1")?;
        let (vf, name) = (address("pf0", 0)?, netdev("pf0", 0)?);
        let before = node.snapshot()?;
        let claims = Claims::new(&Root::host());
        claims.quarantine(vf.parse()?, "its MTU is 9000", Some(&host(vf.parse()?)?))?;
        node.ip(&format!("link set {name} mtu 1400 txqueuelen 7 alias odd"))?;
        node.ip("link set pf0 vf 0 vlan 100")?;
        assert!(tagged(node)?);
        assert_eq!(state()?, "quarantined");
        refused("bootstrap vfs pf0=2", &["berth vf release", &vf])?;
        let told = done(&format!("vf release {vf} --dry-run"))?;
        for part in ["in quarantine", "1400", "100"] {
            ensure!(told.contains(part), "{part} in {told}");
        }
        assert_eq!(state()?, "quarantined");
        let said = done(&format!("vf release {vf}"))?;
        ensure!(
            said.contains("it was brought back to what it was"),
            "{said}"
        );
        assert_eq!(state()?, "free");
        assert!(!tagged(node)?);
        let after = node.snapshot()?.without("file /run/berth");
        before.without("file /run/berth").must_equal(&after)?;
        let again = done(&format!("vf release {vf}"))?;
        ensure!(again.contains("is free; nothing was changed"), "{again}");
        Ok(())
    })
}

pub(crate) fn dead(node: &Node) -> Result<()> {
    without_vfs(node, || {
        done("bootstrap vfs pf0=1")?;
        let (vf, name) = (address("pf0", 0)?, netdev("pf0", 0)?);
        let pod = node.pod("web-1")?;
        let netns = NetnsRef::of(&NetNs::open(pod.path())?)?;
        let root = Root::host();
        Claims::new(&root).claim(vf.parse()?, &key()?, DEAD)?;
        Records::new(&root).create(&record(host(vf.parse()?)?, netns)?)?;
        node.ip("link set pf0 vf 0 vlan 100")?;
        assert!(tagged(node)?);
        node.move_link(&name, &pod, "net0")?;
        pod.ip("link set net0 mtu 1300 up")?;
        let line = format!("vf release {vf}");
        let way_out = "berth detach --container-id web-1 --ifname net0";
        for line in [line.clone(), format!("{line} --dry-run")] {
            refused(&line, &["attachment game/web-1:net0 lives", way_out])?;
        }
        refused("bootstrap vfs pf0=0", &["claimed by game/web-1:net0"])?;
        assert_eq!(pod.link("net0")?["mtu"], 1300);
        drop(pod);
        let said = berth(&line)?;
        ensure!(said.status.success(), "{}", crate::all(&said));
        ensure!(
            said.stderr.contains("its record stays for DEL or GC"),
            "{}",
            crate::all(&said)
        );
        assert_eq!((state()?, netdev("pf0", 0)?), ("free".into(), name.clone()));
        assert_eq!(node.link(&name)?["mtu"], 1500);
        assert!(!tagged(node)?);
        ensure!(Records::new(&root).load(&key()?)?.is_some(), "record gone");
        Ok(())
    })
}

pub(crate) fn unknown(node: &Node) -> Result<()> {
    without_vfs(node, || {
        done("bootstrap vfs pf0=1")?;
        let (vf, name) = (address("pf0", 0)?, netdev("pf0", 0)?);
        let claims = Claims::new(&Root::host());
        claims.claim(vf.parse()?, &key()?, DEAD)?;
        node.ip("link set pf0 vf 0 vlan 100")?;
        assert!(tagged(node)?);
        node.ip(&format!("link set {name} mtu 1400"))?;
        let told = done(&format!("vf release {vf} --dry-run"))?;
        ensure!(told.contains("nobody knows what it was"), "{told}");
        let said = done(&format!("vf release {vf}"))?;
        ensure!(said.contains("given the driver's defaults"), "{said}");
        assert_eq!((state()?, tagged(node)?), ("free".into(), false));
        assert_eq!(node.link(&netdev("pf0", 0)?)?["mtu"], 1500);
        // Stable again by the next bootstrap, whatever the defaults were.
        done("bootstrap vfs pf0=1")?;
        crate::ready(node, "pf0", 1)
    })
}
