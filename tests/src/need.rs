//! What a test needs of the machine, and whether it is there: tried, not guessed.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail};
use berth_kernel::netlink::nft::{BaseChain, Batch, ChainType, Family, Hook, Name, Nft, Table};
use nix::sched::{CloneFlags, unshare};

use crate::command;
use crate::node::Port;
use crate::pod::in_thread;
use crate::trace::{self, Side, Strike};

/// A capability of the machine a test cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    /// Root, and the right to make namespaces. Every test needs it.
    Root,
    /// A bridge with `vlan_filtering` (CONFIG_BRIDGE_VLAN_FILTERING).
    VlanFiltering,
    /// 802.1Q devices (CONFIG_VLAN_8021Q).
    Vlan8021q,
    /// Bonds of links (CONFIG_BONDING).
    Bonding,
    /// nftables over netlink (CONFIG_NF_TABLES) and the `nft` tool to look at it.
    Nftables,
    /// Token buckets, ifb and redirection to it (CONFIG_NET_SCH_TBF, CONFIG_IFB,
    /// CONFIG_NET_CLS_U32, CONFIG_NET_ACT_MIRRED), and the `tc` tool to look at them.
    Shaping,
    /// nftables on bridges (CONFIG_NF_TABLES_BRIDGE); no tool.
    BridgeRules,
    /// A PCI function with SR-IOV.
    Sriov,
    /// A mounted xfs with project quota.
    XfsQuota,
    /// A mounted ext4 with project quota.
    Ext4Quota,
    /// cgroup v2 at `/sys/fs/cgroup` with cpu, cpuset, io, memory and pids.
    CgroupV2,
    /// The lab's wire; the test is lent [`Port::Uplink`] and [`Port::Peer`].
    Wire,
    /// The right to trace another program's system calls (ptrace(2)).
    Ptrace,
    /// The reference's chained CNI plugins in [`Need::REFERENCE_PLUGINS`], where Debian's
    /// package containernetworking-plugins puts them.
    ReferencePlugins,
    /// A program on PATH.
    Tool(&'static str),
}

impl Need {
    /// Where the reference's plugins are.
    pub const REFERENCE_PLUGINS: &str = "/usr/lib/cni";

    /// `Ok` when the machine has it, otherwise the reason why not.
    pub fn check(self) -> Result<()> {
        match self {
            Self::Root => in_new_namespace("link show lo").context("no root rights"),
            Self::VlanFiltering => in_new_namespace("link add br0 type bridge vlan_filtering 1")
                .context("no VLAN filtering on bridges in this kernel"),
            Self::Vlan8021q => has_8021q().context("no 802.1Q devices in this kernel"),
            Self::Bonding => in_new_namespace("link add bond9 type bond mode active-backup")
                .context("no bonds in this kernel"),
            Self::Nftables => has_nftables().context("no nftables in this kernel"),
            Self::Shaping => has_shaping().context("no bandwidth limits in this kernel"),
            Self::BridgeRules => {
                has_bridge_rules().context("no nftables on bridges in this kernel")
            }
            Self::Sriov => has_sriov().context("no SR-IOV"),
            Self::XfsQuota => has_quota("xfs"),
            Self::Ext4Quota => has_quota("ext4"),
            Self::CgroupV2 => has_cgroup_v2().context("no cgroup v2"),
            Self::Wire => has_wire().context("no wire"),
            Self::Ptrace => can_trace().context("no ptrace"),
            Self::ReferencePlugins => has_reference_plugins(),
            Self::Tool(name) => on_path(name),
        }
    }

    /// The ports a test with this need is lent.
    pub(crate) fn ports(self) -> &'static [Port] {
        match self {
            Self::Wire => &[Port::Uplink, Port::Peer],
            _ => &[],
        }
    }
}

/// What was found out about the machine so far: each need is tried once.
#[derive(Debug, Default)]
pub(crate) struct Probes(Mutex<HashMap<Need, Option<String>>>);

impl Probes {
    /// Why one of `needs`, or root, is not met, if so.
    pub(crate) fn missing(&self, needs: &[Need]) -> Option<String> {
        let mut probed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let root = std::iter::once(&Need::Root);
        root.chain(needs).find_map(|need| {
            let reason = probed
                .entry(*need)
                .or_insert_with(|| need.check().err().map(|error| format!("{error:#}")));
            reason.clone()
        })
    }
}

fn in_new_namespace(ip: &'static str) -> Result<()> {
    in_thread(move || {
        unshare(CloneFlags::CLONE_NEWNET).context("unshare the network namespace")?;
        command::run(Command::new("ip").args(ip.split(' ')))?;
        Ok(())
    })
}

/// A bridge serves as the lower device: unlike `dummy` it is there wherever Berth is.
fn has_8021q() -> Result<()> {
    in_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).context("unshare the network namespace")?;
        command::run(Command::new("ip").args(["link", "add", "br0", "type", "bridge"]))?;
        let vlan = "link add link br0 name v5 type vlan id 5";
        command::run(Command::new("ip").args(vlan.split(' ')))?;
        Ok(())
    })
}

fn has_nftables() -> Result<()> {
    on_path("nft")?;
    in_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).context("unshare the network namespace")?;
        command::run(Command::new("nft").args(["add", "table", "bridge", "probe"]))?;
        Ok(())
    })
}

fn has_shaping() -> Result<()> {
    on_path("tc")?;
    in_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).context("unshare the network namespace")?;
        for line in [
            "ip link add i0 type ifb",
            "tc qdisc add dev i0 root tbf rate 8mbit burst 10000 limit 35000",
            "tc qdisc add dev lo ingress",
            "tc filter add dev lo parent ffff: u32 match u32 0 0 \
             action mirred egress redirect dev i0",
        ] {
            let mut words = line.split_whitespace();
            let program = words.next().context("an empty line")?;
            command::run(Command::new(program).args(words))?;
        }
        Ok(())
    })
}

fn has_bridge_rules() -> Result<()> {
    in_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).context("unshare the network namespace")?;
        let probe: Name = "probe".parse()?;
        let table = Table {
            family: Family::Bridge,
            name: probe.clone(),
        };
        let chain = BaseChain {
            name: &probe,
            kind: ChainType::Filter,
            hook: Hook::Prerouting,
            priority: 0,
        };
        let mut batch = Batch::new();
        batch.add_table(&table);
        batch.add_chain(&table, &chain);
        Ok(Nft::open()?.apply(&batch, None)?)
    })
}

fn has_sriov() -> Result<()> {
    let dir = Path::new("/sys/bus/pci/devices");
    for device in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let total = fs::read_to_string(device?.path().join("sriov_totalvfs"));
        if total.is_ok_and(|text| text.trim() != "0") {
            return Ok(());
        }
    }
    bail!("no PCI device has sriov_totalvfs above 0");
}

fn has_quota(kind: &str) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    quota_mount(&mounts, kind)
        .map(|_| ())
        .ok_or_else(|| anyhow!("no {kind} is mounted with project quota (prjquota)"))
}

/// The first mount point of `kind` with project quota in the text of `/proc/mounts`.
pub(crate) fn quota_mount<'a>(mounts: &'a str, kind: &str) -> Option<&'a str> {
    quota_mounts(mounts).find(|m| m.1 == kind).map(|m| m.0)
}

/// Mount point and kind of every filesystem with project quota.
pub(crate) fn quota_mounts(mounts: &str) -> impl Iterator<Item = (&str, &str)> {
    mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        let on = options.split(',').any(|o| o == "prjquota" || o == "pquota");
        on.then_some((point, kind))
    })
}

fn has_cgroup_v2() -> Result<()> {
    let path = "/sys/fs/cgroup/cgroup.subtree_control";
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    for wanted in ["cpu", "cpuset", "io", "memory", "pids"] {
        if !text.split_whitespace().any(|name| name == wanted) {
            bail!("{path} lacks {wanted}: {:?}", text.trim());
        }
    }
    Ok(())
}

fn has_wire() -> Result<()> {
    for port in Need::Wire.ports() {
        if !port.is_home()? {
            bail!("no port {}; the lab guest has it", port.name());
        }
    }
    Ok(())
}

/// Also that a call can be prevented: some sandboxes emulate only the looking on.
fn can_trace() -> Result<()> {
    let strike = Strike {
        call: 0,
        side: Side::Before,
    };
    let mut echo = Command::new("echo");
    let traced = trace::run(echo.arg("traced"), b"", Some(strike))?;
    if !traced.struck || !traced.finished.stdout.is_empty() {
        bail!("a traced program was not killed before its first write");
    }
    Ok(())
}

fn has_reference_plugins() -> Result<()> {
    for name in ["bandwidth", "tuning", "sbr", "firewall", "portmap"] {
        let path = Path::new(Need::REFERENCE_PLUGINS).join(name);
        if !path.is_file() {
            bail!("no reference plugin {}", path.display());
        }
    }
    Ok(())
}

fn on_path(name: &str) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|dir| dir.join(name).is_file()) {
        return Ok(());
    }
    bail!("no program {name:?} on PATH")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_quota_is_read_from_the_mount_options() {
        let mounts = "/dev/vda / ext4 rw,relatime 0 0\n\
                      /dev/vdb /data/xfs xfs rw,attr2,prjquota 0 0\n\
                      /dev/vdc /old xfs rw,noquota 0 0\n\
                      /dev/vdd /data/ext4 ext4 rw,prjquota 0 0\n";
        assert_eq!(quota_mount(mounts, "xfs"), Some("/data/xfs"));
        assert_eq!(quota_mount(mounts, "ext4"), Some("/data/ext4"));
        assert_eq!(
            quota_mount("/dev/vdc /old xfs rw,noquota 0 0\n", "xfs"),
            None
        );
    }

    #[test]
    fn a_missing_tool_is_named() {
        let error = Need::Tool("no-such-tool-here").check().unwrap_err();
        assert!(error.to_string().contains("no-such-tool-here"), "{error}");
        Need::Tool("sh").check().unwrap();
    }
}
