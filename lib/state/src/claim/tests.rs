use super::*;
use crate::error::Kind;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Barrier;
use tempfile::TempDir;

const WRITER: Writer = Writer {
    pid: 7,
    start_time: 9,
};

fn claims() -> (TempDir, Claims) {
    let dir = tempfile::tempdir().unwrap();
    let claims = Claims::new(&Root::under(dir.path()));
    (dir, claims)
}

fn key(id: &str) -> Key {
    Key::new("blue", id, "eth0".parse().unwrap()).unwrap()
}

fn vf(function: u8) -> PciAddr {
    format!("0000:01:10.{function}").parse().unwrap()
}

#[test]
fn a_claim_names_its_owner_until_the_owner_releases_it() {
    let (dir, claims) = claims();
    assert_eq!(claims.load(vf(2)), Ok(None));
    claims.claim(vf(2), &key("c1"), WRITER).unwrap();
    assert_eq!(claims.owner(vf(2)), Ok(Some(key("c1"))));
    let path = dir.path().join("run/berth/vf/0000:01:10.2");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    let json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let wished = serde_json::json!({
        "format": 2, "state": "claimed", "owner": "blue/c1:eth0",
        "writer": {"pid": 7, "startTime": 9}
    });
    assert_eq!(json, wished);

    let error = claims.release(vf(2), &key("c2")).unwrap_err();
    assert_eq!(error.kind(), Kind::NotOwner);
    assert!(
        error.to_string().contains("claimed by blue/c1:eth0"),
        "{error}"
    );
    claims.release(vf(2), &key("c1")).unwrap();
    claims.release(vf(2), &key("c1")).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_taken_vf_says_by_whom_even_to_its_owner() {
    let (_dir, claims) = claims();
    claims.claim(vf(2), &key("c1"), WRITER).unwrap();
    for wisher in ["c1", "c2"] {
        let error = claims.claim(vf(2), &key(wisher), WRITER).unwrap_err();
        assert_eq!(error.kind(), Kind::Taken);
        let text = error.to_string();
        assert!(
            text.starts_with("VF 0000:01:10.2 is claimed by blue/c1:eth0"),
            "{text}"
        );
    }
}

#[test]
fn of_twenty_at_once_one_has_the_vf() {
    let (_dir, claims) = claims();
    let start = Barrier::new(20);
    let won: Vec<_> = std::thread::scope(|scope| {
        let contend = |id: i32| {
            let (claims, start) = (&claims, &start);
            scope.spawn(move || {
                let key = key(&format!("c{id}"));
                start.wait();
                match claims.claim(vf(2), &key, WRITER) {
                    Ok(()) => Some(key),
                    // Never without an owner: the losers can all name the winner.
                    Err(Error::Taken { claim, .. }) => {
                        assert!(claim.owner().is_some());
                        None
                    }
                    Err(error) => panic!("{error}"),
                }
            })
        };
        let threads: Vec<_> = (0..20).map(contend).collect();
        threads
            .into_iter()
            .filter_map(|t| t.join().unwrap())
            .collect()
    });
    assert_eq!(won.len(), 1);
    assert_eq!(claims.owner(vf(2)), Ok(won.first().cloned()));
}

#[test]
fn claims_released_and_claimed_by_many_are_never_held_twice() {
    let (_dir, claims) = claims();
    let inside = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for id in 0..6 {
            let (claims, inside) = (&claims, &inside);
            scope.spawn(move || {
                let key = key(&format!("c{id}"));
                for _ in 0..100 {
                    if claims.claim(vf(2), &key, WRITER).is_ok() {
                        use std::sync::atomic::Ordering::SeqCst;
                        assert_eq!(inside.fetch_add(1, SeqCst), 0);
                        inside.fetch_sub(1, SeqCst);
                        claims.release(vf(2), &key).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(claims.list(), Ok(vec![]));
}

#[test]
fn quarantine_keeps_the_vf_from_everybody_until_it_is_ended() {
    let (_dir, claims) = claims();
    claims.claim(vf(2), &key("c1"), WRITER).unwrap();
    assert_eq!(
        claims.end_quarantine(vf(2)).unwrap_err().kind(),
        Kind::NotOwner
    );
    claims.quarantine(vf(2), "MAC not restored", None).unwrap();
    claims.quarantine(vf(2), "driver not bound", None).unwrap();
    claims
        .quarantine(vf(3), "found half configured", None)
        .unwrap();
    let quarantined = |last: Option<&str>, reason: &str| Claim::Quarantined {
        last_owner: last.map(key),
        reason: reason.to_owned(),
        vf: None,
    };
    let listed = vec![
        (vf(2), Ok(quarantined(Some("c1"), "driver not bound"))),
        (vf(3), Ok(quarantined(None, "found half configured"))),
    ];
    assert_eq!(claims.list(), Ok(listed));
    assert_eq!(claims.owner(vf(2)), Ok(None));
    assert_eq!(claims.of_key(&key("c1")), Ok(vec![]));
    assert_eq!(
        claims.release(vf(2), &key("c1")).unwrap_err().kind(),
        Kind::NotOwner
    );
    let error = claims
        .claim(vf(2), &key("c1"), WRITER)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("in quarantine (driver not bound)"),
        "{error}"
    );
    claims.end_quarantine(vf(2)).unwrap();
    claims.end_quarantine(vf(2)).unwrap();
    claims.claim(vf(2), &key("c2"), WRITER).unwrap();
}

#[test]
fn a_quarantine_keeps_what_the_vf_should_be_brought_back_to() {
    let (_dir, claims) = claims();
    let host = crate::vf::testing::host();
    claims
        .quarantine(vf(2), "MTU is 1400", Some(&host))
        .unwrap();
    claims.quarantine(vf(2), "PF is down", None).unwrap();
    let wished = Claim::Quarantined {
        last_owner: None,
        reason: "PF is down".to_owned(),
        vf: Some(Box::new(host)),
    };
    assert_eq!(claims.load(vf(2)), Ok(Some(wished)));
}

#[test]
fn the_vfs_of_a_key_are_found() {
    let (_dir, claims) = claims();
    for (function, id) in [(2, "c1"), (3, "c2"), (4, "c1")] {
        claims.claim(vf(function), &key(id), WRITER).unwrap();
    }
    assert_eq!(claims.of_key(&key("c1")), Ok(vec![vf(2), vf(4)]));
    assert_eq!(claims.of_key(&key("c3")), Ok(vec![]));
}

#[test]
fn unreadable_claims_are_taken_told_and_kept() {
    let (dir, claims) = claims();
    claims.claim(vf(2), &key("c1"), WRITER).unwrap();
    let path = dir.path().join("run/berth/vf/0000:01:10.2");
    for (text, kind) in [
        ("", Kind::Malformed),
        ("{\"format\": 1, \"state\": \"lost\"}", Kind::Malformed),
        ("{\"format\": 1, \"state\": \"claimed\"}", Kind::Malformed),
        ("{\"format\": 3, \"state\": \"shared\"}", Kind::NewerFormat),
    ] {
        fs::write(&path, text).unwrap();
        let wish = key("c1");
        for outcome in [
            claims.claim(vf(2), &wish, WRITER),
            claims.release(vf(2), &wish),
            claims.quarantine(vf(2), "x", None),
            claims.end_quarantine(vf(2)),
        ] {
            assert_eq!(outcome.unwrap_err().kind(), kind, "{text}");
        }
        let listed = claims.list().unwrap();
        assert!(matches!(&listed[..], [(address, Err(_))] if *address == vf(2)));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn temporaries_are_no_claims_and_can_be_swept() {
    let (dir, claims) = claims();
    claims.claim(vf(2), &key("c1"), WRITER).unwrap();
    let left = dir.path().join("run/berth/vf/.tmp-1-0123456789abcdef");
    fs::write(&left, "half").unwrap();
    assert_eq!(claims.list().unwrap().len(), 1);
    assert_eq!(claims.sweep(), Ok(vec![left]));
    assert_eq!(claims.list().unwrap().len(), 1);
}
