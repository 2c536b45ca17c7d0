//! Whose VF may be taken, and whose may not: the way out is always named.

use berth_state::Writer;

use super::*;

fn address() -> PciAddr {
    "0000:01:10.2".parse().unwrap()
}

fn owner() -> Key {
    "game/web-1:net1".parse().unwrap()
}

fn claimed() -> Option<Result<Claim, String>> {
    let writer = Writer::current(&Root::host()).unwrap();
    let owner = owner();
    Some(Ok(Claim::Claimed { owner, writer }))
}

/// Claimed by [`owner`], without a record, at home.
fn found() -> Found {
    Found {
        vf: address(),
        claim: claimed(),
        verdict: Verdict::Busy(vec![Reason::Claimed(owner())]),
        inside: None,
        writer_lives: false,
        record: OnRecord::No,
    }
}

fn way(found: &Found) -> Way {
    judge(found).unwrap()
}

/// That it is refused, with all of this.
fn refused(found: &Found, says: &[&str]) {
    let error = judge(found).unwrap_err().to_string();
    for part in says {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
    assert!(
        error.contains("VF 0000:01:10.2 cannot be released"),
        "{error}"
    );
}

#[test]
fn a_dead_owners_vf_is_restored_from_its_record() {
    let dead = Found {
        record: OnRecord::Dead,
        ..found()
    };
    assert_eq!(way(&dead), Way::Recorded(owner()));
}

#[test]
fn an_attachment_that_lives_keeps_its_vf() {
    let out = "berth detach --container-id web-1 --ifname net1";
    let lives = Found {
        record: OnRecord::Lives,
        ..found()
    };
    refused(&lives, &["attachment game/web-1:net1 lives", out]);
    // The VF is inside somewhere, whatever its record says.
    for record in [
        OnRecord::No,
        OnRecord::Unreadable("garbage".into()),
        OnRecord::Dead,
    ] {
        let inside = Found {
            inside: Some("net1 in /proc/7/ns/net".into()),
            record,
            ..found()
        };
        refused(&inside, &["lives: the VF is net1 in /proc/7/ns/net", out]);
    }
}

#[test]
fn an_add_that_runs_is_not_disturbed_and_an_interrupted_one_is_undone() {
    for record in [OnRecord::No, OnRecord::Lives, OnRecord::Dead] {
        let running = Found {
            writer_lives: true,
            record,
            ..found()
        };
        refused(&running, &["the ADD of game/web-1:net1 still runs"]);
    }
    assert_eq!(way(&found()), Way::Unrecorded(owner()));
    let lost = Found {
        record: OnRecord::Unreadable("cut short".into()),
        ..found()
    };
    assert_eq!(way(&lost), Way::Unrecorded(owner()));
}

#[test]
fn what_a_newer_version_wrote_is_not_judged() {
    let newer = Found {
        record: OnRecord::Newer("x.json has format 9".into()),
        ..found()
    };
    refused(&newer, &["is not ours to judge: x.json has format 9"]);
    let claim = Found {
        claim: Some(Err("format 9".into())),
        ..found()
    };
    refused(&claim, &["format 9"]);
}

#[test]
fn quarantine_is_ended_unless_the_vf_is_with_a_container() {
    let text = r#"{"state": "quarantined", "reason": "its MTU is 9000"}"#;
    let quarantined = || Found {
        claim: Some(Ok(serde_json::from_str(text).unwrap())),
        ..found()
    };
    assert_eq!(way(&quarantined()), Way::Quarantine);
    let inside = Found {
        inside: Some("net1 in web-1".into()),
        ..quarantined()
    };
    refused(&inside, &["it is net1 in web-1, which lives"]);
}

#[test]
fn without_a_claim_there_is_nothing_to_release() {
    let unclaimed = |verdict| Found {
        claim: None,
        verdict,
        ..found()
    };
    let name = "ens1v1".parse().unwrap();
    assert_eq!(way(&unclaimed(Verdict::Free(name))), Way::Free);
    for (reason, next) in [
        (Reason::Master("br0".into()), "take it out of there"),
        (Reason::NoDriver, "berth bootstrap vfs"),
        (Reason::Reserved, "reserved_vfs"),
        (Reason::NotHere, "end the container that has it"),
    ] {
        let text = reason.to_string();
        let found = unclaimed(Verdict::Busy(vec![reason]));
        refused(&found, &["no attachment has it", &text, next]);
    }
}
