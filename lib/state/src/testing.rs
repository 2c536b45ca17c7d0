//! The test every transaction is put through: fail each of its steps, before and
//! half-way, and compare the end with the start. Code that runs only on bad days
//! is otherwise never run.

use std::fmt;

use crate::undo::{Faults, When};

/// More steps than any transaction has: a transaction that never ends is stopped.
const STEPS_MAX: usize = 10_000;

/// Runs `attempt` once for every step and side, with a fault there, and once more
/// without any fault; returns how many steps there are and what that last attempt
/// gave. `attempt` is the whole transaction including its rollback; `observe` is
/// everything it may change.
///
/// # Errors
/// [`Leak`]: the first failure after which the end is not like the start, or that
/// the transaction swallowed; or a transaction that takes no step at all, or fails
/// where no fault was injected.
pub fn every_failure<S, T, E>(
    mut observe: impl FnMut() -> S,
    mut attempt: impl FnMut(Faults) -> Result<T, E>,
) -> Result<(usize, T), Leak>
where
    S: PartialEq + fmt::Debug,
    E: fmt::Display,
{
    for step in 0..STEPS_MAX {
        for when in [When::Before, When::HalfWay] {
            let faults = Faults::at(step, when);
            let start = observe();
            let outcome = attempt(faults.clone());
            let leak = |what: String| Leak { step, when, what };
            match (faults.fired(), outcome) {
                (true, Err(_)) => {
                    let end = observe();
                    if start != end {
                        let what = format!("left a trace: start {start:#?}, end {end:#?}");
                        return Err(leak(what));
                    }
                }
                (true, Ok(_)) => return Err(leak("was swallowed".into())),
                (false, Ok(_)) if step == 0 => return Err(leak("never came: no step".into())),
                (false, Ok(value)) => return Ok((step, value)),
                (false, Err(error)) => {
                    return Err(leak(format!(
                        "did not strike, yet the attempt failed: {error}"
                    )));
                }
            }
        }
    }
    Err(Leak {
        step: STEPS_MAX,
        when: When::Before,
        what: "never came to an end".into(),
    })
}

/// A failure that a transaction did not survive cleanly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// The step that was made to fail, from 0.
    pub step: usize,
    /// On which side of its action.
    pub when: When,
    /// What was wrong afterwards.
    pub what: String,
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, when, what } = self;
        write!(f, "failure of step {step} ({when:?}) {what}")
    }
}

impl std::error::Error for Leak {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::undo::{Fault, Undo};
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::rc::Rc;

    type World = Rc<RefCell<BTreeSet<&'static str>>>;

    fn add(undo: &mut Undo, world: &World, item: &'static str) -> Result<(), Fault> {
        let inverse = world.clone();
        undo.step(
            item,
            move || {
                inverse.borrow_mut().remove(item);
                Ok::<_, String>(())
            },
            || {
                world.borrow_mut().insert(item);
                Ok(())
            },
        )
    }

    fn transact(
        faults: Faults,
        body: impl FnOnce(&mut Undo) -> Result<(), Fault>,
    ) -> Result<(), String> {
        let mut undo = Undo::new(faults);
        match body(&mut undo) {
            Ok(()) => {
                undo.commit();
                Ok(())
            }
            Err(fault) => Err(format!("{fault}, left: {:?}", undo.rollback())),
        }
    }

    fn drive(
        world: &World,
        body: impl Fn(&mut Undo, &World) -> Result<(), Fault>,
    ) -> Result<(usize, ()), Leak> {
        every_failure(
            || world.borrow().clone(),
            |faults| transact(faults, |undo| body(undo, world)),
        )
    }

    #[test]
    fn a_clean_transaction_passes_at_every_step() {
        let world = World::default();
        let steps = drive(&world, |undo, world| {
            ["record", "veth", "vlan"]
                .into_iter()
                .try_for_each(|item| add(undo, world, item))
        });
        assert_eq!(steps, Ok((3, ())));
        assert_eq!(world.borrow().len(), 3, "the last attempt went through");
    }

    #[test]
    fn a_change_outside_any_step_is_a_leak() {
        let world = World::default();
        let leak = drive(&world, |undo, world| {
            add(undo, world, "record")?;
            world.borrow_mut().insert("leaked");
            add(undo, world, "vlan")
        })
        .unwrap_err();
        assert_eq!((leak.step, leak.when), (1, When::Before));
        assert!(leak.what.contains("leaked"), "{leak}");
    }

    #[test]
    fn an_inverse_that_only_bears_a_step_not_taken_is_a_leak() {
        let world = World::default();
        let leak = drive(&world, |undo, world| {
            undo.step(
                "half",
                || Err("nothing to undo"),
                || {
                    world.borrow_mut().insert("half");
                    Ok(())
                },
            )
        })
        .unwrap_err();
        assert_eq!((leak.step, leak.when), (0, When::HalfWay));
    }

    #[test]
    fn swallowed_failures_and_missing_steps_are_told() {
        let world = World::default();
        let leak = drive(&world, |undo, world| {
            let _swallowed = add(undo, world, "record");
            Ok(())
        });
        assert!(leak.unwrap_err().what.contains("swallowed"));
        let leak = drive(&world, |_, _| Ok(()));
        assert!(leak.unwrap_err().what.contains("no step"));
    }

    #[test]
    fn a_failure_of_its_own_is_told() {
        let outcome = every_failure(|| (), |_| Err::<(), _>("disk full"));
        assert!(outcome.unwrap_err().what.ends_with("disk full"));
    }
}
