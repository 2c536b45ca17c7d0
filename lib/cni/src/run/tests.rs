use super::*;
use crate::keys::Inactive;
use crate::result::IpConfig;
use berth_state::testing::every_failure;
use berth_state::{Fault, When};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock};

type Verb<T> = Box<dyn Fn(&T) -> Result<(), CniError>>;
type Add = Box<dyn Fn(&Request, &mut Undo) -> Result<AddResult, CniError>>;

/// A plugin whose verbs a test chooses; it remembers which were called.
struct Fake {
    add: Add,
    del: Verb<Request>,
    check: Verb<Request>,
    status: Verb<Call>,
    gc: Verb<GcRequest>,
    faults: Faults,
    called: RefCell<Vec<&'static str>>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            add: Box::new(|_, _| Ok(one_address())),
            del: Box::new(|_| Ok(())),
            check: Box::new(|_| Ok(())),
            status: Box::new(|_| Ok(())),
            gc: Box::new(|_| Ok(())),
            faults: Faults::none(),
            called: RefCell::default(),
        }
    }
}

impl Fake {
    fn note(&self, verb: &'static str) {
        self.called.borrow_mut().push(verb);
    }
}

impl Plugin for Fake {
    fn name(&self) -> &str {
        "cni-fake"
    }

    fn version(&self) -> &str {
        "1.2.3"
    }

    fn keys(&self) -> &[KeySpec] {
        const KEYS: [KeySpec; 2] = [
            KeySpec::built("vlan"),
            KeySpec::unbuilt("ipMasq", &[Inactive::Bool(false)]),
        ];
        &KEYS
    }

    fn add(&self, request: &Request, undo: &mut Undo) -> Result<AddResult, CniError> {
        self.note("ADD");
        (self.add)(request, undo)
    }

    fn del(&self, request: &Request) -> Result<(), CniError> {
        self.note("DEL");
        (self.del)(request)
    }

    fn check(&self, request: &Request) -> Result<(), CniError> {
        self.note("CHECK");
        (self.check)(request)
    }

    fn status(&self, call: &Call) -> Result<(), CniError> {
        self.note("STATUS");
        (self.status)(call)
    }

    fn gc(&self, request: &GcRequest) -> Result<(), CniError> {
        self.note("GC");
        (self.gc)(request)
    }

    fn faults(&self) -> Faults {
        self.faults.clone()
    }
}

fn one_address() -> AddResult {
    AddResult {
        ips: vec![IpConfig {
            interface: None,
            address: "10.0.0.2/8".parse().unwrap(),
            gateway: None,
        }],
        ..AddResult::default()
    }
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A network namespace that is not the test's, alive until the process ends.
fn other_netns() -> String {
    static OTHER: OnceLock<File> = OnceLock::new();
    let file = OTHER.get_or_init(|| {
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        thread.join().unwrap()
    });
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// One run of a plugin: what it is given, and what came out.
struct Given {
    env: Variables,
    stdin: Vec<u8>,
}

struct Seen {
    status: u8,
    stdout: String,
    stderr: String,
}

fn given(command: &str, config: &Value) -> Given {
    let variables = [
        ("CNI_COMMAND", command.to_owned()),
        ("CNI_CONTAINERID", "c1".to_owned()),
        ("CNI_NETNS", other_netns()),
        ("CNI_IFNAME", "eth0".to_owned()),
    ];
    Given {
        env: variables.map(|(k, v)| (k.to_owned(), v)).into(),
        stdin: config.to_string().into_bytes(),
    }
}

impl Given {
    fn with(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    fn run(self, plugin: &Fake) -> Seen {
        let (stdout, stderr) = (Shared::default(), Shared::default());
        let io = Io {
            env: self.env,
            stdin: Box::new(std::io::Cursor::new(self.stdin)),
            stdout: Box::new(stdout.clone()),
            stderr: Box::new(stderr.clone()),
        };
        Seen {
            status: run(plugin, io),
            stdout: stdout.text(),
            stderr: stderr.text(),
        }
    }

    fn fails(self, plugin: &Fake) -> CniError {
        let seen = self.run(plugin);
        assert_eq!(seen.status, 1, "{}", seen.stdout);
        let document: Value = serde_json::from_str(&seen.stdout).unwrap();
        assert!(
            SpecVersion::exactly(document["cniVersion"].as_str().unwrap()).is_some(),
            "an error document names a version: {document}"
        );
        let error = CniError::from_json(&document).unwrap();
        assert!(seen.stderr.contains(&error.msg), "the log tells it too");
        assert!(![0, 3, 999].contains(&error.code), "{error}");
        error
    }
}

fn config(version: &str) -> Value {
    json!({"cniVersion": version, "name": "net", "type": "fake"})
}

fn with_prev(version: &str) -> Value {
    let mut config = config(version);
    config["prevResult"] = one_address().to_json(SpecVersion::V100).unwrap();
    config
}

/// A good request for each verb.
fn good(command: &str) -> Given {
    let mut config = with_prev("1.1.0");
    if command == "GC" {
        config["cni.dev/valid-attachments"] = json!([]);
    }
    given(command, &config)
}

const VERBS: [&str; 5] = ["ADD", "DEL", "CHECK", "STATUS", "GC"];

#[test]
fn every_verb_reaches_the_plugin_and_only_add_prints() {
    for verb in VERBS {
        let fake = Fake::default();
        let seen = good(verb).run(&fake);
        assert_eq!(seen.status, 0, "{verb}: {}", seen.stdout);
        assert_eq!(*fake.called.borrow(), [verb]);
        if verb == "ADD" {
            let document: Value = serde_json::from_str(&seen.stdout).unwrap();
            assert_eq!(document["ips"][0]["address"], "10.0.0.2/8");
        } else {
            assert_eq!(seen.stdout, "", "{verb}");
        }
    }
}

#[test]
fn variables_are_required_by_verb() {
    // Columns: ADD, DEL, CHECK, STATUS, GC. CNI_PATH only matters for a delegate.
    for (variable, required) in [
        ("CNI_CONTAINERID", [true, true, true, false, false]),
        ("CNI_NETNS", [true, false, true, false, false]),
        ("CNI_IFNAME", [true, true, true, false, false]),
        ("CNI_PATH", [false; 5]),
        ("CNI_ARGS", [false; 5]),
    ] {
        for (verb, required) in VERBS.into_iter().zip(required) {
            for absent in [good(verb).without(variable), good(verb).with(variable, "")] {
                let fake = Fake::default();
                if required {
                    let error = absent.fails(&fake);
                    assert_eq!(error.code, code::ENV, "{verb} {variable}");
                    let msg = format!("required env variables [{variable}] missing");
                    assert_eq!(error.msg, msg, "{verb}");
                    assert!(fake.called.borrow().is_empty());
                } else {
                    assert_eq!(absent.run(&fake).status, 0, "{verb} {variable}");
                }
            }
        }
    }
}

#[test]
fn all_missing_variables_are_listed_in_order() {
    let bare = Given {
        env: [("CNI_COMMAND".to_owned(), "ADD".to_owned())].into(),
        stdin: vec![],
    };
    let error = bare.fails(&Fake::default());
    assert_eq!(
        error.msg,
        "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME] missing"
    );
}

#[test]
fn an_invalid_variable_is_told_before_a_missing_one() {
    let given = good("ADD").without("CNI_NETNS").with("CNI_IFNAME", "a/b");
    let error = given.fails(&Fake::default());
    assert_eq!(
        error.msg,
        "interface name contains / or : or whitespace characters"
    );
}

#[test]
fn container_ids_and_interface_names_are_checked() {
    for verb in ["ADD", "DEL", "CHECK"] {
        for id in ["-a", ".a", "a/b", "a b", "a:b", "é", "a\n"] {
            let error = good(verb)
                .with("CNI_CONTAINERID", id)
                .fails(&Fake::default());
            assert_eq!(error.code, code::ENV);
            assert_eq!(error.msg, "invalid characters in containerID");
            assert_eq!(error.details, id);
        }
        for (ifname, msg) in [
            ("1234567890123456", "interface name is too long"),
            (".", "interface name is . or .."),
            ("..", "interface name is . or .."),
            (
                "a/b",
                "interface name contains / or : or whitespace characters",
            ),
            (
                "a:b",
                "interface name contains / or : or whitespace characters",
            ),
            (
                "a b",
                "interface name contains / or : or whitespace characters",
            ),
        ] {
            let error = good(verb)
                .with("CNI_IFNAME", ifname)
                .fails(&Fake::default());
            assert_eq!(
                (error.code, error.msg.as_str()),
                (code::ENV, msg),
                "{ifname}"
            );
        }
        for id in ["a", "0", "A_b.c-d", "0123456789abcdef"] {
            let seen = good(verb).with("CNI_CONTAINERID", id).run(&Fake::default());
            assert_eq!(seen.status, 0, "{id}");
        }
    }
    let seen = good("STATUS")
        .with("CNI_CONTAINERID", "!")
        .run(&Fake::default());
    assert_eq!(seen.status, 0, "STATUS needs no id and looks at none");
}

#[test]
fn an_unknown_verb_is_refused_without_reading_stdin() {
    for verb in ["add", "UPDATE", "SYNC", " ADD"] {
        let given = Given {
            stdin: b"no json".to_vec(),
            ..good(verb)
        };
        let error = given.fails(&Fake::default());
        assert_eq!(error.code, code::ENV);
        assert_eq!(error.msg, format!("unknown CNI_COMMAND: {verb}"));
    }
}

#[test]
fn without_a_verb_one_line_names_program_and_version() {
    for given in [
        good("ADD").without("CNI_COMMAND"),
        good("").without("CNI_NETNS"),
    ] {
        let fake = Fake::default();
        let seen = given.run(&fake);
        assert_eq!(seen.status, 0);
        assert_eq!(seen.stdout, "");
        assert_eq!(seen.stderr, "CNI cni-fake plugin v1.2.3\n");
        assert!(fake.called.borrow().is_empty());
    }
}

struct Forbidden;

impl Read for Forbidden {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        panic!("stdin was read");
    }
}

#[test]
fn version_needs_nothing_and_never_reads_stdin() {
    let stdout = Shared::default();
    let io = Io {
        env: [("CNI_COMMAND".to_owned(), "VERSION".to_owned())].into(),
        stdin: Box::new(Forbidden),
        stdout: Box::new(stdout.clone()),
        stderr: Box::new(Shared::default()),
    };
    assert_eq!(run(&Fake::default(), io), 0);
    let document: Value = serde_json::from_str(&stdout.text()).unwrap();
    assert_eq!(
        document,
        json!({"cniVersion": "1.1.0", "supportedVersions":
            ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]})
    );
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("pipe burst"))
    }
}

#[test]
fn stdin_that_cannot_be_read_is_code_5() {
    let stdout = Shared::default();
    let io = Io {
        env: good("ADD").env,
        stdin: Box::new(Broken),
        stdout: Box::new(stdout.clone()),
        stderr: Box::new(Shared::default()),
    };
    assert_eq!(run(&Fake::default(), io), 1);
    let document: Value = serde_json::from_str(&stdout.text()).unwrap();
    assert_eq!(document["code"], 5);
    assert_eq!(document["msg"], "error reading from stdin: pipe burst");
}

#[test]
fn what_is_no_configuration_is_code_6() {
    for verb in VERBS {
        for stdin in [
            "",
            "{",
            "[]",
            "null",
            "7",
            "{\"name\": 7}",
            "\u{feff}{}",
            "{\"name\": \"n\", \"cniVersion\": 1}",
        ] {
            let given = Given {
                stdin: stdin.as_bytes().to_vec(),
                ..good(verb)
            };
            let error = given.fails(&Fake::default());
            assert_eq!(error.code, code::DECODE, "{verb} {stdin}");
            assert!(error.msg.starts_with("error unmarshall network config: "));
        }
    }
}

#[test]
fn the_network_needs_a_name_of_plain_characters() {
    for verb in VERBS {
        for config in [json!({}), json!({"name": ""}), json!({"name": null})] {
            let error = given(verb, &config).fails(&Fake::default());
            assert_eq!(
                (error.code, error.msg.as_str()),
                (7, "missing network name")
            );
        }
        for name in ["../x", "a b", "-a", "é"] {
            let error = given(verb, &json!({"name": name})).fails(&Fake::default());
            assert_eq!(error.code, 7);
            assert_eq!(error.msg, "invalid characters found in network name");
            assert!(error.details.contains(name));
        }
    }
}

#[test]
fn only_supported_versions_are_served() {
    for verb in VERBS {
        for version in ["1.2.0", "2.0.0", "1.1", "9"] {
            let mut config = config(version);
            config["cni.dev/attachments"] = json!([]);
            let error = given(verb, &config).fails(&Fake::default());
            assert_eq!(error.code, code::VERSION, "{verb} {version}");
            assert_eq!(error.msg, "incompatible CNI versions");
            assert_eq!(
                error.details,
                format!(
                    "config is {version:?}, plugin supports [\"0.1.0\", \"0.2.0\", \"0.3.0\", \
                     \"0.3.1\", \"0.4.0\", \"1.0.0\", \"1.1.0\"]"
                )
            );
        }
        let error = given(verb, &config("one")).fails(&Fake::default());
        let expected = match verb {
            "ADD" | "DEL" => code::VERSION,
            _ => code::DECODE,
        };
        assert_eq!(error.code, expected, "{verb}: {error}");
    }
}

#[test]
fn verbs_have_a_lowest_version() {
    for (verb, since) in [
        ("ADD", SpecVersion::V010),
        ("DEL", SpecVersion::V010),
        ("CHECK", SpecVersion::V040),
        ("STATUS", SpecVersion::V110),
        ("GC", SpecVersion::V110),
    ] {
        for version in SUPPORTED {
            let mut config = with_prev(version.as_str());
            config["cni.dev/attachments"] = json!([]);
            let fake = Fake::default();
            if version >= since {
                assert_eq!(
                    given(verb, &config).run(&fake).status,
                    0,
                    "{verb} {version}"
                );
            } else {
                let error = given(verb, &config).fails(&fake);
                assert_eq!(error.code, code::VERSION);
                assert_eq!(error.msg, format!("config version does not allow {verb}"));
                assert!(fake.called.borrow().is_empty());
            }
        }
    }
    let error = given("CHECK", &config("")).fails(&Fake::default());
    assert_eq!(error.msg, "config version does not allow CHECK");
}

#[test]
fn the_result_has_the_version_of_the_configuration() {
    for version in SUPPORTED {
        let seen = given("ADD", &config(version.as_str())).run(&Fake::default());
        let document: Value = serde_json::from_str(&seen.stdout).unwrap();
        assert_eq!(document, one_address().to_json(version).unwrap());
        assert_eq!(document["cniVersion"], version.as_str());
    }
    let seen = given("ADD", &json!({"name": "net"})).run(&Fake::default());
    assert!(seen.stdout.contains("\"0.1.0\""), "absent means 0.1.0");
}

#[test]
fn an_error_document_has_the_version_of_the_configuration() {
    let fake = Fake {
        del: Box::new(|_| Err(CniError::try_again("bridge is busy"))),
        ..Fake::default()
    };
    let seen = given("DEL", &config("0.3.1")).run(&fake);
    let document: Value = serde_json::from_str(&seen.stdout).unwrap();
    assert_eq!(
        document,
        json!({"cniVersion": "0.3.1", "code": 11, "msg": "bridge is busy", "details": ""})
    );
}

#[test]
fn the_plugins_own_namespace_is_refused_before_acting() {
    let own = "/proc/self/ns/net";
    for verb in ["ADD", "DEL"] {
        let fake = Fake::default();
        let error = good(verb).with("CNI_NETNS", own).fails(&fake);
        assert_eq!(error.code, code::NETNS);
        assert_eq!(
            error.msg,
            "plugin's netns and netns from CNI_NETNS should not be the same"
        );
        assert!(fake.called.borrow().is_empty(), "{verb} acted");
        for yes in ["1", "true", "TRUE"] {
            let given = good(verb).with("CNI_NETNS", own);
            let seen = given.with("CNI_NETNS_OVERRIDE", yes).run(&fake);
            assert_eq!(seen.status, 0, "{verb} {yes}");
        }
        for no in ["0", "yes", ""] {
            let given = good(verb).with("CNI_NETNS", own);
            let error = given.with("CNI_NETNS_OVERRIDE", no).fails(&fake);
            assert_eq!(error.code, code::NETNS);
        }
    }
}

#[test]
fn a_namespace_that_is_gone_fails_add_and_not_del() {
    for gone in ["/nonexistent/netns", "/etc/hostname"] {
        let fake = Fake::default();
        let error = good("ADD").with("CNI_NETNS", gone).fails(&fake);
        assert_eq!(error.code, code::NETNS);
        assert!(error.msg.contains(gone), "{error}");
        assert!(fake.called.borrow().is_empty());
        let seen = good("DEL").with("CNI_NETNS", gone).run(&fake);
        assert_eq!(seen.status, 0);
        assert_eq!(*fake.called.borrow(), ["DEL"]);
    }
}

#[test]
fn check_needs_the_result_it_compares_with() {
    for config in [
        config("0.4.0"),
        json!({"cniVersion": "1.0.0", "name": "n", "prevResult": null}),
    ] {
        let error = given("CHECK", &config).fails(&Fake::default());
        assert_eq!(error.code, code::CONFIG);
        assert!(error.msg.contains("prevResult missing"), "{error}");
    }
}

#[test]
fn a_previous_result_of_any_version_is_read() {
    for version in SUPPORTED {
        let mut config = config("1.0.0");
        config["prevResult"] = one_address().to_json(version).unwrap();
        let fake = Fake {
            add: Box::new(|request, _| Ok(request.prev_result().unwrap().clone())),
            ..Fake::default()
        };
        let seen = given("ADD", &config).run(&fake);
        let document: Value = serde_json::from_str(&seen.stdout).unwrap();
        assert_eq!(document["ips"][0]["address"], "10.0.0.2/8", "{version}");
    }
}

#[test]
fn odd_configuration_stops_add_and_never_del_or_gc() {
    for (key, odd, code) in [
        ("prevResult", json!({"ips": 7}), code::DECODE),
        ("prevResult", json!({"cniVersion": "7.0.0"}), code::VERSION),
        ("vlna", json!(5), code::CONFIG),
        ("ipMasq", json!(true), code::UNSUPPORTED),
        ("runtimeConfig", json!([]), code::CONFIG),
        ("args", json!({"cni": 7}), code::CONFIG),
        ("capabilities", json!("mac"), code::CONFIG),
        ("dns", json!(1), code::CONFIG),
        ("ipam", json!("static"), code::CONFIG),
        ("ipam", json!({"subnet": "10.0.0.0/8"}), code::CONFIG),
        ("logLevel", json!("loud"), code::CONFIG),
        ("logFile", json!("relative"), code::CONFIG),
    ] {
        let mut config = config("1.1.0");
        config["cni.dev/valid-attachments"] = json!([]);
        config[key] = odd.clone();
        let error = given("ADD", &config).fails(&Fake::default());
        assert_eq!(error.code, code, "{key} {odd}: {error}");
        assert!(error.msg.contains(key), "{error}");
        for verb in ["DEL", "GC"] {
            let seen = given(verb, &config).run(&Fake::default());
            assert_eq!(seen.status, 0, "{verb} {key} {odd}: {}", seen.stdout);
        }
    }
}

#[test]
fn arguments_must_be_known_or_ignored_but_not_for_del() {
    let strict = "IgnoreUnknown=0;K8S_POD_NAME=a";
    let error = good("ADD").with("CNI_ARGS", strict).fails(&Fake::default());
    assert_eq!(error.code, code::ENV);
    assert!(error.msg.contains("ARGS: unknown args"), "{error}");
    for args in ["MAC=x", "K8S_POD_NAME=a;IgnoreUnknown=true"] {
        assert_eq!(
            good("ADD")
                .with("CNI_ARGS", args)
                .run(&Fake::default())
                .status,
            0
        );
    }
    for args in ["nonsense", strict] {
        assert_eq!(
            good("DEL")
                .with("CNI_ARGS", args)
                .run(&Fake::default())
                .status,
            0
        );
    }
    let address = good("ADD").with("CNI_ARGS", "IP=10.0.0.2/8");
    assert_eq!(
        address.fails(&Fake::default()).code,
        code::ENV,
        "layer 2 only"
    );
    let mut config = config("1.0.0");
    config["ipam"] = json!({"type": "static"});
    let address = given("ADD", &config).with("CNI_ARGS", "IP=10.0.0.2/8");
    assert_eq!(address.run(&Fake::default()).status, 0);
}

#[test]
fn gc_reads_either_list_and_refuses_to_guess() {
    let listed = |id: &str| json!([{"containerID": id, "ifname": "eth0"}]);
    let (new, old) = ("cni.dev/valid-attachments", "cni.dev/attachments");
    for (lists, kept) in [
        (json!({new: listed("a")}), vec!["a"]),
        (json!({old: listed("a")}), vec!["a"]),
        (json!({new: listed("a"), old: listed("b")}), vec!["a"]),
        (json!({new: []}), vec![]),
        (json!({new: null}), vec![]),
        (json!({old: null}), vec![]),
    ] {
        let mut config = config("1.1.0");
        for (key, value) in lists.as_object().unwrap() {
            config[key] = value.clone();
        }
        let seen = Rc::new(RefCell::new(BTreeSet::new()));
        let inner = seen.clone();
        let fake = Fake {
            gc: Box::new(move |request| {
                for id in ["a", "b"] {
                    let key = |network, ifname: &str| {
                        berth_state::Key::new(network, id, ifname.parse().unwrap()).unwrap()
                    };
                    if request.is_valid(&key("net", "eth0")) {
                        inner.borrow_mut().insert(id);
                    }
                    assert!(!request.is_valid(&key("net", "eth1")));
                    assert!(request.is_valid(&key("other", "eth0")));
                }
                Ok(())
            }),
            ..Fake::default()
        };
        assert_eq!(given("GC", &config).run(&fake).status, 0, "{lists}");
        assert_eq!(*seen.borrow(), kept.into_iter().collect(), "{lists}");
    }
    let error = given("GC", &config("1.1.0")).fails(&Fake::default());
    assert_eq!(error.code, code::CONFIG);
    assert!(
        error.msg.contains(new) && error.msg.contains(old),
        "{error}"
    );
    for malformed in [json!({}), json!(["a"]), json!([{"containerID": "a"}])] {
        let mut config = config("1.1.0");
        config[new] = malformed;
        let error = given("GC", &config).fails(&Fake::default());
        assert_eq!(error.code, code::CONFIG, "{config}");
    }
}

#[test]
fn layer_2_only_is_rolled_back_where_the_result_cannot_say_it() {
    let undone = Rc::new(RefCell::new(false));
    let inner = undone.clone();
    let fake = Fake {
        add: Box::new(move |_, undo| {
            let inner = inner.clone();
            undo.before("veth", move || {
                *inner.borrow_mut() = true;
                Ok::<(), CniError>(())
            });
            Ok(AddResult::default())
        }),
        ..Fake::default()
    };
    let error = given("ADD", &config("0.2.0")).fails(&fake);
    assert_eq!(error.msg, "cannot convert: no valid IP addresses");
    assert!(*undone.borrow(), "what was made is taken back");
    *undone.borrow_mut() = false;
    assert_eq!(given("ADD", &config("0.3.0")).run(&fake).status, 0);
    assert!(!*undone.borrow());
}

#[test]
fn a_panic_is_code_104_after_rollback() {
    let undone = Rc::new(RefCell::new(vec![]));
    let inner = undone.clone();
    let fake = Fake {
        add: Box::new(move |_, undo| {
            for step in ["one", "two"] {
                let inner = inner.clone();
                undo.before(step, move || {
                    inner.borrow_mut().push(step);
                    Ok::<(), CniError>(())
                });
            }
            panic!("index {} out of range", 7);
        }),
        ..Fake::default()
    };
    let error = good("ADD").fails(&fake);
    assert_eq!(error.code, code::INTERNAL);
    assert_eq!(error.msg, "internal error: index 7 out of range");
    assert_eq!(*undone.borrow(), ["two", "one"]);
    let fake = Fake {
        del: Box::new(|_| panic!("plain")),
        ..Fake::default()
    };
    assert_eq!(good("DEL").fails(&fake).msg, "internal error: plain");
}

#[test]
fn a_rollback_that_leaves_something_is_code_102_and_says_what() {
    let fake = Fake {
        add: Box::new(|_, undo| {
            undo.before("enslave eth1", || Err("device is busy"));
            Err(CniError::new(code::KERNEL, "no room").details("free a port"))
        }),
        ..Fake::default()
    };
    let error = good("ADD").fails(&fake);
    assert_eq!(error.code, code::INCOMPLETE);
    assert!(error.msg.contains("no room"), "{error}");
    for part in [
        "enslave eth1",
        "device is busy",
        "free a port",
        "100",
        "run DEL",
    ] {
        assert!(error.details.contains(part), "{part}: {error}");
    }
}

struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_result_nobody_can_read_is_rolled_back() {
    let undone = Rc::new(RefCell::new(false));
    let inner = undone.clone();
    let fake = Fake {
        add: Box::new(move |_, undo| {
            let inner = inner.clone();
            undo.before("veth", move || {
                *inner.borrow_mut() = true;
                Ok::<(), CniError>(())
            });
            Ok(one_address())
        }),
        ..Fake::default()
    };
    let given = good("ADD");
    let stderr = Shared::default();
    let io = Io {
        env: given.env,
        stdin: Box::new(std::io::Cursor::new(given.stdin)),
        stdout: Box::new(Closed),
        stderr: Box::new(stderr.clone()),
    };
    assert_eq!(run(&fake, io), 1);
    assert!(*undone.borrow());
    assert!(stderr.text().contains("cannot write to stdout"));
}

#[test]
fn every_failing_step_of_an_add_is_taken_back() {
    let world = Rc::new(RefCell::new(BTreeSet::new()));
    let observed = world.clone();
    let attempt = |faults: Faults| {
        let world = world.clone();
        let fake = Fake {
            faults,
            add: Box::new(move |_, undo| {
                for item in ["record", "bridge", "veth"] {
                    let (make, unmake) = (world.clone(), world.clone());
                    let inverse = move || {
                        unmake.borrow_mut().remove(item);
                        Ok::<(), CniError>(())
                    };
                    undo.step(item, inverse, || {
                        make.borrow_mut().insert(item);
                        Ok::<(), CniError>(())
                    })?;
                }
                Ok(one_address())
            }),
            ..Fake::default()
        };
        let seen = good("ADD").run(&fake);
        if seen.status == 0 {
            Ok(())
        } else {
            Err(seen.stdout)
        }
    };
    let (steps, ()) = every_failure(|| observed.borrow().clone(), attempt).unwrap();
    assert_eq!(steps, 3);
    assert_eq!(world.borrow().len(), 3);
    let fault = Fault {
        step: 1,
        name: "x".into(),
        when: When::Before,
    };
    assert_eq!(CniError::from(fault).code, code::INTERNAL);
}

#[test]
fn foreign_keys_are_noted_in_the_log_with_the_attachment() {
    let mut config = config("1.0.0");
    config["pciBusID"] = json!("0000:01:10.2");
    let seen = given("ADD", &config)
        .with("TRACEPARENT", "00-ab-01")
        .run(&Fake::default());
    assert_eq!(seen.status, 0);
    let line = "info cni-fake network=net container=c1 ifname=eth0 traceparent=00-ab-01: \
                key \"pciBusID\" is not known here and has no effect\n";
    assert_eq!(seen.stderr, line);
    config["logLevel"] = json!("warn");
    let seen = given("ADD", &config).run(&Fake::default());
    assert_eq!(seen.stderr, "");
}
