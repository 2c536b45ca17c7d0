//! The agent keeps no capability it has no use for.

use anyhow::{Context, Result};
use caps::{CapSet, Capability, CapsHashSet};

/// What it uses, and for what.
const USED: &[Capability] = &[
    // quotactl(2), entering network namespaces, mounting their sysfs.
    Capability::CAP_SYS_ADMIN,
    // Settings of links and queues, reading VFs.
    Capability::CAP_NET_ADMIN,
    // Namespaces of other users' processes.
    Capability::CAP_SYS_PTRACE,
    // Directories of workloads that root may not read, or may not own.
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_FOWNER,
    // The socket belongs to the group `berth`.
    Capability::CAP_CHOWN,
    // A VF's driver bound anew, its function reset.
    Capability::CAP_SYS_RAWIO,
];

/// Drops all other capabilities, from the bounding set too, so that no child of ours has
/// them either.
///
/// # Errors
/// When the kernel refuses, or a capability that is needed is not there.
pub(super) fn reduce() -> Result<()> {
    let used: CapsHashSet = USED.iter().copied().collect();
    let have = caps::read(None, CapSet::Permitted).context("read the agent's capabilities")?;
    for capability in [Capability::CAP_SYS_ADMIN, Capability::CAP_NET_ADMIN] {
        if !have.contains(&capability) {
            anyhow::bail!(
                "the agent lacks {capability}: run it as root, or with the capabilities of the \
                 unit file in docs/agent.md"
            );
        }
    }
    let keep: CapsHashSet = used.intersection(&have).copied().collect();
    for capability in caps::read(None, CapSet::Bounding)?.difference(&keep) {
        // Without CAP_SETPCAP the bounding set stays; the agent starts no programs.
        if let Err(error) = caps::drop(None, CapSet::Bounding, *capability) {
            log::debug!("keep {capability} in the bounding set: {error}");
        }
    }
    caps::set(None, CapSet::Effective, &keep).context("drop effective capabilities")?;
    caps::set(None, CapSet::Permitted, &keep).context("drop permitted capabilities")?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new()).context("drop inheritable ones")
}
