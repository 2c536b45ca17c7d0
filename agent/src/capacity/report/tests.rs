//! The report: its numbers, its form, and a node of which nothing can be read.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use berth_kernel::Root;
use berth_kernel::mounts::{Mount, ProjectQuota};
use serde_json::Value;

use super::*;
use crate::capacity::ledger::{Booking, IoRate, MemoryBooking};
use crate::capacity::{DiskCapability, Settings, table};

const SCHEMA_FILE: &str = include_str!("../../../../docs/capacity.schema.json");
const FILESYSTEM: DeviceNumber = DeviceNumber {
    major: 254,
    minor: 17,
};
const DEVICE: DeviceNumber = DeviceNumber {
    major: 254,
    minor: 16,
};

fn put(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A node with two NUMA nodes, a disk with one partition, and a card with a VF whose
/// claim says it is in quarantine.
fn fake(dir: &Path) -> Root {
    let root = Root::under(dir);
    put(&root.proc.join("sys/kernel/hostname"), "berth-1\n");
    put(&root.proc.join("sys/kernel/osrelease"), "6.12.43\n");
    put(&root.proc.join("sys/kernel/random/boot_id"), "9f7c\n");
    put(&root.etc.join("machine-id"), "0123456789abcdef\n");
    let nodes = root.sys.join("devices/system/node");
    put(&nodes.join("online"), "0-1\n");
    for node in 0..2 {
        let dir = nodes.join(format!("node{node}"));
        let text = format!("Node {node} MemTotal: 10240 kB\nNode {node} MemFree: 512 kB\n");
        put(&dir.join("meminfo"), &text);
    }
    let pool = nodes.join("node1/hugepages/hugepages-2048kB");
    put(&pool.join("nr_hugepages"), "2\n");
    put(&pool.join("free_hugepages"), "1\n");
    let point = dir.join("data");
    fs::create_dir_all(&point).unwrap();
    put(
        &root.proc.join("self/mountinfo"),
        &format!(
            "31 27 {FILESYSTEM} / {} rw - xfs /dev/vdb1 rw,prjquota\n\
             32 27 254:32 / /nonexistent rw - ext4 /dev/vdc rw\n",
            point.display()
        ),
    );
    let disk = root.sys.join("devices/virtio1/block/vdb");
    put(&disk.join("dev"), "254:16\n");
    put(&disk.join("vdb1/partition"), "1\n");
    let numbers = root.sys.join("dev/block");
    fs::create_dir_all(&numbers).unwrap();
    let link = |number: &str, to: &Path| symlink(to, numbers.join(number)).unwrap();
    link("254:16", &disk);
    link(&FILESYSTEM.to_string(), &disk.join("vdb1"));
    put(&root.cgroup.join("io.cost.qos"), "");
    fs::create_dir_all(root.sys.join("bus/pci/devices")).unwrap();
    root
}

fn settings(dir: &Path) -> Settings {
    Settings {
        zone: Some("a1".to_owned()),
        labels: BTreeMap::from([("module".to_owned(), "m7".to_owned())]),
        reserved_memory_bytes: 1 << 20,
        disks: vec![DiskCapability {
            path: dir.join("data/games"),
            rate: IoRate {
                read: Some(300),
                write: Some(200),
            },
            iocost: true,
            overcommit_percent: 100,
        }],
    }
}

fn bookings() -> Bookings {
    let mut bookings = Bookings::default();
    let booking = |bytes, nodes: &str| Booking {
        shared_cpus: 2,
        memory: Some(MemoryBooking {
            bytes,
            nodes: nodes.parse().unwrap(),
        }),
        disk: BTreeMap::from([(FILESYSTEM, 4096)]),
        io: BTreeMap::from([(
            DEVICE,
            IoRate {
                read: None,
                write: Some(50),
            },
        )]),
    };
    bookings.book("one".parse().unwrap(), booking(2 << 20, "1"));
    bookings.book("two".parse().unwrap(), booking(3 << 20, ""));
    bookings
}

fn known(conditions: &[Condition]) -> Known<'_> {
    Known {
        generation: 7,
        observed_at_unix_ms: 1_700_000_000_000,
        cpus: vec![CpuNumbers {
            cores_total: 4,
            shared_pool: "0-1".parse().unwrap(),
            ..CpuNumbers::default()
        }],
        conditions,
    }
}

fn whole(dir: &Path) -> Capacity {
    let inventory = Inventory::read(&fake(dir), &settings(dir));
    report(&inventory, &bookings(), known(&[]))
}

#[test]
fn memory_leaves_out_huge_pages_and_what_is_promised() {
    let dir = tempfile::tempdir().unwrap();
    let memory = whole(dir.path()).memory;
    assert_eq!(memory.total_bytes, 16 << 20);
    assert_eq!(memory.committed_bytes, 5 << 20);
    assert_eq!(memory.free_bytes, 10 << 20);
    let [zero, one] = memory.nodes.as_slice() else {
        panic!("{memory:?}");
    };
    assert_eq!((zero.total_bytes, zero.free_bytes), (10 << 20, 10 << 20));
    assert_eq!((one.total_bytes, one.committed_bytes), (6 << 20, 2 << 20));
    assert_eq!(one.free_bytes, 4 << 20);
    assert_eq!(one.huge_pages[0].committed_pages, 1);
}

#[test]
fn a_disk_has_its_numbers_and_io_is_that_of_the_whole_disk() {
    let dir = tempfile::tempdir().unwrap();
    let capacity = whole(dir.path());
    let [disk] = capacity.disks.as_slice() else {
        panic!("{:?}", capacity.disks);
    };
    assert!(disk.quota.enforced && disk.io.weights.enforced);
    assert_eq!(disk.committed_bytes, 8192);
    assert_eq!(disk.free_bytes, disk.size_bytes - 8192);
    assert_eq!(disk.io.device, DEVICE);
    assert_eq!(disk.io.write_bytes_per_sec, Some(200));
    assert_eq!(disk.io.committed_write_bytes_per_sec, 100);
    let lacking: Vec<_> = capacity.conditions.iter().map(|c| &c.object).collect();
    assert_eq!(lacking, ["filesystem /nonexistent"]);
}

#[test]
fn the_node_is_named_and_its_machine_id_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let capacity = whole(dir.path());
    let id = capacity.node.id.clone().unwrap();
    // printf 'berth node 0123456789abcdef' | sha256sum | cut -c-32
    assert_eq!(id, "80c101d34309c2f63b1a89d8580c7944");
    assert_eq!(capacity.node.hostname, "berth-1");
    assert!(
        !serde_json::to_string(&capacity)
            .unwrap()
            .contains("0123456789abcdef")
    );
}

#[test]
fn a_node_of_which_nothing_can_be_read_still_has_a_report() {
    let root = Root::under(Path::new("/nonexistent"));
    let dir = tempfile::tempdir().unwrap();
    let inventory = Inventory::read(&root, &settings(dir.path()));
    let capacity = report(&inventory, &Bookings::default(), known(&[]));
    assert_eq!(capacity.memory.free_bytes, 0);
    assert!(capacity.disks.is_empty());
    let kinds: BTreeSet<_> = capacity
        .conditions
        .iter()
        .map(|c| c.kind.as_str())
        .collect();
    assert_eq!(
        kinds,
        BTreeSet::from(["capacity.unreadable", "disk.capability"])
    );
    let objects: Vec<_> = capacity.conditions.iter().map(|c| &*c.object).collect();
    assert!(
        objects.contains(&"memory") && objects.contains(&"filesystems"),
        "{objects:?}"
    );
}

fn a_bridge() -> Bridge {
    Bridge {
        name: "br0".parse().unwrap(),
        ours: true,
        up: true,
        uplink: Some("enp1s0".parse().unwrap()),
        vlan_filtering: true,
        vlans: vec![VlanUse {
            id: 100,
            attachments: 2,
        }],
        uplink_vlans: vec![100],
        ports_used: 3,
        ports_max: 1023,
        ports_free: 1020,
    }
}

/// A report in which nothing is empty.
fn full(dir: &Path) -> Capacity {
    let mut capacity = whole(dir);
    let off = Mount {
        point: "/logs".into(),
        source: None,
        fs_type: "ext4".to_owned(),
        device: "254:48".to_owned(),
        read_only: false,
        project_quota: ProjectQuota::OffExt4,
    };
    let mut without = capacity.disks[0].clone();
    without.quota = able(off.project_quota.why_not());
    capacity.disks.push(without);
    capacity.nics.push(Nic {
        name: Some("enp1s0".parse().unwrap()),
        address: Some("0000:01:00.0".parse().unwrap()),
        driver: Some("igb".to_owned()),
        numa_node: Some(0),
        speed_mbit_per_sec: Some(1000),
        up: true,
        carrier: true,
        vfs_max: 7,
        rate_committed: RateCommitted::default(),
        vfs: vec![NicVf {
            address: "0000:01:10.0".parse().unwrap(),
            index: 0,
            numa_node: None,
            driver: None,
            queues: None,
            state: State::InUse,
            reasons: vec!["it is a port of br0".to_owned()],
            owner: None,
            rate_min_mbit_per_sec: None,
            rate_max_mbit_per_sec: Some(100),
        }],
    });
    capacity.bridges.push(a_bridge());
    capacity.networks.push(Network {
        name: "blue".to_owned(),
        kind: NetworkKind::Bridge,
        bridge: Some("br0".parse().unwrap()),
        attachments: 2,
        addresses: Some(Addresses {
            total: 253,
            used: 2,
            free: 251,
        }),
    });
    capacity
}

/// Every field of `value` is described in `schema`, every described one is there, and
/// each is of a type it may have.
fn compare(root: &Value, schema: &Value, value: &Value, at: &str) {
    let schema = match schema.get("$ref").and_then(Value::as_str) {
        Some(path) => root.pointer(path.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    assert!(schema["description"].is_string(), "{at} is not described");
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let may = match &schema["type"] {
        Value::Array(kinds) => kinds.contains(&kind.into()),
        one => *one == kind,
    };
    assert!(may, "{at} is {kind}, schema says {}", schema["type"]);
    match (value, &schema["properties"]) {
        (Value::Object(fields), Value::Object(described)) => {
            for (name, field) in fields {
                let schema = described.get(name).unwrap_or_else(|| panic!("{at}.{name}"));
                compare(root, schema, field, &format!("{at}.{name}"));
            }
            for name in schema["required"].as_array().unwrap() {
                assert!(
                    fields.contains_key(name.as_str().unwrap()),
                    "{at} lacks {name}"
                );
            }
        }
        (Value::Array(items), _) => {
            for item in items {
                compare(root, &schema["items"], item, &format!("{at}[]"));
            }
        }
        (Value::String(text), _) => {
            let listed = schema["enum"].as_array();
            assert!(
                listed.is_none_or(|l| l.contains(&text.as_str().into())),
                "{at} {text}"
            );
        }
        _ => {}
    }
}

#[test]
fn the_schema_describes_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let schema: Value = serde_json::from_str(SCHEMA_FILE).unwrap();
    for capacity in [full(dir.path()), whole(tempfile::tempdir().unwrap().path())] {
        let value = serde_json::to_value(&capacity).unwrap();
        compare(&schema, &schema, &value, "report");
        let again: Capacity = serde_json::from_value(value).unwrap();
        assert_eq!(again, capacity);
    }
}

#[test]
fn the_table_shows_each_kind_of_thing() {
    let dir = tempfile::tempdir().unwrap();
    let mut out = Vec::new();
    table(&full(dir.path()), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    for line in [
        "node berth-1, generation 7, zone a1, module m7",
        "node 0  4      0         0          0     0             0-1          -",
        "all     16 MiB  1 MiB     5 MiB      10 MiB  -",
        "node 1  6 MiB   -         2 MiB      4 MiB   1 of 2 x 2 MiB",
        "enp1s0  0000:01:00.0  0     1000 Mbit/s  yes      1/7  0     0        0",
        "br0     enp1s0  100    3/1023  1020",
        "blue     bridge br0  2            251/253",
        "filesystem /nonexistent: the report lacks filesystem /nonexistent",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}
