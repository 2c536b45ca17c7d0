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

/// Waits for a line, then makes two files, then serves on.
fn server(dir: &std::path::Path) -> Command {
    let mut command = Command::new("sh");
    let script = ": > ready; while [ ! -e go ]; do sleep 0.01; done; : > one; : > two; sleep 60";
    command.args(["-c", script]).current_dir(dir);
    command
}

fn wait_for(path: &std::path::Path) {
    let end = Instant::now() + Duration::from_secs(20);
    while !path.exists() {
        assert!(Instant::now() < end, "no {}", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn of_a_server_only_what_was_asked_for_counts() {
    let dir = tempfile::tempdir().unwrap();
    let only = |call: &str| call.ends_with(" one") || call.ends_with(" two");
    let daemon = Daemon::start(server(dir.path()), None, only).unwrap();
    wait_for(&dir.path().join("ready"));
    daemon.count();
    fs::write(dir.path().join("go"), "").unwrap();
    wait_for(&dir.path().join("two"));
    assert!(!daemon.is_over());
    let traced = daemon.end().unwrap();
    assert_eq!(traced.calls.len(), 2, "{:?}", traced.calls);
    assert!(!traced.struck);
}

#[test]
fn a_server_is_struck_at_what_counts() {
    let dir = tempfile::tempdir().unwrap();
    let strike = Strike {
        call: 1,
        side: Side::Before,
    };
    let only = |call: &str| call.ends_with(" one") || call.ends_with(" two");
    let daemon = Daemon::start(server(dir.path()), Some(strike), only).unwrap();
    wait_for(&dir.path().join("ready"));
    daemon.count();
    fs::write(dir.path().join("go"), "").unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while !daemon.is_over() {
        assert!(Instant::now() < end, "not struck");
        std::thread::sleep(Duration::from_millis(5));
    }
    let traced = daemon.end().unwrap();
    assert!(traced.struck);
    assert!(dir.path().join("one").exists() && !dir.path().join("two").exists());
}
