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

fn text(result: Result<()>) -> String {
    result.unwrap_err().to_string()
}

/// Linux 6.12: `cat cpuset.cpus.partition` in each state.
#[test]
fn partitions_are_read_with_the_kernels_reason() {
    let read = |text: &str| text.parse::<Partition>();
    let is = |kind, invalid: Option<&str>| {
        Ok(Partition {
            kind,
            invalid: invalid.map(str::to_owned),
        })
    };
    assert_eq!(read("member"), is(PartitionKind::Member, None));
    assert_eq!(read("isolated"), is(PartitionKind::Isolated, None));
    assert_eq!(read("root invalid"), is(PartitionKind::Root, Some("")));
    let why = "Cpu list in cpuset.cpus not exclusive";
    assert_eq!(
        read(&format!("root invalid ({why})")),
        is(PartitionKind::Root, Some(why))
    );
    assert!(read("root valid").is_err());
    assert!(read("threaded").is_err());
}

#[test]
fn each_reason_has_a_next_step() {
    for (why, step) in [
        ("Cpu list in cpuset.cpus not exclusive", "write member"),
        ("No cpu available due to hotplug", "online"),
        (
            "partition config conflicts with housekeeping setup",
            "isolcpus=",
        ),
        ("Invalid cpu list in cpuset.cpus.exclusive", "top down"),
        ("Parent is not a partition root", "its parent a partition"),
        ("", "look for cgroups beside it"),
    ] {
        assert!(remedy(why).contains(step), "{why}: {}", remedy(why));
    }
}

#[test]
fn a_write_that_has_no_effect_is_an_error() {
    let (_dir, root, game) = group("cpuset\n");
    put(&root, "game/cpuset.cpus", "");
    assert_eq!(set_cpus(&game, &set("2-5")), Ok(()));
    assert_eq!(cpus(&game), Ok(set("2-5")));
    // A tree of plain files keeps what a shorter write leaves.
    put(&root, "game/cpuset.mems", "0-1,3");
    let error = set_mems(&game, &set("0")).unwrap_err();
    assert_eq!(error.kind(), Kind::Malformed);
    std::fs::remove_file(root.cgroup.join("game/cpuset.mems")).unwrap();
    std::os::unix::fs::symlink("/dev/null", root.cgroup.join("game/cpuset.mems")).unwrap();
    let error = set_mems(&game, &set("0")).unwrap_err();
    assert_eq!(error.kind(), Kind::TryAgain);
    assert!(error.to_string().contains("it reads \"\""), "{error}");
}

#[test]
fn an_invalid_partition_is_refused_with_reason_and_next_step() {
    let (_dir, root, game) = group("cpuset\n");
    put(
        &root,
        "game/cpuset.cpus.partition",
        "root invalid (Cpu list in cpuset.cpus is empty)",
    );
    let text = text(set_partition(&game, PartitionKind::Root));
    assert!(text.contains("is empty): write its CPUs"), "{text}");
}

#[test]
fn absent_files_say_what_is_needed() {
    let (_dir, root, game) = group("cpuset\n");
    let error = exclusive(&game).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.to_string().contains("Linux 6.7"), "{error}");
    put(&root, "game/cgroup.controllers", "cpu\n");
    let error = cpus(&game).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.to_string().contains("+cpuset"), "{error}");
}
