use super::*;
use crate::Root;
use crate::error::Kind;

fn tree() -> (tempfile::TempDir, NetSysfs, IfName) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    let device = root.sys.join("class/net/eth0");
    std::fs::create_dir_all(&device).unwrap();
    for name in ["gro_flush_timeout", "napi_defer_hard_irqs"] {
        std::fs::write(device.join(name), "0\n").unwrap();
    }
    let sysfs = NetSysfs::at(&root).unwrap();
    (dir, sysfs, "eth0".parse().unwrap())
}

#[test]
fn both_are_written_apart_and_read_back() {
    let (_dir, sysfs, eth0) = tree();
    let twenty = Duration::from_micros(20);
    sysfs.set_gro_flush_timeout(&eth0, twenty).unwrap();
    assert_eq!(sysfs.gro_flush_timeout(&eth0), Ok(twenty));
    assert_eq!(sysfs.napi_defer_hard_irqs(&eth0), Ok(0));
    sysfs.set_napi_defer_hard_irqs(&eth0, 2).unwrap();
    assert_eq!(sysfs.napi_defer_hard_irqs(&eth0), Ok(2));
    assert_eq!(sysfs.gro_flush_timeout(&eth0), Ok(twenty));
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let (_dir, sysfs, eth0) = tree();
    let error = sysfs
        .set_gro_flush_timeout(&eth0, Duration::MAX)
        .unwrap_err();
    assert!(
        error.to_string().contains("too many nanoseconds"),
        "{error}"
    );
    let eth9 = "eth9".parse().unwrap();
    let error = sysfs.set_napi_defer_hard_irqs(&eth9, 1).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(
        error
            .object
            .ends_with("class/net/eth9/napi_defer_hard_irqs"),
        "{error}"
    );
}
