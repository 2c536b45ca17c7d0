//! Suite `pci`: VFs of a real driver, by the functions of `lib/kernel`: made, found, bound,
//! reset; their interrupts and queues placed and seen to obey under traffic.

use std::process::ExitCode;
use std::time::Duration;

use berth_kernel::cpu::{self, Core};
use berth_kernel::error::AbsentIsFine;
use berth_kernel::irq::{self, Irq, Role, Vector};
use berth_kernel::pci::{self, Device, Resize, VirtualFunction};
use berth_kernel::placement::AutoInput;
use berth_kernel::placement::vf::{IrqPlacement, IrqPolicy, Steer, VfWish, place_irqs, steer};
use berth_kernel::{CpuSet, IfName, Kind, NetNs, NetSysfs, Root};
use berth_tests::{Context, Need, Node, Pod, Port, Result, Space, ensure, suite, test};

/// For a network device after its driver is bound; emulation is slow.
const LIMIT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    const SRIOV: &[Need] = &[Need::Sriov, Need::Wire];
    suite(vec![
        test("cores_are_those_of_the_guest", &[Need::Sriov], cores),
        test("vfs_come_and_go_by_number", SRIOV, numbers).at_home(),
        test("a_vf_is_found_from_either_side", SRIOV, found).at_home(),
        test("a_driver_is_bound_anew_and_says_why_not", SRIOV, binding).at_home(),
        test("a_reset_brings_the_interface_back", SRIOV, reset).at_home(),
        test("vectors_have_roles_once_the_vf_is_up", SRIOV, roles).at_home(),
        test("affinity_is_refused_with_a_reason", SRIOV, refusals).at_home(),
        test("a_rebind_forgets_steering_and_affinity", SRIOV, rebind).at_home(),
        test("the_table_holds_under_traffic", SRIOV, traffic).at_home(),
    ])
}

fn root() -> Root {
    Root::host()
}

fn set(list: &str) -> CpuSet {
    list.parse().unwrap_or_default()
}

fn pf1() -> Result<Device> {
    let function = pci::physical_function_of(&root(), &"pf1".parse()?)?;
    let function = function.context("pf1 is no physical function")?;
    Ok(Device::new(&root(), function.address))
}

/// Runs `work` with one VF of pf1, which has carrier, and takes the VF away after.
fn with_vf(node: &Node, work: impl FnOnce(&Vf) -> Result<()>) -> Result<()> {
    node.port_up(Port::Pf1)?;
    node.as_before(|| {
        let pf = Vfs(pf1()?);
        pf.0.set_num_vfs(1, Resize::FromZero)?;
        work(&Vf::first(&pf.0)?)
    })
}

/// Takes the VFs away also when a test panics, so that the next one finds none.
struct Vfs(Device);

impl Drop for Vfs {
    fn drop(&mut self) {
        if let Err(error) = self.0.set_num_vfs(0, Resize::FromZero) {
            eprintln!("VFs are left behind: {error}");
        }
    }
}

/// A VF and its interface at home.
struct Vf {
    function: VirtualFunction,
    device: Device,
    name: IfName,
}

impl Vf {
    fn first(pf: &Device) -> Result<Self> {
        let function = pci::physical_function(&root(), pf.address())?.context("the PF is gone")?;
        let function = function.vfs.first().context("the PF has no VF")?.clone();
        let device = Device::new(&root(), function.address);
        let name = device.netdevs_within(LIMIT)?.swap_remove(0);
        Ok(Self {
            function,
            device,
            name,
        })
    }

    fn vectors(&self) -> Result<Vec<Vector>> {
        Ok(irq::vectors(&root(), self.function.address)?)
    }

    fn irq(&self, role: Role) -> Result<Irq> {
        let vectors = self.vectors()?;
        let vector = vectors.iter().find(|vector| vector.role == role);
        Ok(vector
            .with_context(|| format!("no {role:?} in {vectors:?}"))?
            .irq)
    }

    /// Into a pod as `net0`, up.
    fn to_pod(&self, node: &Node) -> Result<Pod> {
        let pod = node.pod("vf")?;
        node.move_link(self.name.as_str(), &pod, "net0")?;
        pod.ip("addr add 10.7.0.2/24 dev net0")?;
        pod.ip("link set net0 up")?;
        Ok(pod)
    }
}

fn cores(_node: &Node) -> Result<()> {
    let cores = cpu::cores(&root())?;
    let place = |core: &Core| (core.cpus.to_string(), core.node);
    let wanted = (0..8).map(|n| (format!("{}-{}", 2 * n, 2 * n + 1), n / 4));
    assert_eq!(
        cores.iter().map(place).collect::<Vec<_>>(),
        wanted.collect::<Vec<_>>()
    );
    for core in &cores {
        let node = cpu::of_node(&root(), core.node)?;
        ensure!(node.contains(core.llc), "{core:?}: a cache of another node");
    }
    Ok(())
}

fn numbers(node: &Node) -> Result<()> {
    node.port_up(Port::Pf1)?;
    node.as_before(|| {
        let guard = Vfs(pf1()?);
        let pf = &guard.0;
        let vfs = || {
            let function = pci::physical_function(&root(), pf.address());
            function.map(|function| function.map(|function| function.vfs.len()))
        };
        pf.set_num_vfs(2, Resize::FromZero)?;
        assert_eq!(vfs(), Ok(Some(2)));
        pf.set_num_vfs(2, Resize::FromZero)?;
        let refused = pf.set_num_vfs(3, Resize::FromZero);
        assert_eq!(vfs(), Ok(Some(2)), "a refused change changed something");
        pf.set_num_vfs(3, Resize::ThroughZero)?;
        assert_eq!(vfs(), Ok(Some(3)));
        let beyond = pf.set_num_vfs(8, Resize::ThroughZero);
        assert_eq!(vfs(), Ok(Some(3)), "a refused change changed something");
        pf.set_num_vfs(0, Resize::FromZero)?;
        let refused = refused.err().context("2 became 3 without leave")?;
        assert_eq!(refused.kind(), Kind::TryAgain, "{refused}");
        let beyond = beyond.err().context("8 of 7 VFs were made")?;
        ensure!(beyond.to_string().ends_with("at most 7 VFs"), "{beyond}");
        Ok(())
    })
}

fn found(node: &Node) -> Result<()> {
    with_vf(node, |vf| {
        let pf = pf1()?.address();
        let (owner, same) = pci::virtual_function(&root(), vf.function.address)?
            .context("the VF is not found by its address")?;
        assert_eq!((owner.address, &same), (pf, &vf.function));
        assert_eq!((same.index, same.numa_node), (0, Some(1)));
        assert_eq!(same.driver.as_deref(), Some("igbvf"));
        assert_eq!(pci::physical_function(&root(), same.address), Ok(None));
        assert_eq!(pci::virtual_function(&root(), pf), Ok(None));
        assert_eq!(vf.device.local_cpus(), Ok(set("8-15")));
        assert_eq!(pci::physical_function_of(&root(), &"lo".parse()?), Ok(None));
        assert_eq!(pci::physical_function_of(&root(), &vf.name), Ok(None));
        let absent = pci::physical_function_of(&root(), &"eth99".parse()?);
        assert_eq!(absent.map_err(|e| e.kind()), Err(Kind::NotFound));
        // In a pod it is the same VF without an interface in sight.
        let pod = vf.to_pod(node)?;
        let away = pci::virtual_function(&root(), vf.function.address)?;
        let (_owner, away) = away.context("the VF is not found by its address")?;
        assert_eq!((away.address, away.netdevs.len()), (same.address, 0));
        drop(pod);
        Ok(())
    })
}

fn binding(node: &Node) -> Result<()> {
    with_vf(node, |vf| {
        let pf = pf1()?;
        vf.device.unbind()?;
        assert_eq!(vf.device.driver(), Ok(None));
        assert_eq!(vf.device.msi_irqs(), Ok(vec![]));
        let unknown = vf.device.bind("no-such-driver");
        pf.set_autoprobe(false)?;
        let refused = vf.device.bind("igbvf");
        vf.device.set_driver_override(Some("igbvf"))?;
        let named = vf.device.driver_override()?;
        let allowed = vf.device.bind("igbvf");
        vf.device.set_driver_override(None)?;
        pf.set_autoprobe(true)?;
        let unknown = unknown.err().context("an unknown driver was bound")?;
        ensure!(
            unknown.to_string().ends_with("modprobe no-such-driver"),
            "{unknown}"
        );
        let refused = refused.err().context("bound in spite of autoprobe 0")?;
        let reason = "sriov_drivers_autoprobe of its PF";
        ensure!(refused.to_string().contains(reason), "{refused}");
        assert_eq!(named.as_deref(), Some("igbvf"));
        allowed?;
        assert_eq!(vf.device.driver_override(), Ok(None));
        vf.device.netdevs_within(LIMIT)?;
        let busy = vf.device.bind("vfio-pci").map_err(|e| e.kind());
        assert_eq!(busy, Err(Kind::TryAgain));
        // Another kind of device than the driver's.
        let other = pf.address();
        vf.device.unbind()?;
        let strange = Device::new(&root(), vf.function.address).bind("igb");
        let strange = strange
            .err()
            .with_context(|| format!("igb of {other} took a VF"))?;
        ensure!(
            strange.to_string().ends_with("does not take this device"),
            "{strange}"
        );
        vf.device.bind("igbvf")?;
        Ok(())
    })
}

fn reset(node: &Node) -> Result<()> {
    with_vf(node, |vf| {
        ensure!(vf.device.can_reset(), "a VF of igb can be reset");
        let pod = vf.to_pod(node)?;
        vf.device.reset()?;
        assert_eq!(vf.device.driver(), Ok(Some("igbvf".to_owned())));
        // Taken out of the pod: the new interface is at home.
        vf.device.netdevs_within(LIMIT)?;
        ensure!(!pod.has_link("net0")?, "net0 outlived its driver");
        let pf = Device::new(&root(), "0000:00:00.0".parse()?);
        ensure!(!pf.can_reset(), "the host bridge cannot be reset alone");
        assert_eq!(pf.reset().map_err(|e| e.kind()), Err(Kind::Unsupported));
        Ok(())
    })
}

fn roles(node: &Node) -> Result<()> {
    with_vf(node, |vf| {
        let idle = vf.vectors()?;
        assert_eq!(idle.len(), 3, "{idle:?}");
        for vector in &idle {
            assert_eq!(vector.role, Role::Idle, "{idle:?}");
            let affinity = irq::affinity(&root(), vector.irq).absent_is_fine();
            assert_eq!(affinity, Ok(None), "an affinity before the first up");
        }
        let _pod = vf.to_pod(node)?;
        let told: Vec<(Role, String)> = vf
            .vectors()?
            .into_iter()
            .map(|vector| (vector.role, vector.action))
            .collect();
        let wanted = [
            (Role::Tx(0), "net0-tx-0"),
            (Role::Rx(0), "net0-rx-0"),
            (Role::Control, "net0"),
        ];
        assert_eq!(told, wanted.map(|(role, name)| (role, name.to_owned())));
        let rx = vf.irq(Role::Rx(0))?;
        assert_eq!(irq::default_affinity(&root()), Ok(set("0-15")));
        assert_eq!(irq::initial_affinity(&root(), rx), Ok(set("8-15")));
        assert_eq!(irq::affinity(&root(), rx), Ok(set("8-15")));
        let numbers = |vectors: Vec<Vector>| vectors.iter().map(|v| v.irq).collect::<Vec<_>>();
        assert_eq!(numbers(vf.vectors()?), numbers(idle));
        Ok(())
    })
}

fn refusals(node: &Node) -> Result<()> {
    with_vf(node, |vf| {
        let _pod = vf.to_pod(node)?;
        let rx = vf.irq(Role::Rx(0))?;
        let refused = |cpus: &str| -> Result<String> {
            let before = irq::affinity(&root(), rx)?;
            let error = irq::set_affinity(&root(), rx, &set(cpus)).err();
            assert_eq!(irq::affinity(&root(), rx), Ok(before));
            Ok(error
                .with_context(|| format!("CPUs {cpus:?} were taken"))?
                .to_string())
        };
        let error = refused("")?;
        ensure!(error.ends_with("an interrupt needs a CPU"), "{error}");
        let error = refused("8000")?;
        ensure!(error.contains("no other CPUs than"), "{error}");
        node.write("/sys/devices/system/cpu/cpu15/online", "0")?;
        let error = refused("15");
        let cores = cpu::cores(&root());
        node.write("/sys/devices/system/cpu/cpu15/online", "1")?;
        let error = error?;
        ensure!(
            error.contains("none of these CPUs is online; online are 0-14"),
            "{error}"
        );
        assert_eq!(cores?.last().map(|core| core.cpus.clone()), Some(set("14")));
        managed()
    })
}

/// The queues of an nvme disk are placed by the kernel.
fn managed() -> Result<()> {
    let disk = std::fs::read_link("/sys/class/nvme/nvme0/device").context("no nvme disk")?;
    let address = disk.file_name().and_then(|name| name.to_str());
    let device = Device::new(&root(), address.context("a disk without a name")?.parse()?);
    let mut queues = device.msi_irqs()?.into_iter().skip(1);
    let queue = queues
        .next()
        .context("an nvme disk has a queue's interrupt")?;
    let now = irq::affinity(&root(), queue)?;
    let other = if now == set("3") { "4" } else { "3" };
    let error = irq::set_affinity(&root(), queue, &set(other)).err();
    let error = error.context("a managed interrupt was moved")?;
    ensure!(error.to_string().contains("a managed interrupt"), "{error}");
    assert_eq!(irq::affinity(&root(), queue), Ok(now));
    Ok(())
}

fn rebind(node: &Node) -> Result<()> {
    with_vf(node, |vf| {
        node.ip(&format!("link set {} up", vf.name))?;
        let sysfs = NetSysfs::at(&root())?;
        sysfs.set_rps_cpus(&vf.name, 0, &set("9"))?;
        let rx = vf.irq(Role::Rx(0))?;
        irq::set_affinity(&root(), rx, &set("10"))?;
        let names = vf.device.rebind(LIMIT)?;
        let name = names.first().context("no interface came back")?;
        assert_eq!(sysfs.rps_cpus(name, 0), Ok(set("")));
        node.ip(&format!("link set {name} up"))?;
        let again = irq::affinity(&root(), vf.irq(Role::Rx(0))?)?;
        assert_eq!(again, set("8-15"));
        Ok(())
    })
}

/// A container on CPUs 12-15 (two cores of the VF's node): the interrupts of its only queue
/// at CPU 12, its packets at the other core, the mailbox outside.
fn traffic(node: &Node) -> Result<()> {
    let outside = node.outside()?;
    outside.ip("addr add 10.7.0.1/24 dev peer0")?;
    let cpus = AutoInput {
        container: Some(set("12-15")),
        node_online: cpu::online(&root())?,
        root_effective: set("0-11"),
        numa_local: cpu::local_to(&root(), Some(1))?,
        housekeeping: None,
    };
    let cores = cpu::cores(&root())?;
    let wish = VfWish {
        cpus: &cpus,
        cores: &cores,
        node: Some(1),
        isolated: cpu::isolated(&root())?,
        turn: 0,
        irq: IrqPolicy::Cpuset,
        placement: IrqPlacement::Own,
        rps: Steer::Auto,
        xps: Steer::Auto,
    };
    with_vf(node, |vf| {
        let pod = steered_to_pod(node, vf, &wish)?;
        let plan = place_irqs(&wish, &vf.vectors()?);
        assert_eq!(plan.notes, Vec::<String>::new());
        let placed: Vec<u32> = plan.irqs.iter().map(|(_irq, cpu)| *cpu).collect();
        assert_eq!(placed, [12, 12, 8], "tx, rx, mailbox");
        for (irq, cpu) in &plan.irqs {
            irq::set_affinity(&root(), *irq, &[*cpu].into_iter().collect())?;
        }
        obeyed(&pod, vf.irq(Role::Rx(0))?)
    })
}

/// Steering is set at home and goes with the interface.
fn steered_to_pod(node: &Node, vf: &Vf, wish: &VfWish<'_>) -> Result<Pod> {
    let home = NetSysfs::at(&root())?;
    let (rx, tx) = (home.rx_queues(&vf.name)?, home.tx_queues(&vf.name)?);
    let steering = steer(wish, rx.len(), tx.len());
    assert_eq!(steering.rps, [Some(set("14-15"))]);
    assert_eq!(steering.xps, [None], "nothing to choose with one queue");
    home.set_rps_cpus(&vf.name, 0, &set("14-15"))?;
    let timeout = Duration::from_micros(20);
    home.set_gro_flush_timeout(&vf.name, timeout)?;
    home.set_napi_defer_hard_irqs(&vf.name, 2)?;
    let pod = vf.to_pod(node)?;
    let inside = NetSysfs::of(&NetNs::open(pod.path())?)?;
    let net0 = "net0".parse()?;
    let rps = inside.rps_cpus(&net0, 0);
    assert_eq!(rps, Ok(set("14-15")), "lost in the move");
    assert_eq!(inside.gro_flush_timeout(&net0), Ok(timeout));
    assert_eq!(inside.napi_defer_hard_irqs(&net0), Ok(2));
    Ok(pod)
}

/// Under traffic the receive interrupts arrive at CPU 12 alone, and RPS hands packets on to
/// CPU 14 or 15.
fn obeyed(pod: &Pod, rx: Irq) -> Result<()> {
    // The first interrupt after the write may still arrive at the old CPU.
    reach(pod)?;
    let (before, steered) = (irq::counts(&root(), rx)?, received_rps()?);
    reach(pod)?;
    let (after, now) = (irq::counts(&root(), rx)?, received_rps()?);
    for (cpu, count) in &after {
        let grown = before.get(cpu) != Some(count);
        assert_eq!(grown, *cpu == 12, "CPU {cpu}: {before:?}, then {after:?}");
    }
    let effective = irq::effective_affinity(&root(), rx);
    assert_eq!(effective, Ok(Some(set("12"))));
    let handed = |cpu: usize| Some(now.get(cpu)? - steered.get(cpu)?);
    let grown = handed(14).zip(handed(15)).map(|(a, b)| a + b);
    ensure!(grown > Some(0), "no packet was handed to CPU 14 or 15");
    Ok(())
}

fn reach(pod: &Pod) -> Result<()> {
    berth_tests::poll("an answer to the VF", Duration::from_secs(20), || {
        let reached = pod.ping("10.7.0.1".parse()?, 5)?.reached();
        Ok(reached.then_some(()))
    })
}

/// Packets handed to each CPU by RPS (column 10 of `/proc/net/softnet_stat`, whose lines
/// are those of the online CPUs).
fn received_rps() -> Result<Vec<u64>> {
    let text = std::fs::read_to_string("/proc/net/softnet_stat")?;
    let count = |line: &str| -> Result<u64> {
        let column = line.split_whitespace().nth(9);
        Ok(u64::from_str_radix(column.context("no column 10")?, 16)?)
    };
    text.lines().map(count).collect()
}
