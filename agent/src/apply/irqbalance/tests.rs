use super::*;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

fn banned(cpus: &str, irqs: &[u32]) -> Banned {
    Banned {
        cpus: cpus.parse().unwrap(),
        irqs: irqs.iter().copied().collect(),
    }
}

/// An irqbalance of pid 500: it says what it is told to say, and remembers the orders.
struct Daemon {
    _dir: tempfile::TempDir,
    root: Root,
    setup: Arc<Mutex<String>>,
    orders: Arc<Mutex<Vec<String>>>,
    _thread: Option<JoinHandle<()>>,
}

impl Daemon {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        let mut daemon = Self {
            _dir: dir,
            root,
            setup: Arc::default(),
            orders: Arc::default(),
            _thread: None,
        };
        daemon.says("", "0");
        daemon.process(1000);
        let socket = daemon.root.run.join("irqbalance/irqbalance500.sock");
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        let (setup, orders) = (daemon.setup.clone(), daemon.orders.clone());
        daemon._thread = Some(std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut command = [0; 4096];
                let length = stream.read(&mut command).unwrap();
                let command = String::from_utf8(command[..length].to_vec()).unwrap();
                if command == "setup" {
                    let answer = setup.lock().unwrap().clone();
                    stream.write_all(answer.as_bytes()).unwrap();
                } else {
                    orders.lock().unwrap().push(command);
                }
            }
        }));
        daemon
    }

    fn process(&self, start_time: u64) {
        let proc = self.root.proc.join("500");
        std::fs::create_dir_all(&proc).unwrap();
        std::fs::write(proc.join("comm"), "irqbalance\n").unwrap();
        let zeros = "0 ".repeat(18);
        let stat = format!("500 (irqbalance) S {zeros}{start_time} 0\n");
        std::fs::write(proc.join("stat"), stat).unwrap();
    }

    fn says(&self, irqs: &str, mask: &str) {
        *self.setup.lock().unwrap() = format!("SLEEP 10 {irqs} BANNED {mask}");
    }

    fn settle(&self, ban: &Banned) -> Option<Complaint> {
        settle(&self.root, ban).unwrap()
    }

    fn orders(&self) -> Vec<String> {
        std::mem::take(&mut *self.orders.lock().unwrap())
    }
}

const IRQ_45: &str = "IRQ 45 LOAD 0 DIFF 0 CLASS 5";

#[test]
fn it_is_told_once_seen_to_obey_and_put_back() {
    let daemon = Daemon::new();
    daemon.says("", "8000");
    let ban = banned("2-3", &[45]);
    assert_eq!(daemon.settle(&ban), None);
    let told = ["settings ban irqs 45", "settings cpus 2-3,15"];
    assert_eq!(daemon.orders(), told);
    daemon.says(IRQ_45, "800c");
    assert_eq!(daemon.settle(&ban), None);
    assert_eq!(daemon.settle(&ban), None);
    assert!(daemon.orders().is_empty());
    // Somebody else's order is overruled.
    daemon.says(IRQ_45, "8000");
    assert_eq!(daemon.settle(&ban), None);
    assert_eq!(daemon.orders(), ["settings cpus 2-3,15"]);
    daemon.says(IRQ_45, "800c");
    assert_eq!(daemon.settle(&Banned::default()), None);
    assert_eq!(
        daemon.orders(),
        ["settings ban irqs NONE", "settings cpus 15"]
    );
    daemon.says("", "8000");
    assert_eq!(daemon.settle(&Banned::default()), None);
    assert!(!file(&daemon.root).exists());
    assert_eq!(daemon.settle(&Banned::default()), None);
    assert!(daemon.orders().is_empty());
}

#[test]
fn nothing_banned_before_is_its_own_configuration_again() {
    let daemon = Daemon::new();
    daemon.settle(&banned("2", &[]));
    daemon.says("", "4");
    daemon.settle(&banned("2", &[]));
    daemon.orders();
    daemon.settle(&Banned::default());
    assert_eq!(daemon.orders(), ["settings cpus NULL"]);
}

#[test]
fn one_that_does_not_obey_is_complained_of_with_a_remedy() {
    let daemon = Daemon::new();
    let ban = banned("2-3", &[]);
    assert_eq!(daemon.settle(&ban), None);
    let mut told = load(&daemon.root).unwrap().unwrap();
    told.since -= 3 * 10 + 5;
    save(&daemon.root, &told).unwrap();
    let complaint = daemon.settle(&ban).unwrap();
    assert_eq!(complaint.object, "irqbalance (process 500)");
    assert!(
        complaint.reason.contains("told to keep off CPUs 2-3"),
        "{complaint:?}"
    );
    assert!(
        complaint.remedy.contains("IRQBALANCE_BANNED_CPULIST=2-3"),
        "{complaint:?}"
    );
    assert_eq!(daemon.orders().len(), 2, "told again");
    daemon.says("", "c");
    assert_eq!(daemon.settle(&ban), None);
}

#[test]
fn a_new_irqbalance_is_told_anew() {
    let daemon = Daemon::new();
    daemon.settle(&banned("2-3", &[]));
    daemon.says("", "c");
    daemon.settle(&banned("2-3", &[]));
    daemon.orders();
    daemon.process(2000);
    daemon.says("", "1");
    daemon.settle(&banned("2-3", &[]));
    assert_eq!(daemon.orders(), ["settings cpus 0,2-3"]);
    std::fs::remove_dir_all(daemon.root.proc.join("500")).unwrap();
    assert_eq!(daemon.settle(&banned("2-3", &[])), None);
    assert!(!file(&daemon.root).exists());
}

#[test]
fn one_without_a_socket_or_with_odd_answers_is_complained_of() {
    let daemon = Daemon::new();
    *daemon.setup.lock().unwrap() = "hello".into();
    let complaint = daemon.settle(&banned("2-3", &[])).unwrap();
    assert!(
        complaint.reason.contains("not understood: \"hello\""),
        "{complaint:?}"
    );
    std::fs::remove_file(daemon.root.run.join("irqbalance/irqbalance500.sock")).unwrap();
    let complaint = daemon.settle(&banned("2-3", &[])).unwrap();
    assert!(
        complaint.reason.contains("irqbalance500.sock"),
        "{complaint:?}"
    );
    assert_eq!(
        daemon.settle(&Banned::default()),
        None,
        "nothing is to be kept off"
    );
}

#[test]
fn its_answer_is_read() {
    let answer = "SLEEP 7 IRQ 45 LOAD 10 DIFF 3 CLASS 5 IRQ 46 LOAD 0 DIFF 0 CLASS 0 \
                  BANNED 00000001,0000000f";
    let setup = Setup::parse(answer).unwrap();
    assert_eq!(
        (setup.interval, setup.banned),
        (7, banned("0-3,32", &[45, 46]))
    );
    for odd in [
        "",
        "SLEEP x BANNED 1",
        "SLEEP 1 BANNED g",
        "SLEEP 1 IRQ x BANNED 1",
    ] {
        assert!(Setup::parse(odd).is_err(), "{odd}");
    }
}
