//! `add.*` and `del.*`: what may come before and after what.

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::attached::Attached;
use crate::conformance::stage::{IFNAME, addresses, same};
use crate::conformance::{Case, Stage, case};
use crate::need::Need;
use crate::space::Space;
use crate::spy;

const ADD: &str = "SPEC, ADD";
const DEL: &str = "SPEC, DEL";

pub(super) fn cases() -> Vec<Case> {
    [adds(), dels(), dels_without_netns()].concat()
}

fn adds() -> Vec<Case> {
    vec![
        case(
            "add.live",
            "what ADD answers is there: interface, addresses, up",
            ADD,
            live,
        ),
        case(
            "add.interface-exists",
            "ADD fails if the container has an interface of that name",
            ADD,
            exists,
        ),
        case(
            "add.interface-kept",
            "and leaves that interface and the node alone",
            ADD,
            kept,
        ),
        case(
            "add.twice",
            "a second ADD of the same attachment fails",
            ADD,
            twice,
        ),
        case(
            "add.twice-harmless",
            "and the first attachment still works",
            ADD,
            twice_harmless,
        )
        .needs(&[Need::Tool("ping")]),
        case(
            "add.no-netns",
            "ADD fails if there is no such namespace",
            ADD,
            no_netns,
        ),
        case(
            "add.no-netns-clean",
            "and leaves nothing, no bridge either",
            "SPEC, ADD; plugins: the bridge is made first",
            no_netns_clean,
        ),
        case(
            "add.ifname-15",
            "an interface name of 15 characters, the longest Linux has, can be used",
            "SPEC, Interface name",
            longest,
        ),
    ]
}

fn dels() -> Vec<Case> {
    vec![
        case(
            "del.clean",
            "after DEL the node is as before ADD",
            DEL,
            clean,
        ),
        case(
            "del.silent",
            "DEL prints nothing on stdout",
            "SPEC, DEL",
            silent,
        ),
        case("del.twice", "a second DEL succeeds", DEL, del_twice),
        case(
            "del.never-added",
            "DEL of what never was succeeds",
            DEL,
            never,
        ),
        case(
            "del.interface-gone",
            "DEL succeeds if the interface was removed by somebody else",
            DEL,
            interface_gone,
        ),
        case(
            "del.no-prevresult",
            "DEL works without prevResult",
            "libcni drops an unreadable cache",
            no_prev_result,
        ),
    ]
}

fn dels_without_netns() -> Vec<Case> {
    vec![
        case(
            "del.netns-absent",
            "DEL succeeds without CNI_NETNS and with an empty one",
            DEL,
            netns_absent,
        ),
        case(
            "del.netns-gone",
            "DEL succeeds if CNI_NETNS is gone",
            DEL,
            netns_gone,
        ),
        case(
            "del.netns-gone-clean",
            "and nothing stays on the host, although the namespace lives on elsewhere",
            "SPEC, DEL: clean up as much as possible",
            netns_gone_clean,
        ),
        case(
            "del.netns-absent-clean",
            "without CNI_NETNS nothing stays on the host either",
            "SPEC, DEL: clean up as much as possible",
            netns_absent_clean,
        ),
        case(
            "del.netns-absent-ipam",
            "without CNI_NETNS the addresses are released all the same",
            "SPEC, DEL: clean up as much as possible",
            netns_absent_ipam,
        ),
        case(
            "del.netns-replaced",
            "if CNI_NETNS is another namespace by now, its interface is left alone",
            "a runtime may use a path again",
            netns_replaced,
        ),
    ]
}

fn live(stage: &Stage<'_>) -> Result<()> {
    let wished = ["10.9.0.7/24", "fd00:9::7/64"];
    let pod = stage.add("c1", stage.addressed(&wished))?;
    let live = addresses(&pod.pod, IFNAME)?;
    for address in wished {
        ensure!(
            live.iter().any(|one| one == address),
            "expected {address} in the container, got {live:?}"
        );
    }
    let flags = pod.pod.link(IFNAME)?["flags"].clone();
    let up = flags
        .as_array()
        .is_some_and(|list| list.contains(&json!("UP")));
    ensure!(up, "expected the interface up, got {flags}");
    Ok(())
}

fn exists(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("c1")?;
    pod.ip("link add eth0 type bridge")?;
    stage.refused(&pod, &stage.conf())
}

fn kept(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("c1")?;
    pod.ip("link add eth0 type bridge")?;
    let before = pod.link(IFNAME)?["ifindex"].clone();
    stage.as_before(|| stage.call("ADD", &pod).reply())?;
    same(
        "index of eth0",
        before,
        pod.link(IFNAME)?["ifindex"].clone(),
    )?;
    stage.works()
}

fn twice(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("c1")?;
    stage.call("ADD", &pod).succeeds()?;
    stage.refused(&pod, &stage.conf())
}

fn twice_harmless(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.addressed(&["10.9.0.7/24"]))?;
    let other = stage.add("c2", stage.addressed(&["10.9.0.8/24"]))?;
    stage.call("ADD", &pod.pod).conf(&pod.conf).reply()?;
    let live = addresses(&pod.pod, IFNAME)?;
    same("addresses", vec!["10.9.0.7/24".to_owned()], live)?;
    ensure!(other.reaches("10.9.0.7")?, "expected an answer, got none");
    Ok(())
}

const NOWHERE: &str = "/run/netns/none";

fn no_netns(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("c1")?;
    let reply = stage.call("ADD", &pod).with("CNI_NETNS", NOWHERE).reply()?;
    ensure!(!reply.status.success(), "expected an error, got success");
    reply.failure().map(drop)
}

fn no_netns_clean(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("c1")?;
    stage.as_before(|| stage.call("ADD", &pod).with("CNI_NETNS", NOWHERE).reply())?;
    let bridge = stage.bridge();
    ensure!(
        !stage.node.has_link(bridge)?,
        "expected no bridge, got {bridge}"
    );
    stage.works()
}

fn longest(stage: &Stage<'_>) -> Result<()> {
    const NAME: &str = "fifteen-letters";
    let pod = stage.node.pod("c1")?;
    for verb in ["ADD", "DEL"] {
        let call = stage.call(verb, &pod).with("CNI_IFNAME", NAME);
        call.succeeds().with_context(|| verb.to_owned())?;
        same(verb, verb == "ADD", pod.has_link(NAME)?)?;
    }
    Ok(())
}

fn clean(stage: &Stage<'_>) -> Result<()> {
    stage.as_before(|| {
        let pod = stage.add("c1", stage.addressed(&["10.9.0.7/24"]))?;
        pod.del()?;
        same("interfaces", vec!["lo".to_owned()], pod.pod.link_names()?)
    })
}

fn silent(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.conf())?;
    let reply = stage.call("DEL", &pod.pod).conf(&pod.later()).reply()?;
    reply.result()?;
    same("stdout", "", reply.stdout.as_str())
}

fn del_twice(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.addressed(&["10.9.0.7/24"]))?;
    pod.del()?;
    pod.del().context("the second DEL")
}

fn never(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("c1")?;
    let conf = stage.addressed(&["10.9.0.7/24"]);
    stage.call("DEL", &pod).conf(&conf).succeeds().map(drop)
}

fn interface_gone(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.addressed(&["10.9.0.7/24"]))?;
    pod.pod.ip("link del eth0")?;
    pod.del()
}

fn no_prev_result(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.addressed(&["10.9.0.7/24"]))?;
    stage.plugin.del(&pod.at, &pod.conf)?;
    same("interfaces", vec!["lo".to_owned()], pod.pod.link_names()?)
}

fn netns_absent(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.addressed(&["10.9.0.7/24"]))?;
    stage.plugin.del(&pod.at.without_netns(), &pod.later())?;
    let call = stage.call("DEL", &pod.pod).with("CNI_NETNS", "");
    call.conf(&pod.later()).succeeds().map(drop)
}

fn netns_gone(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.addressed(&["10.9.0.7/24"]))?;
    pod.pod.unbind()?;
    pod.del()
}

/// No port of the bridge is left, in a bridge that may stay.
fn no_port(stage: &Stage<'_>) -> Result<()> {
    if !stage.node.has_link(stage.bridge())? {
        return Ok(());
    }
    let left = stage
        .node
        .ip_json(&format!("link show master {}", stage.bridge()))?;
    let left: Vec<&str> = left
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|link| link["ifname"].as_str())
        .collect();
    ensure!(
        left.is_empty(),
        "expected no port on the host, got {left:?}"
    );
    Ok(())
}

fn netns_gone_clean(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.addressed(&["10.9.0.7/24"]))?;
    pod.pod.unbind()?;
    pod.del()?;
    no_port(stage)
}

fn netns_absent_clean(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.addressed(&["10.9.0.7/24"]))?;
    stage.plugin.del(&pod.at.without_netns(), &pod.later())?;
    no_port(stage)
}

fn netns_absent_ipam(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.spied()?)?;
    spy::verbs()?;
    stage.plugin.del(&pod.at.without_netns(), &pod.later())?;
    same(
        "verbs of the IPAM plugin",
        vec!["DEL".to_owned()],
        spy::verbs()?,
    )
}

fn netns_replaced(stage: &Stage<'_>) -> Result<()> {
    let pod: Attached = stage.add("c1", stage.conf())?;
    let path = pod.pod.path().to_owned();
    pod.pod.unbind()?;
    let other = stage.node.pod("other")?;
    other.bind_to(&path)?;
    other.ip("link add eth0 type bridge")?;
    pod.del()?;
    if !other.has_link(IFNAME)? {
        bail!("expected the other container's eth0 alone, got it removed");
    }
    Ok(())
}
