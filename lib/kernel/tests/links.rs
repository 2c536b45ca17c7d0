//! What a link's settings are and how they change, on the running kernel: device
//! attributes, ethtool and events. Every test makes namespaces of its own and leaves
//! nothing; without root it fails and says so.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::time::{Duration, Instant};

use berth_kernel::ethtool::{ChannelCounts, Ethtool, RingSizes};
use berth_kernel::netlink::{LinkEvents, Net, wait_running};
use berth_kernel::{AltName, IfName, Kind, NetNs, Root};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

/// A new namespace with a veth pair `a`, `b`, both down, `a` with up to four queues.
struct Scene {
    ns: NetNs,
    net: Net,
}

impl Scene {
    fn new() -> Self {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).map(|()| NetNs::current().unwrap())
        });
        let ns = made.join().unwrap().unwrap_or_else(|errno| {
            panic!("this test needs root to make network namespaces: unshare: {errno}")
        });
        let net = Net::open_in(&ns).unwrap();
        let scene = Self { ns, net };
        scene.ip("link add name a numtxqueues 4 numrxqueues 4 type veth peer name b");
        scene
    }

    fn ip(&self, line: &str) {
        let args = line.split(' ');
        let done = self.ns.run(|| Command::new("ip").args(args).output());
        let done = done.unwrap();
        let done = done.unwrap_or_else(|e| panic!("this test needs iproute2's ip: {e}"));
        assert!(done.status.success(), "ip {line}: {done:?}");
    }

    fn index(&self, link: &str) -> u32 {
        self.net.link(&name(link)).unwrap().index
    }

    fn tool(&self) -> Ethtool {
        Ethtool::open_in(&self.ns).unwrap()
    }
}

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

const SOON: Duration = Duration::from_secs(5);

mod device {
    use super::*;

    #[test]
    #[ignore = "kernel: root"]
    fn settings_of_a_device_change_and_are_read() {
        let scene = Scene::new();
        let (net, a) = (&scene.net, scene.index("a"));
        let before = net.link_at(a).unwrap();
        assert_eq!((before.parent.as_ref(), before.pci()), (None, None));
        assert_eq!((before.tx_queue_len, before.group), (1000, 0));
        assert!(!before.allmulti && !before.carrier);
        net.set_tx_queue_len(a, 77).unwrap();
        net.set_group(a, 5).unwrap();
        net.set_allmulti(a, true).unwrap();
        let after = net.link_at(a).unwrap();
        assert_eq!((after.tx_queue_len, after.group), (77, 5));
        assert!(after.allmulti && !after.promisc);
        net.set_allmulti(a, false).unwrap();
        assert!(!net.link_at(a).unwrap().allmulti);
    }

    #[test]
    #[ignore = "kernel: root"]
    fn alternative_names_come_and_go() {
        let scene = Scene::new();
        let (net, a) = (&scene.net, scene.index("a"));
        let long: AltName = "x".repeat(127).parse().unwrap();
        let odd = AltName::of(&[b'v', 0xff]).unwrap();
        net.add_altname(a, &long).unwrap();
        net.add_altname(a, &odd).unwrap();
        assert_eq!(
            net.link_at(a).unwrap().altnames,
            [long.clone(), odd.clone()]
        );
        let taken = net.add_altname(scene.index("b"), &long).unwrap_err();
        assert_eq!(taken.kind(), Kind::Exists, "{taken}");
        let own = net.add_altname(a, &AltName::from(&name("a"))).unwrap_err();
        assert_eq!(own.kind(), Kind::Exists, "{own}");
        for gone in [&long, &odd] {
            net.del_altname(a, gone).unwrap();
        }
        assert_eq!(net.link_at(a).unwrap().altnames, []);
        let absent = net.del_altname(a, &long).unwrap_err();
        assert_eq!(absent.errno, Some(Errno::ENOENT), "{absent}");
        assert!(
            absent
                .to_string()
                .ends_with(" of a: ENOENT (No such file or directory)")
        );
    }

    #[test]
    #[ignore = "kernel: root"]
    fn an_alternative_name_is_its_links_alone_to_lose() {
        let scene = Scene::new();
        let alt: AltName = "other".parse().unwrap();
        scene.net.add_altname(scene.index("a"), &alt).unwrap();
        let error = scene.net.del_altname(scene.index("b"), &alt).unwrap_err();
        assert_eq!(error.errno, Some(Errno::EINVAL), "{error}");
        assert_eq!(scene.net.link(&name("other")).unwrap().name, name("a"));
    }

    #[test]
    #[ignore = "kernel: root"]
    fn a_link_cannot_hide_behind_its_name() {
        let scene = Scene::new();
        let a = scene.index("a");
        let unspeakable = std::ffi::OsStr::from_bytes(&[0xff, 0xfe]);
        let rename = || {
            let mut ip = Command::new("ip");
            ip.args(["link", "set", "dev", "a", "name"])
                .arg(unspeakable)
                .status()
        };
        assert!(scene.ns.run(rename).unwrap().unwrap().success());
        let links = scene.net.links().unwrap();
        let hidden = links.iter().find(|link| link.index == a).unwrap();
        assert_eq!(hidden.name.to_string(), format!("?{a}"));
        scene.net.rename(a, &name("back")).unwrap();
        assert_eq!(scene.index("back"), a);
    }

    #[test]
    #[ignore = "kernel: root"]
    fn a_pf_is_not_made_of_a_veth() {
        let scene = Scene::new();
        let a = scene.index("a");
        assert_eq!(scene.net.vfs(a).unwrap(), []);
        let gone = scene.net.vfs(4711).unwrap_err();
        assert_eq!(gone.kind(), Kind::NotFound, "{gone}");
        let trust = berth_kernel::netlink::VfChange::Trust(true);
        let error = scene.net.set_vf(a, 3, trust).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported, "{error}");
        assert!(
            error.to_string().starts_with("set trust on of VF 3 of a: "),
            "{error}"
        );
        let address = "0000:01:10.2".parse().unwrap();
        assert_eq!(scene.net.links_of_pci(address).unwrap(), []);
    }
}

mod tool {
    use super::*;

    #[test]
    #[ignore = "kernel: root"]
    fn channels_are_set_and_read_back() {
        let scene = Scene::new();
        let tool = scene.tool();
        let read = || tool.channels(&name("a")).unwrap().unwrap();
        assert_eq!((read().max.rx, read().max.tx), (4, 4));
        let wish = ChannelCounts {
            rx: 2,
            tx: 3,
            ..ChannelCounts::default()
        };
        tool.set_channels(&name("a"), wish).unwrap();
        assert_eq!(read().current, wish);
        let error = tool
            .set_channels(&name("a"), ChannelCounts { rx: 9, ..wish })
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "set channels rx 9 tx 3 other 0 combined 0 of a: EINVAL (Invalid argument)"
        );
        assert_eq!(read().current, wish);
    }

    #[test]
    #[ignore = "kernel: root"]
    fn what_a_driver_has_not_is_none() {
        let scene = Scene::new();
        let tool = scene.tool();
        let lo = name("lo");
        assert_eq!(tool.channels(&lo).unwrap(), None);
        assert_eq!(tool.rings(&lo).unwrap(), None);
        assert_eq!(tool.coalesce(&lo).unwrap(), None);
        for error in [
            tool.set_channels(&lo, ChannelCounts::default())
                .unwrap_err(),
            tool.set_rings(&lo, RingSizes::default()).unwrap_err(),
        ] {
            assert_eq!(error.kind(), Kind::Unsupported, "{error}");
        }
    }

    #[test]
    #[ignore = "kernel: root"]
    fn an_absent_link_is_not_a_driver_without_notion() {
        let tool = Scene::new().tool();
        let none = name("nosuch");
        for error in [
            tool.channels(&none).unwrap_err(),
            tool.rings(&none).unwrap_err(),
            tool.coalesce(&none).unwrap_err(),
            tool.features(&none).unwrap_err(),
            tool.set_features(&none, &BTreeMap::new()).unwrap_err(),
        ] {
            assert_eq!(error.kind(), Kind::NotFound, "{error}");
        }
    }

    #[test]
    #[ignore = "kernel: root"]
    fn features_are_switched_by_name() {
        let scene = Scene::new();
        let tool = scene.tool();
        let gro = |on| BTreeMap::from([("rx-gro".to_owned(), on)]);
        let read = || tool.features(&name("a")).unwrap();
        let before = read();
        assert!(before["rx-gro"].changeable);
        for on in [true, false, true] {
            assert!(tool.set_features(&name("a"), &gro(on)).unwrap());
            assert_eq!(
                (read()["rx-gro"].active, read()["rx-gro"].requested),
                (on, on)
            );
        }
        assert!(
            tool.set_features(&name("a"), &gro(before["rx-gro"].active))
                .unwrap()
        );
        assert_eq!(read(), before, "nothing else changed");
        let fixed = before.iter().find(|(_, f)| !f.changeable && !f.active);
        let fixed = BTreeMap::from([(fixed.unwrap().0.clone(), true)]);
        assert!(!tool.set_features(&name("a"), &fixed).unwrap());
        let unknown = BTreeMap::from([("rx-magic".to_owned(), true)]);
        let error = tool.set_features(&name("a"), &unknown).unwrap_err();
        assert_eq!(
            error.to_string(),
            "set features rx-magic on of a: the kernel knows no feature rx-magic"
        );
    }
}

mod events {
    use super::*;

    #[test]
    #[ignore = "kernel: root"]
    fn a_links_life_is_told() {
        let scene = Scene::new();
        let mut events = LinkEvents::open_in(&scene.ns).unwrap();
        let quiet = Duration::from_millis(50);
        assert_eq!(events.next(quiet).unwrap(), None);
        let (a, b) = (scene.index("a"), scene.index("b"));
        let mut until = |index: u32, what: &dyn Fn(bool, bool) -> bool| loop {
            let event = events.next(SOON).unwrap().unwrap();
            if event.index == index && what(event.deleted, event.running) {
                return event.name.to_string();
            }
        };
        scene.net.set_up(a).unwrap();
        scene.net.set_up(b).unwrap();
        assert_eq!(until(a, &|_, running| running), "a");
        scene.net.set_down(b).unwrap();
        assert_eq!(until(a, &|_, running| !running), "a");
        scene.net.delete_link(a).unwrap();
        assert_eq!(until(a, &|deleted, _| deleted), "a");
    }

    #[test]
    #[ignore = "kernel: root"]
    fn a_carrier_is_waited_for_and_no_longer() {
        let scene = Scene::new();
        let (a, b) = (scene.index("a"), scene.index("b"));
        scene.net.set_up(a).unwrap();
        let start = Instant::now();
        let limit = Duration::from_millis(100);
        assert!(!wait_running(&scene.ns, a, limit).unwrap());
        assert!(start.elapsed() >= limit && start.elapsed() < SOON);
        let mut events = LinkEvents::open_in(&scene.ns).unwrap();
        scene.net.set_up(b).unwrap();
        assert!(events.wait_running(&scene.net, a, SOON).unwrap());
        assert!(wait_running(&scene.ns, a, Duration::ZERO).unwrap());
        assert!(start.elapsed() < SOON);
    }

    #[test]
    #[ignore = "kernel: root"]
    fn the_wait_ends_when_the_link_goes() {
        let scene = Scene::new();
        let a = scene.index("a");
        scene.net.set_up(a).unwrap();
        let waited = std::thread::scope(|scope| {
            let waiter = scope.spawn(|| wait_running(&scene.ns, a, SOON * 2));
            std::thread::sleep(Duration::from_millis(100));
            let start = Instant::now();
            scene.net.delete_link(a).unwrap();
            let error = waiter.join().unwrap().unwrap_err();
            assert_eq!(error.errno, Some(Errno::ENODEV), "{error}");
            start.elapsed()
        });
        assert!(waited < SOON, "{waited:?}");
    }

    #[test]
    #[ignore = "kernel: root"]
    fn lost_events_are_said_and_do_not_end_the_wait() {
        let scene = Scene::new();
        let (a, b) = (scene.index("a"), scene.index("b"));
        let mut events = LinkEvents::open_in(&scene.ns).unwrap();
        let flood = || {
            for round in 0..2000 {
                scene.net.set_mtu(b, 1400 + round % 2).unwrap();
            }
        };
        flood();
        let lost = loop {
            match events.next(Duration::ZERO) {
                Ok(Some(_)) => {}
                Ok(None) => panic!("2000 events fitted: nothing was proven"),
                Err(error) => break error,
            }
        };
        assert_eq!(lost.kind(), Kind::TryAgain, "{lost}");
        while events.next(Duration::ZERO).unwrap().is_some() {}
        flood();
        scene.net.set_up(a).unwrap();
        scene.net.set_up(b).unwrap();
        assert!(events.wait_running(&scene.net, a, SOON).unwrap());
    }
}

mod namespaces {
    use super::*;

    /// A named namespace that nothing but its mount keeps, removed when dropped.
    struct Named(String);

    impl Named {
        fn new() -> Self {
            let named = Self(format!("bk-{}-all", std::process::id()));
            named.ip("add");
            named
        }

        fn ip(&self, verb: &str) {
            let done = Command::new("ip").args(["netns", verb, &self.0]).status();
            assert!(done.unwrap().success(), "ip netns {verb} {}", self.0);
        }
    }

    impl Drop for Named {
        fn drop(&mut self) {
            self.ip("del");
        }
    }

    #[test]
    #[ignore = "kernel: root"]
    fn all_are_met_once_and_mounted_ones_too() {
        let named = Named::new();
        let path = std::path::Path::new("/run/netns").join(&named.0);
        let wanted = NetNs::open(&path).unwrap();
        let all: Vec<NetNs> = NetNs::all(&Root::host()).unwrap().collect();
        let count = |ns: &NetNs| {
            all.iter()
                .filter(|other| ns.is_same(other).unwrap())
                .count()
        };
        assert_eq!(count(&wanted), 1);
        assert_eq!(count(&NetNs::current().unwrap()), 1);
        let cookie = wanted.cookie().unwrap();
        let found = NetNs::find_by_cookie(&Root::host(), cookie)
            .unwrap()
            .unwrap();
        assert!(found.is_same(&wanted).unwrap());
        assert_eq!(found.path(), path);
    }
}
