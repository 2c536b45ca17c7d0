use super::*;

fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
    let values = values
        .iter()
        .map(|value| (name.clone(), value.parse().unwrap()));
    let mut headers = HeaderMap::new();
    for (name, value) in values {
        headers.append(name, value);
    }
    headers
}

#[test]
fn if_match_is_one_generation() {
    let read = |values: &[&str]| if_match(&headers(IF_MATCH, values)).ok();
    assert_eq!(read(&[]), Some(None));
    for good in ["\"42\"", "42", " \"42\" "] {
        assert_eq!(read(&[good]), Some(Some(42)), "{good}");
    }
    for bad in [
        "*",
        "",
        "W/\"42\"",
        "\"42\", \"43\"",
        "\"x\"",
        "+42",
        "042",
        "-1",
        "\"42",
    ] {
        assert_eq!(read(&[bad]), None, "{bad}");
    }
    assert_eq!(read(&["\"1\"", "\"2\""]), None);
}

#[test]
fn if_none_match_is_a_list() {
    let known = |values: &[&str]| known_to(&headers(IF_NONE_MATCH, values), 42);
    for yes in ["\"42\"", "42", "W/\"42\"", "*", "\"1\", \"42\""] {
        assert!(known(&[yes]), "{yes}");
    }
    assert!(known(&["\"1\"", "\"42\""]));
    for no in ["", "\"4\"", "\"421\"", "\"1\", \"2\""] {
        assert!(!known(&[no]), "{no}");
    }
    assert!(!known(&[]));
}

fn asking(query: &str) -> Result<Asking, Refused> {
    let uri = format!("/v1/events?{query}");
    Asking::of(&uri.parse().unwrap(), &["since", "watch"])
}

#[test]
fn keys_are_known_and_there_once() {
    for (query, watch, since) in [
        ("", false, None),
        ("watch", true, None),
        ("watch=true&since=7", true, Some(7)),
        ("watch=1", true, None),
        ("watch=false&since=%37", false, Some(7)),
    ] {
        let asking = asking(query).ok().unwrap();
        assert_eq!(asking.switch("watch").ok(), Some(watch), "{query}");
        assert_eq!(asking.number("since").ok(), Some(since), "{query}");
    }
    for query in ["wach", "watch&watch", "since=1&since=1", "dry_run"] {
        assert!(asking(query).is_err(), "{query}");
    }
    assert!(asking("watch=maybe").ok().unwrap().switch("watch").is_err());
    for query in ["since", "since=-1", "since=1.5"] {
        assert!(
            asking(query).ok().unwrap().number("since").is_err(),
            "{query}"
        );
    }
}

#[test]
fn types_that_mean_something_else_are_refused() {
    let read = |kind: &str| content_type(&headers(CONTENT_TYPE, &[kind])).is_ok();
    assert!(content_type(&HeaderMap::new()).is_ok());
    for good in [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/merge-patch+json",
        "application/x-www-form-urlencoded",
        "text/plain",
    ] {
        assert!(read(good), "{good}");
    }
    for bad in [
        "application/json-patch+json",
        "application/yaml",
        "multipart/form-data",
        "",
    ] {
        assert!(!read(bad), "{bad}");
    }
}
