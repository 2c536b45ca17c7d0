use super::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::SystemTime;

use proptest::prelude::*;
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(20);
/// The boot the trees of these tests are in, and when it began.
const BOOT: &str = "5b1b5a1e-0000-4000-8000-000000000001";
const BTIME: u64 = 1_700_000_000;

struct Scene {
    _dir: TempDir,
    root: Root,
    pool: Pool,
}

fn scene() -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    fs::create_dir_all(root.proc.join("sys/kernel/random")).unwrap();
    fs::create_dir_all(&root.run).unwrap();
    fs::write(root.proc.join("stat"), format!("cpu 1\nbtime {BTIME}\n")).unwrap();
    let scene = Scene {
        pool: Pool::new(&root, None, "blue"),
        root,
        _dir: dir,
    };
    scene.boot(BOOT);
    scene
}

impl Scene {
    fn boot(&self, id: &str) {
        let path = self.root.proc.join("sys/kernel/random/boot_id");
        fs::write(path, format!("{id}\n")).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.pool.dir().join(name)
    }

    /// A lease as the reference writes it: in place, without telling anybody.
    fn foreign(&self, name: &str, content: &str) {
        fs::create_dir_all(self.pool.dir()).unwrap();
        fs::write(self.file(name), content).unwrap();
    }

    /// The same, written in an earlier boot.
    fn outdated(&self, name: &str, content: &str) {
        self.foreign(name, content);
        let file = OpenOptions::new().write(true).open(self.file(name));
        let before = SystemTime::UNIX_EPOCH + Duration::from_secs(BTIME - 10);
        file.unwrap().set_modified(before).unwrap();
    }

    fn lock(&self) -> Locked<'_> {
        self.pool.lock(LONG).unwrap()
    }

    /// What ADD does: the first free of the candidates, noted.
    fn add(&self, key: &Key, candidates: &[IpAddr]) -> Option<IpAddr> {
        let mut locked = self.lock();
        locked.settle().unwrap();
        assert_eq!(locked.owned(key).unwrap(), []);
        let given = locked.reserve(key, candidates.iter().copied()).unwrap();
        locked.note(key, given.as_slice());
        given
    }

    fn release(&self, key: &Key) -> Vec<String> {
        let released = self.lock().release(key).unwrap();
        released.iter().map(IpAddr::to_string).collect()
    }

    /// Names and contents of the pool's directory, without the lock.
    fn files(&self) -> BTreeMap<String, String> {
        let names = dirs::names(self.pool.dir()).unwrap();
        let leases = names.into_iter().filter(|name| name != LOCK);
        leases
            .map(|name| (name.clone(), fs::read_to_string(self.file(&name)).unwrap()))
            .collect()
    }

    fn index(&self) -> BTreeMap<String, String> {
        let dir = self.root.run.join("berth/ipam/blue");
        let entry = |name: String| {
            let target = fs::read_link(dir.join(&name)).unwrap();
            (name, target.display().to_string())
        };
        dirs::names(&dir).unwrap().into_iter().map(entry).collect()
    }
}

fn key(id: &str) -> Key {
    Key::new("blue", id, "eth0".parse().unwrap()).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(own).collect()
}

#[test]
fn a_lease_is_what_the_reference_writes() {
    let scene = scene();
    assert_eq!(
        scene.add(&key("c1"), &[ip("10.1.0.2")]),
        Some(ip("10.1.0.2"))
    );
    assert_eq!(
        scene.add(&key("c2"), &[ip("FD00:0::00A0:0")]),
        Some(ip("fd00::a0:0"))
    );
    let tie = scene.pool.path(ip("fd00:0:0:1:0:0:a0:0"));
    assert_eq!(tie, scene.file("fd00::1:0:0:a0:0"), "of two gaps the first");
    let locked = scene.lock();
    let last = locked.last_reserved(1).unwrap();
    assert_eq!(last.address(), None);
    for address in ["10.1.0.123", "10.1.0.9", "fd00::a0:0"] {
        locked.last_reserved(1).unwrap().set(ip(address)).unwrap();
        let last = locked.last_reserved(1).unwrap();
        assert_eq!(last.address(), Some(ip(address)));
        let content = fs::read_to_string(scene.file("last_reserved_ip.1")).unwrap();
        assert_eq!(content, address);
    }
    drop(locked);
    let expected = [
        ("10.1.0.2", "c1\r\neth0"),
        ("fd00::a0:0", "c2\r\neth0"),
        ("last_reserved_ip.1", "fd00::a0:0"),
    ];
    assert_eq!(scene.files(), map(&expected));
    assert_eq!(fs::read_to_string(scene.file(LOCK)).unwrap(), "");
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&scene.file("10.1.0.2")), 0o600);
    assert_eq!(mode(scene.pool.dir()), 0o755);
    let parent = dirs::names(&scene.root.var.join("lib/cni/networks")).unwrap();
    assert_eq!(parent, ["blue"], "nothing is left beside it");
}

#[test]
fn a_file_system_without_nameless_files_serves_too() {
    let scene = scene();
    scene.foreign("10.1.0.1", "other\r\neth0");
    let left = scene.pool.dir().with_file_name(".blue.new");
    // What a killed writer left is still linked to its lease: it must not be written.
    fs::write(&left, "c0\r\neth0").unwrap();
    fs::hard_link(&left, scene.file("10.1.0.2")).unwrap();
    let draft = draft::Draft::beside(scene.pool.dir(), "c1\r\neth0").unwrap();
    assert!(!draft.link(&scene.file("10.1.0.1")).unwrap());
    assert!(!draft.link(&scene.file("10.1.0.2")).unwrap());
    assert!(draft.link(&scene.file("10.1.0.3")).unwrap());
    drop(draft);
    assert!(!left.exists());
    let expected = [
        ("10.1.0.1", "other\r\neth0"),
        ("10.1.0.2", "c0\r\neth0"),
        ("10.1.0.3", "c1\r\neth0"),
    ];
    assert_eq!(scene.files(), map(&expected));
}

#[test]
fn release_finds_by_index_and_without() {
    let scene = scene();
    let mut locked = scene.lock();
    locked.settle().unwrap();
    for address in ["10.1.0.2", "fd00::2"] {
        let given = locked.reserve(&key("c1"), std::iter::once(ip(address)));
        assert_eq!(given.unwrap(), Some(ip(address)));
    }
    locked.note(&key("c1"), &[ip("10.1.0.2"), ip("fd00::2")]);
    drop(locked);
    assert_eq!(
        scene.index(),
        map(&[(".boot", BOOT), ("c1:eth0", "10.1.0.2 fd00::2")])
    );
    scene.foreign("10.1.0.3", "c2\r\neth0");
    scene.foreign("fd00::3", "c2\r\neth0");
    scene.foreign("10.1.0.4", "c2\r\neth1");
    assert_eq!(scene.release(&key("c1")), ["10.1.0.2", "fd00::2"]);
    assert_eq!(scene.release(&key("c2")), ["10.1.0.3", "fd00::3"]);
    assert_eq!(scene.release(&key("c2")), [""; 0], "eth1 is another's");
    assert_eq!(scene.release(&key("c1")), [""; 0]);
    assert_eq!(scene.files(), map(&[("10.1.0.4", "c2\r\neth1")]));
    assert_eq!(scene.index(), map(&[(".boot", BOOT)]));
}

#[test]
fn leases_that_name_the_container_only_go_if_none_says_more() {
    let scene = scene();
    scene.foreign("10.1.0.2", "c1");
    scene.foreign("10.1.0.3", "c1\n");
    scene.foreign("10.1.0.4", "c10");
    scene.foreign("10.1.0.5", "c2");
    scene.foreign("10.1.0.6", "c2\r\neth0\n");
    assert_eq!(scene.release(&key("c1")), ["10.1.0.2", "10.1.0.3"]);
    assert_eq!(scene.release(&key("c2")), ["10.1.0.6"]);
    assert_eq!(scene.release(&key("c2")), ["10.1.0.5"]);
    assert_eq!(scene.files(), map(&[("10.1.0.4", "c10")]));
}

#[test]
fn an_index_that_lies_is_not_believed() {
    let scene = scene();
    scene.add(&key("c1"), &[ip("10.1.0.2")]);
    scene.add(&key("c2"), &[ip("10.1.0.3")]);
    let index = scene.root.run.join("berth/ipam/blue");
    for lie in ["10.1.0.3", "10.1.0.9", "nonsense", ""] {
        let entry = index.join("c1:eth0");
        fs::remove_file(&entry).unwrap();
        if !lie.is_empty() {
            std::os::unix::fs::symlink(lie, &entry).unwrap();
        }
        let owned = scene.pool.owned(&key("c1")).unwrap();
        let addresses: Vec<IpAddr> = owned.iter().map(|lease| lease.address).collect();
        assert_eq!(addresses, [ip("10.1.0.2")], "{lie:?}");
        std::os::unix::fs::symlink("placeholder", &entry).unwrap_or(());
    }
    assert_eq!(scene.release(&key("c1")), ["10.1.0.2"]);
    assert_eq!(scene.files(), map(&[("10.1.0.3", "c2\r\neth0")]));
}

#[test]
fn what_others_did_is_noticed_by_the_next_add() {
    let scene = scene();
    scene.add(&key("c1"), &[ip("10.1.0.2")]);
    tick();
    scene.foreign("10.1.0.3", "c2\r\neth0");
    fs::remove_file(scene.file("10.1.0.2")).unwrap();
    let mut locked = scene.lock();
    locked.settle().unwrap();
    assert_eq!(locked.owned(&key("c1")).unwrap(), []);
    assert_eq!(locked.owned(&key("c2")).unwrap().len(), 1);
    drop(locked);
    assert_eq!(scene.index(), map(&[(".boot", BOOT), ("c2:eth0", "?")]));
}

/// The reference takes the lock anew for each address of an attachment: what is seen in
/// between is not all.
#[test]
fn leases_seen_half_way_do_not_hide_the_rest() {
    let scene = scene();
    scene.add(&key("c1"), &[ip("10.1.0.2")]);
    scene.foreign("10.1.0.3", "c2\r\neth0");
    tick();
    scene.add(&key("c3"), &[ip("10.1.0.4")]);
    scene.foreign("fd00::3", "c2\r\neth0");
    assert_eq!(scene.release(&key("c2")), ["10.1.0.3", "fd00::3"]);
}

/// The costs' bar: no lease of others is read where nobody else served the pool.
#[test]
fn an_add_reads_no_other_lease() {
    let scene = scene();
    for n in 2..40 {
        scene.add(&key(&format!("c{n}")), &[ip(&format!("10.1.0.{n}"))]);
    }
    let mut locked = scene.lock();
    locked.settle().unwrap();
    assert!(locked.read.is_none(), "it was in step");
    drop(locked);
    scene.release(&key("c7"));
    scene.add(&key("d7"), &[ip("10.1.0.7")]);
    let mut locked = scene.lock();
    locked.settle().unwrap();
    assert!(locked.read.is_none(), "a release keeps it in step");
}

#[test]
fn a_pool_elsewhere_has_an_index_of_its_own() {
    let scene = scene();
    let elsewhere = Pool::new(&scene.root, Some(&scene.root.var.join("pools")), "blue");
    let given = {
        let mut locked = elsewhere.lock(LONG).unwrap();
        locked.settle().unwrap();
        let given = locked.reserve(&key("c1"), std::iter::once(ip("10.1.0.2")));
        locked.note(&key("c1"), &[ip("10.1.0.2")]);
        given.unwrap()
    };
    assert!(given.is_some());
    assert_eq!(elsewhere.owned(&key("c1")).unwrap().len(), 1);
    assert_eq!(scene.pool.owned(&key("c1")).unwrap(), []);
    let indexes = dirs::names(&scene.root.run.join("berth/ipam")).unwrap();
    let [index] = indexes.as_slice() else {
        panic!("{indexes:?}");
    };
    assert!(index.starts_with("blue@") && index.len() == 17, "{index}");
    let default = scene.root.var.join("lib/cni/networks");
    let same = Pool::new(&scene.root, Some(&default), "blue");
    assert_eq!(same.index.addresses(&key("c1")), None);
    scene.add(&key("c2"), &[ip("10.1.0.3")]);
    assert_eq!(same.index.addresses(&key("c2")), Some(vec![ip("10.1.0.3")]));
}

#[test]
fn a_new_boot_frees_what_is_provably_of_an_older_one_once() {
    let scene = scene();
    scene.outdated("10.1.0.2", "c1\r\neth0");
    scene.outdated("10.1.0.3", "c2");
    scene.foreign("10.1.0.4", "c3\r\neth0");
    scene.outdated("last_reserved_ip.0", "10.1.0.4");
    scene.foreign("10.1.0.5", "");
    assert_eq!(
        scene.add(&key("c9"), &[ip("10.1.0.2")]),
        Some(ip("10.1.0.2"))
    );
    let now = [
        ("10.1.0.2", "c9\r\neth0"),
        ("10.1.0.4", "c3\r\neth0"),
        ("last_reserved_ip.0", "10.1.0.4"),
    ];
    assert_eq!(scene.files(), map(&now));
    // A clock set back later makes leases of this boot look old.
    scene.outdated("10.1.0.6", "c4\r\neth0");
    scene.add(&key("c8"), &[ip("10.1.0.8")]);
    assert!(scene.files().contains_key("10.1.0.6"));
    scene.boot("5b1b5a1e-0000-4000-8000-000000000002");
    scene.add(&key("c7"), &[ip("10.1.0.7")]);
    let left: Vec<String> = scene.files().into_keys().collect();
    let expected = [
        "10.1.0.2",
        "10.1.0.4",
        "10.1.0.7",
        "10.1.0.8",
        "last_reserved_ip.0",
    ];
    assert_eq!(left, expected);
}

/// A clock that ran late when the boot began: `run` is older than the boot seems to be.
#[test]
fn a_clock_set_right_after_boot_frees_nothing() {
    let scene = scene();
    let future = SystemTime::now() + Duration::from_secs(3600);
    let btime = future
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    fs::write(scene.root.proc.join("stat"), format!("btime {btime}\n")).unwrap();
    scene.foreign("10.1.0.2", "c1\r\neth0");
    let made = fs::metadata(&scene.root.run).and_then(|run| run.created());
    assert!(
        made.is_ok(),
        "this file system does not say when a file was made"
    );
    assert_eq!(scene.add(&key("c9"), &[ip("10.1.0.2")]), None);
}

#[test]
fn without_proof_of_the_boot_nothing_is_given_or_freed() {
    let scene = scene();
    scene.outdated("10.1.0.2", "c1\r\neth0");
    fs::write(scene.root.proc.join("stat"), "cpu 1\n").unwrap();
    assert!(scene.lock().settle().is_err());
    assert!(scene.files().contains_key("10.1.0.2"));
}

#[test]
fn a_file_without_owner_is_given_out_last() {
    let scene = scene();
    scene.add(&key("c0"), &[ip("10.1.0.9")]);
    scene.foreign("10.1.0.2", "");
    let candidates = ["10.1.0.2", "10.1.0.3"].map(ip);
    let mut locked = scene.lock();
    locked.settle().unwrap();
    let reserve = |id| locked.reserve(&key(id), candidates.into_iter()).unwrap();
    assert_eq!(reserve("c1"), Some(ip("10.1.0.3")));
    assert_eq!(reserve("c2"), Some(ip("10.1.0.2")));
    assert_eq!(reserve("c3"), None);
    drop(locked);
    assert_eq!(scene.files()["10.1.0.2"], "c2\r\neth0");
}

#[test]
fn collect_keeps_who_stays() {
    let scene = scene();
    scene.add(&key("c1"), &[ip("10.1.0.2")]);
    scene.add(&key("c2"), &[ip("10.1.0.3")]);
    scene.foreign("10.1.0.4", "c3");
    scene.foreign("10.1.0.5", "");
    scene.foreign("10.1.0.6", "../x\r\n../../y");
    let gone = scene.lock().collect(|owner| owner.container_id == "c2");
    let gone: Vec<String> = gone
        .unwrap()
        .iter()
        .map(|l| l.address.to_string())
        .collect();
    assert_eq!(gone, ["10.1.0.2", "10.1.0.4", "10.1.0.5", "10.1.0.6"]);
    assert_eq!(scene.files(), map(&[("10.1.0.3", "c2\r\neth0")]));
    assert_eq!(
        scene.index(),
        map(&[(".boot", BOOT), ("c2:eth0", "10.1.0.3")])
    );
}

#[test]
fn a_foreign_owner_cannot_leave_the_index() {
    let scene = scene();
    scene.foreign("10.1.0.6", "../x\r\n../../y");
    scene.foreign("10.1.0.7", ".boot\r\neth0");
    scene.add(&key("c1"), &[ip("10.1.0.2")]);
    assert_eq!(
        scene.index(),
        map(&[(".boot", BOOT), ("c1:eth0", "10.1.0.2")])
    );
}

#[test]
fn no_directory_is_nothing_to_release_and_stays_away() {
    let scene = scene();
    assert!(scene.pool.lock_if_there(LONG).unwrap().is_none());
    assert_eq!(scene.pool.leases().unwrap(), []);
    assert!(!scene.pool.dir().exists());
}

#[test]
fn a_busy_pool_names_the_process_that_holds_it() {
    let scene = scene();
    let _held = scene.lock();
    let real = Pool {
        root: Root::host(),
        ..scene.pool.clone()
    };
    for wait in [Duration::ZERO, Duration::from_millis(60)] {
        let error = real.lock(wait).unwrap_err();
        assert_eq!(error.kind(), crate::Kind::LockBusy);
        let text = error.to_string();
        let lock = scene.file(LOCK).display().to_string();
        let holder = format!("pid {}", std::process::id());
        assert!(text.contains(&lock) && text.contains(&holder), "{text}");
    }
}

/// A run that cannot keep an index costs time, not addresses.
#[test]
fn without_an_index_everything_still_works() {
    let scene = scene();
    fs::write(scene.root.run.join("berth"), "in the way").unwrap();
    scene.add(&key("c1"), &[ip("10.1.0.2")]);
    assert_eq!(scene.add(&key("c2"), &[ip("10.1.0.2")]), None);
    let mut locked = scene.lock();
    locked.settle().unwrap();
    assert_eq!(locked.owned(&key("c1")).unwrap().len(), 1);
    drop(locked);
    assert_eq!(scene.release(&key("c1")), ["10.1.0.2"]);
}

#[test]
fn threads_never_share_an_address() {
    const THREADS: usize = 8;
    const EACH: usize = 12;
    let scene = scene();
    let candidates: Vec<IpAddr> = (2..100u8)
        .map(|n| Ipv4Addr::new(10, 1, 0, n).into())
        .collect();
    let given = thread::scope(|scope| {
        let worker = |thread| {
            let (scene, candidates) = (&scene, &candidates);
            scope.spawn(move || {
                let one = |n| {
                    let key = key(&format!("c{thread}-{n}"));
                    let given = scene.add(&key, candidates);
                    // Half of them come and go at once.
                    if n % 2 == 0 {
                        assert_eq!(scene.release(&key).len(), 1);
                        return None;
                    }
                    given
                };
                (0..EACH).filter_map(one).collect::<Vec<_>>()
            })
        };
        let workers: Vec<_> = (0..THREADS).map(worker).collect();
        let all = workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap());
        all.collect::<Vec<IpAddr>>()
    });
    let distinct: BTreeSet<IpAddr> = given.iter().copied().collect();
    assert_eq!(given.len(), THREADS * EACH / 2);
    assert_eq!(distinct.len(), given.len());
    assert_eq!(scene.files().len(), given.len());
    assert_eq!(scene.index().len(), given.len() + 1);
}

/// One thing somebody does to the pool.
#[derive(Debug, Clone)]
enum Act {
    Add(u8),
    Release(u8),
    /// The reference's: without the index.
    ForeignAdd(u8),
    ForeignRelease(u8),
    /// An ADD killed after its lease, before the index; by the reference, before the
    /// lease's content.
    KilledAdd(u8),
    KilledForeignAdd,
    Collect(Vec<u8>),
    LoseIndex,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..6u8).prop_map(Act::Add),
        3 => (0..6u8).prop_map(Act::Release),
        2 => (0..6u8).prop_map(Act::ForeignAdd),
        2 => (0..6u8).prop_map(Act::ForeignRelease),
        1 => (0..6u8).prop_map(Act::KilledAdd),
        1 => Just(Act::KilledForeignAdd),
        1 => prop::collection::vec(0..6u8, 0..6).prop_map(Act::Collect),
        1 => Just(Act::LoseIndex),
    ]
}

/// Lets the kernel's clock tick: before Linux 6.13 two changes of a directory within
/// one tick (up to 10 ms) have one time, and the index cannot tell them apart.
fn tick() {
    thread::sleep(Duration::from_millis(11));
}

/// Who has what, as it should be.
type Model = BTreeMap<IpAddr, Key>;

/// The addresses there are.
fn all() -> impl Iterator<Item = IpAddr> + Clone {
    (2..7u8).map(|n| Ipv4Addr::new(10, 1, 0, n).into())
}

fn held(model: &Model, of: &Key) -> bool {
    model.values().any(|key| key == of)
}

fn drive_add(scene: &Scene, model: &mut Model, key: &Key, killed: bool) {
    let mut locked = scene.lock();
    locked.settle().unwrap();
    let owned = !locked.owned(key).unwrap().is_empty();
    assert_eq!(owned, held(model, key), "a second ADD is noticed");
    if owned {
        return;
    }
    if killed {
        tick();
    }
    let given = locked.reserve(key, all()).unwrap();
    assert_eq!(
        given.is_none(),
        model.len() == all().count(),
        "free or full"
    );
    if !killed {
        locked.note(key, given.as_slice());
    }
    if let Some(address) = given {
        assert_eq!(model.insert(address, key.clone()), None, "given twice");
    }
}

fn drive(scene: &Scene, model: &mut Model, act: Act) {
    let key = |n: u8| key(&format!("c{n}"));
    let free = |scene: &Scene| {
        let path = |ip: &IpAddr| !scene.file(&ip.to_string()).exists();
        all().find(path)
    };
    match act {
        Act::Add(n) => drive_add(scene, model, &key(n), false),
        Act::KilledAdd(n) => drive_add(scene, model, &key(n), true),
        Act::Release(n) => {
            scene.lock().release(&key(n)).unwrap();
            model.retain(|_, owner| *owner != key(n));
        }
        Act::ForeignAdd(n) => {
            let _locked = scene.lock();
            tick();
            if let (Some(address), false) = (free(scene), held(model, &key(n))) {
                scene.foreign(&address.to_string(), &Owner::text(&key(n)));
                model.insert(address, key(n));
            }
        }
        Act::ForeignRelease(n) => {
            let _locked = scene.lock();
            tick();
            for lease in scene.pool.leases().unwrap() {
                if lease.owner.is_some_and(|owner| owner.is(&key(n))) {
                    fs::remove_file(&lease.file).unwrap();
                }
            }
            model.retain(|_, owner| *owner != key(n));
        }
        Act::KilledForeignAdd => {
            tick();
            if let Some(address) = free(scene) {
                scene.foreign(&address.to_string(), "");
            }
        }
        Act::Collect(stay) => {
            let stay: Vec<Key> = stay.into_iter().map(key).collect();
            let stays = |owner: &Owner| stay.iter().any(|key| owner.is(key));
            scene.lock().collect(stays).unwrap();
            model.retain(|_, owner| stay.contains(owner));
        }
        Act::LoseIndex => {
            let _may_be_absent = fs::remove_dir_all(scene.root.run.join("berth"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn in_any_order_no_address_is_given_twice_or_lost(acts in prop::collection::vec(act(), 1..40)) {
        let scene = scene();
        let mut model = Model::new();
        for act in acts {
            drive(&scene, &mut model, act);
            let owners = scene.pool.leases().unwrap().into_iter();
            let owned: BTreeMap<IpAddr, Owner> = owners
                .filter_map(|lease| Some((lease.address, lease.owner?)))
                .collect();
            prop_assert_eq!(owned.len(), model.len());
            for (address, key) in &model {
                prop_assert!(owned.get(address).is_some_and(|owner| owner.is(key)));
            }
        }
    }

    #[test]
    fn any_content_has_one_meaning(content in prop::collection::vec(any::<u8>(), 0..40)) {
        let key = key("c1");
        let owner = Owner::parse(&content);
        let text = String::from_utf8_lossy(&content).trim().to_owned();
        prop_assert_eq!(owner.is_none(), text.is_empty());
        let is = owner.is_some_and(|owner| owner.is(&key));
        prop_assert_eq!(is, text == Owner::text(&key));
    }
}

#[test]
fn every_pool_in_the_usual_place_is_settled_once_a_boot() {
    let scene = scene();
    let other = Pool::new(&scene.root, None, "red");
    scene.outdated("10.1.0.2", "c1\r\neth0");
    scene.foreign("10.1.0.3", "c2\r\neth0");
    scene.foreign(LOCK, "");
    fs::create_dir_all(other.dir()).unwrap();
    for name in [LOCK, "10.2.0.2"] {
        fs::copy(scene.file("10.1.0.3"), other.dir().join(name)).unwrap();
    }
    // Neither a pool nor in the way of one.
    fs::create_dir_all(other.dir().with_file_name("empty")).unwrap();
    fs::write(other.dir().with_file_name("file"), "").unwrap();

    let busy = other.lock(LONG).unwrap();
    settle_all(&scene.root, Duration::ZERO).unwrap();
    drop(busy);
    assert_eq!(scene.files(), map(&[("10.1.0.3", "c2\r\neth0")]));
    assert_eq!(scene.index()[".boot"], BOOT);
    assert!(!scene.root.run.join("berth/ipam/red").exists(), "in use");

    settle_all(&scene.root, LONG).unwrap();
    assert!(scene.root.run.join("berth/ipam/red/.boot").is_symlink());
    assert!(other.dir().join("10.2.0.2").exists());
}
