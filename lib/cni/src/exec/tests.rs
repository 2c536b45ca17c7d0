use super::*;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Standard error of a test.
#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shared {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Puts a shell script called `name` into `dir`.
pub(crate) fn script(dir: &Path, name: &str, body: &str) -> PathBuf {
    let path = dir.join(name);
    let temporary = dir.join(format!(".{name}"));
    std::fs::write(&temporary, format!("#!/bin/sh\n{body}\n")).unwrap();
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&temporary, mode).unwrap();
    std::fs::rename(&temporary, &path).unwrap();
    path
}

fn run(body: &str, stdin: &[u8]) -> (Result<Option<Value>, CniError>, String) {
    let dir = tempfile::tempdir().unwrap();
    let binary = script(dir.path(), "plugin", body);
    let stderr = Shared::default();
    let log = Log::new("test", Box::new(stderr.clone()));
    let variables = [("CNI_COMMAND", "ADD"), ("PATH", "/bin:/usr/bin")];
    let env = Env(variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    let outcome = execute(&binary, &env, stdin, &log).unwrap();
    (outcome.answer(), stderr.text())
}

#[test]
fn a_plugin_gets_environment_and_stdin_and_answers() {
    let (answer, stderr) = run(
        r#"read x; echo "said $x" >&2; echo "{\"env\": \"$(env | grep CNI_)\", \"home\": \"$HOME\"}""#,
        b"hello\n",
    );
    let answer = answer.unwrap().unwrap();
    assert_eq!(answer["env"], "CNI_COMMAND=ADD");
    assert_eq!(answer["home"], "", "nothing but what was handed over");
    assert_eq!(stderr, "said hello\n");
}

#[test]
fn an_answer_may_be_empty_and_stdin_unread() {
    let big = vec![b'x'; 1 << 20];
    assert_eq!(run("exit 0", &big).0, Ok(None));
}

#[test]
fn much_output_on_both_sides_does_not_block() {
    let body = r#"cat >/dev/null; head -c 300000 /dev/zero | tr '\0' e >&2
        printf '"'; head -c 300000 /dev/zero | tr '\0' o; printf '"'"#;
    let (answer, stderr) = run(body, &vec![b'x'; 300_000]);
    assert_eq!(
        answer.unwrap().unwrap().as_str().map(str::len),
        Some(300_000)
    );
    assert_eq!(stderr.len(), 300_000);
}

#[test]
fn a_plugins_error_is_read_from_stdout() {
    let (answer, _) = run(
        r#"echo '{"code": 11, "msg": "later", "details": "d"}'; exit 1"#,
        b"",
    );
    assert_eq!(
        answer.unwrap_err(),
        CniError::try_again("later").details("d")
    );
}

#[test]
fn a_failure_without_a_readable_error_tells_what_there_is() {
    for (body, parts) in [
        (
            "echo gone >&2; exit 3",
            vec!["status 3", "printed no error", "gone"],
        ),
        ("exit 1", vec!["status 1", "nothing on its standard error"]),
        ("echo oops; exit 1", vec!["cannot be read", "oops"]),
        (r#"echo '{"msg": "x"}'; exit 1"#, vec!["no CNI error"]),
        ("kill -9 $$", vec!["killed by signal 9"]),
    ] {
        let error = run(body, b"").0.unwrap_err();
        assert_eq!(error.code, code::IO, "{body}: {error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{body}: {error}");
        }
    }
    let error = run("echo '{'", b"").0.unwrap_err();
    assert_eq!(error.code, code::DECODE, "success without JSON: {error}");
}

#[test]
fn what_cannot_be_run_is_told_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::new("test", Box::new(std::io::sink()));
    let plain = dir.path().join("plain");
    std::fs::write(&plain, "no program").unwrap();
    let error = execute(&plain, &Env::default(), b"", &log).unwrap_err();
    assert_eq!(error.code, code::IO);
    assert!(error.msg.contains(plain.to_str().unwrap()), "{error}");
    assert_eq!(error.details, "make it executable");
}

#[test]
fn a_file_that_stays_open_for_writing_is_try_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = script(dir.path(), "plugin", "exit 0");
    let _writer = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap();
    let log = Log::new("test", Box::new(std::io::sink()));
    let error = execute(&path, &Env::default(), b"", &log).unwrap_err();
    assert_eq!(error.code, code::TRY_AGAIN, "{error}");
}

#[test]
fn the_first_regular_file_is_found_executable_or_not() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let path: Vec<_> = dirs.iter().map(|d| d.path().to_owned()).collect();
    assert_eq!(find(&path, "x"), None);
    std::fs::create_dir(path[0].join("x")).unwrap();
    std::fs::write(path[1].join("x"), "").unwrap();
    assert_eq!(
        find(&path, "x"),
        Some(path[1].join("x")),
        "a directory is no plugin"
    );
}
