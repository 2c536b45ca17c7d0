//! `gateway.*`: the node as the containers' gateway.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::bridge::mac_outlives_a_port;
use crate::attached::with;
use crate::conformance::stage::{IFNAME, addresses, same};
use crate::conformance::template::GatewayKind;
use crate::conformance::{Case, Feature, Layout, Stage, case};
use crate::need::Need;
use crate::node::foreign_bridge;
use crate::plugin::Running;
use crate::space::Space;
use crate::spy;

const BRIDGE: &str = "plugins, bridge_test.go";

pub(super) fn cases() -> Vec<Case> {
    [plain(), vlans()].concat()
}

fn plain() -> Vec<Case> {
    let gateway = |case: Case| case.claims(&[Feature::Gateway]);
    vec![
        gateway(case(
            "gateway.address",
            "the bridge has the first address of each subnet",
            BRIDGE,
            address,
        )),
        gateway(case(
            "gateway.reach",
            "the container reaches it",
            BRIDGE,
            reach,
        ))
        .needs(&[Need::Tool("ping")]),
        gateway(case(
            "gateway.forwarding",
            "the node forwards",
            "plugins, ip_forward",
            forwarding,
        )),
        case(
            "gateway.default-route",
            "a default route for each family, if the IPAM has none",
            BRIDGE,
            default_route,
        )
        .claims(&[Feature::DefaultGateway]),
        gateway(case(
            "gateway.conflict",
            "another address of the same subnet on the bridge is an error and stays",
            BRIDGE,
            conflict,
        ))
        .only(Layout::VlanAware),
        gateway(case(
            "gateway.force",
            "it is replaced by wish",
            BRIDGE,
            force,
        ))
        .claims(&[Feature::ForceAddress])
        .only(Layout::VlanAware),
        gateway(case(
            "gateway.force-ipv6",
            "so is an IPv6 address, and one of another subnet stays",
            BRIDGE,
            force_six,
        ))
        .claims(&[Feature::ForceAddress])
        .only(Layout::VlanAware),
    ]
}

fn vlans() -> Vec<Case> {
    let vlan = |case: Case| case.claims(&[Feature::Gateway, Feature::Vlan]);
    vec![
        vlan(case("gateway.vlan", "the VLAN's gateway has the address, on the link the template says", BRIDGE, in_vlan)),
        vlan(case("gateway.vlan-ipv6", "also an IPv6 one", BRIDGE, six_in_vlan)),
        vlan(case("gateway.vlan-reach", "containers reach it, several in one VLAN", BRIDGE, vlan_reach))
            .needs(&[Need::Tool("ping")]),
        vlan(case(
            "gateway.vlan-leftover",
            "the VLAN's gateway goes with its last container",
            "plugins#1175",
            leftover,
        )),
        vlan(case(
            "gateway.long-name",
            "a bridge name of 15 characters with a VLAN's gateway works, or is refused without a trace",
            "IFNAMSIZ",
            long_name,
        ))
        .claims(&[Feature::Bridge]),
        vlan(case(
            "gateway.parallel",
            "six first ADDs at once with VLAN and gateway succeed",
            "plugins#366, #369",
            parallel,
        )),
        vlan(case(
            "gateway.mac-stable",
            "the bridge keeps its MAC address when a container goes",
            "plugins: not pinned with a VLAN",
            stable_mac,
        )),
    ]
}

fn gated(stage: &Stage<'_>, addresses: &[&str]) -> Value {
    stage.asking(stage.addressed(addresses), Feature::Gateway)
}

fn in_100(stage: &Stage<'_>, address: &str) -> Value {
    stage.in_vlan(gated(stage, &[address]), 100)
}

/// `address` is on `link`.
fn has(stage: &Stage<'_>, link: &str, address: &str) -> Result<()> {
    let live = addresses(stage.node, link)?;
    let found = live.iter().any(|one| one == address);
    ensure!(found, "expected {address} on {link}, got {live:?}");
    Ok(())
}

/// IPv6 of the node itself is off in a case otherwise.
fn with_ipv6(stage: &Stage<'_>) -> Result<()> {
    for scope in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
        stage.node.write(&path, "0")?;
    }
    Ok(())
}

fn address(stage: &Stage<'_>) -> Result<()> {
    with_ipv6(stage)?;
    stage.add("c1", gated(stage, &["10.9.0.7/24", "fd00:9::7/64"]))?;
    has(stage, stage.bridge(), "10.9.0.1/24")?;
    has(stage, stage.bridge(), "fd00:9::1/64")
}

fn reach(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", gated(stage, &["10.9.0.7/24"]))?;
    same("an answer", true, pod.reaches("10.9.0.1")?)
}

fn forwarding(stage: &Stage<'_>) -> Result<()> {
    stage.node.write("/proc/sys/net/ipv4/ip_forward", "0")?;
    stage.add("c1", gated(stage, &["10.9.0.7/24"]))?;
    let now = stage.node.run("cat /proc/sys/net/ipv4/ip_forward")?;
    same("ip_forward", "1", now.trim())
}

fn default_route(stage: &Stage<'_>) -> Result<()> {
    with_ipv6(stage)?;
    let conf = stage.addressed(&["10.9.0.7/24", "fd00:9::7/64"]);
    let pod = stage.add("c1", stage.asking(conf, Feature::DefaultGateway))?;
    for (args, via) in [
        ("route show default", "via 10.9.0.1"),
        ("-6 route show default", "via fd00:9::1"),
    ] {
        let live = pod.pod.ip(args)?;
        ensure!(live.contains(via), "expected {via:?}, got {live:?}");
    }
    Ok(())
}

fn conflict(stage: &Stage<'_>) -> Result<()> {
    foreign_bridge(stage.node, stage.bridge(), "")?;
    stage
        .node
        .ip(&format!("addr add 10.9.0.254/24 dev {}", stage.bridge()))?;
    let pod = stage.node.pod("c1")?;
    stage.refused(&pod, &gated(stage, &["10.9.0.7/24"]))?;
    let live = addresses(stage.node, stage.bridge())?;
    same("addresses", vec!["10.9.0.254/24".to_owned()], live)
}

fn force(stage: &Stage<'_>) -> Result<()> {
    foreign_bridge(stage.node, stage.bridge(), "")?;
    stage
        .node
        .ip(&format!("addr add 10.9.0.254/24 dev {}", stage.bridge()))?;
    let conf = gated(stage, &["10.9.0.7/24"]);
    stage.add("c1", stage.asking(conf, Feature::ForceAddress))?;
    let live = addresses(stage.node, stage.bridge())?;
    same("addresses", vec!["10.9.0.1/24".to_owned()], live)
}

fn force_six(stage: &Stage<'_>) -> Result<()> {
    foreign_bridge(stage.node, stage.bridge(), "")?;
    with_ipv6(stage)?;
    let own = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", stage.bridge());
    stage.node.write(&own, "0")?;
    for address in ["fd00:9::fe/64", "fd00:8::fe/64"] {
        let line = format!("addr add {address} dev {} nodad", stage.bridge());
        stage.node.ip(&line)?;
    }
    let conf = gated(stage, &["fd00:9::7/64"]);
    stage.add("c1", stage.asking(conf, Feature::ForceAddress))?;
    let mut live = addresses(stage.node, stage.bridge())?;
    live.sort();
    let wished = ["fd00:8::fe/64", "fd00:9::1/64"];
    same("addresses", wished.map(str::to_owned).to_vec(), live)
}

fn six_in_vlan(stage: &Stage<'_>) -> Result<()> {
    with_ipv6(stage)?;
    let pod = stage.add("c1", in_100(stage, "fd00:9::7/64"))?;
    has(stage, &stage.gateway_of(100), "fd00:9::1/64")?;
    let live = addresses(&pod.pod, IFNAME)?;
    same("addresses", vec!["fd00:9::7/64".to_owned()], live)
}

fn in_vlan(stage: &Stage<'_>) -> Result<()> {
    stage.add("c1", in_100(stage, "10.9.0.7/24"))?;
    let name = stage.gateway_of(100);
    has(stage, &name, "10.9.0.1/24")?;
    let kind = match stage.template.gateway {
        GatewayKind::Bridge => "bridge",
        GatewayKind::Vlan => "vlan",
        GatewayKind::Veth => "veth",
    };
    let link = stage.node.link(&name)?;
    same(
        "kind of the gateway",
        &json!(kind),
        &link["linkinfo"]["info_kind"],
    )
}

fn vlan_reach(stage: &Stage<'_>) -> Result<()> {
    let one = stage.add("c1", in_100(stage, "10.9.0.7/24"))?;
    let two = stage.add("c2", in_100(stage, "10.9.0.8/24"))?;
    same("an answer for the first", true, one.reaches("10.9.0.1")?)?;
    same("an answer for the second", true, two.reaches("10.9.0.1")?)?;
    one.del()?;
    same(
        "an answer after the first is gone",
        true,
        two.reaches("10.9.0.1")?,
    )
}

fn leftover(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", in_100(stage, "10.9.0.7/24"))?;
    let name = stage.gateway_of(100);
    pod.del()?;
    if name != stage.bridge_of(100) && stage.node.has_link(&name)? {
        anyhow::bail!("expected no gateway after the last DEL, got {name}");
    }
    Ok(())
}

fn long_name(stage: &Stage<'_>) -> Result<()> {
    let conf = in_100(stage, "10.9.0.7/24");
    let conf = stage.asking_for(conf, Feature::Bridge, "fifteen-letters");
    let pod = stage.node.pod("c1")?;
    let at = stage.attachment(&pod, "c1");
    let before = stage.node.link_names()?;
    let reply = stage.plugin.call("ADD", &at, &conf)?;
    if reply.status.success() {
        return Ok(());
    }
    let why = reply.failure()?.msg;
    same(
        &format!("links after {why:?}"),
        before,
        stage.node.link_names()?,
    )?;
    same("interfaces", vec!["lo".to_owned()], pod.link_names()?)?;
    stage.works()
}

fn parallel(stage: &Stage<'_>) -> Result<()> {
    let pods = (0..6).map(|n| stage.node.pod(&format!("c{n}")));
    let pods = pods.collect::<Result<Vec<_>>>()?;
    let started = pods.iter().enumerate().map(|(n, pod)| {
        let conf = in_100(stage, &format!("10.9.0.{}/24", 10 + n));
        stage
            .plugin
            .start("ADD", &stage.attachment(pod, &format!("c{n}")), &conf)
    });
    let started = started.collect::<Result<Vec<Running>>>()?;
    for running in started {
        let result = running.finish()?.result().context("one of six")?;
        same(
            "bridge",
            &json!(stage.bridge_of(100)),
            &result["interfaces"][0]["name"],
        )?;
    }
    Ok(())
}

fn stable_mac(stage: &Stage<'_>) -> Result<()> {
    let conf = stage.asking(stage.conf(), Feature::Gateway);
    let ipam = json!({"type": spy::NAME});
    let conf = with(stage.in_vlan(conf, 100), json!({"ipam": ipam}));
    stage.spied()?;
    mac_outlives_a_port(stage, &conf, &stage.bridge_of(100))
}
