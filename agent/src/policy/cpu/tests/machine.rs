use std::path::Path;

use berth_kernel::Root;

use super::*;

#[test]
fn housekeeping_is_the_lowest_core_of_each_node_that_runs_and_is_not_isolated() {
    assert_eq!(machine(LAB, "", "").reserved, set("0-1,8-9"));
    assert_eq!(machine(TWO, "", "").reserved, set("0,8,16,24"));
    assert_eq!(machine(LAB, "8-9", "0").reserved, set("2-3,10-11"));
}

#[test]
fn configured_cpus_reserve_whole_cores() {
    let reserve = |cpus: &str| {
        let topology = topology(SMT, &set(""), &set(""));
        Machine::new(topology, &Some(set(cpus)).into())
    };
    let machine = reserve("0-1,8,99");
    assert_eq!(machine.reserved, set("0-1,8-9"));
    assert!(machine.notes[0].starts_with("CPUs 99: reserved by the configuration and not"));
    assert!(machine.notes[1].starts_with("CPUs 9: reserved with their siblings"));
    assert_eq!(reserve("").reserved, set(""));
    assert_eq!(Reserved::from(None), Reserved::LowestCores);
}

#[test]
fn an_earlier_look_knows_the_cores_of_offline_cpus() {
    let before = machine(EPYC, "", "");
    // A whole cache, half a core, and a housekeeping core.
    let now = machine(EPYC, "0,4-7,32,36-39,41", "").knowing(&before);
    let mut expected = before.clone();
    expected.online = now.online.clone();
    expected.notes = now.notes.clone();
    let cpus = |machine: &Machine| -> Vec<(CpuSet, u32)> {
        let cores = machine.cores.iter();
        cores.map(|core| (core.cpus.clone(), core.node)).collect()
    };
    assert_eq!(cpus(&now), cpus(&expected));
    assert!(now.cores.iter().all(|core| core.known));
    // The cache of 0-3 is called 1 by now, for all of its cores.
    let caches: Vec<u32> = now.cores[..4].iter().map(|core| core.llc).collect();
    assert_eq!(caches, [1; 4]);
    // Node 1 still has its housekeeping core, so nothing moves.
    assert_eq!(now.reserved, before.reserved);
}

#[test]
fn a_machine_is_read_from_sysfs_and_written_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    let put = |name: &str, text: &str| {
        let path = root.sys.join("devices/system").join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        std::fs::write(path, text).unwrap();
    };
    put("cpu/online", "0-3\n");
    put("cpu/present", "0-4\n");
    for (cpu, siblings) in [(0, "0-1"), (1, "0-1"), (2, "2-3"), (3, "2-3")] {
        let name = format!("cpu/cpu{cpu}/topology/thread_siblings_list");
        put(&name, siblings);
    }
    let machine = Machine::read(&root, &Reserved::LowestCores).unwrap();
    assert_eq!(machine.online, set("0-3"));
    assert_eq!(machine.reserved, set("0-1"));
    assert_eq!(machine.cores.len(), 3);
    assert!(machine.notes[0].starts_with("CPUs 4: offline"));
    let text = serde_json::to_string(&machine).unwrap();
    assert_eq!(serde_json::from_str::<Machine>(&text).unwrap(), machine);
    assert!(Machine::read(&Root::under(&dir.path().join("x")), &Reserved::LowestCores).is_err());
}

#[test]
fn this_machine_can_be_read() {
    let machine = Machine::read(&Root::host(), &Reserved::LowestCores).unwrap();
    assert!(machine.online.is_subset(&machine.all()));
    assert!(!shared_pool(&machine, &Booked::default()).is_empty());
}
