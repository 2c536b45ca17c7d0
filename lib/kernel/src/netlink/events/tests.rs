use super::*;

/// RTM_NEWLINK or RTM_DELLINK of a link 12 called `bv0`.
fn notice(kind: u16, flags: u32) -> Notice {
    let mut body = vec![0; 16];
    body[4] = 12;
    body[8..12].copy_from_slice(&flags.to_ne_bytes());
    body.extend([8, 0, 3, 0, b'b', b'v', b'0', 0]);
    Notice { kind, body }
}

/// IFF_UP, IFF_RUNNING and IFF_LOWER_UP.
const RUNNING: u32 = 0x1_0041;

#[test]
fn links_come_run_and_go() {
    let seen = |kind, flags| {
        let event = LinkEvent::of(&notice(kind, flags)).unwrap();
        assert_eq!((event.index, event.name.as_str()), (12, "bv0"));
        (event.deleted, event.running)
    };
    assert_eq!(seen(libc::RTM_NEWLINK, RUNNING), (false, true));
    assert_eq!(seen(libc::RTM_NEWLINK, 1), (false, false));
    assert_eq!(seen(libc::RTM_DELLINK, RUNNING), (true, false));
}

#[test]
fn what_is_no_link_is_no_event() {
    assert_eq!(LinkEvent::of(&notice(libc::RTM_NEWADDR, RUNNING)), None);
    let cut = Notice {
        kind: libc::RTM_NEWLINK,
        body: vec![0; 4],
    };
    assert_eq!(LinkEvent::of(&cut), None);
}

#[test]
fn silence_ends_after_its_time() {
    let mut events = LinkEvents::open().unwrap();
    let start = Instant::now();
    let limit = Duration::from_millis(30);
    // Links of the machine may change meanwhile, but not for ever.
    while events.next(limit).unwrap().is_some() {
        assert!(start.elapsed() < Duration::from_secs(10));
    }
    assert!(start.elapsed() >= limit);
    assert_eq!(events.next(Duration::ZERO).unwrap(), None);
}
