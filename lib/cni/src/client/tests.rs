use super::*;
use crate::exec::tests::{Shared, script};
use std::fs;
use tempfile::TempDir;

/// A plugin directory, a cache and a journal of what plugins were asked.
struct Place {
    dir: TempDir,
    stderr: Shared,
}

/// Writes a line per call, keeps its input, and does as `fail.VERB.NAME` says.
const PLUGIN: &str = r#"name=$(basename "$0"); here=$(dirname "$0")/..
    echo "$CNI_COMMAND $name" >> "$here/journal"
    env | grep ^CNI_ | sort > "$here/env.$CNI_COMMAND.$name"
    cat > "$here/stdin.$CNI_COMMAND.$name"
    if [ -e "$here/fail.$CNI_COMMAND.$name" ]; then cat "$here/fail.$CNI_COMMAND.$name"; exit 1; fi
    case $CNI_COMMAND in
    ADD) cat "$here/result.$name" 2>/dev/null ||
        echo "{\"cniVersion\": \"1.0.0\", \"interfaces\": [{\"name\": \"$name\"}]}";;
    VERSION) echo '{"cniVersion": "1.1.0", "supportedVersions": ["0.4.0", "1.0.0"]}';;
    esac"#;

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        for name in ["one", "two", "three"] {
            script(&dir.path().join("bin"), name, PLUGIN);
        }
        Self {
            dir,
            stderr: Shared::default(),
        }
    }

    fn client(&self) -> Client {
        let env = Variables::from([("PATH".to_owned(), "/bin:/usr/bin".to_owned())]);
        let log = Log::new("client", Box::new(self.stderr.clone()));
        let path = vec![PathBuf::from("/nonexistent"), self.dir.path().join("bin")];
        Client::new(path, self.dir.path().join("cache")).with(env, log)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    fn stdin(&self, call: &str) -> Value {
        serde_json::from_str(&self.read(&format!("stdin.{call}"))).unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn fails(&self, call: &str) {
        let error = r#"{"code": 11, "msg": "not now", "details": ""}"#;
        self.write(&format!("fail.{call}"), error);
    }

    fn works(&self, call: &str) {
        fs::remove_file(self.dir.path().join(format!("fail.{call}"))).unwrap();
    }

    /// What plugins were asked since the last look.
    fn journal(&self) -> Vec<String> {
        let lines = self.read("journal").lines().map(str::to_owned).collect();
        self.write("journal", "");
        lines
    }

    fn cached(&self) -> Vec<Key> {
        self.client().attachments("net").unwrap()
    }
}

fn document(version: &str) -> Value {
    json!({"cniVersion": version, "name": "net", "plugins": [
        {"type": "one", "vlan": 7, "capabilities": {"mac": true, "ips": false}},
        {"type": "two"},
        {"type": "three", "capabilities": {"bandwidth": true}}]})
}

fn list(version: &str) -> NetworkList {
    NetworkList::of(&document(version)).unwrap()
}

fn key(id: &str) -> Key {
    format!("net/{id}:eth0").parse().unwrap()
}

fn attachment(id: &str) -> Attachment {
    let mut attachment = Attachment::new(key(id), Some("/run/netns/x".into()));
    attachment.args = "K=v".into();
    attachment.capabilities = Map::from_iter([
        ("mac".to_owned(), json!("02:00:00:00:00:01")),
        ("ips".to_owned(), json!(["10.0.0.1/8"])),
    ]);
    attachment
}

#[test]
fn add_goes_through_the_chain_with_each_result() {
    let place = Place::new();
    let result = place
        .client()
        .add(&list("1.0.0"), &attachment("c"))
        .unwrap();
    assert_eq!(result["interfaces"][0]["name"], "three");
    assert_eq!(place.journal(), ["ADD one", "ADD two", "ADD three"]);
    assert_eq!(
        place.stdin("ADD.one"),
        json!({"cniVersion": "1.0.0", "name": "net", "type": "one", "vlan": 7,
            "runtimeConfig": {"mac": "02:00:00:00:00:01"}}),
        "declared and given capabilities only"
    );
    assert_eq!(
        place.stdin("ADD.two"),
        json!({"cniVersion": "1.0.0", "name": "net", "type": "two",
            "prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": "one"}]}})
    );
    assert_eq!(
        place.stdin("ADD.three")["prevResult"]["interfaces"][0]["name"],
        "two"
    );
    let bin = place.dir.path().join("bin");
    assert_eq!(
        place.read("env.ADD.two"),
        format!(
            "CNI_ARGS=K=v\nCNI_COMMAND=ADD\nCNI_CONTAINERID=c\nCNI_IFNAME=eth0\n\
             CNI_NETNS=/run/netns/x\nCNI_PATH=/nonexistent:{}\n",
            bin.display()
        )
    );
    assert_eq!(place.client().result(&key("c")), Ok(Some(result)));
    assert_eq!(place.client().attachments("other"), Ok(vec![]));
}

#[test]
fn del_needs_the_key_alone_and_passes_the_result() {
    let place = Place::new();
    let result = place
        .client()
        .add(&list("0.4.0"), &attachment("c"))
        .unwrap();
    place.journal();
    let client = place.client();
    client.del(None, &Attachment::new(key("c"), None)).unwrap();
    assert_eq!(place.journal(), ["DEL three", "DEL two", "DEL one"]);
    for name in ["one", "two", "three"] {
        let stdin = place.stdin(&format!("DEL.{name}"));
        assert_eq!(stdin["prevResult"], result);
        assert!(
            place
                .read(&format!("env.DEL.{name}"))
                .contains("CNI_ARGS=K=v")
        );
    }
    assert_eq!(
        place.stdin("DEL.one")["runtimeConfig"]["mac"],
        "02:00:00:00:00:01"
    );
    assert_eq!(place.cached(), []);
    let error = client
        .del(None, &Attachment::new(key("c"), None))
        .unwrap_err();
    assert_eq!(error.code, code::CONFIG, "unknown now: {error}");
    let again = client.del(Some(&list("0.4.0")), &attachment("c"));
    assert_eq!(again, Ok(()), "with the configuration it may be repeated");
    assert_eq!(place.stdin("DEL.one").get("prevResult"), None);
}

#[test]
fn del_before_0_4_0_has_no_result() {
    let place = Place::new();
    place
        .client()
        .add(&list("0.3.1"), &attachment("c"))
        .unwrap();
    place.client().del(None, &attachment("c")).unwrap();
    assert_eq!(place.stdin("DEL.two").get("prevResult"), None);
}

#[test]
fn del_goes_on_past_a_failing_plugin_and_can_be_repeated() {
    let place = Place::new();
    place
        .client()
        .add(&list("1.0.0"), &attachment("c"))
        .unwrap();
    place.journal();
    place.fails("DEL.three");
    place.fails("DEL.one");
    let error = place.client().del(None, &attachment("c")).unwrap_err();
    assert_eq!(error.code, code::TRY_AGAIN);
    assert!(
        error.msg.contains("three") && error.details.contains("one"),
        "{error}"
    );
    assert_eq!(place.journal(), ["DEL three", "DEL two", "DEL one"]);
    assert_eq!(place.cached(), [key("c")], "still remembered");
    place.works("DEL.three");
    place.works("DEL.one");
    assert_eq!(place.client().del(None, &attachment("c")), Ok(()));
    assert_eq!(place.cached(), []);
}

#[test]
fn a_failed_add_is_taken_back_whole() {
    for failing in ["one", "two", "three"] {
        let place = Place::new();
        place.fails(&format!("ADD.{failing}"));
        let error = place
            .client()
            .add(&list("1.0.0"), &attachment("c"))
            .unwrap_err();
        assert_eq!(error.code, code::TRY_AGAIN);
        assert_eq!(error.msg, format!("plugin {failing} failed ADD: not now"));
        let journal = place.journal();
        let dels = &journal[journal.len() - 3..];
        assert_eq!(dels, ["DEL three", "DEL two", "DEL one"], "{journal:?}");
        assert_eq!(place.cached(), []);
        place.works(&format!("ADD.{failing}"));
        assert!(place.client().add(&list("1.0.0"), &attachment("c")).is_ok());
    }
}

#[test]
fn what_cannot_be_taken_back_stays_known() {
    let place = Place::new();
    place.fails("ADD.two");
    place.fails("DEL.one");
    let client = place.client();
    let error = client.add(&list("1.0.0"), &attachment("c")).unwrap_err();
    assert_eq!(error.code, code::INCOMPLETE);
    assert!(error.msg.contains("plugin two failed ADD"), "{error}");
    assert!(error.details.contains("plugin one failed DEL"), "{error}");
    assert_eq!(place.cached(), [key("c")]);
    place.works("DEL.one");
    place.works("ADD.two");
    place.journal();
    assert!(
        client.add(&list("1.0.0"), &attachment("c")).is_ok(),
        "sweeps first"
    );
    assert_eq!(
        place.journal(),
        [
            "DEL three",
            "DEL two",
            "DEL one",
            "ADD one",
            "ADD two",
            "ADD three"
        ]
    );
}

#[test]
fn an_attachment_is_added_once() {
    let place = Place::new();
    place
        .client()
        .add(&list("1.0.0"), &attachment("c"))
        .unwrap();
    place.journal();
    let error = place
        .client()
        .add(&list("1.0.0"), &attachment("c"))
        .unwrap_err();
    assert_eq!(error.code, code::CONFIG);
    assert!(
        error.msg.contains("net/c:eth0") && error.details.contains("detach"),
        "{error}"
    );
    assert_eq!(
        place.journal(),
        Vec::<String>::new(),
        "no plugin is bothered"
    );
    assert!(place.client().add(&list("1.0.0"), &attachment("d")).is_ok());
}

#[test]
fn of_many_adds_at_once_one_goes_through() {
    let place = Place::new();
    let client = place.client();
    let added = std::thread::scope(|scope| {
        let add = || {
            client
                .add(&list("1.0.0"), &attachment("c"))
                .map_err(|e| e.code)
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(add)).collect();
        let outcomes = threads.into_iter().map(|t| t.join().unwrap());
        outcomes.collect::<Vec<_>>()
    });
    assert_eq!(added.iter().filter(|r| r.is_ok()).count(), 1, "{added:?}");
    for refused in added.into_iter().filter_map(Result::err) {
        assert!([code::CONFIG, code::TRY_AGAIN].contains(&refused));
    }
    assert_eq!(place.journal().len(), 3);
}

#[test]
fn of_many_adds_over_a_killed_one_one_sweeps_and_goes_through() {
    let place = Place::new();
    let client = place.client();
    client.add(&list("1.0.0"), &attachment("c")).unwrap();
    leave_pending(&place, None);
    place.journal();
    let added = std::thread::scope(|scope| {
        let add = || client.add(&list("1.0.0"), &attachment("c")).is_ok();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(add)).collect();
        threads
            .into_iter()
            .filter_map(|t| t.join().ok())
            .filter(|ok| *ok)
            .count()
    });
    assert_eq!(added, 1);
    assert_eq!(place.journal().len(), 6, "one sweep, one ADD");
}

/// Rewrites the cache as a killed, or a living, writer would have left it.
fn leave_pending(place: &Place, writer: Option<Writer>) {
    let path = place.dir.path().join("cache/net/c:eth0.json");
    let mut cached: Cached = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    cached.result = None;
    cached.writer = writer;
    fs::write(&path, serde_json::to_vec(&cached).unwrap()).unwrap();
}

#[test]
fn a_killed_add_is_swept_and_a_running_one_left_alone() {
    let place = Place::new();
    place
        .client()
        .add(&list("1.0.0"), &attachment("c"))
        .unwrap();
    let me = Writer::current(&Root::host()).unwrap();
    leave_pending(&place, Some(me));
    place.journal();
    for error in [
        place
            .client()
            .add(&list("1.0.0"), &attachment("c"))
            .unwrap_err(),
        place.client().del(None, &attachment("c")).unwrap_err(),
    ] {
        assert_eq!(error.code, code::TRY_AGAIN);
        assert!(error.msg.contains(&me.pid.to_string()), "{error}");
    }
    assert_eq!(place.journal(), Vec::<String>::new());
    let dead = Writer {
        start_time: me.start_time - 1,
        ..me
    };
    leave_pending(&place, Some(dead));
    assert_eq!(place.client().del(None, &attachment("c")), Ok(()));
    place
        .client()
        .add(&list("1.0.0"), &attachment("c"))
        .unwrap();
    leave_pending(&place, Some(dead));
    place.journal();
    place
        .client()
        .add(&list("1.0.0"), &attachment("c"))
        .unwrap();
    assert_eq!(place.journal()[..3], ["DEL three", "DEL two", "DEL one"]);
}

#[test]
fn a_spoilt_cache_is_told_and_del_works_with_the_configuration() {
    let place = Place::new();
    place
        .client()
        .add(&list("1.0.0"), &attachment("c"))
        .unwrap();
    place.write("cache/net/c:eth0.json", "{");
    let client = place.client();
    for error in [
        client.add(&list("1.0.0"), &attachment("c")).unwrap_err(),
        client.check(&attachment("c")).unwrap_err(),
        client.del(None, &attachment("c")).unwrap_err(),
    ] {
        assert_eq!(error.code, code::DECODE);
        assert!(error.msg.contains("c:eth0.json"), "{error}");
    }
    assert_eq!(client.del(Some(&list("1.0.0")), &attachment("c")), Ok(()));
    assert!(place.stderr.text().contains("DEL without result"));
    assert_eq!(place.cached(), []);
    client.add(&list("1.0.0"), &attachment("d")).unwrap();
    let about_d = place.read("cache/net/d:eth0.json");
    place.write("cache/net/c:eth0.json", &about_d);
    let error = client.del(None, &attachment("c")).unwrap_err();
    assert!(error.msg.contains("it is about net/d:eth0"), "{error}");
}

#[test]
fn nothing_is_begun_with_a_plugin_or_namespace_missing() {
    let place = Place::new();
    let mut with_absent = document("1.0.0");
    with_absent["plugins"][2]["type"] = "absent".into();
    let with_absent = NetworkList::of(&with_absent).unwrap();
    let error = place
        .client()
        .add(&with_absent, &attachment("c"))
        .unwrap_err();
    assert_eq!(error.code, code::CONFIG);
    assert!(
        error.msg.contains("absent") && error.msg.contains("/nonexistent:"),
        "{error}"
    );
    let homeless = Attachment::new(key("c"), None);
    let error = place.client().add(&list("1.0.0"), &homeless).unwrap_err();
    assert_eq!(error.code, code::NETNS);
    let foreign = Attachment::new("other/c:eth0".parse().unwrap(), Some("/x".into()));
    let error = place.client().add(&list("1.0.0"), &foreign).unwrap_err();
    assert_eq!(error.code, code::CONFIG);
    assert_eq!((place.journal(), place.cached()), (vec![], vec![]));
}

#[test]
fn an_answer_that_is_no_result_fails_add() {
    for answer in [
        "",
        "[]",
        "{\"cniVersion\": \"7.0.0\"}",
        "{\"ips\": 7}",
        "null",
    ] {
        let place = Place::new();
        place.write("result.two", answer);
        let error = place
            .client()
            .add(&list("1.0.0"), &attachment("c"))
            .unwrap_err();
        assert!(error.msg.contains("two"), "{answer}: {error}");
        assert_eq!(place.journal()[2..], ["DEL three", "DEL two", "DEL one"]);
    }
}

#[test]
fn results_of_another_version_are_converted() {
    let place = Place::new();
    place.write(
        "result.one",
        r#"{"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.1/8"}}"#,
    );
    place.write("result.two", r#"{"ips": [{"address": "10.0.0.2/8"}]}"#);
    place
        .client()
        .add(&list("1.0.0"), &attachment("c"))
        .unwrap();
    assert_eq!(
        place.stdin("ADD.two")["prevResult"],
        json!({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.1/8"}]})
    );
    assert_eq!(
        place.stdin("ADD.three")["prevResult"]["cniVersion"],
        "1.0.0"
    );
}

#[test]
fn check_passes_the_final_result_to_each() {
    let place = Place::new();
    let client = place.client();
    let error = client.check(&attachment("c")).unwrap_err();
    assert_eq!(error.code, code::CONFIG, "unknown: {error}");
    let result = client.add(&list("0.4.0"), &attachment("c")).unwrap();
    place.journal();
    assert_eq!(client.check(&attachment("c")), Ok(()));
    assert_eq!(place.journal(), ["CHECK one", "CHECK two", "CHECK three"]);
    assert_eq!(place.stdin("CHECK.one")["prevResult"], result);
    place.fails("CHECK.two");
    assert_eq!(
        client.check(&attachment("c")).unwrap_err().code,
        code::TRY_AGAIN
    );
    assert_eq!(place.journal(), ["CHECK one", "CHECK two"]);
    client.add(&list("0.3.1"), &attachment("old")).unwrap();
    let error = client.check(&attachment("old")).unwrap_err();
    assert_eq!(error.code, code::VERSION);
    let mut quiet = document("1.0.0");
    quiet["disableCheck"] = json!("true");
    client
        .add(&NetworkList::of(&quiet).unwrap(), &attachment("quiet"))
        .unwrap();
    place.journal();
    assert_eq!(client.check(&attachment("quiet")), Ok(()));
    assert_eq!(place.journal(), Vec::<String>::new());
}

#[test]
fn status_asks_from_1_1_0_and_keeps_the_code() {
    let place = Place::new();
    assert_eq!(place.client().status(&list("1.0.0")), Ok(()));
    assert_eq!(place.journal(), Vec::<String>::new());
    place.write("fail.STATUS.two", r#"{"code": 51, "msg": "limited"}"#);
    let error = place.client().status(&list("1.1.0")).unwrap_err();
    assert_eq!(error.code, code::LIMITED);
    assert_eq!(place.journal(), ["STATUS one", "STATUS two"]);
}

#[test]
fn gc_deletes_what_is_not_valid_and_tells_every_plugin() {
    let place = Place::new();
    let client = place.client();
    for id in ["a", "b", "c"] {
        client.add(&list("1.1.0"), &attachment(id)).unwrap();
    }
    place.journal();
    place.fails("GC.one");
    let foreign: Key = "other/a:eth0".parse().unwrap();
    let error = client.gc(&list("1.1.0"), &[key("b"), foreign]).unwrap_err();
    assert_eq!(error.code, code::TRY_AGAIN);
    let dels = ["DEL three", "DEL two", "DEL one"];
    let gcs = ["GC one", "GC two", "GC three"];
    assert_eq!(place.journal(), [dels, dels, gcs].concat());
    assert_eq!(place.cached(), [key("b")]);
    let stdin = place.stdin("GC.two");
    for spelling in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        assert_eq!(
            stdin[spelling],
            json!([{"containerID": "b", "ifname": "eth0"}])
        );
    }
    client.gc(&list("1.0.0"), &[]).unwrap();
    assert_eq!(place.journal(), dels, "no GC verb before 1.1.0");
    client.add(&list("1.1.0"), &attachment("a")).unwrap();
    place.journal();
    let mut quiet = document("1.1.0");
    quiet["disableGC"] = json!(true);
    client.gc(&NetworkList::of(&quiet).unwrap(), &[]).unwrap();
    assert_eq!((place.journal(), place.cached()), (vec![], vec![key("a")]));
}

#[test]
fn versions_are_asked_from_the_plugin() {
    let place = Place::new();
    let versions = place.client().versions("one").unwrap();
    assert_eq!(versions, ["0.4.0", "1.0.0"]);
    assert_eq!(
        place.client().versions("absent").unwrap_err().code,
        code::CONFIG
    );
}

#[test]
fn the_cache_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    place
        .client()
        .add(&list("1.0.0"), &attachment("c"))
        .unwrap();
    for (name, mode) in [
        ("cache", 0o700),
        ("cache/net", 0o700),
        ("cache/net/c:eth0.json", 0o600),
    ] {
        let meta = fs::metadata(place.dir.path().join(name)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, mode, "{name}");
    }
}
