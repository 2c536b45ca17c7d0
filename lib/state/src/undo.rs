//! The undo list of a transaction: every step's inverse is registered before the
//! step, so that a failure, a panic or an early return at any point can be taken
//! back; and the faults by which tests make any step fail.

use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

type Inverse = Box<dyn FnOnce() -> Result<(), String>>;

/// The inverses of the steps taken so far, last first out.
///
/// An inverse must bear that its step never happened or happened half. Dropped
/// without [`Undo::commit`], the list is rolled back: an early return cannot leak.
#[must_use = "an undo list that is dropped rolls back at once"]
pub struct Undo {
    entries: Vec<(Cow<'static, str>, Inverse)>,
    last: Option<(Cow<'static, str>, Inverse)>,
    faults: Faults,
}

impl Undo {
    /// An empty list. [`Faults::none`] everywhere but in tests.
    pub fn new(faults: Faults) -> Self {
        Self {
            entries: Vec::new(),
            last: None,
            faults,
        }
    }

    /// Registers `inverse`, then runs `action`. `name` says what the step does, as it
    /// should stand in a message: `create veth bv0a1b2c3d4e5f`.
    ///
    /// # Errors
    /// The action's own, or the [`Fault`] a test injected.
    pub fn step<T, E, F>(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        inverse: impl FnOnce() -> Result<(), E> + 'static,
        action: impl FnOnce() -> Result<T, F>,
    ) -> Result<T, F>
    where
        E: fmt::Display,
        F: From<Fault>,
    {
        let name = name.into();
        let fault = self.faults.next(&name);
        self.before(name, inverse);
        match fault {
            None => action(),
            Some(fault) if fault.when == When::Before => Err(fault.into()),
            Some(fault) => {
                let _done = action()?;
                Err(fault.into())
            }
        }
    }

    /// Registers `inverse` only: for a change that happens inside something else.
    pub fn before<E: fmt::Display>(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        inverse: impl FnOnce() -> Result<(), E> + 'static,
    ) {
        let inverse = || inverse().map_err(|error| error.to_string());
        self.entries.push((name.into(), Box::new(inverse)));
    }

    /// Registers the inverse that comes after all others, and only if none of them
    /// failed: the removal of the record by which what is left can still be found.
    pub fn last<E: fmt::Display>(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        inverse: impl FnOnce() -> Result<(), E> + 'static,
    ) {
        let inverse = || inverse().map_err(|error| error.to_string());
        self.last = Some((name.into(), Box::new(inverse)));
    }

    /// The transaction holds: forgets every inverse.
    pub fn commit(mut self) {
        self.entries.clear();
        self.last = None;
    }

    /// Takes back every step, the last first, and goes on past inverses that fail or
    /// panic; those are returned, in the order they were tried.
    #[must_use = "what could not be taken back is left on the node"]
    pub fn rollback(mut self) -> Vec<FailedInverse> {
        self.unwind()
    }

    fn unwind(&mut self) -> Vec<FailedInverse> {
        let mut failed = Vec::new();
        while let Some((step, inverse)) = self.entries.pop() {
            failed.extend(take_back(step, inverse).err());
        }
        let last = self.last.take().filter(|_| failed.is_empty());
        failed.extend(last.and_then(|(step, inverse)| take_back(step, inverse).err()));
        failed
    }
}

fn take_back(step: Cow<'static, str>, inverse: Inverse) -> Result<(), FailedInverse> {
    // The closure is consumed, and nothing it captured is used again.
    let outcome = catch_unwind(AssertUnwindSafe(inverse))
        .unwrap_or_else(|panic| Err(format!("panicked: {}", panic_text(&*panic))));
    outcome.map_err(|reason| FailedInverse {
        step: step.into_owned(),
        reason,
    })
}

impl Drop for Undo {
    fn drop(&mut self) {
        for left in self.unwind() {
            log::error!("{left}");
        }
    }
}

impl fmt::Debug for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.entries.iter().map(|(name, _)| name))
            .finish()
    }
}

/// What a panic said, where it said it in words.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "no message",
    }
}

/// A step that could not be taken back: what it did is still on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedInverse {
    /// The step's name.
    pub step: String,
    /// Why its inverse failed.
    pub reason: String,
}

impl fmt::Display for FailedInverse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not undo '{}': {}", self.step, self.reason)
    }
}

/// On which side of its action an injected fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The action does not run.
    Before,
    /// The action runs, then the step reports failure.
    HalfWay,
}

/// The error of a step that a test made fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which step, counted from 0 over the whole transaction.
    pub step: usize,
    /// The step's name.
    pub name: String,
    /// Before or after its action.
    pub when: When,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.when {
            When::Before => "before",
            When::HalfWay => "half-way through",
        };
        write!(
            f,
            "fault injected {side} step {} ({})",
            self.step, self.name
        )
    }
}

impl std::error::Error for Fault {}

/// Which step of a transaction is to fail. Clones share the count, so a transaction
/// of several [`Undo`] lists is numbered through.
#[derive(Debug, Clone, Default)]
pub struct Faults(Option<Arc<Plan>>);

#[derive(Debug)]
struct Plan {
    step: usize,
    when: When,
    seen: AtomicUsize,
    fired: AtomicBool,
}

impl Faults {
    /// No fault: what everything but a test uses.
    pub fn none() -> Self {
        Self(None)
    }

    /// The `step`-th step from 0 fails.
    pub fn at(step: usize, when: When) -> Self {
        Self(Some(Arc::new(Plan {
            step,
            when,
            seen: AtomicUsize::new(0),
            fired: AtomicBool::new(false),
        })))
    }

    /// Whether the step was reached. If not, the transaction has fewer steps.
    pub fn fired(&self) -> bool {
        let Self(plan) = self;
        plan.as_ref()
            .is_some_and(|plan| plan.fired.load(Ordering::Relaxed))
    }

    fn next(&self, name: &str) -> Option<Fault> {
        let plan = self.0.as_ref()?;
        let step = plan.seen.fetch_add(1, Ordering::Relaxed);
        (step == plan.step).then(|| {
            plan.fired.store(true, Ordering::Relaxed);
            Fault {
                step,
                name: name.to_owned(),
                when: plan.when,
            }
        })
    }
}

#[cfg(test)]
mod tests;
