use super::*;
use proptest::prelude::*;

fn set(list: &str) -> CpuSet {
    list.parse().unwrap()
}

/// Two NUMA nodes of eight CPUs, the device at the second; 12-13 are somebody's
/// exclusive cores.
fn node() -> AutoInput {
    AutoInput {
        container: None,
        node_online: set("0-15"),
        root_effective: set("0-11,14-15"),
        numa_local: Some(set("8-15")),
        housekeeping: None,
    }
}

#[test]
fn a_pinned_container_gets_its_own_cpus() {
    for (cpuset, own) in [
        ("4-7", "4-7"),
        ("12-13", "12-13"),
        ("0-14", "0-14"),
        ("7,16", "7"),
    ] {
        let container = Some(set(cpuset));
        let input = AutoInput {
            container,
            ..node()
        };
        assert_eq!(auto_cpus(&input), Auto::Container(set(own)), "{cpuset}");
    }
}

#[test]
fn an_unpinned_container_falls_back_to_shared_cpus_near_the_device() {
    for container in [None, Some(set("0-15")), Some(set(""))] {
        let input = AutoInput {
            container,
            ..node()
        };
        assert_eq!(auto_cpus(&input), Auto::Local(set("8-11,14-15")));
        let housekeeping = Some(set("0-1,8-9"));
        let input = AutoInput {
            housekeeping,
            ..input
        };
        assert_eq!(auto_cpus(&input), Auto::Local(set("8-9")));
    }
}

#[test]
fn where_nothing_fits_the_reason_names_the_step() {
    let cases = [
        (
            AutoInput {
                numa_local: None,
                ..node()
            },
            "has no NUMA node",
        ),
        (
            AutoInput {
                numa_local: Some(set("16-23")),
                ..node()
            },
            "(16-23) none is online",
        ),
        (
            AutoInput {
                numa_local: Some(set("12-13")),
                ..node()
            },
            "(12-13) none is shared",
        ),
        (
            AutoInput {
                housekeeping: Some(set("0-1")),
                ..node()
            },
            "(8-11,14-15) none is a housekeeping CPU",
        ),
    ];
    for (input, expected) in cases {
        let Auto::Nothing(reason) = auto_cpus(&input) else {
            panic!("{input:?}: something was chosen");
        };
        assert!(
            reason.starts_with("the container's cgroup is not known"),
            "{reason}"
        );
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn rps_leaves_isolated_cpus_out_and_says_so() {
    assert_eq!(usable_for_rps(&set("2-5"), &set("")), (set("2-5"), None));
    let (cpus, note) = usable_for_rps(&set("2-5"), &set("4-7"));
    assert_eq!(cpus, set("2-3"));
    assert!(note.unwrap().contains("CPU 4-5:"));
    assert_eq!(usable_for_rps(&set("4"), &set("4-7")).0, set(""));
}

fn cpus() -> impl Strategy<Value = CpuSet> {
    prop::collection::btree_set(0_u32..12, 0..12).prop_map(|s| s.into_iter().collect())
}

proptest! {
    /// Whatever is chosen is online, not empty, and the fallback takes nobody's
    /// exclusive cores.
    #[test]
    fn choices_stay_within_bounds(
        container in prop::option::of(cpus()), node_online in cpus(),
        root_effective in cpus(), numa_local in prop::option::of(cpus()),
        housekeeping in prop::option::of(cpus()),
    ) {
        let input =
            AutoInput { container, node_online, root_effective, numa_local, housekeeping };
        match auto_cpus(&input) {
            Auto::Container(cpus) => {
                prop_assert!(!cpus.is_empty() && cpus.is_subset(&input.node_online));
                prop_assert!(cpus.is_subset(&input.container.unwrap()));
                prop_assert_ne!(cpus, input.node_online);
            }
            Auto::Local(cpus) => {
                prop_assert!(!cpus.is_empty() && cpus.is_subset(&input.node_online));
                prop_assert!(cpus.is_subset(&input.root_effective));
                prop_assert!(cpus.is_subset(&input.numa_local.unwrap()));
                prop_assert!(input.housekeeping.is_none_or(|h| cpus.is_subset(&h)));
            }
            Auto::Nothing(reason) => prop_assert!(!reason.is_empty()),
        }
    }
}
