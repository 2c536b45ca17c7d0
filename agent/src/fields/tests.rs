use super::*;
use serde_json::json;

const KEYS: [&str; 4] = ["path", "limit_bytes", "limit_inodes", "best_effort"];

fn error(value: &Value) -> Refusal {
    Fields::of("disk[1]", value, &KEYS).unwrap_err()
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest() {
    for (wrong, right) in [
        ("limitBytes", "limit_bytes"),
        ("limit-bytes", "limit_bytes"),
        ("LIMIT_BYTES", "limit_bytes"),
        ("limit_byte", "limit_bytes"),
        ("limit_btyes", "limit_bytes"),
        ("limit", "limit_bytes"),
        ("paht", "path"),
        ("bestEffort", "best_effort"),
    ] {
        let refused = error(&json!({wrong: 7}));
        assert_eq!(refused.object, format!("disk[1].{wrong}"));
        assert_eq!(refused.wish, "7");
        let meant = format!("did you mean {right:?}?");
        assert!(refused.next.contains(&meant), "{wrong}: {refused}");
    }
    let refused = error(&json!({"nonsense": 1}));
    assert!(refused.next.contains("path, limit_bytes"), "{refused}");
    let refused = error(&json!([1]));
    assert_eq!(
        (refused.object.as_str(), refused.wish.as_str()),
        ("disk[1]", "[1]")
    );
}

#[test]
fn numbers_have_both_edges_and_no_other_shape() {
    let read = |value: Value| {
        let object = json!({"limit_bytes": value});
        let fields = Fields::of("", &object, &KEYS).unwrap();
        fields.number("limit_bytes", 10..=20)
    };
    for ok in [10_u64, 20] {
        assert_eq!(read(json!(ok)), Ok(Some(ok)));
    }
    assert_eq!(read(Value::Null), Ok(None));
    for (wrong, reason) in [
        (json!(9), "too small"),
        (json!(21), "too large"),
        (json!(-1), "no whole number"),
        (json!(10.5), "no whole number"),
        (json!("12"), "text"),
        (json!([12]), "no whole number"),
    ] {
        let refused = read(wrong.clone()).unwrap_err();
        assert!(refused.reason.contains(reason), "{wrong}: {refused}");
        assert!(refused.next.contains("from 10 to 20"), "{refused}");
        assert_eq!(refused.wish, wrong.to_string());
    }
}

#[test]
fn a_path_has_one_spelling() {
    for ok in ["/", "/data", "/data/a b", "/data/...", "/data/ä"] {
        assert_eq!(check_path(ok), Ok(()), "{ok}");
    }
    for (wrong, next) in [
        ("", "from / on"),
        ("data", "from / on"),
        ("./data", "from / on"),
        ("/data/", "write /data"),
        ("/data//x", "write /data/x"),
        ("//data", "write /data"),
        ("/data/./x", "write /data/x"),
        ("/data/../x", "without .."),
        ("/data/..", "without .."),
        ("/data\0", "rename"),
        ("/data\n", "rename"),
    ] {
        let (_, way_out) = check_path(wrong).unwrap_err();
        assert!(way_out.contains(next), "{wrong:?}: {way_out}");
    }
    let longest = format!("/{}", "x".repeat(LONGEST_PATH - 1));
    assert_eq!(check_path(&longest), Ok(()));
    assert!(check_path(&format!("{longest}x")).is_err());
}

#[test]
fn words_flags_and_lists_are_strict() {
    let object = json!({"path": "rot", "best_effort": "true", "limit_bytes": {}});
    let fields = Fields::of("x", &object, &KEYS).unwrap();
    let refused = fields
        .choice("path", &[("root", 1), ("isolated", 2)])
        .unwrap_err();
    assert!(refused.reason.contains("root, isolated"), "{refused}");
    assert!(fields.flag("best_effort").is_err());
    assert!(fields.list("limit_bytes").is_err());
    assert_eq!(fields.choice("limit_inodes", &[("a", 7)]), Ok(0));
}

#[test]
fn a_long_value_is_cut_in_an_error() {
    let refused = error(&json!({"x": "ä".repeat(500)}));
    assert!(refused.wish.ends_with("...") && refused.wish.chars().count() < 130);
}
