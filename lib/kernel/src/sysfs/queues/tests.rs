use super::*;
use crate::error::Kind;

/// A tree with `eth0` (two receive queues, one transmit queue) on a machine of 40
/// CPUs, and its files.
struct Tree {
    _dir: tempfile::TempDir,
    root: Root,
    eth0: IfName,
}

impl Tree {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        let tree = Self {
            _dir: dir,
            root,
            eth0: "eth0".parse().unwrap(),
        };
        tree.put("devices/system/cpu/online", "0-39\n");
        tree.put("devices/system/cpu/possible", "0-39\n");
        for queue in ["rx-0", "rx-1"] {
            tree.put(
                &format!("class/net/eth0/queues/{queue}/rps_cpus"),
                "00,00000000\n",
            );
            tree.put(
                &format!("class/net/eth0/queues/{queue}/rps_flow_cnt"),
                "0\n",
            );
        }
        tree.put("class/net/eth0/queues/tx-0/xps_cpus", "00,00000000\n");
        tree
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.root.sys.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn get(&self, name: &str) -> String {
        std::fs::read_to_string(self.root.sys.join(name)).unwrap()
    }

    fn sysfs(&self) -> NetSysfs {
        NetSysfs::at(&self.root).unwrap()
    }
}

fn set(list: &str) -> CpuSet {
    list.parse().unwrap()
}

#[test]
fn queues_are_listed_by_number() {
    let tree = Tree::new();
    for queue in [2, 10] {
        tree.put(&format!("class/net/eth0/queues/rx-{queue}/rps_cpus"), "0\n");
    }
    assert_eq!(tree.sysfs().rx_queues(&tree.eth0), Ok(vec![0, 1, 2, 10]));
    assert_eq!(tree.sysfs().tx_queues(&tree.eth0), Ok(vec![0]));
    let error = tree
        .sysfs()
        .rx_queues(&"eth9".parse().unwrap())
        .unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(
        error.object.ends_with("sys/class/net/eth9/queues"),
        "{error}"
    );
}

#[test]
fn rps_is_written_with_as_many_groups_as_the_file_has() {
    let tree = Tree::new();
    let sysfs = tree.sysfs();
    assert_eq!(sysfs.rps_cpus(&tree.eth0, 1), Ok(set("")));
    sysfs.set_rps_cpus(&tree.eth0, 1, &set("1,32-33")).unwrap();
    assert_eq!(
        tree.get("class/net/eth0/queues/rx-1/rps_cpus").trim(),
        "00000003,00000002"
    );
    assert_eq!(sysfs.rps_cpus(&tree.eth0, 1), Ok(set("1,32-33")));
    assert_eq!(
        sysfs.rps_cpus(&tree.eth0, 0),
        Ok(set("")),
        "another queue changed"
    );
}

/// As the kernel prints a mask (`%*pb`): the first group is as narrow as its CPUs.
fn kernel_mask(cpus: &CpuSet, of: u32) -> String {
    let groups = usize::try_from(of.div_ceil(32)).unwrap();
    let mask = cpus.to_mask(groups).unwrap();
    let digits = usize::try_from((of - 1) % 32 / 4 + 1).unwrap();
    format!("{}\n", &mask[8 - digits..])
}

#[test]
fn every_size_of_machine_is_steered_by_masks_as_wide_as_its_own() {
    for count in [1_u32, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129] {
        let all: CpuSet = (0..count).collect();
        let last = CpuSet::from_iter([count - 1]);
        let ends: CpuSet = [0, count / 2, count - 1].into_iter().collect();
        let odd: CpuSet = (0..count).filter(|cpu| cpu % 3 == 1).collect();
        for wish in [&all, &last, &ends, &odd, &CpuSet::new()] {
            let tree = Tree::new();
            let file = "class/net/eth0/queues/rx-0/rps_cpus";
            tree.put(file, &kernel_mask(&CpuSet::new(), count));
            let sysfs = tree.sysfs();
            sysfs.set_rps_cpus(&tree.eth0, 0, wish).unwrap();
            assert_eq!(sysfs.rps_cpus(&tree.eth0, 0).as_ref(), Ok(wish), "{count}");
            let written = tree.get(file);
            let groups = usize::try_from(count.div_ceil(32)).unwrap();
            assert_eq!(cpu::mask_groups(&written), groups, "{count}: {written}");
            // What the kernel makes of it, and prints the next time.
            tree.put(file, &kernel_mask(wish, count));
            assert_eq!(sysfs.rps_cpus(&tree.eth0, 0).as_ref(), Ok(wish), "{count}");
        }
        let tree = Tree::new();
        tree.put(
            "class/net/eth0/queues/rx-0/rps_cpus",
            &kernel_mask(&CpuSet::new(), count),
        );
        let beyond = CpuSet::from_iter([count.next_multiple_of(32)]);
        let error = tree.sysfs().set_rps_cpus(&tree.eth0, 0, &beyond);
        assert!(error.is_err(), "{count}");
    }
}

#[test]
fn what_is_so_already_is_not_written() {
    let tree = Tree::new();
    tree.put("class/net/eth0/queues/rx-0/rps_cpus", "00,0000000f\n");
    tree.sysfs()
        .set_rps_cpus(&tree.eth0, 0, &set("0-3"))
        .unwrap();
    // Our own form would have eight digits in the first group.
    assert_eq!(
        tree.get("class/net/eth0/queues/rx-0/rps_cpus"),
        "00,0000000f\n"
    );
}

#[test]
fn a_cpu_beyond_the_mask_is_refused_before_the_write() {
    let tree = Tree::new();
    let error = tree
        .sysfs()
        .set_rps_cpus(&tree.eth0, 0, &set("64"))
        .unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("write CPUs \"64\" to "), "{text}");
    assert!(text.contains("queues/rx-0/rps_cpus"), "{text}");
    assert!(text.contains("CPU 64 does not fit"), "{text}");
    assert_eq!(
        tree.get("class/net/eth0/queues/rx-0/rps_cpus"),
        "00,00000000\n"
    );
}

#[test]
fn a_garbled_mask_names_the_file() {
    let tree = Tree::new();
    tree.put("class/net/eth0/queues/rx-0/rps_cpus", "zz\n");
    let error = tree.sysfs().rps_cpus(&tree.eth0, 0).unwrap_err();
    assert_eq!(error.kind(), Kind::Malformed);
    assert!(error.to_string().contains("rps_cpus"), "{error}");
}

#[test]
fn a_refused_mask_is_explained() {
    let tree = Tree::new();
    tree.put("devices/system/cpu/isolated", "4-7\n");
    tree.put("devices/system/cpu/online", "0-38\n");
    let sysfs = tree.sysfs();
    let isolated = sysfs.refusal(Errno::EINVAL, &set("4-5")).unwrap();
    assert!(
        isolated.starts_with("the boot parameters isolcpus="),
        "{isolated}"
    );
    assert!(isolated.contains("off CPU 4-5;"), "{isolated}");
    assert_eq!(sysfs.refusal(Errno::EINVAL, &set("0")), None);
    let beyond = sysfs.refusal(Errno::EOVERFLOW, &set("63")).unwrap();
    assert!(beyond.ends_with("no other CPUs than 0-39"), "{beyond}");
    assert_eq!(sysfs.refusal(Errno::EPERM, &set("4")), None);
    let offline = sysfs.why_lost(&set("39"));
    assert_eq!(offline, ": CPU 39 is offline");
}

#[test]
fn flow_counts_are_rounded_as_the_kernel_does() {
    for (flows, kernel) in [(0, 0), (1, 1), (100, 128), (4096, 4096), (5000, 8192)] {
        assert_eq!(rounded_flows(flows), Some(kernel));
    }
    assert_eq!(rounded_flows(u32::MAX), None);
    let tree = Tree::new();
    let sysfs = tree.sysfs();
    sysfs.set_rps_flow_cnt(&tree.eth0, 0, 4096).unwrap();
    assert_eq!(sysfs.rps_flow_cnt(&tree.eth0, 0), Ok(4096));
    // A plain file does not round: the read-back must notice.
    let error = sysfs.set_rps_flow_cnt(&tree.eth0, 0, 5000).unwrap_err();
    assert!(
        error.to_string().contains("the kernel keeps 5000"),
        "{error}"
    );
}

#[test]
fn numa_nodes_unknown_and_absent_are_told_from_no_device() {
    let tree = Tree::new();
    let node = || tree.sysfs().numa_node(&tree.eth0);
    assert_eq!(node(), Ok(None), "a virtual device");
    tree.put("class/net/eth0/device/numa_node", "-1\n");
    assert_eq!(node(), Ok(None));
    tree.put("class/net/eth0/device/numa_node", "1\n");
    assert_eq!(node(), Ok(Some(1)));
    let error = tree
        .sysfs()
        .numa_node(&"eth9".parse().unwrap())
        .unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

#[test]
fn a_file_of_a_namespace_is_named_as_the_user_knows_it() {
    let sysfs = NetSysfs {
        place: Place::Namespace("/run/netns/game".into()),
        ..Tree::new().sysfs()
    };
    let path = queue_file(&"eth0".parse().unwrap(), Way::Rx, 0, "rps_cpus");
    assert_eq!(
        sysfs.name(&path).to_string(),
        "class/net/eth0/queues/rx-0/rps_cpus of namespace /run/netns/game"
    );
}
