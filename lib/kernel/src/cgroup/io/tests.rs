use super::super::tests::{group, put};
use super::*;
use crate::error::Kind;

fn device(text: &str) -> DeviceNumber {
    text.parse().unwrap()
}

/// Linux 6.12: `cat io.max io.weight io.stat`; `(unknown)` is a multipath NVMe's.
#[test]
fn lines_are_found_by_device() {
    let (_dir, root, game) = group("io\n");
    put(
        &root,
        "game/io.max",
        "254:0 rbps=max wbps=4096 riops=max wiops=9\n",
    );
    let wished = IoMax {
        wbps: Limit::At(4096),
        wiops: Limit::At(9),
        ..IoMax::NONE
    };
    assert_eq!(max(&game, device("254:0")), Ok(wished));
    assert_eq!(max(&game, device("54:0")), Ok(IoMax::NONE));
    put(&root, "game/io.weight", "default 100\n254:0 300\n");
    assert_eq!(weight(&game, device("254:0")), Ok(Some(300)));
    assert_eq!(weight(&game, device("254:16")), Ok(None));
    assert_eq!(default_weight(&game), Ok(100));
    let lines = "259:1 rbytes=12288 wbytes=0 rios=3 wios=0 dbytes=0 dios=0\n\
                 (unknown) rbytes=12288 wbytes=0 rios=3 wios=0 dbytes=0 dios=0\n8:0 \n";
    put(&root, "game/io.stat", lines);
    let stat = stat(&game).unwrap();
    assert_eq!(stat.len(), 2);
    assert_eq!(
        (stat[&device("259:1")].rbytes, stat[&device("259:1")].rios),
        (12_288, 3)
    );
    assert_eq!(stat[&device("8:0")], IoStat::default());
}

#[test]
fn limits_of_nothing_are_refused_and_wide_ones_settle() {
    let (_dir, root, game) = group("io\n");
    put(&root, "game/io.max", "");
    let none = IoMax {
        rbps: Limit::At(0),
        ..IoMax::NONE
    };
    let error = set_max(&game, device("8:0"), &none).unwrap_err();
    assert!(error.to_string().contains("no limit of 0"), "{error}");
    let edge = u64::from(u32::MAX);
    let settles = |riops| {
        IoMax {
            riops,
            ..IoMax::NONE
        }
        .settled()
        .riops
    };
    assert_eq!(settles(Limit::At(edge)), Limit::Max);
    assert_eq!(settles(Limit::At(edge - 1)), Limit::At(edge - 1));
    let some = IoMax {
        wbps: Limit::At(1),
        ..IoMax::NONE
    };
    assert_eq!(set_max(&game, device("8:0"), &some), Ok(()));
    assert_eq!(max(&game, device("8:0")), Ok(some));
}

#[test]
fn a_partition_is_told_with_its_disk() {
    let (_dir, root, _game) = group("io\n");
    let disk = root.sys.join("devices/vda");
    std::fs::create_dir_all(disk.join("vda1")).unwrap();
    std::fs::write(disk.join("dev"), "254:0\n").unwrap();
    std::fs::write(disk.join("vda1/partition"), "1\n").unwrap();
    std::fs::create_dir_all(root.sys.join("dev/block")).unwrap();
    std::os::unix::fs::symlink(disk.join("vda1"), root.sys.join("dev/block/254:1")).unwrap();
    let error = || Error::errno("write", "io.max", Errno::ENODEV);
    let told = |text| about_device(&root, device(text), error()).to_string();
    assert!(
        told("254:1").contains("name that, 254:0"),
        "{}",
        told("254:1")
    );
    assert!(
        told("9:9").contains("no whole block device 9:9"),
        "{}",
        told("9:9")
    );
    assert_eq!(error().kind(), Kind::NotFound);
}
