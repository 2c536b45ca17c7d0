//! An engine that is there for one request only: what an agent's passes do before and
//! after a release, it does itself.

use anyhow::Result;

use super::Engine;
use super::handle::{Asked, Change, Outcome, Peer, PlannedStep};
use super::node::Node;
use crate::refusal::{Code, Refusal};
use crate::spec::WorkloadId;

/// Events that are changes of a setting.
const CHANGES: [&str; 3] = ["release", "apply", "repair"];

impl<N: Node> Engine<N> {
    /// Takes every workload off the node, puts back what an interrupted request had left,
    /// and tells plugins and irqbalance that nothing is steered any more. A dry run says
    /// which steps the workloads' release takes.
    ///
    /// # Errors
    /// Something could not be put back; it stays on record, and the same may be repeated.
    pub(crate) fn release_alone(&mut self, dry_run: bool, by: Peer) -> Result<Outcome> {
        let asked = Asked {
            change: Change::ReleaseAll,
            if_match: None,
            dry_run,
            by,
        };
        if dry_run {
            return Ok(self.answer(&asked)?);
        }
        let known: Vec<WorkloadId> = self.records().keys().cloned().collect();
        self.look_at_who_is_there()?;
        let refused = self.answer(&asked).err();
        let pass = self.reconcile()?;
        if let (Some(refusal), false) = (refused, self.records().is_empty()) {
            return Err(still(refusal.object, refusal.reason).into());
        }
        if pass.failed > 0 {
            let left: Vec<String> = self
                .troubles
                .list()
                .map(|(knob, why)| format!("{knob}: {why}"))
                .collect();
            return Err(still("the node".to_owned(), left.join("; ")).into());
        }
        Ok(self.undone(&known))
    }

    /// What happened, as far as it is a change of the node.
    fn undone(&mut self, known: &[WorkloadId]) -> Outcome {
        let changes = self.told.drain(..);
        let changes = changes.filter(|event| CHANGES.contains(&event.kind.as_str()));
        let plan = changes.map(|event| PlannedStep {
            object: event.object,
            from: event.old,
            to: event.new,
            why: event.why,
        });
        let plan = plan.collect();
        let released = known.iter().map(|id| format!("workload {id} released"));
        let damaged = self.store.damaged().iter().map(|damaged| {
            format!(
                "{} is not understood, and what it speaks of stays as it is: {}",
                damaged.path.display(),
                damaged.reason
            )
        });
        Outcome {
            created: false,
            generation: self.store.generation(),
            plan,
            notes: released.chain(damaged).collect(),
            workload: None,
        }
    }
}

fn still(object: String, reason: String) -> Refusal {
    Refusal::new(
        Code::RollbackIncomplete,
        object,
        "release it without an agent",
        reason,
        "it stays on record: remove the cause and run berth release --all again, or start the \
         agent, which goes on trying",
    )
}
