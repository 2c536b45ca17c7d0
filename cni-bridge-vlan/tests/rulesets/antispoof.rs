use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use berth_kernel::MacAddr;
use berth_kernel::netlink::nft::{ElementKey, Family, Name, Nft};
use cni_bridge_vlan::antispoof::{add, check, marked, remove};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::node::{Host, Node, assert_nothing_left, berth, key, mac, meddle, namespace};

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

/// Of local experiments (IEEE 802): nobody else's frames are of this kind.
const EXPERIMENT: u16 = 0x88b5;

/// Frames of that kind out of and into a container, as a program with CAP_NET_RAW sends
/// and receives them.
struct Frames {
    socket: OwnedFd,
    eth0: u32,
}

impl Frames {
    fn of(host: &Host) -> Self {
        let kind = i32::from(EXPERIMENT.to_be());
        let open = || {
            // SAFETY: no pointer is passed.
            let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, kind) };
            assert!(socket >= 0, "{}", std::io::Error::last_os_error());
            // SAFETY: it was just opened and nobody else has it.
            unsafe { OwnedFd::from_raw_fd(socket) }
        };
        let socket = host.ns.run(open).unwrap();
        let patience = TimeVal::milliseconds(200);
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience).unwrap();
        Self {
            socket,
            eth0: host.eth0,
        }
    }

    fn send(&self, from: MacAddr, to: MacAddr) {
        let mut frame = [&to.0[..], &from.0, &EXPERIMENT.to_be_bytes()].concat();
        frame.resize(60, 0);
        // SAFETY: all zero is a value of this structure of numbers.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
        address.sll_ifindex = i32::try_from(self.eth0).unwrap();
        let len = u32::try_from(size_of_val(&address)).unwrap();
        // SAFETY: both pointers are to values that live, of the lengths given.
        let sent = unsafe {
            let (socket, address) = (self.socket.as_raw_fd(), (&raw const address).cast());
            libc::sendto(socket, frame.as_ptr().cast(), frame.len(), 0, address, len)
        };
        assert_eq!(sent, 60, "{}", std::io::Error::last_os_error());
    }

    /// Whether a frame of this sender comes in. Its own are not among them.
    fn came_from(&self, from: MacAddr) -> bool {
        let mut frame = [0; 128];
        loop {
            match recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                Ok(_) if frame[6..12] == from.0 => return true,
                Ok(_) => {}
                Err(Errno::EAGAIN) => return false,
                Err(errno) => panic!("receive: {errno}"),
            }
        }
    }
}

pub(crate) fn only_the_containers_address_gets_through_and_is_learned() {
    const BROADCAST: MacAddr = MacAddr([0xff; 6]);
    /// A link-local group the bridge keeps to itself: 802.1X.
    const EAPOL: MacAddr = MacAddr([1, 0x80, 0xc2, 0, 0, 3]);
    let node = Node::new(&[]);
    let [one, two] = [1, 2]
        .map(|number| Frames::of(&node.host(&key("blue", number).port_name(), true, mac(number))));
    let arrives = |mac: MacAddr, to: MacAddr| {
        one.send(mac, to);
        two.came_from(mac)
    };
    let learned = |mac: MacAddr| {
        let port = node.port(&key("blue", 1));
        let fdb = node.net.fdb(port).unwrap();
        fdb.iter().any(|entry| entry.mac == mac)
    };
    let forged = |last| MacAddr([2, 0x66, 0, 0, 0, last]);
    // The bridge takes a moment to let the ports' frames through.
    let deadline = Instant::now() + Duration::from_secs(5);
    while !arrives(mac(1), BROADCAST) {
        assert!(Instant::now() < deadline, "the bridge forwards nothing");
    }
    // Without the check all of it works, so that what follows shows something.
    assert!(arrives(forged(1), BROADCAST) && learned(forged(1)));
    assert!(!arrives(forged(2), EAPOL) && learned(forged(2)));

    add(&node.nft, &key("blue", 1), mac(1)).unwrap();
    for (last, to) in [(3, BROADCAST), (4, mac(2)), (5, EAPOL)] {
        assert!(!arrives(forged(last), to), "{last} to {to}");
        assert!(!learned(forged(last)), "{last} to {to}");
    }
    assert!(arrives(mac(1), BROADCAST) && arrives(mac(1), mac(2)));
    // The other port is not checked.
    two.send(forged(6), BROADCAST);
    assert!(one.came_from(forged(6)));
    remove(&node.nft, &key("blue", 1)).unwrap();
    assert!(arrives(forged(7), BROADCAST));
    assert_nothing_left(&node.nft);
}
