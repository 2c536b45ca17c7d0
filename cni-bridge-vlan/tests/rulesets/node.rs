//! A node with a bridge, containers on it, and a host outside that knows the node alone.

use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use berth_kernel::netlink::nft::{Batch, Family, Nft, Table};
use berth_kernel::netlink::{AddressFlags, Net, NewBridge, Route, Veth};
use berth_kernel::{IfName, MacAddr, NetNs, Root, sysctl};
use berth_state::Key;
use ipnetwork::IpNetwork;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

/// How long to wait for what must not come.
const SILENCE: Duration = Duration::from_millis(300);
/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(5);

/// A new, empty network namespace; it lives as long as the value.
pub(crate) fn try_namespace() -> Result<NetNs, Errno> {
    let made = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).map(|()| NetNs::current().unwrap())
    });
    made.join().unwrap()
}

pub(crate) fn namespace() -> NetNs {
    try_namespace().unwrap_or_else(|errno| {
        panic!("this test needs root to make network namespaces: unshare: {errno}")
    })
}

pub(crate) fn key(network: &str, number: u32) -> Key {
    let id = format!("{number:064x}");
    Key::new(network, &id, "eth0".parse().unwrap()).unwrap()
}

pub(crate) fn mac(number: u32) -> MacAddr {
    let [a, b, c, d] = number.to_be_bytes();
    MacAddr([2, 0x5e, a, b, c, d])
}

pub(crate) fn nets(texts: &[&str]) -> Vec<IpNetwork> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

pub(crate) fn berth(family: Family) -> Table {
    Table {
        family,
        name: "berth".parse().unwrap(),
    }
}

/// No table of ours is there.
pub(crate) fn assert_nothing_left(nft: &Nft) {
    for family in [Family::Ip, Family::Ip6, Family::Inet, Family::Bridge] {
        assert_eq!(nft.tables(family).unwrap(), [""; 0], "{family}");
    }
}

/// What somebody else does.
pub(crate) fn meddle(nft: &Nft, change: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    change(&mut batch);
    nft.apply(&batch, None).unwrap();
}

/// The node: a router with bridge `br0`.
pub(crate) struct Node {
    ns: NetNs,
    pub(crate) net: Net,
    pub(crate) nft: Nft,
}

/// A namespace with `eth0`.
pub(crate) struct Host {
    pub(crate) ns: NetNs,
    net: Net,
    pub(crate) eth0: u32,
}

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn add(net: &Net, index: u32, addresses: &[&str]) {
    for address in addresses {
        let nodad = AddressFlags { nodad: true };
        net.add_address(index, address.parse().unwrap(), nodad)
            .unwrap();
    }
}

impl Node {
    /// The bridge has these addresses.
    pub(crate) fn new(addresses: &[&str]) -> Self {
        let ns = namespace();
        let net = Net::open_in(&ns).unwrap();
        net.create_bridge(&NewBridge {
            name: &name("br0"),
            mac: mac(0xff_ffff),
            mtu: None,
            vlan_filtering: false,
        })
        .unwrap();
        let br0 = net.link(&name("br0")).unwrap().index;
        net.set_up(br0).unwrap();
        add(&net, br0, addresses);
        ns.run(|| {
            for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
                sysctl::set(&Root::host(), key, "1").unwrap();
            }
        })
        .unwrap();
        let nft = Nft::open_in(&ns).unwrap();
        Self { ns, net, nft }
    }

    /// Has the bridge forward frames to the link-local groups whose bits are set, which
    /// it keeps else.
    pub(crate) fn forward_groups(&self, mask: u16) {
        let line = format!("link set br0 type bridge group_fwd_mask {mask}");
        let ip = || Command::new("ip").args(line.split(' ')).status().unwrap();
        assert!(self.ns.run(ip).unwrap().success(), "ip {line}");
    }

    /// A namespace whose `eth0` has `mac`; its other end is `port` here.
    pub(crate) fn host(&self, port: &IfName, bridged: bool, mac: MacAddr) -> Host {
        let ns = namespace();
        let br0 = self.net.link(&name("br0")).unwrap().index;
        self.net
            .create_veth(&Veth {
                host: port,
                host_mac: None,
                master: bridged.then_some(br0),
                group: None,
                mtu: None,
                up: true,
                peer: &name("eth0"),
                peer_mac: Some(mac),
                peer_ns: &ns,
            })
            .unwrap();
        let net = Net::open_in(&ns).unwrap();
        let eth0 = net.link(&name("eth0")).unwrap().index;
        net.set_up(eth0).unwrap();
        Host { ns, net, eth0 }
    }

    /// A host with these addresses on a wire of its own, where the node has `own`.
    pub(crate) fn outside(&self, addresses: &[&str], own: &[&str]) -> Host {
        let host = self.host(&name("wan"), false, mac(0xff_fffe));
        let wan = self.net.link(&name("wan")).unwrap().index;
        add(&self.net, wan, own);
        add(&host.net, host.eth0, addresses);
        host
    }

    pub(crate) fn port(&self, key: &Key) -> u32 {
        self.net.link(&key.port_name()).unwrap().index
    }

    /// Whether the bridge has learned that `mac` is behind the attachment's port.
    pub(crate) fn has_learned(&self, key: &Key, mac: MacAddr) -> bool {
        let fdb = self.net.fdb(self.port(key)).unwrap();
        fdb.iter().any(|entry| entry.mac == mac)
    }
}

impl Host {
    pub(crate) fn addresses(self, addresses: &[&str]) -> Self {
        add(&self.net, self.eth0, addresses);
        self
    }

    pub(crate) fn default_routes(self, gateways: &[&str]) -> Self {
        for gateway in gateways {
            let gateway: IpAddr = gateway.parse().unwrap();
            let all = if gateway.is_ipv4() {
                "0.0.0.0/0"
            } else {
                "::/0"
            };
            let route = Route::new(all.parse().unwrap(), Some(gateway));
            self.net.add_route(self.eth0, &route).unwrap();
        }
        self
    }

    /// A UDP socket on an address of this host.
    pub(crate) fn socket(&self, address: &str) -> UdpSocket {
        let address: IpAddr = address.parse().unwrap();
        let bound = self.ns.run(|| UdpSocket::bind((address, 0)).unwrap());
        bound.unwrap()
    }
}

/// The sender of what arrives at `to` after `from` sent to it; `None` if nothing does.
/// An answer must find its way back to `from`. What is `expected` is sent until it comes:
/// bridges and neighbours take a moment.
pub(crate) fn seen_sender(from: &UdpSocket, to: &UdpSocket, expected: bool) -> Option<IpAddr> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = asked(from, to);
        if seen.is_some() || !expected || Instant::now() > deadline {
            return seen;
        }
    }
}

fn asked(from: &UdpSocket, to: &UdpSocket) -> Option<IpAddr> {
    let mut text = [0; 8];
    for socket in [from, to] {
        socket.set_read_timeout(Some(SILENCE)).unwrap();
    }
    from.send_to(b"question", to.local_addr().unwrap()).unwrap();
    let (_, sender) = to.recv_from(&mut text).ok()?;
    to.send_to(b"answer", sender).ok()?;
    let (_, answerer) = from.recv_from(&mut text).ok()?;
    assert_eq!(answerer, to.local_addr().unwrap());
    Some(sender.ip())
}
