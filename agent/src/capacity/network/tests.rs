//! Cards and VFs of a fake tree; bridges and networks of records.

use std::os::unix::fs::symlink;
use std::path::Path;

use berth_kernel::netlink;
use berth_state::record::{BridgeHost, ContainerSide, NetnsRef, Phase, SavedRequest};
use berth_state::{Claims, Writer};

use super::*;

const WRITER: Writer = Writer {
    pid: 1,
    start_time: 1,
};

fn put(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn key(id: &str) -> Key {
    Key::new("blue", id, "eth0".parse().unwrap()).unwrap()
}

fn record(id: &str, vlan: u16, ip: &str) -> Record {
    Record {
        key: key(id),
        phase: Phase::Committed,
        boot_id: "one".to_owned(),
        writer: WRITER,
        netns: NetnsRef {
            path: None,
            dev: 4,
            ino: 5,
            cookie: 6,
        },
        host: Host::Bridge(BridgeHost {
            vlan: Some(vlan.try_into().unwrap()),
            ..BridgeHost::new("br0".parse().unwrap(), key(id).port_name())
        }),
        container: ContainerSide {
            ips: vec![ip.parse().unwrap()],
            rx_queues: Some(4),
            ..ContainerSide::default()
        },
        rps: None,
        cgroup_path: None,
        request: SavedRequest {
            config: serde_json::json!({
                "name": "blue",
                "ipam": {"type": "host-local", "subnet": "10.1.2.0/24"}
            }),
            ..SavedRequest::default()
        },
    }
}

fn link(index: u32, name: &str, master: Option<u32>, parent: Option<&str>) -> Link {
    Link {
        index,
        name: name.parse().unwrap(),
        altnames: Vec::new(),
        mac: None,
        permanent_mac: None,
        mtu: 1500,
        up: true,
        running: true,
        carrier: true,
        promisc: false,
        allmulti: false,
        tx_queue_len: 1000,
        group: 0,
        parent: parent.map(str::to_owned),
        parent_bus: parent.map(|_| "pci".to_owned()),
        master,
        peer: None,
        peer_netns: None,
        kind: None,
        slave_kind: None,
        alias: None,
        bridge: None,
        port: None,
        vlan: None,
    }
}

/// A card with three VFs: without a driver, claimed, in quarantine.
fn card_with_vfs(root: &Root) {
    let devices = root.sys.join("bus/pci/devices");
    let pf = devices.join("0000:01:00.0");
    put(&pf.join("class"), "0x020000\n");
    put(&pf.join("sriov_totalvfs"), "7\n");
    put(&pf.join("sriov_numvfs"), "3\n");
    put(&pf.join("numa_node"), "1\n");
    for index in 0..3 {
        let address = format!("0000:01:10.{index}");
        put(&devices.join(&address).join("class"), "0x020000\n");
        symlink(format!("../{address}"), pf.join(format!("virtfn{index}"))).unwrap();
    }
    for index in 1..3 {
        let driver = devices.join(format!("0000:01:10.{index}/driver"));
        symlink("../../../bus/pci/drivers/igbvf", driver).unwrap();
    }
    put(&root.sys.join("class/net/enp1s0/speed"), "1000\n");
    put(&root.sys.join("class/net/enp3s0/speed"), "-1\n");
    let claims = Claims::new(root);
    let at = |text: &str| text.parse().unwrap();
    claims
        .claim(at("0000:01:10.1"), &key("c1"), WRITER)
        .unwrap();
    claims
        .quarantine(at("0000:01:10.2"), "its MAC stays", None)
        .unwrap();
}

#[test]
fn a_card_has_its_vfs_and_whose_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    card_with_vfs(&root);
    let net = Net::open().unwrap();
    let links = [
        link(2, "enp1s0", None, Some("0000:01:00.0")),
        link(3, "enp3s0", None, Some("0000:03:00.0")),
        link(4, "enp1s0v0", None, Some("0000:01:10.0")),
        link(5, "br0", None, None),
    ];
    let records = [record("c1", 100, "10.1.2.3/24")];
    let mut conditions = Vec::new();
    let found = nics(&root, &net, (&links, &records), &mut conditions);
    let [card, other] = found.as_slice() else {
        panic!("{found:#?}");
    };
    assert_eq!(card.speed_mbit_per_sec, Some(1000));
    assert_eq!((card.numa_node, card.vfs_max), (Some(1), 7));
    let states: Vec<_> = card.vfs.iter().map(|vf| vf.state).collect();
    let expected = [State::Unusable, State::Claimed, State::Quarantined];
    assert_eq!(states, expected);
    assert_eq!(card.vfs[1].owner.as_deref(), Some("blue/c1:eth0"));
    assert_eq!(card.vfs[1].queues, Some(4), "as its record has it");
    assert!(card.vfs[2].reasons[0].contains("its MAC stays"));
    assert_eq!(other.name, Some("enp3s0".parse().unwrap()));
    assert_eq!(other.speed_mbit_per_sec, None, "-1 is unknown");
    // Index 2 is no PF of this machine: its VFs' rates are lacking, and nothing else.
    assert!(conditions.len() <= 1, "{conditions:?}");
}

#[test]
fn rates_are_summed_over_claimed_vfs() {
    let vf = |state, min, max| NicVf {
        address: "0000:01:10.0".parse().unwrap(),
        index: 0,
        numa_node: None,
        driver: None,
        queues: None,
        state,
        reasons: Vec::new(),
        owner: None,
        rate_min_mbit_per_sec: min,
        rate_max_mbit_per_sec: max,
    };
    let sums = committed(&[
        vf(State::Claimed, Some(10), Some(100)),
        vf(State::Claimed, Some(5), Some(0)),
        vf(State::Claimed, None, None),
        vf(State::Free, Some(7), Some(7)),
    ]);
    let expected = RateCommitted {
        min_mbit_per_sec: 15,
        max_mbit_per_sec: 100,
        vfs_without_limit: 2,
    };
    assert_eq!(sums, expected);
}

#[test]
fn a_bridge_has_its_ports_vlans_and_uplink() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    let mut br0 = link(5, "br0", None, None);
    br0.bridge = Some(netlink::Bridge {
        vlan_filtering: true,
        ..netlink::Bridge::default()
    });
    let links = [
        br0,
        link(6, "veth1", Some(5), None),
        link(2, "enp1s0", Some(5), Some("0000:01:00.0")),
        link(7, "veth2", Some(9), None),
    ];
    let records = [
        record("c1", 100, "10.1.2.3/24"),
        record("c2", 100, "10.1.2.4/24"),
        record("c3", 200, "10.9.9.9/24"),
    ];
    let mut conditions = Vec::new();
    let found = bridges(&root, (&links, &records), &mut conditions);
    let [bridge] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert!(bridge.vlan_filtering && !bridge.ours);
    assert_eq!(bridge.uplink, Some("enp1s0".parse().unwrap()));
    assert_eq!((bridge.ports_used, bridge.ports_free), (2, 1021));
    let vlans: Vec<_> = bridge.vlans.iter().map(|v| (v.id, v.attachments)).collect();
    assert_eq!(vlans, [(100, 2), (200, 1)]);
    let nets = networks(&root, &records);
    assert_eq!((nets[0].name.as_str(), nets[0].attachments), ("blue", 3));
    let addresses = nets[0].addresses.unwrap();
    assert_eq!((addresses.used, addresses.free), (2, 251));
    assert_eq!(conditions, []);
}
