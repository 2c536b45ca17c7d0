//! On a veth in a namespace of its own: it has what a VF's interface has, but for
//! rings, coalescing and a PCI function.

use std::process::Command;
use std::thread;

use berth_kernel::netlink::{Net, Tune};
use berth_kernel::{IfName, NetNs};
use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::vf::PfSide;

/// Runs `work` with a veth `home0` of two queues, and `peer0`.
fn with_veth(work: impl FnOnce(&View) + Send) {
    thread::scope(|scope| {
        scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip("link add home0 numrxqueues 2 numtxqueues 2 type veth peer name peer0");
            work(&View::inside(&NetNs::current().unwrap()).unwrap());
        });
    });
}

fn ip(args: &str) {
    let status = Command::new("ip").args(args.split(' ')).status().unwrap();
    assert!(status.success(), "ip {args}");
}

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn at(net: &Net, index: u32) -> impl Fn() -> Result<Link> {
    move || net.link_at(index)
}

fn state(view: &View, index: u32) -> Baseline {
    let link = view.net.link_at(index).unwrap();
    view.state(&link, PfSide::default()).unwrap()
}

/// What a container can do to it under any name.
fn dirty(view: &View, index: u32) {
    for args in [
        "link set home0 mtu 1300 txqueuelen 77 group 9",
        "link set home0 promisc on allmulticast on arp off multicast off",
        "link set home0 alias somebody-else",
        "link set home0 gso_max_size 30000 gso_max_segs 20 gro_max_size 30000",
        "link property del dev home0 altname mine",
        "link property add dev home0 altname dirt",
        "link set home0 down",
        "link set home0 name hidden0",
        // It could not take its name back while this is one of its own.
        "link property add dev hidden0 altname home0",
        "link set hidden0 up",
    ] {
        ip(args);
    }
    let hidden = name("hidden0");
    let cpus = [0].into_iter().collect();
    view.sysfs.set_rps_cpus(&hidden, 0, &cpus).unwrap();
    view.sysfs.set_rps_flow_cnt(&hidden, 1, 64).unwrap();
    view.sysfs.set_xps_cpus(&hidden, 1, &cpus).unwrap();
    view.sysfs.set_napi_defer_hard_irqs(&hidden, 3).unwrap();
    let off = [("tx-checksum-ip-generic".to_owned(), false)].into();
    view.ethtool.set_features(&hidden, &off).unwrap();
    let mut channels = view.ethtool.channels(&hidden).unwrap().unwrap().current;
    channels.rx = 1;
    channels.tx = 1;
    view.ethtool.set_channels(&hidden, channels).unwrap();
    assert_ne!(state(view, index).netdev.name, name("home0"));
}

#[test]
#[ignore = "kernel: root"]
fn everything_a_container_changes_is_put_back() {
    with_veth(|view| {
        ip("link property add dev home0 altname mine");
        ip("link set home0 mtu 1400");
        let index = view.net.link(&name("home0")).unwrap().index;
        let was = state(view, index);
        dirty(view, index);
        let found = own_differences(&was, &state(view, index));
        assert!(found.len() > 15, "{found:#?}");
        let done = put_back(view, &was, at(&view.net, index)).unwrap();
        assert!(
            done.whole && done.refused.is_empty() && done.taken.is_empty(),
            "{done:?}"
        );
        assert_eq!(state(view, index), was);
        // Twice is once.
        assert!(put_back(view, &was, at(&view.net, index)).unwrap().whole);
        assert_eq!(state(view, index), was);
    });
}

#[test]
#[ignore = "kernel: root"]
fn a_name_that_is_taken_is_told_with_its_holder() {
    with_veth(|view| {
        let index = view.net.link(&name("home0")).unwrap().index;
        let was = state(view, index);
        ip("link set home0 name other0");
        ip("link set peer0 name home0");
        let done = put_back(view, &was, at(&view.net, index)).unwrap();
        assert!(done.whole, "{done:?}");
        let [(Field::Name, holder)] = &done.taken[..] else {
            panic!("{done:?}");
        };
        assert!(holder.contains("name of link home0"), "{holder}");
    });
}

#[test]
#[ignore = "kernel: root"]
fn what_cannot_be_put_back_is_told_and_the_rest_is_done() {
    with_veth(|view| {
        let index = view.net.link(&name("home0")).unwrap().index;
        let mut was = state(view, index);
        was.netdev.mtu = 1;
        was.netdev.group = 7;
        let done = put_back(view, &was, at(&view.net, index)).unwrap();
        assert!(!done.whole);
        let [refused] = &done.refused[..] else {
            panic!("{done:?}");
        };
        assert!(refused.to_string().contains("set MTU 1 of"), "{refused}");
        assert_eq!(state(view, index).netdev.group, 7);
        let tunes = own_differences(&was, &state(view, index));
        let tune = Field::Tune(Tune::Arp(true));
        assert!(tunes.iter().all(|d| d.field != tune), "{tunes:?}");
    });
}
