//! What to do where the kernel does not let a knob be set. Its own reason is in the
//! error; this says where to look and what usually helps.

use super::knob::Knob;

/// The next step, as the beginning of a sentence.
pub(super) fn remedy(knob: &Knob) -> &'static str {
    match knob {
        Knob::Cpus { .. } => {
            "look for another cgroup beside it whose cpuset.cpus.exclusive has these CPUs, and \
             for one above that allows fewer (cpuset.cpus)"
        }
        Knob::ExclusiveCpus { .. } => {
            "look for a cgroup beside it, or below one of those, that has these CPUs in \
             cpuset.cpus.exclusive, and take them out there"
        }
        Knob::Partition { .. } => {
            "read the kernel's reason in cpuset.cpus.partition; a cgroup beside it must not have \
             its CPUs, all above must hand them down, and one must be online"
        }
        Knob::Mems { .. } => {
            "see whether the NUMA nodes are online, have memory, and are in \
             cpuset.mems.effective of the cgroup above"
        }
        Knob::CpuWeight { .. } => {
            "see whether cpu is in cgroup.subtree_control of the cgroup above; real-time \
             processes there keep it out (chrt -o -p 0 PID)"
        }
        Knob::MemoryHigh { .. } | Knob::MemoryMax { .. } => {
            "compare memory.current and memory.stat of the cgroup with the limit: free memory in \
             it or wish for more"
        }
        Knob::IoMax { .. } => {
            "see with lsblk whether the disk is still there, and whether io is in \
             cgroup.subtree_control of the cgroup above (berth doctor --area io)"
        }
        Knob::IoWeight { .. } => {
            "see berth doctor --area io: weights need iocost, or the scheduler bfq, on that disk"
        }
        Knob::IoCost { .. } => {
            "see berth doctor --area io: the kernel needs CONFIG_BLK_CGROUP_IOCOST; leave iocost \
             out of the disk's entry in agent.toml where it has none"
        }
        Knob::WritebackLatency { .. } => {
            "see whether queue/wbt_lat_usec of that disk can be written: it needs \
             CONFIG_BLK_WBT_MQ, and the scheduler bfq forbids it"
        }
        Knob::Project { .. } => {
            "look at the file that the reason names: an immutable one (lsattr shows i) needs \
             chattr -i, one with a lease its holder's end"
        }
        Knob::Quota { .. } => {
            "see berth doctor --area disk: the filesystem must be mounted with prjquota and be \
             writable"
        }
        Knob::Irq { .. } => {
            "leave interrupts that its device places to that: name them under irq.leave in \
             agent.toml; see berth doctor --area irq"
        }
        Knob::DefaultIrq => "see whether one of these CPUs is online, and berth doctor --area irq",
        Knob::Rps { .. } | Knob::Xps { .. } => {
            "see with berth vf show whether the interface and its queue are still there; CPUs \
             isolated at boot (isolcpus, nohz_full) cannot do it"
        }
    }
}
