//! `berth doctor`: its answers against what the tests find by trying.

use std::collections::BTreeSet;

use berth_tests::{Context, Need, Node, Result, Space, Test, bail, ensure, plugin, test};
use serde_json::Value;

use crate::kit::{all, berth, done, run};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    const LAB: &[Need] = &[
        Need::VlanFiltering,
        Need::Vlan8021q,
        Need::Sriov,
        Need::XfsQuota,
        Need::Ext4Quota,
        Need::CgroupV2,
    ];
    vec![
        test("doctor_answers_in_its_schema", ROOT, schema),
        test("doctor_tells_people_the_same", ROOT, text),
        test("doctor_looks_at_wished_areas", ROOT, areas),
        test("doctor_fails_only_when_strict", ROOT, strict),
        test("doctor_agrees_with_the_kernel", ROOT, kernel),
        test("doctor_knows_the_lab", LAB, lab).at_home(),
    ]
}

/// The answer to `berth doctor -o json OPTIONS`.
fn report(options: &str) -> Result<Value> {
    let said = done(&format!("doctor -o json {options}"))?;
    ensure!(said.stderr.is_empty(), "{}", all(&said));
    Ok(serde_json::from_str(&said.stdout)?)
}

/// Its checks.
fn checks(report: &Value) -> Result<&Vec<Value>> {
    report["checks"].as_array().context("no list of checks")
}

/// The value of a text field.
fn field<'a>(check: &'a Value, key: &str) -> Result<&'a str> {
    let value = check[key].as_str();
    value.with_context(|| format!("{key} is no text in {check}"))
}

/// The check of this kind on the object whose words include `object`.
fn check<'a>(report: &'a Value, id: &str, object: &str) -> Result<&'a Value> {
    let is_it = |check: &&Value| {
        let mut words = check["object"].as_str().unwrap_or_default().split(' ');
        check["id"] == id && words.any(|word| word == object)
    };
    let found = checks(report)?.iter().find(is_it);
    found.with_context(|| format!("no {id} of {object} in {report:#}"))
}

fn schema(node: &Node) -> Result<()> {
    let report = node.as_before(|| report(""))?;
    assert_eq!(report["schema"], 1);
    let about = &report["node"];
    assert_eq!(field(about, "kernel")?, node.run("uname -r")?.trim());
    let version = run(&plugin::binary("berth")?, "--version")?;
    let version = version.stdout.trim().trim_start_matches("berth ");
    assert_eq!(field(about, "berth")?, version);
    let cgroup = field(about, "cgroup")?;
    ensure!(["v2", "hybrid", "v1", "none"].contains(&cgroup), "{cgroup}");
    let mut seen = BTreeSet::new();
    for check in checks(&report)? {
        let (id, object) = (field(check, "id")?, field(check, "object")?);
        ensure!(seen.insert((id, object)), "twice: {check}");
        ensure!(!field(check, "reason")?.is_empty(), "no reason: {check}");
        let told = (field(check, "effect")?, field(check, "remedy")?);
        match field(check, "status")? {
            "ok" => assert_eq!(told, ("", ""), "{check}"),
            // What could not be read may be fine: there may be nothing to do.
            "unknown" => ensure!(!told.0.is_empty(), "no effect: {check}"),
            "limited" | "missing" => {
                ensure!(!told.0.is_empty(), "no effect: {check}");
                ensure!(!told.1.is_empty(), "no remedy: {check}");
            }
            other => bail!("status {other}: {check}"),
        }
    }
    let areas = checks(&report)?.iter().map(|check| field(check, "area"));
    let areas: BTreeSet<&str> = areas.collect::<Result<_>>()?;
    let all = [
        "core", "cpu", "disk", "io", "irq", "memory", "sriov", "vlan",
    ];
    assert_eq!(areas, BTreeSet::from(all));
    Ok(())
}

/// Each problem in a line, its reason and remedy below it; the closing line counts.
fn text(_: &Node) -> Result<()> {
    let report = report("")?;
    let short = done("doctor")?.stdout;
    let long = done("doctor --verbose")?.stdout;
    let mut counts = [("ok", 0), ("limited", 0), ("missing", 0), ("unknown", 0)];
    for check in checks(&report)? {
        let (status, area) = (field(check, "status")?, field(check, "area")?);
        for (name, count) in &mut counts {
            *count += usize::from(*name == status);
        }
        let line = format!("{status:<8} {area:<6} {}", field(check, "object")?);
        ensure!(long.contains(&line), "{line:?} is not in:\n{long}");
        let is_problem = status != "ok";
        ensure!(short.contains(&line) == is_problem, "{line:?} in:\n{short}");
        for (label, text) in [
            ("reason: ", field(check, "reason")?),
            ("remedy: ", field(check, "remedy")?),
        ] {
            let told = format!("{label}{text}");
            if is_problem && !text.is_empty() {
                ensure!(short.contains(&told), "{told:?} is not in:\n{short}");
            }
        }
    }
    let counts = counts.map(|(name, count)| format!("{count} {name}"));
    let summary = counts.join(", ");
    let last = short.lines().last().unwrap_or_default();
    ensure!(last.starts_with(&summary), "{summary:?} is not {last:?}");
    ensure!(last.contains("--verbose"), "{last}");
    Ok(())
}

fn areas(_: &Node) -> Result<()> {
    let whole = report("")?;
    let some = report("--area vlan,disk")?;
    let wished = |check: &&Value| check["area"] == "vlan" || check["area"] == "disk";
    let wished: Vec<&Value> = checks(&whole)?.iter().filter(wished).collect();
    let seen: Vec<&Value> = checks(&some)?.iter().collect();
    assert_eq!(seen, wished);
    ensure!(wished.len() > 2, "{some:#}");
    let wrong = berth("doctor --area pizza")?;
    assert_eq!(wrong.status.code(), Some(2), "{}", all(&wrong));
    ensure!(wrong.stderr.contains("vlan"), "{}", wrong.stderr);
    Ok(())
}

fn strict(_: &Node) -> Result<()> {
    let whole = report("")?;
    for area in ["core", "vlan", "cpu", "disk"] {
        let is_missing = |check: &Value| check["area"] == area && check["status"] == "missing";
        let missing = checks(&whole)?.iter().any(is_missing);
        let said = berth(&format!("doctor --strict --area {area}"))?;
        assert_eq!(
            said.status.code(),
            Some(i32::from(missing)),
            "{area}: {}",
            all(&said)
        );
        done(&format!("doctor --area {area}"))?;
    }
    Ok(())
}

/// What it calls ok can be done here, what it calls missing cannot.
fn kernel(_: &Node) -> Result<()> {
    let report = report("")?;
    for (need, object) in [
        (Need::VlanFiltering, "CONFIG_BRIDGE_VLAN_FILTERING"),
        (Need::Vlan8021q, "CONFIG_VLAN_8021Q"),
    ] {
        let check = check(&report, "kernel.option", object)?;
        let tried = need.check();
        match field(check, "status")? {
            "ok" => tried.with_context(|| format!("doctor says {check}"))?,
            "unknown" => {}
            _ => ensure!(tried.is_err(), "it can be done, and doctor says {check}"),
        }
    }
    let held = check(&report, "caller.capability", "CAP_NET_ADMIN")?;
    assert_eq!(held["status"], "ok");
    // Version 2 without a controller it calls limited, so only this way round.
    if Need::CgroupV2.check().is_ok() {
        for check in checks(&report)? {
            let is_about = field(check, "id")?.starts_with("cgroup.");
            ensure!(!is_about || check["status"] == "ok", "{check}");
        }
    }
    Ok(())
}

fn lab(node: &Node) -> Result<()> {
    node.as_before(|| {
        let before = report("")?;
        assert_eq!(before["node"]["cgroup"], "v2");
        for (id, object) in [
            ("kernel.option", "CONFIG_BRIDGE_VLAN_FILTERING"),
            ("kernel.option", "CONFIG_VLAN_8021Q"),
            ("kernel.option", "CONFIG_PCI_IOV"),
            ("cgroup.version", "cgroup"),
            ("cgroup.controller", "cpuset"),
            ("cgroup.controller", "memory"),
            ("cgroup.controller", "io"),
            ("disk.quota", "/data/xfs"),
            ("disk.quota", "/data/ext4"),
        ] {
            let check = check(&before, id, object)?;
            assert_eq!(check["status"], "ok", "{check}");
        }
        for (mount, kind) in [("/data/xfs", "xfs on "), ("/data/ext4", "ext4 on ")] {
            let reason = field(check(&before, "disk.quota", mount)?, "reason")?;
            ensure!(
                reason.starts_with(kind) && reason.ends_with("project quota enforced"),
                "{reason}"
            );
        }
        for port in ["pf0", "pf1"] {
            let card = check(&before, "sriov.device", port)?;
            assert_eq!(card["status"], "limited", "{card}");
            assert_eq!(card["reason"], "0 of 7 VFs are made", "{card}");
        }
        follow_the_remedy(node, &before)
    })
}

/// The remedy for a card without VFs, typed as it is printed, is one.
fn follow_the_remedy(node: &Node, report: &Value) -> Result<()> {
    let remedy = field(check(report, "sriov.device", "pf0")?, "remedy")?;
    ensure!(remedy.starts_with("berth bootstrap vfs "), "{remedy}");
    let typed = node.command("sh").args(["-c", remedy]).status()?;
    let after = self::report("--area sriov");
    // Taken back before anything is judged.
    node.write("/sys/class/net/pf0/device/sriov_numvfs", "0")?;
    node.ip("link set pf0 down")?;
    ensure!(typed.success(), "{remedy}: {typed}");
    let after = after?;
    let card = check(&after, "sriov.device", "pf0")?;
    assert_eq!(card["status"], "ok", "{card}");
    assert_eq!(card["reason"], "7 of 7 VFs are made", "{card}");
    assert_eq!(check(&after, "sriov.device", "pf1")?["status"], "limited");
    Ok(())
}
