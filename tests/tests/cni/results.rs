//! What ADD answers in each version, and VERSION's list of them.

use berth_tests::{Need, Node, Result, Space, Test, ensure, test};
use serde_json::{Value, json};

use crate::stage::{Stage, VERSIONS, code, conf, conf_with, fixed};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    vec![
        test("result_with_ipv4", ROOT, |node| {
            shape(node, &["10.9.0.7/24"])
        }),
        test("result_with_ipv6", ROOT, |node| {
            shape(node, &["fd00:9::7/64"])
        }),
        test("result_with_both", ROOT, |node| {
            shape(node, &["10.9.0.7/24", "fd00:9::7/64"])
        }),
        test("result_of_layer_2", ROOT, layer_2),
        test("one_address_per_family", ROOT, one_address_per_family),
        test("absent_version_is_the_oldest", ROOT, absent_version),
        test("newer_fields_in_older_results", ROOT, newer_fields),
        test("dns", ROOT, dns),
        test("check_in_each_version", ROOT, check_in_each_version),
        test("previous_results_go_on", ROOT, previous_results_go_on),
    ]
}

fn keys(value: &Value) -> Vec<&str> {
    let object = value.as_object();
    object.map_or(Vec::new(), |o| o.keys().map(String::as_str).collect())
}

fn configuration(version: &str, addresses: &[&str]) -> Value {
    let mut conf = conf_with("cniVersion", json!(version));
    conf["ipam"] = fixed(addresses);
    conf["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "fd00:9::1"}]);
    let both = addresses.len() == 2;
    if !both {
        let index = usize::from(addresses[0].contains(':'));
        conf["ipam"]["routes"] = json!([conf["ipam"]["routes"][index]]);
    }
    conf
}

fn shape(node: &Node, addresses: &[&str]) -> Result<()> {
    let stage = Stage::set(node)?;
    for version in VERSIONS {
        let conf = configuration(version, addresses);
        node.as_before(|| {
            let result = stage.call("ADD").conf(&conf).succeeds()?;
            assert_eq!(result["cniVersion"], version);
            if version < "0.3.0" {
                legacy(&result, addresses);
            } else {
                current(&stage, &result, version, addresses)?;
            }
            let live = stage.pod.addresses("eth0")?;
            for address in addresses {
                ensure!(live.contains(&(*address).to_owned()), "{address}: {live:?}");
            }
            stage.call("DEL").conf(&conf).succeeds().map(drop)
        })?;
    }
    Ok(())
}

/// 0.1.0 and 0.2.0: a block per family, no interfaces.
fn legacy(result: &Value, addresses: &[&str]) {
    let mut expected = json!({"cniVersion": result["cniVersion"], "dns": {}});
    for address in addresses {
        let v6 = address.contains(':');
        let (key, gateway, dst) = if v6 {
            ("ip6", "fd00:9::1", "::/0")
        } else {
            ("ip4", "10.9.0.1", "0.0.0.0/0")
        };
        let route = if v6 {
            json!({"dst": dst, "gw": gateway})
        } else {
            json!({"dst": dst})
        };
        expected[key] = json!({"ip": address, "gateway": gateway, "routes": [route]});
    }
    assert_eq!(*result, expected);
}

fn current(stage: &Stage, result: &Value, version: &str, addresses: &[&str]) -> Result<()> {
    let mut wished = vec!["cniVersion", "interfaces", "ips", "routes"];
    if version < "1.0.0" {
        wished.push("dns");
        assert_eq!(result["dns"], json!({}));
    }
    wished.sort_unstable();
    let mut found = keys(result);
    found.sort_unstable();
    assert_eq!(found, wished, "{version}");
    interfaces(stage, result, version)?;
    for (index, address) in addresses.iter().enumerate() {
        let v6 = address.contains(':');
        let gateway = if v6 { "fd00:9::1" } else { "10.9.0.1" };
        let mut ip = json!({"address": address, "gateway": gateway, "interface": 2});
        if version < "1.0.0" {
            ip["version"] = json!(if v6 { "6" } else { "4" });
        }
        assert_eq!(result["ips"][index], ip, "{version}");
    }
    assert_eq!(
        result["ips"].as_array().map(Vec::len),
        Some(addresses.len())
    );
    assert_eq!(
        result["routes"].as_array().map(Vec::len),
        Some(addresses.len())
    );
    Ok(())
}

/// Bridge, port, container, in this order, with the addresses they have.
fn interfaces(stage: &Stage, result: &Value, version: &str) -> Result<()> {
    let list = &result["interfaces"];
    assert_eq!(list.as_array().map(Vec::len), Some(3));
    assert_eq!(list[0]["name"], "br0");
    let port = list[1]["name"].as_str().unwrap_or_default();
    ensure!(port.starts_with("bv") && port.len() == 14, "port {port:?}");
    assert_eq!(list[2]["name"], "eth0");
    assert_eq!(list[2]["mac"], stage.pod.link("eth0")?["address"]);
    let path = stage.pod.path().display().to_string();
    assert_eq!(list[2]["sandbox"], path);
    for host in [&list[0], &list[1]] {
        ensure!(
            host.get("sandbox").is_none(),
            "the host has no sandbox: {host}"
        );
        assert_eq!(host["mac"].as_str().map(str::len), Some(17));
    }
    assert_ne!(list[0]["mac"], list[1]["mac"]);
    if version < "1.0.0" {
        assert_eq!(keys(&list[2]).len(), 3, "{}", list[2]);
    } else if version == "1.1.0" {
        assert_eq!(list[2]["mtu"], 1500);
    }
    Ok(())
}

fn layer_2(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    for version in VERSIONS {
        for ipam in [json!(null), json!({})] {
            let mut conf = conf_with("cniVersion", json!(version));
            conf["ipam"] = ipam;
            node.as_before(|| {
                let add = stage.call("ADD").conf(&conf);
                if version < "0.3.0" {
                    // Such a result cannot be said, so the attachment cannot be.
                    add.fails_with(code::VERSION, "cannot convert: no valid IP addresses")?;
                    ensure!(!stage.pod.has_link("eth0")?, "it was not taken back");
                    return Ok(());
                }
                let result = add.succeeds()?;
                interfaces(&stage, &result, version)?;
                ensure!(result.get("ips").is_none(), "{result}");
                assert_eq!(result.get("dns").is_some(), version < "1.0.0");
                stage.call("DEL").conf(&conf).succeeds().map(drop)
            })?;
        }
    }
    Ok(())
}

fn one_address_per_family(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    for (version, addresses) in [
        ("0.1.0", ["10.9.0.7/24", "10.9.0.8/24"]),
        ("0.2.0", ["10.9.0.7/24", "10.9.0.8/24"]),
        ("0.2.0", ["fd00:9::7/64", "fd00:9::8/64"]),
    ] {
        let mut conf = conf_with("cniVersion", json!(version));
        conf["ipam"] = fixed(&addresses);
        node.as_before(|| {
            let error = stage.call("ADD").conf(&conf).fails()?;
            let msg =
                format!("CNI version {version} does not support more than 1 address per family");
            ensure!(error.code == code::VERSION, "{error:?}");
            ensure!(error.msg.contains(&msg), "{error:?}");
            Ok(())
        })?;
        conf["cniVersion"] = json!("0.3.0");
        let result = stage.call("ADD").conf(&conf).succeeds()?;
        assert_eq!(result["ips"].as_array().map(Vec::len), Some(2));
        stage.call("DEL").conf(&conf).succeeds()?;
    }
    Ok(())
}

fn absent_version(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    for version in [json!(null), json!("")] {
        let mut conf = configuration("", &["10.9.0.7/24"]);
        conf["cniVersion"] = version;
        let result = stage.call("ADD").conf(&conf).succeeds()?;
        assert_eq!(result["ip4"]["ip"], "10.9.0.7/24", "{result}");
        assert_eq!(result["cniVersion"], "0.1.0");
        stage.call("DEL").conf(&conf).succeeds()?;
    }
    Ok(())
}

/// What 1.1.0 says of a route is set, and kept in results back to 0.3.0.
fn newer_fields(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    for version in VERSIONS {
        let mut conf = configuration(version, &["10.9.0.7/24"]);
        let route = json!({"dst": "10.20.0.0/16", "gw": "10.9.0.2",
                           "mtu": 1300, "advmss": 1200, "priority": 50});
        conf["ipam"]["routes"] = json!([route]);
        let result = stage.call("ADD").conf(&conf).succeeds()?;
        if version < "0.3.0" {
            let plain = json!([{"dst": "10.20.0.0/16", "gw": "10.9.0.2"}]);
            assert_eq!(result["ip4"]["routes"], plain);
        } else {
            assert_eq!(result["routes"], json!([route]), "{version}");
        }
        let live = stage.pod.ip("route show 10.20.0.0/16")?;
        for part in ["via 10.9.0.2", "metric 50", "mtu 1300", "advmss 1200"] {
            ensure!(live.contains(part), "{part} is not in {live}");
        }
        stage.call("DEL").conf(&conf).succeeds()?;
    }
    Ok(())
}

/// The configuration's own `dns`, if it says anything, stands instead of IPAM's.
fn dns(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    let from_ipam = json!({"nameservers": ["10.9.0.1"], "search": ["a.example"]});
    let own = json!({"nameservers": ["10.9.0.2"], "domain": "b.example", "options": ["ndots:2"]});
    for version in VERSIONS {
        for (plain, expected) in [(json!({}), &from_ipam), (own.clone(), &own)] {
            let mut conf = configuration(version, &["10.9.0.7/24"]);
            conf["ipam"]["dns"] = from_ipam.clone();
            conf["dns"] = plain;
            let result = stage.call("ADD").conf(&conf).succeeds()?;
            assert_eq!(result["dns"], *expected, "{version}");
            stage.call("DEL").conf(&conf).succeeds()?;
        }
    }
    Ok(())
}

/// From 0.4.0 on; with what the runtime was told, in the version it was told in.
fn check_in_each_version(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    for version in VERSIONS.into_iter().filter(|version| *version >= "0.4.0") {
        let mut conf = configuration(version, &["10.9.0.7/24", "fd00:9::7/64"]);
        conf["prevResult"] = stage.call("ADD").conf(&conf).succeeds()?;
        let reply = stage.call("CHECK").conf(&conf).reply()?;
        assert_eq!(reply.stdout, "", "{version}");
        assert!(reply.result()?.is_null());
        stage.pod.ip("addr del 10.9.0.7/24 dev eth0")?;
        let error = stage.call("CHECK").conf(&conf).fails()?;
        ensure!(error.msg.contains("10.9.0.7/24"), "{error:?}");
        stage.call("DEL").conf(&conf).succeeds()?;
    }
    let mut without = conf();
    without["prevResult"] = json!(null);
    let error = stage.call("CHECK").conf(&without).fails()?;
    assert_eq!(
        (error.code, error.msg.as_str()),
        (7, "CHECK: required prevResult missing")
    );
    Ok(())
}

/// In a chain the result holds what was made before, and CHECK minds only our part.
fn previous_results_go_on(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    let earlier = json!({
        "interfaces": [{"name": "first0", "mac": "02:00:00:00:00:01", "sandbox": "/proc/1/ns/net"}],
        "ips": [{"address": "192.0.2.7/24", "interface": 0}],
        "routes": [{"dst": "198.51.100.0/24", "gw": "192.0.2.1"}],
        "dns": {"nameservers": ["192.0.2.53"]},
    });
    for version in ["1.0.0", "1.1.0"] {
        let mut conf = configuration(version, &["10.9.0.7/24"]);
        conf["prevResult"] = earlier.clone();
        conf["prevResult"]["cniVersion"] = json!(version);
        let result = stage.call("ADD").conf(&conf).succeeds()?;
        assert_eq!(
            result["interfaces"][0], earlier["interfaces"][0],
            "{result}"
        );
        assert_eq!(result["interfaces"][3]["name"], "eth0");
        assert_eq!(result["ips"][0], earlier["ips"][0]);
        assert_eq!(result["ips"][1]["interface"], 3);
        assert_eq!(result["routes"][0], earlier["routes"][0]);
        assert_eq!(result["routes"][1]["dst"], "0.0.0.0/0");
        assert_eq!(result["dns"], earlier["dns"]);
        assert_eq!(stage.pod.ip("route show 198.51.100.0/24")?, "");
        conf["prevResult"] = result;
        stage.call("CHECK").conf(&conf).succeeds()?;
        stage.pod.ip("route del default")?;
        let error = stage.call("CHECK").conf(&conf).fails()?;
        ensure!(error.msg.contains("0.0.0.0/0"), "{error:?}");
        stage.call("DEL").conf(&conf).succeeds()?;
    }
    Ok(())
}
