use std::time::{Duration, Instant};

use berth_kernel::netlink::nft::{ElementKey, Family, Name, Nft};
use berth_kernel::{MacAddr, NetNs};
use cni_bridge_vlan::antispoof::{add, check, marked, remove};

use crate::node::{Node, assert_nothing_left, berth, key, mac, meddle, namespace};

pub(crate) fn a_second_add_changes_nothing_and_the_last_remove_leaves_nothing() {
    let nft = Nft::open_in(&namespace()).unwrap();
    let (one, two) = (key("blue", 1), key("red", 2));
    remove(&nft, &one).unwrap();
    assert_eq!(marked(&nft, "blue").unwrap(), []);
    assert_eq!(check(&nft, &one, mac(1)).unwrap().len(), 4);
    add(&nft, &one, mac(1)).unwrap();
    assert_eq!(check(&nft, &one, mac(1)).unwrap(), [""; 0]);
    let generation = nft.generation().unwrap();
    add(&nft, &one, mac(1)).unwrap();
    assert_eq!(nft.generation().unwrap(), generation);
    add(&nft, &two, mac(2)).unwrap();
    assert_eq!(marked(&nft, "blue").unwrap(), std::slice::from_ref(&one));
    assert_eq!(marked(&nft, "red").unwrap(), std::slice::from_ref(&two));
    // Another address replaces the first.
    add(&nft, &one, mac(3)).unwrap();
    assert_eq!(check(&nft, &one, mac(3)).unwrap(), [""; 0]);
    assert_eq!(check(&nft, &one, mac(1)).unwrap().len(), 2);
    remove(&nft, &one).unwrap();
    assert_eq!(check(&nft, &two, mac(2)).unwrap(), [""; 0]);
    let table = berth(Family::Bridge);
    let senders: Name = "senders".parse().unwrap();
    assert_eq!(nft.elements((&table, &senders)).unwrap().len(), 1);
    remove(&nft, &one).unwrap();
    remove(&nft, &two).unwrap();
    assert_nothing_left(&nft);
}

pub(crate) fn what_others_change_is_named_and_put_right() {
    let nft = Nft::open_in(&namespace()).unwrap();
    let one = key("blue", 1);
    let table = berth(Family::Bridge);
    let name = |text: &str| text.parse::<Name>().unwrap();
    let (port, pair) = (
        ElementKey::interface(&one.port_name()),
        ElementKey::interface_mac(&one.port_name(), mac(1)),
    );
    add(&nft, &one, mac(1)).unwrap();
    type Change<'a> = (&'a str, &'a dyn Fn());
    let changes: [Change<'_>; 5] = [
        ("it may send from any address", &|| {
            meddle(&nft, |b| b.delete_element((&table, &name("ports")), &port));
        }),
        ("what it sends is lost", &|| {
            meddle(&nft, |b| {
                b.delete_element((&table, &name("senders")), &pair)
            });
        }),
        ("chain prerouting of table bridge berth", &|| {
            meddle(&nft, |b| b.flush_chain(&table, &name("prerouting")));
        }),
        ("chain input of table bridge berth", &|| {
            meddle(&nft, |b| b.delete_chain(&table, &name("input")));
        }),
        ("chain prerouting of table bridge berth", &|| {
            meddle(&nft, |b| b.delete_table(&table));
        }),
    ];
    for (named, change) in changes {
        change();
        let missing = check(&nft, &one, mac(1)).unwrap();
        assert!(missing[0].contains(named), "{named}: {missing:?}");
        add(&nft, &one, mac(1)).unwrap();
        assert_eq!(check(&nft, &one, mac(1)).unwrap(), [""; 0], "{named}");
    }
    remove(&nft, &one).unwrap();
    assert_nothing_left(&nft);
}

pub(crate) fn many_at_once_leave_nothing() {
    let ns = namespace();
    std::thread::scope(|scope| {
        for thread in 0..8u32 {
            let ns = &ns;
            scope.spawn(move || {
                let nft = Nft::open_in(ns).unwrap();
                for round in 0..100u32 {
                    let number = thread * 1000 + round;
                    let key = key("blue", number);
                    add(&nft, &key, mac(number)).unwrap();
                    assert_eq!(check(&nft, &key, mac(number)).unwrap(), [""; 0]);
                    remove(&nft, &key).unwrap();
                }
            });
        }
    });
    assert_nothing_left(&Nft::open_in(&ns).unwrap());
}

/// Sends a frame out of `eth0` of the namespace, as a program with CAP_NET_RAW can.
fn send(ns: &NetNs, eth0: u32, from: MacAddr, to: MacAddr, kind: [u8; 2]) {
    let mut frame = [&to.0[..], &from.0, &kind].concat();
    frame.resize(60, 0);
    ns.run(|| {
        // SAFETY: a socket of our own, which is closed below.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) };
        assert!(socket >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: all zero is a value of this structure of numbers.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
        address.sll_ifindex = i32::try_from(eth0).unwrap();
        let len = u32::try_from(size_of_val(&address)).unwrap();
        // SAFETY: both pointers are to values that live, of the lengths given.
        let sent = unsafe {
            let address = (&raw const address).cast();
            let sent = libc::sendto(socket, frame.as_ptr().cast(), frame.len(), 0, address, len);
            libc::close(socket);
            sent
        };
        assert_eq!(sent, 60, "{}", std::io::Error::last_os_error());
    })
    .unwrap();
}

/// How many frames `eth0` has received.
fn received(ns: &NetNs) -> u64 {
    let text = ns.run(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap());
    let text = text.unwrap();
    let line = text.lines().find(|line| line.contains("eth0:")).unwrap();
    let numbers = line.split_once(':').unwrap().1;
    numbers.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Whether a frame arrives at `to`; only what is sent here is on this bridge.
fn arrives(to: &NetNs, send: impl FnOnce()) -> bool {
    let before = received(to);
    send();
    let end = Instant::now() + Duration::from_millis(200);
    while Instant::now() < end {
        if received(to) > before {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

pub(crate) fn only_the_containers_address_gets_through_and_is_learned() {
    const BROADCAST: MacAddr = MacAddr([0xff; 6]);
    /// A link-local group the bridge keeps to itself: 802.1X.
    const EAPOL: MacAddr = MacAddr([1, 0x80, 0xc2, 0, 0, 3]);
    /// Of local experiments (IEEE 802).
    const EXPERIMENT: [u8; 2] = [0x88, 0xb5];
    let node = Node::new(&[]);
    let quiet = |ns: &NetNs| {
        let off = |root: &_| {
            berth_kernel::sysctl::set(root, "net/ipv6/conf/all/disable_ipv6", "1").unwrap();
        };
        ns.run(|| off(&berth_kernel::Root::host())).unwrap();
    };
    quiet(&node.ns);
    let [one, two] = [1, 2].map(|number| {
        let host = node.host(&key("blue", number).port_name(), true, mac(number));
        quiet(&host.ns);
        host
    });
    std::thread::sleep(Duration::from_millis(100));
    let from = |mac: MacAddr, to: MacAddr| {
        arrives(&two.ns, || send(&one.ns, one.eth0, mac, to, EXPERIMENT))
    };
    let learned = |mac: MacAddr| {
        let port = node.port(&key("blue", 1));
        let fdb = node.net.fdb(port).unwrap();
        fdb.iter().any(|entry| entry.mac == mac)
    };
    let forged = MacAddr([2, 0x66, 0, 0, 0, 1]);
    // Without the check all of it works, so that what follows shows something.
    assert!(from(mac(1), BROADCAST) && from(forged, BROADCAST));
    assert!(learned(forged));
    from(MacAddr([2, 0x66, 0, 0, 0, 2]), EAPOL);
    assert!(learned(MacAddr([2, 0x66, 0, 0, 0, 2])));

    add(&node.nft, &key("blue", 1), mac(1)).unwrap();
    for (last, to) in [(3, BROADCAST), (4, mac(2)), (5, EAPOL)] {
        let forged = MacAddr([2, 0x66, 0, 0, 0, last]);
        assert!(!from(forged, to), "{forged} to {to}");
        assert!(!learned(forged), "{forged} to {to}");
    }
    assert!(from(mac(1), BROADCAST) && from(mac(1), mac(2)));
    // The other port is not checked.
    let back = |mac| {
        arrives(&one.ns, || {
            send(&two.ns, two.eth0, mac, BROADCAST, EXPERIMENT)
        })
    };
    assert!(back(MacAddr([2, 0x66, 0, 0, 0, 6])) && back(mac(2)));
    remove(&node.nft, &key("blue", 1)).unwrap();
    assert!(from(MacAddr([2, 0x66, 0, 0, 0, 7]), BROADCAST));
    assert_nothing_left(&node.nft);
}
