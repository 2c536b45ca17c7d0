//! The comparison itself: every single thing that is changed on a VF is noticed and
//! named, or nothing the other tests say would count.

use berth_tests::{Look, Need, Node, Port, Result, Space, Test, Vf, ensure, test};

use crate::stage::Stage;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test(
            "the_comparison_notices_each_change",
            &[Need::Sriov],
            notices,
        )
        .at_home(),
    ]
}

/// A change from outside, what takes it back, and the one fact it changes. What is no
/// command is a value and the file to write it to.
const CHANGES: [(&str, &str, &str); 20] = [
    (
        "ip link set pf0 vf 0 vlan 5 qos 2",
        "ip link set pf0 vf 0 vlan 0",
        "PF side vlan_list",
    ),
    (
        "ip link set pf0 vf 0 spoofchk off",
        "ip link set pf0 vf 0 spoofchk on",
        "PF side spoofchk",
    ),
    (
        "ip link set pf0 vf 0 trust on",
        "ip link set pf0 vf 0 trust off",
        "PF side trust",
    ),
    (
        "ip link set pf0 vf 0 max_tx_rate 50",
        "ip link set pf0 vf 0 max_tx_rate 0",
        "PF side rate",
    ),
    (
        "ip link set VF mtu 1400",
        "ip link set VF mtu 1500",
        "link mtu",
    ),
    (
        "ip link set VF txqueuelen 77",
        "ip link set VF txqueuelen 1000",
        "link txqlen",
    ),
    (
        "ip link set VF promisc on",
        "ip link set VF promisc off",
        "flag PROMISC",
    ),
    (
        "ip link set VF allmulticast on",
        "ip link set VF allmulticast off",
        "flag ALLMULTI",
    ),
    (
        "ip link set VF group 7",
        "ip link set VF group 0",
        "link group",
    ),
    (
        "4 /sys/class/net/VF/ifalias",
        " /sys/class/net/VF/ifalias",
        "link ifalias",
    ),
    (
        "ip link property add dev VF altname other0",
        "ip link property del dev VF altname other0",
        "link altnames",
    ),
    (
        "ip addr add 10.9.9.9/32 dev VF",
        "ip addr del 10.9.9.9/32 dev VF",
        "address 10.9.9.9/32",
    ),
    (
        "ethtool -K VF gro off",
        "ethtool -K VF gro on",
        "feature generic-receive-offload",
    ),
    (
        "ethtool -K VF tx-tcp-segmentation off",
        "ethtool -K VF tx-tcp-segmentation on",
        "feature tx-tcp-segmentation",
    ),
    ("ethtool -G VF rx 512", "ethtool -G VF rx 1024", "ring rx"),
    (
        "ethtool -C VF rx-usecs 100",
        "ethtool -C VF rx-usecs 3",
        "coalesce rx-usecs",
    ),
    (
        "4 /sys/class/net/VF/queues/rx-0/rps_cpus",
        "0 /sys/class/net/VF/queues/rx-0/rps_cpus",
        "rx-0 rps_cpus",
    ),
    (
        "4 /sys/class/net/VF/queues/rx-0/rps_flow_cnt",
        "0 /sys/class/net/VF/queues/rx-0/rps_flow_cnt",
        "rx-0 rps_flow_cnt",
    ),
    (
        "4 /sys/class/net/VF/gro_flush_timeout",
        "0 /sys/class/net/VF/gro_flush_timeout",
        "gro_flush_timeout",
    ),
    // Last: the others call it by its name.
    (
        "ip link set VF name VFx",
        "ip link set VFx name VF",
        "link ifname",
    ),
];

fn notices(node: &Node) -> Result<()> {
    let stage = Stage::set(node, &[(Port::Pf0, 1)])?;
    let vf = &stage.vfs[0];
    for (change, ..) in CHANGES {
        apply(node, vf, change)?;
    }
    let changes = stage
        .before()
        .diff(&node.vf_facts(&stage.vfs, Look::Whole)?);
    for (_, undo, _) in CHANGES.iter().rev() {
        apply(node, vf, undo)?;
    }
    for (change, _, fact) in CHANGES {
        let named = changes.iter().any(|c| c.what.ends_with(fact));
        ensure!(named, "{change:?} was not seen as {fact:?}: {changes:?}");
    }
    stage.must_be_as_before("taking all of it back", Look::Whole)?;
    bound_or_not(&stage)
}

fn apply(node: &Node, vf: &Vf, what: &str) -> Result<()> {
    let what = what.replace("VF", &vf.name);
    match what.split_once(" /sys/") {
        Some((value, file)) => node.write(&format!("/sys/{file}"), &format!("{value}\n")),
        None => node.run(&what).map(|_| ()),
    }
}

/// The driver, and the interrupts of a link that was up.
fn bound_or_not(stage: &Stage<'_>) -> Result<()> {
    let (node, vf) = (stage.node, &stage.vfs[0]);
    node.ip(&format!("link set {} up", vf.name))?;
    node.ip(&format!("link set {} down", vf.name))?;
    stage.must_be_as_before("up and down", Look::Whole)?;
    let irq = vf.irqs()?[1];
    let file = format!("/proc/irq/{irq}/smp_affinity_list");
    node.write(&file, "9")?;
    let changes = stage
        .before()
        .diff(&node.vf_facts(&stage.vfs, Look::Short)?);
    node.write(&file, "0-7")?;
    let named = changes.iter().any(|c| c.what.ends_with("CPUs of vector 1"));
    ensure!(named, "a pinned interrupt was not seen: {changes:?}");
    vf.unbind()?;
    let changes = stage
        .before()
        .diff(&node.vf_facts(&stage.vfs, Look::Short)?);
    vf.bind("igbvf")?;
    let named = changes.iter().any(|c| c.what.ends_with("driver"));
    ensure!(named, "a driver that is gone was not seen: {changes:?}");
    // A VF whose PF was told no address draws another with every driver bound.
    for change in stage.changes(Look::Whole)? {
        let expected = change.contains("address:");
        ensure!(expected, "after a driver bound anew: {change}");
    }
    Ok(())
}
