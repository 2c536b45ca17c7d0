use super::*;
use crate::error::Kind;
use proptest::prelude::*;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// The environment variable that makes a test the child process of itself.
const TARGET: &str = "BERTH_TEST_TARGET";

/// Runs `test` of this file once more, as a child process that works on `target`.
fn child(test: &str, target: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg(format!("atomic::tests::{test}"))
        .env(TARGET, target)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// In a child process, what it works on.
fn target() -> Option<PathBuf> {
    std::env::var_os(TARGET).map(PathBuf::from)
}

fn wait_for(child: &mut Child, word: &str) {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let found = lines
        .map_while(|line| line.ok())
        .any(|line| line.contains(word));
    assert!(found, "the child never said {word:?}");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_created_file_is_whole_has_its_mode_and_nothing_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    for (name, wished) in [("a", 0o600), ("b", 0o644), ("c", 0o666)] {
        let path = dir.path().join(name);
        create_new(&path, name.as_bytes(), wished).unwrap();
        assert_eq!(fs::read(&path).unwrap(), name.as_bytes());
        // 0666 shows that no umask had a say.
        assert_eq!(mode(&path), wished);
        assert_eq!(fs::metadata(&path).unwrap().nlink(), 1);
    }
    assert_eq!(dirs::names(dir.path()).unwrap(), ["a", "b", "c"]);
}

#[test]
fn a_taken_name_is_told_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    create_new(&path, b"first", 0o600).unwrap();
    let error = create_new(&path, b"second", 0o600).unwrap_err();
    assert_eq!(error, Error::Exists { path: path.clone() });
    assert_eq!(fs::read(&path).unwrap(), b"first");
    assert_eq!(dirs::names(dir.path()).unwrap(), ["a"]);
}

#[test]
fn what_the_kernel_refuses_names_the_file_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent/a");
    let error = create_new(&absent, b"", 0o600).unwrap_err();
    assert_eq!(error.kind(), Kind::Kernel(berth_kernel::Kind::NotFound));
    assert!(error.to_string().contains("absent/.tmp-"), "{error}");

    // A directory in the way: the temporary is written, its rename refused.
    let path = dir.path().join("a");
    fs::create_dir(&path).unwrap();
    let error = replace(&path, b"", 0o600, Durability::Volatile).unwrap_err();
    assert!(error.to_string().starts_with("replace "), "{error}");
    assert_eq!(dirs::names(dir.path()).unwrap(), ["a"]);
}

#[test]
fn replace_changes_content_and_mode_and_remove_bears_absence() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    for durability in [Durability::Volatile, Durability::Durable] {
        replace(&path, b"longer content", 0o600, durability).unwrap();
        replace(&path, b"new", 0o644, durability).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path), 0o644);
        assert_eq!(dirs::names(dir.path()).unwrap(), ["a"]);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
    }
    let below_file = dir.path().join("f");
    fs::write(&below_file, "").unwrap();
    assert!(
        remove(&below_file.join("a")).is_err(),
        "ENOTDIR is no absence"
    );
}

#[test]
fn exchange_changes_what_is_there_and_brings_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    for absent in [path.clone(), dir.path().join("absent/a")] {
        let error = exchange(&absent, b"new", 0o600).unwrap_err();
        assert_eq!(error, Error::Absent { path: absent });
    }
    assert!(dirs::names(dir.path()).unwrap().is_empty());
    create_new(&path, b"longer content", 0o600).unwrap();
    exchange(&path, b"new", 0o644).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(mode(&path), 0o644);
    assert_eq!(dirs::names(dir.path()).unwrap(), ["a"]);
}

#[test]
fn a_bare_name_has_the_current_directory_as_parent() {
    assert_eq!(parent(Path::new("a")), Path::new("."));
    assert_eq!(parent(Path::new("/a")), Path::new("/"));
    assert_eq!(parent(Path::new("d/a")), Path::new("d"));
}

#[test]
fn a_reader_never_sees_a_part() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let contents = [vec![b'a'; 20_000], vec![b'b'; 10]];
    replace(&path, &contents[0], 0o600, Durability::Volatile).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for content in contents.iter().cycle().take(400) {
                replace(&path, content, 0o600, Durability::Volatile).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            let seen = fs::read(&path).unwrap();
            assert!(contents.contains(&seen), "{} bytes", seen.len());
        }
    });
}

/// How many of `count` threads created `path`, each with its own content.
fn race(path: &Path, count: u8, length: usize) -> Vec<u8> {
    let start = Barrier::new(usize::from(count));
    let outcomes: Vec<_> = thread::scope(|scope| {
        let contend = |id: u8| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                (id, create_new(path, &vec![id; length], 0o600))
            })
        };
        let threads: Vec<_> = (0..count).map(contend).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    for (_, outcome) in &outcomes {
        let kind = outcome.as_ref().err().map(Error::kind);
        assert!(matches!(kind, None | Some(Kind::Exists)), "{outcome:?}");
    }
    let won = outcomes.iter().filter(|(_, outcome)| outcome.is_ok());
    won.map(|(id, _)| *id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn of_threads_at_once_one_wins_with_its_whole_content(
        count in 2u8..=20,
        length in 0usize..9000,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("claim");
        let winners = race(&path, count, length);
        prop_assert_eq!(winners.len(), 1);
        prop_assert_eq!(fs::read(&path).unwrap(), vec![winners[0]; length]);
        prop_assert_eq!(dirs::names(dir.path()).unwrap(), ["claim"]);
    }
}

#[test]
fn of_twenty_processes_at_once_one_wins() {
    if let Some(path) = target() {
        return create_on_signal(&path);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("claim");
    let mut children: Vec<_> = (0..20)
        .map(|_| child("of_twenty_processes_at_once_one_wins", &path))
        .collect();
    for child in &mut children {
        wait_for(child, "ready");
    }
    for child in &mut children {
        drop(child.stdin.take());
    }
    let outcomes: Vec<_> = children
        .into_iter()
        .map(|child| (child.id(), child.wait_with_output().unwrap()))
        .collect();
    let winners: Vec<_> = outcomes
        .iter()
        .filter(|(_, output)| String::from_utf8_lossy(&output.stdout).contains("won"))
        .map(|(pid, _)| pid.to_string())
        .collect();
    assert!(outcomes.iter().all(|(_, output)| output.status.success()));
    assert_eq!(winners, [fs::read_to_string(&path).unwrap()]);
    assert_eq!(dirs::names(dir.path()).unwrap(), ["claim"]);
}

fn create_on_signal(path: &Path) {
    println!("ready");
    let mut end = String::new();
    io::stdin().read_line(&mut end).unwrap();
    match create_new(path, std::process::id().to_string().as_bytes(), 0o600) {
        Ok(()) => println!("won"),
        Err(error) => assert_eq!(error.kind(), Kind::Exists),
    }
}

#[test]
fn a_killed_writers_temporary_is_swept_and_a_living_ones_is_not() {
    if let Some(path) = target() {
        return hold_a_temporary(&path);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record");
    fs::write(&path, "kept").unwrap();
    let mut writer = child(
        "a_killed_writers_temporary_is_swept_and_a_living_ones_is_not",
        &path,
    );
    wait_for(&mut writer, "ready");
    assert_eq!(dirs::names(dir.path()).unwrap().len(), 2);
    assert_eq!(leftovers(dir.path()), Ok(vec![]), "its writer lives");
    assert_eq!(sweep(dir.path()), Ok(vec![]), "its writer lives");

    writer.kill().unwrap();
    writer.wait().unwrap();
    let left = leftovers(dir.path()).unwrap();
    assert_eq!(left.len(), 1);
    assert!(left[0].exists(), "listing removes nothing");
    assert_eq!(sweep(dir.path()), Ok(left));
    assert_eq!(dirs::names(dir.path()).unwrap(), ["record"]);
    assert_eq!(sweep(&dir.path().join("absent")), Ok(vec![]));
}

fn hold_a_temporary(path: &Path) {
    let _temporary = Temporary::write(path, b"half", 0o600, Durability::Volatile).unwrap();
    println!("ready");
    let mut end = String::new();
    io::stdin().read_line(&mut end).unwrap();
}

#[test]
fn a_sweeper_never_costs_a_living_writer_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let sweeper = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                sweep(dir.path()).unwrap();
            }
        });
        let writers = [0, 1].map(|writer| {
            let dir = dir.path();
            scope.spawn(move || {
                for n in 0..300 {
                    create_new(&dir.join(format!("{writer}-{n}")), b"x", 0o600).unwrap();
                }
            })
        });
        let written = writers.map(thread::ScopedJoinHandle::join);
        done.store(true, Ordering::Relaxed);
        sweeper.join().unwrap();
        assert!(written.iter().all(|joined| joined.is_ok()));
    });
    let names = dirs::names(dir.path()).unwrap();
    assert_eq!(names.len(), 600, "{names:?}");
    assert!(!names.iter().any(|name| is_temporary(name)));
}

#[test]
fn a_kill_at_any_time_leaves_the_file_whole() {
    if let Some(path) = target() {
        return replace_for_ever(&path);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record");
    let mut left = 0;
    // On a busy machine a kill may come before the child has gone on.
    for round in 0..400 {
        if round >= 12 && left > 0 {
            break;
        }
        let mut writer = child("a_kill_at_any_time_leaves_the_file_whole", &path);
        wait_for(&mut writer, "ready");
        thread::sleep(std::time::Duration::from_micros(700 * (round % 32)));
        writer.kill().unwrap();
        writer.wait().unwrap();
        let content = fs::read(&path).unwrap();
        assert!(content.len() == LARGE && content.iter().all(|byte| *byte == content[0]));
        left += sweep(dir.path()).unwrap().len();
        assert_eq!(dirs::names(dir.path()).unwrap(), ["record"]);
    }
    assert!(
        left > 0,
        "no kill hit a writer at work: the test shows nothing"
    );
}

const LARGE: usize = 1 << 20;

fn replace_for_ever(path: &Path) {
    replace(path, &vec![0; LARGE], 0o600, Durability::Volatile).unwrap();
    println!("ready");
    for byte in (0..=u8::MAX).cycle() {
        replace(path, &vec![byte; LARGE], 0o600, Durability::Volatile).unwrap();
    }
}
