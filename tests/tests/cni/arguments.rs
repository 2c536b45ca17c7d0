//! `CNI_ARGS`, and which place a datum is taken from when several have it.

use berth_tests::{Need, Node, Result, Space, Test, ensure, test};
use serde_json::{Value, json};

use crate::stage::{Stage, code, conf, conf_with, fixed};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    vec![
        test("unknown_args", ROOT, unknown_args),
        test("malformed_args", ROOT, malformed_args),
        test("mac_by_precedence", ROOT, mac_by_precedence),
        test("addresses_by_precedence", ROOT, addresses_by_precedence),
        test("invalid_values_name_their_place", ROOT, invalid_values),
    ]
}

fn unknown_args(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    node.as_before(|| {
        for (args, listed) in [
            ("K8S_POD_NAME=p", "[\"K8S_POD_NAME=p\"]"),
            ("A=1;MAC=02:00:00:00:00:01;B=2", "[\"A=1\", \"B=2\"]"),
            ("A=1;IgnoreUnknown=0", "[\"A=1\"]"),
            ("A=1;IgnoreUnknown=false", "[\"A=1\"]"),
            // Without IPAM nobody reads an address.
            ("IP=10.9.0.7/24", "[\"IP=10.9.0.7/24\"]"),
        ] {
            let call = stage.call("ADD").with("CNI_ARGS", args);
            let error = call.fails_with(code::ENV, "CNI_ARGS: unknown args ")?;
            ensure!(error.msg.ends_with(listed), "{listed} is not in {error:?}");
        }
        Ok(())
    })?;
    for args in [
        "IgnoreUnknown=1;K8S_POD_NAME=p",
        "K8S_POD_NAME=p;IgnoreUnknown=true",
        "IgnoreUnknown=True;A=",
        "IgnoreUnknown=0",
        "MAC=",
    ] {
        stage.call("ADD").with("CNI_ARGS", args).succeeds()?;
        stage.call("DEL").succeeds()?;
    }
    Ok(())
}

fn malformed_args(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    node.as_before(|| {
        for args in [
            "A",
            "A=1=2",
            "IgnoreUnknown=1;A",
            "=1",
            ";",
            "IgnoreUnknown=yes",
        ] {
            let error = stage.call("ADD").with("CNI_ARGS", args).fails()?;
            ensure!(
                error.code == code::ENV && error.msg.starts_with("CNI_ARGS"),
                "{error:?}"
            );
            // What cannot be read must not keep anything from being removed.
            stage.call("DEL").with("CNI_ARGS", args).succeeds()?;
        }
        Ok(())
    })
}

/// `runtimeConfig`, then `args.cni`, then `CNI_ARGS`, then the configuration: each
/// wins over all that come after it.
fn mac_by_precedence(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    let mac = |place: u8| format!("02:00:00:00:00:0{place}");
    for given in 1u8..16 {
        let has = |place: u8| given & (1 << (place - 1)) != 0;
        let mut conf = conf();
        let mut call = stage.call("ADD");
        if has(4) {
            conf["runtimeConfig"] = json!({"mac": mac(4)});
        }
        if has(3) {
            conf["args"] = json!({"cni": {"mac": mac(3)}});
        }
        if has(2) {
            call = call.with("CNI_ARGS", &format!("MAC={}", mac(2)));
        }
        if has(1) {
            conf["mac"] = json!(mac(1));
        }
        let result = call.conf(&conf).succeeds()?;
        let strongest = (1..5).rev().find(|place| has(*place)).unwrap_or_default();
        assert_eq!(
            result["interfaces"][2]["mac"],
            mac(strongest),
            "{given:04b}"
        );
        assert_eq!(stage.pod.link("eth0")?["address"], mac(strongest));
        stage.call("DEL").succeeds()?;
    }
    Ok(())
}

fn addresses_by_precedence(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    let address = |place: u8| format!("10.9.0.{place}/24");
    for given in 1u8..16 {
        let has = |place: u8| given & (1 << (place - 1)) != 0;
        let mut conf = conf_with("ipam", json!({"type": "static"}));
        let mut call = stage.call("ADD");
        if has(4) {
            conf["runtimeConfig"] = json!({"ips": [address(4)]});
        }
        if has(3) {
            conf["args"] = json!({"cni": {"ips": [address(3)]}});
        }
        if has(2) {
            call = call.with("CNI_ARGS", &format!("IP={};GATEWAY=10.9.0.9", address(2)));
        }
        if has(1) {
            conf["ipam"] = fixed(&[&address(1)]);
        }
        let result = call.conf(&conf).succeeds()?;
        let strongest = (1..5).rev().find(|place| has(*place)).unwrap_or_default();
        let ips: Vec<&Value> = result["ips"].as_array().into_iter().flatten().collect();
        assert_eq!(ips.len(), 1, "{given:04b}: {result}");
        assert_eq!(ips[0]["address"], address(strongest), "{given:04b}");
        if strongest == 2 {
            assert_eq!(ips[0]["gateway"], "10.9.0.9");
        }
        stage.call("DEL").conf(&conf).succeeds()?;
    }
    Ok(())
}

fn invalid_values(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    node.as_before(|| {
        let call = stage.call("ADD");
        for (place, call) in [
            ("runtimeConfig.mac", {
                let conf = conf_with("runtimeConfig", json!({"mac": "x"}));
                call.clone().conf(&conf)
            }),
            ("args.cni.mac", {
                let conf = conf_with("args", json!({"cni": {"mac": "01:00:5e:00:00:01"}}));
                call.clone().conf(&conf)
            }),
            ("CNI_ARGS MAC", call.clone().with("CNI_ARGS", "MAC=02:00")),
            (
                "mac",
                call.clone()
                    .conf(&conf_with("mac", json!("00:00:00:00:00:00"))),
            ),
        ] {
            let error = call.fails()?;
            ensure!(
                matches!(error.code, code::CONFIG | code::ENV) && error.msg.contains(place),
                "{place} is not in {error:?}"
            );
        }
        for (place, ips) in [
            ("runtimeConfig.ips", json!(["10.9.0.7"])),
            ("runtimeConfig.ips", json!(5)),
        ] {
            let mut conf = conf_with("ipam", json!({"type": "static"}));
            conf["runtimeConfig"] = json!({"ips": ips});
            let error = stage.call("ADD").conf(&conf).fails()?;
            ensure!(error.msg.contains(place), "{place} is not in {error:?}");
        }
        Ok(())
    })
}
