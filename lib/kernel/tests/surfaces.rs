//! The surfaces on the running kernel, in namespaces of their own. Without root they
//! fail: a test that is run must prove something.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests fail by panicking too"
)]

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use berth_kernel::kconfig::{Kconfig, Setting};
use berth_kernel::{CpuSet, IfName, Kind, MacAddr, NetNs, NetSysfs, Root};
use berth_kernel::{Release, announce, cpu, process, sysctl};

/// Two namespaces with a veth pair between them: `here` has `bt0` (two queues each
/// way), `there` has `bt1`.
struct Pair {
    here: Space,
    there: Space,
    bt0: IfName,
}

/// A named namespace, removed when dropped.
struct Space {
    name: String,
    ns: NetNs,
}

impl Space {
    fn new(test: &str, side: &str) -> Self {
        let name = format!("bk-{}-{test}-{side}", std::process::id());
        ip(&["netns", "add", &name]);
        let ns = NetNs::open(&PathBuf::from("/run/netns").join(&name)).unwrap();
        Self { name, ns }
    }

    fn ip(&self, args: &[&str]) {
        ip(&[&["-n", &self.name], args].concat());
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let removed = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
        if !removed.is_ok_and(|status| status.success()) {
            eprintln!("namespace {} is left behind", self.name);
        }
    }
}

impl Pair {
    fn new(test: &str) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test needs root");
        let (here, there) = (Space::new(test, "a"), Space::new(test, "b"));
        let queues = ["numtxqueues", "2", "numrxqueues", "2"];
        let peer = ["type", "veth", "peer", "name", "bt1", "netns", &there.name];
        let add = [&["link", "add", "bt0"][..], &queues, &peer].concat();
        here.ip(&add);
        here.ip(&["link", "set", "bt0", "up"]);
        there.ip(&["link", "set", "bt1", "up"]);
        let bt0 = "bt0".parse().unwrap();
        Self { here, there, bt0 }
    }

    fn sysfs(&self) -> NetSysfs {
        NetSysfs::of(&self.here.ns).unwrap()
    }
}

fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {errors}", args.join(" "));
}

fn set(list: &str) -> CpuSet {
    list.parse().unwrap()
}

#[test]
#[ignore = "kernel: root"]
fn rps_of_a_veth_is_set_from_outside_its_namespace() {
    let pair = Pair::new("rps");
    let sysfs = pair.sysfs();
    assert_eq!(sysfs.rx_queues(&pair.bt0), Ok(vec![0, 1]));
    assert_eq!(sysfs.rps_cpus(&pair.bt0, 0), Ok(set("")));
    let online = cpu::online(&Root::host()).unwrap();
    sysfs.set_rps_cpus(&pair.bt0, 0, &online).unwrap();
    assert_eq!(sysfs.rps_cpus(&pair.bt0, 0), Ok(online.clone()));
    assert_eq!(
        sysfs.rps_cpus(&pair.bt0, 1),
        Ok(set("")),
        "another queue changed"
    );
    // A second view, made by somebody else's tool, agrees.
    let path = "/sys/class/net/bt0/queues/rx-0/rps_cpus";
    let seen = Command::new("ip")
        .args(["netns", "exec", &pair.here.name, "cat", path])
        .output()
        .unwrap();
    let seen = String::from_utf8(seen.stdout).unwrap();
    assert_eq!(CpuSet::from_mask(&seen), Ok(online));
    sysfs.set_rps_cpus(&pair.bt0, 0, &set("")).unwrap();
    assert_eq!(sysfs.rps_cpus(&pair.bt0, 0), Ok(set("")));
}

/// As a container runtime does it: sysfs mounted read-only inside the namespace.
#[test]
#[ignore = "kernel: root"]
fn a_containers_read_only_sysfs_is_no_obstacle_and_stays_read_only() {
    let pair = Pair::new("readonly");
    // Not `ip netns exec`: that mounts the namespace's sysfs itself, writable.
    let net = format!("--net={}", pair.here.ns.path().display());
    let script = "mount -t sysfs -o ro sysfs /sys; echo up; exec sleep 60";
    let mut container = Command::new("nsenter")
        .args([&net, "unshare", "-m", "sh", "-ec", script])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 3];
    std::io::Read::read_exact(container.stdout.as_mut().unwrap(), &mut line).unwrap();
    let sysfs = pair.sysfs();
    sysfs.set_rps_cpus(&pair.bt0, 0, &set("0")).unwrap();
    assert_eq!(sysfs.rps_cpus(&pair.bt0, 0).unwrap(), set("0"));
    let pid = container.id().to_string();
    let attempt = "echo 0 >/sys/class/net/bt0/queues/rx-0/rps_cpus";
    let written = Command::new("nsenter")
        .args(["-t", &pid, "-m", "-n", "sh", "-c", attempt])
        .output()
        .unwrap();
    container.kill().unwrap();
    container.wait().unwrap();
    assert!(!written.status.success());
    let errors = String::from_utf8_lossy(&written.stderr);
    assert!(errors.contains("Read-only"), "{errors}");
    assert_eq!(sysfs.rps_cpus(&pair.bt0, 0).unwrap(), set("0"));
}

#[test]
#[ignore = "kernel: root"]
fn a_cpu_the_machine_cannot_have_is_refused_in_words() {
    let pair = Pair::new("big");
    let possible = cpu::possible(&Root::host()).unwrap();
    let beyond = possible.last().unwrap() + 1;
    let wish = CpuSet::from_iter([0, beyond]);
    let error = pair.sysfs().set_rps_cpus(&pair.bt0, 0, &wish).unwrap_err();
    let text = error.to_string();
    // In the last group the kernel says so, else the mask is too narrow to ask.
    let reason = if beyond.is_multiple_of(32) {
        format!("CPU {beyond} does not fit")
    } else {
        format!("this kernel can have no other CPUs than {possible}")
    };
    assert!(text.contains(&reason), "{text}");
    let object = "class/net/bt0/queues/rx-0/rps_cpus of namespace /run/netns/bk-";
    assert!(text.contains(object), "{text}");
    assert_eq!(pair.sysfs().rps_cpus(&pair.bt0, 0), Ok(set("")));
}

#[test]
#[ignore = "kernel: root"]
fn flow_counts_and_xps_are_set_and_read_back() {
    let pair = Pair::new("xps");
    let sysfs = pair.sysfs();
    sysfs.set_rps_flow_cnt(&pair.bt0, 1, 100).unwrap();
    assert_eq!(sysfs.rps_flow_cnt(&pair.bt0, 1), Ok(128));
    sysfs.set_rps_flow_cnt(&pair.bt0, 1, 0).unwrap();
    assert_eq!(sysfs.rps_flow_cnt(&pair.bt0, 1), Ok(0));
    assert_eq!(sysfs.tx_queues(&pair.bt0), Ok(vec![0, 1]));
    sysfs.set_xps_cpus(&pair.bt0, 1, &set("0")).unwrap();
    assert_eq!(sysfs.xps_cpus(&pair.bt0, 1), Ok(set("0")));
    assert_eq!(sysfs.numa_node(&pair.bt0), Ok(None));
    let one = ["numtxqueues", "1", "numrxqueues", "1", "type", "veth"];
    pair.here.ip(&[&["link", "add", "bt2"][..], &one].concat());
    let error = sysfs.xps_cpus(&"bt2".parse().unwrap(), 0).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(
        error.to_string().contains("one transmit queue only"),
        "{error}"
    );
}

#[test]
#[ignore = "kernel: root"]
fn the_view_is_the_namespaces_and_not_the_hosts() {
    let pair = Pair::new("view");
    let peer = "bt1".parse().unwrap();
    assert_eq!(
        pair.sysfs().rx_queues(&peer).unwrap_err().kind(),
        Kind::NotFound
    );
    assert!(
        NetSysfs::of(&pair.there.ns)
            .unwrap()
            .rx_queues(&peer)
            .is_ok()
    );
    let host = NetSysfs::at(&Root::host()).unwrap();
    assert_eq!(
        host.rx_queues(&pair.bt0).unwrap_err().kind(),
        Kind::NotFound
    );
    // It outlives the namespace's name, and mounts nothing anyone else can see.
    let before = mounted();
    let sysfs = pair.sysfs();
    assert_eq!(mounted(), before);
    ip(&["netns", "del", &pair.here.name]);
    assert!(sysfs.rx_queues(&pair.bt0).is_ok());
    ip(&["netns", "add", &pair.here.name]);
}

/// The sysfs mounts this process sees.
fn mounted() -> usize {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.matches(" - sysfs ").count()
}

#[test]
#[ignore = "kernel: root"]
fn a_sysctl_is_set_in_its_namespace_only() {
    let pair = Pair::new("ctl");
    let root = Root::host();
    let key = "net/ipv4/conf/bt0/arp_notify";
    pair.here
        .ns
        .run(|| sysctl::set(&root, key, "1"))
        .unwrap()
        .unwrap();
    let now = pair.here.ns.run(|| sysctl::get(&root, key)).unwrap();
    assert_eq!(now.as_deref(), Ok("1"));
    assert_eq!(sysctl::get(&root, key).unwrap_err().kind(), Kind::NotFound);
    let key = "net/ipv4/conf/default/arp_notify";
    let here = sysctl::get(&root, key).unwrap();
    let other = if here == "0" { "1" } else { "0" };
    pair.here
        .ns
        .run(|| sysctl::set(&root, key, other))
        .unwrap()
        .unwrap();
    assert_eq!(sysctl::get(&root, key), Ok(here), "the host's own changed");
    let refused = pair
        .here
        .ns
        .run(|| sysctl::set(&root, key, "many"))
        .unwrap();
    assert_eq!(refused.unwrap_err().kind(), Kind::Refused);
}

#[test]
#[ignore = "kernel: root"]
fn the_peer_receives_every_announcement() {
    let pair = Pair::new("say");
    let socket = pair.there.ns.run(listen).unwrap();
    let index = index_of(&pair.here.ns, "bt0");
    let mac: MacAddr = "02:00:5e:10:00:01".parse().unwrap();
    let addresses: Vec<IpAddr> = ["192.0.2.5", "2001:db8::5"]
        .map(|a| a.parse().unwrap())
        .into();
    announce::announce(&pair.here.ns, index, mac, &addresses).unwrap();
    for address in addresses {
        let expected = announce::frame(mac, address).unwrap();
        assert!(seen(&socket, &expected), "{address} was not announced");
    }
}

#[test]
#[ignore = "kernel: root"]
fn a_peer_learns_the_new_mac_from_the_announcement() {
    let pair = Pair::new("arp");
    pair.there
        .ip(&["addr", "add", "192.0.2.1/24", "dev", "bt1"]);
    let old = [
        "neigh",
        "add",
        "192.0.2.5",
        "lladdr",
        "02:00:5e:00:00:01",
        "dev",
        "bt1",
    ];
    pair.there.ip(&[&old[..], &["nud", "stale"]].concat());
    let old = [
        "neigh",
        "add",
        "2001:db8::5",
        "lladdr",
        "02:00:5e:00:00:01",
        "dev",
        "bt1",
    ];
    pair.there
        .ip(&["addr", "add", "2001:db8::1/64", "dev", "bt1", "nodad"]);
    pair.there.ip(&[&old[..], &["nud", "stale"]].concat());
    let mac: MacAddr = "02:00:5e:10:00:01".parse().unwrap();
    let index = index_of(&pair.here.ns, "bt0");
    let addresses: Vec<IpAddr> = ["192.0.2.5", "2001:db8::5"]
        .map(|a| a.parse().unwrap())
        .into();
    announce::announce(&pair.here.ns, index, mac, &addresses).unwrap();
    for address in addresses {
        let shown = Command::new("ip")
            .args([
                "-n",
                &pair.there.name,
                "neigh",
                "show",
                &address.to_string(),
            ])
            .output()
            .unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains(&mac.to_string()), "{shown}");
    }
}

#[test]
#[ignore = "kernel: root"]
fn an_interface_that_is_down_is_named() {
    let pair = Pair::new("down");
    let index = index_of(&pair.here.ns, "bt0");
    pair.here.ip(&["link", "set", "bt0", "down"]);
    let address = ["192.0.2.5".parse().unwrap()];
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    let error = announce::announce(&pair.here.ns, index, mac, &address).unwrap_err();
    assert_eq!(error.errno, Some(nix::errno::Errno::ENETDOWN));
    let object = format!("interface {index} of namespace /run/netns/");
    assert!(error.object.starts_with(&object), "{error}");
}

fn index_of(ns: &NetNs, name: &str) -> u32 {
    ns.run(|| nix::net::if_::if_nametoindex(name))
        .unwrap()
        .unwrap()
}

/// A socket of the calling thread's namespace that sees whatever arrives.
fn listen() -> std::net::UdpSocket {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    let protocol = SockProtocol::EthAll;
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        protocol,
    );
    // Only read and the time limit are used, which are the same for any socket.
    let socket = std::net::UdpSocket::from(socket.unwrap());
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    socket
}

/// Whether `expected` arrives before two quiet seconds; other frames pass by.
fn seen(socket: &std::net::UdpSocket, expected: &[u8]) -> bool {
    let mut buffer = [0; 2048];
    while let Ok(len) = socket.recv(&mut buffer) {
        if &buffer[..len] == expected {
            return true;
        }
    }
    false
}

#[test]
#[ignore = "kernel: root"]
fn the_hosts_cpu_files_agree_with_each_other() {
    let root = Root::host();
    let online = cpu::online(&root).unwrap();
    assert!(online.is_subset(&cpu::possible(&root).unwrap()));
    let nodes = cpu::nodes(&root).unwrap();
    let all = nodes.iter().fold(CpuSet::new(), |all, node| {
        all.union(&cpu::of_node(&root, *node).unwrap())
    });
    assert_eq!(all, online, "the nodes together have every online CPU");
    for cpu in online.iter() {
        assert!(cpu::siblings(&root, cpu).unwrap().contains(cpu));
    }
}

#[test]
#[ignore = "kernel: root"]
fn what_the_kernel_says_of_itself_agrees_with_what_it_does() {
    let root = Root::host();
    let release = Release::running(&root).unwrap();
    let uname = nix::sys::utsname::uname().unwrap();
    assert_eq!(release.as_str(), uname.release().to_str().unwrap());
    // A test above makes a veth pair, so a known configuration must have the driver.
    let config = Kconfig::running(&root, &release).unwrap();
    let expected = [Setting::BuiltIn, Setting::Module];
    match config.source() {
        Some(source) => assert!(expected.contains(&config.get("VETH")), "{source:?}"),
        None => assert_eq!(config.get("VETH"), Setting::Unknown),
    }
    let own = std::fs::read_to_string("/proc/self/comm").unwrap();
    let pids = process::named(&root, own.trim()).unwrap();
    assert!(pids.contains(&std::process::id()), "{pids:?}");
}
