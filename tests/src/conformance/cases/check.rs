//! `check.*`: CHECK holds when nothing was changed, and finds each single change.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::attached::with;
use crate::conformance::stage::{code, port, same};
use crate::conformance::{Case, Feature, Layout, Stage, case};
use crate::need::Need;
use crate::space::Space;

const CHECK: &str = "SPEC, CHECK";

pub(super) fn cases() -> Vec<Case> {
    let all = [verb(), container(), host(), wishes(), vlans()].concat();
    all.into_iter().map(|case| case.since("0.4.0")).collect()
}

fn verb() -> Vec<Case> {
    vec![
        case(
            "check.holds",
            "CHECK succeeds after ADD in every version since 0.4.0",
            CHECK,
            holds,
        ),
        case(
            "check.silent",
            "CHECK prints nothing on stdout",
            CHECK,
            silent,
        ),
        case(
            "check.layer2",
            "CHECK succeeds for an attachment without addresses",
            CHECK,
            layer_2,
        ),
        case(
            "check.prevresult",
            "CHECK without prevResult fails",
            CHECK,
            prev_result,
        ),
        case(
            "check.version",
            "CHECK in a version before 0.4.0 is code 1",
            "skel: config version does not allow CHECK",
            version,
        ),
    ]
}

fn holds(stage: &Stage<'_>) -> Result<()> {
    for version in stage
        .template
        .versions
        .iter()
        .filter(|v| v.as_str() >= "0.4.0")
    {
        let conf = stage.addressed(&["10.9.0.7/24", "fd00:9::7/64"]);
        let pod = stage.add("c1", with(conf, json!({"cniVersion": version})))?;
        pod.must_hold().with_context(|| version.clone())?;
        pod.del()?;
    }
    Ok(())
}

fn silent(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.addressed(&["10.9.0.7/24"]))?;
    let reply = pod.check()?;
    reply.result()?;
    same("stdout", "", reply.stdout.as_str())
}

fn layer_2(stage: &Stage<'_>) -> Result<()> {
    stage.add("c1", stage.conf())?.must_hold()
}

fn prev_result(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.addressed(&["10.9.0.7/24"]))?;
    let reply = stage.call("CHECK", &pod.pod).conf(&pod.conf).reply()?;
    ensure!(!reply.status.success(), "expected an error, got success");
    reply.failure().map(drop)
}

fn version(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("c1")?;
    for version in stage
        .template
        .versions
        .iter()
        .filter(|v| v.as_str() < "0.4.0")
    {
        let conf = with(
            stage.conf(),
            json!({"cniVersion": version, "prevResult": {}}),
        );
        let reply = stage.call("CHECK", &pod).conf(&conf).reply()?;
        code(&format!("CHECK in {version}"), 1, &reply)?;
    }
    Ok(())
}

/// Where a change is made.
#[derive(Clone, Copy)]
enum Side {
    Container,
    Host,
}

/// A configuration, from what the stage has.
type Conf = fn(&Stage<'_>) -> Value;

/// A case whose `commands` CHECK must find; PORT, BRIDGE and GATEWAY stand for the
/// attachment's.
fn change(
    id: &'static str,
    meaning: &'static str,
    conf: Conf,
    side: Side,
    commands: &'static [&'static str],
) -> Case {
    case(id, meaning, CHECK, move |stage| {
        let pod = stage.add("c1", conf(stage))?;
        pod.must_hold().context("before anything was changed")?;
        let vlan = pod.conf["name"] == "vlan100";
        let (bridge, gateway) = if vlan {
            (stage.bridge_of(100), stage.gateway_of(100))
        } else {
            (stage.bridge().to_owned(), stage.bridge().to_owned())
        };
        let port = port(&pod)?;
        for command in commands {
            let command = command.replace("PORT", &port).replace("BRIDGE", &bridge);
            let command = command.replace("GATEWAY", &gateway);
            match side {
                Side::Container => pod.pod.run(&command)?,
                Side::Host => stage.node.run(&command)?,
            };
        }
        let reply = pod.check()?;
        if reply.status.success() {
            bail!(
                "expected an error, got success after: {}",
                commands.join("; ")
            );
        }
        reply.failure().map(drop)
    })
}

fn plain(stage: &Stage<'_>) -> Value {
    let mut conf = stage.addressed(&["10.9.0.7/24"]);
    conf["ipam"]["routes"] = json!([{"dst": "10.20.0.0/16", "gw": "10.9.0.2"}]);
    conf
}

fn vlan(stage: &Stage<'_>) -> Value {
    stage.in_vlan(stage.addressed(&["10.9.0.7/24"]), 100)
}

fn container() -> Vec<Case> {
    use Side::Container;
    vec![
        change(
            "check.interface-gone",
            "the interface is gone",
            plain,
            Container,
            &["ip link del eth0"],
        ),
        change(
            "check.interface-renamed",
            "the interface has another name",
            plain,
            Container,
            &[
                "ip link set eth0 down",
                "ip link set eth0 name eth9",
                "ip link set eth9 up",
            ],
        ),
        change(
            "check.address",
            "an address is gone",
            plain,
            Container,
            &[
                "ip addr replace 10.9.0.99/24 dev eth0",
                "ip addr del 10.9.0.7/24 dev eth0",
            ],
        ),
        change(
            "check.route",
            "a route is gone",
            plain,
            Container,
            &["ip route del 10.20.0.0/16"],
        ),
        change(
            "check.mac",
            "the interface has another MAC address",
            plain,
            Container,
            &["ip link set eth0 address 02:00:00:00:00:77"],
        ),
        change(
            "check.mtu-container",
            "the interface has another MTU",
            plain,
            Container,
            &["ip link set eth0 mtu 1300"],
        ),
    ]
}

fn host() -> Vec<Case> {
    use Side::Host;
    vec![
        change(
            "check.port-gone",
            "the host's end is gone",
            plain,
            Host,
            &["ip link del PORT"],
        ),
        change(
            "check.port-released",
            "the host's end is on no bridge",
            plain,
            Host,
            &["ip link set PORT nomaster"],
        ),
        change(
            "check.port-moved",
            "the host's end is on another bridge",
            plain,
            Host,
            &["ip link add br7 type bridge", "ip link set PORT master br7"],
        ),
        change(
            "check.port-down",
            "the host's end is down",
            plain,
            Host,
            &["ip link set PORT down"],
        ),
        change(
            "check.mtu-host",
            "the host's end has another MTU",
            plain,
            Host,
            &["ip link set PORT mtu 1300"],
        ),
        change(
            "check.bridge-down",
            "the bridge is down",
            plain,
            Host,
            &["ip link set BRIDGE down"],
        ),
    ]
}

fn wishes() -> Vec<Case> {
    use Side::Host;
    vec![
        change(
            "check.hairpin",
            "the port lost its hairpin mode",
            |s| s.asking(plain(s), Feature::Hairpin),
            Host,
            &["bridge link set dev PORT hairpin off"],
        )
        .claims(&[Feature::Hairpin]),
        change(
            "check.isolation",
            "the port is not isolated any more",
            |s| s.asking(plain(s), Feature::Isolation),
            Host,
            &["bridge link set dev PORT isolated off"],
        )
        .claims(&[Feature::Isolation]),
        change(
            "check.promiscuous",
            "the bridge is not promiscuous any more",
            |s| s.asking(plain(s), Feature::Promiscuous),
            Host,
            &["ip link set BRIDGE promisc off"],
        )
        .claims(&[Feature::Promiscuous]),
        change(
            "check.gateway",
            "the gateway's address is gone",
            |s| s.asking(plain(s), Feature::Gateway),
            Host,
            &["ip addr del 10.9.0.1/24 dev GATEWAY"],
        )
        .claims(&[Feature::Gateway]),
        change(
            "check.masquerade",
            "the masquerade rules are gone",
            |s| s.asking(s.asking(plain(s), Feature::Gateway), Feature::Masquerade),
            Host,
            &["nft flush ruleset"],
        )
        .claims(&[Feature::Gateway, Feature::Masquerade])
        .needs(&[Need::Nftables]),
        case(
            "check.spoofcheck",
            "a foreign MAC address can be sent from",
            CHECK,
            spoof_check,
        )
        .claims(&[Feature::SpoofCheck])
        .needs(&[Need::Nftables]),
    ]
}

/// By rules or by a locked port: both are taken away.
fn spoof_check(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.asking(plain(stage), Feature::SpoofCheck))?;
    pod.must_hold().context("before anything was changed")?;
    stage
        .node
        .run(&format!("bridge link set dev {} locked off", port(&pod)?))?;
    stage.node.run("nft flush ruleset")?;
    let reply = pod.check()?;
    ensure!(!reply.status.success(), "expected an error, got success");
    Ok(())
}

fn vlans() -> Vec<Case> {
    use Side::Host;
    let aware = |case: Case| case.claims(&[Feature::Vlan]).only(Layout::VlanAware);
    vec![
        aware(change(
            "check.vlan-gone",
            "the port is not in its VLAN any more",
            vlan,
            Host,
            &["bridge vlan del dev PORT vid 100"],
        )),
        aware(change(
            "check.vlan-added",
            "the port is in another VLAN, too",
            vlan,
            Host,
            &["bridge vlan add dev PORT vid 200"],
        )),
        aware(change(
            "check.vlan-tagged",
            "the port's VLAN leaves tagged",
            vlan,
            Host,
            &["bridge vlan add dev PORT vid 100 pvid"],
        )),
        aware(change(
            "check.filtering",
            "the bridge does not filter VLANs any more: all are one network",
            vlan,
            Host,
            &["ip link set BRIDGE type bridge vlan_filtering 0"],
        )),
        change(
            "check.vlan-gateway",
            "the VLAN's gateway is down",
            |s| s.asking(vlan(s), Feature::Gateway),
            Host,
            &["ip link set GATEWAY down"],
        )
        .claims(&[Feature::Vlan, Feature::Gateway]),
    ]
}
