use super::super::tests::{group, put};
use super::*;
use crate::error::Kind;

/// Linux 6.12: `cat cpu.stat cpu.max` after `echo 50000 100000 >cpu.max`.
#[test]
fn time_and_quota_are_read() {
    let (_dir, root, game) = group("cpu\n");
    put(
        &root,
        "game/cpu.stat",
        "usage_usec 747157\nuser_usec 134219\nsystem_usec 612937\n",
    );
    let stat = stat(&game).unwrap();
    assert_eq!((stat.usage_usec, stat.nr_throttled), (747_157, 0));
    put(&root, "game/cpu.max", "50000 100000\n");
    assert_eq!(max(&game), Ok((Limit::At(50_000), 100_000)));
    put(&root, "game/cpu.max", "max 100000\n");
    assert_eq!(max(&game), Ok((Limit::Max, 100_000)));
    put(&root, "game/cpu.max", "max\n");
    assert_eq!(max(&game).unwrap_err().kind(), Kind::Malformed);
}

#[test]
fn weights_have_a_range() {
    let (_dir, root, game) = group("cpu\n");
    put(&root, "game/cpu.weight", "100\n");
    for wrong in [0, 10_001] {
        let error = set_weight(&game, wrong).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        assert!(error.to_string().contains("1 to 10000"), "{error}");
    }
    assert_eq!(weight(&game), Ok(100));
    assert_eq!(set_weight(&game, 10_000), Ok(()));
    assert_eq!(weight(&game), Ok(10_000));
}
