use super::*;
use crate::error::Kind;
use std::os::unix::fs::symlink;

/// A NIC with two of seven VFs on NUMA node 1, the second VF in a container; an
/// nvme disk that could have VFs; a bridge that could not.
fn tree() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    let devices = root.sys.join("bus/pci/devices");
    for (name, text) in [
        ("0000:01:00.0/class", "0x020000\n"),
        ("0000:01:00.0/sriov_totalvfs", "7\n"),
        ("0000:01:00.0/sriov_numvfs", "2\n"),
        ("0000:01:00.0/numa_node", "1\n"),
        ("0000:01:00.0/net/enp1s0/mtu", "1500\n"),
        ("0000:01:10.0/net/enp1s0v0/mtu", "1500\n"),
        ("0000:01:10.2/class", "0x020000\n"),
        ("0000:02:00.0/class", "0x010802\n"),
        ("0000:02:00.0/sriov_totalvfs", "4\n"),
        ("0000:02:00.0/sriov_numvfs", "0\n"),
        ("0000:02:00.0/numa_node", "-1\n"),
        ("0000:00:00.0/class", "0x060000\n"),
    ] {
        let path = devices.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let pf = devices.join("0000:01:00.0");
    symlink("../../../bus/pci/drivers/igb", pf.join("driver")).unwrap();
    symlink("../0000:01:10.0", pf.join("virtfn0")).unwrap();
    symlink("../0000:01:10.2", pf.join("virtfn1")).unwrap();
    let driver = devices.join("0000:01:10.2/driver");
    symlink("../../../bus/pci/drivers/igbvf", driver).unwrap();
    (dir, root)
}

#[test]
fn capable_devices_are_listed_with_their_vfs() {
    let (_dir, root) = tree();
    let functions = physical_functions(&root).unwrap();
    let [nic, disk] = functions.as_slice() else {
        panic!("{functions:?}");
    };
    assert_eq!(nic.address.to_string(), "0000:01:00.0");
    assert_eq!(nic.driver.as_deref(), Some("igb"));
    assert!(nic.is_network);
    assert_eq!((nic.total_vfs, nic.num_vfs, nic.numa_node), (7, 2, Some(1)));
    assert_eq!(nic.netdevs, ["enp1s0".parse().unwrap()]);
    let vf = |index, address: &str, driver: Option<&str>, netdevs: &[&str]| VirtualFunction {
        index,
        address: address.parse().unwrap(),
        driver: driver.map(str::to_owned),
        netdevs: netdevs.iter().map(|n| n.parse().unwrap()).collect(),
        numa_node: None,
    };
    let vfs = [
        vf(0, "0000:01:10.0", None, &["enp1s0v0"]),
        vf(1, "0000:01:10.2", Some("igbvf"), &[]),
    ];
    assert_eq!(nic.vfs, vfs);
    assert!(!disk.is_network);
    assert_eq!((disk.total_vfs, disk.num_vfs, disk.numa_node), (4, 0, None));
    assert_eq!((disk.driver.as_deref(), disk.vfs.len()), (None, 0));
}

#[test]
fn a_machine_without_pci_has_none() {
    let root = Root::under(Path::new("/nonexistent"));
    assert_eq!(physical_functions(&root), Ok(vec![]));
}

#[test]
fn a_number_that_is_none_names_the_file() {
    let (_dir, root) = tree();
    let file = root.sys.join("bus/pci/devices/0000:01:00.0/sriov_numvfs");
    std::fs::write(file, "many\n").unwrap();
    let error = physical_functions(&root).unwrap_err();
    assert_eq!(error.kind(), Kind::Malformed);
    assert!(
        error.object.ends_with("0000:01:00.0/sriov_numvfs"),
        "{error}"
    );
}

#[test]
fn interrupts_are_told_by_their_device() {
    let (_dir, root) = tree();
    let devices = root.sys.join("bus/pci/devices");
    for name in ["0000:01:10.2/msi_irqs/45", "0000:02:00.0/msi_irqs/30"] {
        std::fs::create_dir_all(devices.join(name)).unwrap();
    }
    let address = |text: &str| text.parse::<PciAddr>().unwrap();
    let expected = [
        (Irq(30), address("0000:02:00.0")),
        (Irq(45), address("0000:01:10.2")),
    ];
    assert_eq!(msi_owners(&root), Ok(expected.into()));
    let nowhere = Root::under(Path::new("/nonexistent"));
    assert_eq!(msi_owners(&nowhere), Ok(BTreeMap::new()));
}
