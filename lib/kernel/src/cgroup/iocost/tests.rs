use super::super::tests::{group, put};
use super::*;
use crate::error::Kind;

/// Linux 6.12: `cat io.cost.model io.cost.qos` of a disk that was set and of one that
/// has the kernel's own settings.
const MODELS: &str = "254:16 ctrl=user model=linear rbps=1048576 rseqiops=100 rrandiops=90 \
wbps=1048577 wseqiops=80 wrandiops=70\n7:0 ctrl=auto model=linear rbps=488636629 rseqiops=8932 \
rrandiops=8518 wbps=427891549 wseqiops=28755 wrandiops=21940\n";
const QOSES: &str = "254:16 enable=1 ctrl=user rpct=95.00 rlat=5000 wpct=95.50 wlat=5001 \
min=50.00 max=150.00\n7:0 enable=0 ctrl=auto rpct=0.00 rlat=25000 wpct=0.00 wlat=25000 min=1.00 \
max=10000.00\n";

#[test]
fn lines_are_read_typed_and_written_as_the_kernel_does() {
    let (_dir, root, _game) = group("io\n");
    put(&root, "io.cost.model", MODELS);
    put(&root, "io.cost.qos", QOSES);
    let device = "254:16".parse().unwrap();
    let (model, qos) = active(&root, device).unwrap().unwrap();
    let typed: Model = model.parse().unwrap();
    assert_eq!((typed.rbps, typed.wrandiops), (1_048_576, 70));
    assert_eq!(typed.to_string(), model);
    let typed: Qos = qos.parse().unwrap();
    assert_eq!((typed.wpct, typed.wlat_usec), (Percent(9550), 5001));
    assert_eq!(typed.to_string(), qos);
    let off = "7:0".parse().unwrap();
    assert_eq!(active(&root, off), Ok(None));
    assert!(super::qos(&root, off).unwrap().is_some());
    assert_eq!(super::model(&root, "7:1".parse().unwrap()), Ok(None));
    assert_eq!(turn_off(&root, "7:1".parse().unwrap()), Ok(()));
    let unchanged = std::fs::read_to_string(root.cgroup.join("io.cost.qos")).unwrap();
    assert_eq!(unchanged, QOSES, "a device without iocost was touched");
}

#[test]
fn garbled_lines_and_numbers_are_refused() {
    assert!("rbps=1".parse::<Model>().is_err());
    assert!("enable=2x".parse::<Qos>().is_err());
    for (text, percent) in [
        ("95", Some(9500)),
        ("0.5", Some(50)),
        ("1.234", None),
        ("-1", None),
    ] {
        assert_eq!(text.parse().ok(), percent.map(Percent), "{text}");
    }
}

#[test]
fn a_written_line_is_compared_by_its_numbers() {
    assert!(holds("enable=1 min=50", "enable=1 min=50.00 max=100.00"));
    assert!(!holds("enable=1 min=50", "enable=1 min=51.00"));
    assert!(!holds("enable=1", ""));
    let auto = "enable=0 ctrl=auto rpct=0.00 rlat=25000";
    assert_eq!(without_automatic(auto), "enable=0 ctrl=auto");
    assert_eq!(without_automatic("enable=1 rpct=9"), "enable=1 rpct=9");
}

#[test]
fn a_kernel_without_it_is_told() {
    let (_dir, root, _game) = group("io\n");
    let error = model(&root, "8:0".parse().unwrap()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
}
