use super::*;
use crate::error::Kind;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// The environment variable that makes a test the child process of itself: its root.
const ROOT: &str = "BERTH_TEST_LOCK_ROOT";
const LONG: Duration = Duration::from_secs(20);

fn root() -> (TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    (dir, root)
}

fn key(id: &str) -> Key {
    Key::new("blue", id, "eth0".parse().unwrap()).unwrap()
}

fn bridge(name: &str) -> LockName {
    LockName::Bridge(name.parse().unwrap())
}

fn file(root: &Root, name: &LockName) -> PathBuf {
    dirs::berth(root).join("locks").join(name.to_string())
}

#[test]
fn every_lock_has_its_documented_file() {
    let address: PciAddr = "0000:01:10.2".parse().unwrap();
    let names = [
        (LockName::Vf(address), "vf-0000:01:10.2"),
        (LockName::Pf(address), "pf-0000:01:10.2"),
        (LockName::Move, "move"),
        (bridge("br0"), "bridge-br0"),
    ];
    let (_dir, root) = root();
    for (name, text) in names {
        let guard = Locks::new(&root).acquire(&name, &key("c1"), LONG).unwrap();
        let path = root.run.join("berth/locks").join(text);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let holder = || Holder::read(&File::open(&path).unwrap());
        let own = Holder {
            pid: std::process::id(),
            key: key("c1"),
        };
        assert_eq!(holder(), Some(own));
        drop(guard);
        assert_eq!(holder(), None, "released");
        assert!(path.exists(), "not removed");
    }
}

#[test]
fn a_busy_lock_names_its_holder_after_the_wait_and_not_much_later() {
    let (_dir, root) = root();
    let name = bridge("br0");
    let _held = Locks::new(&root).acquire(&name, &key("c1"), LONG).unwrap();
    for wait in [Duration::ZERO, Duration::from_millis(120)] {
        let start = Instant::now();
        let error = Locks::new(&root)
            .acquire(&name, &key("c2"), wait)
            .unwrap_err();
        let took = start.elapsed();
        assert!(
            took >= wait && took < wait + Duration::from_secs(2),
            "{took:?}"
        );
        assert_eq!(error.kind(), Kind::LockBusy);
        let text = error.to_string();
        let holder = format!("held by pid {} for blue/c1:eth0", std::process::id());
        assert!(
            text.contains("lock bridge-br0") && text.contains(&holder),
            "{text}"
        );
    }
}

#[test]
fn a_holder_that_cannot_be_read_is_no_other_error() {
    let (_dir, root) = root();
    let name = bridge("br0");
    let _held = Locks::new(&root).acquire(&name, &key("c1"), LONG).unwrap();
    for text in [
        &b""[..],
        b"7",
        b"x blue/c1:eth0",
        b"7 nonsense",
        b"\xff\xfe",
        &[b'9'; 900],
    ] {
        fs::write(file(&root, &name), text).unwrap();
        match Locks::new(&root).acquire(&name, &key("c2"), Duration::ZERO) {
            Err(Error::LockBusy { holder: None, .. }) => {}
            other => panic!("{text:?}: {other:?}"),
        }
    }
}

#[test]
fn a_waiter_goes_on_when_the_lock_is_free() {
    let (_dir, root) = root();
    let name = LockName::Move;
    let held = Locks::new(&root).acquire(&name, &key("c1"), LONG).unwrap();
    let inode = fs::metadata(file(&root, &name)).unwrap().ino();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let guard = Locks::new(&root).acquire(&name, &key("c2"), LONG);
            guard.map(|_guard| Instant::now())
        });
        thread::sleep(Duration::from_millis(80));
        assert!(!waiter.is_finished(), "two hold one lock");
        let released = Instant::now();
        drop(held);
        let late = waiter.join().unwrap().unwrap() - released;
        assert!(late < Duration::from_secs(2), "{late:?}");
    });
    assert_eq!(fs::metadata(file(&root, &name)).unwrap().ino(), inode);
}

#[test]
fn a_waiter_that_gave_up_does_not_keep_the_lock_later() {
    let (_dir, root) = root();
    let name = bridge("br0");
    let held = Locks::new(&root).acquire(&name, &key("c1"), LONG).unwrap();
    for _ in 0..5 {
        let short = Duration::from_millis(5);
        assert!(Locks::new(&root).acquire(&name, &key("c2"), short).is_err());
    }
    drop(held);
    // The five abandoned threads take their turns before or after us.
    drop(Locks::new(&root).acquire(&name, &key("c3"), LONG).unwrap());
    drop(Locks::new(&root).acquire(&name, &key("c4"), LONG).unwrap());
}

#[test]
fn one_at_a_time_is_inside() {
    let (_dir, root) = root();
    let counter = root.run.join("counter");
    fs::create_dir_all(&root.run).unwrap();
    fs::write(&counter, "0").unwrap();
    thread::scope(|scope| {
        for id in 0..10 {
            let (root, counter) = (&root, &counter);
            scope.spawn(move || {
                for _ in 0..10 {
                    let locks = Locks::new(root);
                    let key = key(&format!("c{id}"));
                    let _guard = locks.acquire(&bridge("br0"), &key, LONG).unwrap();
                    // Read, then write: lost updates show.
                    let n: u32 = fs::read_to_string(counter).unwrap().parse().unwrap();
                    fs::write(counter, (n + 1).to_string()).unwrap();
                }
            });
        }
    });
    assert_eq!(fs::read_to_string(&counter).unwrap(), "100");
}

#[test]
fn another_process_is_named_while_it_lives_and_forgotten_when_killed() {
    if let Some(dir) = std::env::var_os(ROOT) {
        return hold(&Root::under(Path::new(&dir)));
    }
    let (dir, root) = root();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("lock::tests::another_process_is_named_while_it_lives_and_forgotten_when_killed")
        .env(ROOT, dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("held")));

    let locks = Locks::new(&root);
    let error = locks
        .acquire(&bridge("br0"), &key("c2"), Duration::ZERO)
        .unwrap_err();
    let holder = format!("pid {} for blue/child:eth0", child.id());
    assert!(error.to_string().contains(&holder), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
    let _guard = locks.acquire(&bridge("br0"), &key("c2"), LONG).unwrap();
    let holder = Holder::read(&File::open(file(&root, &bridge("br0"))).unwrap());
    assert_eq!(holder.map(|holder| holder.key), Some(key("c2")));
}

fn hold(root: &Root) {
    let locks = Locks::new(root);
    let _guard = locks.acquire(&bridge("br0"), &key("child"), LONG).unwrap();
    println!("held");
    io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn the_order_is_the_documented_one() {
    let [low, high] = ["0000:01:10.2", "0000:81:00.0"].map(|text| text.parse().unwrap());
    let allowed = [
        (LockName::Vf(high), LockName::Pf(low)),
        (LockName::Pf(low), LockName::Pf(high)),
        (LockName::Pf(high), LockName::Move),
    ];
    for (held, wished) in &allowed {
        assert_eq!(wished.conflict(held), None, "{wished} after {held}");
        assert!(held.conflict(wished).is_some(), "{held} after {wished}");
    }
    for (held, wished) in [
        (LockName::Move, LockName::Move),
        (bridge("br0"), bridge("br1")),
        (bridge("br0"), LockName::Move),
        (LockName::Vf(low), bridge("br0")),
    ] {
        assert!(wished.conflict(&held).is_some(), "{wished} after {held}");
    }
}

#[test]
fn a_broken_order_panics_and_a_released_lock_is_forgotten() {
    let (_dir, root) = root();
    let locks = Locks::new(&root);
    drop(locks.acquire(&bridge("br0"), &key("c1"), LONG).unwrap());
    let _move = locks.acquire(&LockName::Move, &key("c1"), LONG).unwrap();
    let broken =
        std::panic::catch_unwind(|| locks.acquire(&bridge("br0"), &key("c1"), LONG).map(drop));
    assert!(broken.is_err());
    let vf = LockName::Vf("0000:01:10.2".parse().unwrap());
    let elsewhere = Locks::new(&root).acquire(&vf, &key("c2"), LONG);
    assert!(elsewhere.is_ok(), "another operation has its own order");
}
