//! `args.*`: `CNI_ARGS`, `args.cni` and `runtimeConfig`.

use anyhow::Result;
use serde_json::json;

use crate::conformance::stage::{IFNAME, same};
use crate::conformance::{Case, Feature, Stage, case};
use crate::space::Space;

const ARGS: &str = "types.LoadArgs";
const CONVENTIONS: &str = "CONVENTIONS, dynamic plugin specific fields";

pub(super) fn cases() -> Vec<Case> {
    vec![
        case(
            "args.unknown",
            "an unknown key in CNI_ARGS is an error",
            ARGS,
            unknown,
        ),
        case(
            "args.ignore-unknown",
            "unless IgnoreUnknown is 1 or true",
            ARGS,
            ignored,
        ),
        case(
            "args.malformed",
            "CNI_ARGS that is no list of pairs is an error",
            ARGS,
            malformed,
        ),
        case(
            "args.mac",
            "CNI_ARGS MAC= is the container's MAC address",
            CONVENTIONS,
            |s| precedence(s, 1),
        )
        .claims(&[Feature::MacArguments]),
        case(
            "args.mac-args-cni",
            "args.cni.mac wins over it",
            CONVENTIONS,
            |s| precedence(s, 2),
        )
        .claims(&[Feature::MacArguments]),
        case(
            "args.mac-runtime",
            "runtimeConfig.mac wins over both",
            CONVENTIONS,
            |s| precedence(s, 3),
        )
        .claims(&[Feature::MacArguments]),
    ]
}

fn unknown(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("c1")?;
    let reply = stage
        .call("ADD", &pod)
        .with("CNI_ARGS", "K8S_POD_NAME=p")
        .reply()?;
    same("success", false, reply.status.success())
}

fn ignored(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("c1")?;
    for args in ["IgnoreUnknown=1;K8S_POD_NAME=p", "IgnoreUnknown=true;A=B"] {
        for verb in ["ADD", "DEL"] {
            stage.call(verb, &pod).with("CNI_ARGS", args).succeeds()?;
        }
    }
    Ok(())
}

fn malformed(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("c1")?;
    for args in ["A", "A=1=2", "IgnoreUnknown=1;A"] {
        let reply = stage.call("ADD", &pod).with("CNI_ARGS", args).reply()?;
        same(args, false, reply.status.success())?;
    }
    Ok(())
}

/// The first `places` places name a MAC address each; the last of them wins.
fn precedence(stage: &Stage<'_>, places: u8) -> Result<()> {
    let mac = |place: u8| format!("02:00:00:00:00:0{place}");
    let pod = stage.node.pod("c1")?;
    let mut conf = stage.conf();
    if places >= 2 {
        conf["args"] = json!({"cni": {"mac": mac(2)}});
    }
    if places >= 3 {
        conf["capabilities"] = json!({"mac": true});
        conf["runtimeConfig"] = json!({"mac": mac(3)});
    }
    let args = format!("MAC={}", mac(1));
    let result = stage
        .call("ADD", &pod)
        .conf(&conf)
        .with("CNI_ARGS", &args)
        .succeeds()?;
    same(
        "live",
        json!(mac(places)),
        pod.link(IFNAME)?["address"].clone(),
    )?;
    same(
        "result",
        &json!(mac(places)),
        &result["interfaces"][2]["mac"],
    )
}
