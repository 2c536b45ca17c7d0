use super::*;
use berth_kernel::Irq;
use berth_kernel::irq::{Role, Vector};
use proptest::prelude::*;

fn set(list: &str) -> CpuSet {
    list.parse().unwrap()
}

fn id(name: &str) -> WorkloadId {
    name.parse().unwrap()
}

fn key(name: &str) -> Key {
    format!("net/{name}:net1").parse().unwrap()
}

/// Two NUMA nodes of four cores with two threads each; the node's own work on the first
/// core of each.
fn machine() -> Machine {
    let core = |first: u32| Core {
        cpus: [first, first + 1].into_iter().collect(),
        node: first / 8,
        llc: first / 8 * 8,
    };
    Machine {
        online: set("0-15"),
        housekeeping: set("0-1,8-9"),
        isolated: CpuSet::new(),
        cores: (0..8).map(|n| core(n * 2)).collect(),
        nodes: [(0, set("0-7")), (1, set("8-15"))].into(),
    }
}

/// Interrupts 10n to 10n+2 are those of VF n, on NUMA node 0, with one queue.
fn attachment(number: u32) -> Attachment {
    let vector = |offset, role, action: &str| Vector {
        irq: Irq(number * 10 + offset),
        role,
        action: action.to_owned(),
    };
    Attachment {
        key: key(&format!("pod{number}")),
        vf: format!("0000:01:10.{number}").parse().unwrap(),
        index: number,
        numa_node: Some(0),
        netns: u64::from(number),
        vectors: vec![
            vector(0, Role::Tx(0), "net1-tx-0"),
            vector(1, Role::Rx(0), "net1-rx-0"),
            vector(2, Role::Control, "net1"),
        ],
        interface: Some(Interface {
            name: "net1".parse().unwrap(),
            rx: vec![0],
            tx: vec![0],
        }),
    }
}

fn interrupt(irq: u32, affinity: &str, name: &str) -> Interrupt {
    Interrupt {
        irq,
        affinity: set(affinity),
        actions: vec![name.to_owned()],
        node: Some(1),
        device: None,
        fixed: None,
    }
}

/// The node with VF 1 that is workload `game`'s, and a few other interrupts.
#[derive(Debug)]
struct Node {
    machine: Machine,
    exclusive: BTreeMap<WorkloadId, CpuSet>,
    work: BTreeMap<Key, Work>,
    attachments: Vec<Attachment>,
    interrupts: Vec<Interrupt>,
    default: CpuSet,
    balanced: bool,
    leave: Vec<String>,
    before: BTreeMap<Knob, Value>,
}

impl Node {
    fn new(exclusive: &[(&str, &str)]) -> Self {
        let attachment = attachment(1);
        let vectors = attachment.vectors.iter();
        let mut interrupts: Vec<Interrupt> = vectors
            .map(|vector| interrupt(vector.irq.0, "0-15", &vector.action))
            .collect();
        interrupts.push(interrupt(50, "0-15", "nvme0q1"));
        interrupts.push(interrupt(51, "0-1", "eth0"));
        let work = Work {
            workload: id("game"),
            irq: PacketWork::OwnCores,
            rps: PacketWork::OwnCores,
        };
        Self {
            machine: machine(),
            exclusive: exclusive.iter().map(|(w, c)| (id(w), set(c))).collect(),
            work: [(attachment.key.clone(), work)].into(),
            attachments: vec![attachment],
            interrupts,
            default: set("0-15"),
            balanced: false,
            leave: Vec::new(),
            before: BTreeMap::new(),
        }
    }

    fn wanted(&self) -> Wanted {
        wanted(&Facts {
            machine: &self.machine,
            exclusive: &self.exclusive,
            work: &self.work,
            attachments: &self.attachments,
            interrupts: &self.interrupts,
            default: Some(&self.default),
            balanced: self.balanced,
            leave: &self.leave,
            before: &self.before,
        })
    }

    /// Makes it true, as the engine does: what was before is kept, the rest put back.
    fn apply(&mut self) {
        let wanted: BTreeMap<Knob, Value> = self.knobs();
        let default = (Knob::DefaultIrq, &mut self.default);
        let irqs = self.interrupts.iter_mut();
        let irqs = irqs.map(|one| (Knob::Irq { irq: one.irq }, &mut one.affinity));
        for (knob, live) in irqs.chain([default]) {
            match (wanted.get(&knob), self.before.get(&knob).cloned()) {
                (Some(Value::Set(wish)), before) => {
                    if before.is_none() {
                        self.before.insert(knob, Value::Set(live.clone()));
                    }
                    *live = wish.clone();
                }
                (None, Some(Value::Set(before))) => {
                    *live = before;
                    self.before.remove(&knob);
                }
                _ => {}
            }
        }
    }

    fn knobs(&self) -> BTreeMap<Knob, Value> {
        let knobs = self.wanted().knobs;
        let count = knobs.len();
        let map: BTreeMap<Knob, Value> = knobs.into_iter().map(|(k, v, _)| (k, v)).collect();
        assert_eq!(map.len(), count, "each once");
        map
    }

    /// Where an interrupt is to go, if anywhere.
    fn irq(&self, irq: u32) -> Option<String> {
        let value = self.knobs().remove(&Knob::Irq { irq })?;
        Some(value.to_string())
    }

    fn rps(&self) -> Option<String> {
        let rps = |knob: &Knob| {
            matches!(
                knob,
                Knob::Rps {
                    netns: 1,
                    queue: 0,
                    ..
                }
            )
        };
        let found = self.knobs().into_iter().find(|(knob, _)| rps(knob))?;
        Some(found.1.to_string())
    }
}

#[test]
fn without_exclusive_cpus_nothing_is_touched() {
    let node = Node::new(&[]);
    assert_eq!(node.wanted(), Wanted::default());
}

#[test]
fn a_vf_works_on_its_workloads_cores_and_others_keep_off() {
    let node = Node::new(&[("game", "2-5")]);
    assert_eq!(node.irq(10).as_deref(), Some("2"));
    assert_eq!(node.irq(11).as_deref(), Some("2"));
    assert_eq!(
        node.irq(12).as_deref(),
        Some("1"),
        "control: near housekeeping"
    );
    assert_eq!(
        node.rps().as_deref(),
        Some("4-5"),
        "all but the interrupt's core"
    );
    assert_eq!(node.irq(50).as_deref(), Some("0-1,6-15"));
    assert_eq!(node.irq(51), None, "off already");
    let default = node.knobs().remove(&Knob::DefaultIrq);
    assert_eq!(default, Some(Value::Set(set("0-1,6-15"))));
    let steered = node.wanted().steered;
    let steer = &steered.attachments[&key("pod1")];
    assert_eq!(steer.workload.as_deref(), Some("game"));
    assert!(steer.queues);
    let before: Vec<_> = steer.irqs.iter().collect();
    assert_eq!(
        before,
        [
            (&10, &set("0-15")),
            (&11, &set("0-15")),
            (&12, &set("0-15"))
        ]
    );
}

#[test]
fn each_wish_says_whose_it_is() {
    let why: Vec<String> = Node::new(&[("game", "2-5")])
        .wanted()
        .knobs
        .into_iter()
        .map(|(_, _, why)| why)
        .collect();
    assert_eq!(
        why[0],
        "net1-tx-0 of VF 0000:01:10.1: packet work of game on its own cores"
    );
    assert!(
        why.contains(&"interrupt 50 (nvme0q1) off the exclusive CPUs 2-5".to_owned()),
        "{why:?}"
    );
}

#[test]
fn packet_work_that_is_off_stays_but_never_on_anothers_cores() {
    let mut node = Node::new(&[("game", "2-5"), ("other", "6-7")]);
    let work = node.work.get_mut(&key("pod1")).unwrap();
    (work.irq, work.rps) = (PacketWork::Off, PacketWork::Off);
    assert_eq!(
        node.irq(11).as_deref(),
        Some("0-5,8-15"),
        "its own cores are its own"
    );
    assert_eq!(node.rps(), None);
    node.exclusive.remove(&id("other"));
    assert_eq!(node.irq(11), None);
    assert!(node.wanted().steered.attachments.is_empty());
}

#[test]
fn a_vf_of_no_workload_or_of_a_shared_one_keeps_off() {
    let mut node = Node::new(&[("other", "6-7")]);
    assert_eq!(
        node.irq(11).as_deref(),
        Some("0-5,8-15"),
        "game has no cores of its own"
    );
    node.work.clear();
    assert_eq!(node.irq(11).as_deref(), Some("0-5,8-15"));
    assert_eq!(node.rps(), None);
    let steered = node.wanted().steered;
    let steer = &steered.attachments[&key("pod1")];
    assert_eq!(
        (steer.workload.as_ref(), steer.queues),
        (None, false),
        "CHECK has to know"
    );
}

#[test]
fn an_interrupt_gets_its_cpus_back_as_they_become_free() {
    let mut node = Node::new(&[("a", "2-5")]);
    node.apply();
    assert_eq!(node.interrupts[3].affinity, set("0-1,6-15"));
    node.exclusive.insert(id("a"), set("2-3"));
    node.apply();
    assert_eq!(node.interrupts[3].affinity, set("0-1,4-15"));
    node.exclusive.clear();
    node.apply();
    assert_eq!(node.interrupts[3].affinity, set("0-15"));
    assert_eq!((node.before.len(), node.default), (0, set("0-15")));
}

#[test]
fn beside_irqbalance_its_choice_stands_if_it_is_off_exclusive_cpus() {
    let mut node = Node::new(&[("a", "2-5")]);
    node.apply();
    node.balanced = true;
    node.interrupts[3].affinity = set("7");
    assert_eq!(node.irq(50).as_deref(), Some("7"));
    node.interrupts[3].affinity = set("2");
    assert_eq!(node.irq(50).as_deref(), Some("0-1,6-15"));
    node.interrupts[3].affinity = set("7");
    node.balanced = false;
    assert_eq!(
        node.irq(50).as_deref(),
        Some("0-1,6-15"),
        "somebody else's is drift"
    );
}

#[test]
fn where_only_exclusive_cpus_are_left_it_goes_to_housekeeping() {
    let mut node = Node::new(&[("a", "2-5")]);
    node.interrupts.push(interrupt(60, "2-3", "far"));
    assert_eq!(node.irq(60).as_deref(), Some("8-9"), "near its device");
    node.machine.online = set("0-7");
    assert_eq!(
        node.irq(60).as_deref(),
        Some("0-1"),
        "the near ones are offline"
    );
    node.interrupts.push(interrupt(61, "2-3,12", "x"));
    assert_eq!(node.irq(61).as_deref(), Some("0-1"), "12 is offline");
    node.exclusive = [(id("a"), set("0-5"))].into();
    assert_eq!(
        node.irq(60).as_deref(),
        Some("6-7"),
        "no housekeeping CPU is free"
    );
    node.exclusive = [(id("a"), set("0-7"))].into();
    let wanted = node.wanted();
    assert!(
        wanted
            .knobs
            .iter()
            .all(|(knob, ..)| *knob != Knob::Irq { irq: 60 })
    );
    assert!(
        wanted
            .notes
            .iter()
            .any(|note| note.contains("60-61") && note.contains("far")),
        "{:?}",
        wanted.notes
    );
}

#[test]
fn what_cannot_be_moved_is_told_once_and_not_wanted() {
    let mut node = Node::new(&[("a", "2-5")]);
    node.interrupts[3].fixed = Some("managed".into());
    assert_eq!(node.irq(50), None);
    let notes = node.wanted().notes;
    let about = notes
        .iter()
        .filter(|note| note.contains("interrupt 50 (nvme0q1)"));
    assert_eq!(about.count(), 1, "{notes:?}");
    let mut node = Node::new(&[("game", "2-5")]);
    node.interrupts[1].fixed = Some("managed".into());
    assert_eq!(node.irq(11), None, "also a VF's own");
}

#[test]
fn many_that_cannot_be_moved_are_one_short_note() {
    let mut node = Node::new(&[("a", "2-5")]);
    let one = node.interrupts[3].clone();
    let disk = (100..125).map(|irq| Interrupt {
        irq,
        actions: vec![format!("nvme0q{}", irq - 99)],
        fixed: Some("managed".into()),
        ..one.clone()
    });
    node.interrupts.extend(disk);
    let other = Interrupt {
        irq: 200,
        actions: vec!["megasas0".into()],
        fixed: Some("managed".into()),
        ..one
    };
    node.interrupts.push(other);
    let notes = node.wanted().notes;
    let expected = "on exclusive CPUs stay, as their devices or the kernel place them: 26 \
                    interrupts, 100-124,200 (megasas, nvme0q)";
    assert!(notes.contains(&expected.to_owned()), "{notes:?}");
    let nine = node.interrupts.iter_mut();
    for one in nine.filter(|one| (100..109).contains(&one.irq)) {
        one.actions = vec![format!("disk{}x", one.irq)];
    }
    let notes = node.wanted().notes;
    assert!(
        notes.iter().any(|note| note.contains(", and 5 more)")),
        "{notes:?}"
    );
}

#[test]
fn what_the_operator_wants_left_and_what_has_no_handler_is_left() {
    let mut node = Node::new(&[("a", "2-5")]);
    node.leave = vec!["nvme".into()];
    assert_eq!(node.irq(50), None);
    node.leave.clear();
    node.interrupts[3].actions.clear();
    assert_eq!(node.irq(50), None, "it gets the default when it has one");
    let before = Value::Set(set("0-15"));
    node.before.insert(Knob::Irq { irq: 50 }, before);
    assert_eq!(
        node.irq(50).as_deref(),
        Some("0-1,6-15"),
        "its handler may come back"
    );
}

#[test]
fn interrupts_of_attachments_that_are_gone_are_not_put_back_again() {
    let mut node = Node::new(&[("game", "2-5")]);
    let steered = node.wanted().steered;
    node.apply();
    assert_eq!(orphaned(&steered, &node.attachments, &node.before), []);
    let knobs = [10, 11, 12].map(|irq| Knob::Irq { irq });
    assert_eq!(orphaned(&steered, &[], &node.before), knobs);
    let mut moved = attachment(1);
    moved.vf = "0000:01:10.7".parse().unwrap();
    assert_eq!(
        orphaned(&steered, &[moved], &node.before),
        knobs,
        "another VF"
    );
    assert_eq!(orphaned(&steered, &[], &BTreeMap::new()), []);
}

fn cpus() -> impl Strategy<Value = CpuSet> {
    prop::collection::btree_set(0_u32..16, 0..16).prop_map(|cpus| cpus.into_iter().collect())
}

/// Disjoint exclusive sets of three workloads; CPU 0 stays shared, as the allocator
/// leaves some.
fn exclusive() -> impl Strategy<Value = BTreeMap<WorkloadId, CpuSet>> {
    prop::collection::vec(0_usize..4, 15).prop_map(|owners| {
        let mut map: BTreeMap<WorkloadId, CpuSet> = BTreeMap::new();
        for (cpu, owner) in (1..).zip(owners) {
            if let Some(name) = ["game", "other", "third"].get(owner) {
                map.entry(id(name)).or_default().insert(cpu);
            }
        }
        map
    })
}

fn work() -> impl Strategy<Value = PacketWork> {
    prop_oneof![Just(PacketWork::OwnCores), Just(PacketWork::Off)]
}

prop_compose! {
    fn node()(
        exclusive in exclusive(),
        (irq, rps) in (work(), work()),
        affinities in prop::collection::vec(cpus(), 5),
        online in cpus(), housekeeping in cpus(), queues in 1_u32..5, balanced in any::<bool>(),
    ) -> Node {
        let mut node = Node::new(&[]);
        node.exclusive = exclusive;
        node.balanced = balanced;
        node.machine.online = online.union(&set("0"));
        node.machine.housekeeping = housekeeping;
        let online = node.machine.online.clone();
        for core in &mut node.machine.cores {
            core.cpus = core.cpus.intersection(&online);
        }
        node.machine.cores.retain(|core| !core.cpus.is_empty());
        let work = node.work.get_mut(&key("pod1")).unwrap();
        (work.irq, work.rps) = (irq, rps);
        for (one, affinity) in node.interrupts.iter_mut().zip(affinities) {
            one.affinity = affinity.union(&set("0"));
        }
        let interface = node.attachments[0].interface.as_mut().unwrap();
        interface.rx = (0..queues).collect();
        interface.tx = (0..queues).collect();
        node
    }
}

fn check(node: &Node) -> Result<(), TestCaseError> {
    let none = CpuSet::new();
    let own = node.exclusive.get(&id("game")).unwrap_or(&none);
    let all = union(node.exclusive.values());
    let foreign = all.difference(own);
    for (knob, value) in node.knobs() {
        let Value::Set(cpus) = value else {
            return Err(TestCaseError::fail("not a set"));
        };
        let is_vf = match &knob {
            Knob::Irq { irq } => (10..13).contains(irq),
            Knob::Rps { .. } | Knob::Xps { .. } => true,
            _ => false,
        };
        if matches!(knob, Knob::Irq { .. } | Knob::DefaultIrq) {
            prop_assert!(
                !cpus.intersection(&node.machine.online).is_empty(),
                "{knob} {cpus}"
            );
        } else {
            prop_assert!(cpus.is_subset(own), "{knob} {cpus}");
        }
        let off = if is_vf { &foreign } else { &all };
        prop_assert!(cpus.intersection(off).is_empty(), "{knob} {cpus}, {off}");
    }
    Ok(())
}

proptest! {
    /// No affinity without an online CPU, none on CPUs of others, whatever is exclusive
    /// one after the other; and all is as it was once nothing is.
    #[test]
    fn interrupts_keep_off_and_come_back(mut node in node(), next in exclusive()) {
        let was: Vec<CpuSet> = node.interrupts.iter().map(|one| one.affinity.clone()).collect();
        check(&node)?;
        node.apply();
        for map in [next.clone(), BTreeMap::new(), next] {
            node.exclusive = map;
            check(&node)?;
            node.apply();
            let settled = node.knobs();
            node.apply();
            prop_assert_eq!(&settled, &node.knobs(), "nothing moves twice");
        }
        node.exclusive.clear();
        node.apply();
        let is: Vec<CpuSet> = node.interrupts.iter().map(|one| one.affinity.clone()).collect();
        prop_assert_eq!(is, was);
        prop_assert!(node.before.is_empty() && node.default == set("0-15"));
    }
}
