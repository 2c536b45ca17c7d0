//! Calls that come twice, late, out of order, or after the node changed under them.

use std::fs;

use berth_tests::vf::set_num_vfs;
use berth_tests::{Attachment, Context, Look, Need, Node, Port, Result, Space, Test, ensure, test};
use serde_json::{Value, json};

use crate::kit::{
    Attached, IFNAME, add_refused, claim_file, code, conf, fixed, of_vf, plugin, record_file,
    refused, with,
};
use crate::stage::{Case, Stage};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("calls_in_any_order", &[Need::Sriov], |node| {
            Stage::set(node, &[(Port::Pf0, 2)])?.run(&CASES)
        })
        .at_home()
        .limit(crate::LIMIT),
        test("vfs_made_anew_before_del", &[Need::Sriov], made_anew)
            .at_home()
            .limit(crate::LIMIT),
        test("vfs_that_were_never_up", &[Need::Sriov], never_up)
            .at_home()
            .limit(crate::LIMIT),
    ]
}

const CASES: [Case; 11] = [
    ("del_before_add_and_twice", del_twice),
    ("del_without_namespace", del_without_netns),
    ("add_of_its_own_key", own_key),
    ("namespace_replaced", replaced),
    ("late_del_of_the_old_owner", late_del),
    ("record_damaged", damaged),
    ("record_gone", record_gone),
    ("pf_renamed", pf_renamed),
    ("target_name_taken", target_taken),
    ("target_is_an_altname", target_altname),
    ("two_interfaces_of_one_pod", two),
];

fn side(stage: &Stage<'_>) -> Value {
    of_vf(
        &stage.vfs[0],
        json!({"vlan": 100, "trust": "on", "mtu": 3000, "mac": "02:00:5e:10:00:21",
            "ipam": fixed(&["10.1.0.1/24"])}),
    )
}

fn del_twice(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("one")?;
    let at = Attachment::of(&pod, "one", IFNAME);
    plugin()?.del(&at, &side(stage))?;
    let pod = Attached::of(pod, at, side(stage))?;
    for _ in 0..3 {
        pod.del()?;
        stage.must_be_as_before("DEL", Look::Short)?;
    }
    Ok(())
}

/// As runtimes send it: without a namespace, arguments, a result before.
fn del_without_netns(stage: &Stage<'_>) -> Result<()> {
    let pod = Attached::new(stage, "one", side(stage))?;
    let bare = conf("net", json!({}));
    plugin()?.del(&pod.at.without_netns(), &bare)?;
    assert_eq!(pod.pod.link_names()?, ["lo"], "found by the record");
    stage.must_be_as_before("a bare DEL", Look::Whole)?;
    plugin()?.del(&pod.at.without_netns(), &bare)
}

fn own_key(stage: &Stage<'_>) -> Result<()> {
    let pod = Attached::new(stage, "one", side(stage))?;
    let facts = pod.facts(stage)?;
    let reply = plugin()?.call("ADD", &pod.at, &pod.conf)?;
    refused(&reply, code::CONFIG, &["one", IFNAME])?;
    facts.must_equal(&pod.facts(stage)?)?;
    pod.must_hold()?;
    pod.del()
}

/// The same key in a new namespace: the old attachment is swept, the VF goes there.
fn replaced(stage: &Stage<'_>) -> Result<()> {
    let first = Attached::new(stage, "one", side(stage))?;
    first.pod.unbind()?;
    let second = Attached::new(stage, "one", side(stage))?;
    assert_eq!(first.pod.link_names()?, ["lo"], "swept");
    second.must_hold()?;
    second.del()
}

/// Its VF has another owner now, with and without a record of the old one.
fn late_del(stage: &Stage<'_>) -> Result<()> {
    let old = Attached::new(stage, "old", side(stage))?;
    let record = fs::read(record_file("net", "old"))?;
    old.del()?;
    let heir = Attached::new(
        stage,
        "heir",
        with(side(stage), json!({"vlan": 200, "mtu": 2000})),
    )?;
    let facts = heir.facts(stage)?;
    old.del()?;
    plugin()?.del(&old.at.without_netns(), &old.conf)?;
    facts.must_equal(&heir.facts(stage)?)?;
    // A DEL that was killed after it gave the VF back leaves its record.
    fs::write(record_file("net", "old"), record)?;
    old.del()?;
    facts.must_equal(&heir.facts(stage)?)?;
    ensure!(
        !record_file("net", "old").exists(),
        "the old record is left"
    );
    heir.must_hold()?;
    heir.del()
}

/// Without what ADD wrote down the VF comes home and to sane settings; nobody else gets
/// it before.
fn damaged(stage: &Stage<'_>) -> Result<()> {
    let vf = &stage.vfs[0];
    let file = record_file("net", "one");
    let truncate = |text: Vec<u8>| text[..text.len() / 2].to_vec();
    let garbage = |_: Vec<u8>| b"\x00\xff{not json".to_vec();
    let empty = |_: Vec<u8>| Vec::new();
    let damages: [(&str, fn(Vec<u8>) -> Vec<u8>); 3] = [
        ("truncated", truncate),
        ("garbage", garbage),
        ("empty", empty),
    ];
    for (what, damage) in damages {
        let pod = Attached::new(stage, "one", side(stage))?;
        fs::write(&file, damage(fs::read(&file)?))?;
        let error = pod.check()?.failure()?;
        ensure!(
            error.code == 6 && error.msg.contains("one"),
            "{what}: {error:?}"
        );
        // What it does not understand it does not delete, but all else is done.
        let error = plugin()?.call("DEL", &pod.at, &pod.later())?.failure()?;
        let text = format!("{}: {}", error.msg, error.details);
        ensure!(
            error.code == 102 && text.contains(&file.display().to_string()),
            "{what}: {error:?}"
        );
        fs::remove_file(&file)?;
        pod.del()
            .with_context(|| format!("DEL, record {what} and removed"))?;
        assert_eq!(pod.pod.link_names()?, ["lo"], "{what}");
        assert_eq!(vf.links().len(), 1, "{what}");
        let now = vf.side(stage.node)?;
        assert_eq!(now["vlan_list"][0].get("vlan"), None, "{what}: {now}");
        assert_eq!(now["trust"], false, "{what}: {now}");
        // The name and the MTU it had are lost with the record; put them back by hand.
        let name = vf.links()[0].clone();
        stage.node.ip(&format!("link set {name} down mtu 1500"))?;
        if name != vf.name {
            stage
                .node
                .ip(&format!("link set {name} name {}", vf.name))?;
        }
        own_mac(stage)?;
        stage.must_be_as_before(what, Look::Short)?;
    }
    Ok(())
}

/// Gives VF 0 the address it was made with.
fn own_mac(stage: &Stage<'_>) -> Result<()> {
    let vf = &stage.vfs[0];
    let mac = stage
        .before()
        .get(&format!("VF {} link address", vf.address));
    let mac = mac.unwrap_or_default().trim_matches('"').to_owned();
    stage.node.ip(&format!("link set pf0 vf 0 mac {mac}"))?;
    vf.unbind()?;
    vf.bind("igbvf")
}

/// By the claim and the alias alone.
fn record_gone(stage: &Stage<'_>) -> Result<()> {
    let vf = &stage.vfs[0];
    let pod = Attached::new(stage, "one", of_vf(vf, json!({"vlan": 100})))?;
    fs::remove_file(record_file("net", "one"))?;
    pod.del()?;
    assert_eq!(pod.pod.link_names()?, ["lo"]);
    let now = vf.side(stage.node)?;
    assert_eq!(now["vlan_list"][0].get("vlan"), None, "{now}");
    let name = vf.links()[0].clone();
    if name != vf.name {
        stage.node.ip(&format!("link set {name} down"))?;
        stage
            .node
            .ip(&format!("link set {name} name {}", vf.name))?;
    }
    own_mac(stage)?;
    fs::remove_file(claim_file(vf)).ok();
    Ok(())
}

fn pf_renamed(stage: &Stage<'_>) -> Result<()> {
    let node = stage.node;
    let pod = Attached::new(stage, "one", side(stage))?;
    node.ip("link set pf0 name pf0x")?;
    let outcome = pod.must_hold().and_then(|()| pod.del());
    let again = Attached::new(stage, "two", of_vf(&stage.vfs[0], json!({"vlan": 5})));
    node.ip("link set pf0x name pf0")?;
    outcome?;
    again?.del()
}

fn target_taken(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("one")?;
    pod.ip(&format!("link add {IFNAME} type bridge"))?;
    let at = Attachment::of(&pod, "one", IFNAME);
    let reply = plugin()?.call("ADD", &at, &side(stage))?;
    refused(&reply, code::CONFIG, &[IFNAME])?;
    assert_eq!(pod.link_names()?, ["lo", IFNAME]);
    Ok(())
}

/// The VF's own alternative name, or another link's, is the name it is to have.
fn target_altname(stage: &Stage<'_>) -> Result<()> {
    let (node, vf) = (stage.node, &stage.vfs[0]);
    node.ip(&format!(
        "link property add dev {} altname {IFNAME}",
        vf.name
    ))?;
    let before = node.vf_facts(&stage.vfs, Look::Whole)?;
    let outcome = Attached::new(stage, "one", side(stage)).and_then(|pod| {
        pod.must_hold()?;
        pod.del()
    });
    let after = before.must_equal(&node.vf_facts(&stage.vfs, Look::Whole)?);
    node.ip(&format!(
        "link property del dev {} altname {IFNAME}",
        vf.name
    ))?;
    outcome?;
    after?;
    let pod = stage.node.pod("two")?;
    pod.ip("link add br7 type bridge")?;
    pod.ip(&format!("link property add dev br7 altname {IFNAME}"))?;
    let at = Attachment::of(&pod, "two", IFNAME);
    let reply = plugin()?.call("ADD", &at, &side(stage))?;
    refused(&reply, code::CONFIG, &[IFNAME])?;
    assert_eq!(pod.link_names()?, ["lo", "br7"]);
    Ok(())
}

/// Both up, each with its own name, DEL of one leaves the other.
fn two(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("one")?;
    let plugin = plugin()?;
    let at = ["net1", "net2"].map(|name| Attachment::of(&pod, "one", name));
    let conf = conf("net", json!({"master": "pf0"}));
    for at in &at {
        plugin.add(at, &conf)?;
    }
    assert_eq!(pod.link_names()?.len(), 3);
    plugin.del(&at[0], &conf)?;
    assert_eq!(pod.link_names()?, ["lo", "net2"]);
    plugin.del(&at[1], &conf)
}

/// All VFs were taken away and made anew while containers had them: DEL finds them new
/// and leaves them so.
fn made_anew(node: &Node) -> Result<()> {
    let mut stage = Stage::set(node, &[(Port::Pf0, 2)])?;
    let pod = Attached::new(&stage, "one", side(&stage))?;
    let gone = Attached::new(&stage, "two", of_vf(&stage.vfs[1], json!({"vlan": 7})))?;
    set_num_vfs(Port::Pf0, 1)?;
    add_refused(
        &stage,
        &conf("net", json!({"master": "pf0"})),
        code::AGAIN,
        &["one"],
    )?;
    pod.del().context("DEL of a VF made anew")?;
    gone.del().context("DEL of a VF that is gone")?;
    let files = crate::stage::kept_files();
    ensure!(files.is_empty(), "left: {files:?}");
    let side = stage.vfs[0].side(node)?;
    assert_eq!(side["vlan_list"][0].get("vlan"), None, "{side}");
    stage.mend()?;
    let pod = Attached::new(&stage, "three", of_vf(&stage.vfs[1], json!({})))?;
    pod.must_hold()?;
    pod.del()?;
    stage.must_be_as_before("VFs made anew", Look::Whole)
}

/// Their PF was told no address of them yet: the first `up` does that, and it is no
/// reason to keep them from others.
fn never_up(node: &Node) -> Result<()> {
    node.port_up(Port::Pf0)?;
    node.write("/sys/class/net/pf0/device/sriov_numvfs", "2")?;
    let find = || -> Result<Option<String>> {
        let mut names = fs::read_dir("/sys/class/net/pf0/device/virtfn0/net")?;
        Ok(names
            .next()
            .transpose()?
            .map(|entry| entry.file_name().to_string_lossy().into_owned()))
    };
    let name = find()?.context("VF 0 has no link")?;
    let mac = node.link(&name)?["address"].clone();
    let pod = node.pod("one")?;
    let at = Attachment::of(&pod, "one", IFNAME);
    let conf = conf("net", json!({"master": "pf0", "vf": 0, "vlan": 100}));
    for _ in 0..2 {
        let result = plugin()?.add(&at, &conf)?;
        assert_eq!(result["interfaces"][0]["mac"], mac);
        plugin()?.check(&at, &with(conf.clone(), json!({"prevResult": result})))?;
        plugin()?.del(&at, &conf)?;
        let files = crate::stage::kept_files();
        ensure!(files.is_empty(), "left: {files:?}");
        assert_eq!(find()?, Some(name.clone()));
        assert_eq!(node.link(&name)?["address"], mac);
    }
    Ok(())
}
