use super::*;
use berth_kernel::NetSysfs;
use berth_state::{Claims, LockName, Locks, Writer};
use std::path::Path;
use std::time::Duration;

fn set(list: &str) -> CpuSet {
    list.parse().unwrap()
}

/// A step to `to`, taken.
fn take(root: &Root, knob: &Knob, to: &Value, reach: &mut Reach) -> Result<Written> {
    let step = Step {
        knob: knob.clone(),
        from: Value::Unset,
        to: to.clone(),
        owner: None,
        why: String::new(),
    };
    write(root, &step, reach)
}

fn value(list: &str) -> Value {
    Value::Set(set(list))
}

/// Interrupt 45 and an interface with two receive queues; processes are the machine's.
fn tree() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    for (path, text) in [
        (root.proc.join("irq/default_smp_affinity"), "ff\n"),
        (root.proc.join("irq/45/smp_affinity_list"), "0\n"),
        (root.sys.join("kernel/irq/45/actions"), "net1-rx-0\n"),
        (root.sys.join("class/net/net1/queues/rx-0/rps_cpus"), "00\n"),
        (root.sys.join("class/net/net1/queues/tx-0/xps_cpus"), "00\n"),
    ] {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    (dir, root)
}

fn reach(root: &Root) -> Reach {
    let mut reach = Reach::default();
    let sysfs = NetSysfs::at(root).unwrap();
    reach.namespaces.known(7, Some(sysfs));
    reach.namespaces.known(8, None);
    reach
}

fn rps(netns: u64, queue: u32) -> Knob {
    Knob::Rps {
        netns,
        interface: "net1".parse().unwrap(),
        queue,
    }
}

fn xps(netns: u64) -> Knob {
    Knob::Xps {
        netns,
        interface: "net1".parse().unwrap(),
        queue: 0,
    }
}

#[test]
fn what_is_written_is_read() {
    let (_dir, root) = tree();
    let reach = &mut reach(&root);
    for (knob, was, wish) in [
        (Knob::Irq { irq: 45 }, "0", "2"),
        (Knob::DefaultIrq, "0-7", "0-1"),
        (rps(7, 0), "", "4-5"),
        (xps(7), "", "4-5"),
    ] {
        assert_eq!(read(&root, &knob, reach), Ok(Some(value(was))), "{knob}");
        let done = take(&root, &knob, &value(wish), reach);
        assert_eq!(done, Ok(Written::Done), "{knob}");
        assert_eq!(read(&root, &knob, reach), Ok(Some(value(wish))), "{knob}");
    }
}

#[test]
fn what_is_gone_is_none_and_left() {
    let (_dir, root) = tree();
    let reach = &mut reach(&root);
    for knob in [Knob::Irq { irq: 99 }, rps(7, 5), rps(8, 0), xps(8)] {
        assert_eq!(read(&root, &knob, reach), Ok(None), "{knob}");
        let left = take(&root, &knob, &value("1"), reach).unwrap();
        assert!(matches!(left, Written::Left(_)), "{knob}: {left:?}");
    }
}

#[test]
fn an_interrupt_known_to_be_fixed_is_not_asked_again() {
    let (_dir, root) = tree();
    let reach = &mut reach(&root);
    let names = vec!["net1-rx-0".to_owned()];
    reach.fixed.learn(45, names, "managed".into());
    let knob = Knob::Irq { irq: 45 };
    let left = take(&root, &knob, &value("2"), reach).unwrap();
    assert_eq!(left, Written::Stays(45, "managed".into()));
    assert_eq!(read(&root, &knob, reach), Ok(Some(value("0"))));
}

#[test]
fn a_vfs_interrupt_moves_only_while_its_attachment_has_the_vf() {
    let (_dir, mut root) = tree();
    let vf: PciAddr = "0000:01:10.2".parse().unwrap();
    let key: Key = "net/a:net1".parse().unwrap();
    let reach = &mut reach(&root);
    reach.renew([(45, (vf, key.clone()))].into());
    let knob = Knob::Irq { irq: 45 };
    let try_it = |root: &Root, reach: &mut Reach| take(root, &knob, &value("2"), reach).unwrap();
    let left = try_it(&root, reach);
    assert!(
        matches!(&left, Written::Left(why) if why.contains("not net/a:net1's any more")),
        "{left:?}"
    );
    let host = Root {
        proc: "/proc".into(),
        ..root.clone()
    };
    let writer = Writer::current(&host).unwrap();
    Claims::new(&root).claim(vf, &key, writer).unwrap();
    let dels = Locks::new(&root);
    let held = dels
        .acquire(&LockName::Vf(vf), &key, Duration::ZERO)
        .unwrap();
    let left = try_it(&root, reach);
    assert!(
        matches!(&left, Written::Left(why) if why.contains("tried again")),
        "{left:?}"
    );
    assert_eq!(read(&root, &knob, reach), Ok(Some(value("0"))));
    drop(held);
    assert_eq!(try_it(&root, reach), Written::Done);
    root.run = Path::new("/dev/null/run").to_owned();
    assert!(matches!(try_it(&root, reach), Written::Left(_)));
}

#[test]
fn other_values_are_refused_by_name() {
    let (_dir, root) = tree();
    let reach = &mut reach(&root);
    let error = take(&root, &Knob::DefaultIrq, &Value::Unset, reach).unwrap_err();
    assert!(error.to_string().contains("default affinity"), "{error}");
}
