//! What the rest of the agent sees of the engine: requests go in through a [`Handle`],
//! what the engine last published comes out of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use berth_kernel::CpuSet;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{oneshot, watch};

use super::events::Events;
pub(crate) use crate::capacity::Condition;
use crate::refusal::{Code, Refusal};
use crate::spec::{Spec, WorkloadId};

/// Requests that may wait for the engine; one more is told to come again.
const QUEUE: usize = 64;

/// The engine, as everybody else has it.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    messages: SyncSender<Message>,
    published: watch::Receiver<Arc<Published>>,
    events: Events,
}

/// The engine's own ends of a [`Handle`].
#[derive(Debug)]
pub(crate) struct Ends {
    /// What is asked of it, and what wakes it, in order.
    pub(crate) messages: Receiver<Message>,
    /// Where it publishes.
    pub(crate) published: watch::Sender<Arc<Published>>,
}

/// What reaches the engine.
#[derive(Debug)]
pub(crate) enum Message {
    /// A request.
    Ask(Box<Request>),
    /// Something that it has set was written to, or a target came or went.
    Changed,
    /// It is to end.
    Stop,
}

/// A request on its way to the engine.
#[derive(Debug)]
pub(crate) struct Request {
    /// What is asked.
    pub(crate) asked: Asked,
    /// Where the answer goes; the asker may have left.
    pub(crate) answer: oneshot::Sender<Result<Outcome, Refusal>>,
}

/// A wished change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// This spec, new or in place of the old one.
    Put {
        /// The workload.
        id: WorkloadId,
        /// The spec, not yet read.
        body: Value,
    },
    /// The spec with these keys changed (RFC 7396).
    Patch {
        /// The workload.
        id: WorkloadId,
        /// The merge patch.
        patch: Value,
    },
    /// No longer enforced.
    Delete {
        /// The workload.
        id: WorkloadId,
    },
    /// Nothing is enforced any more.
    ReleaseAll,
}

/// A change, and under which conditions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    /// The change.
    pub(crate) change: Change,
    /// Only if the node's generation is this one.
    pub(crate) if_match: Option<u64>,
    /// Only say what would be done.
    pub(crate) dry_run: bool,
    /// Who asks.
    pub(crate) by: Peer,
}

/// The process at the other end of the socket when it connected (`SO_PEERCRED`,
/// unix(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
    /// Process id; 0: in a process namespace we cannot see.
    pub(crate) pid: i32,
}

/// What came of a change that was not refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The workload is new.
    pub(crate) created: bool,
    /// The node's generation afterwards; with a dry run, the present one.
    pub(crate) generation: u64,
    /// What was done, or would be.
    pub(crate) plan: Vec<PlannedStep>,
    /// What the asker should know beside.
    pub(crate) notes: Vec<String>,
    /// The workload afterwards; with a dry run, as it would be. Absent if it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) workload: Option<View>,
}

/// A step of a plan, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlannedStep {
    /// The thing that is set.
    pub(crate) object: String,
    /// Its value before.
    pub(crate) from: String,
    /// Its value afterwards.
    pub(crate) to: String,
    /// What for.
    pub(crate) why: String,
}

/// What the engine knows, at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Published {
    /// The node's generation.
    pub(crate) generation: u64,
    /// The capacity report.
    pub(crate) capacity: Arc<Value>,
    /// Every workload.
    pub(crate) workloads: BTreeMap<WorkloadId, View>,
    /// What happened so far.
    pub(crate) metrics: Counters,
    /// Whether the engine does its work.
    pub(crate) health: Health,
}

/// A workload: wished and live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct View {
    /// Its name.
    pub(crate) id: WorkloadId,
    /// Where it is in its life.
    pub(crate) state: Standing,
    /// The node's generation when the workload last changed.
    pub(crate) generation: u64,
    /// What is wished.
    pub(crate) spec: Spec,
    /// Its cgroup, while its target is there.
    pub(crate) cgroup: Option<PathBuf>,
    /// Its exclusive CPUs.
    pub(crate) cpus: Option<CpuSet>,
    /// The NUMA nodes of these.
    pub(crate) nodes: Option<CpuSet>,
    /// Why it has what it has, in sentences.
    pub(crate) why: Vec<String>,
    /// What is set for it: wished and live.
    pub(crate) settings: Vec<Setting>,
    /// How often something of it was put right.
    pub(crate) repairs: u64,
    /// What is not as wished.
    pub(crate) conditions: Vec<Condition>,
}

/// Where a workload is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// Its target is not there yet.
    Reserved,
    /// Its target is there and has what is wished.
    Active,
    /// Its target is gone; still committed.
    Lost,
    /// It is being taken off; committed until the last write is verified.
    Releasing,
}

impl Standing {
    /// Every one.
    pub(crate) const ALL: [Self; 4] = [Self::Reserved, Self::Active, Self::Lost, Self::Releasing];

    /// As the API writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Active => "active",
            Self::Lost => "lost",
            Self::Releasing => "releasing",
        }
    }
}

/// One thing that is set for a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setting {
    /// The thing.
    pub(crate) object: String,
    /// What it should be.
    pub(crate) wished: String,
    /// What it is.
    pub(crate) live: String,
    /// Whether these mean the same.
    pub(crate) ok: bool,
}

/// Whether the engine does its work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Health {
    /// It does.
    pub(crate) ok: bool,
    /// Why not.
    pub(crate) reasons: Vec<String>,
    /// When it last compared everything, seconds since 1970; absent: not yet.
    pub(crate) last_reconcile_unix: Option<u64>,
}

/// What happened since the agent started. Repairs of a workload are in its [`View`].
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Counters {
    /// How long comparing and repairing everything took.
    pub(crate) reconciles: Durations,
    /// Repairs of what belongs to no single workload.
    pub(crate) node_repairs: u64,
    /// Repairs the kernel refused.
    pub(crate) failed_repairs: u64,
    /// Settings another program keeps setting, at present.
    pub(crate) fights: u64,
    /// Requests that were taken back half-way.
    pub(crate) rollbacks: u64,
    /// Of these, those that could not be taken back wholly.
    pub(crate) incomplete_rollbacks: u64,
}

/// Durations, counted in buckets.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Durations {
    counts: [u64; Self::BOUNDS.len() + 1],
    sum: Duration,
}

impl Durations {
    /// Upper bounds of the buckets in seconds; one more has none.
    pub(crate) const BOUNDS: [f64; 10] = [
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0,
    ];

    /// Counts one.
    pub(crate) fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let last = Self::BOUNDS.len();
        let bucket = Self::BOUNDS.iter().position(|bound| seconds <= *bound);
        if let Some(count) = self.counts.get_mut(bucket.unwrap_or(last)) {
            *count += 1;
        }
        self.sum += took;
    }

    /// Of each bucket: its upper bound in seconds, and how many are in it alone.
    pub(crate) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = Self::BOUNDS.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().copied()).collect()
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All together.
    pub(crate) fn sum(&self) -> Duration {
        self.sum
    }
}

impl Handle {
    /// A handle, and the engine's ends of it. Until the engine publishes, `first` is
    /// what is known.
    pub(crate) fn new(first: Published, events: Events) -> (Self, Ends) {
        let (messages, received) = sync_channel(QUEUE);
        let (publish, published) = watch::channel(Arc::new(first));
        let handle = Self {
            messages,
            published,
            events,
        };
        let ends = Ends {
            messages: received,
            published: publish,
        };
        (handle, ends)
    }

    /// Asks for a change and waits for what comes of it. The engine does it even if
    /// the asker stops waiting.
    ///
    /// # Errors
    /// The engine refuses; [`Code::Unavailable`] if it is overloaded or ends.
    pub(crate) async fn ask(&self, asked: Asked) -> Result<Outcome, Refusal> {
        let (answer, answered) = oneshot::channel();
        let request = Box::new(Request { asked, answer });
        self.messages
            .try_send(Message::Ask(request))
            .map_err(|error| match error {
                TrySendError::Full(_) => unavailable("too many requests wait already"),
                TrySendError::Disconnected(_) => unavailable("the agent ends"),
            })?;
        let gone = || unavailable("the agent ended before the request was answered");
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    /// By which the engine is woken, or told to end.
    pub(crate) fn waker(&self) -> SyncSender<Message> {
        self.messages.clone()
    }

    /// What the engine published last.
    pub(crate) fn published(&self) -> Arc<Published> {
        self.published.borrow().clone()
    }

    /// What it publishes from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Published>> {
        self.published.clone()
    }

    /// What it did.
    pub(crate) fn events(&self) -> &Events {
        &self.events
    }
}

fn unavailable(reason: &str) -> Refusal {
    Refusal::new(
        Code::Unavailable,
        "agent",
        "answer a request",
        reason,
        "ask again in a moment; an unanswered request did not happen if the agent ended",
    )
}

#[cfg(test)]
mod tests;
