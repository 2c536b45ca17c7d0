//! The steps from what is to what should be, in an order in which nothing is lost on
//! the way: what is given back goes first, from the leaves up; what is gained comes
//! last, from the top down.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;

use berth_kernel::Limit;

use super::knob::{Knob, Partition, Value};
use crate::spec::WorkloadId;

#[cfg(test)]
mod tests;

/// What one knob should be set to, and for whose sake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The setting.
    pub(crate) value: Value,
    /// For which workload, if for one.
    pub(crate) owner: Option<WorkloadId>,
    /// Why, as it should stand in an event: `exclusive CPUs of game-17`.
    pub(crate) why: String,
}

/// What all knobs should be set to.
pub(crate) type Wanted = BTreeMap<Knob, Wish>;

/// What knobs are set to; one that is not here does not exist now.
pub(crate) type Live = BTreeMap<Knob, Value>;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// Of what.
    pub(crate) knob: Knob,
    /// What it is.
    pub(crate) from: Value,
    /// What it is to be.
    pub(crate) to: Value,
    /// For which workload, if for one.
    pub(crate) owner: Option<WorkloadId>,
    /// Why.
    pub(crate) why: String,
}

/// The steps that make `live` what is `wanted`; none for a knob that does not exist.
pub(crate) fn steps(live: &Live, wanted: &Wanted) -> Vec<Step> {
    let mut steps = Vec::new();
    for (knob, wish) in wanted {
        let Some(from) = live.get(knob).filter(|from| **from != wish.value) else {
            continue;
        };
        let mut from = from.clone();
        for to in stations(knob, &from, &wish.value) {
            steps.push(Step {
                knob: knob.clone(),
                from,
                to: to.clone(),
                owner: wish.owner.clone(),
                why: wish.why.clone(),
            });
            from = to;
        }
    }
    steps.sort_by_key(|step| (rank(step), depth(step)));
    steps
}

/// A set of CPUs that both loses and gains goes by what it keeps: gaining first would
/// take CPUs that others still have, losing last would keep them from others.
fn stations(knob: &Knob, from: &Value, to: &Value) -> Vec<Value> {
    if let (Knob::Cpus { .. } | Knob::ExclusiveCpus { .. }, Value::Set(from), Value::Set(to)) =
        (knob, from, to)
    {
        let kept = from.intersection(to);
        if !kept.is_empty() && kept != *from && kept != *to {
            return vec![Value::Set(kept), Value::Set(to.clone())];
        }
    }
    vec![to.clone()]
}

/// Whether the step takes something away from whom it is about.
fn lessens(step: &Step) -> bool {
    match (&step.from, &step.to) {
        // An empty set of CPUs is no restriction, except of exclusive ones.
        (Value::Set(from), Value::Set(to)) => match step.knob {
            Knob::ExclusiveCpus { .. } | Knob::Rps { .. } | Knob::Xps { .. } => to.is_subset(from),
            // Wholly elsewhere: what it leaves may be what another one waits for.
            Knob::Cpus { .. } if to.intersection(from).is_empty() => !to.is_empty(),
            _ => from.is_empty() || (!to.is_empty() && to.is_subset(from)),
        },
        (Value::Limit(from), Value::Limit(to)) => to < from,
        (Value::Io(from), Value::Io(to)) => {
            let pairs = [
                (from.rbps, to.rbps),
                (from.wbps, to.wbps),
                (from.riops, to.riops),
                (from.wiops, to.wiops),
            ];
            pairs.iter().any(|(from, to)| to < from)
        }
        _ => false,
    }
}

/// When a step's turn is. Equal ranks are ordered by [`depth`].
fn rank(step: &Step) -> u8 {
    let lessens = lessens(step);
    match (&step.knob, &step.to) {
        // Packet work leaves CPUs before they are given away.
        (Knob::Irq { .. } | Knob::DefaultIrq | Knob::Rps { .. } | Knob::Xps { .. }, _) => {
            if lessens { 10 } else { 90 }
        }
        // A throttled writer without memory.high below memory.max may be killed.
        (Knob::IoMax { .. }, _) => {
            if lessens {
                60
            } else {
                20
            }
        }
        (Knob::MemoryHigh { .. }, _) => {
            if lessens {
                30
            } else {
                32
            }
        }
        (Knob::MemoryMax { .. }, _) => {
            if lessens {
                33
            } else {
                31
            }
        }
        (Knob::Cpus { .. }, _) => {
            if lessens {
                41
            } else {
                47
            }
        }
        (Knob::Partition { .. }, Value::Partition(Partition::Member)) => 40,
        (Knob::ExclusiveCpus { .. }, _) => {
            if lessens {
                43
            } else {
                46
            }
        }
        (Knob::Mems { .. }, _) => 45,
        (Knob::Partition { .. }, _) => 48,
        (Knob::CpuWeight { .. }, _) => 49,
        // Limits stand before anything is counted against them, and go after.
        (Knob::Project { .. }, Value::Project(0)) => 50,
        (Knob::Quota { .. }, Value::Unset) => 53,
        (Knob::Quota { .. }, _) => 51,
        (Knob::Project { .. }, _) => 52,
        (Knob::IoCost { .. }, Value::IoCost { model, .. }) if model.is_empty() => 73,
        (Knob::WritebackLatency { .. }, _) => 70,
        (Knob::IoCost { .. }, _) => 71,
        (Knob::IoWeight { .. }, _) => 72,
    }
}

/// Given back from the leaves up, taken from the top down.
fn depth(step: &Step) -> (Reverse<usize>, usize) {
    let levels = match &step.knob {
        Knob::Cpus { cgroup } | Knob::ExclusiveCpus { cgroup } => parts(cgroup),
        _ => 0,
    };
    if lessens(step) {
        (Reverse(levels), 0)
    } else {
        (Reverse(0), levels)
    }
}

fn parts(path: &Path) -> usize {
    path.components().count()
}

/// Whether a step lowers a limit below what may be used already, so that it has to be
/// looked at before anything is changed.
pub(crate) fn needs_room(step: &Step) -> bool {
    match (&step.knob, &step.to) {
        (Knob::MemoryMax { .. }, Value::Limit(Limit::At(_))) => lessens(step),
        (Knob::Quota { .. }, Value::Quota { .. }) => true,
        _ => false,
    }
}
