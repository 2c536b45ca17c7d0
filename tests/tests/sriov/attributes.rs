//! What the PF is told of a VF and what the VF gets inside: set, read back, taken back;
//! and what this hardware cannot do.

use berth_tests::{Attachment, Need, Port, Result, Space, Test, ensure, test};
use serde_json::{Value, json};

use crate::kit::{Attached, IFNAME, add_refused, code, conf, of_vf, plugin, refused, with};
use crate::stage::{Case, Stage};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test(
            "attributes_are_set_and_taken_back",
            &[Need::Sriov],
            |node| Stage::set(node, &[(Port::Pf0, 2)])?.run(&CASES),
        )
        .at_home()
        .limit(crate::LIMIT),
    ]
}

const CASES: [Case; 9] = [
    ("nothing_wished_nothing_told", nothing),
    ("pf_side", pf_side),
    ("link", link),
    ("preset_side_survives", preset),
    ("mac_from_each_place", mac),
    ("mac_refused", mac_refused),
    ("igb_cannot", cannot),
    ("invalid_values", invalid),
    ("failure_after_pf_side", late_failure),
];

/// The one VLAN of a VF as its PF tells it: id, priority.
fn vlan(side: &Value) -> (u64, u64) {
    let own = &side["vlan_list"][0];
    let number = |key: &str| own[key].as_u64().unwrap_or(0);
    (number("vlan"), number("qos"))
}

/// Without a key the PF's side is left alone.
fn nothing(stage: &Stage<'_>) -> Result<()> {
    let vf = &stage.vfs[0];
    let before = vf.side(stage.node)?;
    let pod = Attached::new(stage, "one", of_vf(vf, json!({})))?;
    assert_eq!(vf.side(stage.node)?, before);
    assert_eq!(pod.mac()?, before["address"].as_str().unwrap_or_default());
    assert_eq!(pod.pod.link_names()?, ["lo", IFNAME]);
    let flags = pod.pod.link(IFNAME)?["flags"].to_string();
    ensure!(flags.contains("\"UP\""), "{flags}");
    pod.must_hold()?;
    pod.del()
}

fn pf_side(stage: &Stage<'_>) -> Result<()> {
    let vf = &stage.vfs[1];
    let other = stage.vfs[0].side(stage.node)?;
    let keys = json!({"vlan": 100, "vlanQoS": 3, "spoofchk": "off", "trust": "on",
        "max_tx_rate": 200, "min_tx_rate": 0, "vlanProto": "802.1Q"});
    let pod = Attached::new(stage, "one", of_vf(vf, keys))?;
    let side = vf.side(stage.node)?;
    assert_eq!(vlan(&side), (100, 3));
    assert_eq!(side["spoofchk"], false);
    assert_eq!(side["trust"], true);
    assert_eq!(side["rate"], json!({"max_tx": 200, "min_tx": 0}));
    assert_eq!(stage.vfs[0].side(stage.node)?, other, "another VF's side");
    pod.must_hold()?;
    pod.del()
}

fn link(stage: &Stage<'_>) -> Result<()> {
    let keys = json!({"mtu": 9000, "promisc": true, "allmulti": true, "trust": "on"});
    let pod = Attached::new(stage, "one", of_vf(&stage.vfs[0], keys))?;
    let link = pod.pod.link(IFNAME)?;
    assert_eq!(link["mtu"], 9000);
    assert_eq!(pod.result["interfaces"][0]["mtu"], 9000);
    let flags = link["flags"].to_string();
    ensure!(
        flags.contains("PROMISC") && flags.contains("ALLMULTI"),
        "{flags}"
    );
    pod.must_hold()?;
    pod.del()
}

/// What an operator set on a VF by hand is what DEL brings back.
fn preset(stage: &Stage<'_>) -> Result<()> {
    let (node, vf) = (stage.node, &stage.vfs[0]);
    let pf = vf.port.name();
    for set in [
        "vlan 42 qos 1",
        "max_tx_rate 77",
        "trust on",
        "spoofchk off",
    ] {
        node.ip(&format!("link set {pf} vf 0 {set}"))?;
    }
    node.ip(&format!("link set {} mtu 1400 txqueuelen 55", vf.name))?;
    let preset = node.vf_facts(&stage.vfs, berth_tests::Look::Whole)?;
    let keys = json!({"vlan": 100, "max_tx_rate": 5, "trust": "off", "spoofchk": "on",
        "mtu": 2000});
    let pod = Attached::new(stage, "one", of_vf(vf, keys))?;
    assert_eq!(vlan(&vf.side(node)?), (100, 0));
    pod.del()?;
    preset.must_equal(&node.vf_facts(&stage.vfs, berth_tests::Look::Whole)?)?;
    // `vlan` 0 is a wish too: no tag.
    let pod = Attached::new(stage, "two", of_vf(vf, json!({"vlan": 0})))?;
    assert_eq!(vlan(&vf.side(node)?), (0, 0));
    pod.del()?;
    preset.must_equal(&node.vf_facts(&stage.vfs, berth_tests::Look::Whole)?)?;
    for set in ["vlan 0", "max_tx_rate 0", "trust off", "spoofchk on"] {
        node.ip(&format!("link set {pf} vf 0 {set}"))?;
    }
    node.ip(&format!("link set {} mtu 1500 txqueuelen 1000", vf.name))?;
    Ok(())
}

/// Each place beats those before it; the VF's driver takes an address the PF was told
/// of only when it is bound anew.
fn mac(stage: &Stage<'_>) -> Result<()> {
    let vf = &stage.vfs[0];
    let address = |n: u8| format!("02:00:5e:10:00:0{n}");
    for n in 1..=4 {
        let pod = stage.node.pod("one")?;
        let mut at = Attachment::of(&pod, "one", IFNAME);
        let mut conf = of_vf(vf, json!({"mac": address(1).to_uppercase()}));
        if n >= 2 {
            at.args = Some(format!("MAC={};IgnoreUnknown=1;OTHER=x", address(2)));
        }
        if n >= 3 {
            conf["args"] = json!({"cni": {"mac": address(3)}});
        }
        if n >= 4 {
            conf["runtimeConfig"] = json!({"mac": address(4)});
        }
        let pod = Attached::of(pod, at, conf)?;
        assert_eq!(pod.mac()?, address(n));
        assert_eq!(pod.result["interfaces"][0]["mac"], address(n));
        assert_eq!(vf.side(stage.node)?["address"], address(n), "the PF's view");
        pod.must_hold()?;
        pod.del()?;
        stage.must_be_as_before(&format!("MAC from place {n}"), berth_tests::Look::Short)?;
    }
    Ok(())
}

fn mac_refused(stage: &Stage<'_>) -> Result<()> {
    let vf = &stage.vfs[0];
    for bad in [
        "01:00:5e:00:00:01",
        "00:00:00:00:00:00",
        "ff:ff:ff:ff:ff:ff",
        "02:00:5e:10:00",
        "x",
    ] {
        add_refused(stage, &of_vf(vf, json!({"mac": bad})), code::CONFIG, &[bad])?;
    }
    let pod = stage.node.pod("one")?;
    let mut at = Attachment::of(&pod, "one", IFNAME);
    at.args = Some("OTHER=x".into());
    let reply = plugin()?.call("ADD", &at, &of_vf(vf, json!({})))?;
    refused(&reply, code::ENVIRONMENT, &["OTHER=x", "IgnoreUnknown=1"])?;
    Ok(())
}

/// The error names the PF, the VF, the driver and the attribute, and all that was told
/// before it is taken back.
fn cannot(stage: &Stage<'_>) -> Result<()> {
    let vf = &stage.vfs[0];
    let all = [
        (json!({"link_state": "enable"}), "link_state"),
        (json!({"link_state": "disable"}), "link_state"),
        (json!({"vlan": 100, "vlanProto": "802.1ad"}), "vlanProto"),
        (
            json!({"min_tx_rate": 10, "max_tx_rate": 100}),
            "min_tx_rate",
        ),
        (json!({"max_tx_rate": 2000}), "max_tx_rate"),
    ];
    for (keys, attribute) in all {
        let keys = with(keys, json!({"spoofchk": "off", "trust": "on"}));
        let error = add_refused(
            stage,
            &of_vf(vf, keys),
            code::KERNEL,
            &["pf0", &vf.address, attribute],
        )?;
        let text = format!("{}: {}", error.msg, error.details);
        ensure!(text.contains("igb"), "the driver is not named: {text}");
        stage.must_be_as_before(attribute, berth_tests::Look::Short)?;
    }
    // What changes nothing needs no support.
    let keys = json!({"link_state": "auto", "min_tx_rate": 0});
    let pod = Attached::new(stage, "one", of_vf(vf, keys))?;
    pod.must_hold()?;
    pod.del()
}

fn invalid(stage: &Stage<'_>) -> Result<()> {
    let vf = &stage.vfs[0];
    let all = [
        (json!({"vlan": 4095}), "vlan"),
        (json!({"vlan": -1}), "vlan"),
        (json!({"vlan": "100"}), "vlan"),
        (json!({"vlan": 100, "vlanQoS": 8}), "vlanQoS"),
        (json!({"vlanQoS": 1}), "vlanQoS"),
        (json!({"vlan": 0, "vlanQoS": 1}), "vlanQoS"),
        (json!({"vlanProto": "802.1ad"}), "vlanProto"),
        (json!({"vlan": 100, "vlanProto": "802"}), "vlanProto"),
        (json!({"spoofchk": "On"}), "spoofchk"),
        (json!({"spoofchk": true}), "spoofchk"),
        (json!({"trust": "yes"}), "trust"),
        (json!({"link_state": "up"}), "link_state"),
        (
            json!({"min_tx_rate": 100, "max_tx_rate": 10}),
            "min_tx_rate",
        ),
        (json!({"max_tx_rate": -1}), "max_tx_rate"),
        (json!({"mtu": 20}), "mtu"),
        (json!({"mtu": 9001}), "mtu"),
        (json!({"promisc": true}), "trust"),
        (json!({"allmulti": true, "trust": "off"}), "trust"),
        (json!({"policy": "best"}), "policy"),
        (json!({"irq": {"policy": "all"}}), "irq"),
        (json!({"irq": {"policy": "cpus"}}), "irq"),
        (json!({"rps": {"cpus": "0x3"}}), "rps"),
        (json!({"xps": {"cpu": "1"}}), "xps"),
    ];
    for (keys, key) in all {
        add_refused(stage, &of_vf(vf, keys), code::CONFIG, &[key])?;
    }
    for (keys, right) in [
        (json!({"max-tx-rate": 5}), "max_tx_rate"),
        (json!({"VLAN": 5}), "vlan"),
        (json!({"spoofCheck": "on"}), "spoofchk"),
        (json!({"vlanQos": 1}), "vlanQoS"),
    ] {
        add_refused(stage, &of_vf(vf, keys), code::CONFIG, &[right])?;
    }
    add_refused(
        stage,
        &conf("net", json!({})),
        code::CONFIG,
        &["master", "deviceID"],
    )?;
    add_refused(
        stage,
        &of_vf(vf, json!({"pfOnly": true})),
        code::UNSUPPORTED,
        &["pfOnly"],
    )?;
    // Keys that others inject are no business of ours.
    let keys = json!({"pciBusID": "x", "cni.dev/valid-attachments": [], "somebodys": 1});
    let pod = Attached::new(stage, "one", of_vf(vf, keys))?;
    pod.del()
}

/// Everything was told and moved when the addresses cannot be given.
fn late_failure(stage: &Stage<'_>) -> Result<()> {
    let ipam = json!({"type": "static", "addresses": [{"address": "10.1.0.1/24"}],
        "routes": [{"dst": "10.8.0.0/16", "gw": "192.168.7.1"}]});
    let keys = json!({"vlan": 100, "trust": "on", "mtu": 4000, "mac": "02:00:5e:10:00:07",
        "rps": {"cpus": "1-3"}, "irq": {"policy": "cpus", "cpus": "5"}, "ipam": ipam});
    add_refused(
        stage,
        &of_vf(&stage.vfs[1], keys),
        code::KERNEL,
        &["10.8.0.0/16"],
    )?;
    Ok(())
}
