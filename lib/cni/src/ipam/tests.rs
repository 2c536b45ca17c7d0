use super::*;
use crate::exec::tests::{Shared, script};
use crate::log::Log;
use crate::request::{Incoming, Variables};
use crate::version::SpecVersion;
use serde_json::json;
use std::path::Path;
use tempfile::TempDir;

/// A call as a plugin would get it, with standard error kept.
pub(crate) fn incoming(
    command: Command,
    config: &Value,
    variables: &[(&str, &str)],
) -> (Incoming, Shared) {
    let mut env: Variables = [
        ("CNI_COMMAND", command.as_str()),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/x"),
        ("CNI_IFNAME", "eth0"),
        ("PATH", "/bin:/usr/bin"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into();
    for (name, value) in variables {
        env.insert((*name).to_owned(), (*value).to_owned());
    }
    let stderr = Shared::default();
    let log = Log::new("test", Box::new(stderr.clone()));
    let bytes = config.to_string().into_bytes();
    let mut version = SpecVersion::NEWEST;
    let mut stdin: &[u8] = &bytes;
    let incoming = Incoming::read(command, Env(env), &mut stdin, (&log, &mut version)).unwrap();
    (incoming, stderr)
}

fn request(config: &Value, variables: &[(&str, &str)]) -> Request {
    one(Command::Add, config, variables).0
}

/// Who serves on this host, whose trees no test here touches.
fn of(call: &Call) -> Result<Ipam, CniError> {
    Ipam::of(&Root::host(), call)
}

pub(crate) fn one(
    command: Command,
    config: &Value,
    variables: &[(&str, &str)],
) -> (Request, Shared) {
    match incoming(command, config, variables) {
        (Incoming::One(request), stderr) => (request, stderr),
        (other, _) => panic!("{other:?}"),
    }
}

fn config(ipam: Value) -> Value {
    json!({"cniVersion": "1.0.0", "name": "net", "type": "t", "ipam": ipam})
}

fn path(dir: &TempDir) -> [(&'static str, &str); 1] {
    [("CNI_PATH", dir.path().to_str().unwrap())]
}

#[test]
fn no_ipam_is_layer_2_only() {
    for config in [
        json!({"name": "net"}),
        json!({"name": "net", "ipam": null}),
        json!({"name": "net", "ipam": {}}),
    ] {
        let request = request(&config, &[]);
        let ipam = of(&request).unwrap();
        assert!(ipam.is_none());
        assert_eq!(ipam.add(&request), Ok(AddResult::default()));
        assert_eq!(ipam.check(&request), Ok(()));
        assert_eq!(ipam.del(&request), Ok(()));
    }
}

#[test]
fn a_type_that_names_nobody_is_refused() {
    for (ipam, says) in [
        (json!({"subnet": "10.0.0.0/8"}), "must name an IPAM plugin"),
        (json!({"type": ""}), "must name an IPAM plugin"),
        (json!({"type": 7}), "ipam.type = 7"),
        (json!({"type": "../static"}), "has no /"),
        (json!({"type": "/bin/sh"}), "has no /"),
        (json!({"type": ".."}), "no file name"),
    ] {
        let error = of(&request(&config(ipam.clone()), &[])).unwrap_err();
        assert_eq!(error.code, code::CONFIG, "{ipam}");
        assert!(error.msg.contains(says), "{ipam}: {error}");
    }
}

#[test]
fn an_absent_delegate_is_told_with_the_path_searched() {
    let config = config(json!({"type": "whereabouts"}));
    let error = of(&request(
        &config,
        &[("CNI_PATH", "/nonexistent/a:/nonexistent/b")],
    ))
    .unwrap_err();
    assert_eq!(error.code, code::CONFIG);
    for part in [
        "ipam.type",
        "whereabouts",
        "CNI_PATH /nonexistent/a:/nonexistent/b",
    ] {
        assert!(error.msg.contains(part), "{error}");
    }
    assert!(error.details.contains("install it there"));
    let error = of(&request(&config, &[])).unwrap_err();
    assert_eq!(error.code, code::ENV, "only a delegate needs CNI_PATH");
    assert_eq!(error.msg, "required env variables [CNI_PATH] missing");
}

#[test]
fn static_is_the_operators_own_if_there_is_one_and_built_in_if_not() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(json!({"type": "static"}));
    assert_eq!(of(&request(&config, &path(&dir))), Ok(Ipam::Static));
    assert_eq!(of(&request(&config, &[])), Ok(Ipam::Static));
    let binary = script(dir.path(), "static", "exit 0");
    let delegate = Delegate {
        name: "static".into(),
        binary,
    };
    assert_eq!(
        of(&request(&config, &path(&dir))),
        Ok(Ipam::Delegate(delegate))
    );
}

fn fixed(ipam: Value, extra: Value, args: &str) -> Result<AddResult, CniError> {
    let mut config = config(ipam);
    for (key, value) in extra.as_object().unwrap() {
        config[key] = value.clone();
    }
    let request = request(&config, &[("CNI_ARGS", args)]);
    of(&request).unwrap().add(&request)
}

fn addresses(result: &AddResult) -> Vec<String> {
    let text = |ip: &crate::result::IpConfig| match ip.gateway {
        Some(gateway) => format!("{} via {gateway}", ip.address),
        None => ip.address.to_string(),
    };
    result.ips.iter().map(text).collect()
}

#[test]
fn static_gives_what_is_configured() {
    let result = fixed(
        json!({"type": "static",
            "addresses": [{"address": "10.10.0.1/24", "gateway": "10.10.0.254"},
                {"address": "3ffe:ffff:0:1ff::1/64", "gateway": "3ffe:ffff:0::1"}],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.168.0.0/16", "gw": "10.10.5.1"},
                {"dst": "3ffe:ffff:0:1ff::1/64", "mtu": 1300}],
            "dns": {"nameservers": ["8.8.8.8"], "domain": "example.com", "search": ["example.com"]}}),
        json!({}),
        "",
    )
    .unwrap();
    assert_eq!(
        addresses(&result),
        [
            "10.10.0.1/24 via 10.10.0.254",
            "3ffe:ffff:0:1ff::1/64 via 3ffe:ffff::1"
        ]
    );
    assert_eq!(result.routes.len(), 3);
    assert_eq!(result.routes[1].gw, Some("10.10.5.1".parse().unwrap()));
    assert_eq!(result.routes[2].mtu, Some(1300));
    assert_eq!(result.dns.domain.as_deref(), Some("example.com"));
    assert_eq!(result.interfaces, []);
}

#[test]
fn the_runtime_is_stronger_than_args_than_cni_args_than_the_configuration() {
    let ipam = json!({"type": "static",
        "addresses": [{"address": "10.0.0.1/24", "gateway": "10.0.0.254"}]});
    let runtime = json!({"runtimeConfig": {"ips": ["10.0.3.1/24", "2001:db8::3/64"]},
        "args": {"cni": {"ips": ["10.0.2.1/24"]}}});
    let args = json!({"runtimeConfig": {"ips": []}, "args": {"cni": {"ips": ["10.0.2.1/24"]}}});
    let env = "IP=10.0.1.1/24, 10.0.1.2/24;GATEWAY=10.0.1.254";
    for (extra, args, expected) in [
        (runtime, env, vec!["10.0.3.1/24", "2001:db8::3/64"]),
        (args, env, vec!["10.0.2.1/24"]),
        (
            json!({}),
            env,
            vec!["10.0.1.1/24 via 10.0.1.254", "10.0.1.2/24 via 10.0.1.254"],
        ),
        (json!({}), "", vec!["10.0.0.1/24 via 10.0.0.254"]),
        (
            json!({}),
            "GATEWAY=10.0.0.7",
            vec!["10.0.0.1/24 via 10.0.0.7"],
        ),
    ] {
        let result = fixed(ipam.clone(), extra, args).unwrap();
        assert_eq!(addresses(&result), expected);
    }
}

#[test]
fn static_refuses_what_is_no_address() {
    let plain = json!({"type": "static"});
    let with = |key: &str, value: Value| {
        let mut ipam = plain.clone();
        ipam[key] = value;
        ipam
    };
    for (ipam, args, code, says) in [
        (
            plain.clone(),
            "",
            7,
            "IPAM plugin returned missing IP config",
        ),
        (plain.clone(), "IP=10.0.0.1", 4, "CIDR notation"),
        (plain.clone(), "IP=x/24", 4, "CNI_ARGS IP"),
        (
            plain.clone(),
            "IP=10.0.0.1/24;GATEWAY=x",
            4,
            "CNI_ARGS GATEWAY",
        ),
        (
            with("addresses", json!(["10.0.0.1/24"])),
            "",
            7,
            "ipam.addresses[0]",
        ),
        (with("addresses", json!({})), "", 7, "ipam.addresses"),
        (
            with("addresses", json!([{"address": "10.0.0.1"}])),
            "",
            7,
            "CIDR notation",
        ),
        (
            with(
                "addresses",
                json!([{"address": "10.0.0.1/8", "gateway": "::1"}]),
            ),
            "",
            7,
            "ipam.addresses[0].gateway",
        ),
        (
            with("routes", json!([{"dst": "default"}])),
            "IP=10.0.0.1/8",
            7,
            "ipam.routes[0]",
        ),
        (
            with("dns", json!({"nameservers": "8.8.8.8"})),
            "IP=10.0.0.1/8",
            7,
            "ipam.dns",
        ),
    ] {
        let error = fixed(ipam.clone(), json!({}), args).unwrap_err();
        assert_eq!(error.code, code, "{ipam} {args}: {error}");
        assert!(error.msg.contains(says), "{ipam} {args}: {error}");
    }
}

#[test]
fn static_names_the_place_an_address_came_from() {
    let plain = json!({"type": "static"});
    let extra = json!({"runtimeConfig": {"ips": "10.0.0.1"}});
    let error = fixed(plain, extra, "").unwrap_err();
    assert!(error.msg.contains("runtimeConfig.ips"), "{error}");
}

#[test]
fn old_versions_have_one_address_per_family() {
    for version in ["0.1.0", "0.2.0"] {
        let extra = json!({"cniVersion": version});
        let both = "IP=10.0.0.1/8,2001:db8::1/64";
        assert!(fixed(json!({"type": "static"}), extra.clone(), both).is_ok());
        let two = "IP=10.0.0.1/8,10.0.0.2/8";
        let error = fixed(json!({"type": "static"}), extra, two).unwrap_err();
        assert_eq!(
            error.msg,
            format!("CNI version {version} does not support more than 1 address per family")
        );
    }
}

#[test]
fn static_checks_that_every_address_is_still_there() {
    let mut config = config(json!({"type": "static", "addresses": [{"address": "10.0.0.1/8"}]}));
    for (had, ok) in [
        ("10.0.0.1/8", true),
        ("10.0.0.2/8", false),
        ("10.0.0.1/9", false),
    ] {
        config["prevResult"] = json!({"cniVersion": "1.0.0", "ips": [{"address": had}]});
        let (request, _) = one(Command::Check, &config, &[]);
        let checked = of(&request).unwrap().check(&request);
        assert_eq!(checked.is_ok(), ok, "{had}");
        if let Err(error) = checked {
            assert!(error.msg.contains("10.0.0.1/8"), "{error}");
        }
    }
}

/// A delegate that writes what it gets into files and answers by verb.
fn recorder(dir: &Path, answers: &str) {
    let body = format!(
        r#"here=$(dirname "$0"); echo "$CNI_COMMAND" >> "$here/verbs"
        cat > "$here/stdin.$CNI_COMMAND"; env > "$here/env.$CNI_COMMAND"
        echo "words of the delegate" >&2
        case $CNI_COMMAND in {answers} esac"#
    );
    script(dir, "pool", &body);
}

fn read(dir: &TempDir, name: &str) -> String {
    std::fs::read_to_string(dir.path().join(name)).unwrap_or_default()
}

const GOOD: &str = r#"ADD) echo '{"cniVersion": "1.0.0", "interfaces": [{"name": "x"}],
    "ips": [{"address": "10.0.0.9/24", "gateway": "10.0.0.1", "interface": 0}],
    "routes": [{"dst": "0.0.0.0/0"}], "dns": {"domain": "d"}}';; *) ;;"#;

#[test]
fn a_delegate_gets_the_same_environment_and_configuration() {
    let dir = tempfile::tempdir().unwrap();
    recorder(dir.path(), GOOD);
    let config = config(json!({"type": "pool", "range": 7}));
    let variables = [
        path(&dir)[0],
        ("CNI_ARGS", "A=b;IgnoreUnknown=1"),
        ("OTHER", "kept"),
    ];
    let (request, stderr) = one(Command::Add, &config, &variables);
    let ipam = of(&request).unwrap();
    let result = ipam.add(&request).unwrap();
    assert_eq!(addresses(&result), ["10.0.0.9/24 via 10.0.0.1"]);
    assert_eq!(result.ips[0].interface, None);
    assert_eq!(result.interfaces, [], "IPAM knows no interfaces");
    assert_eq!(result.dns.domain.as_deref(), Some("d"));
    ipam.del(&request).unwrap();
    assert_eq!(read(&dir, "verbs"), "ADD\nDEL\n");
    for verb in ["ADD", "DEL"] {
        assert_eq!(read(&dir, &format!("stdin.{verb}")), config.to_string());
        let env = read(&dir, &format!("env.{verb}"));
        for line in [
            format!("CNI_COMMAND={verb}"),
            "CNI_CONTAINERID=c1".into(),
            "CNI_NETNS=/run/netns/x".into(),
            "CNI_IFNAME=eth0".into(),
            "CNI_ARGS=A=b;IgnoreUnknown=1".into(),
            format!("CNI_PATH={}", dir.path().display()),
            "OTHER=kept".into(),
        ] {
            assert!(env.lines().any(|l| l == line), "{line} not in {env}");
        }
    }
    assert_eq!(stderr.text(), "words of the delegate\n".repeat(2));
}

#[test]
fn a_result_of_any_version_is_taken() {
    for (version, answer) in [
        ("0.2.0", r#"{"ip4": {"ip": "10.0.0.9/24"}}"#),
        (
            "0.2.0",
            r#"{"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.9/24"}}"#,
        ),
        (
            "0.4.0",
            r#"{"ips": [{"version": "4", "address": "10.0.0.9/24"}]}"#,
        ),
        (
            "1.1.0",
            r#"{"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.9/24"}]}"#,
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        recorder(dir.path(), &format!("ADD) echo '{answer}';;"));
        let mut config = config(json!({"type": "pool"}));
        config["cniVersion"] = version.into();
        let request = request(&config, &path(&dir));
        let result = of(&request).unwrap().add(&request).unwrap();
        assert_eq!(addresses(&result), ["10.0.0.9/24"], "{answer}");
    }
}

#[test]
fn a_failed_add_is_followed_by_del_and_keeps_its_error() {
    for (add, code, says) in [
        (
            r#"ADD) echo '{"code": 11, "msg": "pool is locked"}'; exit 1;;"#,
            11,
            "pool is locked",
        ),
        (
            r#"ADD) echo '{"code": 999, "msg": "no addresses"}'; exit 1;;"#,
            5,
            "no addresses",
        ),
        (
            r#"ADD) echo '{"code": 3, "msg": "unknown"}'; exit 1;;"#,
            5,
            "unknown",
        ),
        (
            r#"ADD) echo '{"code": 101, "msg": "own"}'; exit 1;;"#,
            5,
            "own",
        ),
        ("ADD) exit 2;;", 5, "printed no error"),
        (
            "ADD) echo '{}';;",
            7,
            "IPAM plugin returned missing IP config",
        ),
        ("ADD) ;;", 7, "IPAM plugin returned missing IP config"),
        ("ADD) echo nonsense;;", 6, "cannot be read"),
        (
            r#"ADD) echo '{"ips": [{"address": "10.0.0.9"}]}';;"#,
            6,
            "CIDR",
        ),
        ("ADD) kill -9 $$;;", 5, "signal 9"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        recorder(dir.path(), add);
        let request = request(&config(json!({"type": "pool"})), &path(&dir));
        let error = of(&request).unwrap().add(&request).unwrap_err();
        assert_eq!(error.code, code, "{add}: {error}");
        assert!(error.msg.contains(says), "{add}: {error}");
        assert_eq!(read(&dir, "verbs"), "ADD\nDEL\n", "{add}");
    }
    let dir = tempfile::tempdir().unwrap();
    recorder(
        dir.path(),
        r#"*) echo '{"code": 7, "msg": "broken store"}'; exit 1;;"#,
    );
    let request = request(&config(json!({"type": "pool"})), &path(&dir));
    let error = of(&request).unwrap().add(&request).unwrap_err();
    assert!(
        error.details.contains("the DEL after it failed too"),
        "{error}"
    );
}

#[test]
fn check_and_del_pass_the_delegates_error_on() {
    let dir = tempfile::tempdir().unwrap();
    recorder(
        dir.path(),
        r#"*) echo '{"code": 7, "msg": "lease is gone"}'; exit 1;;"#,
    );
    let mut config = config(json!({"type": "pool"}));
    config["prevResult"] = json!({"cniVersion": "1.0.0"});
    let (request, _) = one(Command::Check, &config, &path(&dir));
    let ipam = of(&request).unwrap();
    for error in [
        ipam.check(&request).unwrap_err(),
        ipam.del(&request).unwrap_err(),
    ] {
        assert_eq!(error.code, 7);
        assert!(error.msg.contains("lease is gone") && error.msg.contains("pool"));
    }
    assert_eq!(read(&dir, "verbs"), "CHECK\nDEL\n");
}

#[test]
fn status_and_gc_are_forwarded_and_an_old_delegate_only_warns() {
    for (answer, status) in [
        ("*) ;;".to_owned(), Ok(())),
        (failing(1), Ok(())),
        (failing(4), Ok(())),
        (failing(50), Err(50)),
        (failing(51), Err(51)),
        (failing(999), Err(5)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        recorder(dir.path(), &answer);
        let mut config = config(json!({"type": "pool"}));
        config["cniVersion"] = "1.1.0".into();
        config["cni.dev/valid-attachments"] = json!([{"containerID": "c", "ifname": "e"}]);
        let (call, stderr) = incoming(Command::Status, &config, &path(&dir));
        let Incoming::Status(call) = call else {
            panic!()
        };
        let ipam = of(&call).unwrap();
        assert_eq!(ipam.status(&call).map_err(|e| e.code), status, "{answer}");
        assert_eq!(
            stderr
                .text()
                .contains("STATUS is not known to the delegate"),
            answer != "*) ;;" && status.is_ok()
        );
        let (gc, _) = incoming(Command::Gc, &config, &path(&dir));
        let Incoming::Gc(gc) = gc else { panic!() };
        assert_eq!(ipam.gc(&gc).map_err(|e| e.code), status, "{answer}");
        assert_eq!(read(&dir, "verbs"), "STATUS\nGC\n");
        assert_eq!(
            read(&dir, "stdin.GC"),
            config.to_string(),
            "the list is in it"
        );
    }
}

fn failing(code: u32) -> String {
    format!("*) echo '{{\"code\": {code}, \"msg\": \"m\"}}'; exit 1;;")
}

#[test]
fn an_undo_list_releases_the_address() {
    let dir = tempfile::tempdir().unwrap();
    recorder(dir.path(), GOOD);
    let request = request(&config(json!({"type": "pool"})), &path(&dir));
    let ipam = of(&request).unwrap();
    let mut undo = berth_state::Undo::new(berth_state::Faults::none());
    let result = undo.step("addresses", ipam.release(&request), || ipam.add(&request));
    assert!(result.is_ok());
    assert_eq!(undo.rollback(), []);
    assert_eq!(read(&dir, "verbs"), "ADD\nDEL\n");
}

/// An older plugin answers every verb of a newer network with code 1.
#[test]
fn a_delegate_of_another_version_holds_nothing_and_its_refusal_says_what_to_do() {
    let dir = TempDir::new().unwrap();
    let refuse = r#"echo $CNI_COMMAND >>"${0%/*}/asked"
        echo '{"code": 1, "msg": "incompatible CNI versions"}'; exit 1"#;
    script(dir.path(), "pool", refuse);
    let request = request(&config(json!({"type": "pool"})), &path(&dir));
    let ipam = of(&request).unwrap();
    let error = ipam.add(&request).unwrap_err();
    assert_eq!(error.code, code::VERSION);
    assert!(error.details.contains("cniVersion"), "{error}");
    assert_eq!(read(&dir, "asked"), "ADD\n", "no DEL of what was refused");
    assert_eq!(ipam.release(&request)(), Ok(()));
    assert_eq!(ipam.del_unserved(&request), Ok(()));
    let served = ipam.del(&request).unwrap_err();
    assert_eq!(served.code, code::VERSION, "after an ADD that succeeded");
}
