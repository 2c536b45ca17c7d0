use super::*;
use proptest::prelude::*;

fn set(list: &str) -> CpuSet {
    list.parse().unwrap()
}

/// Two nodes of eight CPUs: cores of two threads (0-1, 2-3, ...), each node with two
/// caches of two cores.
fn smt() -> Vec<Core> {
    (0..8)
        .map(|n| Core {
            cpus: [2 * n, 2 * n + 1].into_iter().collect(),
            node: n / 4,
            llc: n / 2 * 4,
        })
        .collect()
}

/// Sixteen cores of one thread, two nodes, caches of four cores.
fn plain() -> Vec<Core> {
    (0..16)
        .map(|n| Core {
            cpus: [n].into_iter().collect(),
            node: n / 8,
            llc: n / 4 * 4,
        })
        .collect()
}

/// A container on `cpuset` (empty: not known) with a VF on node 1, CPUs 14-15 somebody's
/// exclusive cores.
fn node(cpuset: &str) -> AutoInput {
    AutoInput {
        container: Some(set(cpuset)).filter(|cpus| !cpus.is_empty()),
        node_online: set("0-15"),
        root_effective: set("0-13"),
        numa_local: Some(set("8-15")),
        housekeeping: None,
    }
}

fn wish<'a>(cpus: &'a AutoInput, cores: &'a [Core]) -> VfWish<'a> {
    VfWish {
        cpus,
        cores,
        node: Some(1),
        isolated: CpuSet::new(),
        turn: 0,
        irq: IrqPolicy::Cpuset,
        placement: IrqPlacement::Own,
        rps: Steer::Auto,
        xps: Steer::Auto,
    }
}

fn vectors(roles: &[Role]) -> Vec<Vector> {
    let vector = |(irq, role): (u32, &Role)| Vector {
        irq: Irq(irq),
        role: *role,
        action: String::new(),
    };
    (100..).zip(roles).map(vector).collect()
}

/// Combined queues with a control vector after them, as most drivers have them.
fn combined(queues: u32) -> Vec<Vector> {
    let mut roles: Vec<Role> = (0..queues).map(Role::RxTx).collect();
    roles.push(Role::Control);
    vectors(&roles)
}

fn cpus_of(plan: &IrqPlan) -> Vec<u32> {
    plan.irqs.iter().map(|(_irq, cpu)| *cpu).collect()
}

fn groups(groups: &[Option<CpuSet>]) -> Vec<String> {
    let text = |group: &Option<CpuSet>| {
        let cpus = group.as_ref().map(ToString::to_string);
        cpus.unwrap_or_else(|| "left".to_owned())
    };
    groups.iter().map(text).collect()
}

/// One row of the table: cores, container, queues; CPUs of the queues' interrupts and
/// the control vector's, RPS, XPS, channels.
type Row<'a> = (
    Vec<Core>,
    &'a str,
    u32,
    (&'a [u32], &'a [&'a str], &'a [&'a str], Option<u32>),
);

fn table(rows: &[Row<'_>]) {
    for (cores, cpuset, queues, (irqs, rps, xps, fewer)) in rows {
        let cpus = node(cpuset);
        let wish = wish(&cpus, cores);
        let row = format!("{cpuset} of {} cores, {queues} queues", cores.len());
        let plan = place_irqs(&wish, &combined(*queues));
        assert_eq!(cpus_of(&plan), *irqs, "interrupts: {row}");
        let n = usize::try_from(*queues).unwrap();
        let steering = steer(&wish, n, n);
        assert_eq!(groups(&steering.rps), *rps, "RPS: {row}");
        assert_eq!(groups(&steering.xps), *xps, "XPS: {row}");
        assert_eq!(channels(&wish, *queues), *fewer, "channels: {row}");
    }
}

#[test]
fn the_table_for_one_cpu_or_one_queue() {
    table(&[
        // One CPU.
        (plain(), "9", 1, (&[9, 8], &[""], &["left"], None)),
        (
            plain(),
            "9",
            2,
            (&[9, 9, 8], &["", ""], &["9", "9"], Some(1)),
        ),
        // Two cores: the other one takes the packets of the only queue.
        (plain(), "9-10", 1, (&[9, 8], &["10"], &["left"], None)),
        (
            plain(),
            "9-10",
            2,
            (&[9, 10, 8], &["", ""], &["9", "10"], None),
        ),
        // Both threads of one core count as one core.
        (smt(), "8-9", 1, (&[8, 10], &[""], &["left"], None)),
        (
            smt(),
            "8-9",
            2,
            (&[8, 9, 10], &["", ""], &["8-9", "8-9"], Some(1)),
        ),
        // One queue, three cores and more: all but the interrupt's core.
        (plain(), "8-10", 1, (&[8, 11], &["9-10"], &["left"], None)),
        (smt(), "8-13", 1, (&[8, 0], &["10-13"], &["left"], None)),
    ]);
}

#[test]
fn the_table_for_a_queue_per_core() {
    table(&[
        // As many queues as cores, and more: no RPS; threads after cores.
        (
            smt(),
            "8-11",
            2,
            (&[8, 10, 12], &["", ""], &["8-9", "10-11"], None),
        ),
        (
            smt(),
            "8-11",
            3,
            (
                &[8, 10, 9, 12],
                &["", "", ""],
                &["8-9", "10-11", "8-9"],
                Some(2),
            ),
        ),
    ]);
}

#[test]
fn the_table_for_fewer_queues_than_cores() {
    table(&[
        // Fewer queues than cores: a share of each cache, the interrupt's CPU in it.
        (
            plain(),
            "8-13",
            2,
            (&[8, 12, 0], &["9-11", "12-13"], &["8-11", "12-13"], None),
        ),
        (
            smt(),
            "8-13",
            2,
            (&[8, 12, 0], &["9-11", "12-13"], &["8-11", "12-13"], None),
        ),
        // Shares of one cache.
        (
            plain(),
            "8-11",
            2,
            (&[8, 9, 12], &["8,10", "9,11"], &["8,10", "9,11"], None),
        ),
        (
            smt(),
            "0-7",
            2,
            (&[0, 4, 8], &["1-3", "5-7"], &["0-3", "4-7"], None),
        ),
        // CPUs on the VF's node first, far ones shared out.
        (
            plain(),
            "6-9",
            2,
            (&[8, 9, 10], &["6,8", "7,9"], &["6,8", "7,9"], None),
        ),
    ]);
}

#[test]
fn both_vectors_of_a_queue_arrive_at_its_cpu_and_the_third_outside() {
    let (cpus, cores) = (node("9-11"), plain());
    let igbvf = vectors(&[Role::Tx(0), Role::Rx(0), Role::Control]);
    let plan = place_irqs(&wish(&cpus, &cores), &igbvf);
    assert_eq!(plan.irqs, [(Irq(100), 9), (Irq(101), 9), (Irq(102), 8)]);
    assert_eq!(plan.notes, [""; 0]);
}

#[test]
fn an_unpinned_container_gets_shared_cpus_near_the_vf_in_turn_and_no_steering() {
    let cores = plain();
    for cpuset in ["", "0-15"] {
        let cpus = node(cpuset);
        let wish = VfWish {
            turn: 3,
            ..wish(&cpus, &cores)
        };
        // Shared near the VF: 8-13, ordered 8, 12, 9, 13, 10, 11; control from 8-13.
        let plan = place_irqs(&wish, &combined(3));
        assert_eq!(cpus_of(&plan), [13, 10, 11, 11], "{cpuset:?}");
        let steering = steer(&wish, 2, 2);
        assert_eq!(groups(&steering.rps), ["left", "left"]);
        assert_eq!(groups(&steering.xps), ["left", "left"]);
        assert!(steering.notes[0].contains("not pinned"));
        assert_eq!(channels(&wish, 64), None);
    }
}

#[test]
fn control_vectors_go_from_housekeeping_to_whatever_is_left() {
    let cores = plain();
    let control = |cpus: &AutoInput| {
        let plan = place_irqs(&wish(cpus, &cores), &combined(1));
        (plan.irqs[1].1, plan.notes.join("; "))
    };
    let cpus = AutoInput {
        housekeeping: Some(set("0-1,10")),
        ..node("8-9")
    };
    assert_eq!(
        control(&cpus),
        (10, String::new()),
        "near housekeeping first"
    );
    let cpus = AutoInput {
        housekeeping: Some(set("0-1")),
        ..node("8-9")
    };
    assert_eq!(control(&cpus), (0, String::new()), "far housekeeping");
    assert_eq!(
        control(&node("8-9")),
        (10, String::new()),
        "near and shared"
    );
    let (cpu, note) = control(&node("8-13"));
    assert_eq!(cpu, 0, "14-15 are somebody's");
    assert!(note.starts_with("no shared CPU is near the VF"), "{note}");
    let cpus = AutoInput {
        root_effective: set("8-9"),
        ..node("8-9")
    };
    let (cpu, note) = control(&cpus);
    assert_eq!(cpu, 8);
    assert!(note.starts_with("all CPUs are the container's"), "{note}");
}

#[test]
fn placements_take_one_cpu_second_threads_or_housekeeping() {
    let (cpus, cores) = (node("8-13"), smt());
    let at = |placement| VfWish {
        placement,
        ..wish(&cpus, &cores)
    };
    let first = at(IrqPlacement::First);
    assert_eq!(cpus_of(&place_irqs(&first, &combined(2))), [8, 8, 0]);
    // The application keeps off core 8-9, so no share holds it.
    assert_eq!(groups(&steer(&first, 2, 1).rps), ["12-13", "10-11"]);
    assert_eq!(channels(&first, 8), None);
    let sibling = at(IrqPlacement::Sibling);
    assert_eq!(cpus_of(&place_irqs(&sibling, &combined(2))), [9, 13, 0]);
    assert_eq!(groups(&steer(&sibling, 1, 1).rps), ["10-13"]);
    let housekeeping = at(IrqPlacement::Housekeeping);
    let plan = place_irqs(&housekeeping, &combined(2));
    assert_eq!(cpus_of(&plan), [0, 1, 0]);
    assert_eq!(plan.notes.len(), 1, "{:?}", plan.notes);
    assert_eq!(groups(&steer(&housekeeping, 2, 2).rps), ["", ""]);
    assert_eq!(groups(&steer(&housekeeping, 2, 2).xps), ["8-11", "12-13"]);
    // Without second threads the first ones serve, and it is said.
    let cores = plain();
    let sibling = VfWish {
        cores: &cores,
        ..sibling
    };
    let plan = place_irqs(&sibling, &combined(2));
    assert_eq!(cpus_of(&plan), [8, 12, 0]);
    assert!(plan.notes[0].starts_with("no core has two threads"));
}

#[test]
fn policies_name_the_cpus() {
    let (cpus, cores) = (node("4-5"), plain());
    let by = |irq| VfWish {
        irq,
        ..wish(&cpus, &cores)
    };
    let irqs = |irq| cpus_of(&place_irqs(&by(irq), &combined(2)));
    assert_eq!(irqs(IrqPolicy::Cpuset), [4, 5, 8]);
    assert_eq!(irqs(IrqPolicy::Numa), [8, 12, 8]);
    assert_eq!(irqs(IrqPolicy::Spread), [8, 12, 8]);
    assert_eq!(irqs(IrqPolicy::Single), [4, 4, 4]);
    assert_eq!(irqs(IrqPolicy::Cpus(set("2-3,40"))), [2, 3, 8]);
    assert_eq!(irqs(IrqPolicy::Off), [0; 0]);
    // Interrupts elsewhere: the container's own cores are reached by RPS, all of them.
    assert_eq!(groups(&steer(&by(IrqPolicy::Numa), 1, 1).rps), ["4-5"]);
    assert_eq!(groups(&steer(&by(IrqPolicy::Off), 2, 2).rps), ["4", "5"]);
    assert_eq!(
        groups(&steer(&by(IrqPolicy::Cpus(set("5"))), 1, 1).rps),
        ["4"]
    );
    let distance = place_irqs(&by(IrqPolicy::Cpuset), &combined(2)).notes;
    assert!(
        distance[0].contains("CPUs 4-5 are not on NUMA node 1"),
        "{distance:?}"
    );
    let offline = place_irqs(&by(IrqPolicy::Cpus(set("40"))), &combined(2));
    assert_eq!(cpus_of(&offline), [0; 0]);
    assert_eq!(offline.notes.len(), 2, "{:?}", offline.notes);
}

#[test]
fn where_nothing_is_known_nothing_is_placed_and_it_is_said() {
    let cores = plain();
    let cpus = AutoInput {
        numa_local: None,
        ..node("")
    };
    let plan = place_irqs(&wish(&cpus, &cores), &combined(2));
    assert_eq!(plan.irqs, []);
    assert!(
        plan.notes[0].contains("has no NUMA node"),
        "{:?}",
        plan.notes
    );
    let cpus = node("8-9");
    let down = place_irqs(&wish(&cpus, &cores), &vectors(&[Role::Idle, Role::Idle]));
    assert_eq!(down.irqs, []);
    assert!(down.notes[0].contains("not up"), "{:?}", down.notes);
    let some = place_irqs(&wish(&cpus, &cores), &vectors(&[Role::RxTx(0), Role::Idle]));
    assert_eq!(some.irqs, [(Irq(100), 8)], "an idle vector is left alone");
}

#[test]
fn lists_are_taken_for_every_queue_without_isolated_cpus_for_rps() {
    let (cpus, cores) = (node(""), plain());
    let wish = VfWish {
        isolated: set("3"),
        rps: Steer::List(set("2-3")),
        xps: Steer::List(set("2-3")),
        ..wish(&cpus, &cores)
    };
    let steering = steer(&wish, 2, 2);
    assert_eq!(groups(&steering.rps), ["2", "2"]);
    assert_eq!(groups(&steering.xps), ["2-3", "2-3"]);
    assert!(steering.notes[0].contains("RPS cannot use CPU 3:"));
    let off = VfWish {
        rps: Steer::Off,
        xps: Steer::Off,
        ..wish
    };
    let steering = steer(&off, 1, 2);
    assert_eq!(groups(&steering.rps), ["left"]);
    assert_eq!(groups(&steering.xps), ["left", "left"]);
}

#[test]
fn isolated_cores_get_interrupts_but_no_rps() {
    let (cpus, cores) = (node("8-11"), plain());
    let wish = VfWish {
        isolated: set("8-11"),
        ..wish(&cpus, &cores)
    };
    let steering = steer(&wish, 1, 1);
    assert_eq!(groups(&steering.rps), [""]);
    assert!(steering.notes[0].contains("RPS cannot use CPU 9-11:"));
    assert_eq!(cpus_of(&place_irqs(&wish, &combined(1))), [8, 12]);
    // Queue 0 shares 8 and 10: without 10 there is nobody to share with.
    let wish = VfWish {
        isolated: set("10"),
        ..wish
    };
    assert_eq!(groups(&steer(&wish, 2, 2).rps), ["", "9,11"]);
}

fn cpu_set() -> impl Strategy<Value = CpuSet> {
    prop::collection::btree_set(0_u32..16, 0..16).prop_map(|s| s.into_iter().collect())
}

fn policy() -> impl Strategy<Value = IrqPolicy> {
    prop_oneof![
        Just(IrqPolicy::Cpuset),
        Just(IrqPolicy::Numa),
        Just(IrqPolicy::Spread),
        Just(IrqPolicy::Single),
        cpu_set().prop_map(IrqPolicy::Cpus),
        Just(IrqPolicy::Off),
    ]
}

fn placement() -> impl Strategy<Value = IrqPlacement> {
    prop_oneof![
        Just(IrqPlacement::Own),
        Just(IrqPlacement::First),
        Just(IrqPlacement::Sibling),
        Just(IrqPlacement::Housekeeping),
    ]
}

fn input() -> impl Strategy<Value = AutoInput> {
    let some = || prop::option::of(cpu_set());
    (some(), cpu_set(), cpu_set(), some(), some()).prop_map(
        |(container, node_online, root_effective, numa_local, housekeeping)| AutoInput {
            container,
            node_online,
            root_effective,
            numa_local,
            housekeeping,
        },
    )
}

/// The online part of a topology, as [`crate::cpu::cores`] gives it.
fn online(cores: Vec<Core>, online: &CpuSet) -> Vec<Core> {
    let online = |core: Core| Core {
        cpus: core.cpus.intersection(online),
        ..core
    };
    let cores = cores.into_iter().map(online);
    cores.filter(|core| !core.cpus.is_empty()).collect()
}

proptest! {
    /// Whatever is asked for on whatever machine: one CPU per vector that has a handler,
    /// or none is placed at all; every CPU online and the container's, shared,
    /// housekeeping or named.
    #[test]
    fn interrupts_stay_within_bounds(
        cpus in input(), threads: bool, irq in policy(), placement in placement(),
        queues in 1_u32..9, turn in any::<u32>(),
    ) {
        let cores = online(if threads { smt() } else { plain() }, &cpus.node_online);
        let wish = VfWish { irq, placement, turn, ..wish(&cpus, &cores) };
        let mut vectors = combined(queues);
        vectors.push(Vector { irq: Irq(7), role: Role::Idle, action: String::new() });
        let plan = place_irqs(&wish, &vectors);
        let placed: Vec<Irq> = plan.irqs.iter().map(|(irq, _cpu)| *irq).collect();
        let all: Vec<Irq> = vectors[..vectors.len() - 1].iter().map(|v| v.irq).collect();
        if placed.is_empty() {
            prop_assert!(wish.irq == IrqPolicy::Off || !plan.notes.is_empty());
        } else {
            prop_assert_eq!(placed, all);
        }
        let named = match &wish.irq {
            IrqPolicy::Cpus(list) => list.clone(),
            _ => CpuSet::new(),
        };
        let own = wish.own().unwrap_or_default();
        let keeping = cpus.housekeeping.clone().unwrap_or_default();
        let allowed = own.union(&cpus.root_effective).union(&keeping).union(&named);
        for cpu in cpus_of(&plan) {
            prop_assert!(cpus.node_online.contains(cpu), "CPU {cpu} is offline");
            prop_assert!(allowed.contains(cpu), "CPU {cpu} is not for it");
        }
    }

    /// On `auto` a pinned container's queues are shared by its own CPUs only: each rx
    /// queue by CPUs that RPS can use, never by the interrupt's CPU where the table says
    /// so; the tx queues by all of them.
    #[test]
    fn steering_stays_within_the_container(
        cpus in input(), threads: bool, irq in policy(), placement in placement(),
        queues in 1_u32..9, isolated in cpu_set(),
    ) {
        let cores = online(if threads { smt() } else { plain() }, &cpus.node_online);
        let wish = VfWish { irq, placement, isolated, ..wish(&cpus, &cores) };
        let n = usize::try_from(queues).unwrap();
        let steering = steer(&wish, n, n);
        prop_assert_eq!((steering.rps.len(), steering.xps.len()), (n, n));
        let Some(own) = wish.own() else {
            prop_assert_eq!(&steering.rps, &vec![None; n]);
            prop_assert_eq!(&steering.xps, &vec![None; n]);
            return Ok(());
        };
        let plan = place_irqs(&wish, &combined(queues));
        for (queue, group) in steering.rps.iter().enumerate() {
            let group = group.as_ref().unwrap();
            prop_assert!(group.is_subset(&own) && group.intersection(&wish.isolated).is_empty());
            let Some((_irq, cpu)) = plan.irqs.get(queue) else { continue };
            let alone = queues == 1 || group.len() == 1 || wish.at_one_cpu();
            if alone || group.len() > 3 || !wish.at_own_cores() {
                prop_assert!(!group.contains(*cpu), "{group} holds the interrupt's CPU {cpu}");
            }
        }
        if queues > 1 {
            let all: CpuSet =
                steering.xps.iter().flatten().flat_map(CpuSet::iter).collect();
            prop_assert_eq!(all, own);
        } else {
            prop_assert_eq!(&steering.xps, &vec![None]);
        }
    }
}
