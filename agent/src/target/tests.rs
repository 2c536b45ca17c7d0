use super::*;
use tempfile::TempDir;

const A: &str = "1234567890abcdef1234567890abcdef1234567890abcdef1234567890abcdef";
const B: &str = "1234567890abffff1234567890abcdef1234567890abcdef1234567890abcdef";

/// A node with these cgroups and processes (pid, `0::` path); we run in /system.slice/berth.service.
fn node(cgroups: &[&str], processes: &[(&str, &str)]) -> (TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    fs::create_dir_all(root.cgroup.join("system.slice/berth.service")).unwrap();
    fs::write(root.cgroup.join("cgroup.controllers"), "cpu\n").unwrap();
    for cgroup in cgroups {
        fs::create_dir_all(root.cgroup.join(cgroup)).unwrap();
    }
    let own = ("self", "0::/system.slice/berth.service\n");
    for (pid, text) in processes.iter().chain([&own]) {
        fs::create_dir_all(root.proc.join(pid)).unwrap();
        fs::write(root.proc.join(pid).join("cgroup"), text).unwrap();
    }
    (dir, root)
}

fn cgroup(path: &str) -> Target {
    Target::Cgroup(path.into())
}

fn path(found: Result<Option<Bound>, Refusal>) -> Option<String> {
    Some(found.unwrap()?.cgroup.display().to_string())
}

#[test]
fn a_cgroup_is_found_by_its_path_and_known_by_its_inode() {
    let (_dir, root) = node(&["machine.slice/game.scope"], &[]);
    let bound = find(&root, &cgroup("/machine.slice/game.scope"))
        .unwrap()
        .unwrap();
    let place = root.cgroup.join("machine.slice/game.scope");
    assert_eq!(bound.inode, fs::metadata(&place).unwrap().ino());
    assert!(still_there(&root, &bound));
    // Another one of the same name; the old directory lives on, so that its inode is not free.
    fs::rename(&place, root.cgroup.join("old")).unwrap();
    assert!(!still_there(&root, &bound));
    fs::create_dir(&place).unwrap();
    assert!(!still_there(&root, &bound));
    assert_eq!(find(&root, &cgroup("/machine.slice/other.scope")), Ok(None));
    let mounted = Target::Cgroup(place);
    assert_eq!(
        path(find(&root, &mounted)).unwrap(),
        "/machine.slice/game.scope"
    );
}

#[test]
fn the_root_our_own_and_what_is_no_cgroup_are_refused() {
    let (_dir, root) = node(
        &["system.slice/berth.service/sub"],
        &[("2", "0::/\n"), ("7", "0::/system.slice/berth.service\n")],
    );
    for (target, word) in [
        (cgroup("/"), "root cgroup"),
        (Target::Pid(2), "root cgroup"),
        (Target::Pid(7), "agent itself"),
        (cgroup("/system.slice"), "agent itself"),
        (cgroup("/system.slice/berth.service"), "agent itself"),
        (cgroup("/../etc"), "leads out"),
        (cgroup("/system.slice/../../x"), "leads out"),
        (cgroup("/cgroup.controllers"), "no cgroup"),
    ] {
        let refused = find(&root, &target).unwrap_err();
        assert_eq!(refused.code, Code::Invalid, "{refused}");
        assert!(refused.reason.contains(word), "{target:?}: {refused}");
    }
    let below = find(&root, &cgroup("/system.slice/berth.service/sub"));
    assert!(below.unwrap().is_some(), "below us is not us");
    fs::create_dir(root.cgroup.join("system.slice/berth")).unwrap();
    let like = find(&root, &cgroup("/system.slice/berth"));
    assert!(
        like.unwrap().is_some(),
        "a beginning of the name is another"
    );
}

#[test]
fn a_process_is_in_the_cgroup_of_hierarchy_0() {
    let hybrid = "12:cpuset:/elsewhere\n1:name=systemd:/x\n0::/a/b:c\n";
    let (_dir, root) = node(
        &["a/b:c"],
        &[
            ("7", hybrid),
            ("8", "0::/gone (deleted)\n"),
            ("9", "4:cpu:/x\n"),
            ("10", "0::/../out\n"),
        ],
    );
    assert_eq!(path(find(&root, &Target::Pid(7))).unwrap(), "/a/b:c");
    assert_eq!(find(&root, &Target::Pid(8)), Ok(None));
    assert_eq!(find(&root, &Target::Pid(4711)), Ok(None));
    let refused = find(&root, &Target::Pid(9)).unwrap_err();
    assert_eq!(refused.code, Code::Unsupported);
    let refused = find(&root, &Target::Pid(10)).unwrap_err();
    assert!(refused.next.contains("cgroup namespace"), "{refused}");
}

#[test]
fn every_runtimes_name_of_a_container_is_known() {
    for name in [
        format!("system.slice/docker-{A}.scope"),
        format!("docker/{A}"),
        format!("kubepods.slice/kubepods-pod7.slice/cri-containerd-{A}.scope"),
        format!("kubepods/burstable/pod7/{A}"),
        format!("kubepods-pod7.slice:cri-containerd:{A}"),
        format!("libpod_parent/libpod-{A}"),
        format!("machine.slice/libpod-{A}.scope/container"),
        format!("k8s.io/{A}"),
    ] {
        let watcher = format!("machine.slice/libpod-conmon-{A}.scope");
        let other = format!("docker/{}", A.replace('1', "2"));
        let (_dir, root) = node(&[&name, &watcher, &other], &[]);
        let want = format!("/{}", name.trim_end_matches("/container"));
        for id in [A, &A[..12], &A[..63]] {
            let found = find(&root, &Target::ContainerId(id.into()));
            assert_eq!(path(found).as_ref(), Some(&want), "{id}");
        }
    }
}

#[test]
fn an_ambiguous_beginning_is_refused_naming_both_and_an_absent_one_is_none() {
    let (_dir, root) = node(
        &[&format!("docker/{A}"), &format!("x/libpod-{B}.scope")],
        &[],
    );
    let id = |text: &str| Target::ContainerId(text.to_owned());
    let refused = find(&root, &id(&A[..12])).unwrap_err();
    assert_eq!(refused.code, Code::Conflict);
    for part in [format!("/docker/{A}"), format!("/x/libpod-{B}.scope")] {
        assert!(refused.reason.contains(&part), "{refused}");
    }
    assert_eq!(
        path(find(&root, &id(&A[..13]))),
        Some(format!("/docker/{A}"))
    );
    assert_eq!(find(&root, &id(&A.replace('1', "3"))), Ok(None));
    // The middle or end of an id is no id.
    assert_eq!(find(&root, &id(&A[4..])), Ok(None));
    assert_eq!(find(&root, &id(&A[4..20])), Ok(None));
}

#[test]
fn a_node_without_cgroup_v2_is_unsupported() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    let refused = find(&root, &cgroup("/a")).unwrap_err();
    assert_eq!(refused.code, Code::Unsupported);
    assert_eq!(refused.object, "target.cgroup");
}
