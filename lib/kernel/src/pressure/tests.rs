use super::*;
use crate::cgroup::tests::{group, put};

/// Linux 6.12: `cat /proc/pressure/cpu`.
const CPU: &str = "some avg10=1.96 avg60=2.21 avg300=0.64 total=3220525\n\
full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";

#[test]
fn both_lines_are_read() {
    let (_dir, root, game) = group("cpu\n");
    std::fs::create_dir_all(root.proc.join("pressure")).unwrap();
    std::fs::write(root.proc.join("pressure/cpu"), CPU).unwrap();
    put(&root, "game/cpu.pressure", CPU.lines().next().unwrap());
    let node = of_node(&root, Resource::Cpu).unwrap();
    assert_eq!(node.some.total_usec, 3_220_525);
    assert!((node.some.avg60 - 2.21).abs() < 1e-9);
    assert_eq!(node.full.map(|full| full.total_usec), Some(0));
    let game = of_cgroup(&game, Resource::Cpu).unwrap();
    assert_eq!((game.some, game.full), (node.some, None));
    assert!("full avg10=0".parse::<Pressure>().is_err());
}

#[test]
fn uncounted_pressure_says_how_to_count_it() {
    let (_dir, root, game) = group("io\n");
    for error in [
        of_node(&root, Resource::Io).unwrap_err(),
        of_cgroup(&game, Resource::Io).unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.to_string().contains("psi=1"), "{error}");
    }
}
