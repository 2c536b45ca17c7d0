use super::*;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

fn config(extra: Value) -> Config {
    let mut config = json!({"name": "net"});
    for (key, value) in extra.as_object().unwrap() {
        config[key] = value.clone();
    }
    Config::parse(config.to_string().as_bytes()).unwrap()
}

fn env(command: &str) -> Env {
    let variables = [("CNI_COMMAND", command), ("CNI_CONTAINERID", "c 1\n")];
    Env(variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into())
}

fn log() -> Log {
    Log::new("p", Box::new(std::io::sink()))
}

#[test]
fn a_log_file_is_appended_private_and_dated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let config = config(json!({"logFile": path, "logLevel": "debug"}));
    for round in ["one\ntwo", "three"] {
        let log = log().for_call(&config, &env("ADD")).unwrap();
        log.debug(round);
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].ends_with("Z debug p network=net container=c_1_: one | two"),
        "{text}"
    );
    assert!(lines[1].ends_with(": three"), "{text}");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_log_file_that_cannot_be_opened_fails_nothing() {
    let config = config(json!({"logFile": "/nonexistent/dir/log"}));
    let log = log().for_call(&config, &env("ADD")).unwrap();
    assert!(log.file.is_none());
}

#[test]
fn levels_are_the_documented_ones() {
    for (level, filter) in [
        (json!("error"), LevelFilter::Error),
        (json!("warn"), LevelFilter::Warn),
        (json!("info"), LevelFilter::Info),
        (json!("debug"), LevelFilter::Debug),
        (json!(""), LevelFilter::Info),
        (json!(null), LevelFilter::Info),
    ] {
        let config = config(json!({"logLevel": level}));
        let log = log().for_call(&config, &env("ADD")).unwrap();
        assert_eq!(log.filter, filter, "{level}");
    }
    for level in [json!("trace"), json!("INFO"), json!(3)] {
        let config = config(json!({"logLevel": level}));
        assert_eq!(log().for_call(&config, &env("CHECK")).unwrap_err().code, 7);
        let log = log().for_call(&config, &env("DEL")).unwrap();
        assert_eq!(log.filter, LevelFilter::Info);
    }
}

#[test]
fn dates_are_civil() {
    for (seconds, date) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (1_735_689_599, "2024-12-31T23:59:59Z"),
        (1_767_225_600, "2026-01-01T00:00:00Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
    ] {
        assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), date);
    }
}
