//! The kernel's release, and what needs a newer one than the oldest supported.

use berth_kernel::release::Version;

use super::facts::{Facts, Proof};
use super::{Area, Check, Status};

/// The oldest kernel Berth runs on: `SO_NETNS_COOKIE` and `quotactl_fd` are in it.
const OLDEST: Version = Version::new(5, 14);

/// A feature newer than [`OLDEST`].
struct Feature {
    id: &'static str,
    area: Area,
    name: &'static str,
    since: Version,
    proof: Option<Proof>,
    /// What it means that it is not there.
    without: &'static str,
}

const FEATURES: &[Feature] = &[
    Feature {
        id: "feature.locked-port",
        area: Area::Core,
        name: "locked bridge ports",
        since: Version::new(5, 18),
        proof: None,
        without: "macspoofchk needs nftables instead of a locked port",
    },
    Feature {
        id: "feature.affinity-returns",
        area: Area::Cpu,
        name: "affinity kept across cpuset changes",
        since: Version::new(6, 2),
        proof: None,
        without: "a thread's own CPU mask is lost when its workload shrinks",
    },
    Feature {
        id: "feature.remote-partition",
        area: Area::Cpu,
        name: "remote cpuset partitions",
        since: Version::new(6, 7),
        proof: Some(Proof::ExclusiveCpus),
        without: "exclusive cores only with best_effort, kept by shrinking the siblings",
    },
    Feature {
        id: "feature.memory-reclaim",
        area: Area::Memory,
        name: "memory.reclaim",
        since: Version::new(5, 19),
        proof: Some(Proof::MemoryReclaim),
        without: "shrinking memory works through memory.high alone and takes longer",
    },
];

/// One check for the release, one for each feature.
pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let features = FEATURES.iter().map(|feature| feature.check(facts));
    std::iter::once(release(facts)).chain(features).collect()
}

fn release(facts: &Facts) -> Check {
    let check = |seen: &str| Check::ok("kernel.release", Area::Core, "kernel", seen);
    match &facts.release {
        Ok(release) if release.is_at_least(OLDEST) => check(release.as_str()),
        Ok(release) => check(&format!("this is {release}")).but(
            Status::Missing,
            format!("Berth does not run on a kernel older than {OLDEST}"),
            format!("boot Linux {OLDEST} or newer"),
        ),
        Err(reason) => check(reason).but(Status::Unknown, "features cannot be judged", ""),
    }
}

impl Feature {
    /// A file that proves the feature beats the version: distributions take features
    /// back to older kernels.
    fn check(&self, facts: &Facts) -> Check {
        let since = self.since;
        let check = |seen: &str| Check::ok(self.id, self.area, self.name, seen);
        if self
            .proof
            .is_some_and(|proof| facts.proofs.contains(&proof))
        {
            return check("seen on this kernel");
        }
        match &facts.release {
            Ok(release) if release.is_at_least(since) => check(&format!("in Linux since {since}")),
            Ok(release) => {
                let seen = format!("Linux has it since {since}, this is {release}");
                let remedy = format!("boot Linux {since} or newer");
                check(&seen).but(Status::Limited, self.without, remedy)
            }
            Err(reason) => check(reason).but(Status::Unknown, self.without, ""),
        }
    }
}
