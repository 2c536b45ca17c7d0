//! The netlink facade on the running kernel. Every test makes namespaces of its own
//! and leaves nothing; without root it fails and says so.
//!
//! Run with `cargo test -p berth-kernel -- --include-ignored`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use berth_kernel::netlink::{
    AddressFlags, Mark, Net, NewBridge, On, PortOptions, Route, Veth, VlanFlags, VlanRange,
};
use berth_kernel::{IfName, Kind, MacAddr, NetNs, VlanId};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

const HOST_MAC: MacAddr = MacAddr([2, 0, 0x5e, 0x10, 0, 1]);
const PEER_MAC: MacAddr = MacAddr([2, 0, 0x5e, 0x10, 0, 2]);
const BRIDGE_MAC: MacAddr = MacAddr([2, 0, 0x5e, 0x10, 0, 9]);

/// A new, empty network namespace; it lives as long as the value.
fn namespace() -> NetNs {
    let made = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).map(|()| NetNs::current().unwrap())
    });
    made.join().unwrap().unwrap_or_else(|errno| {
        panic!("this test needs root to make network namespaces: unshare: {errno}")
    })
}

/// A node and a container, with a connection to each.
struct Scene {
    host: Net,
    host_ns: NetNs,
    container: Net,
    container_ns: NetNs,
}

impl Scene {
    fn new() -> Self {
        let (host_ns, container_ns) = (namespace(), namespace());
        Self {
            host: Net::open_in(&host_ns).unwrap(),
            host_ns,
            container: Net::open_in(&container_ns).unwrap(),
            container_ns,
        }
    }

    /// A bridge `br0` with `port0`, whose peer `eth0` is in the container.
    fn with_bridge() -> Self {
        let scene = Self::new();
        create_bridge(&scene.host, "br0", false).unwrap();
        let br0 = scene.host.link(&name("br0")).unwrap().index;
        scene.host.set_up(br0).unwrap();
        scene.veth(Some(br0)).unwrap();
        scene
    }

    fn veth(&self, master: Option<u32>) -> berth_kernel::Result<()> {
        self.host.create_veth(&Veth {
            host: &name("port0"),
            host_mac: Some(HOST_MAC),
            master,
            group: Some(7),
            mtu: Some(1400),
            up: true,
            peer: &name("eth0"),
            peer_mac: Some(PEER_MAC),
            peer_ns: &self.container_ns,
        })
    }

    fn port(&self) -> u32 {
        self.host.link(&name("port0")).unwrap().index
    }

    fn eth(&self) -> u32 {
        self.container.link(&name("eth0")).unwrap().index
    }
}

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

/// Creates a bridge, down.
fn create_bridge(net: &Net, text: &str, vlan_filtering: bool) -> berth_kernel::Result<()> {
    net.create_bridge(&NewBridge {
        name: &name(text),
        mac: BRIDGE_MAC,
        mtu: None,
        vlan_filtering,
    })
}

/// Waits for what the kernel does by itself a moment later.
fn eventually(holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < deadline, "still not so after 5 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

mod link {
    use super::*;

    #[test]
    #[ignore = "kernel: root"]
    fn absent_links_are_none_and_enodev() {
        let net = Scene::new().host;
        assert_eq!(net.find_link(&name("nosuch")).unwrap(), None);
        assert_eq!(net.find_link_at(4711).unwrap(), None);
        let error = net.link(&name("nosuch")).unwrap_err();
        assert_eq!(error.errno, Some(Errno::ENODEV));
        assert_eq!(error.object, "nosuch");
        for error in [
            net.set_up(4711).unwrap_err(),
            net.delete_link(4711).unwrap_err(),
            net.set_port(4711, &PortOptions::default()).unwrap_err(),
            net.addresses(4711).unwrap_err(),
            net.routes(4711).unwrap_err(),
        ] {
            assert_eq!(error.kind(), Kind::NotFound, "{error}");
        }
    }

    #[test]
    #[ignore = "kernel: root"]
    fn a_socket_stays_in_its_namespace() {
        let scene = Scene::with_bridge();
        let names = |net: &Net| -> Vec<String> {
            let links = net.links().unwrap();
            links.iter().map(|link| link.name.to_string()).collect()
        };
        assert!(names(&scene.host).contains(&"port0".to_owned()));
        assert!(names(&scene.container).contains(&"eth0".to_owned()));
        assert!(!names(&scene.container).contains(&"port0".to_owned()));
    }

    #[test]
    #[ignore = "kernel: root"]
    fn properties_change_one_by_one() {
        let scene = Scene::new();
        scene.veth(None).unwrap();
        let (net, port) = (&scene.host, scene.port());
        net.set_mtu(port, 1300).unwrap();
        net.set_mac(port, BRIDGE_MAC).unwrap();
        net.set_alias(port, "berth1 net abc eth0").unwrap();
        net.set_promisc(port, true).unwrap();
        let link = net.link_at(port).unwrap();
        assert_eq!((link.mtu, link.mac), (1300, Some(BRIDGE_MAC)));
        assert_eq!(link.alias.as_deref(), Some("berth1 net abc eth0"));
        assert!(link.promisc && link.up);
        net.set_alias(port, "").unwrap();
        net.set_promisc(port, false).unwrap();
        net.set_down(port).unwrap();
        net.rename(port, &name("other")).unwrap();
        let link = net.link(&name("other")).unwrap();
        assert_eq!((link.index, link.alias.as_deref()), (port, None));
        assert!(!link.promisc && !link.up && !link.running);
        assert_eq!(net.find_link(&name("port0")).unwrap(), None);
    }

    #[test]
    #[ignore = "kernel: root"]
    fn the_kernels_sentence_reaches_the_error() {
        let scene = Scene::new();
        scene.veth(None).unwrap();
        let error = scene.host.set_mtu(scene.port(), 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "set MTU 1 of port0: EINVAL (Invalid argument): mtu less than device minimum"
        );
    }

    #[test]
    #[ignore = "kernel: root"]
    fn a_link_moves_and_is_renamed_in_one_message() {
        let scene = Scene::new();
        create_bridge(&scene.host, "plain", false).unwrap();
        scene.veth(None).unwrap();
        scene.host.set_down(scene.port()).unwrap();
        let target = namespace();
        let moved = scene
            .host
            .move_to(scene.port(), &target, Some(&name("net1")));
        moved.unwrap();
        assert_eq!(scene.host.find_link(&name("port0")).unwrap(), None);
        let there = Net::open_in(&target).unwrap();
        assert_eq!(there.link(&name("net1")).unwrap().mac, Some(HOST_MAC));
    }

    #[test]
    #[ignore = "kernel: root"]
    fn a_dump_of_many_links_is_complete() {
        let net = Scene::new().host;
        for i in 0..200 {
            create_bridge(&net, &format!("many{i}"), false).unwrap();
        }
        let links = net.links().unwrap();
        let many = links.iter().filter(|l| l.name.as_str().starts_with("many"));
        assert_eq!(many.count(), 200);
    }

    #[test]
    #[ignore = "kernel: root"]
    fn dumps_survive_links_that_come_and_go() {
        let ns = namespace();
        let net = Net::open_in(&ns).unwrap();
        for i in 0..100 {
            create_bridge(&net, &format!("fix{i}"), false).unwrap();
        }
        let other = Net::open_in(&ns).unwrap();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let churn = std::thread::spawn(move || {
            let mut rounds = 0;
            while stopped.try_recv().is_err() {
                create_bridge(&other, "come", false).unwrap();
                let come = other.link(&name("come")).unwrap().index;
                other.delete_link(come).unwrap();
                rounds += 1;
            }
            rounds
        });
        for _ in 0..20 {
            let links = net.links().unwrap();
            let fixed = links.iter().filter(|l| l.name.as_str().starts_with("fix"));
            assert_eq!(fixed.count(), 100);
        }
        stop.send(()).unwrap();
        assert!(churn.join().unwrap() > 0, "nothing came and went");
    }
}

mod veth {
    use super::*;

    #[test]
    #[ignore = "kernel: root"]
    fn one_message_makes_both_ends_as_wished() {
        let scene = Scene::with_bridge();
        let br0 = scene.host.link(&name("br0")).unwrap();
        let host = scene.host.link(&name("port0")).unwrap();
        let peer = scene.container.link(&name("eth0")).unwrap();
        assert_eq!((host.mac, host.mtu), (Some(HOST_MAC), 1400));
        assert_eq!((peer.mac, peer.mtu), (Some(PEER_MAC), 1400));
        assert_eq!(host.master, Some(br0.index));
        assert_eq!(host.kind.as_deref(), Some("veth"));
        assert_eq!(host.slave_kind.as_deref(), Some("bridge"));
        assert!(host.up && !host.running, "the peer is still down");
        assert!(!peer.up);
        assert_eq!(host.peer, Some(peer.index));
        assert!(host.peer_netns.is_some());
        scene.container.set_up(peer.index).unwrap();
        eventually(|| scene.container.link_at(peer.index).unwrap().running);
        let ports = scene.host.ports_of(br0.index).unwrap();
        assert_eq!(ports.len(), 1);
        assert_eq!(ports[0].index, host.index);
    }

    #[test]
    #[ignore = "kernel: root"]
    fn a_taken_name_is_refused_and_nothing_is_left() {
        let scene = Scene::new();
        create_bridge(&scene.container, "eth0", false).unwrap();
        let before = scene.host.links().unwrap();
        let error = scene.veth(None).unwrap_err();
        assert_eq!(error.kind(), Kind::Exists, "{error}");
        assert_eq!(scene.host.links().unwrap(), before);
    }

    #[test]
    #[ignore = "kernel: root"]
    fn deleting_one_end_deletes_both() {
        let scene = Scene::with_bridge();
        scene.host.delete_link(scene.port()).unwrap();
        assert_eq!(scene.host.find_link(&name("port0")).unwrap(), None);
        assert_eq!(scene.container.find_link(&name("eth0")).unwrap(), None);
    }

    #[test]
    #[ignore = "kernel: root"]
    fn another_program_sees_one_queue_each_way_and_the_rest() {
        let scene = Scene::with_bridge();
        let show = |ns: &NetNs, link: &str| {
            let output = ns.run(|| {
                let args = ["-d", "-o", "link", "show", link];
                std::process::Command::new("ip").args(args).output()
            });
            let output = output.unwrap().expect("this test needs iproute2's ip");
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        for text in [
            show(&scene.host_ns, "port0"),
            show(&scene.container_ns, "eth0"),
        ] {
            for part in ["numtxqueues 1 ", "numrxqueues 1 ", "mtu 1400", " veth "] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
        assert!(show(&scene.host_ns, "port0").contains("master br0"));
    }
}

mod bridge_ports {
    use super::*;

    #[test]
    #[ignore = "kernel: root"]
    fn a_bridge_keeps_its_address_and_has_no_spanning_tree() {
        let scene = Scene::with_bridge();
        let br0 = scene.host.link(&name("br0")).unwrap();
        assert_eq!(br0.mac, Some(BRIDGE_MAC));
        let settings = br0.bridge.unwrap();
        assert!(!settings.stp && !settings.vlan_filtering);
        let again = create_bridge(&scene.host, "br0", false).unwrap_err();
        assert_eq!(again.kind(), Kind::Exists, "{again}");
    }

    #[test]
    #[ignore = "kernel: root"]
    fn port_options_are_set_and_read_back() {
        let scene = Scene::with_bridge();
        let options = PortOptions {
            hairpin: Some(true),
            guard: Some(true),
            learning: Some(false),
            flood: Some(false),
            mcast_flood: Some(false),
            bcast_flood: Some(false),
            isolated: Some(true),
            locked: Some(true),
        };
        scene.host.set_port(scene.port(), &options).unwrap();
        let port = scene.host.link_at(scene.port()).unwrap().port.unwrap();
        assert!(port.hairpin && port.guard && port.isolated);
        assert!(!port.learning && !port.flood && !port.mcast_flood && !port.bcast_flood);
        assert_eq!(port.locked, Some(true));
        let back = PortOptions {
            hairpin: Some(false),
            ..PortOptions::default()
        };
        scene.host.set_port(scene.port(), &back).unwrap();
        let port = scene.host.link_at(scene.port()).unwrap().port.unwrap();
        assert!(!port.hairpin && port.isolated, "only hairpin was meant");
    }

    #[test]
    #[ignore = "kernel: root"]
    fn a_mark_is_alias_settings_and_silence_at_once() {
        let scene = Scene::with_bridge();
        let mark = Mark {
            alias: "berth1 n c eth0",
            options: PortOptions {
                locked: Some(true),
                ..PortOptions::default()
            },
        };
        scene.host.mark_port(scene.port(), &mark).unwrap();
        let link = scene.host.link_at(scene.port()).unwrap();
        assert_eq!(link.alias.as_deref(), Some("berth1 n c eth0"));
        assert_eq!(link.port.unwrap().locked, Some(true));
        // IN6_ADDR_GEN_MODE_NONE
        let mode = "/proc/sys/net/ipv6/conf/port0/addr_gen_mode";
        let mode = scene.host_ns.run(|| std::fs::read_to_string(mode));
        assert_eq!(mode.unwrap().unwrap().trim(), "1");
    }

    #[test]
    #[ignore = "kernel: root"]
    fn a_port_is_released_and_taken_again() {
        let scene = Scene::with_bridge();
        let br0 = scene.host.link(&name("br0")).unwrap().index;
        scene.host.set_master(scene.port(), None).unwrap();
        let link = scene.host.link_at(scene.port()).unwrap();
        assert_eq!((link.master, link.port), (None, None));
        scene.host.set_master(scene.port(), Some(br0)).unwrap();
        assert_eq!(scene.host.link_at(scene.port()).unwrap().master, Some(br0));
    }

    #[test]
    #[ignore = "kernel: root"]
    fn fdb_entries_are_pinned_listed_and_removed() {
        let scene = Scene::with_bridge();
        let (net, port) = (&scene.host, scene.port());
        let pinned = || {
            let mut entries = net.fdb(port).unwrap();
            entries.retain(|entry| entry.mac == PEER_MAC);
            entries
        };
        assert_eq!(pinned(), []);
        net.add_fdb(port, PEER_MAC, None).unwrap();
        net.add_fdb(port, PEER_MAC, None).unwrap();
        net.flush_learned(port).unwrap();
        // One without VLAN, and one for each VLAN the port is in.
        assert!(pinned().iter().any(|entry| entry.vlan.is_none()));
        assert!(pinned().iter().all(|entry| entry.fixed && !entry.local));
        let own = net.fdb(port).unwrap();
        assert!(own.iter().any(|e| e.mac == HOST_MAC && e.local));
        net.del_fdb(port, PEER_MAC, None).unwrap();
        assert_eq!(pinned(), []);
        let error = net.del_fdb(port, PEER_MAC, None).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
    }
}

mod vlan {
    //! A kernel is built with VLAN filtering or without; each kind has its answers, and
    //! the bridge says which kind it is.
    use super::*;
    use berth_kernel::netlink::VlanEntry;

    const TAGGED: VlanFlags = VlanFlags {
        pvid: false,
        untagged: false,
    };
    const ACCESS: VlanFlags = VlanFlags {
        pvid: true,
        untagged: true,
    };

    fn range(first: u16, last: u16) -> VlanRange {
        VlanRange {
            first: VlanId::try_from(first).unwrap(),
            last: VlanId::try_from(last).unwrap(),
        }
    }

    fn entry(vid: u16, flags: VlanFlags) -> VlanEntry {
        VlanEntry {
            vid: VlanId::try_from(vid).unwrap(),
            pvid: flags.pvid,
            untagged: flags.untagged,
        }
    }

    #[test]
    #[ignore = "kernel: root"]
    fn vlans_are_kept_or_refused_as_the_bridge_says() {
        let scene = Scene::with_bridge();
        let br0 = scene.host.link(&name("br0")).unwrap();
        if br0.bridge.unwrap().vlan_capable {
            kept(&scene, br0.index);
        } else {
            refused(&scene, br0.index);
        }
    }

    fn kept(scene: &Scene, br0: u32) {
        let (net, port) = (&scene.host, scene.port());
        assert_eq!(net.vlans_of(port).unwrap(), [entry(1, ACCESS)]);
        net.set_vlan_filtering(br0, true).unwrap();
        net.set_default_pvid(br0, 0).unwrap();
        let settings = net.link_at(br0).unwrap().bridge.unwrap();
        assert!(settings.vlan_filtering && settings.default_pvid == 0);
        assert_eq!(net.vlans_of(port).unwrap(), []);
        net.add_vlan(port, range(100, 100), ACCESS, On::Port)
            .unwrap();
        net.add_vlan(port, range(200, 203), TAGGED, On::Port)
            .unwrap();
        net.add_vlan(br0, range(100, 100), TAGGED, On::Bridge)
            .unwrap();
        net.del_vlan(port, range(202, 203), On::Port).unwrap();
        net.del_vlan(port, range(202, 203), On::Port).unwrap();
        let expected = [entry(100, ACCESS), entry(200, TAGGED), entry(201, TAGGED)];
        assert_eq!(net.vlans_of(port).unwrap(), expected);
        assert_eq!(net.vlans_of(br0).unwrap(), [entry(100, TAGGED)]);
        net.add_vlan(port, range(2, 4094), TAGGED, On::Port)
            .unwrap();
        assert_eq!(net.vlans_of(port).unwrap().len(), 4093);
        let error = net.add_vlan(port, range(5, 9), ACCESS, On::Port);
        assert_eq!(error.unwrap_err().kind(), Kind::Refused);
        net.add_fdb(port, PEER_MAC, VlanId::try_from(100).ok())
            .unwrap();
        let fdb = net.fdb(port).unwrap();
        let pinned = fdb.iter().find(|e| e.mac == PEER_MAC && e.fixed).unwrap();
        assert_eq!(pinned.vlan.map(VlanId::get), Some(100));
        create_bridge(net, "br1", true).unwrap();
        let br1 = net.link(&name("br1")).unwrap().bridge.unwrap();
        assert!(br1.vlan_filtering && br1.default_pvid == 0);
    }

    fn refused(scene: &Scene, br0: u32) {
        let (net, port, vids) = (&scene.host, scene.port(), range(100, 110));
        let outcomes = [
            ("filtering", net.set_vlan_filtering(br0, true)),
            ("pvid", net.set_default_pvid(br0, 0)),
            ("add", net.add_vlan(port, vids, TAGGED, On::Port)),
            ("add self", net.add_vlan(br0, vids, TAGGED, On::Bridge)),
            ("list", net.vlans_of(port).map(drop)),
            ("create", create_bridge(net, "br1", true)),
        ];
        for (what, outcome) in outcomes {
            let Err(error) = outcome else {
                panic!("{what} must not succeed")
            };
            assert_eq!(error.kind(), Kind::Unsupported, "{what}: {error}");
        }
        // Nothing to remove is no error, here as there.
        net.del_vlan(port, vids, On::Port).unwrap();
        assert_eq!(net.find_link(&name("br1")).unwrap(), None);
    }
}

mod addresses_and_routes {
    use super::*;

    fn up(scene: &Scene) -> u32 {
        scene.container.set_up(scene.eth()).unwrap();
        scene.eth()
    }

    #[test]
    #[ignore = "kernel: root"]
    fn addresses_are_added_listed_and_removed() {
        let scene = Scene::with_bridge();
        let (net, eth) = (&scene.container, up(&scene));
        let nodad = AddressFlags { nodad: true };
        for text in ["10.7.0.2/24", "fd00:7::2/64"] {
            let wish = text.parse().unwrap();
            net.add_address(eth, wish, nodad).unwrap();
            let list = net.addresses(eth).unwrap();
            let live = list.iter().find(|a| a.net == wish).unwrap();
            assert!(
                live.is_global() && live.permanent && !live.tentative,
                "{live:?}"
            );
            let again = net.add_address(eth, wish, nodad).unwrap_err();
            assert_eq!(again.kind(), Kind::Exists, "{again}");
            net.del_address(eth, wish).unwrap();
            let list = net.addresses(eth).unwrap();
            assert!(!list.iter().any(|a| a.net == wish));
            let gone = net.del_address(eth, wish).unwrap_err();
            assert_eq!(gone.kind(), Kind::NotFound, "{gone}");
        }
        let lo = net.link(&name("lo")).unwrap().index;
        net.set_up(lo).unwrap();
        let own = net.addresses(lo).unwrap();
        assert!(own.iter().all(|a| a.net.ip().is_loopback()), "{own:?}");
        assert!(!own.is_empty());
    }

    #[test]
    #[ignore = "kernel: root"]
    fn routes_are_added_listed_and_removed() {
        let scene = Scene::with_bridge();
        let (net, eth) = (&scene.container, up(&scene));
        let nodad = AddressFlags { nodad: true };
        net.add_address(eth, "10.7.0.2/24".parse().unwrap(), nodad)
            .unwrap();
        net.add_address(eth, "fd00:7::2/64".parse().unwrap(), nodad)
            .unwrap();
        let route = |dst: &str, gateway: Option<&str>| {
            Route::new(dst.parse().unwrap(), gateway.map(|g| g.parse().unwrap()))
        };
        let wishes = [
            route("0.0.0.0/0", Some("10.7.0.1")),
            route("::/0", Some("fd00:7::1")),
            route("10.8.0.0/16", None),
            Route {
                mtu: Some(1280),
                advmss: Some(1200),
                priority: Some(50),
                table: Some(1000),
                ..route("10.9.1.0/24", Some("10.7.0.1"))
            },
            Route {
                mtu: Some(1300),
                priority: Some(7),
                ..route("fd00:9::/48", Some("fd00:7::1"))
            },
            Route {
                scope: Some(libc::RT_SCOPE_LINK),
                ..route("10.10.0.0/16", None)
            },
            route("10.11.0.0/16", Some("fd00:7::1")),
        ];
        for wish in &wishes {
            net.add_route(eth, wish).unwrap();
            let live = net.routes(eth).unwrap();
            assert!(live.iter().any(|r| wish.is_met_by(r)), "{wish}: {live:?}");
            let again = net.add_route(eth, wish).unwrap_err();
            assert_eq!(again.kind(), Kind::Exists, "{again}");
        }
        for wish in &wishes {
            net.del_route(eth, wish).unwrap();
            let live = net.routes(eth).unwrap();
            assert!(!live.iter().any(|r| wish.is_met_by(r)), "{wish}");
            let gone = net.del_route(eth, wish).unwrap_err();
            assert_eq!(gone.kind(), Kind::NotFound, "{gone}");
        }
    }

    #[test]
    #[ignore = "kernel: root"]
    fn an_unreachable_gateway_is_named() {
        let scene = Scene::with_bridge();
        let eth = up(&scene);
        let gateway = IpAddr::from(Ipv4Addr::new(10, 7, 0, 1));
        let route = Route::new("0.0.0.0/0".parse().unwrap(), Some(gateway));
        let error = scene.container.add_route(eth, &route).unwrap_err();
        assert_eq!(error.errno, Some(Errno::ENETUNREACH));
        let text = error.to_string();
        assert!(
            text.starts_with("add route 0.0.0.0/0 via 10.7.0.1 to eth0: "),
            "{text}"
        );
        assert!(error.reason.is_some(), "{text}");
    }

    #[test]
    #[ignore = "kernel: root"]
    fn a_neighbour_that_was_talked_to_is_listed() {
        let scene = Scene::with_bridge();
        let eth = up(&scene);
        let br0 = scene.host.link(&name("br0")).unwrap().index;
        let flags = AddressFlags::default();
        scene
            .host
            .add_address(br0, "10.7.0.1/24".parse().unwrap(), flags)
            .unwrap();
        scene
            .container
            .add_address(eth, "10.7.0.2/24".parse().unwrap(), flags)
            .unwrap();
        let gateway = IpAddr::from(Ipv4Addr::new(10, 7, 0, 1));
        scene
            .container_ns
            .run(|| {
                let socket = std::net::UdpSocket::bind("10.7.0.2:0").unwrap();
                socket.send_to(b"x", (gateway, 9)).unwrap();
            })
            .unwrap();
        eventually(|| {
            let list = scene.container.neighbours(eth).unwrap();
            list.iter()
                .any(|n| n.ip == gateway && n.mac == Some(BRIDGE_MAC))
        });
    }
}
