use super::*;

#[test]
fn the_pool_is_what_nobody_has_and_no_housekeeping() {
    let lab = machine(LAB, "15", "4-5");
    let some = booked(&[("a", "2-3"), ("b/", "6")]);
    assert_eq!(shared_pool(&lab, &some), set("7,10-14"));
}

#[test]
fn exclusive_cores_leave_the_pool_what_was_promised() {
    let lab = machine(LAB, "", "");
    let some = Booked {
        shared_cpus: 7,
        ..Booked::default()
    };
    assert_eq!(cpus(&lab, &some, "a", &cores(2)), "2-5");
    let error = ask(&lab, &some, "a", &cores(3)).unwrap_err();
    let missing = Missing {
        what: "CPUs the shared pool can spare".to_owned(),
        asked: 6,
        available: 5,
    };
    assert_eq!(error.missing, [missing]);
    assert!(error.why[0].contains("must keep 7"), "{:?}", error.why);
}

#[test]
fn the_pool_falls_back_to_housekeeping_and_is_never_empty() {
    let lab = machine(LAB, "", "");
    let all = booked(&[("a", "2-7,10-15")]);
    assert_eq!(shared_pool(&lab, &all), set("0-1,8-9"));
    // Promised more than is left, as CPUs went offline.
    let some = Booked {
        shared_cpus: 4,
        ..booked(&[("a", "2-7,12-15")])
    };
    let lab = machine(LAB, "10", "");
    assert_eq!(shared_pool(&lab, &some), set("0-1,8-9,11"));
    // Without housekeeping the last CPU stays in the pool.
    let bare = Machine::new(
        topology(LAB, &set(""), &set("")),
        &Reserved::Cpus(CpuSet::new()),
    );
    let error = ask(&bare, &Booked::default(), "a", &spread(cores(8))).unwrap_err();
    assert_eq!(error.missing[0].available, 15);
    assert!(ask(&bare, &Booked::default(), "a", &spread(cores(7))).is_ok());
}

#[test]
fn a_shared_wish_is_checked_and_gets_the_pool() {
    let lab = machine(LAB, "", "");
    let some = Booked {
        shared_cpus: 6,
        ..booked(&[("a", "2-3")])
    };
    let placed = ask(&lab, &some, "b", &shared(cores(2))).unwrap();
    assert_eq!(placed.cpus, set("4-7,10-15"));
    let error = ask(&lab, &some, "b", &shared(cores(3))).unwrap_err();
    let missing = Missing {
        what: "CPUs in the shared pool".to_owned(),
        asked: 6,
        available: 4,
    };
    assert_eq!(error.missing, [missing]);
    assert_eq!(
        error.why,
        ["the shared pool is CPUs 4-7,10-15, of which 6 are promised to other shared workloads"]
    );
    // From exclusive to shared: its cores come back first.
    let placed = ask(&lab, &some, "a", &shared(cores(3))).unwrap();
    assert_eq!(placed.cpus, set("2-7,10-15"));
    assert_eq!(shared_cpus(&lab, &shared(threads(3))), 3);
    assert_eq!(shared_cpus(&lab, &cores(3)), 0);
}

#[test]
fn a_pool_below_its_promise_hinders_no_release() {
    let lab = machine(LAB, "10-15", "");
    let some = Booked {
        shared_cpus: 4,
        ..booked(&[("a", "2-5")])
    };
    assert_eq!(cpus(&lab, &some, "a", &cores(2)), "2-5");
    assert_eq!(cpus(&lab, &some, "a", &cores(1)), "2-3");
    assert!(ask(&lab, &some, "a", &cores(3)).is_err());
}

#[test]
fn free_cores_are_told_by_node() {
    let epyc = machine(EPYC, "63", "4,36");
    let free = free_cores(&epyc, &booked(&[("a", "8-11,40-43")]));
    assert_eq!(free.len(), 2);
    assert_eq!(free[0].cores, 16);
    assert_eq!(free[0].reserved, set("0,32"));
    assert_eq!(free[0].isolated, set("4,36"));
    assert_eq!((free[0].exclusive_free, free[0].largest_hole), (10, 4));
    assert_eq!(free[1].offline, set("63"));
    assert_eq!((free[1].exclusive_free, free[1].largest_hole), (15, 4));
    assert_eq!(free[0].shared_pool, set("1-3,5-7,12-15,33-35,37-39,44-47"));
    // What is promised to the pool is not free.
    let some = Booked {
        shared_cpus: 57,
        ..Booked::default()
    };
    let free = free_cores(&machine(EPYC, "", ""), &some);
    assert_eq!((free[0].exclusive_free, free[0].largest_hole), (1, 1));
}
