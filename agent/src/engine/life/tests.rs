//! Table tests of coming and going.

use super::*;
use crate::engine::wanted::tests::record;

const DEFAULTS: Defaults = Defaults {
    ttl_sec: 300,
    lost_ttl_sec: 60,
};

fn bound(inode: u64) -> Bound {
    Bound {
        cgroup: "/game".into(),
        inode,
    }
}

#[test]
fn each_state_and_what_is_found() {
    let reserved = State::Reserved { since_unix: 1000 };
    let active = State::Active { since_unix: 1000 };
    let lost = State::Lost { since_unix: 1000 };
    for (state, known, found, now, turn_expected) in [
        (&reserved, None, Some(7), 1000, Turn::Arrived),
        (&reserved, None, None, 1299, Turn::Stays),
        (&reserved, None, None, 1300, Turn::Expired),
        (&reserved, None, None, 10, Turn::Stays),
        (&active, Some(7), Some(7), 9999, Turn::Stays),
        (&active, Some(7), Some(8), 9999, Turn::Returned),
        (&active, Some(7), None, 9999, Turn::Lost),
        (&lost, Some(7), None, 1059, Turn::Stays),
        (&lost, Some(7), None, 1060, Turn::Expired),
        (&lost, Some(7), Some(9), 1060, Turn::Returned),
    ] {
        let mut record = record("game");
        record.state = *state;
        record.target = known.map(bound);
        let found = found.map(bound);
        let is = turn(&record, found.as_ref(), now, DEFAULTS);
        assert_eq!(is, turn_expected, "{state:?} {found:?} at {now}");
    }
}

#[test]
fn a_spec_with_times_of_its_own_goes_by_them() {
    let mut record = record("game");
    record.state = State::Reserved { since_unix: 0 };
    record.spec.ttl_sec = Some(5);
    assert_eq!(turn(&record, None, 4, DEFAULTS), Turn::Stays);
    assert_eq!(turn(&record, None, 5, DEFAULTS), Turn::Expired);
    record.state = State::Lost { since_unix: 0 };
    record.spec.lost_ttl_sec = Some(7);
    assert_eq!(turn(&record, None, 6, DEFAULTS), Turn::Stays);
    assert_eq!(turn(&record, None, 7, DEFAULTS), Turn::Expired);
}
