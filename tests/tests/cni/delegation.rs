//! IPAM by another plugin: what it is given, what becomes of what it answers.

use std::fs;

use berth_tests::{Need, Node, Result, Space, Test, ensure, spy, test};
use serde_json::{Value, json};

use crate::stage::{Call, Stage, code, conf_with};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    vec![
        test("delegate_is_called_as_we_are", ROOT, called_as_we_are),
        test("delegate_serves_every_verb", ROOT, serves_every_verb),
        test("delegate_needs_a_path", ROOT, needs_a_path),
        test("delegate_is_the_first_file", ROOT, first_file),
        test("delegate_of_a_wrong_name", ROOT, wrong_name),
        test("delegate_fails", ROOT, fails),
        test("delegate_answers_nonsense", ROOT, answers_nonsense),
        test("delegate_gives_no_address", ROOT, gives_no_address),
        test("delegate_too_old_for_a_verb", ROOT, too_old_for_a_verb),
    ]
}

struct Spy(Stage);

impl Spy {
    fn set(node: &Node) -> Result<Self> {
        spy::install()?;
        Stage::set(node).map(Self)
    }

    fn call(&self, verb: &str) -> Call<'_> {
        let call = self.0.call(verb).with("CNI_PATH", "/nowhere:/run/plugins");
        call.conf(&conf())
    }
}

fn conf() -> Value {
    let mut conf = conf_with("ipam", json!({"type": "spy", "pool": {"of": "its own"}}));
    conf["somebodyElses"] = json!([1, 2]);
    conf
}

fn called_as_we_are(node: &Node) -> Result<()> {
    let spy = Spy::set(node)?;
    let args = "IgnoreUnknown=1;K8S_POD_NAME=p";
    let reply = spy.call("ADD").with("CNI_ARGS", args).reply()?;
    let result = reply.result()?;
    assert_eq!(result["ips"][0]["address"], "10.9.0.7/24");
    assert_eq!(result["ips"][0]["interface"], 2);
    ensure!(
        reply.stderr.contains("spy was called for ADD\n"),
        "its words are lost"
    );
    let env = spy::env("ADD")?;
    let expected = [
        format!("CNI_ARGS={args}"),
        "CNI_CONTAINERID=c1".to_owned(),
        "CNI_IFNAME=eth0".to_owned(),
        format!("CNI_NETNS={}", spy.0.pod.path().display()),
        "CNI_PATH=/nowhere:/run/plugins".to_owned(),
    ];
    assert_eq!(env.lines().collect::<Vec<_>>(), expected);
    assert_eq!(spy::stdin("ADD")?, conf());
    spy.call("DEL").succeeds()?;
    // DEL is given what ADD was, whatever the runtime says now.
    let env = spy::env("DEL")?;
    ensure!(env.contains(&format!("CNI_ARGS={args}\n")), "{env}");
    Ok(())
}

fn serves_every_verb(node: &Node) -> Result<()> {
    let spy = Spy::set(node)?;
    let mut conf = conf();
    conf["prevResult"] = spy.call("ADD").succeeds()?;
    conf["cni.dev/valid-attachments"] = json!([{"containerID": "c1", "ifname": "eth0"}]);
    for verb in ["CHECK", "STATUS", "GC", "DEL"] {
        spy.call(verb).conf(&conf).succeeds()?;
    }
    assert_eq!(spy::verbs()?, ["ADD", "CHECK", "STATUS", "GC", "DEL"]);
    spy.call("ADD").succeeds()?;
    for verb in ["CHECK", "STATUS", "GC", "DEL"] {
        spy::fails(verb, r#"{"code": 11, "msg": "the pool is offline"}"#)?;
        let error = spy.call(verb).conf(&conf).fails()?;
        ensure!(
            error.msg.contains("the pool is offline"),
            "{verb}: {error:?}"
        );
        spy::recovers(verb)?;
    }
    spy.call("DEL").succeeds()?;
    Ok(())
}

fn needs_a_path(node: &Node) -> Result<()> {
    let spy = Spy::set(node)?;
    node.as_before(|| {
        for verb in ["ADD", "STATUS"] {
            let call = spy.call(verb).without("CNI_PATH");
            call.fails_with(code::ENV, "required env variables [CNI_PATH] missing")?;
            let call = spy.call(verb).with("CNI_PATH", "/nowhere:/run");
            let error = call.fails_with(code::CONFIG, "")?;
            for part in ["ipam.type", "spy", "/nowhere:/run"] {
                ensure!(error.msg.contains(part), "{part} is not in {error:?}");
            }
        }
        // The built-in needs none.
        let fixed = crate::stage::fixed(&["10.9.0.7/24"]);
        let conf = conf_with("ipam", fixed);
        spy.call("ADD").without("CNI_PATH").conf(&conf).succeeds()?;
        spy.call("DEL")
            .without("CNI_PATH")
            .conf(&conf)
            .succeeds()
            .map(drop)
    })
}

/// The first regular file on the path; a directory of the name is passed over, and a
/// file that cannot run is an error worth showing.
fn first_file(node: &Node) -> Result<()> {
    let spy = Spy::set(node)?;
    fs::create_dir_all("/run/first/spy")?;
    let call = |verb| spy.call(verb).with("CNI_PATH", "/run/first:/run/plugins");
    call("ADD").succeeds()?;
    call("DEL").succeeds()?;
    fs::remove_dir("/run/first/spy")?;
    fs::write("/run/first/spy", "#!/bin/sh\n")?;
    node.as_before(|| {
        let error = call("ADD").fails()?;
        assert_eq!(error.code, code::INCOMPLETE, "{error:?}");
        ensure!(error.msg.contains("/run/first/spy"), "{error:?}");
        fs::remove_file("/run/first/spy")?;
        call("DEL").succeeds().map(drop)
    })
}

fn wrong_name(node: &Node) -> Result<()> {
    let spy = Spy::set(node)?;
    node.as_before(|| {
        for name in [
            json!("../plugins/spy"),
            json!("a/b"),
            json!("."),
            json!(""),
            json!(5),
        ] {
            let conf = conf_with("ipam", json!({"type": name}));
            let error = spy.call("ADD").conf(&conf).fails()?;
            ensure!(
                error.code == code::CONFIG && error.msg.contains("ipam.type"),
                "{error:?}"
            );
        }
        let conf = conf_with("ipam", json!({"pool": 1}));
        let error = spy.call("ADD").conf(&conf).fails()?;
        ensure!(
            error.code == code::CONFIG && error.msg.contains("ipam.type"),
            "{error:?}"
        );
        Ok(())
    })?;
    assert_eq!(spy::verbs()?, [""; 0]);
    Ok(())
}

/// Its own error goes on, but 0, 3 and 999 would be misread and do not.
fn fails(node: &Node) -> Result<()> {
    let spy = Spy::set(node)?;
    for (theirs, ours) in [
        (11, code::TRY_AGAIN),
        (7, code::CONFIG),
        (999, code::IO),
        (3, code::IO),
        (0, code::IO),
        (100, code::IO),
    ] {
        node.as_before(|| {
            let text = json!({"cniVersion": "1.1.0", "code": theirs, "msg": "exhausted", "details": "pool 9"});
            spy::fails("ADD", &text.to_string())?;
            let error = spy.call("ADD").fails()?;
            assert_eq!(error.code, ours, "{error:?}");
            for part in ["spy", "exhausted"] {
                ensure!(error.msg.contains(part), "{part} is not in {error:?}");
            }
            ensure!(error.details.contains("pool 9"), "{error:?}");
            ensure!(!spy.0.pod.has_link("eth0")?, "it was not taken back");
            Ok(())
        })?;
        let verbs = spy::verbs()?;
        ensure!(verbs.len() >= 2 && verbs[0] == "ADD", "{verbs:?}");
        ensure!(verbs[1..].iter().all(|verb| verb == "DEL"), "{verbs:?}");
    }
    Ok(())
}

fn answers_nonsense(node: &Node) -> Result<()> {
    let spy = Spy::set(node)?;
    node.as_before(|| {
        for text in ["no JSON", "", "{\"msg\": \"no code\"}"] {
            spy::fails("ADD", text)?;
            let error = spy.call("ADD").fails()?;
            assert_eq!(error.code, code::IO, "{text:?}: {error:?}");
            let all = format!("{} {}", error.msg, error.details);
            ensure!(all.contains("spy was called for ADD"), "{error:?}");
        }
        spy::recovers("ADD")?;
        for answer in ["no JSON", "{} {}", "[]", "{\"cniVersion\": \"9.0.0\"}"] {
            fs::write("/run/answers/ADD", answer)?;
            let error = spy.call("ADD").fails()?;
            ensure!(
                matches!(error.code, code::DECODE | code::VERSION),
                "{answer:?}: {error:?}"
            );
            ensure!(error.msg.contains("spy"), "{error:?}");
        }
        Ok(())
    })
}

fn gives_no_address(node: &Node) -> Result<()> {
    let spy = Spy::set(node)?;
    node.as_before(|| {
        for answer in [
            json!({"cniVersion": "1.1.0"}),
            json!({"cniVersion": "1.1.0", "ips": []}),
        ] {
            spy::answers("ADD", &answer)?;
            let error = spy.call("ADD").fails()?;
            assert_eq!(error.code, code::CONFIG);
            ensure!(
                error.msg.contains("IPAM plugin returned missing IP config"),
                "{error:?}"
            );
            ensure!(
                spy::verbs()?.contains(&"DEL".to_owned()),
                "it was not given back"
            );
        }
        Ok(())
    })
}

/// A delegate that does not know STATUS or GC serves all the same.
fn too_old_for_a_verb(node: &Node) -> Result<()> {
    let spy = Spy::set(node)?;
    let conf = {
        let mut conf = conf();
        conf["cni.dev/valid-attachments"] = json!([]);
        conf
    };
    for verb in ["STATUS", "GC"] {
        for error in [
            json!({"code": 4, "msg": format!("unknown CNI_COMMAND: {verb}")}),
            json!({"code": 1, "msg": "incompatible CNI versions"}),
        ] {
            spy::fails(verb, &error.to_string())?;
            let reply = spy.call(verb).conf(&conf).reply()?;
            assert!(reply.result()?.is_null());
            ensure!(
                reply.stderr.contains("warn "),
                "no warning: {:?}",
                reply.stderr
            );
        }
    }
    Ok(())
}
