//! `contract.*`: variables, standard input, error objects, VERSION.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::conformance::stage::{code, same};
use crate::conformance::{Case, Stage, case};
use crate::plugin::Reply;
use crate::space::poll;

const VARIABLES: &str = "SPEC, CNI operations";
const CODES: &str = "SPEC, Error codes";

pub(super) fn cases() -> Vec<Case> {
    [variables(), inputs(), answers()].concat()
}

fn variables() -> Vec<Case> {
    vec![
        case(
            "contract.env.missing",
            "a required variable that is missing is code 4, and the message names it",
            CODES,
            |s| required(s, false),
        ),
        case(
            "contract.env.empty",
            "a required variable that is empty is missing",
            CODES,
            |s| required(s, true),
        ),
        case(
            "contract.env.path-optional",
            "ADD and DEL without a delegate need no CNI_PATH",
            VARIABLES,
            path_optional,
        ),
        case(
            "contract.env.args-optional",
            "CNI_ARGS may be missing or empty",
            VARIABLES,
            args_optional,
        ),
        case(
            "contract.env.containerid",
            "a container id with other characters than the specification's is code 4",
            "SPEC, Container id",
            |s| values(s, "CNI_CONTAINERID", &["_a", "-a", "a/b", "a b", "ä"]),
        ),
        case(
            "contract.env.ifname",
            "an interface name Linux cannot have is code 4",
            "SPEC, Interface name",
            |s| {
                let bad = ["sixteen-letters-", ".", "..", "a/b", "a:b", "a b"];
                values(s, "CNI_IFNAME", &bad)
            },
        ),
        case(
            "contract.env.command",
            "an unknown CNI_COMMAND is code 4",
            CODES,
            command,
        ),
    ]
}

fn inputs() -> Vec<Case> {
    vec![
        case(
            "contract.stdin.unreadable",
            "standard input that cannot be read is code 5",
            CODES,
            unreadable,
        ),
        case(
            "contract.stdin.no-json",
            "standard input that is no JSON is code 6",
            CODES,
            no_json,
        ),
        case(
            "contract.config.name",
            "a network name that is missing or has other characters is code 7",
            "SPEC, Network configuration format; code 7",
            names,
        ),
        case(
            "contract.config.version",
            "a cniVersion the plugin does not know is code 1",
            CODES,
            unknown_version,
        ),
    ]
}

fn answers() -> Vec<Case> {
    vec![
        case(
            "contract.error.object",
            "a failure is an exit status above 0 and one object with code and msg on stdout",
            "SPEC, Error",
            |s| error_object(s).map(drop),
        ),
        case(
            "contract.error.version",
            "an error object has the cniVersion of the configuration",
            "SPEC, Error",
            error_version,
        ),
        case(
            "contract.version.supported",
            "VERSION lists every version the template claims",
            "SPEC, VERSION",
            supported,
        ),
        case(
            "contract.version.stdin-open",
            "VERSION ends although standard input stays open",
            "skel: VERSION reads nothing",
            stdin_open,
        ),
    ]
}

/// Per verb, the variables it cannot do without.
const TABLE: [(&str, &[&str]); 3] = [
    ("ADD", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
    ("CHECK", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
    ("DEL", &["CNI_CONTAINERID", "CNI_IFNAME"]),
];

fn required(stage: &Stage<'_>, empty: bool) -> Result<()> {
    let pod = stage.node.pod("pod")?;
    for (verb, names) in TABLE {
        for name in names {
            let call = stage.call(verb, &pod);
            let call = if empty {
                call.with(name, "")
            } else {
                call.without(name)
            };
            let reply = call.reply()?;
            let what = format!("{verb} without {name}");
            code(&what, 4, &reply)?;
            let msg = reply.failure()?.msg;
            ensure!(msg.contains(name), "{what}: expected its name, got {msg:?}");
        }
    }
    Ok(())
}

fn path_optional(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("pod")?;
    for verb in ["ADD", "DEL"] {
        let call = stage.call(verb, &pod).without("CNI_PATH");
        call.succeeds().with_context(|| verb.to_owned())?;
    }
    Ok(())
}

fn args_optional(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("pod")?;
    for args in [None, Some("")] {
        for verb in ["ADD", "DEL"] {
            let call = stage.call(verb, &pod);
            let call = match args {
                Some(text) => call.with("CNI_ARGS", text),
                None => call.without("CNI_ARGS"),
            };
            call.succeeds().with_context(|| verb.to_owned())?;
        }
    }
    Ok(())
}

fn values(stage: &Stage<'_>, name: &str, bad: &[&str]) -> Result<()> {
    let pod = stage.node.pod("pod")?;
    for verb in ["ADD", "DEL"] {
        for value in bad {
            let reply = stage.call(verb, &pod).with(name, value).reply()?;
            code(&format!("{verb} with {name}={value}"), 4, &reply)?;
        }
    }
    Ok(())
}

fn command(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("pod")?;
    for verb in ["ATTACH", "add"] {
        code(verb, 4, &stage.call(verb, &pod).reply()?)?;
    }
    Ok(())
}

/// Its end, with stdin being whatever the command has.
fn ended(mut command: Command) -> Result<Reply> {
    let output = command.stderr(Stdio::piped()).output()?;
    Ok(Reply {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn unreadable(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("pod")?;
    let at = stage.attachment(&pod, "c1");
    let mut command = stage.plugin.command("ADD", &at);
    // A directory opens, and cannot be read.
    command.stdin(File::open("/")?);
    code("ADD that reads a directory", 5, &ended(command)?)
}

fn no_json(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("pod")?;
    for verb in ["ADD", "DEL", "CHECK"] {
        for text in ["", "no JSON", "{\"name\": \"net1\""] {
            let reply = stage.call(verb, &pod).text(text).reply()?;
            code(&format!("{verb} of {text:?}"), 6, &reply)?;
        }
    }
    Ok(())
}

fn names(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("pod")?;
    for name in [
        Value::Null,
        json!(""),
        json!("a b"),
        json!("_a"),
        json!("a/b"),
    ] {
        let mut conf = stage.conf();
        conf["name"] = name.clone();
        let reply = stage.call("ADD", &pod).conf(&conf).reply()?;
        code(&format!("ADD of the network {name}"), 7, &reply)?;
    }
    Ok(())
}

fn unknown_version(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("pod")?;
    for verb in ["ADD", "DEL"] {
        let mut conf = stage.conf();
        conf["cniVersion"] = json!("1.0.7");
        let reply = stage.call(verb, &pod).conf(&conf).reply()?;
        code(&format!("{verb} in 1.0.7"), 1, &reply)?;
    }
    Ok(())
}

/// The error object of an ADD without its interface's name, as it was printed.
fn error_object(stage: &Stage<'_>) -> Result<Value> {
    let pod = stage.node.pod("pod")?;
    let reply = stage.call("ADD", &pod).without("CNI_IFNAME").reply()?;
    ensure!(!reply.status.success(), "expected a failure, got success");
    let error = reply.failure()?;
    ensure!(!error.msg.is_empty(), "expected a message, got none");
    reply.json()
}

fn error_version(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("pod")?;
    for version in &stage.template.versions {
        let mut conf = stage.conf();
        conf["cniVersion"] = json!(version);
        let call = stage.call("ADD", &pod).with("CNI_NETNS", "/run/netns/none");
        let error = call.conf(&conf).reply()?.failure()?;
        same(
            "cniVersion of the error",
            Some(version.clone()),
            error.cni_version,
        )?;
    }
    Ok(())
}

fn supported(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("pod")?;
    let answer = stage.call("VERSION", &pod).succeeds()?;
    ensure!(
        answer["cniVersion"].is_string(),
        "expected cniVersion, got {answer}"
    );
    let listed = answer["supportedVersions"].as_array();
    let listed: Vec<&str> = listed
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for version in &stage.template.versions {
        ensure!(
            listed.contains(&version.as_str()),
            "expected {version}, got {listed:?}"
        );
    }
    Ok(())
}

fn stdin_open(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("pod")?;
    let at = stage.attachment(&pod, "c1");
    let mut command = stage.plugin.command("VERSION", &at);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn()?;
    let input = child.stdin.take();
    let ended = poll("end of VERSION", Duration::from_secs(10), || {
        Ok(child.try_wait()?)
    });
    if ended.is_err() {
        child.kill()?;
        child.wait()?;
    }
    drop(input);
    ensure!(ended?.success(), "expected success, got a failure");
    Ok(())
}
