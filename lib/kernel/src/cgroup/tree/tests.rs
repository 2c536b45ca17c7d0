use super::super::tests::{group, put};
use super::*;
use crate::Kind;

#[test]
fn places_are_told_apart() {
    let (_dir, root, game) = group("cpu\n");
    put(&root, "game/a/b/cgroup.procs", "");
    put(&root, "game/c/cgroup.procs", "");
    let paths = |groups: Vec<Cgroup>| -> Vec<String> {
        let path = |group: &Cgroup| group.path().display().to_string();
        groups.iter().map(path).collect()
    };
    assert_eq!(paths(game.children().unwrap()), ["/game/a", "/game/c"]);
    let below = game.descendants().unwrap();
    assert_eq!(paths(below.clone()), ["/game/a", "/game/a/b", "/game/c"]);
    assert_eq!(paths(below[1].chain()), ["/game", "/game/a", "/game/a/b"]);
    assert_eq!(below[1].parent(), Some(below[0].clone()));
    let top = game.parent().unwrap();
    assert!(top.is_root() && top.parent().is_none() && top.chain().is_empty());
    assert_eq!(Cgroup::open(&root, Path::new("/")), Ok(top));
    assert_eq!(Cgroup::open(&root, &root.cgroup.join("game")), Ok(game));
}

#[test]
fn a_cgroup_that_vanishes_is_not_found() {
    let (_dir, root, game) = group("memory\n");
    std::fs::remove_dir_all(root.cgroup.join("game")).unwrap();
    for error in [
        game.inode().unwrap_err(),
        game.children().unwrap_err(),
        game.descendants().unwrap_err(),
        game.procs().unwrap_err(),
        game.populated().unwrap_err(),
        game.enable(&[Controller::Cpu]).unwrap_err(),
        game.write("memory.max", "1", &[]).unwrap_err(),
        Cgroup::open(&root, Path::new("/game")).unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
    }
}

#[test]
fn controllers_are_enabled_once_and_only_those_that_are_there() {
    let (_dir, root, game) = group("cpu memory hugetlb\n");
    put(&root, "game/cgroup.subtree_control", "cpu\n");
    assert_eq!(game.enable(&[Controller::Cpu]), Ok(()));
    let error = game.enable(&[Controller::Cpu, Controller::Io]).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(
        error.to_string().contains("+io to cgroup.subtree_control"),
        "{error}"
    );
    // A plain file does not become what was wished: the reading tells.
    let error = game.enable(&[Controller::Memory]).unwrap_err();
    assert_eq!(error.kind(), Kind::TryAgain);
    assert!(error.to_string().contains("lacks memory"), "{error}");
}

#[test]
fn processes_and_population_are_read() {
    let (_dir, root, game) = group("cpu\n");
    put(&root, "game/cgroup.procs", "12\n7\n");
    put(&root, "game/cgroup.events", "populated 1\nfrozen 0\n");
    assert_eq!(game.procs(), Ok(vec![7, 12]));
    assert_eq!(game.populated(), Ok(true));
    put(&root, "game/cgroup.events", "populated 0\nfrozen 0\n");
    assert_eq!(game.populated(), Ok(false));
    put(&root, "game/cgroup.procs", "many\n");
    assert_eq!(game.procs().unwrap_err().kind(), Kind::Malformed);
}

#[test]
fn threads_are_counted_for_their_processes() {
    let (_dir, root, game) = group("cpu\n");
    put(&root, "game/cgroup.threads", "7\n8\n9\n");
    for thread in ["7", "8"] {
        let dir = root.proc.join(thread);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("status"), "Name:\tgame\nTgid:\t7\nPid:\t8\n").unwrap();
    }
    assert_eq!(game.owners_of_threads(), Ok(BTreeSet::from([7])));
}
