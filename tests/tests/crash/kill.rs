//! kill -9 at every system call by which ADD or DEL changes something.

use std::fmt;
use std::time::Duration;

use berth_tests::{
    Context, Need, Node, Result, Side, Space, Strike, Test, bail, ensure, is_soak, test,
};

use crate::scene::{Kind, Scene, gc, is_reduced, plugin, wait_for_orphans};

pub(crate) fn tests() -> Vec<Test> {
    const HOST: &[Need] = &[Need::Ptrace];
    const RULES: &[Need] = &[Need::Ptrace, Need::BridgeRules];
    const VLAN: &[Need] = &[Need::Ptrace, Need::VlanFiltering];
    const DOT1Q: &[Need] = &[Need::Ptrace, Need::Vlan8021q];
    const GATEWAY: &[Need] = &[Need::Ptrace, Need::VlanFiltering, Need::Vlan8021q];
    const LIMITS: &[Need] = &[Need::Ptrace, Need::Shaping];
    let long = Duration::from_secs(1800);
    let mut all = vec![
        test("kill_vlan_with_uplink", VLAN, |node| {
            killed(node, Kind::VlanUplink)
        }),
        test("kill_vlan_on_foreign_bridge", VLAN, |node| {
            killed(node, Kind::VlanForeign)
        }),
        test("kill_vlan_on_shared_bridge", VLAN, |node| {
            killed(node, Kind::VlanShared)
        }),
    ];
    all.push(test("kill_gateway_in_a_vlan", GATEWAY, |node| {
        killed(node, Kind::VlanGateway)
    }));
    all.push(test("kill_bridge_per_vlan", DOT1Q, |node| {
        killed(node, Kind::PerVlan)
    }));
    if !is_reduced() {
        all.extend([
            test("kill_gateway", HOST, |node| killed(node, Kind::Gateway)),
            test("kill_fresh_bridge", HOST, |node| killed(node, Kind::Fresh)),
            test("kill_foreign_bridge", HOST, |node| {
                killed(node, Kind::Foreign)
            }),
            test("kill_uplink_lent_to_a_bridge", HOST, |node| {
                killed(node, Kind::ForeignUplink)
            }),
            test("kill_addresses", HOST, |node| killed(node, Kind::Addressed)),
            test("kill_limits", LIMITS, |node| killed(node, Kind::Limited)),
            test("kill_delegated_ipam", HOST, |node| {
                killed(node, Kind::Delegated)
            }),
            test("kill_rules", RULES, |node| killed(node, Kind::Ruled)),
            test("kill_rules_beside_others", RULES, |node| {
                killed(node, Kind::RuledBeside)
            }),
        ]);
    }
    all.into_iter().map(|test| test.limit(long)).collect()
}

/// Of how many places in a row one is struck: with less to do, every place of the
/// case with the most to take back, and one of five elsewhere. Beside others the rules
/// differ at their own few places.
fn pace(kind: Kind) -> usize {
    match kind {
        Kind::Ruled | Kind::RuledBeside if !is_soak() => 3,
        Kind::VlanUplink => 1,
        _ if is_reduced() => 5,
        _ => 1,
    }
}

/// A kill after a call is one before the next as far as the node can tell, so one side
/// and the last call's other cover every state; BERTH_SOAK=1 runs both throughout.
fn strikes(calls: &[String]) -> Vec<Strike> {
    let mut strikes = Vec::new();
    for call in 0..calls.len() {
        for side in [Side::Before, Side::After] {
            if is_soak() || side == Side::Before || call + 1 == calls.len() {
                strikes.push(Strike { call, side });
            }
        }
    }
    strikes
}

/// A strike as a message names it.
struct At<'a>(&'a str, Strike, &'a [String]);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(verb, strike, calls) = self;
        let side = match strike.side {
            Side::Before => "before",
            Side::After => "after",
        };
        let call = calls.get(strike.call).map_or("?", String::as_str);
        let of = calls.len();
        write!(
            f,
            "{verb} killed {side} call {} of {of} ({call})",
            strike.call
        )
    }
}

fn killed(node: &Node, kind: Kind) -> Result<()> {
    let scene = Scene::set(node, kind)?;
    let whole_node = node.snapshot()?;
    // The first ADD of a node makes Berth's directories, too, and no later one.
    plugin()?.add(&scene.attachment, &scene.conf)?;
    plugin()?.del(&scene.attachment, &scene.conf)?;
    let adds = plugin()?.changing_calls("ADD", &scene.attachment, &scene.conf)?;
    ensure!(scene.pod.has_link("eth0")?, "no interface in the pod");
    let dels = plugin()?.changing_calls("DEL", &scene.attachment, &scene.conf)?;
    scene.must_be_as_before("ADD and DEL, traced")?;
    eprintln!(
        "{} changing calls in ADD, {} in DEL",
        adds.len(),
        dels.len()
    );
    let mut failed = Vec::new();
    let pace = pace(kind);
    let again = if is_reduced() { 3 * pace } else { pace };
    for (number, strike) in strikes(&adds).into_iter().enumerate() {
        let at = At("ADD", strike, &adds);
        if number % pace == 0 {
            failed.extend(add_then_del(&scene, strike, &at).err());
        }
        if number % again == 0 {
            failed.extend(add_then_add(&scene, strike, &at).err());
        }
    }
    for strike in strikes(&dels).into_iter().step_by(pace) {
        let at = At("DEL", strike, &dels);
        failed.extend(del_then_del(&scene, strike, &at).err());
    }
    if kind == Kind::Ruled {
        let every = if is_soak() { 1 } else { 8 };
        for strike in strikes(&adds).into_iter().step_by(every) {
            failed.extend(then_gc(&scene, "ADD", strike, &At("ADD", strike, &adds)).err());
        }
        for strike in strikes(&dels).into_iter().step_by(every) {
            failed.extend(then_gc(&scene, "DEL", strike, &At("DEL", strike, &dels)).err());
        }
    }
    failed.extend(whole_node.must_equal(&node.snapshot()?).err());
    let text: Vec<String> = failed.iter().map(|error| format!("{error:#}")).collect();
    ensure!(
        failed.is_empty(),
        "{} of them failed:\n{}",
        failed.len(),
        text.join("\n")
    );
    Ok(())
}

fn kill(scene: &Scene, verb: &str, strike: Strike, at: &At<'_>) -> Result<()> {
    let traced = plugin()?.traced(verb, &scene.attachment, &scene.conf, Some(strike))?;
    wait_for_orphans()?;
    if !traced.struck {
        del(scene, at)?;
        bail!("{at}: it was over after {} calls", traced.calls.len());
    }
    Ok(())
}

fn del(scene: &Scene, at: &At<'_>) -> Result<()> {
    plugin()?
        .del(&scene.attachment, &scene.conf)
        .with_context(|| format!("DEL after {at}"))
}

fn add_then_del(scene: &Scene, strike: Strike, at: &At<'_>) -> Result<()> {
    kill(scene, "ADD", strike, at)?;
    del(scene, at)?;
    scene.must_be_as_before(&format!("{at}, and DEL,"))
}

/// What the runtime was never told of is added again; an ADD that was killed when all
/// was done stands, and the next is refused.
fn add_then_add(scene: &Scene, strike: Strike, at: &At<'_>) -> Result<()> {
    kill(scene, "ADD", strike, at)?;
    let done = scene.record().is_some_and(|r| r["phase"] == "committed");
    let reply = plugin()?.call("ADD", &scene.attachment, &scene.conf)?;
    if done {
        let error = reply.failure().with_context(|| format!("ADD after {at}"))?;
        ensure!(error.code == 7, "ADD after {at}: {error:?}");
    } else {
        let result = reply.result();
        result.with_context(|| format!("ADD after {at}"))?;
        ensure!(scene.pod.has_link("eth0")?, "ADD after {at} made nothing");
    }
    del(scene, at)?;
    scene.must_be_as_before(&format!("{at}, ADD again and DEL,"))
}

/// The runtime lost the attachment altogether, and says so by what it does not list.
fn then_gc(scene: &Scene, verb: &str, strike: Strike, at: &At<'_>) -> Result<()> {
    if verb == "DEL" {
        plugin()?.add(&scene.attachment, &scene.conf)?;
    }
    kill(scene, verb, strike, at)?;
    gc(&scene.conf).with_context(|| format!("GC after {at}"))?;
    scene.must_be_as_before(&format!("{at}, and GC,"))
}

fn del_then_del(scene: &Scene, strike: Strike, at: &At<'_>) -> Result<()> {
    plugin()?.add(&scene.attachment, &scene.conf)?;
    kill(scene, "DEL", strike, at)?;
    del(scene, at)?;
    scene.must_be_as_before(&format!("{at}, and DEL,"))
}
