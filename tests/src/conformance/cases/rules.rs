//! `rules.*`: masquerade and spoof check, made and taken away.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::conformance::stage::{port, same};
use crate::conformance::{Case, Feature, Stage, case};
use crate::need::Need;
use crate::space::Space;

const LEAK: &str = "plugins#810, #811, #1078; nerdctl#1872";

pub(super) fn cases() -> Vec<Case> {
    let masquerade = |case: Case| {
        case.claims(&[Feature::DefaultGateway, Feature::Masquerade])
            .needs(&[Need::Nftables])
    };
    let spoof = |case: Case| case.claims(&[Feature::SpoofCheck]).needs(&[Need::Nftables]);
    vec![
        masquerade(case(
            "rules.masquerade",
            "what leaves the subnet leaves with the node's address",
            "plugins, ipMasq",
            hides,
        ))
        .needs(&[Need::Tool("ping")]),
        masquerade(case(
            "rules.masquerade-del",
            "DEL takes the rules away",
            "plugins, ipMasq",
            |s| removed(s, masqueraded(s), After::Nothing),
        )),
        masquerade(case(
            "rules.masquerade-no-netns",
            "also without CNI_NETNS",
            LEAK,
            |s| removed(s, masqueraded(s), After::NoNetns),
        )),
        masquerade(case(
            "rules.masquerade-link-gone",
            "also if the interface was gone before",
            "plugins: the addresses are read from the link",
            |s| removed(s, masqueraded(s), After::LinkGone),
        )),
        spoof(case(
            "rules.spoofcheck-del",
            "DEL takes the spoof check's rules away",
            "plugins, macspoofchk",
            |s| removed(s, checked(s), After::Nothing),
        )),
        spoof(case(
            "rules.spoofcheck-no-netns",
            "also without CNI_NETNS",
            LEAK,
            |s| removed(s, checked(s), After::NoNetns),
        )),
    ]
}

fn masqueraded(stage: &Stage<'_>) -> Value {
    let conf = stage.addressed(&["10.9.0.7/24"]);
    stage.asking(
        stage.asking(conf, Feature::DefaultGateway),
        Feature::Masquerade,
    )
}

fn checked(stage: &Stage<'_>) -> Value {
    stage.asking(stage.addressed(&["10.9.0.7/24"]), Feature::SpoofCheck)
}

/// A host outside that knows no way back.
fn hides(stage: &Stage<'_>) -> Result<()> {
    let world = stage.node.veth_pod("world", "w0", "eth0")?;
    stage.node.ip("addr add 192.0.2.1/24 dev w0")?;
    world.ip("addr add 192.0.2.2/24 dev eth0")?;
    let pod = stage.add("c1", masqueraded(stage))?;
    same("an answer from outside", true, pod.reaches("192.0.2.2")?)
}

/// What happened before DEL.
enum After {
    Nothing,
    NoNetns,
    LinkGone,
}

/// No rule that tells of the attachment is left: neither its id, its address nor its port.
fn removed(stage: &Stage<'_>, conf: Value, after: After) -> Result<()> {
    const ID: &str = "attachment-of-rules";
    let pod = stage.add(ID, conf)?;
    let (port, there) = (port(&pod)?, stage.rules()?);
    let tells = |rules: &str| {
        [ID, "10.9.0.7", &port]
            .iter()
            .any(|part| rules.contains(part))
    };
    let at = match after {
        After::Nothing => pod.at.clone(),
        After::NoNetns => pod.at.without_netns(),
        After::LinkGone => {
            pod.pod.ip("link del eth0")?;
            pod.at.clone()
        }
    };
    stage.plugin.del(&at, &pod.later())?;
    let left = stage.rules()?;
    let rule = left.lines().find(|line| tells(line));
    let rule = rule.unwrap_or_default().trim();
    ensure!(rule.is_empty(), "expected no rule of it, got {rule:?}");
    // By a locked port there is none at any time; a masquerade is rules.
    let masquerade = pod.conf["name"] == "net1" && conf_masquerades(stage, &pod.conf);
    ensure!(
        !masquerade || tells(&there),
        "expected rules while it lived, got none"
    );
    Ok(())
}

/// Whether `conf` is [`masqueraded`].
fn conf_masquerades(stage: &Stage<'_>, conf: &Value) -> bool {
    *conf == masqueraded(stage)
}
