//! What was seen on a node, and what must be said about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use berth_kernel::cgroup::Version;
use berth_kernel::kconfig::Setting;
use berth_kernel::module::State;
use berth_kernel::mounts::{Mount, ProjectQuota};
use berth_kernel::pci::PhysicalFunction;
use serde_json::Value;

use super::facts::Cgroup;
use super::*;

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(ToString::to_string).collect()
}

fn card(address: &str, driver: Option<&str>, total_vfs: u32, num_vfs: u32) -> PhysicalFunction {
    PhysicalFunction {
        address: address.parse().unwrap(),
        driver: driver.map(str::to_owned),
        is_network: true,
        total_vfs,
        num_vfs,
        netdevs: vec!["enp1s0".parse().unwrap()],
        numa_node: Some(0),
        vfs: Vec::new(),
    }
}

fn mount(point: &str, fs_type: &str, project_quota: ProjectQuota) -> Mount {
    Mount {
        point: point.into(),
        source: Some("/dev/vdb".to_owned()),
        fs_type: fs_type.to_owned(),
        device: "254:16".to_owned(),
        read_only: false,
        project_quota,
    }
}

/// A node on which everything works.
fn healthy() -> Facts {
    Facts {
        release: Ok("6.12.43+deb13-amd64".parse().unwrap()),
        options: Ok(options::names()
            .map(|name| (name, Setting::BuiltIn))
            .collect()),
        modules: Ok(BTreeMap::new()),
        proofs: BTreeSet::new(),
        cgroup: Cgroup {
            version: Version::V2,
            controllers: Ok(set(&["cpuset", "cpu", "io", "memory", "pids"])),
            delegated: Ok(set(&["cpuset", "cpu", "io", "memory", "pids"])),
            pressure: true,
        },
        functions: Ok(vec![card("0000:01:00.0", Some("igb"), 7, 7)]),
        mounts: Ok(vec![mount("/data", "xfs", ProjectQuota::Enforced)]),
        irqbalance: Ok(false),
        bridge_netfilter: Ok(None),
        bridges: Ok(Vec::new()),
        capabilities: Ok(set(&[
            "CAP_NET_ADMIN",
            "CAP_SYS_ADMIN",
            "CAP_NET_RAW",
            "CAP_SYS_PTRACE",
            "CAP_DAC_OVERRIDE",
        ])),
    }
}

/// What is said about a healthy node after `spoil`: each check that is not ok.
fn said(spoil: impl FnOnce(&mut Facts)) -> Vec<Check> {
    let mut facts = healthy();
    spoil(&mut facts);
    let mut checks = report(&facts, &[]).checks;
    checks.retain(|check| check.status != Status::Ok);
    checks
}

/// The only thing said; its words for a problem must all be there.
fn one(spoil: impl FnOnce(&mut Facts)) -> Check {
    let mut checks = said(spoil);
    assert_eq!(checks.len(), 1, "{checks:#?}");
    let check = checks.remove(0);
    assert!(
        !check.effect.is_empty() && !check.reason.is_empty(),
        "{check:?}"
    );
    assert!(
        check.status == Status::Unknown || !check.remedy.is_empty(),
        "{check:?}"
    );
    check
}

#[test]
fn nothing_is_said_against_a_healthy_node() {
    assert_eq!(said(|_| ()), []);
}

#[test]
fn an_old_kernel_is_refused_and_features_are_judged_by_version() {
    for (release, status) in [("5.13.19", Status::Missing), ("5.14.0", Status::Ok)] {
        let mut facts = healthy();
        facts.release = Ok(release.parse().unwrap());
        let report = report(&facts, &[]);
        let check = report
            .checks
            .iter()
            .find(|c| c.id == "kernel.release")
            .unwrap();
        assert_eq!(check.status, status, "{release}");
    }
    let limited = |release: &str| -> Vec<&'static str> {
        let checks = said(|facts| facts.release = Ok(release.parse().unwrap()));
        checks.iter().map(|check| check.id).collect()
    };
    let all = [
        "feature.locked-port",
        "feature.affinity-returns",
        "feature.remote-partition",
        "feature.memory-reclaim",
    ];
    assert_eq!(limited("5.17.9"), all);
    assert_eq!(limited("5.18.0"), all[1..]);
    assert_eq!(limited("5.19.0"), all[1..3]);
    assert_eq!(limited("6.2.0"), [all[2]]);
    assert_eq!(limited("6.6.99"), [all[2]]);
    assert_eq!(limited("6.7.0"), [""; 0]);
}

#[test]
fn a_feature_taken_back_to_an_old_kernel_counts() {
    let check = said(|facts| {
        facts.release = Ok("5.14.0-503.el9".parse().unwrap());
        facts.proofs = BTreeSet::from([facts::Proof::ExclusiveCpus]);
    });
    let ids: Vec<_> = check.iter().map(|check| check.id).collect();
    assert!(!ids.contains(&"feature.remote-partition"), "{ids:?}");
    assert!(ids.contains(&"feature.locked-port"), "{ids:?}");
}

/// What is said about 8021q, its option set so and its module there.
fn vlan(setting: Setting, state: Option<State>) -> (Status, String) {
    let mut facts = healthy();
    let options = facts.options.as_mut().unwrap();
    options.insert("VLAN_8021Q", setting);
    let modules = facts.modules.as_mut().unwrap();
    modules.extend(state.map(|state| ("8021q", state)));
    let mut checks = report(&facts, &[Area::Vlan]).checks;
    checks.retain(|check| check.object == "CONFIG_VLAN_8021Q");
    let check = checks.remove(0);
    (check.status, check.reason)
}

#[test]
fn options_and_modules_together_decide() {
    use Setting::{BuiltIn, Module, Off, Unknown};
    let not_installed = "built as module 8021q, which is not installed";
    let on_demand = "module, loaded on demand";
    for (setting, state, status, reason) in [
        (BuiltIn, None, Status::Ok, "built in"),
        (Module, Some(State::Loaded), Status::Ok, "module, loaded"),
        (Module, Some(State::Loadable), Status::Ok, on_demand),
        (Module, Some(State::Unknown), Status::Ok, "module"),
        (Module, Some(State::Absent), Status::Limited, not_installed),
        (
            Off,
            Some(State::Absent),
            Status::Limited,
            "not set in this kernel",
        ),
        // Built against this kernel by hand: it is there, whatever the file says.
        (Off, Some(State::Loaded), Status::Ok, "module, loaded"),
        (Unknown, Some(State::Loadable), Status::Ok, on_demand),
        (Unknown, None, Status::Unknown, "not in the configuration"),
    ] {
        let seen = vlan(setting.clone(), state);
        assert_eq!(seen, (status, reason.to_owned()), "{setting:?} {state:?}");
    }
}

#[test]
fn an_option_that_is_not_set_is_named_in_the_remedy() {
    let check = one(|facts| {
        let options = facts.options.as_mut().unwrap();
        options.insert("BRIDGE_VLAN_FILTERING", Setting::Off);
    });
    assert_eq!((check.status, check.area), (Status::Missing, Area::Vlan));
    assert!(check.remedy.contains("CONFIG_BRIDGE_VLAN_FILTERING"));
}

#[test]
fn without_a_configuration_nothing_is_claimed() {
    let checks = said(|facts| facts.options = Err("no file".to_owned()));
    assert_eq!(checks.len(), options::names().count());
    for check in checks {
        assert_eq!(
            (check.status, check.reason.as_str()),
            (Status::Unknown, "no file")
        );
    }
}

#[test]
fn cgroup_versions_and_controllers() {
    for version in [Version::Hybrid, Version::V1, Version::Absent] {
        let check = one(|facts| facts.cgroup.version = version);
        assert_eq!(
            (check.id, check.status),
            ("cgroup.version", Status::Missing)
        );
        assert!(check.remedy.contains("systemd.unified_cgroup_hierarchy=1"));
    }
    let check = one(|facts| facts.cgroup.controllers = Ok(set(&["cpuset", "cpu", "memory"])));
    assert_eq!(
        (check.object.as_str(), check.status),
        ("io", Status::Missing)
    );
    assert!(check.remedy.contains("cgroup_disable=io"));
    let check = one(|facts| facts.cgroup.delegated = Ok(set(&["cpu", "io", "memory"])));
    assert_eq!(
        (check.object.as_str(), check.status),
        ("cpuset", Status::Limited)
    );
    assert_eq!(
        check.remedy,
        "echo +cpuset > /sys/fs/cgroup/cgroup.subtree_control"
    );
    let check = one(|facts| facts.cgroup.pressure = false);
    assert_eq!(
        (check.id, check.status),
        ("kernel.pressure", Status::Limited)
    );
}

#[test]
fn cards_with_and_without_functions() {
    let functions = |cards: Vec<PhysicalFunction>| one(|facts| facts.functions = Ok(cards));
    let none = functions(Vec::new());
    assert_eq!((none.id, none.status), ("sriov.device", Status::Missing));
    let mut disk = card("0000:02:00.0", Some("nvme"), 8, 0);
    disk.is_network = false;
    assert_eq!(functions(vec![disk]).status, Status::Missing);

    let unmade = functions(vec![card("0000:01:00.0", Some("igb"), 7, 0)]);
    assert_eq!(unmade.status, Status::Limited);
    assert_eq!(unmade.object, "0000:01:00.0 enp1s0");
    assert_eq!(unmade.remedy, "berth bootstrap vfs 0000:01:00.0=7");
    let unbound = functions(vec![card("0000:01:00.0", None, 7, 0)]);
    assert!(unbound.reason.contains("no driver"), "{unbound:?}");
    let off = functions(vec![card("0000:01:00.0", Some("igb"), 0, 0)]);
    assert!(off.remedy.contains("firmware"), "{off:?}");
}

#[test]
fn quota_is_judged_per_filesystem() {
    let on = mount("/data", "xfs", ProjectQuota::Enforced);
    let off = mount("/srv", "xfs", ProjectQuota::OffXfs);
    let check = one(|facts| facts.mounts = Ok(vec![on.clone(), off.clone()]));
    assert_eq!(
        (check.object.as_str(), check.status),
        ("/srv", Status::Limited)
    );
    assert!(check.remedy.contains("remount"), "{check:?}");
    assert!(check.reason.starts_with("xfs on /dev/vdb"), "{check:?}");

    let checks = said(|facts| facts.mounts = Ok(vec![off]));
    let both: Vec<_> = checks
        .iter()
        .map(|c| (c.object.as_str(), c.status))
        .collect();
    assert_eq!(
        both,
        [("/srv", Status::Limited), ("filesystems", Status::Missing)]
    );

    let root = mount("/", "ext4", ProjectQuota::OffExt4);
    let check = one(|facts| facts.mounts = Ok(vec![on.clone(), root]));
    assert!(
        check.remedy.contains("rescue") && check.remedy.contains("/dev/vdb"),
        "{check:?}"
    );

    // Nobody can put data on these: nothing to remedy.
    let mut frozen = mount("/usr", "ext4", ProjectQuota::OffExt4);
    frozen.read_only = true;
    let other = mount("/boot", "vfat", ProjectQuota::Unsupported);
    assert_eq!(said(|facts| facts.mounts = Ok(vec![on, frozen, other])), []);
}

#[test]
fn neighbours_that_interfere() {
    assert_eq!(
        one(|facts| facts.irqbalance = Ok(true)).status,
        Status::Limited
    );
    let check = one(|facts| {
        facts.bridge_netfilter = Ok(Some(vec!["iptables", "arptables"]));
        facts.bridges = Ok(vec!["br0".to_owned()]);
    });
    assert!(
        check.reason.contains("iptables") && check.reason.contains("br0"),
        "{check:?}"
    );
    assert!(
        check
            .remedy
            .contains("net.bridge.bridge-nf-call-arptables=0"),
        "{check:?}"
    );
    assert_eq!(
        said(|facts| facts.bridge_netfilter = Ok(Some(Vec::new()))),
        []
    );
}

#[test]
fn missing_capabilities_are_named() {
    let check = one(|facts| {
        facts.capabilities.as_mut().unwrap().remove("CAP_NET_ADMIN");
    });
    assert_eq!(
        (check.object.as_str(), check.status),
        ("CAP_NET_ADMIN", Status::Missing)
    );
    let checks = said(|facts| facts.capabilities = Ok(BTreeSet::new()));
    assert_eq!(checks.len(), 5);
}

#[test]
fn what_cannot_be_read_is_unknown_with_the_reason() {
    let why = || "EACCES".to_owned();
    for spoil in [
        |facts: &mut Facts, why| facts.functions = Err(why),
        |facts: &mut Facts, why| facts.mounts = Err(why),
        |facts: &mut Facts, why| facts.irqbalance = Err(why),
        |facts: &mut Facts, why| facts.bridge_netfilter = Err(why),
        |facts: &mut Facts, why| facts.capabilities = Err(why),
    ] {
        let check = one(|facts| spoil(facts, why()));
        assert_eq!(
            (check.status, check.reason.as_str()),
            (Status::Unknown, "EACCES")
        );
    }
}

#[test]
fn areas_select_and_strict_decides_the_exit_status() {
    let mut facts = healthy();
    facts.functions = Ok(Vec::new());
    let all = report(&facts, &[]);
    let some = report(&facts, &[Area::Vlan, Area::Disk]);
    assert!(
        some.checks
            .iter()
            .all(|c| matches!(c.area, Area::Vlan | Area::Disk))
    );
    assert_eq!(
        (all.count(Status::Missing), some.count(Status::Missing)),
        (1, 0)
    );
    let code = |report, strict| format!("{:?}", exit_code(report, strict));
    assert_eq!(code(&all, true), format!("{:?}", ExitCode::FAILURE));
    assert_eq!(code(&all, false), format!("{:?}", ExitCode::SUCCESS));
    assert_eq!(code(&some, true), format!("{:?}", ExitCode::SUCCESS));
}

#[test]
fn json_has_the_promised_fields() {
    let mut out = Vec::new();
    print::json(&report(&healthy(), &[]), &mut out).unwrap();
    let document: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(document["schema"], 1);
    assert_eq!(document["node"]["kernel"], "6.12.43+deb13-amd64");
    assert_eq!(document["node"]["cgroup"], "v2");
    let checks = document["checks"].as_array().unwrap();
    let mut seen = BTreeSet::new();
    for check in checks {
        let keys: Vec<&str> = check
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut expected = [
            "id", "area", "status", "object", "effect", "reason", "remedy",
        ];
        expected.sort_unstable();
        let mut keys_sorted = keys.clone();
        keys_sorted.sort_unstable();
        assert_eq!(keys_sorted, expected);
        assert!(
            seen.insert((check["id"].to_string(), check["object"].to_string())),
            "{check}"
        );
    }
}

#[test]
fn text_shows_problems_and_says_a_shared_remedy_once() {
    let show = |spoil: fn(&mut Facts), verbose| {
        let mut facts = healthy();
        spoil(&mut facts);
        let mut out = Vec::new();
        print::text(&report(&facts, &[]), verbose, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let text = show(|facts| facts.irqbalance = Ok(true), false);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "kernel 6.12.43+deb13-amd64, cgroup v2");
    assert!(
        lines[2].starts_with("limited  irq    irqbalance: it may move"),
        "{text}"
    );
    assert_eq!(lines[3], "                reason: running");
    assert!(
        lines
            .last()
            .unwrap()
            .contains(" 1 limited, 0 missing, 0 unknown"),
        "{text}"
    );
    assert!(!text.contains("CONFIG_VETH"));
    assert!(show(|_| (), true).contains("ok       core   CONFIG_VETH: built in"));
    let text = show(|facts| facts.capabilities = Ok(BTreeSet::new()), false);
    assert_eq!(text.matches("remedy: run as root").count(), 2, "{text}");
}

/// Writes a file of a fake node.
fn put(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn a_tree_is_read_into_facts() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("proc/sys/kernel/osrelease", "6.12.43-amd64\n"),
        (
            "boot/config-6.12.43-amd64",
            "CONFIG_VETH=m\nCONFIG_BRIDGE=y\n",
        ),
        ("lib/modules/6.12.43-amd64/modules.builtin", ""),
        (
            "lib/modules/6.12.43-amd64/modules.dep",
            "kernel/net/8021q/8021q.ko.xz:\n",
        ),
        ("proc/modules", "veth 40960 0 - Live 0x0\n"),
        ("proc/sys/net/bridge/bridge-nf-call-iptables", "1\n"),
        ("proc/sys/net/bridge/bridge-nf-call-ip6tables", "0\n"),
        ("proc/sys/net/bridge/bridge-nf-call-arptables", "0\n"),
        ("proc/812/comm", "irqbalance\n"),
        (
            "proc/self/mountinfo",
            "24 1 254:16 / /data rw - xfs /dev/vdb rw,attr2,inode64,prjquota\n",
        ),
        ("sys/class/net/br0/bridge/stp_state", "0\n"),
        ("sys/class/net/eth0/mtu", "1500\n"),
        ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory\n"),
        ("sys/fs/cgroup/cgroup.subtree_control", "cpu memory\n"),
        ("sys/fs/cgroup/system.slice/memory.reclaim", ""),
    ] {
        put(dir.path(), name, text);
    }
    let facts = observe::facts(&Root::under(dir.path()));
    assert_eq!(facts.release.unwrap().as_str(), "6.12.43-amd64");
    let options = facts.options.unwrap();
    assert_eq!(
        (&options["VETH"], &options["PCI_IOV"]),
        (&Setting::Module, &Setting::Off)
    );
    let modules = facts.modules.unwrap();
    assert_eq!(
        (modules["veth"], modules["8021q"]),
        (State::Loaded, State::Loadable)
    );
    let proofs = [facts::Proof::MemoryReclaim];
    assert_eq!(facts.proofs, BTreeSet::from(proofs));
    assert_eq!(facts.cgroup.version, Version::V2);
    assert_eq!(facts.cgroup.delegated, Ok(set(&["cpu", "memory"])));
    assert!(!facts.cgroup.pressure);
    assert_eq!(facts.functions, Ok(Vec::new()));
    assert_eq!(
        facts.mounts.unwrap()[0].project_quota,
        ProjectQuota::Enforced
    );
    assert_eq!(facts.irqbalance, Ok(true));
    assert_eq!(facts.bridge_netfilter, Ok(Some(vec!["iptables"])));
    assert_eq!(facts.bridges, Ok(vec!["br0".to_owned()]));
}

#[test]
fn an_empty_tree_is_all_unknown_and_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let facts = observe::facts(&Root::under(dir.path()));
    assert!(facts.release.is_err() && facts.options.is_err() && facts.mounts.is_err());
    let mut out = Vec::new();
    print::text(&report(&facts, &[]), true, &mut out).unwrap();
    assert!(
        String::from_utf8(out)
            .unwrap()
            .starts_with("kernel unknown, cgroup none\n")
    );
}

#[test]
fn conditions_are_the_problems_of_workloads_in_doctors_words() {
    assert_eq!(conditions_of(&healthy()), []);
    let mut facts = healthy();
    facts.irqbalance = Ok(true);
    facts.cgroup.delegated = Ok(set(&["cpu"]));
    facts.functions = Ok(Vec::new());
    let checks = report(&facts, &[Area::Irq]).checks;
    let check = checks.iter().find(|c| c.id == "irq.irqbalance").unwrap();
    let told = conditions_of(&facts);
    let [condition] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(condition.kind, "irq.irqbalance");
    assert_eq!(condition.reason, check.reason);
    assert_eq!(condition.remedy, check.remedy);
}
