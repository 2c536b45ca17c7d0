use std::os::unix::fs::MetadataExt;

use super::*;

/// A socket whose every peer is this one.
pub(in crate::api) fn of_peer(root: &Root, peer: Peer) -> Socket {
    Socket::with(root, Box::new(move |_| Ok(peer))).unwrap()
}

fn tree() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    (dir, root)
}

#[tokio::test]
async fn the_socket_is_for_root_and_the_group_in_a_directory_all_may_enter() {
    let (_dir, root) = tree();
    let own = nix::unistd::getegid().as_raw();
    std::fs::create_dir_all(&root.etc).unwrap();
    std::fs::write(
        root.etc.join("group"),
        format!("root:x:0:\nberth:x:{own}:a,b\n"),
    )
    .unwrap();
    let socket = Socket::open(&root).unwrap();
    let meta = std::fs::metadata(&socket.path).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.gid()), (0o660, own));
    let outer = std::fs::metadata(root.run.join("berth")).unwrap();
    assert_eq!(outer.mode() & 0o7777, 0o755);
    let names = std::fs::read_dir(root.run.join("berth")).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["agent.sock"]);
}

#[tokio::test]
async fn what_a_dead_agent_left_is_replaced() {
    let (_dir, root) = tree();
    let mut left = Socket::open(&root).unwrap();
    // As after a kill: both are there, nobody listens.
    let path = std::mem::replace(&mut left.path, root.run.join("elsewhere"));
    drop(left);
    std::fs::write(root.run.join("berth/.agent.sock.new"), "").unwrap();
    let refused = UnixStream::connect(&path).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    let mut socket = Socket::open(&root).unwrap();
    let (accepted, connected) = tokio::join!(socket.accept(), UnixStream::connect(&path));
    connected.unwrap();
    let peer = accepted.1;
    assert_eq!(peer, socket.local_addr().unwrap());
    drop(socket);
    assert!(!path.exists());
}

#[test]
fn groups_are_found_by_their_whole_name() {
    let groups = "root:x:0:\nberthold:x:7:\nberth:x:990:ada\nbad\n";
    assert_eq!(group_id(groups, "berth"), Some(990));
    assert_eq!(group_id(groups, "ber"), None);
    assert_eq!(group_id("berth:x:many:", "berth"), None);
    assert_eq!(group_id("", "berth"), None);
}

#[test]
fn a_node_where_it_cannot_be_is_told() {
    let (dir, root) = tree();
    std::fs::create_dir_all(dir.path().join("run")).unwrap();
    std::fs::write(root.run.join("berth"), "a file").unwrap();
    let error = Socket::open(&root).map(drop).unwrap_err();
    assert!(error.reason.contains("not a directory"), "{error}");
}
