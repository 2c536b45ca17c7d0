//! Virtual functions made for a test, and everything about one that a container or a
//! plugin can change, as named facts.
//!
//! Witnesses are `ip`, `ethtool` and files of the kernel, never Berth's own code.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::node::{Node, Port};
use crate::pod::read_trimmed;
use crate::snapshot::Snapshot;
use crate::space::{Space, poll};

mod facts;

/// How long VFs may take to have their links; emulated ones take 1.5 s.
const APPEAR_LIMIT: Duration = Duration::from_secs(20);

/// One virtual function, with its name at the time it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vf {
    /// The port it belongs to.
    pub port: Port,
    /// Its index there, from 0.
    pub index: usize,
    /// Its PCI address: `0000:21:10.0`.
    pub address: String,
    /// Its link's name in the first network namespace.
    pub name: String,
}

/// What is looked at of a VF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Everything.
    Whole,
    /// Without what `ethtool` shows: three programs less to start, for comparisons by
    /// the hundred.
    Short,
}

impl Node {
    /// Makes VFs, so many per port, in the order of `wanted`. Only for a test
    /// [at home](crate::Test::at_home), where the kernel puts their links; they go with
    /// the test. The ports are up, with carrier.
    pub fn vfs(&self, wanted: &[(Port, usize)]) -> Result<Vec<Vf>> {
        // A VF that is probed while its port has no carrier yet never gets its address.
        for (port, _) in wanted {
            self.ip(&format!("link set {} up", port.name()))?;
        }
        for (port, _) in wanted {
            self.port_up(*port)?;
        }
        for (port, count) in wanted {
            write_num_vfs(*port, *count)?;
        }
        let mut vfs = Vec::new();
        for (port, count) in wanted {
            self.port_up(*port)?;
            for index in 0..*count {
                let what = format!("link of VF {index} of {}", port.name());
                vfs.push(poll(&what, APPEAR_LIMIT, || Ok(find(*port, index).ok()))?);
            }
            self.introduce(&vfs[vfs.len() - count..])?;
        }
        Ok(vfs)
    }

    /// A VF that was probed while its PF started anew has an address that the PF does
    /// not know of until the VF is up for the first time. `vfs` are of one PF.
    fn introduce(&self, vfs: &[Vf]) -> Result<()> {
        let Some(port) = vfs.first().map(|vf| vf.port) else {
            return Ok(());
        };
        let unknown = |side: &&Value| side["address"] == "00:00:00:00:00:00";
        let list = self.link(port.name())?["vfinfo_list"].take();
        for side in list.as_array().into_iter().flatten().filter(unknown) {
            let Some(vf) = vfs.iter().find(|vf| side["vf"] == vf.index) else {
                continue;
            };
            self.ip(&format!("link set {} up", vf.name))?;
            let what = format!("address of VF {} at its PF", vf.address);
            poll(&what, APPEAR_LIMIT, || {
                Ok((!unknown(&&vf.side(self)?)).then_some(()))
            })?;
            self.ip(&format!("link set {} down", vf.name))?;
        }
        Ok(())
    }

    /// Every fact about these VFs, with their links where they are at home: in the first
    /// network namespace.
    pub fn vf_facts(&self, vfs: &[Vf], look: Look) -> Result<Snapshot> {
        facts::read(self, self, vfs, look)
    }

    /// The same for one VF whose link is in `pod`.
    pub fn vf_facts_in(&self, pod: &impl Space, vf: &Vf, look: Look) -> Result<Snapshot> {
        facts::read(self, pod, std::slice::from_ref(vf), look)
    }
}

impl Vf {
    /// Its directory below `/sys/bus/pci/devices`.
    pub fn sysfs(&self) -> PathBuf {
        device(&self.address)
    }

    /// The links it has in the first network namespace.
    pub fn links(&self) -> Vec<String> {
        links_of(&self.sysfs())
    }

    /// The driver bound to it, if any.
    pub fn driver(&self) -> Option<String> {
        let driver = fs::read_link(self.sysfs().join("driver")).ok()?;
        Some(driver.file_name()?.to_string_lossy().into_owned())
    }

    /// Its interrupts in the order of its vectors; none without a driver.
    pub fn irqs(&self) -> Result<Vec<u32>> {
        let entries = fs::read_dir(self.sysfs().join("msi_irqs"));
        let mut irqs = Vec::new();
        for entry in entries.into_iter().flatten() {
            irqs.push(entry?.file_name().to_string_lossy().parse()?);
        }
        irqs.sort_unstable();
        Ok(irqs)
    }

    /// The name of the link with its PCI address in `space`, if there is one.
    pub fn name_in(&self, space: &impl Space) -> Result<Option<String>> {
        let all = space.ip_json("link show")?;
        let links = all.as_array().into_iter().flatten();
        let mut own = links.filter(|link| link["parentdev"] == self.address.as_str());
        Ok(own
            .next()
            .and_then(|link| link["ifname"].as_str())
            .map(str::to_owned))
    }

    /// The PF's view of it: its entry of `vfinfo_list`, as `ip -j -d link show` has it.
    pub fn side(&self, node: &Node) -> Result<Value> {
        let pf = pf_name(&self.address)?;
        let link = node.link(&pf)?;
        let list = link["vfinfo_list"].as_array().cloned().unwrap_or_default();
        let own = list.into_iter().find(|vf| vf["vf"] == self.index);
        own.ok_or_else(|| anyhow!("{pf} lists no VF {}", self.index))
    }

    /// Takes its driver away.
    pub fn unbind(&self) -> Result<()> {
        let path = self.sysfs().join("driver/unbind");
        fs::write(&path, &self.address).with_context(|| format!("write {}", path.display()))
    }

    /// Gives it to a driver that was loaded.
    pub fn bind(&self, driver: &str) -> Result<()> {
        let path = format!("/sys/bus/pci/drivers/{driver}/bind");
        fs::write(&path, &self.address).with_context(|| format!("write {path}"))
    }
}

/// The vectors of a VF with one queue by what they do, as their handlers are called:
/// `net1-rx-0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vectors {
    /// What is sent.
    pub tx: u32,
    /// What is received.
    pub rx: u32,
    /// Everything else.
    pub control: u32,
}

impl Vectors {
    /// Those of a VF that is up.
    pub fn of(vf: &Vf) -> Result<Self> {
        let (mut tx, mut rx, mut control) = (None, None, None);
        for irq in vf.irqs()? {
            let path = format!("/sys/kernel/irq/{irq}/actions");
            let name = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
            match name.trim() {
                name if name.contains("-tx-") => tx = Some(irq),
                name if name.contains("-rx-") => rx = Some(irq),
                "" => bail!("vector {irq} of {} has no handler", vf.address),
                _ => control = Some(irq),
            }
        }
        Ok(Self {
            tx: tx.context("no tx vector")?,
            rx: rx.context("no rx vector")?,
            control: control.context("no control vector")?,
        })
    }

    /// Where tx, rx and control may go.
    pub fn affinities(&self) -> [String; 3] {
        [self.tx, self.rx, self.control].map(|irq| affinity(irq).unwrap_or_default())
    }
}

/// Puts a program in front of a link in `space`, one that lets every frame pass.
pub fn put_xdp(space: &impl Space, link: &str) -> Result<()> {
    let dir = Path::new("/run/bpf");
    fs::create_dir_all(dir)?;
    let none: Option<&str> = None;
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("bpf"), dir, Some("bpf"), flags, none).context("mount a bpffs")?;
    let path = dir.join("pass");
    crate::sys::pin_xdp_pass(&path).context("load a program")?;
    space.ip(&format!(
        "link set dev {link} xdpgeneric pinned {}",
        path.display()
    ))?;
    Ok(())
}

/// Which CPUs took an interrupt how often.
pub fn counts(irq: u32) -> Result<Vec<u64>> {
    let text = read_trimmed(Path::new(&format!("/sys/kernel/irq/{irq}/per_cpu_count")))?;
    let counts = text.split(',').map(|count| count.parse());
    counts
        .collect::<Result<_, _>>()
        .with_context(|| format!("counts of interrupt {irq}: {text:?}"))
}

/// The CPUs an interrupt may go to, as a list; `None` until a driver asked for it.
pub fn affinity(irq: u32) -> Option<String> {
    read_trimmed(Path::new(&format!("/proc/irq/{irq}/smp_affinity_list"))).ok()
}

/// The CPU it really goes to; true after the next interrupt only.
pub fn effective_affinity(irq: u32) -> Result<String> {
    read_trimmed(Path::new(&format!(
        "/proc/irq/{irq}/effective_affinity_list"
    )))
}

/// Sets how many VFs a port has, through 0 if it has another number.
pub fn set_num_vfs(port: Port, count: usize) -> Result<()> {
    write_num_vfs(port, 0)?;
    write_num_vfs(port, count)
}

fn write_num_vfs(port: Port, count: usize) -> Result<()> {
    let path = port.device()?.join("sriov_numvfs");
    fs::write(&path, count.to_string())
        .with_context(|| format!("write {count} to {}", path.display()))
}

/// Takes every VF of a port away, if it has any.
pub(crate) fn remove(port: Port) -> Result<()> {
    let path = port.device()?.join("sriov_numvfs");
    match read_trimmed(&path) {
        Ok(count) if count != "0" => write_num_vfs(port, 0),
        _ => Ok(()),
    }
}

fn find(port: Port, index: usize) -> Result<Vf> {
    let link = port.device()?.join(format!("virtfn{index}"));
    let target = fs::read_link(&link).with_context(|| format!("read {}", link.display()))?;
    let address = target.file_name().unwrap_or_default().to_string_lossy();
    let links = links_of(&device(&address));
    ensure!(links.len() == 1, "VF {address} has the links {links:?}");
    Ok(Vf {
        port,
        index,
        address: address.into_owned(),
        name: links[0].clone(),
    })
}

/// The present name of a VF's PF.
fn pf_name(address: &str) -> Result<String> {
    let links = links_of(&device(address).join("physfn"));
    ensure!(links.len() == 1, "the PF of VF {address} has {links:?}");
    Ok(links[0].clone())
}

fn device(address: &str) -> PathBuf {
    Path::new("/sys/bus/pci/devices").join(address)
}

fn links_of(device: &Path) -> Vec<String> {
    let entries = fs::read_dir(device.join("net"));
    let names = entries.into_iter().flatten().flatten();
    names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
