use super::*;
use std::cell::RefCell;
use std::rc::Rc;

#[derive(Debug, PartialEq)]
enum Failure {
    Fault(Fault),
    Own,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

type Trace = Rc<RefCell<Vec<String>>>;

fn note(trace: &Trace, text: &str) -> impl FnOnce() -> Result<(), String> + 'static {
    let (trace, text) = (trace.clone(), text.to_owned());
    move || {
        trace.borrow_mut().push(text);
        Ok(())
    }
}

fn do_step(undo: &mut Undo, trace: &Trace, name: &'static str) -> Result<(), Failure> {
    undo.step(name, note(trace, &format!("undo {name}")), || {
        trace.borrow_mut().push(format!("do {name}"));
        Ok(())
    })
}

#[test]
fn rollback_is_last_in_first_out_and_commit_forgets() {
    let trace = Trace::default();
    let mut undo = Undo::new(Faults::none());
    do_step(&mut undo, &trace, "a").unwrap();
    undo.before("b", note(&trace, "undo b"));
    do_step(&mut undo, &trace, "c").unwrap();
    assert_eq!(format!("{undo:?}"), r#"["a", "b", "c"]"#);
    assert_eq!(undo.rollback(), []);
    let all = ["do a", "do c", "undo c", "undo b", "undo a"];
    assert_eq!(*trace.borrow(), all);

    let mut undo = Undo::new(Faults::none());
    do_step(&mut undo, &trace, "d").unwrap();
    undo.commit();
    assert_eq!(trace.borrow()[all.len()..], ["do d"]);
}

#[test]
fn a_failing_action_leaves_its_own_inverse_registered() {
    let trace = Trace::default();
    let mut undo = Undo::new(Faults::none());
    let result: Result<(), _> =
        undo.step("move link", note(&trace, "undo move"), || Err(Failure::Own));
    assert_eq!(result, Err(Failure::Own));
    assert_eq!(undo.rollback(), []);
    assert_eq!(*trace.borrow(), ["undo move"]);
}

#[test]
fn inverses_that_fail_or_panic_are_listed_and_do_not_stop_the_others() {
    let trace = Trace::default();
    let mut undo = Undo::new(Faults::none());
    undo.before("first", note(&trace, "undo first"));
    undo.before("second", || Err("device busy"));
    undo.before("third", || -> Result<(), String> { panic!("slot {}", 3) });
    undo.before("fourth", note(&trace, "undo fourth"));
    let failed: Vec<String> = undo.rollback().iter().map(ToString::to_string).collect();
    assert_eq!(
        failed,
        [
            "could not undo 'third': panicked: slot 3",
            "could not undo 'second': device busy"
        ]
    );
    assert_eq!(*trace.borrow(), ["undo fourth", "undo first"]);
}

#[test]
fn a_dropped_list_rolls_back_even_while_a_panic_unwinds() {
    let trace = Trace::default();
    let shared = trace.clone();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut undo = Undo::new(Faults::none());
        undo.before("a", note(&shared, "undo a"));
        undo.before("b", || -> Result<(), String> { panic!("inverse") });
        panic!("action");
    }));
    assert!(outcome.is_err());
    assert_eq!(*trace.borrow(), ["undo a"]);
}

#[test]
fn a_fault_strikes_its_step_on_its_side_once() {
    for (when, acted) in [(When::Before, false), (When::HalfWay, true)] {
        let trace = Trace::default();
        let faults = Faults::at(1, when);
        let mut undo = Undo::new(faults.clone());
        do_step(&mut undo, &trace, "a").unwrap();
        undo.before("registered only, not a step", note(&trace, "undo r"));
        assert!(!faults.fired());
        let error = do_step(&mut undo, &trace, "b").unwrap_err();
        assert!(faults.fired());
        let name = "b".to_owned();
        assert_eq!(
            error,
            Failure::Fault(Fault {
                step: 1,
                name,
                when
            })
        );
        do_step(&mut undo, &trace, "c").unwrap();
        assert_eq!(undo.rollback(), []);
        let did = trace.borrow().contains(&"do b".to_owned());
        assert_eq!(did, acted, "{when:?}");
        assert!(trace.borrow().contains(&"undo b".to_owned()), "{when:?}");
    }
}

#[test]
fn several_lists_of_one_transaction_are_numbered_through() {
    let trace = Trace::default();
    let faults = Faults::at(1, When::Before);
    let (mut one, mut two) = (Undo::new(faults.clone()), Undo::new(faults));
    do_step(&mut one, &trace, "a").unwrap();
    assert!(do_step(&mut two, &trace, "b").is_err());
}

#[test]
fn an_action_that_fails_by_itself_keeps_its_own_error() {
    let mut undo = Undo::new(Faults::at(0, When::HalfWay));
    let result: Result<(), _> = undo.step("a", || Ok::<_, String>(()), || Err(Failure::Own));
    assert_eq!(result, Err(Failure::Own));
    undo.commit();
}

#[test]
fn the_last_inverse_comes_last_and_only_after_a_clean_rollback() {
    for clean in [true, false] {
        let trace = Trace::default();
        let mut undo = Undo::new(Faults::none());
        undo.last("record", note(&trace, "undo record"));
        do_step(&mut undo, &trace, "a").unwrap();
        if !clean {
            undo.before("b", || Err("stuck"));
        }
        assert_eq!(undo.rollback().len(), usize::from(!clean));
        let expected: &[&str] = if clean {
            &["do a", "undo a", "undo record"]
        } else {
            &["do a", "undo a"]
        };
        assert_eq!(*trace.borrow(), expected);
    }
    let trace = Trace::default();
    let mut undo = Undo::new(Faults::none());
    undo.last("record", note(&trace, "undo record"));
    undo.commit();
    assert!(trace.borrow().is_empty());
}
