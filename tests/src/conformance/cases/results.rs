//! `result.*`: what ADD answers, in every version.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::attached::with;
use crate::conformance::stage::{IFNAME, addresses, same};
use crate::conformance::{Case, Stage, case};
use crate::space::Space;

const SUCCESS: &str = "SPEC, ADD Success";

pub(super) fn cases() -> Vec<Case> {
    [shapes(), contents()].concat()
}

fn shapes() -> Vec<Case> {
    vec![
        case(
            "result.every-version",
            "ADD and DEL work in every version, and the result has the configuration's",
            SUCCESS,
            every_version,
        ),
        case(
            "result.interfaces",
            "since 0.3.0: bridge, host's end, container's end with its namespace, as they are",
            "SPEC, ADD Success; bandwidth and firewall find the host's end there",
            interfaces,
        ),
        case(
            "result.addresses",
            "since 0.3.0: each address with its gateway and the container's interface",
            SUCCESS,
            told_addresses,
        ),
        case(
            "result.family",
            "ips has a version (4 or 6) from 0.3.0 to 0.4.0, and none since 1.0.0",
            SUCCESS,
            family,
        ),
        case(
            "result.legacy",
            "0.1.0 and 0.2.0: ip4 and ip6, no interfaces",
            "SPEC 0.2.0, Result",
            legacy,
        ),
        case(
            "result.legacy-one-address",
            "0.1.0 and 0.2.0: two addresses of one family are refused",
            "SPEC 0.2.0, Result",
            legacy_two,
        ),
        case(
            "result.legacy-no-address",
            "0.1.0 and 0.2.0: layer 2 only cannot be said, is refused and taken back",
            "SPEC 0.2.0, Result",
            legacy_layer_2,
        ),
    ]
}

fn contents() -> Vec<Case> {
    vec![
        case(
            "result.layer2",
            "without ipam, and with an empty one, there are interfaces and no ips",
            "SPEC, ADD Success",
            layer_2,
        ),
        case(
            "result.routes",
            "routes of the IPAM are in the result and in the container",
            SUCCESS,
            routes,
        ),
        case(
            "result.route-options",
            "mtu, advmss and priority of a route are set",
            "SPEC 1.1.0, ADD Success",
            route_options,
        )
        .since("1.1.0"),
        case(
            "result.route-table",
            "a route goes into the table it names, and scope is set",
            "SPEC 1.1.0, ADD Success",
            route_table,
        )
        .since("1.1.0"),
        case(
            "result.mixed",
            "one IPv4 and two IPv6 addresses are set and told",
            "plugins, bridge_test.go",
            mixed,
        ),
        case(
            "result.mtu",
            "the container's interface has its mtu",
            "SPEC 1.1.0, ADD Success",
            mtu,
        )
        .since("1.1.0"),
        case(
            "result.dns",
            "dns of the configuration is in the result, instead of the IPAM's",
            "plugins, dns",
            dns,
        ),
        case(
            "result.prevresult",
            "what an earlier plugin of the chain answered goes on",
            "SPEC, prevResult: MUST be passed through or modified",
            prev_result,
        ),
    ]
}

fn versions<'a>(stage: &'a Stage<'_>, from: &str, below: &str) -> Vec<&'a str> {
    let all = stage.template.versions.iter().map(String::as_str);
    all.filter(|v| *v >= from && *v < below).collect()
}

const BOTH: [&str; 2] = ["10.9.0.7/24", "fd00:9::7/64"];

/// The result of ADD of `conf` in `version`, and what `look` makes of it before DEL.
fn in_version(
    stage: &Stage<'_>,
    version: &str,
    conf: &Value,
    look: impl FnOnce(&crate::attached::Attached) -> Result<()>,
) -> Result<()> {
    let conf = with(conf.clone(), json!({"cniVersion": version}));
    let pod = stage.add("c1", conf).with_context(|| version.to_owned())?;
    look(&pod).with_context(|| version.to_owned())?;
    pod.del().with_context(|| format!("DEL in {version}"))
}

fn every_version(stage: &Stage<'_>) -> Result<()> {
    for version in &stage.template.versions {
        in_version(stage, version, &stage.addressed(&BOTH), |pod| {
            let live = addresses(&pod.pod, IFNAME)?;
            ensure!(live.len() == 2, "expected {BOTH:?}, got {live:?}");
            same("cniVersion", &json!(version), &pod.result["cniVersion"])
        })?;
    }
    Ok(())
}

fn interfaces(stage: &Stage<'_>) -> Result<()> {
    for version in versions(stage, "0.3.0", "9") {
        in_version(stage, version, &stage.addressed(&BOTH[..1]), |pod| {
            let list = &pod.result["interfaces"];
            same("interfaces", Some(3), list.as_array().map(Vec::len))?;
            same("first", &json!(stage.bridge()), &list[0]["name"])?;
            let host = list[1]["name"].as_str().unwrap_or_default();
            same(
                "host's end",
                &stage.node.link(host)?["address"],
                &list[1]["mac"],
            )?;
            same(
                "bridge",
                &stage.node.link(stage.bridge())?["address"],
                &list[0]["mac"],
            )?;
            same("container's end", &json!(IFNAME), &list[2]["name"])?;
            same(
                "its MAC",
                &pod.pod.link(IFNAME)?["address"],
                &list[2]["mac"],
            )?;
            let path = pod.pod.path().display().to_string();
            same("its sandbox", &json!(path), &list[2]["sandbox"])
        })?;
    }
    Ok(())
}

fn told_addresses(stage: &Stage<'_>) -> Result<()> {
    for version in versions(stage, "0.3.0", "9") {
        in_version(stage, version, &stage.addressed(&BOTH), |pod| {
            for (number, address) in BOTH.iter().enumerate() {
                let ip = &pod.result["ips"][number];
                same("address", &json!(address), &ip["address"])?;
                same("interface", &json!(2), &ip["interface"])?;
                ensure!(ip["gateway"].is_string(), "expected a gateway, got {ip}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn family(stage: &Stage<'_>) -> Result<()> {
    for version in versions(stage, "0.3.0", "9") {
        in_version(stage, version, &stage.addressed(&BOTH), |pod| {
            for (number, family) in ["4", "6"].iter().enumerate() {
                let wish = if version < "1.0.0" {
                    json!(family)
                } else {
                    Value::Null
                };
                same("ips.version", &wish, &pod.result["ips"][number]["version"])?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn legacy(stage: &Stage<'_>) -> Result<()> {
    for version in versions(stage, "0.1.0", "0.3.0") {
        in_version(stage, version, &stage.addressed(&BOTH), |pod| {
            for (key, address) in [("ip4", BOTH[0]), ("ip6", BOTH[1])] {
                same(key, &json!(address), &pod.result[key]["ip"])?;
            }
            let extra = &pod.result["interfaces"];
            same("interfaces", &Value::Null, extra)
        })?;
    }
    Ok(())
}

fn legacy_two(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("c1")?;
    for version in versions(stage, "0.1.0", "0.3.0") {
        let conf = stage.addressed(&["10.9.0.7/24", "10.9.0.8/24"]);
        stage.refused(&pod, &with(conf, json!({"cniVersion": version})))?;
    }
    Ok(())
}

fn legacy_layer_2(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("c1")?;
    for version in versions(stage, "0.1.0", "0.3.0") {
        let conf = with(stage.conf(), json!({"cniVersion": version}));
        stage.refused(&pod, &conf)?;
        same(version, vec!["lo".to_owned()], pod.link_names()?)?;
    }
    Ok(())
}

fn layer_2(stage: &Stage<'_>) -> Result<()> {
    let empty = with(stage.conf(), json!({"ipam": {}}));
    let absent = versions(stage, "0.3.0", "9")
        .into_iter()
        .map(|v| (v, stage.conf()));
    for (version, conf) in absent.chain([(stage.template.newest(), empty)]) {
        in_version(stage, version, &conf, |pod| {
            let result = &pod.result;
            let name = &result["interfaces"][2]["name"];
            same("interface", &json!(IFNAME), name)?;
            let none = result["ips"].as_array().is_none_or(Vec::is_empty);
            ensure!(none, "expected no ips, got {}", result["ips"]);
            Ok(())
        })?;
    }
    Ok(())
}

fn routes(stage: &Stage<'_>) -> Result<()> {
    for version in versions(stage, "0.3.0", "9") {
        let mut conf = stage.addressed(&BOTH);
        conf["ipam"]["routes"] = json!([
            {"dst": "10.20.0.0/16", "gw": "10.9.0.2"},
            {"dst": "0.0.0.0/0"},
            {"dst": "::/0", "gw": "fd00:9::1"},
        ]);
        in_version(stage, version, &conf, |pod| {
            let told = pod.result["routes"].as_array().map(Vec::len);
            same("routes in the result", Some(3), told)?;
            for (args, via) in [
                ("route show 10.20.0.0/16", "via 10.9.0.2"),
                ("route show default", "via 10.9.0.1"),
                ("-6 route show default", "via fd00:9::1"),
            ] {
                let live = pod.pod.ip(args)?;
                ensure!(live.contains(via), "expected {via:?}, got {live:?}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn route_options(stage: &Stage<'_>) -> Result<()> {
    let mut conf = stage.addressed(&BOTH[..1]);
    let route = json!({"dst": "10.20.0.0/16", "gw": "10.9.0.2",
                       "mtu": 1300, "advmss": 1200, "priority": 50});
    conf["ipam"]["routes"] = json!([route]);
    let pod = stage.add("c1", conf)?;
    let live = pod.pod.ip("route show 10.20.0.0/16")?;
    for part in ["metric 50", "mtu 1300", "advmss 1200"] {
        ensure!(live.contains(part), "expected {part:?}, got {live:?}");
    }
    Ok(())
}

fn route_table(stage: &Stage<'_>) -> Result<()> {
    let mut conf = stage.addressed(&BOTH[..1]);
    conf["ipam"]["routes"] = json!([
        {"dst": "10.20.0.0/16", "gw": "10.9.0.2", "table": 77},
        {"dst": "10.21.0.0/16", "scope": 253},
    ]);
    let pod = stage.add("c1", conf)?;
    for (args, part) in [
        ("route show table 77", "10.20.0.0/16 via 10.9.0.2"),
        ("route show 10.21.0.0/16", "scope link"),
    ] {
        let live = pod.pod.ip(args)?;
        ensure!(live.contains(part), "expected {part:?}, got {live:?}");
    }
    let main = pod.pod.ip("route show 10.20.0.0/16")?;
    same("in the main table", "", main.trim())
}

fn mixed(stage: &Stage<'_>) -> Result<()> {
    let wished = ["10.9.0.7/24", "fd00:9::7/64", "fd00:9::8/64"];
    for version in versions(stage, "0.3.0", "9") {
        in_version(stage, version, &stage.addressed(&wished), |pod| {
            let told = pod.result["ips"].as_array().map(Vec::len);
            same("addresses in the result", Some(3), told)?;
            let mut live = addresses(&pod.pod, IFNAME)?;
            live.sort();
            same("addresses", wished.map(str::to_owned).to_vec(), live)
        })?;
    }
    Ok(())
}

fn mtu(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.add("c1", stage.addressed(&BOTH[..1]))?;
    let live = pod.pod.link(IFNAME)?["mtu"].clone();
    same("mtu", &live, &pod.result["interfaces"][2]["mtu"])
}

fn dns(stage: &Stage<'_>) -> Result<()> {
    let own = json!({"nameservers": ["10.9.0.2"], "domain": "b.example"});
    for version in &stage.template.versions {
        let mut conf = stage.addressed(&BOTH[..1]);
        conf["ipam"]["dns"] = json!({"nameservers": ["10.9.0.1"]});
        conf["dns"] = own.clone();
        in_version(stage, version, &conf, |pod| {
            same("dns", &own, &pod.result["dns"])
        })?;
    }
    Ok(())
}

fn prev_result(stage: &Stage<'_>) -> Result<()> {
    let earlier = json!({
        "cniVersion": stage.template.newest(),
        "interfaces": [{"name": "first0", "mac": "02:00:00:00:00:01"}],
        "ips": [{"address": "192.0.2.7/24", "interface": 0}],
    });
    let conf = with(stage.addressed(&BOTH[..1]), json!({"prevResult": earlier}));
    let pod = stage.add("c1", conf)?;
    let list = pod.result["interfaces"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let names: Vec<&str> = list.iter().filter_map(|one| one["name"].as_str()).collect();
    ensure!(names.contains(&"first0"), "expected first0, got {names:?}");
    ensure!(names.contains(&IFNAME), "expected {IFNAME}, got {names:?}");
    Ok(())
}
