use super::*;
use std::fs;

/// Makes a file and removes another, then would speak.
fn shell(dir: &std::path::Path) -> Command {
    fs::write(dir.join("old"), "").unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", ": > new; rm old; echo done"]);
    command.current_dir(dir);
    command
}

#[test]
fn changes_are_counted_and_the_run_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let traced = run(&mut shell(dir.path()), b"", None).unwrap();
    assert!(!traced.struck);
    assert_eq!(traced.finished.stdout, "done\n");
    assert!(traced.calls.iter().any(|call| call.ends_with(" new")));
    assert!(traced.calls.iter().any(|call| call.starts_with("write ")));
}

#[test]
fn a_call_it_is_killed_before_does_not_happen_and_one_after_does() {
    for side in [Side::Before, Side::After] {
        let dir = tempfile::tempdir().unwrap();
        let traced = run(&mut shell(dir.path()), b"", None).unwrap();
        fs::remove_file(dir.path().join("new")).unwrap();
        let call = traced.calls.iter().position(|call| call.ends_with(" new"));
        let strike = Strike {
            call: call.unwrap(),
            side,
        };
        let traced = run(&mut shell(dir.path()), b"", Some(strike)).unwrap();
        assert!(traced.struck);
        assert_eq!(traced.finished.status.signal(), Some(libc::SIGKILL));
        assert_eq!(dir.path().join("new").exists(), side == Side::After);
        assert_eq!(traced.finished.stdout, "");
    }
}

#[test]
fn a_strike_past_the_end_never_comes() {
    let dir = tempfile::tempdir().unwrap();
    let strike = Strike {
        call: 10_000,
        side: Side::Before,
    };
    let traced = run(&mut shell(dir.path()), b"", Some(strike)).unwrap();
    assert!(!traced.struck && traced.finished.status.success());
}
