//! `skel.*`: what the specification leaves open and runtimes know from the reference's
//! library of that name: texts, the order of checks, calls without a verb.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::conformance::stage::same;
use crate::conformance::{Case, Stage, case};
use crate::space::Space;

const SKEL: &str = "cni, pkg/skel";

pub(super) fn cases() -> Vec<Case> {
    vec![
        case(
            "skel.text.missing",
            "all missing variables are in one message: `required env variables [A,B] missing`",
            SKEL,
            missing,
        ),
        case(
            "skel.text.invalid",
            "texts for invalid ids and names",
            SKEL,
            invalid,
        ),
        case(
            "skel.text.command",
            "`unknown CNI_COMMAND: X`",
            SKEL,
            command,
        ),
        case(
            "skel.text.network",
            "`missing network name`, `invalid characters found in network name`",
            SKEL,
            network,
        ),
        case(
            "skel.text.version",
            "`incompatible CNI versions`",
            SKEL,
            version,
        ),
        case(
            "skel.no-command",
            "without CNI_COMMAND name and version on stderr, nothing on stdout, exit status 0",
            SKEL,
            no_command,
        ),
        case(
            "skel.netns.own",
            "the plugin's own namespace as CNI_NETNS is refused",
            SKEL,
            own_netns,
        ),
        case(
            "skel.netns.own-untouched",
            "and that before anything is changed",
            "plugin changes stay when it is checked afterwards",
            own_netns_untouched,
        ),
        case(
            "skel.netns.override",
            "unless CNI_NETNS_OVERRIDE is 1 or true: then it is used",
            SKEL,
            own_netns_wished,
        ),
    ]
}

fn says(what: &str, expected: &str, got: &str) -> Result<()> {
    ensure!(
        got.starts_with(expected),
        "{what}: expected {expected:?}, got {got:?}"
    );
    Ok(())
}

fn missing(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("pod")?;
    for (verb, names) in [
        ("ADD", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME"),
        ("DEL", "CNI_CONTAINERID,CNI_IFNAME"),
    ] {
        let call = names
            .split(',')
            .fold(stage.call(verb, &pod), |call, n| call.without(n));
        let error = call.reply()?.failure()?;
        says(
            verb,
            &format!("required env variables [{names}] missing"),
            &error.msg,
        )?;
    }
    Ok(())
}

fn invalid(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("pod")?;
    const CHARACTERS: &str = "interface name contains / or : or whitespace characters";
    for (name, value, text) in [
        (
            "CNI_CONTAINERID",
            "a/b",
            "invalid characters in containerID",
        ),
        (
            "CNI_IFNAME",
            "sixteen-letters-",
            "interface name is too long",
        ),
        ("CNI_IFNAME", "..", "interface name is . or .."),
        ("CNI_IFNAME", "a/b", CHARACTERS),
    ] {
        let error = stage
            .call("ADD", &pod)
            .with(name, value)
            .reply()?
            .failure()?;
        says(name, text, &error.msg)?;
    }
    Ok(())
}

fn command(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("pod")?;
    let error = stage.call("ATTACH", &pod).reply()?.failure()?;
    says("ATTACH", "unknown CNI_COMMAND: ATTACH", &error.msg)
}

fn network(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("pod")?;
    for (name, text) in [
        ("", "missing network name"),
        ("a b", "invalid characters found in network name"),
    ] {
        let mut conf = stage.conf();
        conf["name"] = json!(name);
        let error = stage.call("ADD", &pod).conf(&conf).reply()?.failure()?;
        says(name, text, &error.msg)?;
    }
    Ok(())
}

fn version(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("pod")?;
    let mut conf = stage.conf();
    conf["cniVersion"] = json!("1.0.7");
    let error = stage.call("ADD", &pod).conf(&conf).reply()?.failure()?;
    says("ADD in 1.0.7", "incompatible CNI versions", &error.msg)
}

fn no_command(stage: &Stage<'_>) -> Result<()> {
    let reply = stage.plugin.raw(&[], b"")?;
    same("exit status", Some(0), reply.status.code())?;
    same("stdout", "", reply.stdout.as_str())?;
    ensure!(
        !reply.stderr.trim().is_empty(),
        "expected words on stderr, got none"
    );
    Ok(())
}

const OWN: &str = "/proc/self/ns/net";

fn own_netns(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("pod")?;
    for verb in ["ADD", "DEL"] {
        let reply = stage.call(verb, &pod).with("CNI_NETNS", OWN).reply()?;
        ensure!(
            !reply.status.success(),
            "{verb}: expected an error, got success"
        );
    }
    Ok(())
}

fn own_netns_untouched(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("pod")?;
    stage.as_before(|| stage.call("ADD", &pod).with("CNI_NETNS", OWN).reply())?;
    stage.works()
}

fn own_netns_wished(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("pod")?;
    for word in ["1", "true"] {
        for verb in ["ADD", "DEL"] {
            let call = stage.call(verb, &pod).with("CNI_NETNS", OWN);
            let call = call.with("CNI_NETNS_OVERRIDE", word);
            call.succeeds()
                .with_context(|| format!("{verb} with CNI_NETNS_OVERRIDE={word}"))?;
            same(
                "eth0 on the node",
                verb == "ADD",
                stage.node.has_link("eth0")?,
            )?;
        }
    }
    Ok(())
}
