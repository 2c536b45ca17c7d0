use super::*;

fn said(why: &[String], words: &str) -> bool {
    why.iter().any(|line| line.contains(words))
}

#[test]
fn whole_cores_with_all_threads_and_never_the_housekeeping_core() {
    let none = Booked::default();
    assert_eq!(cpus(&machine(PLAIN, "", ""), &none, "a", &cores(3)), "1-3");
    assert_eq!(
        cpus(&machine(SMT, "", ""), &none, "a", &cores(3)),
        "1-3,9-11"
    );
    assert_eq!(cpus(&machine(LAB, "", ""), &none, "a", &cores(3)), "2-7");
    let placed = ask(&machine(LAB, "", ""), &none, "a", &cores(3)).unwrap();
    assert_eq!(placed.nodes, set("0"));
    assert_eq!(placed.why[0], "3 whole cores on NUMA node 0: CPUs 2-7");
}

#[test]
fn the_node_of_the_virtual_function_comes_first() {
    let lab = machine(LAB, "", "");
    let near = |booked: &Booked, n| ask_near(&lab, booked, "a", &cores(n), Some(1)).unwrap();
    let placed = near(&Booked::default(), 2);
    assert_eq!(placed.cpus, set("10-13"));
    assert!(
        said(&placed.why, "is the one of its virtual function"),
        "{:?}",
        placed.why
    );
    // It has one core left: the other node, and that is said.
    let placed = near(&booked(&[("b", "10-13")]), 2);
    assert_eq!(placed.nodes, set("0"));
    assert!(said(&placed.why, "too few cores free"), "{:?}", placed.why);
}

#[test]
fn nearest_by_distance_when_the_near_node_is_full() {
    let four = machine(Shape { nodes: 4, ..LAB }, "", "");
    // Node 3 is CPUs 24-31; full, so node 2 is the nearest.
    let placed = ask_near(&four, &booked(&[("b", "26-31")]), "a", &cores(1), Some(3)).unwrap();
    assert_eq!(placed.nodes, set("2"));
}

#[test]
fn the_smallest_sufficient_cache_group_of_all_nodes_is_used() {
    let epyc = machine(EPYC, "", "");
    // The groups with housekeeping cores have 3 free: an ask of 3 fits there exactly.
    assert_eq!(cpus(&epyc, &Booked::default(), "a", &cores(3)), "1-3,33-35");
    // Of node 1 one group has 2 left: an ask of 2 goes there.
    let some = booked(&[("b", "20-21,52-53")]);
    let placed = ask(&epyc, &some, "a", &cores(2)).unwrap();
    assert_eq!(placed.cpus, set("22-23,54-55"));
    assert!(said(&placed.why, "has the fewest (2)"), "{:?}", placed.why);
    // 4 need a whole group: the one of 4-7 and not a part of a larger gap.
    assert_eq!(cpus(&epyc, &Booked::default(), "a", &cores(4)), "4-7,36-39");
}

#[test]
fn more_than_a_cache_group_takes_whole_groups_and_the_smallest_rest() {
    let epyc = machine(EPYC, "", "");
    // 7 on one node: one group of 4 and the 3 beside the housekeeping core.
    let placed = ask(&epyc, &Booked::default(), "a", &cores(7)).unwrap();
    assert_eq!(placed.cpus, set("1-7,33-39"));
    assert!(
        said(&placed.why, "largest gaps are put together"),
        "{:?}",
        placed.why
    );
}

#[test]
fn without_a_virtual_function_the_fuller_node_is_filled_up() {
    let two = machine(TWO, "", "");
    let some = booked(&[("b", "9-12,25-28")]);
    let placed = ask(&two, &some, "a", &cores(3)).unwrap();
    assert_eq!(placed.cpus, set("13-15,29-31"));
    assert!(said(&placed.why, "smallest gap"), "{:?}", placed.why);
    assert_eq!(ask(&two, &some, "a", &cores(4)).unwrap().nodes, set("0"));
}

#[test]
fn single_is_refused_with_what_there_is_and_what_to_do() {
    let lab = machine(LAB, "", "");
    let error = ask(&lab, &booked(&[("b", "2-3")]), "a", &cores(4)).unwrap_err();
    assert_eq!(error.code, Code::DoesNotFit);
    assert_eq!(error.wish, "4 exclusive whole cores on one NUMA node");
    let missing = Missing {
        what: "free cores on one NUMA node".to_owned(),
        asked: 4,
        available: 3,
    };
    assert_eq!(error.missing, [missing]);
    assert_eq!(error.why[0], "free cores: node 0 has 2, node 1 has 3");
    assert_eq!(error.why[1], "CPUs 0-1,8-9 are reserved for housekeeping");
    assert_eq!(
        error.next,
        "ask for at most 3, or for numa any (5 free in all)"
    );
    let refusal = error.refusal(&id("a"));
    assert_eq!(refusal.object, "workload a");
    assert_eq!(refusal.missing[0].available, 3);
}

#[test]
fn any_is_the_fewest_nodes_the_near_one_among_them() {
    let lab = machine(LAB, "", "");
    let none = Booked::default();
    assert_eq!(
        ask(&lab, &none, "a", &spread(cores(3))).unwrap().nodes,
        set("0")
    );
    let placed = ask(&lab, &none, "a", &spread(cores(5))).unwrap();
    assert_eq!(placed.cpus, set("2-7,10-13"));
    assert!(said(&placed.why, "fewest nodes"), "{:?}", placed.why);
    // Three nodes of 3: 5 take two; the near one is one of them.
    let three = machine(Shape { nodes: 3, ..LAB }, "", "");
    let placed = ask_near(&three, &none, "a", &spread(cores(5)), Some(2)).unwrap();
    assert_eq!(placed.nodes, set("1-2"));
    assert!(set("18-23").is_subset(&placed.cpus));
    let error = ask(&three, &none, "a", &spread(cores(10))).unwrap_err();
    assert_eq!(error.missing[0].available, 9);
    assert_eq!(error.next, "ask for at most 9, or release another workload");
}

#[test]
fn isolated_and_offline_cpus_are_never_handed_out_and_said() {
    // Isolated 4-5 is a core; 6 is offline, its sibling 7 still makes a core.
    let lab = machine(LAB, "6", "4-5");
    assert_eq!(cpus(&lab, &Booked::default(), "a", &cores(2)), "2-3,7");
    let wish = spread(cores(6));
    let error = ask(&lab, &Booked::default(), "a", &wish).unwrap_err();
    assert!(said(&error.why, "CPUs 6: offline"), "{:?}", error.why);
    assert!(said(&error.why, "CPUs 4-5: isolated"), "{:?}", error.why);
    // A core of which one thread is isolated is not whole.
    let lab = machine(LAB, "", "3");
    assert_eq!(cpus(&lab, &Booked::default(), "a", &cores(2)), "4-7");
}

#[test]
fn single_threads_share_cores_with_each_other_only() {
    let lab = machine(LAB, "", "");
    let some = booked(&[("b", "2-3"), ("c/", "4")]);
    // The rest of the broken core is used first, and whole cores stay whole.
    assert_eq!(cpus(&lab, &some, "a", &threads(1)), "5");
    assert_eq!(cpus(&lab, &some, "a", &threads(2)), "5-6");
    // Whole cores do not go where a single thread is.
    assert_eq!(cpus(&lab, &some, "a", &cores(1)), "6-7");
    let error = ask(&lab, &some, "a", &spread(cores(5))).unwrap_err();
    assert_eq!(error.missing[0].available, 4);
}

#[test]
fn a_thread_that_comes_online_belongs_to_the_whole_core_workload() {
    // `b` got core 2-3 while 3 was offline.
    let lab = machine(LAB, "", "");
    let some = booked(&[("b", "2")]);
    assert_eq!(cpus(&lab, &some, "a", &threads(1)), "4");
    assert!(!shared_pool(&lab, &some).contains(3));
    // Asked again, `b` gets it.
    assert_eq!(cpus(&lab, &some, "b", &cores(1)), "2-3");
    // Held as a single thread, the other one is free.
    assert_eq!(cpus(&lab, &booked(&[("b/", "2")]), "a", &threads(1)), "3");
}

#[test]
fn a_wish_without_a_number_is_invalid() {
    let lab = machine(LAB, "", "");
    for wish in [
        cores(0),
        CpuSpec {
            cpus: Some(2),
            ..cores(2)
        },
        shared(cores(0)),
    ] {
        let error = ask(&lab, &Booked::default(), "a", &wish).unwrap_err();
        assert_eq!(error.code, Code::Invalid, "{wish:?}");
    }
}

#[test]
fn a_machine_of_one_core_keeps_it_and_says_so() {
    let one = machine(Shape { cores: 1, ..SMT }, "", "");
    let error = ask(&one, &Booked::default(), "a", &cores(1)).unwrap_err();
    assert_eq!(error.missing[0].available, 0);
    assert_eq!(error.why[0], "free cores: no node has any");
    assert_eq!(error.why[1], "CPUs 0-1 are reserved for housekeeping");
}
