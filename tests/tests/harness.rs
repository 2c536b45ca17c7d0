//! Suite `harness`: the harness's own promises, on any machine with root.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use berth_tests::command;
use berth_tests::cpus::{self, Offline};
use berth_tests::{Extent, Need, Node, Result, Snapshot, Space, Tree, Worker, ensure, suite, test};

fn main() -> ExitCode {
    const ROOT: &[Need] = &[Need::Root];
    const LAB: &[Need] = &[Need::CgroupV2, Need::XfsQuota];
    suite(vec![
        test("node_is_empty_and_private", ROOT, node_is_empty),
        test(
            "pods_reach_each_other",
            &[Need::Tool("ping")],
            pods_reach_each_other,
        ),
        test("pod_outlives_its_path", ROOT, pod_outlives_its_path),
        test("frames_are_seen_with_their_tag", ROOT, frames_are_seen),
        test("a_leak_is_named", ROOT, a_leak_is_named),
        test("a_worker_lives_in_its_cgroup", LAB, a_worker_in_its_cgroup),
        test("what_an_agent_leaves_is_named", LAB, what_an_agent_leaves),
    ])
}

fn node_is_empty(node: &Node) -> Result<()> {
    assert_eq!(node.link_names()?, ["lo"]);
    assert_eq!(fs::read_dir("/run")?.count(), 0);
    assert!(!Path::new("/var/lib/cni").exists());
    let configured = fs::read_dir("/etc/berth").into_iter().flatten().count();
    assert_eq!(configured, 0);
    let links = fs::read_dir("/sys/class/net")?.count();
    // The kernel may add `bonding_masters`, a file.
    ensure!(links <= 2, "/sys shows {links} links of another namespace");
    let pids = fs::read_dir("/proc")?.flatten();
    let pids = pids.filter(|e| e.file_name().to_string_lossy().parse::<u32>().is_ok());
    assert_eq!(pids.count(), 2, "pid 1 and this test");
    Ok(())
}

fn pods_reach_each_other(node: &Node) -> Result<()> {
    let near = node.veth_pod("near", "v0", "eth0")?;
    node.ip("addr add 10.9.0.1/24 dev v0")?;
    near.ip("addr add 10.9.0.2/24 dev eth0")?;
    assert!(node.ping("10.9.0.2".parse()?, 2)?.reached());
    assert!(near.ping("10.9.0.1".parse()?, 2)?.reached());
    assert_eq!(near.addresses("eth0")?[0], "10.9.0.2/24");
    assert!(node.ping("10.9.0.3".parse()?, 2)?.isolated());
    node.ip("link set v0 down")?;
    assert!(near.ping("10.9.0.1".parse()?, 2)?.isolated());
    Ok(())
}

fn pod_outlives_its_path(node: &Node) -> Result<()> {
    let pod = node.veth_pod("p", "v0", "eth0")?;
    let cookie = pod.cookie()?;
    pod.unbind()?;
    assert!(!pod.path().exists());
    assert!(pod.has_link("eth0")?);
    pod.bind_to(Path::new("/run/netns/again"))?;
    assert_eq!(pod.cookie()?, cookie);
    assert_ne!(node.pod("other")?.cookie()?, cookie);
    assert_eq!(
        pod.read_sys("class/net/eth0/queues/rx-0/rps_cpus")?
            .trim_matches(['0', ',']),
        ""
    );
    Ok(())
}

fn frames_are_seen(node: &Node) -> Result<()> {
    let pod = node.veth_pod("p", "v0", "eth0")?;
    let seen = pod.capture("eth0")?;
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 9, 0x81, 0x00, 0x40, 0x64, 0x88, 0xb5]);
    frame.resize(64, 0x5a);
    node.send_frame("v0", &frame)?;
    let limit = Duration::from_secs(2);
    let got = seen.until(limit, |f| f.ethertype == 0x88b5)?;
    let got = got.ok_or_else(|| berth_tests::anyhow!("the frame did not arrive"))?;
    assert_eq!(got.vid(), Some(100));
    assert_eq!(got.source, [2, 0, 0, 0, 0, 9]);
    assert_eq!(got.payload.len(), 64 - 18);
    assert!(!got.outgoing);
    Ok(())
}

fn a_leak_is_named(node: &Node) -> Result<()> {
    node.as_before(|| {
        let pod = node.veth_pod("p", "v0", "eth0")?;
        drop(pod);
        Ok(())
    })?;
    let leak = node.as_before(|| {
        node.ip("link add left0 type bridge")?;
        fs::create_dir_all("/run/berth/vf")?;
        fs::write("/run/berth/vf/0000:01:10.0", "owner")?;
        node.write("/proc/sys/net/ipv4/ip_forward", "1")
    });
    let text = leak.err().map(|e| e.to_string()).unwrap_or_default();
    for part in ["link left0", "/run/berth/vf/0000:01:10.0", "ip_forward"] {
        ensure!(text.contains(part), "{part} is not in:\n{text}");
    }
    Ok(())
}

fn a_worker_in_its_cgroup(_node: &Node) -> Result<()> {
    const MIB: u64 = 1 << 20;
    let tree = Tree::create("berth-test-worker")?;
    let cgroup = tree.make("a/b")?;
    cgroup.write("cpuset.cpus", "2-3")?;
    let mut worker = Worker::start(&cgroup)?;
    assert_eq!(worker.allowed()?.0, "2-3");
    worker.spin(3)?;
    std::thread::sleep(Duration::from_secs(2));
    let counted: Vec<u32> = worker.ticks()?.into_keys().collect();
    assert_eq!(counted, [2, 3]);

    worker.hold(8 * MIB, 8 * MIB, (8 * MIB, "/data/xfs/held"))?;
    worker.touch()?;
    for (kind, least) in [("anon", 8 * MIB), ("shmem", 8 * MIB), ("file", 16 * MIB)] {
        let bytes = cgroup.entry("memory.stat", kind)?;
        ensure!(bytes >= least, "{kind} {bytes}");
    }
    assert!(!Path::new("/data/xfs/held").exists());
    let written = worker.write("/run/file", 2 * MIB)?;
    assert_eq!((written.bytes, written.errno), (2 * MIB, None));
    let refused = worker.write("/none/file", MIB);
    let said = refused.err().map(|error| format!("{error:#}"));
    ensure!(
        said.as_ref().is_some_and(|e| e.contains("/none/file")),
        "{said:?}"
    );
    fs::create_dir("/run/many")?;
    assert_eq!(worker.make("/run/many", 5)?, (5, None));
    // The tree goes with what runs in it.
    tree.remove()?;
    assert!(!worker.is_alive()?);
    assert!(!Path::new("/sys/fs/cgroup/berth-test-worker").exists());
    Ok(())
}

fn what_an_agent_leaves(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-left")?;
    let dir = "/data/xfs/berth-test-left";
    fs::create_dir(dir)?;
    let everything = || Snapshot::take(Extent::Everything);
    let before = everything()?;
    let mut offline = Offline::default();
    offline.take(5)?;
    assert!(!cpus::online()?.contains(&5));
    tree.top().write("cpuset.cpus.exclusive", "2-3")?;
    command::run(Command::new("chattr").args(["+P", "-p", "4711", dir]))?;
    let changes = before.diff(&everything()?);
    let named: Vec<&str> = changes.iter().map(|change| change.what.as_str()).collect();
    for what in [
        "cpus /sys/devices/system/cpu/online",
        "cgroup /sys/fs/cgroup/berth-test-left/cpuset.cpus.exclusive",
        "project /data/xfs/berth-test-left",
    ] {
        ensure!(named.contains(&what), "{what} is not in {named:?}");
    }
    offline.bring_back()?;
    tree.top().write("cpuset.cpus.exclusive", "\n")?;
    command::run(Command::new("chattr").args(["-P", "-p", "0", dir]))?;
    before.must_equal(&everything()?)?;
    fs::remove_dir(dir)?;
    Ok(())
}
