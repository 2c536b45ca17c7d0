use super::*;
use crate::spec::{PartitionWish, Smt};
use fixtures::*;

mod fixtures;
mod machine;
mod placing;
mod pool;
mod properties;
mod resizing;

/// `n` whole cores on one node.
fn cores(n: u32) -> CpuSpec {
    CpuSpec {
        cores: Some(n),
        cpus: None,
        mode: CpuMode::Exclusive,
        smt: Smt::WholeCore,
        numa: CpuNuma::Single,
        partition: PartitionWish::Root,
        best_effort: false,
    }
}

/// `n` single threads on one node.
fn threads(n: u32) -> CpuSpec {
    CpuSpec {
        cores: None,
        cpus: Some(n),
        smt: Smt::Any,
        ..cores(n)
    }
}

fn spread(wish: CpuSpec) -> CpuSpec {
    CpuSpec {
        numa: CpuNuma::Any,
        ..wish
    }
}

fn shared(wish: CpuSpec) -> CpuSpec {
    CpuSpec {
        mode: CpuMode::Shared,
        ..wish
    }
}

fn set(text: &str) -> CpuSet {
    text.parse().unwrap()
}

fn id(text: &str) -> WorkloadId {
    text.parse().unwrap()
}

/// What is booked: `("a", "2-3")` holds whole cores, `("a/", "2")` single threads.
fn booked(held: &[(&str, &str)]) -> Booked {
    let mut booked = Booked::default();
    for (name, cpus) in held {
        let plain = id(name.trim_end_matches('/'));
        if name.ends_with('/') {
            booked.single_threads.insert(plain.clone());
        }
        booked.exclusive.insert(plain, set(cpus));
    }
    booked
}

fn ask(machine: &Machine, booked: &Booked, name: &str, wish: &CpuSpec) -> Result<Placed, Unplaced> {
    ask_near(machine, booked, name, wish, None)
}

fn ask_near(
    machine: &Machine,
    booked: &Booked,
    name: &str,
    wish: &CpuSpec,
    near: Option<u32>,
) -> Result<Placed, Unplaced> {
    let id = &id(name);
    place(machine, booked, &Ask { id, wish, near })
}

/// Places and gives the CPUs as text.
fn cpus(machine: &Machine, booked: &Booked, name: &str, wish: &CpuSpec) -> String {
    ask(machine, booked, name, wish).unwrap().cpus.to_string()
}
