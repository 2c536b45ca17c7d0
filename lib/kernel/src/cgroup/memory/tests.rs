use super::super::tests::{group, put};
use super::*;
use crate::error::Kind;

/// Linux 6.12: `cat memory.stat` of a shell that wrote 8 MiB, the lines that are read
/// and some that are not.
const STAT: &str = "anon 245760\nfile 8511488\nkernel 135168\nkernel_stack 16384\n\
pagetables 53248\nsec_pagetables 0\npercpu 288\nsock 0\nvmalloc 0\nshmem 0\nfile_dirty 0\n\
file_writeback 0\nunevictable 0\nslab_reclaimable 10024\nslab_unreclaimable 34008\nslab 44032\n\
pgfault 722\n";

#[test]
fn what_memory_is_for_is_read_by_name() {
    let (_dir, root, game) = group("memory\n");
    put(&root, "game/memory.stat", STAT);
    let stat = stat(&game).unwrap();
    assert_eq!((stat.anon, stat.file, stat.sock), (245_760, 8_511_488, 0));
    assert_eq!(stat.kernel_unreclaimable(), 34_008 + 16_384 + 53_248 + 288);
    put(
        &root,
        "game/memory.events",
        "low 0\nhigh 3\nmax 2\noom 1\noom_kill 1\noom_group_kill 0\n",
    );
    let events = events(&game).unwrap();
    assert_eq!((events.high, events.max, events.oom_kill), (3, 2, 1));
    put(&root, "game/memory.stat", "anon lots\n");
    assert_eq!(super::stat(&game).unwrap_err().kind(), Kind::Malformed);
}

#[test]
fn limits_settle_on_whole_pages() {
    let page = procfs::page_size();
    assert_eq!(settled(Limit::At(page - 1)), Limit::At(0));
    assert_eq!(settled(Limit::At(page)), Limit::At(page));
    assert_eq!(settled(Limit::At(2 * page + 1)), Limit::At(2 * page));
    assert_eq!(settled(Limit::At(u64::MAX)), Limit::Max);
    assert_eq!(settled(Limit::Max), Limit::Max);
}

#[test]
fn limits_are_written_and_read_back() {
    let (_dir, root, game) = group("memory\n");
    put(&root, "game/memory.high", "max\n");
    let page = procfs::page_size();
    assert_eq!(set_high(&game, Limit::At(page * 1000)), Ok(()));
    assert_eq!(high(&game), Ok(Limit::At(page * 1000)));
    // A tree of plain files does not round.
    let error = set_high(&game, Limit::At(page * 1000 + 1)).unwrap_err();
    assert_eq!(error.kind(), Kind::TryAgain);
    let error = reclaim(&game, 1).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.to_string().contains("Linux 5.19"), "{error}");
}
