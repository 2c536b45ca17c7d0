use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::walk::{Visit, walk};
use super::*;
use crate::error::Kind;

const MIB: u64 = 1 << 20;

/// The start of a `struct fs_disk_quota` as quotactl_fd gave it, zeros to its end.
fn recorded(hex: &str) -> [u8; wire::QUOTA_BYTES] {
    let mut all = [0; wire::QUOTA_BYTES];
    for (at, digits) in hex.as_bytes().chunks(2).enumerate() {
        all[at] = u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap();
    }
    all
}

/// Linux 6.12, Q_XGETQUOTA on xfs after `xfs_quota -xc "limit -p bhard=10m ihard=50
/// 4242"` and files of 3 MiB and of 2 bytes in a directory.
const XFS: &str = "01020000921000000050000000000000000000000000000032000000000000000000000000000000\
                   08180000000000000300000000000000";
/// The same on ext4, where the directory has a block too.
const EXT4: &str = "01020000921000000050000000000000000000000000000032000000000000000000000000000000\
                    10180000000000000300000000000000";

#[test]
fn recorded_replies_are_understood() {
    for (hex, used_bytes) in [(XFS, 3 * MIB + 4096), (EXT4, 3 * MIB + 2 * 4096)] {
        let expected = Quota {
            bytes: Limit::At(10 * MIB),
            inodes: Limit::At(50),
            used_bytes,
            used_inodes: 3,
        };
        assert_eq!(
            wire::decode(&recorded(hex)),
            Ok((ProjectId(4242), expected))
        );
    }
}

#[test]
fn what_is_not_a_projects_quota_is_refused() {
    for hex in ["00", "0201", "0101", "0202"] {
        let why = wire::decode(&recorded(hex)).unwrap_err();
        assert!(why.contains("not a project's quota"), "{why}");
    }
    let mut huge = recorded(XFS);
    huge[40..48].copy_from_slice(&(u64::MAX / 512).to_ne_bytes());
    assert!(wire::decode(&huge).is_ok());
    huge[40..48].copy_from_slice(&(u64::MAX / 512 + 1).to_ne_bytes());
    assert!(wire::decode(&huge).unwrap_err().contains("counted"));
}

#[test]
fn a_request_sets_both_hard_limits_and_no_soft_one() {
    let sent = wire::encode(ProjectId(4242), Limit::At(10 * MIB), Limit::At(50));
    let mut expected = recorded(&XFS[..80]);
    expected[2..4].copy_from_slice(&0b1111u16.to_ne_bytes());
    assert_eq!(sent, expected);
    let (_, none) = wire::decode(&wire::encode(ProjectId(1), Limit::Max, Limit::Max)).unwrap();
    assert!(none.is_empty());
}

#[test]
fn bytes_become_whole_blocks_rounded_up() {
    for (bytes, blocks) in [(1, 1), (511, 1), (512, 1), (513, 2), (u64::MAX, 1 << 55)] {
        let sent = wire::encode(ProjectId(1), Limit::At(bytes), Limit::Max);
        assert_eq!(sent[8..16], u64::to_ne_bytes(blocks), "{bytes}");
    }
    for (bytes, rounded) in [
        (Limit::At(1), Some(Limit::At(4096))),
        (Limit::At(4096), Some(Limit::At(4096))),
        (Limit::At(4097), Some(Limit::At(8192))),
        (Limit::At(u64::MAX), None),
        (Limit::Max, Some(Limit::Max)),
    ] {
        assert_eq!(round(bytes, 4096), rounded, "{bytes}");
    }
}

/// Linux 6.12, Q_XGETQSTATV on xfs and on ext4, each mounted with prjquota: its flags.
#[test]
fn only_counting_and_enforcing_is_enforcing() {
    for (flags, enforced) in [(0x30, true), (0x3f, true), (0x10, false), (0x0f, false)] {
        let mut state = wire::state_request();
        state[2..4].copy_from_slice(&u16::to_ne_bytes(flags));
        assert_eq!(wire::enforces(&state), enforced, "{flags:#x}");
    }
}

#[test]
fn a_buffer_too_short_never_reaches_the_kernel() {
    let file = fs::File::open("/").unwrap();
    for command in [Command::Get, Command::SetLimit, Command::Next] {
        let mut short = [0; wire::QUOTA_BYTES - 1];
        let refused = shell::quotactl(&file, command, 1, &mut short);
        assert_eq!(refused, Err(Errno::EINVAL));
    }
}

#[test]
fn a_limit_of_nothing_is_refused_before_the_kernel() {
    for (bytes, inodes) in [(Limit::At(0), Limit::Max), (Limit::Max, Limit::At(0))] {
        let error = set_limits(Path::new("/"), ProjectId(1), bytes, inodes).unwrap_err();
        assert_eq!(error.kind(), Kind::Malformed);
        assert!(error.to_string().contains("0 means no limit"), "{error}");
    }
}

type Meanwhile = Box<dyn FnMut(&Path)>;

/// Where a walk came by, without attributes: it needs no filesystem with projects.
#[derive(Default)]
struct Seen {
    paths: Vec<PathBuf>,
    untaggable: u32,
    begun: u32,
    /// Called at each visit: what somebody else does meanwhile.
    meanwhile: Option<Meanwhile>,
}

impl Visit for Seen {
    fn begin(&mut self) {
        self.begun += 1;
        self.paths.clear();
        self.untaggable = 0;
    }

    fn tagged(&mut self, path: &Path, _open: &File, _is_dir: bool) -> Result<()> {
        self.paths.push(path.to_owned());
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile(path);
        }
        Ok(())
    }

    fn untaggable(&mut self) {
        self.untaggable += 1;
    }
}

#[test]
fn a_walk_goes_top_down_and_neither_through_links_nor_into_special_files() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "").unwrap();
    let top = dir.path();
    fs::create_dir_all(top.join("a/b")).unwrap();
    fs::write(top.join("a/b/f"), "").unwrap();
    symlink(outside.path(), top.join("a/link")).unwrap();
    symlink("/", top.join("a/b/root")).unwrap();
    nix::unistd::mkfifo(&top.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(top.join("socket")).unwrap();
    let mut seen = Seen::default();
    walk("look at", top, &mut seen).unwrap();
    let expected = ["", "a", "a/b", "a/b/f"].map(|p| match p {
        "" => top.to_owned(),
        p => top.join(p),
    });
    assert_eq!(seen.paths, expected);
    assert_eq!((seen.untaggable, seen.begun), (4, 1));
}

/// A tree with two directories; as long as `moves` last, entering one of them moves the
/// other, which waits, to where the walk has been: it is called anew in the top.
fn moving(top: &Path, mut moves: u32) -> Seen {
    for name in ["a", "b"] {
        fs::create_dir(top.join(name)).unwrap();
        fs::write(top.join(name).join("f"), "").unwrap();
    }
    let (top, mut other) = (top.to_owned(), 0);
    let meanwhile = move |path: &Path| {
        if path.parent() != Some(&top) || moves == 0 {
            return;
        }
        let waiting = fs::read_dir(&top).unwrap().map(|e| e.unwrap().path());
        let Some(waiting) = waiting.into_iter().find(|p| p != path) else {
            return;
        };
        moves -= 1;
        other += 1;
        fs::rename(waiting, top.join(format!("moved{other}"))).unwrap();
    };
    Seen {
        meanwhile: Some(Box::new(meanwhile)),
        ..Seen::default()
    }
}

#[test]
fn a_directory_moved_under_the_walk_is_found_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = moving(dir.path(), 1);
    walk("look at", dir.path(), &mut seen).unwrap();
    assert_eq!(seen.begun, 2);
    assert!(seen.paths.contains(&dir.path().join("moved1/f")));
    assert_eq!(seen.paths.len(), 5);
}

#[test]
fn directories_moved_without_end_are_given_up_with_a_next_step() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = moving(dir.path(), u32::MAX);
    let error = walk("look at", dir.path(), &mut seen).unwrap_err();
    assert_eq!(error.kind(), Kind::TryAgain);
    assert!(error.to_string().contains("stop what moves"), "{error}");
}

#[test]
fn a_tree_deeper_than_any_path_is_walked_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let name = "n".repeat(200);
    let mut at = nix::fcntl::open(
        dir.path(),
        nix::fcntl::OFlag::O_DIRECTORY,
        nix::sys::stat::Mode::empty(),
    )
    .unwrap();
    for _ in 0..60 {
        let mode = nix::sys::stat::Mode::S_IRWXU;
        nix::sys::stat::mkdirat(&at, name.as_str(), mode).unwrap();
        let flags = nix::fcntl::OFlag::O_DIRECTORY;
        at = nix::fcntl::openat(&at, name.as_str(), flags, mode).unwrap();
    }
    let mut seen = Seen::default();
    walk("look at", dir.path(), &mut seen).unwrap();
    assert_eq!(seen.paths.len(), 61);
}

#[test]
fn a_link_or_a_file_as_the_top_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "").unwrap();
    symlink(dir.path(), dir.path().join("link")).unwrap();
    for name in ["f", "link"] {
        let error = tag_tree(&dir.path().join(name), ProjectId(7)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("give its own path"), "{text}");
        assert!(text.starts_with("give to project 7 /"), "{text}");
    }
    let gone = untag_tree(&dir.path().join("gone"), ProjectId(7)).unwrap_err();
    assert_eq!(gone.kind(), Kind::NotFound);
    let link = project_of(&dir.path().join("link")).unwrap_err();
    assert!(link.to_string().contains("a symbolic link"), "{link}");
}
