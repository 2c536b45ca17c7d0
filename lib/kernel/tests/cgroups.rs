//! Control groups on the running kernel, in cgroups of their own. Without cgroup v2 each
//! test is named as ignored, with the reason; with it and without root they fail.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests fail by panicking too"
)]

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};

use berth_kernel::cgroup::cpuset::PartitionKind;
use berth_kernel::cgroup::io::IoMax;
use berth_kernel::cgroup::iocost::{self, Model, Percent, Qos};
use berth_kernel::cgroup::{Cgroup, Controller, Version, cpu, cpuset, io, memory, pids, version};
use berth_kernel::pressure::{self, Resource};
use berth_kernel::{CpuSet, DeviceNumber, Kind, Limit, Root};
use libtest_mimic::{Arguments, Trial};

const TESTS: [(&str, fn()); 8] = [
    ("a_cgroup_is_looked_at_and_may_vanish", look),
    (
        "controllers_are_given_unless_it_holds_processes",
        controllers,
    ),
    ("cpus_and_nodes_are_set_or_refused_in_words", cpus),
    ("a_partition_says_why_it_is_invalid", partitions),
    ("memory_limits_settle_and_reclaim_answers", memory),
    ("weights_and_counts_agree_with_the_kernel", weights),
    ("disks_are_limited_and_partitions_named", disks),
    ("pressure_is_read_or_said_to_be_off", pressures),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let reason = why_not(&Root::host());
    if let (Some(reason), false) = (&reason, arguments.list) {
        return name_all(reason).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let trial = |(name, run): (&str, fn())| {
        let run = move || {
            run();
            Ok(())
        };
        Trial::test(name, run)
            .with_ignored_flag(true)
            .with_kind("kernel: cgroup2")
    };
    // One after the other: they take CPUs from each other.
    let arguments = Arguments {
        test_threads: Some(1),
        ..arguments
    };
    libtest_mimic::run(&arguments, TESTS.map(trial).into()).exit_code()
}

/// Why the tests cannot run here.
fn why_not(root: &Root) -> Option<String> {
    let version = version(root);
    if version != Version::V2 {
        return Some(format!(
            "no cgroup v2 at {}: {version:?}",
            root.cgroup.display()
        ));
    }
    let top = Cgroup::open(root, Path::new("/")).and_then(|top| top.enabled());
    let all = [
        Controller::Cpu,
        Controller::Cpuset,
        Controller::Io,
        Controller::Memory,
        Controller::Pids,
    ];
    match top {
        Ok(on) => all
            .iter()
            .find(|wanted| !on.contains(wanted))
            .map(|lost| format!("cgroup.subtree_control of the root lacks {lost}")),
        Err(error) => Some(error.to_string()),
    }
}

/// Names every test as ignored, in libtest's words, which scripts/test counts.
fn name_all(reason: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    for (name, _) in TESTS {
        writeln!(out, "test {name} ... ignored, {reason}")?;
    }
    let count = TESTS.len();
    writeln!(
        out,
        "\ntest result: ok. 0 passed; 0 failed; {count} ignored; 0 measured; 0 filtered out"
    )
}

/// A cgroup of the test's own, removed with all below it when dropped.
struct Own {
    group: Cgroup,
    processes: Vec<Child>,
}

impl Own {
    fn new(test: &str) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test needs root");
        let path = format!("/berth-kernel-{}-{test}", std::process::id());
        Self {
            group: made(Path::new(&path)),
            processes: Vec::new(),
        }
    }

    fn below(&self, name: &str) -> Cgroup {
        made(&self.group.path().join(name))
    }

    /// A process that sleeps in `group`.
    fn process_in(&mut self, group: &Cgroup) -> u32 {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        self.processes.push(child);
        std::fs::write(dir(group).join("cgroup.procs"), pid.to_string()).unwrap();
        pid
    }

    fn end_processes(&mut self) {
        for mut child in self.processes.drain(..) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.end_processes();
        let mut all = self.group.descendants().unwrap_or_default();
        all.insert(0, self.group.clone());
        for group in all.iter().rev() {
            if let Err(error) = std::fs::remove_dir(dir(group))
                && error.kind() != std::io::ErrorKind::NotFound
            {
                eprintln!("cgroup {} is left behind: {error}", group.path().display());
            }
        }
    }
}

fn made(path: &Path) -> Cgroup {
    let root = Root::host();
    std::fs::create_dir(root.cgroup.join(path.strip_prefix("/").unwrap())).unwrap();
    Cgroup::open(&root, path).unwrap()
}

fn dir(group: &Cgroup) -> PathBuf {
    let path = group.path().strip_prefix("/").unwrap();
    Root::host().cgroup.join(path)
}

/// What the file reads without this crate.
fn raw(group: &Cgroup, name: &str) -> String {
    let text = std::fs::read_to_string(dir(group).join(name)).unwrap();
    text.trim().to_owned()
}

fn set(list: &str) -> CpuSet {
    list.parse().unwrap()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: berth_kernel::Result<T>, kind: Kind, words: &[&str]) {
    let error = result.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for word in words {
        assert!(text.contains(word), "{text} lacks {word}");
    }
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn look() {
    let mut own = Own::new("look");
    let (group, below) = (own.group.clone(), own.below("below"));
    assert_eq!(group.children().unwrap(), std::slice::from_ref(&below));
    assert_eq!(below.chain(), [group.clone(), below.clone()]);
    assert_eq!(group.populated(), Ok(false));
    let pid = own.process_in(&below);
    assert_eq!(group.populated(), Ok(true));
    assert_eq!(group.procs(), Ok(vec![]));
    assert_eq!(below.procs(), Ok(vec![pid]));
    let first = below.inode().unwrap();
    own.end_processes();
    std::fs::remove_dir(dir(&below)).unwrap();
    refused(below.procs(), Kind::NotFound, &["no such cgroup"]);
    refused(
        cpuset::set_cpus(&below, &set("0")),
        Kind::NotFound,
        &["below"],
    );
    refused(memory::current(&below), Kind::NotFound, &["below"]);
    assert_ne!(own.below("below").inode().unwrap(), first);
    // Of a threaded cgroup the kernel does not tell the processes.
    std::fs::write(dir(&below).join("cgroup.type"), "threaded").unwrap();
    let file = dir(&below).join("cgroup.procs");
    assert!(std::fs::read_to_string(file).is_err());
    assert_eq!(below.procs(), Ok(vec![]));
    refused(
        group.enable(&[Controller::Memory]),
        Kind::Unsupported,
        &["threaded"],
    );
}

fn controllers() {
    let mut own = Own::new("control");
    let (group, below) = (own.group.clone(), own.below("below"));
    assert!(group.controllers().unwrap().contains(&Controller::Io));
    assert_eq!(group.enabled(), Ok(BTreeSet::new()));
    refused(
        cpu::weight(&below),
        Kind::Unsupported,
        &["+cpu", "subtree_control"],
    );
    refused(
        below.enable(&[Controller::Cpu]),
        Kind::Unsupported,
        &["+cpu"],
    );
    group.enable(&[Controller::Cpu]).unwrap();
    assert_eq!(group.enabled(), Ok(BTreeSet::from([Controller::Cpu])));
    assert_eq!(cpu::weight(&below), Ok(100));
    group
        .enable(&[Controller::Memory, Controller::Cpu])
        .unwrap();
    let pid = own.process_in(&below);
    refused(
        below.enable(&[Controller::Memory]),
        Kind::TryAgain,
        &["EBUSY", "holds processes itself"],
    );
    assert_eq!(below.procs(), Ok(vec![pid]));
}

fn cpus() {
    let mut own = Own::new("cpus");
    let (group, root) = (own.group.clone(), Root::host());
    let most = berth_kernel::cpu::possible(&root).unwrap().last().unwrap();
    cpuset::set_cpus(&group, &set("0-1")).unwrap();
    assert_eq!(raw(&group, "cpuset.cpus"), "0-1");
    assert_eq!(cpuset::effective_cpus(&group), Ok(set("0-1")));
    assert_eq!(cpuset::effective(&root, group.path()), Ok(set("0-1")));
    refused(
        cpuset::set_cpus(&group, &CpuSet::from_iter([most + 1])),
        Kind::Refused,
        &["ERANGE", "cannot have some of these CPUs"],
    );
    refused(
        cpuset::set_mems(&group, &set("63")),
        Kind::Refused,
        &["nodes"],
    );
    cpuset::set_mems(&group, &set("0")).unwrap();
    assert_eq!(cpuset::effective_mems(&group), Ok(set("0")));
    own.process_in(&group);
    let at_least_one = &["ENOSPC", "at least one"];
    refused(
        cpuset::set_cpus(&group, &set("")),
        Kind::Refused,
        at_least_one,
    );
    refused(
        cpuset::set_mems(&group, &set("")),
        Kind::Refused,
        at_least_one,
    );
    assert_eq!(cpuset::cpus(&group), Ok(set("0-1")));
    own.end_processes();
    cpuset::set_cpus(&group, &set("")).unwrap();
    cpuset::set_mems(&group, &set("")).unwrap();
    assert_eq!(raw(&group, "cpuset.cpus"), "");
}

fn partitions() {
    let own = Own::new("split");
    let group = own.group.clone();
    let all = cpuset::root_effective(&Root::host()).unwrap();
    let last: Vec<u32> = all.iter().rev().take(3).collect();
    let (mine, theirs) = (
        CpuSet::from_iter([last[0], last[1]]),
        CpuSet::from_iter([last[1]]),
    );
    group.enable(&[Controller::Cpuset]).unwrap();
    let (a, b) = (own.below("a"), own.below("b"));
    cpuset::set_exclusive(&group, &mine).unwrap();
    cpuset::set_exclusive(&a, &mine).unwrap();
    assert_eq!(cpuset::effective_exclusive(&a), Ok(mine.clone()));
    let taken = &["EINVAL", "beside it"];
    refused(cpuset::set_exclusive(&b, &theirs), Kind::Refused, taken);
    cpuset::set_cpus(&a, &mine).unwrap();
    cpuset::set_partition(&a, PartitionKind::Root).unwrap();
    assert_eq!(raw(&a, "cpuset.cpus.partition"), "root");
    let rest = cpuset::root_effective(&Root::host()).unwrap();
    assert_eq!(
        rest,
        all.difference(&mine),
        "the CPUs were not taken from others"
    );
    cpuset::set_partition(&a, PartitionKind::Member).unwrap();
    assert_eq!(cpuset::root_effective(&Root::host()), Ok(all.clone()));
    cpuset::set_exclusive(&a, &set("")).unwrap();
    assert_eq!(raw(&a, "cpuset.cpus.exclusive"), "");
    // Without exclusive CPUs above, the kernel gives none to a partition two levels down.
    cpuset::set_exclusive(&group, &set("")).unwrap();
    let invalid = cpuset::set_partition(&a, PartitionKind::Isolated);
    refused(invalid, Kind::Refused, &["holds it invalid (", "top down"]);
    let live = cpuset::partition(&a).unwrap();
    assert_eq!(live.kind, PartitionKind::Isolated);
    assert!(live.invalid.is_some_and(|why| !why.is_empty()));
    cpuset::set_partition(&a, PartitionKind::Member).unwrap();
    assert_eq!(cpuset::root_effective(&Root::host()), Ok(all));
}

fn memory() {
    let mut own = Own::new("memory");
    let group = own.group.clone();
    memory::set_high(&group, Limit::At(64 << 20)).unwrap();
    memory::set_max(&group, Limit::At((96 << 20) + 5)).unwrap();
    assert_eq!(raw(&group, "memory.max"), (96 << 20).to_string());
    assert_eq!(
        memory::max(&group),
        Ok(memory::settled(Limit::At((96 << 20) + 5)))
    );
    for huge in [u64::MAX, 1 << 63] {
        memory::set_max(&group, Limit::At(huge)).unwrap();
        assert_eq!(memory::max(&group), Ok(Limit::Max));
    }
    assert_eq!(memory::high(&group), Ok(Limit::At(64 << 20)));
    own.process_in(&group);
    assert_eq!(memory::events(&group).unwrap().oom_kill, 0);
    assert_eq!(memory::reclaim(&group, 1 << 40), Ok(false));
    let stat = memory::stat(&group).unwrap();
    let names = raw(&group, "memory.stat");
    for name in [
        "anon ",
        "shmem ",
        "file_writeback ",
        "slab_unreclaimable ",
        "percpu ",
        "sock ",
    ] {
        assert!(names.contains(name), "{name} is not in {names}");
    }
    assert!(stat.kernel_unreclaimable() <= 8 << 20, "{stat:?}");
    // Memory from before a process came is not counted here: one that starts inside is.
    let procs = dir(&group).join("cgroup.procs");
    let script = "echo $$ >\"$0\" && ls / >/dev/null && sleep 0";
    run("sh", &["-c", script, procs.to_str().unwrap()]);
    assert!(memory::peak(&group).unwrap() > 0);
}

fn weights() {
    let mut own = Own::new("weights");
    let group = own.group.clone();
    for weight in [1, 3, 100, 9_999, 10_000] {
        cpu::set_weight(&group, weight).unwrap();
        assert_eq!(raw(&group, "cpu.weight"), weight.to_string());
    }
    assert_eq!(cpu::max(&group), Ok((Limit::Max, 100_000)));
    std::fs::write(dir(&group).join("cpu.idle"), "1").unwrap();
    refused(
        cpu::set_weight(&group, 5),
        Kind::Refused,
        &["EINVAL", "cpu.idle"],
    );
    std::fs::write(dir(&group).join("cpu.idle"), "0").unwrap();
    own.process_in(&group);
    assert!(cpu::stat(&group).is_ok_and(|stat| stat.usage_usec < 60_000_000));
    assert_eq!(pids::current(&group), Ok(1));
    assert_eq!(pids::max(&group), Ok(Limit::Max));
}

/// A disk in memory with a partition, removed with its module when dropped.
struct Disk {
    name: String,
    device: DeviceNumber,
    partition: DeviceNumber,
}

impl Disk {
    fn new() -> Self {
        let adapters = "/sys/bus/pseudo/drivers/scsi_debug";
        assert!(!Path::new(adapters).exists(), "scsi_debug is in use");
        run("modprobe", &["sd_mod"]);
        run("modprobe", &["scsi_debug", "dev_size_mb=16", "num_parts=1"]);
        // The kernel looks for disks and partitions while modprobe is done already.
        let found = (0..100).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            Self::find()
        });
        found.unwrap()
    }

    fn find() -> Option<Self> {
        let number = |path: PathBuf| {
            let text = std::fs::read_to_string(path.join("dev")).ok()?;
            text.trim().parse().ok()
        };
        for entry in std::fs::read_dir("/sys/block").ok()?.flatten() {
            let name = entry.file_name().into_string().ok()?;
            let model = std::fs::read_to_string(entry.path().join("device/model"));
            if model.is_ok_and(|model| model.trim() == "scsi_debug") {
                return Some(Self {
                    device: number(entry.path())?,
                    partition: number(entry.path().join(format!("{name}1")))?,
                    name,
                });
            }
        }
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let removed = Command::new("modprobe").args(["-r", "scsi_debug"]).status();
        if !removed.is_ok_and(|status| status.success()) {
            eprintln!(
                "module scsi_debug and its disk {} are left behind",
                self.name
            );
        }
    }
}

fn disks() {
    let disk = Disk::new();
    let own = Own::new("disks");
    let group = own.group.clone();
    let limits = IoMax {
        wbps: Limit::At(8 << 20),
        riops: Limit::At(100),
        wiops: Limit::At(1 << 40),
        ..IoMax::NONE
    };
    io::set_max(&group, disk.device, &limits).unwrap();
    assert_eq!(io::max(&group, disk.device), Ok(limits.settled()));
    let line = format!("{} rbps=max wbps=8388608 riops=100 wiops=max", disk.device);
    assert_eq!(raw(&group, "io.max"), line);
    io::set_max(&group, disk.device, &IoMax::NONE).unwrap();
    assert_eq!(raw(&group, "io.max"), "");
    let whole = disk.device.to_string();
    let told = &["ENODEV", "is a partition", &whole][..];
    refused(
        io::set_max(&group, disk.partition, &limits),
        Kind::NotFound,
        told,
    );
    refused(
        io::set_weight(&group, disk.partition, Some(9)),
        Kind::NotFound,
        told,
    );
    io::set_default_weight(&group, 50).unwrap();
    assert_eq!(io::default_weight(&group), Ok(50));
    costs(&disk, &group);
    io::stat(&group).unwrap();
}

fn costs(disk: &Disk, group: &Cgroup) {
    let root = Root::host();
    let (device, ios) = (disk.device, 1000);
    let model = Model {
        rbps: 20 << 20,
        rseqiops: ios,
        rrandiops: ios,
        wbps: 10 << 20,
        wseqiops: ios,
        wrandiops: ios,
    };
    let qos = Qos {
        enable: true,
        rpct: Percent(9500),
        rlat_usec: 5000,
        wpct: Percent(0),
        wlat_usec: 25_000,
        min: Percent(5_000),
        max: Percent(15_050),
    };
    assert_eq!(iocost::active(&root, device), Ok(None));
    let early = io::set_weight(group, device, Some(300));
    refused(early, Kind::Unsupported, &["iocost was never on"]);
    iocost::set(&root, device, &model.to_string(), &qos.to_string()).unwrap();
    let (now, quality) = iocost::active(&root, device).unwrap().unwrap();
    assert_eq!((now.parse(), quality.parse()), (Ok(model), Ok(qos)));
    io::set_weight(group, device, Some(300)).unwrap();
    assert_eq!(io::weight(group, device), Ok(Some(300)));
    io::set_weight(group, device, None).unwrap();
    assert_eq!(io::weight(group, device), Ok(None));
    let wrong = iocost::set(&root, device, &now, "enable=1 rpct=200");
    refused(wrong, Kind::Refused, &["EINVAL", "up to 100"]);
    let part = iocost::set(&root, disk.partition, &now, &quality);
    refused(part, Kind::NotFound, &["is a partition"]);
    iocost::turn_off(&root, device).unwrap();
    assert_eq!(iocost::active(&root, device), Ok(None));
    let off = iocost::qos(&root, device).unwrap().unwrap();
    assert!(off.starts_with("enable=0 ctrl=auto"), "{off}");
    let kernels = iocost::model(&root, device).unwrap().unwrap();
    assert!(kernels.starts_with("ctrl=auto"), "{kernels}");
    // What was read can be written, also the kernel's own settings.
    iocost::set(&root, device, &kernels, &off).unwrap();
    assert_eq!(iocost::model(&root, device), Ok(Some(kernels)));
    on_device_mapper(disk, &now, &quality);
}

fn on_device_mapper(disk: &Disk, model: &str, qos: &str) {
    let name = format!("berth-kernel-{}", std::process::id());
    let table = format!("0 2048 linear /dev/{} 0", disk.name);
    run("dmsetup", &["create", &name, "--table", &table]);
    let columns = [
        "info",
        "-c",
        "--noheadings",
        "--separator",
        ":",
        "-o",
        "major,minor",
    ];
    let device = run("dmsetup", &[&columns[..], &[&name]].concat());
    let result = iocost::set(&Root::host(), device.parse().unwrap(), model, qos);
    run("dmsetup", &["remove", &name]);
    refused(result, Kind::Unsupported, &["device-mapper", "disks below"]);
}

fn pressures() {
    let own = Own::new("pressure");
    let root = Root::host();
    for resource in [Resource::Cpu, Resource::Io, Resource::Memory] {
        if !Path::new("/proc/pressure").exists() {
            refused(
                pressure::of_node(&root, resource),
                Kind::Unsupported,
                &["psi=1"],
            );
            continue;
        }
        let node = pressure::of_node(&root, resource).unwrap();
        assert!(node.some.avg10 <= 100.0, "{node:?}");
        let fresh = pressure::of_cgroup(&own.group, resource).unwrap();
        assert_eq!(fresh.some.total_usec, 0, "a new cgroup has waited");
        let switch = dir(&own.group).join("cgroup.pressure");
        if switch.exists() {
            std::fs::write(&switch, "0").unwrap();
            let off = pressure::of_cgroup(&own.group, resource);
            refused(off, Kind::Unsupported, &["cgroup.pressure"]);
            std::fs::write(&switch, "1").unwrap();
        }
    }
}
