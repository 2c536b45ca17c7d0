//! Requests as they come from the API.

use super::Engine;
use super::change::no_such;
use super::handle::{Asked, Change, Outcome};
use super::node::Node;
use crate::refusal::{Code, Refusal};
use crate::spec::{patch, read};
use crate::store::Record;

impl<N: Node> Engine<N> {
    /// Does what is asked, whole or not at all.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn answer(&mut self, asked: &Asked) -> Result<Outcome, Refusal> {
        self.check_generation(asked)?;
        match &asked.change {
            Change::Put { id, body } => self.put(read::spec(id, body)?, asked),
            Change::Patch { id, patch } => {
                let record = self.records().get(id).ok_or_else(|| no_such(id))?;
                let spec = patch::merge(&record.spec, patch)?;
                self.put(spec, asked)
            }
            Change::Delete { id } => self.delete(id, asked),
            Change::ReleaseAll => self.release_all(asked),
        }
    }

    /// Compare-and-set: who decided on an old picture decides again.
    fn check_generation(&self, asked: &Asked) -> Result<(), Refusal> {
        let generation = self.store.generation();
        let Some(wished) = asked.if_match else {
            // A dry run books nothing, and an operator who releases all means all.
            let exempt = asked.dry_run || matches!(asked.change, Change::ReleaseAll);
            if exempt || !self.config.require_if_match {
                return Ok(());
            }
            return Err(Refusal::new(
                Code::IfMatchRequired,
                "header If-Match",
                "change a workload without it",
                "require_if_match is set in /etc/berth/agent.toml",
                format!("send If-Match: \"{generation}\", the generation of /v1/capacity"),
            ));
        };
        if wished == generation {
            return Ok(());
        }
        let mut refusal = Refusal::new(
            Code::StaleGeneration,
            "header If-Match",
            format!("change the node as it was at generation {wished}"),
            format!("it is at generation {generation}"),
            "read /v1/capacity again, decide again, and send its generation",
        );
        refusal.generation = Some(generation);
        Err(refusal)
    }

    /// Takes every workload off the node.
    fn release_all(&mut self, asked: &Asked) -> Result<Outcome, Refusal> {
        let all: Vec<Record> = self.records().values().cloned().collect();
        let mut outcome = Outcome {
            generation: self.store.generation(),
            ..Outcome::default()
        };
        let mut failed: Option<Refusal> = None;
        for record in all {
            let id = &record.spec.id;
            match self.delete(id, asked) {
                Ok(done) => {
                    outcome.generation = done.generation;
                    outcome.plan.extend(done.plan);
                    outcome.notes.push(format!("workload {id} released"));
                }
                Err(refusal) => failed = Some(refusal),
            }
        }
        match failed {
            Some(refusal) => Err(refusal),
            None => Ok(outcome),
        }
    }
}
