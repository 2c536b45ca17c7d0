//! Suite `lab`: what the guest promises to every other suite.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use berth_tests::{Context, Need, Node, Port, Result, Space, ensure, suite, test};

fn main() -> ExitCode {
    const SRIOV: &[Need] = &[Need::Sriov, Need::Wire];
    const XFS: &[Need] = &[Need::XfsQuota, Need::Tool("xfs_quota")];
    suite(vec![
        test("sixteen_cpus_on_two_nodes", &[Need::Sriov], cpus),
        test("each_node_has_a_pf_with_seven_vfs", SRIOV, pfs).lend(&[Port::Pf0, Port::Pf1]),
        test("a_vf_passes_frames", SRIOV, vf_passes_frames).at_home(),
        test("the_wire_carries_tags", &[Need::Wire], wire_carries_tags),
        test("xfs_enforces_a_project_limit", XFS, xfs_limit),
        test(
            "ext4_enforces_a_project_limit",
            &[Need::Ext4Quota],
            ext4_limit,
        ),
        test("the_slow_disk_is_slow", &[Need::XfsQuota], slow_disk),
        test("every_controller_is_on", &[Need::CgroupV2], controllers),
        test("runtimes_are_installed", &[Need::Tool("runc")], runtimes),
        test(
            "bridges_filter_vlans",
            &[Need::VlanFiltering, Need::Vlan8021q],
            filtering,
        ),
    ])
}

fn cpus(node: &Node) -> Result<()> {
    assert_eq!(node.read_sys("devices/system/cpu/online")?, "0-15");
    for (numa, cpus) in [("node0", "0-7"), ("node1", "8-15")] {
        let list = node.read_sys(&format!("devices/system/node/{numa}/cpulist"))?;
        assert_eq!(list, cpus);
    }
    let topology = "devices/system/cpu/cpu0/topology";
    assert_eq!(
        node.read_sys(&format!("{topology}/thread_siblings_list"))?,
        "0-1"
    );
    assert_eq!(
        node.read_sys(&format!("{topology}/package_cpus_list"))?,
        "0-7"
    );
    Ok(())
}

fn pfs(node: &Node) -> Result<()> {
    for (port, numa) in [(Port::Pf0, "0"), (Port::Pf1, "1")] {
        let device = format!("class/net/{}/device", port.name());
        assert_eq!(node.read_sys(&format!("{device}/sriov_totalvfs"))?, "7");
        assert_eq!(node.read_sys(&format!("{device}/sriov_numvfs"))?, "0");
        assert_eq!(node.read_sys(&format!("{device}/numa_node"))?, numa);
    }
    Ok(())
}

/// A VF whose registers lie where the device model does not answer comes up and passes
/// nothing, so it has to be tried with frames.
fn vf_passes_frames(node: &Node) -> Result<()> {
    node.port_up(Port::Pf0)?;
    node.as_before(|| {
        node.write("/sys/class/net/pf0/device/sriov_numvfs", "1")?;
        let result = ping_from_vf(node);
        node.write("/sys/class/net/pf0/device/sriov_numvfs", "0")?;
        result
    })
}

fn ping_from_vf(node: &Node) -> Result<()> {
    let outside = node.outside()?;
    outside.ip("addr add 10.7.0.1/24 dev peer0")?;
    let start = node.read_sys("class/net/pf0/device/virtfn0/resource")?;
    let start = start.split(' ').next().unwrap_or_default();
    let start = u64::from_str_radix(start.trim_start_matches("0x"), 16)?;
    ensure!(
        start > 0 && start < 1 << 32,
        "the VF's registers are at {start:#x}"
    );
    let vf = fs::read_dir("/sys/class/net/pf0/device/virtfn0/net")?;
    let vf = vf
        .flatten()
        .next()
        .context("the VF has no link")?
        .file_name();
    let pod = node.pod("vf")?;
    node.move_link(&vf.to_string_lossy(), &pod, "net0")?;
    pod.ip("addr add 10.7.0.2/24 dev net0")?;
    pod.ip("link set net0 up")?;
    let limit = Duration::from_secs(20);
    berth_tests::poll("an answer to the VF", limit, || {
        let reached = pod.ping("10.7.0.1".parse()?, 2)?.reached();
        Ok(reached.then_some(()))
    })
}

fn wire_carries_tags(node: &Node) -> Result<()> {
    let outside = node.outside()?;
    node.port_up(Port::Uplink)?;
    outside.ip("link add link peer0 name peer0.100 type vlan id 100")?;
    outside.ip("addr add 10.8.0.1/24 dev peer0.100")?;
    outside.ip("link set peer0.100 up")?;
    node.ip("link add link uplink0 name uplink0.100 type vlan id 100")?;
    node.ip("addr add 10.8.0.2/24 dev uplink0.100")?;
    node.ip("link set uplink0.100 up")?;
    let seen = outside.capture("peer0")?;
    ensure!(
        node.ping("10.8.0.1".parse()?, 3)?.reached(),
        "no answer over the wire"
    );
    let request = seen.until(Duration::from_secs(2), |frame| {
        !frame.outgoing && frame.ethertype == 0x0800
    })?;
    let request = request.context("no IPv4 frame arrived at peer0")?;
    assert_eq!(request.vid(), Some(100));
    assert_eq!(request.source, [0x52, 0x54, 0, 0xbe, 0, 3]);
    Ok(())
}

fn xfs_limit(node: &Node) -> Result<()> {
    limited_write(
        node,
        "/data/xfs",
        &["limit -p bhard=4m 77", "limit -p bhard=0 77"],
    )
}

fn ext4_limit(node: &Node) -> Result<()> {
    limited_write(
        node,
        "/data/ext4",
        &["limit -p bhard=4m 78", "limit -p bhard=0 78"],
    )
}

/// Writes 8 MiB into a directory with a limit of 4 MiB, and takes the limit off again.
/// Without CAP_SYS_RESOURCE, which lifts ext4's limits; a container's root has it not.
fn limited_write(node: &Node, mount: &str, limits: &[&str; 2]) -> Result<()> {
    let project = limits[0].rsplit(' ').next().unwrap_or_default();
    let dir = Path::new(mount).join("limited");
    let quota = |command: &str| {
        let mut quota = node.command("xfs_quota");
        quota.args([
            "-f",
            "-x",
            "-D",
            "/dev/null",
            "-P",
            "/dev/null",
            "-c",
            command,
            mount,
        ]);
        berth_tests::command::run(&mut quota)
    };
    fs::create_dir(&dir)?;
    quota(&format!("project -s -p {} {project}", dir.display()))?;
    quota(limits[0])?;
    let file = dir.join("file");
    let fill = format!(
        "dd if=/dev/zero of={} bs=1M count=8 conv=fsync",
        file.display()
    );
    let fill = node.run(&format!("setpriv --bounding-set -sys_resource {fill}"));
    let written = fs::metadata(&file)?.len();
    quota(limits[1])?;
    fs::remove_dir_all(&dir)?;
    ensure!(fill.is_err(), "8 MiB fitted into a limit of 4 MiB");
    ensure!(
        written <= 4 << 20,
        "{written} bytes were written under a limit of 4 MiB"
    );
    Ok(())
}

fn slow_disk(node: &Node) -> Result<()> {
    node.run("mkdir /run/slow")?;
    node.run("mount -t xfs /dev/lab/slow /run/slow")?;
    let start = std::time::Instant::now();
    node.run("dd if=/dev/zero of=/run/slow/f bs=1M count=40 oflag=direct")?;
    let rate = 40.0 / start.elapsed().as_secs_f64();
    node.run("umount /run/slow")?;
    // QEMU lets a first burst of a tenth of a second through.
    ensure!(rate < 23.0, "40 MiB were written at {rate:.1} MiB/s");
    Ok(())
}

fn controllers(node: &Node) -> Result<()> {
    let on = node.read_sys("fs/cgroup/cgroup.subtree_control")?;
    assert_eq!(on, node.read_sys("fs/cgroup/cgroup.controllers")?);
    for name in ["cpu", "cpuset", "io", "memory", "pids"] {
        ensure!(on.split(' ').any(|n| n == name), "{name} is not in {on:?}");
    }
    Ok(())
}

fn runtimes(node: &Node) -> Result<()> {
    for program in [
        "runc --version",
        "containerd --version",
        "strace -V",
        "nft --version",
    ] {
        node.run(program)?;
    }
    for plugin in ["bridge", "host-local", "static", "loopback"] {
        let path = Path::new("/usr/lib/cni").join(plugin);
        ensure!(path.is_file(), "{} is missing", path.display());
    }
    Ok(())
}

fn filtering(node: &Node) -> Result<()> {
    node.ip("link add br0 type bridge vlan_filtering 1 vlan_default_pvid 0")?;
    let pod = node.veth_pod("p", "v0", "eth0")?;
    node.ip("link set v0 master br0")?;
    node.run("bridge vlan add dev v0 vid 100 pvid untagged")?;
    node.run("bridge vlan add dev v0 vid 200-203")?;
    let vlans = node.port_vlans("v0")?;
    let ids: Vec<u16> = vlans.iter().map(|v| v.0).collect();
    assert_eq!(ids, [100, 200, 201, 202, 203]);
    assert_eq!(vlans[0].1, ["PVID", "Egress Untagged"]);
    assert_eq!(node.link("v0")?["master"], "br0");
    assert!(pod.has_link("eth0")?);
    Ok(())
}
