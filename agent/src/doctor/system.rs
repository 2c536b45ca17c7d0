//! What runs beside Berth, and what the caller may do.

use std::collections::BTreeSet;

use super::facts::Facts;
use super::{Area, Check, Status};

/// A capability and what cannot be done without it (capabilities(7)).
const CAPABILITIES: &[(&str, Area, Status, &str)] = &[
    (
        "CAP_NET_ADMIN",
        Area::Core,
        Status::Missing,
        "no interface can be made or changed",
    ),
    (
        "CAP_SYS_ADMIN",
        Area::Core,
        Status::Missing,
        "no other network namespace can be entered",
    ),
    (
        "CAP_NET_RAW",
        Area::Core,
        Status::Limited,
        "addresses are not announced or probed",
    ),
    (
        "CAP_SYS_PTRACE",
        Area::Core,
        Status::Limited,
        "namespaces of other users' processes are not found",
    ),
    (
        "CAP_DAC_OVERRIDE",
        Area::Core,
        Status::Limited,
        "files of other users cannot be changed",
    ),
];

/// irqbalance, bridge netfilter and the caller's capabilities.
pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![irqbalance(facts), bridge_netfilter(facts)];
    checks.extend(capabilities(facts));
    checks
}

fn irqbalance(facts: &Facts) -> Check {
    let check = |seen: &str| Check::ok("irq.irqbalance", Area::Irq, "irqbalance", seen);
    match &facts.irqbalance {
        Ok(false) => check("not running"),
        Ok(true) => check("running").but(
            Status::Limited,
            "it may move interrupts that Berth has placed",
            "keep it off the workloads' cores with IRQBALANCE_BANNED_CPULIST, or stop it: systemctl disable --now irqbalance",
        ),
        Err(reason) => check(reason).but(Status::Unknown, "placed interrupts may move", ""),
    }
}

fn bridge_netfilter(facts: &Facts) -> Check {
    let check = |seen: &str| Check::ok("bridge.netfilter", Area::Core, "bridge netfilter", seen);
    let on = match &facts.bridge_netfilter {
        Err(reason) => {
            return check(reason).but(Status::Unknown, "frames may pass the host's firewall", "");
        }
        Ok(None) => return check("br_netfilter is not loaded"),
        Ok(Some(on)) if on.is_empty() => return check("off"),
        Ok(Some(on)) => on,
    };
    let bridges = match facts.bridges.as_deref() {
        Ok([]) => "there is no bridge yet".to_owned(),
        Ok(bridges) => format!("on {}", bridges.join(", ")),
        Err(reason) => reason.clone(),
    };
    check(&format!("bridge-nf-call-{} is 1; {bridges}", on.join(", -"))).but(
        Status::Limited,
        "frames between containers pass the host's IP firewall, which may drop them and costs speed",
        format!(
            "{}; where something on the node needs it (Kubernetes service proxies), let the \
             firewall accept bridged frames",
            on.iter()
                .map(|family| format!("sysctl net.bridge.bridge-nf-call-{family}=0"))
                .collect::<Vec<_>>()
                .join("; ")
        ),
    )
}

fn capabilities(facts: &Facts) -> Vec<Check> {
    let check = |area, name: &str, seen: &str| Check::ok("caller.capability", area, name, seen);
    let has: &BTreeSet<String> = match &facts.capabilities {
        Ok(has) => has,
        Err(reason) => {
            let unknown = check(Area::Core, "capabilities", reason);
            return vec![unknown.but(
                Status::Unknown,
                "it is not known what the caller may do",
                "",
            )];
        }
    };
    let judge = |(name, area, status, without): &(&str, Area, Status, &str)| {
        if has.contains(*name) {
            check(*area, name, "held")
        } else {
            check(*area, name, "the caller does not hold it").but(
                *status,
                *without,
                "run as root, outside a user namespace, with the default capabilities",
            )
        }
    };
    CAPABILITIES.iter().map(judge).collect()
}
