use super::*;

fn why(machine: &Machine, booked: &Booked, wish: &CpuSpec) -> String {
    ask(machine, booked, "a", wish).unwrap().why.join("; ")
}

#[test]
fn growing_keeps_all_and_adds_under_the_same_cache() {
    let epyc = machine(EPYC, "", "");
    let some = booked(&[("a", "8-9,40-41")]);
    assert_eq!(cpus(&epyc, &some, "a", &cores(3)), "8-10,40-42");
    let why = why(&epyc, &some, &cores(3));
    assert!(why.contains("keeps CPUs 8-9,40-41"), "{why}");
    assert!(
        why.contains("adds 1 core under a last-level cache it uses already: CPUs 10,42"),
        "{why}"
    );
}

#[test]
fn growing_goes_to_another_cache_of_the_node_then_is_refused() {
    let epyc = machine(EPYC, "", "");
    let full = booked(&[("a", "8-9,40-41"), ("b", "10-11,42-43")]);
    // One more fits beside the housekeeping core, the smallest gap.
    assert_eq!(cpus(&epyc, &full, "a", &cores(3)), "1,8-9,33,40-41");
    let error = ask(&epyc, &full, "a", &cores(14)).unwrap_err();
    let missing = Missing {
        what: "cores on NUMA node 0".to_owned(),
        asked: 14,
        available: 13,
    };
    assert_eq!(error.missing, [missing]);
    assert!(error.why[2].contains("does not leave its node"));
    assert!(error.next.contains("numa any"), "{}", error.next);
}

#[test]
fn growing_with_any_takes_the_nearest_other_node() {
    let lab = machine(Shape { nodes: 3, ..LAB }, "", "");
    let some = booked(&[("a", "18-23")]);
    let placed = ask(&lab, &some, "a", &spread(cores(4))).unwrap();
    assert_eq!(placed.nodes, set("1-2"));
    let why = placed.why.join("; ");
    assert!(why.contains("on NUMA node 1, the nearest other"), "{why}");
}

#[test]
fn shrinking_gives_back_what_is_alone_under_another_cache() {
    let epyc = machine(EPYC, "", "");
    let some = booked(&[("a", "1,8-11,33,40-43")]);
    assert_eq!(cpus(&epyc, &some, "a", &cores(4)), "8-11,40-43");
    let why = why(&epyc, &some, &cores(4));
    assert!(
        why.contains("gives back CPUs 1,33: under the last-level cache with the fewest"),
        "{why}"
    );
    assert_eq!(cpus(&epyc, &some, "a", &cores(2)), "8-9,40-41");
}

#[test]
fn shrinking_leaves_the_larger_hole_of_equal_ones() {
    let epyc = machine(EPYC, "", "");
    // One core each under the caches of 4 and 8; of the latter others hold two.
    let some = booked(&[("a", "4,8,36,40"), ("b", "10-11,42-43")]);
    assert_eq!(cpus(&epyc, &some, "a", &cores(1)), "8,40");
}

#[test]
fn shrinking_gives_back_the_far_node_first() {
    let lab = machine(LAB, "", "");
    let some = booked(&[("a", "2-3,10-15")]);
    assert_eq!(cpus(&lab, &some, "a", &spread(cores(3))), "10-15");
    // As many on both: the one far from the virtual function.
    let some = booked(&[("a", "2-3,10-11")]);
    let near = |node| ask_near(&lab, &some, "a", &cores(1), Some(node)).unwrap();
    assert_eq!(near(0).cpus, set("2-3"));
    assert_eq!(near(1).cpus, set("10-11"));
}

#[test]
fn a_held_cpu_that_goes_offline_is_kept_and_given_back_first() {
    let before = machine(LAB, "", "");
    let some = booked(&[("a", "2-5")]);
    let lab = machine(LAB, "2-3", "").knowing(&before);
    assert_eq!(cpus(&lab, &some, "a", &cores(2)), "2-5");
    // What stays runs.
    assert_eq!(cpus(&lab, &some, "a", &cores(1)), "4-5");
    assert!(why(&lab, &some, &cores(1)).contains("offline"));
    assert_eq!(cpus(&lab, &some, "a", &cores(3)), "2-7");
    // Nobody else gets it, not even when it is back.
    assert_eq!(cpus(&lab, &some, "b", &spread(cores(4))), "6-7,10-15");
    assert_eq!(cpus(&before, &some, "b", &spread(cores(4))), "6-7,10-15");
}

#[test]
fn offline_cpus_of_unknown_cores_count_as_cores_of_the_usual_size() {
    // The agent started after they went offline.
    let lab = machine(LAB, "2-3", "");
    assert_eq!(lab.cores.iter().filter(|core| !core.known).count(), 2);
    let some = booked(&[("a", "2-5")]);
    assert_eq!(cpus(&lab, &some, "a", &cores(2)), "2-5");
    assert_eq!(cpus(&lab, &some, "a", &cores(1)), "4-5");
    // Half of a core offline does not make it two.
    let lab = machine(LAB, "3", "");
    assert_eq!(cpus(&lab, &some, "a", &cores(2)), "2-5");
    assert_eq!(cpus(&lab, &some, "a", &cores(3)), "2-7");
}

#[test]
fn single_is_refused_for_what_is_on_two_nodes() {
    let lab = machine(LAB, "", "");
    let some = booked(&[("a", "2-3,10-11")]);
    let error = ask(&lab, &some, "a", &cores(2)).unwrap_err();
    assert!(error.why[0].contains("NUMA nodes 0-1"), "{:?}", error.why);
    assert_eq!(cpus(&lab, &some, "a", &spread(cores(2))), "2-3,10-11");
}

#[test]
fn single_threads_grow_on_their_own_cores_and_shrink_one_by_one() {
    let lab = machine(LAB, "", "");
    let some = booked(&[("a/", "2,4"), ("b/", "5")]);
    assert_eq!(cpus(&lab, &some, "a", &threads(3)), "2-4");
    assert_eq!(cpus(&lab, &some, "a", &threads(5)), "2-4,6-7");
    assert_eq!(cpus(&lab, &some, "a", &threads(1)), "2");
}

#[test]
fn from_threads_to_cores_and_back() {
    let lab = machine(LAB, "", "");
    let some = booked(&[("a/", "2")]);
    assert_eq!(cpus(&lab, &some, "a", &cores(1)), "2-3");
    assert_eq!(
        cpus(&lab, &booked(&[("a", "2-5")]), "a", &threads(3)),
        "2-4"
    );
    let some = booked(&[("a/", "2"), ("b/", "3")]);
    let error = ask(&lab, &some, "a", &cores(1)).unwrap_err();
    assert!(error.why[0].contains("another workload holds CPU 3"));
}

#[test]
fn what_became_reserved_is_kept_and_goes_first() {
    let topology = topology(LAB, &set(""), &set(""));
    let lab = Machine::new(topology, &Reserved::Cpus(set("2")));
    let some = booked(&[("a", "2-5")]);
    assert_eq!(cpus(&lab, &some, "a", &cores(2)), "2-5");
    assert_eq!(cpus(&lab, &some, "a", &cores(1)), "4-5");
}
