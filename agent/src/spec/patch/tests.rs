use super::*;
use serde_json::json;

fn spec() -> Spec {
    let body = json!({"target": {"cgroup": "/machine.slice/game.scope"},
        "cpu": {"cores": 4}, "memory": {"max_bytes": 1 << 30, "numa": "bind"},
        "disk": [{"path": "/data/a", "limit_bytes": 1 << 20}, {"path": "/data/b", "limit_bytes": 1 << 20}],
        "ttl_sec": 5});
    read::spec(&"game".parse().unwrap(), &body).unwrap()
}

/// The examples of RFC 7396, appendix A.
#[test]
fn it_merges_as_the_rfc_says() {
    for (target, patch, result) in [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (
            json!({"a": "b"}),
            json!({"b": "c"}),
            json!({"a": "b", "b": "c"}),
        ),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (
            json!({"a": "b", "b": "c"}),
            json!({"a": null}),
            json!({"b": "c"}),
        ),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (
            json!({"a": {"b": "c"}}),
            json!({"a": {"b": "d", "c": null}}),
            json!({"a": {"b": "d"}}),
        ),
        (
            json!({"a": [{"b": "c"}]}),
            json!({"a": [1]}),
            json!({"a": [1]}),
        ),
        (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
        (json!({"a": "b"}), json!(["c"]), json!(["c"])),
        (json!({"a": "foo"}), json!(null), json!(null)),
        (
            json!({"e": null}),
            json!({"a": 1}),
            json!({"e": null, "a": 1}),
        ),
        (
            json!([1, 2]),
            json!({"a": "b", "c": null}),
            json!({"a": "b"}),
        ),
        (
            json!({}),
            json!({"a": {"bb": {"ccc": null}}}),
            json!({"a": {"bb": {}}}),
        ),
    ] {
        let mut merged = target.clone();
        merge_into(&mut merged, &patch);
        assert_eq!(merged, result, "{target} with {patch}");
    }
}

#[test]
fn what_the_patch_does_not_name_stays() {
    let old = spec();
    assert_eq!(merge(&old, &json!({})), Ok(old.clone()));
    let new = merge(&old, &json!({"cpu": {"cores": 6}})).unwrap();
    assert_eq!(new.cpu.as_ref().unwrap().cores, Some(6));
    assert_eq!(
        Spec {
            cpu: old.cpu.clone(),
            ..new
        },
        old
    );
    let new = merge(&old, &json!({"memory": null, "ttl_sec": null, "disk": []})).unwrap();
    assert_eq!((new.memory, new.ttl_sec, new.disk.len()), (None, None, 0));
    let new = merge(
        &old,
        &json!({"target": {"cgroup": null, "pid": 7}, "id": "game"}),
    )
    .unwrap();
    assert_eq!(new.target, crate::spec::Target::Pid(7));
}

#[test]
fn a_patch_that_makes_no_spec_is_refused_by_key() {
    for (patch, object) in [
        (json!({"id": "other"}), "id"),
        (json!({"id": null}), "id"),
        (json!({"memroy": null}), "memroy"),
        (json!({"cpu": {"core": null}}), "cpu.core"),
        (json!({"target": null}), "target"),
        (json!({"target": {"pid": 7}}), "target.pid"),
        (json!({"cpu": {"cpus": 3}}), "cpu.cpus"),
        (json!({"cpu": null}), "memory.numa"),
        (json!({"cpu": 4}), "cpu"),
        (json!([]), "document"),
        (
            json!({"disk": [{"path": "/data/a"}]}),
            "disk[0].limit_bytes",
        ),
    ] {
        let refused = merge(&spec(), &patch).unwrap_err();
        assert_eq!(refused.object, object, "{patch}: {refused}");
        assert!(!refused.next.is_empty());
    }
}
