//! What concerns a network and not one attachment: STATUS, GC, the shapes of results.

use std::fs;

use berth_tests::{Need, Port, Result, Space, Test, ensure, test};
use serde_json::{Value, json};

use crate::kit::{
    Attached, IFNAME, code, conf, fixed, of_network, of_vf, plugin, record_file, refused, with,
};
use crate::stage::{Case, Stage};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("status_gc_and_results", &[Need::Sriov], |node| {
            Stage::set(node, &[(Port::Pf0, 3)])?.run(&CASES)
        })
        .at_home()
        .limit(crate::LIMIT),
    ]
}

const CASES: [Case; 4] = [
    ("version", version),
    ("status", status),
    ("gc", gc),
    ("results", results),
];

fn version(_: &Stage<'_>) -> Result<()> {
    let reply = of_network("VERSION", &json!({"cniVersion": "1.1.0"}))?;
    let all = &reply.result()?["supportedVersions"];
    assert_eq!(
        *all,
        json!([
            "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"
        ])
    );
    let bare = plugin()?.raw(&[], b"")?;
    ensure!(
        bare.status.success() && bare.stderr.contains("cni-sriov"),
        "{bare:?}"
    );
    Ok(())
}

fn status(stage: &Stage<'_>) -> Result<()> {
    let ask = |keys: Value| of_network("STATUS", &conf("net", keys));
    for fine in [
        json!({"master": "pf0"}),
        json!({"master": ["pf0", "pf1"]}),
        json!({"deviceID": stage.vfs[0].address}),
        json!({}),
    ] {
        let reply = ask(fine.clone())?;
        ensure!(
            reply.status.success() || fine == json!({}),
            "{fine}: {reply:?}"
        );
    }
    refused(
        &ask(json!({"master": "none0"}))?,
        code::NOT_READY,
        &["none0"],
    )?;
    refused(
        &ask(json!({"master": "uplink0"}))?,
        code::NOT_READY,
        &["uplink0"],
    )?;
    refused(
        &ask(json!({"master": "pf0", "vlan": 4095}))?,
        code::CONFIG,
        &["vlan"],
    )?;
    // All taken is no reason to send nobody, unless a network says so.
    let pods = (0..3).map(|n| {
        Attached::new(
            stage,
            &format!("pod{n}"),
            conf("net", json!({"master": "pf0"})),
        )
    });
    let pods: Vec<Attached> = pods.collect::<Result<_>>()?;
    ask(json!({"master": "pf0"}))?.result()?;
    for pod in pods {
        pod.del()?;
    }
    Ok(())
}

fn gc(stage: &Stage<'_>) -> Result<()> {
    let add = |network: &str, id: &str, vf: usize| {
        let keys = json!({"deviceID": stage.vfs[vf].address, "vlan": 100,
            "ipam": fixed(&["10.1.0.1/24"])});
        Attached::new(stage, id, conf(network, keys))
    };
    let [kept, lost, other] = [
        add("net", "kept", 0)?,
        add("net", "lost", 1)?,
        add("far", "other", 2)?,
    ];
    let gone = json!({"cni.dev/valid-attachments": [{"containerID": "kept", "ifname": IFNAME}]});
    // Without its key it is refused: it would remove everything.
    refused(
        &of_network("GC", &conf("net", json!({"master": "pf0"})))?,
        code::CONFIG,
        &["cni.dev/valid-attachments"],
    )?;
    let done = of_network("GC", &with(conf("net", json!({"master": "pf0"})), gone))?;
    done.result()?;
    assert_eq!(lost.pod.link_names()?, ["lo"]);
    ensure!(
        !record_file("net", "lost").exists(),
        "the lost one's record"
    );
    assert_eq!(stage.vfs[1].links(), [stage.vfs[1].name.clone()]);
    kept.must_hold()?;
    other.must_hold()?;
    // A claim without a record is found too.
    fs::remove_file(record_file("net", "kept"))?;
    let none = json!({"cni.dev/valid-attachments": []});
    of_network("GC", &with(conf("net", json!({"master": "pf0"})), none))?.result()?;
    assert_eq!(kept.pod.link_names()?, ["lo"]);
    other.must_hold()?;
    other.del()?;
    // What it knew of the VF went with the record.
    let vf = &stage.vfs[0];
    let name = vf.links().first().cloned().unwrap_or_default();
    if name != vf.name {
        stage.node.ip(&format!("link set {name} down"))?;
        stage
            .node
            .ip(&format!("link set {name} name {}", vf.name))?;
    }
    let mac = stage
        .before()
        .get(&format!("VF {} link address", vf.address));
    let mac = mac.unwrap_or_default().trim_matches('"').to_owned();
    stage.node.ip(&format!("link set pf0 vf 0 mac {mac}"))?;
    vf.unbind()?;
    vf.bind("igbvf")?;
    fs::remove_file(crate::kit::claim_file(vf)).ok();
    Ok(())
}

fn results(stage: &Stage<'_>) -> Result<()> {
    let vf = &stage.vfs[0];
    for version in ["0.2.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let keys = json!({"cniVersion": version, "mtu": 2000, "mac": "02:00:5e:10:00:11",
            "ipam": fixed(&["10.1.0.1/24"])});
        let pod = Attached::new(stage, "one", of_vf(vf, keys))?;
        let seen = &pod.result;
        assert_eq!(seen["cniVersion"], version);
        let sandbox = pod.pod.path().display().to_string();
        let mut own = json!({"name": IFNAME, "mac": "02:00:5e:10:00:11", "sandbox": sandbox});
        let mut ips = json!([{"address": "10.1.0.1/24", "interface": 0}]);
        match version {
            "0.2.0" => {
                assert_eq!(seen["ip4"]["ip"], "10.1.0.1/24");
                pod.del()?;
                continue;
            }
            "0.3.1" | "0.4.0" => ips[0]["version"] = json!("4"),
            // What 1.1.0 added is allowed in 1.0.0, whose objects are open.
            _ => {
                own["mtu"] = json!(2000);
                own["pciID"] = json!(vf.address);
            }
        }
        assert_eq!(seen["interfaces"], json!([own]), "{version}");
        assert_eq!(seen["ips"], ips, "{version}");
        if version != "0.3.1" {
            pod.must_hold()?;
        }
        pod.del()?;
    }
    Ok(())
}
