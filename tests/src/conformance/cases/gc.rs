//! `gc.*` and `status.*`: calls about a network.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::attached::{Attached, with};
use crate::conformance::stage::{IFNAME, code, same};
use crate::conformance::{Case, Layout, Stage, case};
use crate::space::Space;
use crate::spy;

const GC: &str = "SPEC 1.1.0, GC";
const STATUS: &str = "SPEC 1.1.0, STATUS";

pub(super) fn cases() -> Vec<Case> {
    let all = [collections(), statuses()].concat();
    all.into_iter().map(|case| case.since("1.1.0")).collect()
}

fn collections() -> Vec<Case> {
    vec![
        case("gc.listed", "GC leaves what is listed", GC, listed),
        case("gc.unlisted", "GC removes what is not listed", GC, unlisted),
        case("gc.empty", "an empty list: nothing is valid", GC, |s| {
            all_gone(s, &json!([]))
        }),
        case(
            "gc.null",
            "null is an empty list",
            "libcni: a nil list",
            |s| all_gone(s, &Value::Null),
        ),
        case(
            "gc.absent",
            "without a list nothing is removed",
            "cnitool gc sends none; the specification requires it",
            absent,
        ),
        case(
            "gc.former-key",
            "the list's former name, cni.dev/attachments, is understood",
            "SPEC until 2024-07; libcni sends both",
            former,
        ),
        case("gc.foreign", "GC leaves other networks alone", GC, foreign),
        case(
            "gc.host-end",
            "GC without a namespace removes the host's end",
            GC,
            without_netns,
        ),
        case(
            "gc.delegate",
            "GC is forwarded to the delegate",
            GC,
            delegate,
        ),
        case("gc.silent", "GC prints nothing on stdout", GC, silent),
    ]
}

fn statuses() -> Vec<Case> {
    vec![
        case(
            "status.ready",
            "STATUS succeeds when ADD can be served, and prints nothing",
            STATUS,
            ready,
        ),
        case(
            "status.delegate",
            "STATUS fails when the delegate's fails",
            "SPEC 1.1.0, STATUS: must forward",
            status_delegate,
        ),
        case(
            "status.delegate-code",
            "and has the delegate's code",
            "SPEC 1.1.0, STATUS: codes 50 and 51",
            status_code,
        ),
        case(
            "status.bridge-down",
            "STATUS says what ADD then does, with a bridge that is there and down",
            "SPEC 1.1.0, STATUS: ready to service ADD requests",
            bridge_down,
        )
        .only(Layout::VlanAware),
        case(
            "status.version",
            "STATUS and GC in a version before 1.1.0 are code 1",
            "skel: config version does not allow STATUS",
            old,
        ),
    ]
}

fn has_eth0(pod: &Attached) -> Result<bool> {
    pod.pod.has_link(IFNAME)
}

fn listed(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.addressed(&["10.9.0.7/24"]))?;
    stage.collect(&stage.conf(), &["c1"])?.result()?;
    ensure!(has_eth0(&pod)?, "expected eth0, got it removed");
    pod.must_hold()
}

fn unlisted(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.addressed(&["10.9.0.7/24"]))?;
    let kept = stage.add("c2", stage.addressed(&["10.9.0.8/24"]))?;
    stage.collect(&stage.conf(), &["c2"])?.result()?;
    same("c1 is there", false, has_eth0(&pod)?)?;
    same("c2 is there", true, has_eth0(&kept)?)
}

fn all_gone(stage: &Stage<'_>, list: &Value) -> Result<()> {
    let pod = stage.add("c1", stage.conf())?;
    let conf = with(stage.conf(), json!({"cni.dev/valid-attachments": list}));
    stage.network_call("GC", &conf)?.result()?;
    same("c1 is there", false, has_eth0(&pod)?)
}

fn absent(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.conf())?;
    stage.network_call("GC", &stage.conf())?;
    same("c1 is there", true, has_eth0(&pod)?)
}

fn former(stage: &Stage<'_>) -> Result<()> {
    let (pod, kept) = (
        stage.add("c1", stage.conf())?,
        stage.add("c2", stage.conf())?,
    );
    let list = json!([{"containerID": "c2", "ifname": IFNAME}]);
    let conf = with(stage.conf(), json!({"cni.dev/attachments": list}));
    stage.network_call("GC", &conf)?.result()?;
    same("c1 is there", false, has_eth0(&pod)?)?;
    same("c2 is there", true, has_eth0(&kept)?)
}

fn foreign(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.conf())?;
    let other = with(stage.conf(), json!({"name": "net2"}));
    stage.collect(&other, &[])?.result()?;
    same("c1 is there", true, has_eth0(&pod)?)
}

fn without_netns(stage: &Stage<'_>) -> Result<()> {
    stage.as_before(|| {
        let pod = stage.add("c1", stage.conf())?;
        pod.pod.unbind()?;
        stage.collect(&stage.conf(), &[])?.result()?;
        same("c1 is there", false, has_eth0(&pod)?)
    })
}

fn delegate(stage: &Stage<'_>) -> Result<()> {
    let conf = stage.spied()?;
    stage.collect(&conf, &[])?.result()?;
    same(
        "verbs of the IPAM plugin",
        vec!["GC".to_owned()],
        spy::verbs()?,
    )
}

fn silent(stage: &Stage<'_>) -> Result<()> {
    let reply = stage.collect(&stage.conf(), &[])?;
    reply.result()?;
    same("stdout", "", reply.stdout.as_str())
}

fn ready(stage: &Stage<'_>) -> Result<()> {
    for conf in [stage.conf(), stage.spied()?] {
        let reply = stage.network_call("STATUS", &conf)?;
        reply.result()?;
        same("stdout", "", reply.stdout.as_str())?;
    }
    Ok(())
}

fn status_delegate(stage: &Stage<'_>) -> Result<()> {
    let conf = stage.spied()?;
    spy::fails("STATUS", r#"{"code": 50, "msg": "no address is left"}"#)?;
    let reply = stage.network_call("STATUS", &conf)?;
    ensure!(!reply.status.success(), "expected an error, got success");
    let msg = reply.failure()?.msg;
    ensure!(
        msg.contains("no address is left"),
        "expected its words, got {msg:?}"
    );
    Ok(())
}

fn bridge_down(stage: &Stage<'_>) -> Result<()> {
    stage
        .node
        .ip(&format!("link add {} type bridge", stage.bridge()))?;
    let ready = stage
        .network_call("STATUS", &stage.conf())?
        .status
        .success();
    let pod = stage.node.pod("c1")?;
    let added = stage.call("ADD", &pod).reply()?.status.success();
    let works = added && stage.node.link(stage.bridge())?["operstate"] != "DOWN";
    same("ready, as ADD works", works, ready)
}

fn status_code(stage: &Stage<'_>) -> Result<()> {
    let conf = stage.spied()?;
    for number in [50, 51] {
        let error = json!({"code": number, "msg": "no address is left"});
        spy::fails("STATUS", &error.to_string())?;
        code("STATUS", number, &stage.network_call("STATUS", &conf)?)?;
    }
    Ok(())
}

fn old(stage: &Stage<'_>) -> Result<()> {
    for version in stage
        .template
        .versions
        .iter()
        .filter(|v| v.as_str() < "1.1.0")
    {
        let conf = with(stage.conf(), json!({"cniVersion": version}));
        let reply = stage.network_call("STATUS", &conf)?;
        code(&format!("STATUS in {version}"), 1, &reply)?;
        code(&format!("GC in {version}"), 1, &stage.collect(&conf, &[])?)?;
    }
    Ok(())
}
