use super::*;
use crate::error::Kind;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Barrier;
use tempfile::TempDir;

fn records() -> (TempDir, Records) {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::new(&Root::under(dir.path()));
    (dir, records)
}

fn key(network: &str, id: &str) -> Key {
    Key::new(network, id, "eth0".parse().unwrap()).unwrap()
}

fn record(key: &Key) -> Record {
    Record {
        key: key.clone(),
        phase: Phase::Prepared,
        boot_id: "0a1b2c3d-0000-4000-8000-000000000001".into(),
        writer: Writer {
            pid: 4242,
            start_time: 27135,
        },
        netns: NetnsRef {
            path: Some("/run/netns/c1".into()),
            dev: 4,
            ino: 4_026_532_281,
            cookie: u64::MAX,
        },
        host: Host::Bridge(BridgeHost {
            vlan: Some(100.try_into().unwrap()),
            uplink: Some("eth1".parse().unwrap()),
            bandwidth: Bandwidth {
                ingress: None,
                egress: Some(RateLimit {
                    rate: 1_000_000,
                    burst: 80_000,
                }),
            },
            ..BridgeHost::new("br0".parse().unwrap(), key.port_name())
        }),
        container: ContainerSide {
            mac: Some("02:00:5e:10:00:02".parse().unwrap()),
            mtu: Some(1500),
            ips: vec![
                "10.1.2.3/24".parse().unwrap(),
                "2001:db8::3/64".parse().unwrap(),
            ],
            rx_queues: Some(4),
            tx_queues: Some(4),
            left_down: false,
        },
        rps: Some(Rps {
            wished: "auto".into(),
            set_host: Some([2, 3].into_iter().collect()),
            set_container: None,
            flow_entries: 4096,
        }),
        cgroup_path: Some("/machine.slice/c1.scope".into()),
        request: SavedRequest {
            config: serde_json::json!({"name": "blue", "ipam": {"type": "host-local"}}),
            args: "IgnoreUnknown=1".into(),
            path: "/opt/cni/bin".into(),
        },
    }
}

#[test]
fn a_record_is_read_as_it_was_written_and_lies_where_the_design_says() {
    let (dir, records) = records();
    let wished = record(&key("blue", "c1"));
    assert_eq!(records.load(&wished.key), Ok(None));
    records.create(&wished).unwrap();
    assert_eq!(records.load(&wished.key), Ok(Some(wished.clone())));
    let path = dir.path().join("run/berth/attachments/blue/c1:eth0.json");
    assert_eq!(records.path(&wished.key), path);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    let dirs = [path.parent().unwrap(), &dir.path().join("run/berth")];
    let modes = dirs.map(|dir| fs::metadata(dir).unwrap().mode() & 0o7777);
    assert_eq!(modes, [0o700, 0o755]);
}

/// The file's text is a contract with the next version.
#[test]
fn format_2_is_this() {
    let (_dir, records) = records();
    let wished = record(&key("blue", "c1"));
    records.create(&wished).unwrap();
    let text = fs::read(records.path(&wished.key)).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let contract = serde_json::json!({
        "format": 2,
        "key": "blue/c1:eth0",
        "phase": "prepared",
        "bootId": "0a1b2c3d-0000-4000-8000-000000000001",
        "writer": {"pid": 4242, "startTime": 27135},
        "netns": {"path": "/run/netns/c1", "dev": 4, "ino": 4_026_532_281_u64, "cookie": u64::MAX},
        "kind": "bridge",
        "host": {
            "bridge": "br0", "port": wished.key.port_name(), "vlan": 100, "uplink": "eth1",
            "flags": {"hairpin": false, "isolated": false, "locked": false, "promisc": false,
                "unfiltered": false},
            "rules": {"masquerade": false, "senders": false, "tags": false, "bpdus": false},
            "bandwidth": {"egress": {"rate": 1_000_000, "burst": 80_000}},
        },
        "container": {
            "mac": "02:00:5e:10:00:02", "mtu": 1500,
            "ips": ["10.1.2.3/24", "2001:db8::3/64"], "rxQueues": 4, "txQueues": 4,
        },
        "rps": {"wished": "auto", "setHost": "2-3", "setContainer": null, "flowEntries": 4096},
        "cgroupPath": "/machine.slice/c1.scope",
        "request": {
            "config": {"name": "blue", "ipam": {"type": "host-local"}},
            "args": "IgnoreUnknown=1", "path": "/opt/cni/bin",
        },
    });
    assert_eq!(json, contract);
}

#[test]
fn any_finds_one_of_any_network_and_what_cannot_be_read() {
    let (_dir, records) = records();
    let is_blue = |record: &Record| record.key.network() == "blue";
    assert_eq!(records.any(|_| true), Ok(false));
    records.create(&record(&key("red", "c1"))).unwrap();
    assert_eq!(records.any(|_| true), Ok(true));
    assert_eq!(records.any(is_blue), Ok(false));
    records.create(&record(&key("blue", "c1"))).unwrap();
    assert_eq!(records.any(is_blue), Ok(true));
    records.remove(&key("blue", "c1")).unwrap();
    assert_eq!(records.any(is_blue), Ok(false));
    fs::write(records.path(&key("red", "c2")), "{").unwrap();
    assert_eq!(records.any(is_blue), Ok(true));
}

#[test]
fn a_vf_is_remembered_with_all_that_it_was() {
    let (_dir, records) = records();
    let mut wished = record(&key("blue", "c1"));
    wished.host = Host::Sriov(Box::new(crate::vf::testing::host()));
    records.create(&wished).unwrap();
    assert_eq!(records.load(&wished.key), Ok(Some(wished.clone())));
    let text = fs::read(records.path(&wished.key)).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(json["kind"], "sriov");
    assert_eq!(json["host"]["vf"], "0000:01:10.2");
    assert_eq!(json["host"]["irqs"], serde_json::json!([[44, "0-3"]]));
    let vlan = serde_json::json!({"id": 0, "qos": 0, "proto": "802.1Q"});
    assert_eq!(json["host"]["baseline"]["side"]["vlan"], vlan);
    assert!(json["host"]["baseline"]["side"].get("trust").is_some());
    assert!(json["host"]["set"]["side"].get("trust").is_none());
}

#[test]
fn the_previous_format_is_read_too() {
    let (_dir, records) = records();
    let wished = record(&key("blue", "c1"));
    records.create(&wished).unwrap();
    let path = records.path(&wished.key);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"format\": 2", "\"format\": 1")).unwrap();
    assert_eq!(records.load(&wished.key), Ok(Some(wished)));
}

#[test]
fn a_second_create_is_refused_and_replace_needs_the_first() {
    let (_dir, records) = records();
    let mut wished = record(&key("blue", "c1"));
    assert_eq!(records.replace(&wished).unwrap_err().kind(), Kind::Absent);
    records.create(&wished).unwrap();
    assert_eq!(records.create(&wished).unwrap_err().kind(), Kind::Exists);
    wished.phase = Phase::Committed;
    wished.rps = None;
    wished.cgroup_path = None;
    records.replace(&wished).unwrap();
    assert_eq!(records.load(&wished.key), Ok(Some(wished)));
}

#[test]
fn the_last_record_takes_its_network_along_with_what_dead_writers_left() {
    let (_dir, records) = records();
    let (one, two) = (record(&key("blue", "c1")), record(&key("blue", "c2")));
    records.create(&one).unwrap();
    records.create(&two).unwrap();
    records.create(&record(&key("red", "c1"))).unwrap();
    assert_eq!(
        records.networks(),
        Ok(vec!["blue".to_owned(), "red".to_owned()])
    );
    let left = records
        .path(&one.key)
        .with_file_name(".tmp-1-0123456789abcdef");
    fs::write(&left, "half").unwrap();
    assert_eq!(
        records.list("blue"),
        Ok(vec![Ok(one.clone()), Ok(two.clone())])
    );
    records.remove(&one.key).unwrap();
    assert!(!left.exists());
    assert_eq!(records.list("blue"), Ok(vec![Ok(two.clone())]));
    records.remove(&two.key).unwrap();
    records.remove(&two.key).unwrap();
    assert_eq!(records.networks(), Ok(vec!["red".to_owned()]));
    assert_eq!(records.list("blue"), Ok(vec![]));
}

#[test]
fn newer_and_broken_records_are_refused_told_and_kept() {
    let (_dir, records) = records();
    let own = record(&key("blue", "c1"));
    records.create(&own).unwrap();
    let path = records.path(&own.key);
    let text = fs::read_to_string(&path).unwrap();
    let cases = [
        (
            text.replace("\"format\": 2", "\"format\": 3"),
            Kind::NewerFormat,
            "format 3",
        ),
        ("{\"format\": 4}".into(), Kind::NewerFormat, "up to 2"),
        (
            text.replace("\"format\": 2", "\"format\": 0"),
            Kind::Malformed,
            "format",
        ),
        (
            text.replace("\"format\": 2", "\"format\": \"2\""),
            Kind::Malformed,
            "format",
        ),
        (
            text.replace("\"cookie\"", "\"cake\""),
            Kind::Malformed,
            "cookie",
        ),
        (
            text.replace("\"bridge\",", "\"tunnel\","),
            Kind::Malformed,
            "tunnel",
        ),
        (
            text.replace("blue/c1:eth0", "blue/c2:eth0"),
            Kind::Malformed,
            "blue/c2:eth0",
        ),
        (text[..text.len() / 2].to_owned(), Kind::Malformed, "EOF"),
        (String::new(), Kind::Malformed, "EOF"),
    ];
    for (text, kind, word) in cases {
        fs::write(&path, &text).unwrap();
        let error = records.load(&own.key).unwrap_err();
        assert_eq!(error.kind(), kind, "{text}");
        let message = error.to_string();
        assert!(
            message.contains("c1:eth0.json") && message.contains(word),
            "{message}"
        );
        assert_eq!(records.list("blue"), Ok(vec![Err(error.clone())]));
        assert_eq!(records.remove(&own.key), Err(error));
        assert_eq!(records.create(&own).unwrap_err().kind(), Kind::Exists);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn of_twenty_at_once_one_creates_the_record() {
    let (_dir, records) = records();
    let key = key("blue", "c1");
    let start = Barrier::new(20);
    let won: Vec<u32> = std::thread::scope(|scope| {
        let contend = |pid: u32| {
            let (records, start) = (&records, &start);
            let mut own = record(&key);
            own.writer.pid = pid;
            scope.spawn(move || {
                start.wait();
                match records.create(&own) {
                    Ok(()) => Some(pid),
                    Err(error) => {
                        assert_eq!(error.kind(), Kind::Exists);
                        None
                    }
                }
            })
        };
        let threads: Vec<_> = (0..20).map(contend).collect();
        threads
            .into_iter()
            .filter_map(|t| t.join().unwrap())
            .collect()
    });
    let writer = records.load(&key).unwrap().unwrap().writer.pid;
    assert_eq!(won, [writer]);
}

#[test]
fn creates_survive_the_directory_going_with_the_last_record() {
    let (_dir, records) = records();
    std::thread::scope(|scope| {
        for id in 0..4 {
            let records = &records;
            scope.spawn(move || {
                let own = record(&key("blue", &format!("c{id}")));
                for _ in 0..150 {
                    records.create(&own).unwrap();
                    records.remove(&own.key).unwrap();
                }
            });
        }
    });
    assert_eq!(records.networks(), Ok(vec![]));
}

#[test]
fn a_namespace_is_known_again_by_its_cookie_alone() {
    let here = NetNs::current().unwrap();
    let mut remembered = NetnsRef::of(&here).unwrap();
    assert_eq!(remembered.is(&here), Ok(true));
    remembered.ino += 1;
    remembered.path = None;
    assert_eq!(remembered.is(&here), Ok(true));
    remembered.cookie += 1;
    assert_eq!(remembered.is(&here), Ok(false));
}
