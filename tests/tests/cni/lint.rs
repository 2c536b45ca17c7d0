//! The plugin at a person's hands: it explains a configuration, changes nothing, and says
//! by its exit status what would become of an ADD.

use std::fs;
use std::process::Command;

use berth_tests::command::{self, COMMAND_LIMIT, Finished};
use berth_tests::{Context, Need, Node, Plugin, Result, Test, ensure, test};
use serde_json::{Value, json};

use crate::stage::{Stage, conf};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    vec![
        test("lint_foretells_add", ROOT, foretells),
        test("lint_looks_at_the_node_if_asked", ROOT, at_the_node),
        test("lint_exits_2_on_wrong_usage", ROOT, usage),
        test("a_runtimes_call_is_none_of_lints", ROOT, protocol_first),
    ]
}

fn run(words: &[&str]) -> Result<Finished> {
    let plugin = Plugin::find("cni-bridge-vlan")?;
    let mut command = Command::new(plugin.path());
    command.args(words).env_remove("CNI_COMMAND");
    command::start(&mut command, b"")?.finish(COMMAND_LIMIT)
}

fn file(name: &str, document: &Value) -> Result<String> {
    let path = format!("/run/{name}");
    fs::write(&path, document.to_string()).context("write a configuration")?;
    Ok(path)
}

fn exits(words: &[&str], status: i32, says: &[&str]) -> Result<Finished> {
    let done = run(words)?;
    let all = format!("{words:?}: {done:?}");
    ensure!(done.status.code() == Some(status), "not {status}: {all}");
    for text in says {
        let said = done.stdout.contains(text) || done.stderr.contains(text);
        ensure!(said, "{text:?} is missing: {all}");
    }
    Ok(done)
}

/// What is refused here is refused there with the same words, and what is not, is not.
fn foretells(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    let with = |keys: Value| {
        let mut all = conf();
        let own = all.as_object_mut().into_iter();
        own.for_each(|map| map.extend(keys.as_object().cloned().unwrap_or_default()));
        all
    };
    node.as_before(|| {
        for (keys, says) in [
            (
                json!({"mtu": "1500"}),
                Some("mtu = \"1500\": want a whole number"),
            ),
            (json!({"VLAN": 100}), Some("did you mean \"vlan\"?")),
            (
                json!({"ipMasqBackend": "iptables"}),
                Some("is not supported"),
            ),
            (
                json!({"ipam": {"type": "none-such"}}),
                Some("none built in"),
            ),
            (json!({"isDefaultGateway": true, "hairpinMode": true}), None),
        ] {
            let document = with(keys);
            let path = file("lint.conf", &document)?;
            let call = stage
                .call("ADD")
                .with("CNI_PATH", "/opt/cni/bin:/usr/lib/cni");
            let call = call.conf(&document);
            match says {
                Some(says) => {
                    let error = call.fails()?;
                    ensure!(error.msg.contains(says), "{error:?}");
                    exits(&["--lint", &path], 1, &[&error.msg, &error.details])?;
                }
                None => {
                    call.succeeds()?;
                    stage.call("DEL").succeeds()?;
                    let done = exits(&["--lint", &path], 0, &["nothing is wrong with it"])?;
                    ensure!(done.stderr.is_empty(), "{}", done.stderr);
                }
            }
            fs::remove_file(path)?;
        }
        Ok(())
    })
}

fn at_the_node(node: &Node) -> Result<()> {
    node.as_before(|| {
        let path = file("lint.conf", &conf())?;
        exits(
            &["--lint", &path, "--node"],
            0,
            &["is not there: it is made"],
        )?;
        let mut other = conf();
        other["uplink"] = "none0".into();
        let path = file("lint.conf", &other)?;
        exits(&["--lint", &path], 0, &["uplink none0"])?;
        let says = ["on this node", "none0", "does not exist"];
        exits(&["--lint", &path, "--node"], 1, &says)?;
        Ok(fs::remove_file(path)?)
    })
}

fn usage(node: &Node) -> Result<()> {
    node.as_before(|| {
        exits(&["--lint"], 2, &["needs the name of a file"])?;
        exits(
            &["--lint", "/run/none.conf"],
            2,
            &["cannot read /run/none.conf"],
        )?;
        exits(&["--wrong"], 2, &["--wrong", "--help"])?;
        let other = json!({"cniVersion": "1.0.0", "name": "n",
            "plugins": [{"type": "bridge"}, {"type": "tuning"}]});
        let path = file("lint.conflist", &other)?;
        exits(
            &["--lint", &path],
            2,
            &["no plugin of this list", "bridge, tuning"],
        )?;
        fs::write(&path, "{")?;
        exits(
            &["--lint", &path],
            1,
            &["no network configuration", "is no JSON"],
        )?;
        exits(&["--help"], 0, &["--lint FILE", "Exit status"])?;
        exits(
            &["--version"],
            0,
            &["cni-bridge-vlan ", env!("CARGO_PKG_VERSION")],
        )?;
        Ok(fs::remove_file(path)?)
    })
}

/// A wrapper may pass arguments: with CNI_COMMAND set they mean nothing, as ever.
fn protocol_first(_node: &Node) -> Result<()> {
    let plugin = Plugin::find("cni-bridge-vlan")?;
    let mut command = Command::new(plugin.path());
    command.arg("--lint").env("CNI_COMMAND", "VERSION");
    let done = command::start(&mut command, b"")?.finish(COMMAND_LIMIT)?;
    ensure!(done.status.success(), "{done:?}");
    ensure!(done.stdout.contains("supportedVersions"), "{done:?}");
    Ok(())
}
