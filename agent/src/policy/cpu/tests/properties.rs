use proptest::prelude::*;
use proptest::sample::subsequence;

use super::super::machine::count;
use super::*;

/// What happens to a workload.
#[derive(Debug, Clone)]
enum Step {
    /// It is placed or resized.
    Ask(u8, CpuSpec, Option<u32>),
    /// It goes.
    Release(u8),
    /// These CPUs are offline from now on.
    Offline(CpuSet),
}

fn shapes() -> impl Strategy<Value = Shape> {
    (1..4_u32, 1..4_u32, 1..5_u32, 1..3_u32, proptest::bool::ANY).prop_map(
        |(nodes, caches, cores, threads, adjacent)| Shape {
            nodes,
            caches,
            cores,
            threads,
            adjacent,
        },
    )
}

fn some_cpus(shape: Shape) -> impl Strategy<Value = CpuSet> {
    let all: Vec<u32> = (0..shape.nodes * shape.caches * shape.cores * shape.threads).collect();
    let most = all.len() / 3;
    subsequence(all, 0..=most).prop_map(|cpus| cpus.into_iter().collect())
}

fn wishes() -> impl Strategy<Value = CpuSpec> {
    (1..12_u32, proptest::bool::ANY, proptest::bool::ANY, 0..5_u8).prop_map(
        |(n, of_threads, wide, mode)| {
            let wish = if of_threads { threads(n) } else { cores(n) };
            let wish = if wide { spread(wish) } else { wish };
            if mode == 0 { shared(wish) } else { wish }
        },
    )
}

fn steps(shape: Shape) -> impl Strategy<Value = Vec<Step>> {
    let ask = (0..6_u8, wishes(), proptest::option::of(0..shape.nodes));
    let step = prop_oneof![
        6 => ask.prop_map(|(who, wish, near)| Step::Ask(who, wish, near)),
        2 => (0..6_u8).prop_map(Step::Release),
        1 => some_cpus(shape).prop_map(Step::Offline),
    ];
    proptest::collection::vec(step, 1..25)
}

fn stories() -> impl Strategy<Value = (Shape, CpuSet, Vec<Step>)> {
    shapes().prop_flat_map(|shape| (Just(shape), some_cpus(shape), steps(shape)))
}

/// The node and its books during a story.
struct Story {
    shape: Shape,
    isolated: CpuSet,
    /// With everything online.
    whole: Machine,
    machine: Machine,
    booked: Booked,
    shared: BTreeMap<u8, u32>,
}

fn name(who: u8) -> WorkloadId {
    id(&format!("w{who}"))
}

impl Story {
    fn new(shape: Shape, isolated: CpuSet) -> Self {
        let whole = topology(shape, &CpuSet::new(), &isolated);
        let whole = Machine::new(whole, &Reserved::LowestCores);
        Self {
            shape,
            isolated,
            machine: whole.clone(),
            whole,
            booked: Booked::default(),
            shared: BTreeMap::new(),
        }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Ask(who, wish, near) => self.ask(who, &wish, near)?,
            Step::Release(who) => {
                self.booked.exclusive.remove(&name(who));
                self.booked.single_threads.remove(&name(who));
                self.shared.remove(&who);
                self.booked.shared_cpus = self.shared.values().sum();
            }
            Step::Offline(cpus) => {
                let now = topology(self.shape, &cpus, &self.isolated);
                if now.cores.is_empty() {
                    return Ok(());
                }
                let now = Machine::new(now, &Reserved::LowestCores);
                self.machine = now.knowing(&self.machine).knowing(&self.whole);
            }
        }
        self.holds()
    }

    fn ask(&mut self, who: u8, wish: &CpuSpec, near: Option<u32>) -> Result<(), TestCaseError> {
        let id = &name(who);
        let mut before = self.booked.clone();
        before.shared_cpus -= self.shared.get(&who).copied().unwrap_or_default();
        let ask = Ask { id, wish, near };
        let answer = place(&self.machine, &before, &ask);
        prop_assert_eq!(&answer, &place(&self.machine, &before, &ask));
        let placed = match answer {
            Ok(placed) => placed,
            Err(error) => return refused(&error),
        };
        prop_assert!(!placed.why.is_empty());
        self.shared.remove(&who);
        if wish.mode == CpuMode::Shared {
            self.booked.exclusive.remove(id);
            self.booked.single_threads.remove(id);
            self.shared.insert(who, shared_cpus(&self.machine, wish));
            self.booked.shared_cpus = self.shared.values().sum();
            prop_assert!(self.booked.shared_cpus <= count(&placed.cpus));
            return Ok(());
        }
        self.check(&before, &ask, &placed)?;
        self.booked = before;
        self.booked.exclusive.insert(id.clone(), placed.cpus);
        if wish.cpus.is_some() {
            self.booked.single_threads.insert(id.clone());
        } else {
            self.booked.single_threads.remove(id);
        }
        Ok(())
    }

    /// What is promised of each exclusive placement.
    fn check(&self, before: &Booked, ask: &Ask, placed: &Placed) -> Result<(), TestCaseError> {
        let machine = &self.machine;
        let held = before.exclusive.get(ask.id).cloned().unwrap_or_default();
        let new = placed.cpus.difference(&held);
        let kept = machine.reserved.union(&machine.isolated);
        prop_assert!(new.is_subset(&machine.online));
        if held.is_empty() {
            prop_assert_eq!(new.intersection(&kept), CpuSet::new());
        }
        prop_assert_eq!(&placed.nodes, &machine.nodes_of(&placed.cpus));
        if ask.wish.numa == CpuNuma::Single {
            prop_assert_eq!(placed.nodes.len(), 1);
        }
        let unit = if ask.wish.cpus.is_some() {
            Unit::Threads
        } else {
            Unit::Cores
        };
        let n = ask.wish.cpus.or(ask.wish.cores).unwrap();
        prop_assert_eq!(resize::units(machine, &placed.cpus, unit), n);
        if unit == Unit::Threads {
            // Grown, or shrunk; never moved.
            prop_assert!(held.is_subset(&placed.cpus) || placed.cpus.is_subset(&held));
        } else if resize::units(machine, &held, unit) <= n {
            prop_assert!(held.is_subset(&placed.cpus));
        } else {
            let cores = |cpus: &CpuSet| -> CpuSet {
                gaps::touched(machine, cpus)
                    .flat_map(|core| core.cpus.iter())
                    .collect()
            };
            prop_assert!(cores(&placed.cpus).is_subset(&cores(&held)));
        }
        let after = {
            let mut after = before.clone();
            after.exclusive.insert(ask.id.clone(), placed.cpus.clone());
            after
        };
        let (pool, was) = (shared_pool(machine, &after), shared_pool(machine, before));
        let promised = usize::try_from(before.shared_cpus).unwrap();
        prop_assert!(pool.len() >= promised || was.len() < promised || was.is_subset(&pool));
        Ok(())
    }

    /// What is true at any time.
    fn holds(&self) -> Result<(), TestCaseError> {
        let held: usize = self.booked.exclusive.values().map(CpuSet::len).sum();
        let all = self.booked.held();
        // Nobody overlaps, and no more is committed than there is.
        prop_assert_eq!(held, all.len());
        prop_assert!(all.is_subset(&self.whole.all()));
        let pool = shared_pool(&self.machine, &self.booked);
        prop_assert!(!pool.is_empty());
        if !self.machine.online.is_subset(&all) {
            prop_assert_eq!(pool.intersection(&all), CpuSet::new());
        }
        // A core with a whole-core workload is on it alone.
        for core in &self.whole.cores {
            let on = self.booked.exclusive.iter();
            let on = on.filter(|(_, cpus)| !cpus.intersection(&core.cpus).is_empty());
            let ids: Vec<_> = on.map(|(id, _)| id).collect();
            let loose = |id: &&WorkloadId| self.booked.single_threads.contains(*id);
            prop_assert!(ids.len() < 2 || ids.iter().all(loose));
        }
        // What is called free can be had.
        for free in free_cores(&self.machine, &self.booked) {
            prop_assert!(free.largest_hole <= free.exclusive_free);
            if free.exclusive_free > 0 {
                let wish = cores(free.exclusive_free);
                let node = Some(free.node);
                let placed = ask_near(&self.machine, &self.booked, "new", &wish, node);
                prop_assert_eq!(placed.unwrap().nodes, CpuSet::from_iter([free.node]));
            }
        }
        Ok(())
    }
}

/// What is promised of each refusal.
fn refused(error: &Unplaced) -> Result<(), TestCaseError> {
    prop_assert_eq!(error.code, Code::DoesNotFit);
    prop_assert!(!error.why.is_empty() && !error.next.is_empty() && !error.wish.is_empty());
    let lacks = error.missing.iter();
    prop_assert!(lacks.clone().count() > 0);
    for missing in lacks {
        prop_assert!(missing.asked > 0);
        let several = missing.what.starts_with("NUMA nodes");
        prop_assert!(
            several || missing.available < missing.asked,
            "{:?}",
            missing
        );
    }
    Ok(())
}

proptest! {
    /// Any order of asks, resizes, releases and hotplug keeps every rule.
    #[test]
    fn every_rule_holds_in_any_story((shape, isolated, steps) in stories()) {
        let mut story = Story::new(shape, isolated);
        for step in steps {
            story.step(step)?;
        }
    }

    /// What a release gives back is what was taken.
    #[test]
    fn a_release_restores_the_free_state(
        (shape, isolated, steps) in stories(),
        wish in wishes(),
    ) {
        let mut story = Story::new(shape, isolated);
        for step in steps {
            story.step(step)?;
        }
        let free = |story: &Story| {
            (free_cores(&story.machine, &story.booked), shared_pool(&story.machine, &story.booked))
        };
        let before = free(&story);
        story.step(Step::Ask(99, wish, None))?;
        story.step(Step::Release(99))?;
        prop_assert_eq!(before, free(&story));
    }

    /// Growing by steps never loses a CPU; going back never takes one.
    #[test]
    fn growing_and_shrinking_is_a_chain(shape in shapes(), sizes in proptest::collection::vec(1..12_u32, 2..10)) {
        let machine = machine(shape, "", "");
        let mut booked = Booked::default();
        for n in sizes {
            let held = booked.exclusive.get(&id("a")).cloned().unwrap_or_default();
            if let Ok(placed) = ask(&machine, &booked, "a", &spread(cores(n))) {
                let (less, more) = if placed.cpus.len() < held.len() {
                    (&placed.cpus, &held)
                } else {
                    (&held, &placed.cpus)
                };
                prop_assert!(less.is_subset(more));
                booked.exclusive.insert(id("a"), placed.cpus);
            }
        }
    }
}
