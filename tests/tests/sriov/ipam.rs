//! An IPAM plugin that is slow, and one that cannot release: calls that meet meanwhile,
//! and what is done all the same.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use berth_tests::{Attachment, Context, Look, Result, Space, ensure, poll};
use serde_json::{Value, json};

use crate::kit::{IFNAME, code, of_vf, plugin, record_file, refused};
use crate::stage::Stage;

/// Where the IPAM plugin is; `slow` beside it makes its ADD take a second, `broken`
/// makes its DEL fail.
const CNI_PATH: &str = "/run/plugins";
const SCRIPT: &str = r#"#!/bin/sh
echo "$CNI_COMMAND $CNI_CONTAINERID" >>/run/plugins/asked
case $CNI_COMMAND in
ADD)
    if [ -e /run/plugins/slow ]; then sleep 1; fi
    echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.7/24"}]}'
    ;;
DEL)
    if [ -e /run/plugins/broken ]; then
        echo '{"code": 11, "msg": "the pool is offline"}'
        exit 1
    fi
    ;;
esac
"#;

fn at(stage: &Stage<'_>) -> Result<(berth_tests::Pod, Attachment, Value)> {
    fs::create_dir_all(CNI_PATH)?;
    let path = Path::new(CNI_PATH).join("pool");
    fs::write(&path, SCRIPT)?;
    fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    for file in ["slow", "broken", "asked"] {
        fs::remove_file(Path::new(CNI_PATH).join(file)).ok();
    }
    let pod = stage.node.pod("one")?;
    let mut at = Attachment::of(&pod, "one", IFNAME);
    at.cni_path = Some(CNI_PATH.into());
    let keys = json!({"vlan": 100, "ipam": {"type": "pool"}});
    Ok((pod, at, of_vf(&stage.vfs[0], keys)))
}

/// While an ADD runs, another of the same key is told to try again, and DEL waits for
/// it and then takes all of it back.
pub(crate) fn slow(stage: &Stage<'_>) -> Result<()> {
    let (pod, at, conf) = at(stage)?;
    fs::write(Path::new(CNI_PATH).join("slow"), "")?;
    let plugin = plugin()?;
    let running = plugin.start("ADD", &at, &conf)?;
    let record = record_file("net", "one");
    poll("record of the ADD", Duration::from_secs(10), || {
        Ok(record.exists().then_some(()))
    })?;
    let again = plugin.call("ADD", &at, &conf)?;
    refused(&again, code::AGAIN, &["one"])?;
    plugin.del(&at, &conf)?;
    ensure!(pod.link_names()? == ["lo"], "DEL came before the ADD ended");
    running.finish()?.result().context("the ADD")?;
    stage.must_be_as_before("DEL beside ADD", Look::Short)
}

/// The VF goes back although the addresses cannot be released; a later DEL does that.
pub(crate) fn broken(stage: &Stage<'_>) -> Result<()> {
    let (pod, at, conf) = at(stage)?;
    let plugin = plugin()?;
    plugin.add(&at, &conf)?;
    fs::write(Path::new(CNI_PATH).join("broken"), "")?;
    for _ in 0..2 {
        let reply = plugin.call("DEL", &at, &conf)?;
        refused(&reply, 102, &["pool is offline", "DEL again"])?;
        ensure!(pod.link_names()? == ["lo"], "the VF is still inside");
        ensure!(record_file("net", "one").exists(), "the record is gone");
    }
    // The VF is not kept from others meanwhile.
    let other = crate::kit::Attached::new(stage, "two", of_vf(&stage.vfs[0], json!({})))?;
    let facts = other.facts(stage)?;
    fs::remove_file(Path::new(CNI_PATH).join("broken"))?;
    plugin.del(
        &at.without_netns(),
        &json!({"cniVersion": "1.1.0", "name": "net", "type": "x"}),
    )?;
    facts.must_equal(&other.facts(stage)?)?;
    let asked = fs::read_to_string(Path::new(CNI_PATH).join("asked"))?;
    ensure!(asked.matches("DEL one").count() >= 3, "asked: {asked}");
    other.del()
}
