use super::*;
use crate::error::Kind;
use std::os::unix::fs::symlink;

const PF: &str = "0000:01:00.0";
const VF: &str = "0000:01:10.0";

/// A PF with no VFs of seven, and one of its VFs bound to igbvf with three interrupts
/// whose numbers do not ascend with its vectors. Plain files stand for the kernel's.
struct Tree {
    _dir: tempfile::TempDir,
    root: Root,
}

impl Tree {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        let tree = Self { _dir: dir, root };
        tree.put(&format!("bus/pci/devices/{PF}/sriov_totalvfs"), "7\n");
        tree.put(&format!("bus/pci/devices/{PF}/sriov_numvfs"), "0\n");
        let autoprobe = format!("bus/pci/devices/{PF}/sriov_drivers_autoprobe");
        tree.put(&autoprobe, "1\n");
        for name in ["net/eth0/mtu", "reset"] {
            tree.put(&format!("bus/pci/devices/{VF}/{name}"), "");
        }
        tree.put(&format!("bus/pci/devices/{VF}/driver_override"), "(null)\n");
        tree.put(&format!("bus/pci/devices/{VF}/local_cpulist"), "8-15\n");
        for name in ["bind", "unbind"] {
            tree.put(&format!("bus/pci/drivers/igbvf/{name}"), "");
        }
        for (irq, hardware) in [(44, 1), (45, 2), (50, 0)] {
            tree.put(&format!("bus/pci/devices/{VF}/msi_irqs/{irq}"), "msix\n");
            tree.put(&format!("kernel/irq/{irq}/hwirq"), &format!("{hardware}\n"));
        }
        tree.link(
            &format!("bus/pci/devices/{VF}/driver"),
            "../../drivers/igbvf",
        );
        tree.link(&format!("bus/pci/devices/{VF}/physfn"), &format!("../{PF}"));
        tree
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.root.sys.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn link(&self, name: &str, target: &str) {
        symlink(target, self.root.sys.join(name)).unwrap();
    }

    fn unlink(&self, name: &str) {
        let file = self.root.sys.join("bus/pci/devices").join(name);
        std::fs::remove_file(file).unwrap();
    }

    fn get(&self, name: &str) -> String {
        std::fs::read_to_string(self.root.sys.join("bus/pci").join(name)).unwrap()
    }

    fn device(&self, address: &str) -> Device {
        Device::new(&self.root, address.parse().unwrap())
    }
}

#[test]
fn what_a_device_is() {
    let tree = Tree::new();
    let vf = tree.device(VF);
    assert!(vf.exists() && vf.can_reset());
    assert_eq!(vf.driver(), Ok(Some("igbvf".to_owned())));
    assert_eq!(vf.physfn(), Ok(Some(PF.parse().unwrap())));
    assert_eq!(vf.netdevs(), Ok(vec!["eth0".parse().unwrap()]));
    assert_eq!(vf.local_cpus().unwrap().to_string(), "8-15");
    assert_eq!(vf.driver_override(), Ok(None));
    let gone = tree.device("0000:02:00.0");
    assert!(!gone.exists() && !gone.can_reset());
    assert_eq!((gone.driver(), gone.physfn()), (Ok(None), Ok(None)));
    assert_eq!(gone.msi_irqs(), Ok(vec![]));
    assert_eq!(gone.local_cpus().unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn interrupts_are_in_the_order_of_vectors_not_of_numbers() {
    let irqs = Tree::new().device(VF).msi_irqs();
    assert_eq!(irqs, Ok(vec![Irq(50), Irq(44), Irq(45)]));
}

#[test]
fn unbinding_names_the_device_and_an_unbound_one_is_left_alone() {
    let tree = Tree::new();
    tree.device(VF).unbind().unwrap();
    assert_eq!(tree.get("drivers/igbvf/unbind"), VF);
    tree.device(PF).unbind().unwrap();
}

#[test]
fn binding_what_is_bound_does_nothing_and_another_driver_is_refused() {
    let tree = Tree::new();
    let vf = tree.device(VF);
    vf.bind("igbvf").unwrap();
    assert_eq!(tree.get("drivers/igbvf/bind"), "");
    let error = vf.bind("vfio-pci").unwrap_err();
    assert_eq!(error.kind(), Kind::TryAgain);
    assert!(
        error.to_string().contains("driver igbvf is bound"),
        "{error}"
    );
}

#[test]
fn binding_names_a_driver_that_is_not_loaded_and_a_device_that_is_gone() {
    let tree = Tree::new();
    tree.unlink(&format!("{VF}/driver"));
    let vf = tree.device(VF);
    let error = vf.bind("vfio-pci").unwrap_err();
    assert!(error.to_string().contains("modprobe vfio-pci"), "{error}");
    assert!(error.to_string().contains(VF), "{error}");
    vf.bind("igbvf").unwrap();
    assert_eq!(tree.get("drivers/igbvf/bind"), VF);
    let error = tree.device("0000:02:00.0").bind("igbvf").unwrap_err();
    assert_eq!(error.errno, Some(Errno::ENODEV));
}

#[test]
fn a_refused_bind_is_explained() {
    let tree = Tree::new();
    let vf = tree.device(VF);
    let why = |errno| vf.why_unbound(errno).unwrap_or_default();
    assert_eq!(why(Errno::EIO), "");
    assert!(why(Errno::ENODEV).contains("does not take this device"));
    let autoprobe = format!("bus/pci/devices/{PF}/sriov_drivers_autoprobe");
    tree.put(&autoprobe, "0\n");
    assert!(why(Errno::ENODEV).starts_with("sriov_drivers_autoprobe of its PF 0000:01:00.0"));
    tree.device(VF)
        .set_driver_override(Some("vfio-pci"))
        .unwrap();
    assert!(why(Errno::ENODEV).contains("only vfio-pci"));
}

#[test]
fn a_rebind_waits_for_the_network_device_and_not_forever() {
    let tree = Tree::new();
    let soon = Duration::from_millis(20);
    // Nothing is unbound here, so the driver is still there for the bind.
    assert_eq!(
        tree.device(VF).rebind(soon).unwrap(),
        ["eth0".parse().unwrap()]
    );
    assert_eq!(tree.get("drivers/igbvf/unbind"), VF);
    std::fs::remove_dir_all(tree.root.sys.join(format!("bus/pci/devices/{VF}/net"))).unwrap();
    let error = tree.device(VF).rebind(soon).unwrap_err();
    assert_eq!(error.errno, Some(Errno::ETIMEDOUT));
    assert!(error.to_string().contains("none within 20 ms"), "{error}");
    let error = tree.device(PF).rebind(soon).unwrap_err();
    assert!(error.to_string().contains("no driver is bound"), "{error}");
}

#[test]
fn a_reset_takes_the_driver_off_before() {
    let tree = Tree::new();
    tree.device(VF).reset().unwrap();
    assert_eq!(tree.get("drivers/igbvf/unbind"), VF);
    assert_eq!(tree.get(&format!("devices/{VF}/reset")), "1");
    let error = tree.device(PF).reset().unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
}

#[test]
fn the_number_of_vfs_goes_through_zero_only_if_it_may() {
    let tree = Tree::new();
    let pf = tree.device(PF);
    pf.set_num_vfs(3, Resize::FromZero).unwrap();
    // An equal number is no change, whatever is allowed.
    pf.set_num_vfs(3, Resize::FromZero).unwrap();
    let error = pf.set_num_vfs(4, Resize::FromZero).unwrap_err();
    assert_eq!(error.kind(), Kind::TryAgain);
    assert!(error.to_string().contains("it has 3 VFs"), "{error}");
    let error = pf.set_num_vfs(8, Resize::ThroughZero).unwrap_err();
    assert_eq!(error.errno, Some(Errno::ERANGE));
    assert!(error.to_string().contains("at most 7"), "{error}");
    assert_eq!(tree.get(&format!("devices/{PF}/sriov_numvfs")).trim(), "3");
    pf.set_num_vfs(4, Resize::ThroughZero).unwrap();
    assert_eq!(tree.get(&format!("devices/{PF}/sriov_numvfs")).trim(), "4");
    pf.set_num_vfs(0, Resize::FromZero).unwrap();
    let error = tree
        .device(VF)
        .set_num_vfs(1, Resize::FromZero)
        .unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

#[test]
fn autoprobe_and_driver_override_are_written_by_difference() {
    let tree = Tree::new();
    let (pf, vf) = (tree.device(PF), tree.device(VF));
    assert_eq!(pf.autoprobe(), Ok(true));
    pf.set_autoprobe(true).unwrap();
    let autoprobe = || tree.get(&format!("devices/{PF}/sriov_drivers_autoprobe"));
    assert_eq!(autoprobe(), "1\n");
    pf.set_autoprobe(false).unwrap();
    assert_eq!(
        (autoprobe().as_str().trim(), pf.autoprobe()),
        ("0", Ok(false))
    );
    vf.set_driver_override(None).unwrap();
    let named = || tree.get(&format!("devices/{VF}/driver_override"));
    assert_eq!(named(), "(null)\n");
}
