use super::*;
use crate::ipam::Ipam;
use crate::ipam::tests::{incoming, one};
use crate::request::{Command, Incoming};
use berth_kernel::NetNs;
use berth_state::record::{BridgeHost, Host};
use berth_state::undo::{Faults, Undo};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;
use tempfile::TempDir;

/// A node of its own: `run` and `var` in a fresh tree.
struct Scene {
    _dir: TempDir,
    root: Root,
}

fn scene() -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let root = Root {
        run: dir.path().join("run"),
        var: dir.path().join("var"),
        ..Root::host()
    };
    fs::create_dir_all(&root.run).unwrap();
    Scene { root, _dir: dir }
}

fn conf(ipam: &Value) -> Value {
    let mut ipam = ipam.clone();
    ipam["type"] = "host-local".into();
    json!({"cniVersion": "1.1.0", "name": "blue", "type": "t", "ipam": ipam})
}

fn small() -> Value {
    conf(&json!({"subnet": "10.1.0.0/29"}))
}

fn dual() -> Value {
    conf(&json!({"ranges": [
        [{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "rangeEnd": "10.1.0.12"}],
        [{"subnet": "fd00::/64"}],
    ]}))
}

fn with(mut conf: Value, key: &str, value: Value) -> Value {
    conf[key] = value;
    conf
}

impl Scene {
    fn request(&self, verb: Command, conf: &Value, id: &str, args: &str) -> Request {
        let variables = [("CNI_CONTAINERID", id), ("CNI_ARGS", args)];
        one(verb, conf, &variables).0
    }

    fn ipam(&self, request: &Call) -> Ipam {
        Ipam::of(&self.root, request).unwrap()
    }

    fn add_with(&self, conf: &Value, id: &str, args: &str) -> Result<AddResult, CniError> {
        let request = self.request(Command::Add, conf, id, args);
        self.ipam(&request).add(&request)
    }

    fn add(&self, conf: &Value, id: &str) -> Vec<String> {
        addresses(&self.add_with(conf, id, "").unwrap())
    }

    fn del(&self, conf: &Value, id: &str) {
        let request = self.request(Command::Del, conf, id, "");
        self.ipam(&request).del(&request).unwrap();
    }

    fn check(&self, conf: &Value, id: &str, previous: &[&str]) -> Result<(), CniError> {
        let ips: Vec<Value> = previous.iter().map(|ip| json!({"address": ip})).collect();
        let previous = json!({"cniVersion": "1.1.0", "ips": ips});
        let conf = with(conf.clone(), "prevResult", previous);
        let request = self.request(Command::Check, &conf, id, "");
        self.ipam(&request).check(&request)
    }

    fn status(&self, conf: &Value) -> Result<(), CniError> {
        match incoming(Command::Status, conf, &[]).0 {
            Incoming::Status(call) => self.ipam(&call).status(&call),
            other => panic!("{other:?}"),
        }
    }

    fn gc(&self, conf: &Value, valid: &[(&str, &str)]) -> Result<(), CniError> {
        let valid: Vec<Value> = valid
            .iter()
            .map(|(id, ifname)| json!({"containerID": id, "ifname": ifname}))
            .collect();
        let conf = with(conf.clone(), "cni.dev/valid-attachments", json!(valid));
        match incoming(Command::Gc, &conf, &[]).0 {
            Incoming::Gc(request) => self.ipam(&request).gc(&request),
            other => panic!("{other:?}"),
        }
    }

    fn pool(&self) -> PathBuf {
        self.root.var.join("lib/cni/networks/blue")
    }

    /// Every lease: address and container.
    fn leases(&self) -> Vec<(String, String)> {
        let leases = Pool::new(&self.root, None, "blue").leases().unwrap();
        let pair = |lease: Lease| {
            let owner = lease.owner.map(|owner| owner.container_id);
            (lease.address.to_string(), owner.unwrap_or_default())
        };
        leases.into_iter().map(pair).collect()
    }

    fn foreign(&self, name: &str, content: &str) {
        fs::create_dir_all(self.pool()).unwrap();
        fs::write(self.pool().join(name), content).unwrap();
    }
}

fn addresses(result: &AddResult) -> Vec<String> {
    let text = |ip: &crate::result::IpConfig| {
        let gateway = ip.gateway.unwrap();
        format!("{} via {gateway}", ip.address)
    };
    result.ips.iter().map(text).collect()
}

#[test]
fn it_is_built_in_only_where_the_operator_has_none() {
    let scene = scene();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let (request, _) = one(Command::Add, &small(), &[("CNI_PATH", path)]);
    assert!(matches!(scene.ipam(&request), Ipam::HostLocal(_)));
    fs::write(dir.path().join("host-local"), "").unwrap();
    assert!(matches!(scene.ipam(&request), Ipam::Delegate(_)));
}

#[test]
fn an_address_of_each_set_with_routes_and_name_service() {
    let scene = scene();
    let resolv = scene.root.run.join("resolv.conf");
    fs::write(&resolv, "nameserver 192.0.2.1\nsearch example\n").unwrap();
    let mut conf = dual();
    conf["ipam"]["resolvConf"] = json!(resolv);
    conf["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0"},
        {"dst": "192.168.0.0/16", "gw": "10.1.0.5", "mtu": 1400, "advmss": 1300,
         "priority": 7, "table": 9, "scope": 253}]);
    let result = scene.add_with(&conf, "c1", "").unwrap();
    assert_eq!(
        addresses(&result),
        ["10.1.0.10/24 via 10.1.0.1", "fd00::2/64 via fd00::1"]
    );
    let route = &result.routes[1];
    let known = (
        route.mtu,
        route.advmss,
        route.priority,
        route.table,
        route.scope,
    );
    assert_eq!(known, (Some(1400), Some(1300), Some(7), Some(9), Some(253)));
    assert_eq!(result.dns.nameservers, ["192.0.2.1"]);
    assert_eq!(result.dns.search, ["example"]);
    assert!(result.interfaces.is_empty() && result.ips.iter().all(|ip| ip.interface.is_none()));
}

#[test]
fn addresses_go_round_and_a_released_one_comes_last() {
    let scene = scene();
    let conf = small();
    for n in 2..=4 {
        let expected = format!("10.1.0.{n}/29 via 10.1.0.1");
        assert_eq!(scene.add(&conf, &format!("c{n}")), [expected]);
    }
    scene.del(&conf, "c3");
    assert_eq!(scene.add(&conf, "c5"), ["10.1.0.5/29 via 10.1.0.1"]);
    assert_eq!(scene.add(&conf, "c6"), ["10.1.0.6/29 via 10.1.0.1"]);
    assert_eq!(scene.add(&conf, "c7"), ["10.1.0.3/29 via 10.1.0.1"]);
}

#[test]
fn an_exhausted_range_is_named_and_nothing_is_kept() {
    let scene = scene();
    let mut conf = dual();
    for n in 0..3 {
        scene.add(&conf, &format!("c{n}"));
    }
    let before = scene.leases();
    let error = scene.add_with(&conf, "late", "").unwrap_err();
    assert_eq!(error.code, code::TRY_AGAIN);
    for part in [
        "network blue",
        "late eth0",
        "no IP addresses available in range set: 10.1.0.10-10.1.0.12 (ipam.ranges[0], 3 held)",
    ] {
        assert!(error.msg.contains(part), "{error}");
    }
    let dir = scene.pool();
    assert!(error.details.contains(dir.to_str().unwrap()), "{error}");
    // The other set first: what it gave is taken back.
    let sets = conf["ipam"]["ranges"].as_array().unwrap().clone();
    conf["ipam"]["ranges"] = sets.into_iter().rev().collect();
    scene.add_with(&conf, "late", "").unwrap_err();
    assert_eq!(scene.leases(), before);
    scene.del(&conf, "c1");
    conf["ipam"]["ranges"].as_array_mut().unwrap().reverse();
    assert_eq!(scene.add(&conf, "late").len(), 2);
}

#[test]
fn who_asks_by_the_strongest_way_gets_it() {
    let scene = scene();
    let conf = dual();
    let args = "IP=10.1.0.12";
    assert_eq!(
        addresses(&scene.add_with(&conf, "c1", args).unwrap())[0],
        "10.1.0.12/24 via 10.1.0.1"
    );
    let cni = json!({"cni": {"ips": ["fd00::99/64", "10.1.0.11/32"]}});
    let conf = with(conf, "args", cni);
    assert_eq!(
        addresses(&scene.add_with(&conf, "c2", "IP=10.1.0.10").unwrap()),
        ["10.1.0.11/24 via 10.1.0.1", "fd00::99/64 via fd00::1"]
    );
    let conf = with(conf, "runtimeConfig", json!({"ips": ["::ffff:10.1.0.10"]}));
    // After a wish, the round goes on from there.
    assert_eq!(
        addresses(&scene.add_with(&conf, "c3", "").unwrap()),
        ["10.1.0.10/24 via 10.1.0.1", "fd00::9a/64 via fd00::1"]
    );
}

#[test]
fn what_cannot_be_had_is_refused_with_its_origin() {
    let scene = scene();
    let conf = dual();
    for (args, says) in [
        (
            "IP=10.1.0.99",
            "10.1.0.99 is in none of the network's ranges 10.1.0.10-10.1.0.12; fd00::1-",
        ),
        ("IP=10.9.0.1", "in none of the network's ranges"),
        ("IP=fd00::1", "fd00::1 is its subnet's gateway"),
        ("IP=10.1.0.10,10.1.0.10", "10.1.0.10 is asked for twice"),
        (
            "IP=10.1.0.10,10.1.0.11",
            "10.1.0.10 and 10.1.0.11 are both of range set ipam.ranges[0]",
        ),
        ("IP=x", "\"x\" is not an IP address"),
        ("IP=10.1.0.10/24/3", "CNI_ARGS IP"),
    ] {
        let outcome = scene.add_with(&conf, "c1", args);
        let Err(error) = outcome else {
            assert_eq!(args, "IP=10.1.0.10/24/3", "the prefix is not looked at");
            scene.del(&conf, "c1");
            continue;
        };
        assert_eq!(error.code, code::ENV, "{args}: {error}");
        assert!(error.msg.contains(says), "{args}: {error}");
        assert!(error.msg.contains("CNI_ARGS IP"), "{args}: {error}");
    }
    let runtime = with(conf.clone(), "runtimeConfig", json!({"ips": ["10.9.0.1"]}));
    let error = scene.add_with(&runtime, "c1", "").unwrap_err();
    assert_eq!(error.code, code::CONFIG);
    assert!(error.msg.contains("runtimeConfig.ips"), "{error}");
    assert_eq!(scene.leases(), [], "nothing was leased on the way");
    scene.add_with(&conf, "c1", "IP=10.1.0.11").unwrap();
    let error = scene.add_with(&conf, "c2", "IP=10.1.0.11").unwrap_err();
    assert_eq!(error.code, code::TRY_AGAIN);
    for part in [
        "address 10.1.0.11 of network blue",
        "c2 eth0",
        "held by container c1 eth0",
    ] {
        assert!(error.msg.contains(part), "{error}");
    }
}

#[test]
fn ranges_of_the_runtime_come_first_then_the_old_form() {
    let scene = scene();
    let mut conf = conf(&json!({"subnet": "10.2.0.0/24", "rangeStart": "10.2.0.9",
        "ranges": [[{"subnet": "10.3.0.0/24", "gateway": "10.3.0.254"}]]}));
    conf["runtimeConfig"] = json!({"ipRanges": [[{"subnet": "10.1.0.0/24"}]]});
    assert_eq!(
        scene.add(&conf, "c1"),
        [
            "10.1.0.2/24 via 10.1.0.1",
            "10.2.0.9/24 via 10.2.0.1",
            "10.3.0.1/24 via 10.3.0.254"
        ]
    );
    let last = |n: u8| fs::read_to_string(scene.pool().join(format!("last_reserved_ip.{n}")));
    let last: Vec<String> = (0..3).map(|n| last(n).unwrap()).collect();
    assert_eq!(last, ["10.1.0.2", "10.2.0.9", "10.3.0.1"]);
}

/// Configurations and what is said of them.
fn wrong() -> Vec<(Value, &'static str)> {
    let set = json!([{"subnet": "10.1.0.0/24"}]);
    vec![
        (json!({}), "ipam.ranges = null: no IP ranges specified"),
        (json!({"ranges": []}), "no IP ranges specified"),
        (
            json!({"ranges": [[]]}),
            "ipam.ranges[0] = []: empty range set",
        ),
        (json!({"ranges": set}), "each itself a list"),
        (json!({"ranges": {}}), "each itself a list"),
        (
            json!({"ranges": [["10.1.0.0/24"]]}),
            "ipam.ranges[0][0] = \"10.1.0.0/24\": want an object",
        ),
        (
            json!({"ranges": [set, set]}),
            "range set ipam.ranges[1] (10.1.0.1-10.1.0.254) overlaps",
        ),
        (
            json!({"subnet": "10.1.0.0/24", "ranges": [set]}),
            "ipam.subnet = \"10.1.0.1-10.1.0.254\": range set ipam.ranges[0]",
        ),
        (
            json!({"ranges": [[{"subnet": "10.1.0.0/24", "rangestart": "10.1.0.5"}]]}),
            "ipam.ranges[0][0].rangestart",
        ),
        (
            json!({"subnet": "10.1.0.0/24", "RangeStart": "10.1.0.5"}),
            "did you mean \"rangeStart\"",
        ),
        (
            json!({"subnet": "10.1.0.0/24", "datadir": "/x"}),
            "did you mean \"dataDir\"",
        ),
        (json!({"range": [set]}), "did you mean \"ranges\""),
        (
            json!({"rangeStart": "10.1.0.5", "ranges": [set]}),
            "ipam.rangeStart = \"10.1.0.5\": it belongs to ipam.subnet",
        ),
        (
            json!({"ranges": [set], "dataDir": "leases"}),
            "ipam.dataDir = \"leases\": want an absolute path",
        ),
        (json!({"ranges": [set], "dataDir": 7}), "ipam.dataDir = 7"),
        (
            json!({"ranges": [set], "routes": [{"dst": "default"}]}),
            "ipam.routes[0]",
        ),
        (
            json!({"ranges": [set], "resolvConf": "/nonexistent/resolv.conf"}),
            "ipam.resolvConf = \"/nonexistent/resolv.conf\": the file cannot be read",
        ),
        (
            json!({"subnet": "10.1.0.5/24"}),
            "ipam.subnet = \"10.1.0.5/24\": network has host bits set",
        ),
    ]
}

#[test]
fn a_wrong_configuration_is_told_in_add_check_and_status() {
    let scene = scene();
    for (ipam, says) in wrong() {
        let conf = conf(&ipam);
        let errors = [
            scene.add_with(&conf, "c1", "").map(drop).unwrap_err(),
            scene.check(&conf, "c1", &[]).unwrap_err(),
            scene.status(&conf).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.code, code::CONFIG, "{ipam}: {error}");
            assert!(error.msg.contains(says), "{ipam}: {error}");
            assert!(!error.details.is_empty(), "{ipam}: {error}");
        }
        scene.del(&conf, "c1");
        scene.gc(&conf, &[]).unwrap();
    }
    assert!(!scene.pool().exists());
}

#[test]
fn old_versions_have_one_set_per_family() {
    let scene = scene();
    for version in ["0.1.0", "0.2.0"] {
        let one_each = with(dual(), "cniVersion", version.into());
        assert_eq!(scene.add(&one_each, version).len(), 2);
        let two =
            conf(&json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]}));
        let error = scene
            .add_with(&with(two, "cniVersion", version.into()), "c1", "")
            .unwrap_err();
        assert_eq!(
            error.msg,
            format!("CNI version {version} does not support more than 1 address per family")
        );
    }
}

#[test]
fn a_second_add_is_an_error_whose_undo_takes_nothing() {
    let scene = scene();
    let conf = dual();
    scene.add(&conf, "c1");
    scene.foreign("10.1.0.11", "c2\r\neth0");
    let before = scene.leases();
    for id in ["c1", "c2"] {
        let request = scene.request(Command::Add, &conf, id, "");
        let ipam = scene.ipam(&request);
        let release = ipam.release(&request);
        let error = ipam.add(&request).unwrap_err();
        assert_eq!(error.code, code::CONFIG);
        for part in [
            &format!("attachment blue/{id}:eth0"),
            "duplicate allocation is not allowed",
        ] {
            assert!(error.msg.contains(part), "{error}");
        }
        release().unwrap();
        assert_eq!(scene.leases(), before);
    }
    // A lease outside of today's ranges is no obstacle, like in the reference.
    scene.foreign("10.9.0.5", "c3\r\neth0");
    scene.add(&conf, "c3");
    let request = scene.request(Command::Add, &conf, "c3", "");
    let release = scene.ipam(&request).release(&request);
    release().unwrap();
    assert_eq!(scene.leases().len(), before.len());
}

#[test]
fn del_is_for_one_attachment_and_can_be_repeated() {
    let scene = scene();
    let conf = dual();
    scene.del(&conf, "c1");
    assert!(!scene.pool().exists(), "DEL makes nothing");
    scene.add(&conf, "c1");
    scene.add(&conf, "c2");
    // Also by a configuration that has changed since.
    let changed = super::tests::conf(&json!({"subnet": "nonsense"}));
    for _ in 0..3 {
        scene.del(&changed, "c1");
        let left = scene.leases();
        assert!(
            left.len() == 2 && left.iter().all(|(_, id)| id == "c2"),
            "{left:?}"
        );
    }
}

#[test]
fn check_sees_each_way_to_differ() {
    let scene = scene();
    let conf = dual();
    scene.add(&conf, "c1");
    let both = ["10.1.0.10/24", "fd00::2/64"];
    scene.check(&conf, "c1", &both).unwrap();
    scene
        .check(&conf, "c1", &[both[0], both[1], "192.0.2.1/24"])
        .unwrap();
    for (previous, says) in [
        (
            &both[..1],
            "prevResult has no address of ipam.ranges[1] (fd00::1-",
        ),
        (
            &["10.1.0.11/24", both[1]][..],
            "the lease of 10.1.0.11 is gone",
        ),
        (
            &[both[0], both[1], "10.1.0.11/24"][..],
            "the lease of 10.1.0.11 is gone",
        ),
    ] {
        let error = scene.check(&conf, "c1", previous).unwrap_err();
        assert_eq!(error.code, code::DRIFT);
        assert!(error.msg.contains(says), "{error}");
    }
    scene.foreign("10.1.0.10", "c2\r\neth0");
    let error = scene.check(&conf, "c1", &both).unwrap_err();
    assert!(
        error
            .msg
            .contains("the lease of 10.1.0.10 is that of container c2 eth0"),
        "{error}"
    );
    scene.foreign("10.1.0.10", "c1\r\neth0");
    scene.foreign("10.1.0.12", "c1\r\neth0");
    scene.del(&dual(), "nobody");
    fs::remove_file(scene.root.run.join("berth/ipam/blue/c1:eth0")).unwrap();
    let error = scene.check(&conf, "c1", &both).unwrap_err();
    assert!(
        error
            .msg
            .contains("it holds 10.1.0.12, which is not in prevResult"),
        "{error}"
    );
}

#[test]
fn status_looks_at_the_directory_and_changes_nothing() {
    let scene = scene();
    let conf = small();
    scene.status(&conf).unwrap();
    assert!(!scene.pool().exists());
    for n in 0..5 {
        scene.add(&conf, &format!("c{n}"));
    }
    scene.status(&conf).unwrap();
    let file = scene.root.run.join("file");
    fs::write(&file, "").unwrap();
    for dir in [
        file.clone(),
        file.join("deeper"),
        PathBuf::from("/proc/1/nothing"),
    ] {
        let mut conf = small();
        conf["ipam"]["dataDir"] = json!(dir);
        let error = scene.status(&conf).unwrap_err();
        assert_eq!(
            error.code,
            code::NOT_AVAILABLE,
            "{}: {error}",
            dir.display()
        );
        assert!(error.msg.contains(dir.to_str().unwrap()), "{error}");
    }
    let mode = fs::metadata(scene.pool()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
}

/// Puts an attachment on record, as an ADD that has not come to its end.
fn record(scene: &Scene, id: &str) {
    let request = scene.request(Command::Add, &small(), id, "");
    let attachment = crate::Attachment::new(&scene.root, request.key());
    let port = request.key().port_name();
    let host = Host::Bridge(BridgeHost::new("br0".parse().unwrap(), port));
    let netns = NetNs::current().unwrap();
    let record = attachment.intent(&request, &netns, host).unwrap();
    let mut undo = Undo::new(Faults::none());
    attachment.remember(&record, &mut undo).unwrap();
    undo.commit();
}

#[test]
fn gc_frees_what_is_neither_valid_nor_on_record() {
    let scene = scene();
    let conf = conf(&json!({"subnet": "10.1.0.0/24"}));
    scene.gc(&conf, &[]).unwrap();
    assert!(!scene.pool().exists(), "nothing to collect, nothing made");
    for id in ["valid", "gone", "coming"] {
        scene.add(&conf, id);
    }
    record(&scene, "coming");
    scene.foreign("10.1.0.20", "valid");
    scene.foreign("10.1.0.21", "gone");
    scene.foreign("10.1.0.22", "valid\r\neth1");
    scene.foreign("10.1.0.23", "");
    scene.foreign("10.1.0.24", "no name!\r\neth0");
    scene
        .gc(&conf, &[("valid", "eth0"), ("other", "eth0")])
        .unwrap();
    let left = [
        ("10.1.0.2", "valid"),
        ("10.1.0.20", "valid"),
        ("10.1.0.4", "coming"),
    ];
    let left = left.map(|(ip, id)| (ip.to_owned(), id.to_owned()));
    assert_eq!(scene.leases(), left);
    scene.gc(&conf, &[]).unwrap();
    assert_eq!(
        scene.leases(),
        [("10.1.0.4".to_owned(), "coming".to_owned())]
    );
}

#[test]
fn threads_racing_for_one_pool_get_all_of_it_once() {
    const THREADS: usize = 6;
    let scene = scene();
    let conf = conf(&json!({"subnet": "10.1.0.0/26"}));
    let given: Vec<String> = thread::scope(|scope| {
        let worker = |thread| {
            let (scene, conf) = (&scene, &conf);
            scope.spawn(move || {
                let one = |n| scene.add_with(conf, &format!("c{thread}-{n}"), "");
                let given = (0..15).filter_map(|n| one(n).ok());
                given
                    .flat_map(|result| addresses(&result))
                    .collect::<Vec<_>>()
            })
        };
        let workers: Vec<_> = (0..THREADS).map(worker).collect();
        workers
            .into_iter()
            .flat_map(|w| w.join().unwrap())
            .collect()
    });
    let distinct: BTreeSet<&String> = given.iter().collect();
    assert_eq!(
        (given.len(), distinct.len()),
        (61, 61),
        "62 hosts less the gateway"
    );
}
