//! Where packet work should run: pure decisions, no system call.

use crate::cpu::CpuSet;

mod order;
mod spots;
pub mod vf;

/// What `auto` is decided from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AutoInput {
    /// The container's `cpuset.cpus.effective`, if its cgroup is known.
    pub container: Option<CpuSet>,
    /// The node's online CPUs.
    pub node_online: CpuSet,
    /// The root cgroup's effective CPUs, so without anybody's exclusive cores; the
    /// online CPUs where there is no cgroup v2.
    pub root_effective: CpuSet,
    /// The CPUs near the device ([`crate::cpu::local_to`]), if any are.
    pub numa_local: Option<CpuSet>,
    /// The CPUs the operator keeps for the node's own work, if named.
    pub housekeeping: Option<CpuSet>,
}

/// What `auto` means for one device; no set in it is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auto {
    /// The container's own CPUs.
    Container(CpuSet),
    /// CPUs near the device that belong to nobody in particular.
    Local(CpuSet),
    /// Nothing is to be pinned; the reason, for the log.
    Nothing(String),
}

/// The CPUs `auto` stands for: the container's if it is pinned, that is, if it has a
/// strict subset of the node's; else those near the device that are online, shared
/// by all and, if housekeeping CPUs are named, among them; else none.
pub fn auto_cpus(input: &AutoInput) -> Auto {
    if let Some(container) = &input.container {
        // A CPU may have gone offline after the cgroup was read.
        let own = container.intersection(&input.node_online);
        if !own.is_empty() && own != input.node_online {
            return Auto::Container(own);
        }
    }
    let unpinned = match &input.container {
        None => "the container's cgroup is not known",
        Some(cpus) if cpus.is_empty() => "the container's cpuset is empty",
        Some(_) => "the container may run on every CPU",
    };
    let Some(near) = &input.numa_local else {
        return Auto::Nothing(format!("{unpinned}, and the device has no NUMA node"));
    };
    match fallback(input, near) {
        Ok(cpus) => Auto::Local(cpus),
        Err(why) => Auto::Nothing(format!("{unpinned}, and {why}")),
    }
}

/// Narrows `near` step by step; an error names the step that left nothing.
fn fallback(input: &AutoInput, near: &CpuSet) -> Result<CpuSet, String> {
    let steps = [
        (Some(&input.node_online), "is online"),
        (
            Some(&input.root_effective),
            "is shared: all belong to exclusive cpusets",
        ),
        (input.housekeeping.as_ref(), "is a housekeeping CPU"),
    ];
    let mut cpus = near.clone();
    for (allowed, what) in steps {
        let narrowed = allowed.map_or_else(|| cpus.clone(), |set| cpus.intersection(set));
        if narrowed.is_empty() {
            return Err(format!("of the CPUs near the device ({cpus}) none {what}"));
        }
        cpus = narrowed;
    }
    Ok(cpus)
}

/// What RPS can use of `wish`: the kernel takes no CPU that `isolcpus=` or
/// `nohz_full=` isolates ([`crate::cpu::isolated`]). With a note on what is left out,
/// if anything; interrupts may be placed on those CPUs all the same.
pub fn usable_for_rps(wish: &CpuSet, isolated: &CpuSet) -> (CpuSet, Option<String>) {
    let lost = wish.intersection(isolated);
    let note = (!lost.is_empty()).then(|| {
        format!(
            "RPS cannot use CPU {lost}: isolated by the boot parameters isolcpus= or nohz_full="
        )
    });
    (wish.difference(isolated), note)
}

#[cfg(test)]
mod tests;
