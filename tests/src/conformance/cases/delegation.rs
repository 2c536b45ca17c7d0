//! `delegation.*`: IPAM by another plugin.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::attached::with;
use crate::call::PLUGINS;
use crate::conformance::stage::same;
use crate::conformance::{Case, Stage, case};
use crate::space::Space;
use crate::spy;

const DELEGATED: &str = "SPEC, Section 4: Plugin delegation";

pub(super) fn cases() -> Vec<Case> {
    [forwarded(), failures()].concat()
}

fn forwarded() -> Vec<Case> {
    vec![
        case(
            "delegation.same-call",
            "the delegate gets the variables and the configuration the plugin got",
            DELEGATED,
            same_call,
        ),
        case(
            "delegation.stderr",
            "what it says on stderr goes on",
            DELEGATED,
            stderr,
        ),
        case(
            "delegation.add-del",
            "ADD and DEL are forwarded",
            DELEGATED,
            add_del,
        ),
        case(
            "delegation.check",
            "CHECK is forwarded, and its error is the plugin's",
            DELEGATED,
            check,
        )
        .since("0.4.0"),
    ]
}

fn failures() -> Vec<Case> {
    vec![
        case(
            "delegation.del-after-failure",
            "a delegate whose ADD failed is called for DEL before the plugin fails",
            "SPEC, Section 4: should execute again with DEL",
            del_after_failure,
        ),
        case(
            "delegation.error",
            "its error is in the plugin's",
            DELEGATED,
            error,
        ),
        case(
            "delegation.failure-clean",
            "when it fails nothing is left",
            "plugins#29",
            failure_clean,
        ),
        case(
            "delegation.no-address",
            "an answer without addresses is an error, and nothing is left",
            "SPEC, IPAM",
            no_address,
        ),
        case(
            "delegation.unknown",
            "a delegate that CNI_PATH does not have is an error",
            DELEGATED,
            unknown,
        ),
        case(
            "delegation.slash",
            "a path as ipam.type is refused",
            "libcni: no separators in a type",
            slash,
        ),
    ]
}

fn same_call(stage: &Stage<'_>) -> Result<()> {
    let conf = with(stage.spied()?, json!({"somebodyElses": [1, 2]}));
    let pod = stage.node.pod("c1")?;
    let call = stage.call("ADD", &pod).conf(&conf);
    call.with("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=p")
        .succeeds()?;
    let env = spy::env("ADD")?;
    let netns = format!("CNI_NETNS={}\n", pod.path().display());
    for part in [
        "CNI_CONTAINERID=c1\n",
        "CNI_IFNAME=eth0\n",
        "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=p\n",
        &netns,
        &format!("CNI_PATH={PLUGINS}:"),
    ] {
        ensure!(
            env.contains(part),
            "expected {:?}, got {env:?}",
            part.trim()
        );
    }
    same("configuration", conf, spy::stdin("ADD")?)
}

fn stderr(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("c1")?;
    let reply = stage.call("ADD", &pod).conf(&stage.spied()?).reply()?;
    let said = reply.stderr.contains("spy was called for ADD");
    ensure!(said, "expected its words, got {:?}", reply.stderr);
    Ok(())
}

fn add_del(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.spied()?)?;
    same(
        "address",
        &json!("10.9.0.7/24"),
        &pod.result["ips"][0]["address"],
    )?;
    pod.del()?;
    let verbs = vec!["ADD".to_owned(), "DEL".to_owned()];
    same("verbs of the IPAM plugin", verbs, spy::verbs()?)
}

fn check(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.spied()?)?;
    spy::verbs()?;
    pod.must_hold()?;
    same(
        "verbs of the IPAM plugin",
        vec!["CHECK".to_owned()],
        spy::verbs()?,
    )?;
    spy::fails("CHECK", r#"{"code": 7, "msg": "the lease is gone"}"#)?;
    let msg = pod.check()?.failure()?.msg;
    ensure!(
        msg.contains("the lease is gone"),
        "expected its words, got {msg:?}"
    );
    Ok(())
}

const EXHAUSTED: &str = r#"{"code": 11, "msg": "no address is left"}"#;

fn del_after_failure(stage: &Stage<'_>) -> Result<()> {
    let (pod, conf) = (stage.node.pod("c1")?, stage.spied()?);
    spy::fails("ADD", EXHAUSTED)?;
    stage.refused(&pod, &conf)?;
    let verbs = spy::verbs()?;
    let called = verbs.iter().skip(1).any(|verb| verb == "DEL");
    ensure!(called, "expected ADD and DEL, got {verbs:?}");
    Ok(())
}

fn error(stage: &Stage<'_>) -> Result<()> {
    let (pod, conf) = (stage.node.pod("c1")?, stage.spied()?);
    spy::fails("ADD", EXHAUSTED)?;
    let error = stage.call("ADD", &pod).conf(&conf).reply()?.failure()?;
    let told = error.msg.contains("no address is left");
    ensure!(told, "expected its words, got {:?}", error.msg);
    same("code", 11, error.code)
}

fn failure_clean(stage: &Stage<'_>) -> Result<()> {
    let (pod, conf) = (stage.node.pod("c1")?, stage.spied()?);
    spy::fails("ADD", EXHAUSTED)?;
    stage.as_before(|| stage.refused(&pod, &conf))?;
    same("interfaces", vec!["lo".to_owned()], pod.link_names()?)
}

fn no_address(stage: &Stage<'_>) -> Result<()> {
    let (pod, conf) = (stage.node.pod("c1")?, stage.spied()?);
    let version = stage.template.newest();
    spy::answers("ADD", &json!({"cniVersion": version, "ips": []}))?;
    stage.as_before(|| stage.refused(&pod, &conf))?;
    same("interfaces", vec!["lo".to_owned()], pod.link_names()?)
}

fn unknown(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("c1")?;
    let conf = with(stage.conf(), json!({"ipam": {"type": "no-such-plugin"}}));
    stage.refused(&pod, &conf)
}

fn slash(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("c1")?;
    spy::install()?;
    let conf = with(stage.conf(), json!({"ipam": {"type": "../plugins/spy"}}));
    stage.refused(&pod, &conf)?;
    same(
        "calls of the IPAM plugin",
        Vec::<String>::new(),
        spy::verbs()?,
    )
}
