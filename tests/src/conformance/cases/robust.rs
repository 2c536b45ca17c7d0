//! `robust.*`: failures late in ADD, kills, and many at once.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::call;
use crate::conformance::stage::{addresses, same};
use crate::conformance::{Case, Stage, case};
use crate::need::Need;
use crate::plugin::Running;
use crate::space::Space;
use crate::spy;
use crate::trace::{Side, Strike};

pub(super) fn cases() -> Vec<Case> {
    [failures(), kills(), crowds()].concat()
}

fn failures() -> Vec<Case> {
    vec![
        case(
            "robust.late-failure",
            "an ADD that fails at the routes leaves no link",
            "plugins#29",
            late_failure,
        ),
        case(
            "robust.late-failure-ipam",
            "and gives the addresses back",
            "plugins, bridge_test.go",
            late_failure_ipam,
        ),
        case(
            "robust.retry",
            "after it, and without a DEL, a mended ADD succeeds",
            "plugins#29",
            retry,
        ),
        case(
            "robust.del-after-failure",
            "DEL after a failed ADD leaves the node as before",
            "SPEC, ADD: a delete must still be executed",
            del_after_failure,
        ),
    ]
}

fn kills() -> Vec<Case> {
    vec![
        case(
            "robust.kill-in-delegate",
            "ADD killed while its delegate works, then DEL: the node is as before",
            "an out-of-memory kill, a runtime's timeout",
            kill_in_delegate,
        ),
        kill(
            "robust.kill-early",
            "ADD killed after its first change, then DEL",
            |_| 0,
        ),
        kill(
            "robust.kill-middle",
            "ADD killed half-way, then DEL",
            |calls| calls / 2,
        ),
        kill(
            "robust.kill-late",
            "ADD killed after its last change, then DEL",
            |calls| calls - 1,
        ),
    ]
}

fn crowds() -> Vec<Case> {
    vec![
        case(
            "robust.parallel",
            "twelve first ADDs at once on a bridge that is not there succeed",
            "plugins#366, #369; containerd#3507",
            parallel,
        ),
        case(
            "robust.parallel-del",
            "twelve DELs at once succeed, and the node is as before",
            "plugins#282, #283",
            parallel_del,
        ),
        case(
            "robust.two-interfaces",
            "two networks for one container at once, as containerd does it",
            "go-cni attaches all at once",
            two_interfaces,
        ),
    ]
}

/// The IPAM gives an address and a route by a gateway nobody reaches.
fn unroutable(stage: &Stage<'_>) -> Result<Value> {
    let conf = stage.spied()?;
    let version = stage.template.newest();
    let answer = json!({"cniVersion": version, "ips": [{"address": "10.9.0.7/24"}],
                        "routes": [{"dst": "10.20.0.0/16", "gw": "192.0.2.1"}]});
    spy::answers("ADD", &answer)?;
    Ok(conf)
}

fn late_failure(stage: &Stage<'_>) -> Result<()> {
    let (pod, conf) = (stage.node.pod("c1")?, unroutable(stage)?);
    stage.as_before(|| stage.refused(&pod, &conf))?;
    same("interfaces", vec!["lo".to_owned()], pod.link_names()?)
}

fn late_failure_ipam(stage: &Stage<'_>) -> Result<()> {
    let (pod, conf) = (stage.node.pod("c1")?, unroutable(stage)?);
    stage.refused(&pod, &conf)?;
    let verbs = spy::verbs()?;
    ensure!(
        verbs.iter().any(|v| v == "DEL"),
        "expected ADD and DEL, got {verbs:?}"
    );
    Ok(())
}

fn retry(stage: &Stage<'_>) -> Result<()> {
    let (pod, conf) = (stage.node.pod("c1")?, unroutable(stage)?);
    stage.refused(&pod, &conf)?;
    let conf = stage.spied()?;
    stage.call("ADD", &pod).conf(&conf).succeeds().map(drop)
}

fn del_after_failure(stage: &Stage<'_>) -> Result<()> {
    let (pod, conf) = (stage.node.pod("c1")?, unroutable(stage)?);
    stage.as_before(|| {
        stage.refused(&pod, &conf)?;
        stage.call("DEL", &pod).conf(&conf).succeeds()
    })?;
    same("interfaces", vec!["lo".to_owned()], pod.link_names()?)
}

fn kill_in_delegate(stage: &Stage<'_>) -> Result<()> {
    const KILLER: &str = "#!/bin/sh\n[ \"$CNI_COMMAND\" != ADD ] || kill -9 $PPID\n";
    let (pod, conf) = (stage.node.pod("c1")?, stage.spied()?);
    stage.as_before(|| {
        call::install(spy::NAME, KILLER)?;
        let reply = stage.call("ADD", &pod).conf(&conf).reply()?;
        ensure!(!reply.status.success(), "expected it killed, got success");
        stage.spied()?;
        stage.call("DEL", &pod).conf(&conf).succeeds()
    })?;
    same("interfaces", vec!["lo".to_owned()], pod.link_names()?)
}

/// ADD killed right after one of its changes, chosen by their number.
fn kill(id: &'static str, meaning: &'static str, which: fn(usize) -> usize) -> Case {
    let source = "an out-of-memory kill, a runtime's timeout";
    case(id, meaning, source, move |stage| {
        let pod = stage.node.pod("c1")?;
        let at = stage.attachment(&pod, "c1");
        let conf = stage.addressed(&["10.9.0.7/24"]);
        stage.as_before(|| {
            let whole = stage.plugin.traced("ADD", &at, &conf, None)?;
            stage.plugin.del(&at, &conf)?;
            ensure!(!whole.calls.is_empty(), "expected changes, got none");
            let strike = Strike {
                call: which(whole.calls.len()),
                side: Side::After,
            };
            stage.plugin.traced("ADD", &at, &conf, Some(strike))?;
            stage.plugin.del(&at, &conf)
        })?;
        same("interfaces", vec!["lo".to_owned()], pod.link_names()?)
    })
    .needs(&[Need::Ptrace])
}

const CROWD: usize = 12;

/// `verb` for all containers of the crowd at once.
fn crowd(stage: &Stage<'_>, pods: &[crate::pod::Pod], verb: &str) -> Result<()> {
    let conf = stage.conf();
    let started = pods.iter().enumerate().map(|(n, pod)| {
        stage
            .plugin
            .start(verb, &stage.attachment(pod, &format!("c{n}")), &conf)
    });
    let started = started.collect::<Result<Vec<Running>>>()?;
    for running in started {
        let result = running
            .finish()?
            .result()
            .with_context(|| format!("one {verb} of {CROWD}"))?;
        if verb == "ADD" {
            same(
                "bridge",
                &json!(stage.bridge()),
                &result["interfaces"][0]["name"],
            )?;
        }
    }
    Ok(())
}

fn pods(stage: &Stage<'_>) -> Result<Vec<crate::pod::Pod>> {
    (0..CROWD)
        .map(|n| stage.node.pod(&format!("c{n}")))
        .collect()
}

fn parallel(stage: &Stage<'_>) -> Result<()> {
    let pods = pods(stage)?;
    crowd(stage, &pods, "ADD")?;
    let ports = stage
        .node
        .ip_json(&format!("link show master {}", stage.bridge()))?;
    let ports = ports.as_array().into_iter().flatten();
    same(
        "ports",
        CROWD,
        ports.filter(|port| port.get("ifname").is_some()).count(),
    )
}

fn parallel_del(stage: &Stage<'_>) -> Result<()> {
    let pods = pods(stage)?;
    stage.as_before(|| {
        crowd(stage, &pods, "ADD")?;
        crowd(stage, &pods, "DEL")
    })
}

fn two_interfaces(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("c1")?;
    let mut second = stage.attachment(&pod, "c1");
    second.ifname = "eth1".into();
    let mut other = stage.addressed(&["10.9.0.8/24"]);
    other["name"] = json!("net2");
    let running = [
        (
            stage.attachment(&pod, "c1"),
            stage.addressed(&["10.9.0.7/24"]),
        ),
        (second, other),
    ]
    .map(|(at, conf)| stage.plugin.start("ADD", &at, &conf));
    for one in running {
        one?.finish()?.result()?;
    }
    same(
        "first",
        vec!["10.9.0.7/24".to_owned()],
        addresses(&pod, "eth0")?,
    )?;
    same(
        "second",
        vec!["10.9.0.8/24".to_owned()],
        addresses(&pod, "eth1")?,
    )
}
