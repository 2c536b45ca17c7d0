use std::os::unix::fs::symlink;

use super::*;

/// A fake sysfs with devices as Linux 6.12 lays them out.
struct Tree {
    dir: tempfile::TempDir,
    root: Root,
}

impl Tree {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(&std::fs::canonicalize(dir.path()).unwrap());
        std::fs::create_dir_all(root.sys.join("dev/block")).unwrap();
        Self { dir, root }
    }

    /// A device at `devices/PLACE`, made of the devices at `parts`.
    fn add(&self, number: &str, place: &str, parts: &[&str]) -> Device {
        let devices = self.root.sys.join("devices");
        self.put(place, "dev", &format!("{number}\n"));
        self.put(place, "size", "2048\n");
        symlink(
            devices.join(place),
            self.root.sys.join("dev/block").join(number),
        )
        .unwrap();
        for part in parts {
            let slaves = devices.join(place).join("slaves");
            std::fs::create_dir_all(&slaves).unwrap();
            let name = Path::new(part).file_name().unwrap();
            symlink(devices.join(part), slaves.join(name)).unwrap();
        }
        self.device(number)
    }

    fn put(&self, place: &str, name: &str, text: &str) {
        let path = self.root.sys.join("devices").join(place).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn partition(&self, number: &str, place: &str) -> Device {
        let device = self.add(number, place, &[]);
        self.put(place, "partition", "1\n");
        device
    }

    fn device(&self, number: &str) -> Device {
        Device::open(&self.root, number.parse().unwrap()).unwrap()
    }
}

fn names(devices: &[Device]) -> Vec<&str> {
    devices.iter().map(|d| d.name.as_str()).collect()
}

#[test]
fn a_partition_leads_to_its_disk() {
    let tree = Tree::new();
    let disk = tree.add("8:0", "pci/block/sda", &[]);
    let part = tree.partition("8:1", "pci/block/sda/sda1");
    assert_eq!(part.name, "sda1");
    assert_eq!(part.whole_disk(&tree.root), Ok(disk.clone()));
    assert_eq!(part.io_max_device(&tree.root), Ok(disk.clone()));
    assert_eq!(part.weight_devices(&tree.root), Ok(vec![disk.clone()]));
    assert_eq!(disk.whole_disk(&tree.root), Ok(disk));
}

#[test]
fn a_mapper_is_limited_itself_and_weighed_at_the_bottom() {
    let tree = Tree::new();
    tree.add("8:0", "pci/block/sda", &[]);
    tree.partition("8:3", "pci/block/sda/sda3");
    tree.add("8:16", "pci/block/sdb", &[]);
    tree.partition("8:17", "pci/block/sdb/sdb1");
    let parts = ["pci/block/sda/sda3", "pci/block/sdb/sdb1"];
    tree.add("9:0", "virtual/block/md0", &parts);
    tree.add("253:0", "virtual/block/dm-0", &["virtual/block/md0"]);
    let below = ["virtual/block/dm-0", "pci/block/sda/sda3"];
    let upper = tree.add("253:1", "virtual/block/dm-1", &below);
    assert_eq!(upper.io_max_device(&tree.root), Ok(upper.clone()));
    let bottom = upper.weight_devices(&tree.root).unwrap();
    assert_eq!(names(&bottom), ["sda", "sdb"]);
    let loop0 = tree.add("7:0", "virtual/block/loop0", &[]);
    assert_eq!(loop0.weight_devices(&tree.root), Ok(vec![loop0]));
}

#[test]
fn what_a_disk_is_is_read_at_the_disk() {
    let tree = Tree::new();
    let disk = tree.add("8:0", "pci/block/sda", &[]);
    let part = tree.partition("8:1", "pci/block/sda/sda1");
    let at = "pci/block/sda";
    tree.put(at, "queue/rotational", "0\n");
    assert_eq!(part.model(), Ok(None));
    tree.put(
        at,
        "device/model",
        "QEMU NVMe Ctrl                          \n",
    );
    assert_eq!(part.size_bytes(), Ok(1 << 20));
    assert_eq!(part.rotational(), Ok(false));
    assert_eq!(part.model().unwrap().as_deref(), Some("QEMU NVMe Ctrl"));
    tree.put(at, "queue/wbt_lat_usec", "75000\n");
    assert_eq!(part.writeback_latency(), Ok(75_000));
    part.set_writeback_latency(0).unwrap_err(); // A file keeps what is behind: "05000".
    tree.put(at, "queue/wbt_lat_usec", "2\n");
    disk.set_writeback_latency(0).unwrap();
    assert_eq!(disk.writeback_latency(), Ok(0));
}

#[test]
fn a_device_without_throttling_says_so() {
    let tree = Tree::new();
    let dm = tree.add("253:0", "virtual/block/dm-0", &[]);
    for error in [
        dm.writeback_latency().unwrap_err(),
        dm.set_writeback_latency(0).unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::Unsupported, "{error}");
        let text = error.to_string();
        assert!(text.contains("no writeback throttling on dm-0"), "{text}");
    }
}

#[test]
fn a_size_beyond_counting_and_a_missing_device_are_errors() {
    let tree = Tree::new();
    let disk = tree.add("8:0", "pci/block/cciss!c0d0", &[]);
    assert_eq!(disk.name, "cciss/c0d0");
    tree.put("pci/block/cciss!c0d0", "size", "36028797018963968\n");
    assert_eq!(disk.size_bytes().unwrap_err().kind(), Kind::Malformed);
    let gone = Device::open(&tree.root, "8:64".parse().unwrap()).unwrap_err();
    assert_eq!(gone.kind(), Kind::NotFound);
    assert!(gone.to_string().contains("8:64"), "{gone}");
}

#[test]
fn a_path_leads_to_its_mount_and_its_device() {
    let tree = Tree::new();
    let here = std::fs::canonicalize(tree.dir.path()).unwrap();
    let (_, number) = mounts::resolve(&here).unwrap();
    std::fs::create_dir_all(tree.root.proc.join("self")).unwrap();
    let line = format!("30 1 {number} / {} rw - xfs x rw\n", here.display());
    std::fs::write(tree.root.proc.join("self/mountinfo"), line).unwrap();
    let on = of_path(&tree.root, &here);
    // The directory of the test itself may be on a disk or not.
    if number.major == 0 {
        assert_eq!(on.unwrap_err().kind(), Kind::Unsupported);
        return;
    }
    assert_eq!(on.unwrap_err().kind(), Kind::NotFound);
    tree.add(&number.to_string(), "pci/block/sda", &[]);
    let on = of_path(&tree.root, &here).unwrap();
    assert_eq!((on.device.name.as_str(), on.mount.point), ("sda", here));
}

#[test]
fn a_filesystem_without_a_disk_has_a_way_out() {
    for (fs_type, way_out) in [
        ("overlay", "upperdir"),
        ("btrfs", "xfs or ext4"),
        ("tmpfs", "put it on a disk"),
        ("nfs4", "local disk"),
    ] {
        let text = no_disk(&Mount {
            point: "/m".into(),
            source: None,
            fs_type: fs_type.into(),
            device: "0:9".into(),
            read_only: false,
            project_quota: mounts::ProjectQuota::Unsupported,
        });
        assert!(text.contains(way_out), "{text}");
        assert!(text.starts_with(&format!("{fs_type} at /m")), "{text}");
    }
}
