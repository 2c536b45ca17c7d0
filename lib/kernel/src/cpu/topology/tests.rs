use super::*;

fn put(root: &Root, name: &str, text: &str) {
    let path = root.sys.join("devices/system").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// One CPU: its siblings and, by level, who shares its caches.
fn cpu(root: &Root, cpu: u32, siblings: &str, caches: &[(&str, &str)]) {
    let dir = format!("cpu/cpu{cpu}");
    put(
        root,
        &format!("{dir}/topology/thread_siblings_list"),
        siblings,
    );
    put(root, &format!("{dir}/cache/uevent"), "");
    for (index, (level, cpus)) in caches.iter().enumerate() {
        let dir = format!("{dir}/cache/index{index}");
        put(root, &format!("{dir}/level"), level);
        put(root, &format!("{dir}/shared_cpu_list"), cpus);
    }
}

/// Two nodes: 0 with two caches of two cores with two threads each, numbered as Linux
/// does it (siblings far apart); 1 with one core without caches. CPU 9 is offline.
fn machine() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    put(&root, "cpu/online", "0-8,10\n");
    put(&root, "node/online", "0-1\n");
    put(&root, "node/node0/cpulist", "0-7\n");
    put(&root, "node/node1/cpulist", "8-10\n");
    for n in 0..4 {
        let (both, second) = (format!("{n},{}", n + 4), n + 4);
        let shared = if n < 2 { "0-1,4-5" } else { "2-3,6-7" };
        // The highest level counts, whatever its index.
        let caches = [("1", both.as_str()), ("3", shared), ("2", both.as_str())];
        cpu(&root, n, &both, &caches);
        cpu(&root, second, &both, &caches);
    }
    cpu(&root, 8, "8-9\n", &[]);
    cpu(&root, 10, "10\n", &[]);
    (dir, root)
}

#[test]
fn cores_have_their_online_threads_node_and_last_cache() {
    let (_dir, root) = machine();
    let core = |cpus: &str, node, llc| Core {
        cpus: cpus.parse().unwrap(),
        node,
        llc,
    };
    let wanted = [
        core("0,4", 0, 0),
        core("1,5", 0, 0),
        core("2,6", 0, 2),
        core("3,7", 0, 2),
        core("8", 1, 8),
        core("10", 1, 8),
    ];
    assert_eq!(cores(&root).unwrap(), wanted);
}

#[test]
fn a_cpu_that_goes_offline_meanwhile_is_left_out() {
    let (_dir, root) = machine();
    let topology = root.sys.join("devices/system/cpu/cpu8/topology");
    std::fs::remove_dir_all(topology).unwrap();
    let cores = cores(&root).unwrap();
    assert_eq!(cores.len(), 5);
    assert!(!cores.iter().any(|core| core.cpus.contains(8)));
}

#[test]
fn offline_cpus_sockets_isolation_and_distances_are_told() {
    let (_dir, root) = machine();
    put(&root, "cpu/present", "0-10\n");
    put(&root, "cpu/cpu9/node1/cpulist", "8,10\n");
    put(&root, "cpu/isolated", "3,7\n");
    put(&root, "node/node0/distance", "10 21\n");
    put(&root, "node/node1/distance", "21 10\n");
    put(&root, "cpu/cpu0/topology/physical_package_id", "0\n");
    put(&root, "cpu/cpu0/topology/die_id", "1\n");
    put(&root, "cpu/cpu1/topology/physical_package_id", "-1\n");
    let found = topology(&root).unwrap();
    assert_eq!(found.cores, cores(&root).unwrap());
    assert_eq!(found.offline, BTreeMap::from([(9, 1)]));
    assert_eq!(found.isolated, "3,7".parse().unwrap());
    assert_eq!(found.distances[&0], BTreeMap::from([(0, 10), (1, 21)]));
    assert_eq!(found.distances[&1], BTreeMap::from([(0, 21), (1, 10)]));
    assert_eq!(found.sockets.len(), found.cores.len());
    let first = Socket {
        package: Some(0),
        die: Some(1),
    };
    assert_eq!(found.sockets[0], first);
    assert_eq!(found.sockets[1], Socket::default());
}

#[test]
fn a_broken_distance_names_its_file() {
    let (_dir, root) = machine();
    put(&root, "node/node1/distance", "21 ten\n");
    let error = topology(&root).unwrap_err().to_string();
    assert!(error.contains("node1/distance"), "{error}");
    assert!(error.contains("21 ten"), "{error}");
}

#[test]
fn a_machine_without_numa_is_one_node() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    put(&root, "cpu/online", "0\n");
    put(&root, "cpu/present", "0-1\n");
    cpu(&root, 0, "0\n", &[]);
    let found = topology(&root).unwrap();
    assert_eq!(found.offline, BTreeMap::from([(1, 0)]));
    assert_eq!(found.distances, BTreeMap::new());
}

#[test]
fn this_machines_cores_are_its_online_cpus_once_each() {
    let root = Root::host();
    let cores = cores(&root).unwrap();
    let threads: usize = cores.iter().map(|core| core.cpus.len()).sum();
    let all: CpuSet = cores.iter().flat_map(|core| core.cpus.iter()).collect();
    assert_eq!(all, online(&root).unwrap());
    assert_eq!(threads, all.len());
    assert!(
        cores
            .iter()
            .all(|core| core.llc <= core.cpus.first().unwrap())
    );
}
