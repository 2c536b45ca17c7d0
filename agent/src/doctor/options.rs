//! The kernel's build options and modules.

use berth_kernel::kconfig::Setting;
use berth_kernel::module::State;

use super::facts::Facts;
use super::{Area, Check, Status};

/// A build option Berth has a use for.
struct Wanted {
    name: &'static str,
    /// The module it builds with `=m`, when there is exactly one.
    module: Option<&'static str>,
    area: Area,
    /// The outcome when it is not set.
    absent: Status,
    /// What it means that it is not there.
    without: &'static str,
}

const fn wanted(
    name: &'static str,
    module: Option<&'static str>,
    area: Area,
    absent: Status,
    without: &'static str,
) -> Wanted {
    Wanted {
        name,
        module,
        area,
        absent,
        without,
    }
}

use Status::{Limited, Missing};

const WANTED: &[Wanted] = &[
    wanted("NET_NS", None, Area::Core, Missing, "no container networks"),
    wanted(
        "VETH",
        Some("veth"),
        Area::Core,
        Missing,
        "no containers on bridges",
    ),
    wanted(
        "BRIDGE",
        Some("bridge"),
        Area::Core,
        Missing,
        "no containers on bridges",
    ),
    wanted(
        "NF_TABLES",
        Some("nf_tables"),
        Area::Core,
        Limited,
        "no ipMasq, no bpduFilter, and no macspoofchk where ports cannot be locked",
    ),
    wanted(
        "NFT_MASQ",
        Some("nft_masq"),
        Area::Core,
        Limited,
        "no ipMasq",
    ),
    wanted(
        "NF_TABLES_BRIDGE",
        None,
        Area::Core,
        Limited,
        "no bpduFilter, and no macspoofchk where ports cannot be locked",
    ),
    wanted(
        "NET_SCH_TBF",
        Some("sch_tbf"),
        Area::Core,
        Limited,
        "no bandwidth limits of bridge ports",
    ),
    wanted(
        "NET_ACT_MIRRED",
        Some("act_mirred"),
        Area::Core,
        Limited,
        "no limits of what containers on bridges send",
    ),
    wanted(
        "IFB",
        Some("ifb"),
        Area::Core,
        Limited,
        "no limits of what containers on bridges send",
    ),
    wanted(
        "BRIDGE_VLAN_FILTERING",
        None,
        Area::Vlan,
        Missing,
        "no VLANs on bridges; untagged bridges work",
    ),
    wanted(
        "VLAN_8021Q",
        Some("8021q"),
        Area::Vlan,
        Limited,
        "no gateway inside a VLAN and no per-vlan layout",
    ),
    wanted(
        "PCI_IOV",
        None,
        Area::Sriov,
        Missing,
        "no virtual functions",
    ),
    wanted(
        "RPS",
        None,
        Area::Irq,
        Missing,
        "received packets cannot be spread over CPUs",
    ),
    wanted(
        "XPS",
        None,
        Area::Irq,
        Limited,
        "sent packets keep the driver's queues",
    ),
    wanted("CPUSETS", None, Area::Cpu, Missing, "no exclusive cores"),
    wanted("MEMCG", None, Area::Memory, Missing, "no memory limits"),
    wanted(
        "PSI",
        None,
        Area::Memory,
        Limited,
        "memory is shrunk without watching pressure",
    ),
    wanted(
        "XFS_QUOTA",
        None,
        Area::Disk,
        Limited,
        "no disk limits on xfs",
    ),
    wanted("QUOTA", None, Area::Disk, Limited, "no disk limits on ext4"),
    wanted(
        "QFMT_V2",
        Some("quota_v2"),
        Area::Disk,
        Limited,
        "no disk limits on ext4",
    ),
    wanted(
        "BLK_CGROUP",
        None,
        Area::Io,
        Missing,
        "no IO limits and shares",
    ),
    wanted(
        "BLK_DEV_THROTTLING",
        None,
        Area::Io,
        Missing,
        "no IO limits (io.max)",
    ),
    wanted(
        "CGROUP_WRITEBACK",
        None,
        Area::Io,
        Limited,
        "no limits on buffered writes",
    ),
    wanted(
        "BLK_CGROUP_IOCOST",
        None,
        Area::Io,
        Limited,
        "no IO shares for buffered writes",
    ),
];

/// The modules [`checks`] wants to know about.
pub(super) fn modules() -> impl Iterator<Item = &'static str> {
    WANTED.iter().filter_map(|wanted| wanted.module)
}

/// The options [`checks`] wants to know about.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    WANTED.iter().map(|wanted| wanted.name)
}

/// One check for each option.
pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    WANTED.iter().map(|wanted| wanted.check(facts)).collect()
}

impl Wanted {
    /// A module that is there proves more than the configuration says.
    fn check(&self, facts: &Facts) -> Check {
        let state = self.state(facts);
        let setting = match &facts.options {
            Ok(options) => options.get(self.name).unwrap_or(&Setting::Unknown),
            Err(_) => &Setting::Unknown,
        };
        match (setting, state) {
            (_, State::Loaded) => self.ok("module, loaded"),
            (Setting::BuiltIn | Setting::Value(_), _) | (_, State::BuiltIn) => self.ok("built in"),
            (Setting::Module | Setting::Unknown, State::Loadable) => {
                self.ok("module, loaded on demand")
            }
            (Setting::Module, State::Absent) => self.no_module(),
            (Setting::Module, State::Unknown) => self.ok("module"),
            (Setting::Off, _) => self.not_set(),
            (Setting::Unknown, State::Absent | State::Unknown) => {
                let reason = facts.options.as_ref().err();
                self.unknown(reason.map_or("not in the configuration", String::as_str))
            }
        }
    }

    fn state(&self, facts: &Facts) -> State {
        let modules = facts.modules.as_ref().ok();
        let state = self.module.and_then(|name| modules?.get(name));
        state.copied().unwrap_or(State::Unknown)
    }

    fn ok(&self, seen: &str) -> Check {
        Check::ok(
            "kernel.option",
            self.area,
            format!("CONFIG_{}", self.name),
            seen,
        )
    }

    fn not_set(&self) -> Check {
        let remedy = format!(
            "boot a kernel with CONFIG_{}; general-purpose distribution kernels have it",
            self.name
        );
        self.ok("not set in this kernel")
            .but(self.absent, self.without, remedy)
    }

    fn no_module(&self) -> Check {
        let name = self.module.unwrap_or_default();
        self.ok(&format!("built as module {name}, which is not installed")).but(
            self.absent,
            self.without,
            format!("install this kernel's modules (package linux-modules or kernel-modules), then modprobe {name}"),
        )
    }

    fn unknown(&self, reason: &str) -> Check {
        self.ok(reason).but(
            Status::Unknown,
            format!("if it is not set: {}", self.without),
            "put the kernel's configuration at /boot/config-RELEASE, or load the module configs",
        )
    }
}
