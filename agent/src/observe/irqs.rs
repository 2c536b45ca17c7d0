//! The node's interrupts.

use std::collections::BTreeMap;

use berth_kernel::error::AbsentIsFine;
use berth_kernel::{CpuSet, Irq, PciAddr, Result, Root, irq, pci};

/// An interrupt that has, or had, a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interrupt {
    /// Its number.
    pub(crate) irq: u32,
    /// The CPUs it may arrive at.
    pub(crate) affinity: CpuSet,
    /// The names of its handlers; none while it has none.
    pub(crate) actions: Vec<String>,
    /// The NUMA node of its device, if known.
    pub(crate) node: Option<u32>,
    /// The PCI device that raises it, if it is one of MSI or MSI-X.
    pub(crate) device: Option<PciAddr>,
    /// Why it cannot be moved, if that has turned out.
    pub(crate) fixed: Option<String>,
}

/// The interrupts that turned out not to be movable. The kernel tells only when asked
/// to move them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fixed(BTreeMap<u32, (Vec<String>, String)>);

impl Fixed {
    /// Remembers that interrupt `irq` with the handlers `actions` did not move, and why.
    pub(crate) fn learn(&mut self, irq: u32, actions: Vec<String>, why: String) {
        self.0.insert(irq, (actions, why));
    }

    /// Why it does not move, if that is known. With other handlers it is another
    /// interrupt: the kernel uses numbers again.
    pub(crate) fn why(&self, irq: u32, actions: &[String]) -> Option<&str> {
        let (known, why) = self.0.get(&irq)?;
        (known == actions).then_some(why.as_str())
    }
}

/// All of them, in order of number. One that goes meanwhile is left out.
///
/// # Errors
/// When `/proc/irq` or an interrupt's files cannot be read.
pub(crate) fn all(root: &Root, fixed: &Fixed) -> Result<Vec<Interrupt>> {
    let owners = pci::msi_owners(root)?;
    let mut all = Vec::new();
    for irq in irq::all(root)? {
        // An interrupt the kernel keeps to itself has no such file.
        let Some(affinity) = irq::affinity(root, irq).absent_is_fine()? else {
            continue;
        };
        all.push(one(root, irq, affinity, fixed, &owners)?);
    }
    Ok(all)
}

fn one(
    root: &Root,
    irq: Irq,
    affinity: CpuSet,
    fixed: &Fixed,
    owners: &BTreeMap<Irq, PciAddr>,
) -> Result<Interrupt> {
    let actions = irq::actions(root, irq)
        .absent_is_fine()?
        .unwrap_or_default();
    Ok(Interrupt {
        irq: irq.0,
        affinity,
        node: irq::node(root, irq).absent_is_fine()?.flatten(),
        device: owners.get(&irq).copied(),
        fixed: fixed.why(irq.0, &actions).map(str::to_owned),
        actions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_are_read_with_their_devices_and_what_was_learnt() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        for (path, text) in [
            (root.proc.join("irq/4/smp_affinity_list"), "0-3\n"),
            (root.proc.join("irq/45/smp_affinity_list"), "2\n"),
            (root.proc.join("irq/45/node"), "1\n"),
            (root.sys.join("kernel/irq/45/actions"), "net1-rx-0\n"),
            (root.proc.join("irq/default_smp_affinity"), "f\n"),
        ] {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        // Gone between the listing and the reading.
        std::fs::create_dir_all(root.proc.join("irq/99")).unwrap();
        let vf = root.sys.join("bus/pci/devices/0000:01:10.2/msi_irqs");
        std::fs::create_dir_all(vf.join("45")).unwrap();
        let names = vec!["net1-rx-0".to_owned()];
        let mut fixed = Fixed::default();
        fixed.learn(4, vec![], "managed".into());
        let seen = all(&root, &fixed).unwrap();
        let expected = [
            Interrupt {
                irq: 4,
                affinity: "0-3".parse().unwrap(),
                actions: vec![],
                node: None,
                device: None,
                fixed: Some("managed".into()),
            },
            Interrupt {
                irq: 45,
                affinity: "2".parse().unwrap(),
                actions: names.clone(),
                node: Some(1),
                device: Some("0000:01:10.2".parse().unwrap()),
                fixed: None,
            },
        ];
        assert_eq!(seen, expected);
        fixed.learn(45, names.clone(), "managed".into());
        assert_eq!(fixed.why(45, &names), Some("managed"));
        assert_eq!(
            fixed.why(45, &["eth1".into()]),
            None,
            "another has the number"
        );
    }
}
