//! Facts that are files: sysfs, procfs, cgroups, records, leases, mounts, quotas.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::Snapshot;
use crate::command;
use crate::need::quota_mounts;

/// Trees whose files are state someone has to remove.
const STATE: [&str; 4] = ["/run/berth", "/run/netns", "/var/lib/cni", "/var/lib/berth"];
const SYSCTL_DIRS: [&str; 6] = [
    "net/core",
    "net/bridge",
    "net/ipv4/conf/all",
    "net/ipv4/conf/default",
    "net/ipv6/conf/all",
    "net/ipv6/conf/default",
];
const SYSCTL_FILES: [&str; 4] = [
    "net/ipv4/ip_forward",
    "vm/dirty_bytes",
    "vm/dirty_background_bytes",
    "kernel/core_pattern",
];
const CGROUP_FILES: [&str; 11] = [
    "cgroup.subtree_control",
    "cpuset.cpus",
    "cpuset.mems",
    "cpuset.cpus.exclusive",
    "cpuset.cpus.partition",
    "cpu.max",
    "cpu.weight",
    "memory.high",
    "memory.max",
    "io.max",
    "io.weight",
];

/// What is kept and set in files.
pub(super) fn read(into: &mut Snapshot) -> Result<()> {
    for tree in STATE {
        put_tree(into, Path::new(tree));
    }
    put_sysctls(into);
    put_mounts(into, &read_file("/proc/self/mountinfo")?);
    put_queues(into);
    Ok(())
}

/// Virtual functions and interrupts.
pub(super) fn read_lanes(into: &mut Snapshot) {
    put_sriov(into);
    put_interrupts(into);
}

/// CPUs, cgroups and disks.
pub(super) fn read_machine(into: &mut Snapshot) -> Result<()> {
    put_file(into, "cpus", Path::new("/sys/devices/system/cpu/online"));
    put_block_devices(into);
    put_iocost(into);
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        put_cgroup(into, Path::new("/sys/fs/cgroup"));
    }
    put_quotas(into)
}

fn read_file(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {path}"))
}

/// The names in a directory, sorted; none when it does not exist.
fn entries(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    paths
}

/// Notes `path` if it can be read; many kernel files exist and cannot.
fn put_file(into: &mut Snapshot, kind: &str, path: &Path) {
    if let Ok(text) = fs::read_to_string(path) {
        into.put(format!("{kind} {}", path.display()), text.trim());
    }
}

fn put_tree(into: &mut Snapshot, dir: &Path) {
    for path in entries(dir) {
        if path.is_dir() && !path.is_symlink() {
            put_tree(into, &path);
        } else if !is_meant_to_stay(&path) {
            let mut hasher = DefaultHasher::new();
            fs::read(&path).unwrap_or_default().hash(&mut hasher);
            let value = format!("content {:016x}", hasher.finish());
            into.put(format!("file {}", path.display()), value);
        }
    }
}

/// Lock files are never unlinked, and a pool remembers its last address on purpose.
fn is_meant_to_stay(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_lock = path.starts_with("/run/berth/locks") || name == "lock" || name == ".lock";
    is_lock || name.starts_with("last_reserved_ip")
}

fn put_sysctls(into: &mut Snapshot) {
    let root = Path::new("/proc/sys");
    for file in SYSCTL_FILES {
        put_file(into, "sysctl", &root.join(file));
    }
    for dir in SYSCTL_DIRS {
        for path in entries(&root.join(dir)) {
            // A random number the kernel draws once, when a first driver asks for it.
            if !path.ends_with("netdev_rss_key") {
                put_file(into, "sysctl", &path);
            }
        }
    }
}

/// Mount point, kind and source of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
fn put_mounts(into: &mut Snapshot, mountinfo: &str) {
    for line in mountinfo.lines() {
        let point = line.split(' ').nth(4);
        let rest = line.split_once(" - ").map(|(_, rest)| rest);
        if let (Some(point), Some(rest)) = (point, rest) {
            let kind: Vec<&str> = rest.split(' ').take(2).collect();
            into.put(format!("mount {point}"), kind.join(" "));
        }
    }
}

fn put_queues(into: &mut Snapshot) {
    for link in entries(Path::new("/sys/class/net")) {
        for queue in entries(&link.join("queues")) {
            for file in ["rps_cpus", "rps_flow_cnt", "xps_cpus"] {
                put_file(into, "queue", &queue.join(file));
            }
        }
    }
}

fn put_sriov(into: &mut Snapshot) {
    for device in entries(Path::new("/sys/bus/pci/devices")) {
        let is_pf = device.join("sriov_numvfs").exists();
        let is_vf = device.join("physfn").exists();
        if is_pf {
            put_file(into, "sriov", &device.join("sriov_numvfs"));
            put_file(into, "sriov", &device.join("sriov_drivers_autoprobe"));
        }
        if is_pf || is_vf {
            let driver = fs::read_link(device.join("driver")).unwrap_or_default();
            let driver = driver.file_name().unwrap_or_default().to_string_lossy();
            into.put(format!("driver {}", device.display()), driver);
            put_file(into, "driver", &device.join("driver_override"));
        }
    }
}

/// Only interrupts that are not where the kernel puts them: a link that goes down and
/// up again frees and requests its interrupts, but keeps a pin.
fn put_interrupts(into: &mut Snapshot) {
    let default = fs::read_to_string("/proc/irq/default_smp_affinity").unwrap_or_default();
    into.put("interrupt default", default.trim());
    for irq in entries(Path::new("/proc/irq")) {
        let mask = fs::read_to_string(irq.join("smp_affinity")).unwrap_or_default();
        let owned = entries(&irq).iter().any(|path| path.is_dir());
        if owned && mask != default {
            into.put(format!("interrupt {}", irq.display()), mask.trim());
        }
    }
}

/// Only devices with something behind them: the kernel makes a few empty loop devices
/// with the first that is asked for, and they stay.
fn put_block_devices(into: &mut Snapshot) {
    for device in entries(Path::new("/sys/block")) {
        let sectors = fs::read_to_string(device.join("size")).unwrap_or_default();
        if sectors.trim() != "0" {
            put_file(into, "disk", &device.join("queue/wbt_lat_usec"));
        }
    }
}

/// Lines `254:16 KEY=VALUE ...` of the root's files, except those of a device for which
/// iocost is off and left to the kernel: it lists a device for good once it was written.
fn put_iocost(into: &mut Snapshot) {
    for file in ["io.cost.model", "io.cost.qos"] {
        let text = fs::read_to_string(Path::new("/sys/fs/cgroup").join(file));
        put_iocost_lines(into, file, &text.unwrap_or_default());
    }
}

fn put_iocost_lines(into: &mut Snapshot, file: &str, text: &str) {
    for line in text.lines() {
        let is_on = line.contains("enable=1") || line.contains("ctrl=user");
        if let (true, Some((device, values))) = (is_on, line.split_once(' ')) {
            into.put(format!("{file} {device}"), values);
        }
    }
}

fn put_cgroup(into: &mut Snapshot, dir: &Path) {
    into.put(format!("cgroup {}", dir.display()), "");
    for file in CGROUP_FILES {
        put_file(into, "cgroup", &dir.join(file));
    }
    for path in entries(dir) {
        if path.is_dir() {
            put_cgroup(into, &path);
        }
    }
}

fn put_quotas(into: &mut Snapshot) -> Result<()> {
    let mounts = read_file("/proc/self/mounts")?;
    for (point, _) in quota_mounts(&mounts) {
        for (kind, flag) in [("blocks", "-b"), ("inodes", "-i")] {
            let report = format!("report -p -n -N {flag}");
            let mut quota = Command::new("xfs_quota");
            let output = command::run(quota.args(["-f", "-x", "-c", &report, point]))?;
            put_limits(into, &format!("quota {kind} {point}"), &output);
        }
        for path in entries(Path::new(point)) {
            into.put(format!("entry {}", path.display()), "");
        }
        // Of a file it may not look at it says so and ends with an error.
        let listed = command::start(Command::new("lsattr").args(["-Rap", point]), b"")?;
        put_projects(into, &listed.finish(command::COMMAND_LIMIT)?.stdout);
    }
    Ok(())
}

/// Lines `#1001  USED  SOFT  HARD ...` of xfs_quota(8); a project without a limit is
/// none of ours.
fn put_limits(into: &mut Snapshot, what: &str, report: &str) {
    for line in report.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [id, _used, soft, hard, ..] = fields[..] else {
            continue;
        };
        if id.starts_with('#') && (soft, hard) != ("0", "0") {
            into.put(format!("{what} {id}"), format!("soft {soft} hard {hard}"));
        }
    }
}

/// Lines `PROJECT FLAGS PATH` of lsattr(1): what is in a project, or hands one on.
fn put_projects(into: &mut Snapshot, listed: &str) {
    for line in listed.lines() {
        let mut words = line.trim_start().splitn(3, ' ');
        let (Some(project), Some(flags), Some(path)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let is_in = project.parse::<u32>().is_ok_and(|id| id != 0) || flags.contains('P');
        // A directory is listed by its parent and by itself.
        if is_in && !path.ends_with("/.") && !path.ends_with("/..") {
            into.put(format!("project {path}"), format!("{project} {flags}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_a_project_counts() {
        let mut snapshot = Snapshot::default();
        let listed = "    0 -------------------- /d/plain\n\n/d/plain:\n\
            1001 -------------------P /d/a b\n 1001 -------------------P /d/a b/.\n";
        put_projects(&mut snapshot, listed);
        assert_eq!(snapshot.names(""), ["project /d/a b"]);
    }

    #[test]
    fn iocost_that_is_off_is_no_fact() {
        let mut snapshot = Snapshot::default();
        let text = "254:32 enable=0 ctrl=auto rpct=0.00\n254:16 enable=1 ctrl=user rpct=0.00\n";
        put_iocost_lines(&mut snapshot, "io.cost.qos", text);
        assert_eq!(snapshot.names(""), ["io.cost.qos 254:16"]);
    }

    #[test]
    fn mounts_are_named_by_their_point() {
        let mut snapshot = Snapshot::default();
        let line = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        put_mounts(&mut snapshot, line);
        assert_eq!(snapshot.get("mount /mnt2"), Some("ext3 /dev/root"));
    }

    #[test]
    fn only_projects_with_a_limit_count() {
        let mut snapshot = Snapshot::default();
        let report = "#0  100  0  0  00 [--------]\n#1001  10240  8192  10240  00 [7 days]\n\n";
        put_limits(&mut snapshot, "quota blocks /x", report);
        assert_eq!(snapshot.names(""), ["quota blocks /x #1001"]);
        assert_eq!(
            snapshot.get("quota blocks /x #1001"),
            Some("soft 8192 hard 10240")
        );
    }

    #[test]
    fn a_trees_files_count_by_content_and_its_locks_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let read = || {
            let mut snapshot = Snapshot::default();
            put_tree(&mut snapshot, dir.path());
            snapshot
        };
        fs::create_dir(dir.path().join("networks")).unwrap();
        let empty = read();
        assert_eq!(empty, Snapshot::default());
        fs::write(dir.path().join("networks/lock"), "").unwrap();
        fs::write(dir.path().join("networks/last_reserved_ip.0"), "10.0.0.9").unwrap();
        assert_eq!(read(), empty);
        fs::write(dir.path().join("networks/10.0.0.9"), "a").unwrap();
        let leased = read();
        assert_eq!(empty.diff(&leased).len(), 1);
        fs::write(dir.path().join("networks/10.0.0.9"), "b").unwrap();
        assert_eq!(leased.diff(&read()).len(), 1);
    }
}
