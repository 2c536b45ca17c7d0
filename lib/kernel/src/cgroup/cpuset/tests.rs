use super::super::tests::{group, put};
use super::*;
use crate::error::Kind;

fn set(list: &str) -> CpuSet {
    list.parse().unwrap()
}

#[test]
fn the_nearest_ancestor_with_the_controller_decides() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    put(&root, "cgroup.controllers", "cpuset\n");
    put(&root, EFFECTIVE, "0-7\n");
    put(&root, "games/cpuset.cpus.effective", "2-5\n");
    put(&root, "games/cpuset.cpus", "\n");
    put(&root, "games/pod/one/cgroup.procs", "");
    let of = |path: &str| effective(&root, Path::new(path));
    assert_eq!(of("/games"), Ok(set("2-5")));
    assert_eq!(of("/games/pod/one"), Ok(set("2-5")));
    assert_eq!(of("/"), Ok(set("0-7")));
    assert_eq!(root_effective(&root), Ok(set("0-7")));
    let gone = of("/games/two").unwrap_err();
    assert_eq!(gone.kind(), Kind::NotFound);
    assert!(gone.to_string().contains("/games/two"), "{gone}");
}

#[test]
fn a_kernel_without_the_controller_is_told_from_a_missing_cgroup() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    put(&root, "cgroup.controllers", "cpu\n");
    put(&root, "game/cgroup.procs", "");
    // Above the mount point nothing is looked at.
    std::fs::write(dir.path().join(EFFECTIVE), "0\n").unwrap();
    let error = effective(&root, Path::new("/game")).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(
        error.to_string().contains("no cpuset controller"),
        "{error}"
    );
}

#[test]
fn a_garbled_file_is_an_error_and_not_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    put(&root, "cgroup.controllers", "cpuset\n");
    put(&root, EFFECTIVE, "0-7\n");
    put(&root, "game/cpuset.cpus.effective", "all\n");
    let error = effective(&root, Path::new("/game")).unwrap_err();
    assert_eq!(error.kind(), Kind::Malformed);
    assert!(
        error.to_string().contains("game/cpuset.cpus.effective"),
        "{error}"
    );
}
