//! Suite `vf`: a VF brought back to what it was by `berth_state::vf`, on real VFs, with
//! `ip`, `ethtool` and the kernel's files as witnesses.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use berth_kernel::netlink::Net;
use berth_kernel::pci::{self, Device};
use berth_kernel::{NetNs, NetSysfs, PciAddr, Root, irq};
use berth_state::record::NetnsRef;
use berth_state::vf::{self, Baseline, Ended, Field, PfSide, Restored, SriovHost, VfSet};
use berth_state::{Claim, Claims, Key, Locks, Writer};
use berth_tests::{
    Context, Look, Need, Node, Pod, Port, Result, Side, Snapshot, Space, Strike, Test, Vf, bail,
    ensure, suite, test, trace,
};

/// Set for a child that restores what the file it names says, and nothing else.
const RESTORE: &str = "BERTH_VF_RESTORE";

fn main() -> ExitCode {
    if let Some(file) = std::env::var_os(RESTORE) {
        return restore_of(Path::new(&file));
    }
    suite(vec![
        lab("what_a_container_changed_is_put_back", living_namespace),
        lab("also_when_its_namespace_is_gone", dead_namespace),
        lab(
            "also_when_the_namespace_is_found_by_cookie_only",
            hidden_path,
        ),
        lab("also_when_the_driver_is_unbound", no_driver),
        lab("also_when_numvfs_was_written_anew", new_vfs),
        lab("also_with_a_program_left_in_front_of_it", program),
        lab("an_untouched_vf_is_left_alone", untouched),
        lab(
            "a_mac_the_container_chose_goes_without_an_admin_mac",
            own_mac,
        ),
        lab("an_admin_mac_reaches_the_interface", admin_mac),
        lab("a_name_that_is_taken_is_told_and_kept_in_quarantine", taken),
        lab("a_refused_step_keeps_the_claim", refused),
        lab("what_is_refused_for_good_is_a_quarantine", lasting),
        lab("another_owners_vf_is_not_touched", foreign),
        lab("a_vf_without_a_record_is_made_neutral", unrecorded),
        lab("also_without_a_driver", unrecorded_unbound),
        lab("a_vf_that_is_no_more_is_released", gone),
        lab("a_restore_that_is_killed_can_be_repeated", killed).limit(Duration::from_secs(1200)),
    ])
}

fn lab(name: &'static str, body: fn(&Node) -> Result<()>) -> Test {
    test(name, &[Need::Sriov], body).at_home()
}

/// Two VFs of one PF with a baseline that is not the driver's default; what happens is
/// to the first.
struct Scene<'a> {
    node: &'a Node,
    root: Root,
    locks: Locks,
    key: Key,
    vfs: Vec<Vf>,
    host: SriovHost,
    before: Snapshot,
}

impl<'a> Scene<'a> {
    fn new(node: &'a Node) -> Result<Self> {
        let vfs = node.vfs(&[(Port::Pf0, 2)])?;
        let home = &vfs[0].name;
        for args in [
            format!("link set {home} mtu 1400 txqueuelen 500 group 3"),
            format!("link set {home} alias operators-own"),
            format!("link property add dev {home} altname berth-home"),
            "link set pf0 vf 0 vlan 7 qos 1".to_owned(),
            "link set pf0 vf 0 max_tx_rate 100".to_owned(),
        ] {
            node.ip(&args)?;
        }
        node.run(&format!("ethtool -G {home} rx 512"))?;
        node.write_sys(&format!("class/net/{home}/queues/rx-0/rps_cpus"), "2")?;
        // The interrupts have their files from the first `up` on.
        node.ip(&format!("link set {home} up"))?;
        node.ip(&format!("link set {home} down"))?;
        let root = Root::host();
        let host = captured(&root, &vfs[0])?;
        Ok(Self {
            node,
            locks: Locks::new(&root),
            key: Key::new("blue", "c1", "net1".parse()?)?,
            before: node.vf_facts(&vfs, Look::Whole)?,
            root,
            vfs,
            host,
        })
    }

    /// What an ADD does that matters here: claim, move, up, pin.
    fn attach(&mut self, pod: &Pod) -> Result<NetnsRef> {
        let writer = Writer::current(&self.root)?;
        Claims::new(&self.root).claim(self.host.vf, &self.key, writer)?;
        self.node.move_link(&self.vfs[0].name, pod, "net1")?;
        pod.ip("link set net1 up")?;
        for irq in Device::new(&self.root, self.host.vf).msi_irqs()? {
            self.host
                .irqs
                .insert(irq.0, irq::affinity(&self.root, irq)?);
            irq::set_affinity(&self.root, irq, &[3].into_iter().collect())?;
        }
        Ok(NetnsRef::of(&NetNs::open(pod.path())?)?)
    }

    fn restore(&self, netns: Option<&NetnsRef>) -> Restored {
        vf::restore(&self.root, &self.locks, &self.key, &self.host, netns)
    }

    fn release(&self, netns: Option<&NetnsRef>) -> Result<Ended> {
        let ended = vf::release(&self.root, &self.locks, &self.key, &self.host, netns);
        Ok(ended?)
    }

    fn claim(&self) -> Result<Option<Claim>> {
        Ok(Claims::new(&self.root).load(self.host.vf)?)
    }

    /// The witnesses see what they saw before, of the neighbour too.
    fn must_be_as_before(&self) -> Result<()> {
        self.before
            .must_equal(&self.node.vf_facts(&self.vfs, Look::Whole)?)
    }

    fn must_be_restored(&self, netns: Option<&NetnsRef>) -> Result<()> {
        let restored = self.restore(netns);
        ensure!(restored.is_whole() && !restored.gone, "{restored:#?}");
        self.must_be_as_before()
    }
}

fn captured(root: &Root, vf: &Vf) -> Result<SriovHost> {
    let address: PciAddr = vf.address.parse()?;
    let Some((pf, function)) = pci::virtual_function(root, address)? else {
        bail!("{address} is no VF");
    };
    let net = Net::open()?;
    let (_pf, side) = vf::side(&net, &pf, function.index)?;
    let baseline: Baseline = vf::capture(root, &net, &function, side)?;
    Ok(SriovHost {
        pf: pf.address,
        pf_name: pf.netdevs[0].clone(),
        vf: address,
        index: function.index,
        driver: function.driver.unwrap_or_default(),
        baseline,
        irqs: BTreeMap::new(),
        set: VfSet::default(),
    })
}

/// Everything a container with CAP_NET_ADMIN can change, and what an ADD can at the PF.
fn dirty(scene: &mut Scene<'_>, pod: &Pod) -> Result<()> {
    let home = scene.vfs[0].name.clone();
    for args in [
        "link set net1 address 02:00:00:00:00:99",
        "link set net1 mtu 1300 txqueuelen 77 group 9",
        "link set net1 promisc on allmulticast on",
        "link set net1 alias somebody-else",
        "link set net1 arp off multicast off mode dormant",
        "link set net1 broadcast 02:ff:ff:ff:ff:ff",
        "link set net1 gso_max_size 30000 gso_max_segs 20 gro_max_size 30000",
        "link property del dev net1 altname berth-home",
        "link property add dev net1 altname dirt-0",
    ] {
        pod.ip(args)?;
    }
    // Its name at home as an alternative one: it could not take it back.
    pod.ip(&format!("link property add dev net1 altname {home}"))?;
    pod.run("ethtool -K net1 gro off tso off tx off")?;
    pod.run("ethtool -G net1 rx 256 tx 256")?;
    pod.run("ethtool -C net1 rx-usecs 100")?;
    let name = "net1".parse()?;
    let sysfs = NetSysfs::of(&NetNs::open(pod.path())?)?;
    sysfs.set_rps_cpus(&name, 0, &[1, 2, 3].into_iter().collect())?;
    sysfs.set_rps_flow_cnt(&name, 0, 1024)?;
    sysfs.set_gro_flush_timeout(&name, Duration::from_nanos(20_000))?;
    sysfs.set_napi_defer_hard_irqs(&name, 2)?;
    pod.ip("link set net1 down name hidden")?;
    for args in [
        "vlan 100 qos 3",
        "spoofchk off",
        "trust on",
        "max_tx_rate 50",
        "mac 02:00:00:00:00:77",
    ] {
        scene.node.ip(&format!("link set pf0 vf 0 {args}"))?;
    }
    scene.host.set.side = PfSide {
        mac: Some("02:00:00:00:00:77".parse()?),
        ..PfSide::default()
    };
    Ok(())
}

fn living_namespace(node: &Node) -> Result<()> {
    let mut scene = Scene::new(node)?;
    let pod = node.pod("c1")?;
    let netns = scene.attach(&pod)?;
    dirty(&mut scene, &pod)?;
    let seen = vf::compare(&scene.root, &scene.host, Some(&netns))?;
    let seen = seen.unwrap_or_default();
    ensure!(seen.len() > 20, "compared only {seen:#?}");
    assert_eq!(scene.release(Some(&netns))?, Ended::Free);
    assert_eq!(scene.claim()?, None);
    assert_eq!(vf::compare(&scene.root, &scene.host, None)?, Some(vec![]));
    scene.must_be_as_before()?;
    ensure!(pod.link_names()? == ["lo"], "something is left in the pod");
    scene.must_be_restored(Some(&netns))?;
    // Nobody had set a MAC at the PF, so the next one may choose its own again.
    let home = &scene.vfs[0].name;
    node.ip(&format!("link set {home} address 02:00:00:00:00:98"))?;
    Ok(())
}

fn dead_namespace(node: &Node) -> Result<()> {
    let mut scene = Scene::new(node)?;
    let pod = node.pod("c1")?;
    let netns = scene.attach(&pod)?;
    dirty(&mut scene, &pod)?;
    drop(pod);
    scene.must_be_restored(Some(&netns))
}

/// The path is gone, a process lives on in the namespace.
fn hidden_path(node: &Node) -> Result<()> {
    let mut scene = Scene::new(node)?;
    let pod = node.pod("c1")?;
    let netns = scene.attach(&pod)?;
    let mut sleeper = pod.command("sleep").arg("60").spawn()?;
    pod.unbind()?;
    let unknown = NetnsRef {
        path: None,
        cookie: 0,
        ..netns.clone()
    };
    let pid = sleeper.id();
    // By cookie, and without any hint among all namespaces.
    let result = scene.must_be_restored(Some(&netns)).and_then(|()| {
        let name = &scene.vfs[0].name;
        node.ip(&format!("link set {name} netns {pid} name net1"))?;
        scene.must_be_restored(Some(&unknown))
    });
    sleeper.kill()?;
    sleeper.wait()?;
    result
}

fn no_driver(node: &Node) -> Result<()> {
    let mut scene = Scene::new(node)?;
    let pod = node.pod("c1")?;
    let netns = scene.attach(&pod)?;
    dirty(&mut scene, &pod)?;
    scene.vfs[0].unbind()?;
    scene.must_be_restored(Some(&netns))?;
    // Where drivers are not bound by themselves, it takes more.
    let autoprobe = "class/net/pf0/device/sriov_drivers_autoprobe";
    node.write_sys(autoprobe, "0")?;
    scene.vfs[0].unbind()?;
    let restored = scene.restore(None);
    node.write_sys(autoprobe, "1")?;
    ensure!(restored.is_whole(), "{restored:#?}");
    scene.must_be_as_before()
}

fn new_vfs(node: &Node) -> Result<()> {
    let mut scene = Scene::new(node)?;
    let pod = node.pod("c1")?;
    let netns = scene.attach(&pod)?;
    dirty(&mut scene, &pod)?;
    let vfs = scene.vfs.len();
    berth_tests::vf::set_num_vfs(Port::Pf0, vfs)?;
    // Without carrier the PF's driver takes no rate.
    node.port_up(Port::Pf0)?;
    let restored = scene.restore(Some(&netns));
    ensure!(restored.is_whole() && !restored.gone, "{restored:#?}");
    let seen = vf::compare(&scene.root, &scene.host, None)?;
    assert_eq!(seen, Some(vec![]));
    Ok(())
}

/// Nothing takes off what another has attached, but a new interface.
fn program(node: &Node) -> Result<()> {
    let mut scene = Scene::new(node)?;
    let pod = node.pod("c1")?;
    let netns = scene.attach(&pod)?;
    berth_tests::vf::put_xdp(&pod, "net1")?;
    let seen = vf::compare(&scene.root, &scene.host, Some(&netns))?;
    let seen = seen.into_iter().flatten().any(|d| d.field == Field::Xdp);
    ensure!(seen, "the program is not seen");
    scene.must_be_restored(Some(&netns))
}

fn untouched(node: &Node) -> Result<()> {
    let scene = Scene::new(node)?;
    let name = &scene.vfs[0].name;
    let before = node.link(name)?["ifindex"].clone();
    scene.must_be_restored(None)?;
    assert_eq!(
        before,
        node.link(name)?["ifindex"],
        "its driver was rebound"
    );
    Ok(())
}

/// Without an admin MAC the interface may choose, and the PF's driver shows what it
/// chose. To write that back at the PF would forbid the next one to choose.
fn own_mac(node: &Node) -> Result<()> {
    let mut scene = Scene::new(node)?;
    for mac in ["02:00:00:00:00:51", "02:00:00:00:00:52"] {
        let pod = node.pod("c1")?;
        let netns = scene.attach(&pod)?;
        pod.ip(&format!("link set net1 address {mac}"))?;
        assert_eq!(scene.vfs[0].side(node)?["address"], mac);
        assert_eq!(scene.release(Some(&netns))?, Ended::Free);
        scene.must_be_as_before()?;
    }
    Ok(())
}

fn admin_mac(node: &Node) -> Result<()> {
    let scene = Scene::new(node)?;
    let name = &scene.vfs[0].name;
    node.ip("link set pf0 vf 0 mac 02:00:00:00:00:77")?;
    let net = Net::open()?;
    let mac = "02:00:00:00:00:77".parse()?;
    let link = vf::settle_mac(&scene.root, &net, scene.host.vf, mac)?;
    assert_eq!((link.mac, link.name.as_str()), (Some(mac), name.as_str()));
    assert_eq!(node.link(name)?["address"], "02:00:00:00:00:77");
    let again = vf::settle_mac(&scene.root, &net, scene.host.vf, mac)?;
    assert_eq!(again.index, link.index, "bound anew for nothing");
    Ok(())
}

fn taken(node: &Node) -> Result<()> {
    let mut scene = Scene::new(node)?;
    let pod = node.pod("c1")?;
    let netns = scene.attach(&pod)?;
    dirty(&mut scene, &pod)?;
    let name = scene.vfs[0].name.clone();
    node.ip(&format!("link add {name} type dummy"))?;
    let Ended::Quarantined(reason) = scene.release(Some(&netns))? else {
        bail!("a VF without its name is free");
    };
    ensure!(
        reason.contains(&format!("was {name}")) && reason.contains("now a name of link"),
        "{reason}"
    );
    let Some(Claim::Quarantined { vf: Some(kept), .. }) = scene.claim()? else {
        bail!("not in quarantine: {:?}", scene.claim()?);
    };
    assert_eq!(*kept, scene.host);
    let seen = vf::compare(&scene.root, &scene.host, None)?;
    let fields: Vec<Field> = seen.into_iter().flatten().map(|d| d.field).collect();
    assert_eq!(fields, [Field::Name], "all else is put back");
    // Again, and again when the name is free.
    let retry = || vf::end_quarantine(&scene.root, &scene.locks, &scene.key, scene.host.vf);
    ensure!(matches!(retry()?, Ended::Quarantined(_)), "not kept");
    node.ip(&format!("link del {name}"))?;
    assert_eq!(retry()?, Ended::Free);
    assert_eq!(scene.claim()?, None);
    scene.must_be_as_before()
}

/// The PF is in another namespace, so nothing can be set at it.
fn refused(node: &Node) -> Result<()> {
    let mut scene = Scene::new(node)?;
    let pod = node.pod("c1")?;
    let netns = scene.attach(&pod)?;
    dirty(&mut scene, &pod)?;
    let away = node.pod("away")?;
    node.move_link("pf0", &away, "pf0")?;
    let left = vf::release(
        &scene.root,
        &scene.locks,
        &scene.key,
        &scene.host,
        Some(&netns),
    );
    away.ip(&format!("link set pf0 netns {}", std::process::id()))?;
    let Err(left) = left else {
        bail!("released without its PF: {left:?}");
    };
    let text = left.to_string();
    ensure!(text.contains(&scene.host.pf.to_string()), "{text}");
    let claim = scene.claim()?;
    assert_eq!(claim.as_ref().and_then(Claim::owner), Some(&scene.key));
    node.port_up(Port::Pf0)?;
    assert_eq!(scene.release(Some(&netns))?, Ended::Free);
    scene.must_be_as_before()
}

/// Without carrier the PF's driver takes no rate: a DEL that waited for the cable would
/// keep the container.
fn lasting(node: &Node) -> Result<()> {
    let mut scene = Scene::new(node)?;
    let pod = node.pod("c1")?;
    let netns = scene.attach(&pod)?;
    dirty(&mut scene, &pod)?;
    node.ip("link set pf0 down")?;
    let Ended::Quarantined(reason) = scene.release(Some(&netns))? else {
        bail!("the rate cannot have been put back");
    };
    ensure!(
        reason.contains("rate") && reason.contains("EINVAL"),
        "{reason}"
    );
    node.port_up(Port::Pf0)?;
    let (root, vf) = (&scene.root, scene.host.vf);
    let ended = vf::end_quarantine(root, &scene.locks, &scene.key, vf)?;
    assert_eq!(ended, Ended::Free);
    scene.must_be_as_before()
}

fn foreign(node: &Node) -> Result<()> {
    let mut scene = Scene::new(node)?;
    let pod = node.pod("c1")?;
    let netns = scene.attach(&pod)?;
    dirty(&mut scene, &pod)?;
    let owner = scene.key.clone();
    let now = node.vf_facts_in(&pod, &scene.vfs[0], Look::Whole)?;
    scene.key = Key::new("blue", "late", "net1".parse()?)?;
    let ended = scene.release(Some(&netns))?;
    ensure!(matches!(ended, Ended::NotOurs(_)), "{ended:?}");
    now.must_equal(&node.vf_facts_in(&pod, &scene.vfs[0], Look::Whole)?)?;
    scene.key = owner;
    assert_eq!(scene.release(Some(&netns))?, Ended::Free);
    // And nobody's.
    assert_eq!(scene.release(Some(&netns))?, Ended::Free);
    scene.must_be_as_before()
}

fn unrecorded(node: &Node) -> Result<()> {
    let mut scene = Scene::new(node)?;
    let pod = node.pod("c1")?;
    scene.attach(&pod)?;
    dirty(&mut scene, &pod)?;
    let (root, address) = (&scene.root, scene.host.vf);
    let ended = vf::release_unrecorded(root, &scene.locks, &scene.key, address)?;
    assert_eq!(ended, Ended::Free);
    assert_eq!(scene.claim()?, None);
    ensure!(pod.link_names()? == ["lo"], "it is still in the pod");
    let side = scene.vfs[0].side(node)?;
    assert_eq!(side["spoofchk"], true);
    assert_eq!(side["trust"], false);
    ensure!(
        side["vlan_list"][0]["vlan"].as_u64().unwrap_or(0) == 0,
        "{side}"
    );
    let [name] = &scene.vfs[0].links()[..] else {
        bail!("it has no interface");
    };
    let link = node.link(name)?;
    assert_eq!(
        (&link["mtu"], &link["group"]),
        (&1500.into(), &"default".into())
    );
    Ok(())
}

/// A try before was killed after it had taken the driver off.
fn unrecorded_unbound(node: &Node) -> Result<()> {
    let scene = Scene::new(node)?;
    let (root, address) = (&scene.root, scene.host.vf);
    Claims::new(root).claim(address, &scene.key, Writer::current(root)?)?;
    scene.vfs[0].unbind()?;
    let ended = vf::release_unrecorded(root, &scene.locks, &scene.key, address)?;
    assert_eq!(ended, Ended::Free);
    assert_eq!(
        Device::new(root, address).driver()?.as_deref(),
        Some("igbvf")
    );
    ensure!(scene.vfs[0].links().len() == 1, "it has no interface");
    Ok(())
}

fn gone(node: &Node) -> Result<()> {
    let mut scene = Scene::new(node)?;
    let pod = node.pod("c1")?;
    let netns = scene.attach(&pod)?;
    berth_tests::vf::set_num_vfs(Port::Pf0, 0)?;
    assert_eq!(scene.release(Some(&netns))?, Ended::Free);
    assert_eq!(scene.claim()?, None);
    ensure!(scene.restore(None).gone, "it is there");
    Ok(())
}

/// kill -9 at every n-th system call by which a restore changes something, every one of
/// them with BERTH_SOAK=1; then the same again, to the end.
fn killed(node: &Node) -> Result<()> {
    let mut scene = Scene::new(node)?;
    let all = interrupted(&mut scene, None)?;
    ensure!(all.len() > 20, "only {all:?}");
    let soak = std::env::var("BERTH_SOAK").is_ok_and(|soak| soak == "1");
    let step = if soak { 1 } else { all.len().div_ceil(12) };
    for call in (0..all.len()).step_by(step) {
        let side = if call % 2 == 0 {
            Side::Before
        } else {
            Side::After
        };
        interrupted(&mut scene, Some(Strike { call, side }))
            .with_context(|| format!("killed at {call} of {all:?}"))?;
    }
    Ok(())
}

/// The changing calls of a restore up to the kill, after which a second one ends it.
fn interrupted(scene: &mut Scene<'_>, strike: Option<Strike>) -> Result<Vec<String>> {
    let pod = scene.node.pod("c1")?;
    let netns = scene.attach(&pod)?;
    dirty(scene, &pod)?;
    let file = Path::new("/run/restore.json");
    fs::write(
        file,
        serde_json::to_vec(&(&scene.key, &scene.host, &netns))?,
    )?;
    let mut child = Command::new("/proc/self/exe");
    let traced = trace::run(child.env(RESTORE, file), b"", strike)?;
    let finished = traced.finished;
    ensure!(
        traced.struck || finished.status.success(),
        "{}{}",
        finished.stdout,
        finished.stderr
    );
    assert_eq!(scene.release(Some(&netns))?, Ended::Free);
    scene.must_be_as_before()?;
    Ok(traced.calls)
}

fn restore_of(file: &Path) -> ExitCode {
    let restored = fs::read(file).ok().and_then(|bytes| {
        let (key, host, netns): (Key, SriovHost, NetnsRef) = serde_json::from_slice(&bytes).ok()?;
        let root = Root::host();
        Some(vf::restore(
            &root,
            &Locks::new(&root),
            &key,
            &host,
            Some(&netns),
        ))
    });
    match restored {
        Some(restored) if restored.is_whole() => ExitCode::SUCCESS,
        other => {
            eprintln!("{other:#?}");
            ExitCode::FAILURE
        }
    }
}
