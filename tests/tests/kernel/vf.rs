//! Virtual functions of a real driver: what its PF reports and takes, how one is found
//! and what ethtool says of it. Another program is asked wherever there is one.

use std::collections::BTreeMap;
use std::time::Duration;

use berth_kernel::ethtool::{Ethtool, RingSizes};
use berth_kernel::netlink::{
    Link, Net, Vf, VfChange, VfLinkState, VfVlan, VlanProto, wait_running,
};
use berth_kernel::{Error, IfName, Kind, MacAddr, NetNs, PciAddr, Root};
use berth_tests::{Context, Need, Node, Port, Result, Space, Test, ensure, poll, test};
use nix::errno::Errno;

const MAC: MacAddr = MacAddr([2, 0, 0x5e, 0x10, 0, 1]);
const COUNT: &str = "/sys/class/net/pf0/device/sriov_numvfs";
const NO_MAC: MacAddr = MacAddr([0; 6]);

pub(crate) fn tests() -> Vec<Test> {
    const NEEDS: &[Need] = &[Need::Sriov, Need::Tool("ethtool")];
    let with_vfs = |name, body| test(name, NEEDS, body).at_home();
    vec![
        with_vfs("a_pf_reports_its_vfs", reported),
        with_vfs("vf_settings_change_one_by_one", changed),
        with_vfs("a_refusal_names_the_vf", refused),
        with_vfs("a_vf_is_found_by_its_address", found),
        with_vfs("a_vfs_carrier_is_waited_for", carrier),
        with_vfs("a_vfs_rings_and_coalescing_come_back", rings),
        with_vfs("a_vfs_features_are_as_ethtool_lists_them", features),
    ]
}

/// The PF while it has VFs.
struct Pf<'a> {
    node: &'a Node,
    net: Net,
    index: u32,
}

/// Makes `count` VFs, does `work` and takes them away; the node must be as before then.
fn with_vfs(node: &Node, count: u32, work: impl FnOnce(&Pf<'_>) -> Result<()>) -> Result<()> {
    // A VF that meets a PF without carrier does not learn its address.
    node.port_up(Port::Pf0)?;
    node.as_before(|| {
        node.write(COUNT, &count.to_string())?;
        work(&Pf::new(node)?)
    })
}

impl Drop for Pf<'_> {
    /// Takes the VFs away; what the next test finds does not depend on this one's success.
    fn drop(&mut self) {
        if let Err(error) = self.node.write(COUNT, "0") {
            eprintln!("the VFs of pf0 stay: {error:#}");
        }
    }
}

impl<'a> Pf<'a> {
    fn new(node: &'a Node) -> Result<Self> {
        let net = Net::open()?;
        let index = net.link(&"pf0".parse()?)?.index;
        let pf = Self { node, net, index };
        node.port_up(Port::Pf0)?;
        Ok(pf)
    }

    fn vf(&self, index: usize) -> Result<Vf> {
        let vfs = self.net.vfs(self.index)?;
        vfs.get(index).copied().context("no such VF")
    }

    fn set(&self, change: VfChange) -> Result<(), Error> {
        self.net.set_vf(self.index, 1, change)
    }

    fn address(&self, vf: u32) -> Result<PciAddr> {
        let link = std::fs::read_link(format!("/sys/class/net/pf0/device/virtfn{vf}"))?;
        let name = link.file_name().context("a link to nothing")?;
        Ok(name.to_string_lossy().parse()?)
    }

    /// The link of VF `vf`, once its driver made it.
    fn vf_link(&self, vf: u32) -> Result<Link> {
        let address = self.address(vf)?;
        poll("the VF's link", Duration::from_secs(10), || {
            Ok(self.net.links_of_pci(address)?.pop())
        })
    }
}

fn reported(node: &Node) -> Result<()> {
    with_vfs(node, 7, |pf| {
        let vfs = pf.net.vfs(pf.index)?;
        assert!(vfs.iter().map(|vf| vf.index).eq(0..7), "{vfs:?}");
        for vf in vfs {
            // Nobody gave it one: igb reports what the VF's driver picked.
            assert_eq!(vf.mac, pf.vf_link(vf.index)?.mac);
            assert_eq!(
                (vf.vlan, vf.link_state),
                (VfVlan::NONE, Some(VfLinkState::Auto))
            );
            assert_eq!((vf.min_tx_rate, vf.max_tx_rate), (0, 0));
            assert_eq!((vf.spoofchk, vf.trust), (Some(true), Some(false)));
            assert_eq!(vf.query_rss, None, "igb does not report it");
        }
        let other = pf.net.link(&"pf1".parse()?)?;
        assert_eq!(pf.net.vfs(other.index)?, []);
        Ok(())
    })
}

fn changed(node: &Node) -> Result<()> {
    with_vfs(node, 3, |pf| {
        let before = pf.vf(1)?;
        let vlan = VfVlan {
            id: 100,
            qos: 3,
            proto: VlanProto::Dot1Q,
        };
        // The rate last: setting it needs the link of the PF, which stays up.
        for change in [
            VfChange::Mac(MAC),
            VfChange::Vlan(vlan),
            VfChange::SpoofCheck(false),
            VfChange::Trust(true),
            VfChange::TxRate { min: 0, max: 100 },
        ] {
            pf.set(change)?;
            pf.set(change)?;
        }
        let now = pf.vf(1)?;
        let expected = Vf {
            mac: Some(MAC),
            vlan,
            spoofchk: Some(false),
            trust: Some(true),
            max_tx_rate: 100,
            ..before
        };
        assert_eq!(now, expected);
        shown_alike(pf)?;
        for other in [0, 2] {
            let neighbour = Vf {
                index: now.index,
                mac: before.mac,
                ..pf.vf(other)?
            };
            assert_eq!(neighbour, before, "VF {other} was not meant");
        }
        for change in [
            VfChange::Mac(NO_MAC),
            VfChange::Vlan(VfVlan::NONE),
            VfChange::SpoofCheck(true),
            VfChange::Trust(false),
            VfChange::TxRate { min: 0, max: 0 },
        ] {
            pf.set(change)?;
        }
        let unset = Vf {
            mac: Some(NO_MAC),
            ..before
        };
        assert_eq!(pf.vf(1)?, unset);
        Ok(())
    })
}

/// What ip says of VF 1 after these changes.
fn shown_alike(pf: &Pf<'_>) -> Result<()> {
    let shown = &pf.node.link("pf0")?["vfinfo_list"][1];
    assert_eq!(shown["address"], MAC.to_string());
    let vlan = &shown["vlan_list"][0];
    assert_eq!((&vlan["vlan"], &vlan["qos"]), (&100.into(), &3.into()));
    assert_eq!(shown["spoofchk"], false);
    assert_eq!(shown["trust"], true);
    assert_eq!(shown["rate"]["max_tx"], 100);
    Ok(())
}

fn refused(node: &Node) -> Result<()> {
    with_vfs(node, 2, |pf| {
        let before = pf.net.vfs(pf.index)?;
        let outer = VfVlan {
            id: 100,
            qos: 0,
            proto: VlanProto::Dot1Ad,
        };
        let group = MacAddr([0x01, 0, 0x5e, 0, 0, 1]);
        for (change, errno) in [
            (VfChange::Vlan(outer), Errno::EPROTONOSUPPORT),
            (VfChange::LinkState(VfLinkState::Disable), Errno::EOPNOTSUPP),
            (VfChange::QueryRss(true), Errno::EOPNOTSUPP),
            (VfChange::Mac(group), Errno::EINVAL),
            (VfChange::TxRate { min: 10, max: 100 }, Errno::EINVAL),
        ] {
            let error = pf.set(change).err().context("this must not succeed")?;
            assert_eq!(error.errno, Some(errno), "{error}");
            let start = format!("set {change} of VF 1 of pf0: {errno:?}");
            assert!(error.to_string().starts_with(&start), "{error}");
        }
        let absent = pf.net.set_vf(pf.index, 9, VfChange::Trust(true));
        let absent = absent.err().context("there is no VF 9")?;
        assert_eq!(absent.errno, Some(Errno::EINVAL), "{absent}");
        assert_eq!(pf.net.vfs(pf.index)?, before);
        Ok(())
    })
}

fn found(node: &Node) -> Result<()> {
    with_vfs(node, 2, |pf| {
        let (address, link) = (pf.address(1)?, pf.vf_link(1)?);
        assert_eq!(
            (link.pci(), link.parent_bus.as_deref()),
            (Some(address), Some("pci"))
        );
        let pod = node.pod("found")?;
        let inside = NetNs::open(pod.path())?;
        pf.net
            .move_to(link.index, &inside, Some(&"net1".parse()?))?;
        assert_eq!(pf.net.links_of_pci(address)?, []);
        // Whatever it is called there, and nobody needs to know where that is.
        let mut homes = Vec::new();
        for ns in NetNs::all(&Root::host())? {
            let links = Net::open_in(&ns)?.links_of_pci(address)?;
            homes.extend(links.into_iter().map(|link| (ns.path().to_owned(), link)));
        }
        let [(path, there)] = homes.as_slice() else {
            panic!("one link of {address}, not {homes:?}");
        };
        assert!(NetNs::open(path)?.is_same(&inside)?);
        assert_eq!(there.name.as_str(), "net1");
        assert_eq!(
            (there.mac, there.permanent_mac),
            (link.mac, link.permanent_mac)
        );
        drop(homes);
        let there = Net::open_in(&inside)?;
        let here = NetNs::current()?;
        let index = there.link(&"net1".parse()?)?.index;
        there.move_to(index, &here, Some(&link.name))?;
        assert_eq!(pf.vf_link(1)?.name, link.name);
        Ok(())
    })
}

fn carrier(node: &Node) -> Result<()> {
    with_vfs(node, 1, |pf| {
        let link = pf.vf_link(0)?;
        let here = NetNs::current()?;
        assert!(!wait_running(&here, link.index, Duration::from_millis(50))?);
        pf.net.set_up(link.index)?;
        assert!(wait_running(&here, link.index, Duration::from_secs(20))?);
        let link = pf.net.link_at(link.index)?;
        assert!(link.running && link.carrier);
        Ok(())
    })
}

fn rings(node: &Node) -> Result<()> {
    with_vfs(node, 1, |pf| {
        let (tool, vf) = (Ethtool::open()?, pf.vf_link(0)?.name);
        assert_eq!(tool.channels(&vf)?, None, "igbvf has no notion of channels");
        let before = tool.rings(&vf)?.context("igbvf has rings")?;
        let wish = RingSizes {
            rx: 512,
            tx: 256,
            ..before.current
        };
        tool.set_rings(&vf, wish)?;
        assert_eq!(tool.rings(&vf)?.map(|rings| rings.current), Some(wish));
        let shown = node.run(&format!("ethtool -g {vf}"))?;
        ensure!(shown.contains("512") && shown.contains("256"), "{shown}");
        tool.set_rings(&vf, before.current)?;
        assert_eq!(tool.rings(&vf)?, Some(before));

        let before = tool.coalesce(&vf)?.context("igbvf coalesces")?;
        let mut wish = before;
        wish.0[0] = 50;
        tool.set_coalesce(&vf, wish)?;
        assert_eq!(tool.coalesce(&vf)?.map(|c| c.rx_usecs()), Some(50));
        tool.set_coalesce(&vf, before)?;
        assert_eq!(tool.coalesce(&vf)?, Some(before));
        let mut adaptive = before;
        adaptive.0[9] = 1;
        let error = tool.set_coalesce(&vf, adaptive).err();
        let error = error.context("igbvf does not adapt")?;
        assert_eq!(error.kind(), Kind::Unsupported, "{error}");
        Ok(())
    })
}

fn features(node: &Node) -> Result<()> {
    with_vfs(node, 1, |pf| {
        let (tool, vf) = (Ethtool::open()?, pf.vf_link(0)?.name);
        let before = tool.features(&vf)?;
        agree(node, &vf, &tool)?;
        let off = BTreeMap::from([("rx-gro".to_owned(), false)]);
        ensure!(tool.set_features(&vf, &off)?, "a VF can go without GRO");
        agree(node, &vf, &tool)?;
        ensure!(!tool.features(&vf)?["rx-gro"].active, "GRO is on");
        let on = BTreeMap::from([("rx-gro".to_owned(), true)]);
        ensure!(tool.set_features(&vf, &on)?, "GRO was on before");
        assert_eq!(tool.features(&vf)?, before);
        Ok(())
    })
}

/// Compares with what ethtool lists. Its lines that are no features of the kernel sum
/// several of them up.
fn agree(node: &Node, vf: &IfName, tool: &Ethtool) -> Result<()> {
    let listed = node.run(&format!("ethtool -k {vf}"))?;
    let features = tool.features(vf)?;
    let mut compared = 0;
    for (name, state) in listed.lines().filter_map(|l| l.trim().split_once(": ")) {
        if let Some(ours) = features.get(name) {
            compared += 1;
            assert_eq!(state.starts_with("on"), ours.active, "{name}");
            assert_eq!(state.ends_with("[fixed]"), !ours.changeable, "{name}");
        }
    }
    ensure!(compared > 20, "{compared} features: {listed}");
    Ok(())
}
