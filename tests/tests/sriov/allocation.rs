//! Which VF an ADD takes, and which it leaves to others.

use std::collections::BTreeSet;
use std::fs;

use berth_tests::{
    Attachment, Context, Need, Pod, Port, Result, Running, Space, Test, Vf, ensure, test,
};
use serde_json::{Value, json};

use crate::kit::{
    Attached, Cgroup, IFNAME, add_refused, claim_file, code, conf, of_vf, plugin, refused, with,
};
use crate::stage::{Case, Stage};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("a_vf_is_chosen", &[Need::Sriov, Need::CgroupV2], |node| {
            Stage::set(node, &[(Port::Pf0, 2), (Port::Pf1, 3)])?.run(&CASES)
        })
        .at_home()
        .limit(crate::LIMIT),
        test("twenty_at_once_for_seven", &[Need::Sriov], |node| {
            Stage::set(node, &[(Port::Pf0, 7)])?.run(&[("crowd", crowd)])
        })
        .at_home()
        .limit(crate::LIMIT),
    ]
}

const CASES: [Case; 8] = [
    ("by_device", by_device),
    ("by_master", by_master),
    ("by_index", by_index),
    ("by_policy", by_policy),
    ("distinct_pfs", distinct),
    ("held_ones_are_named", held),
    ("others_use_it", used_by_others),
    ("unusable", unusable),
];

/// ADD from these masters with these keys; the VF's place on the stage.
fn taken(stage: &Stage<'_>, id: &str, keys: Value) -> Result<(Attached, usize)> {
    let pod = Attached::new(stage, id, conf("net", keys))?;
    let address = pod.address()?;
    let place = stage.vfs.iter().position(|vf| vf.address == address);
    let place = place.with_context(|| format!("{address} is none of the stage's"))?;
    assert_eq!(pod.result["interfaces"][0]["pciID"], address);
    Ok((pod, place))
}

fn pf_address(vf: &Vf) -> Result<String> {
    let path = fs::read_link(vf.sysfs().join("physfn"))?;
    let name = path.file_name().context("physfn leads nowhere")?;
    Ok(name.to_string_lossy().into_owned())
}

/// The scheduler's choice beats the configuration's.
fn by_device(stage: &Stage<'_>) -> Result<()> {
    let vfs = &stage.vfs;
    let (first, place) = taken(stage, "one", json!({"deviceID": vfs[1].address}))?;
    assert_eq!(place, 1);
    let keys = json!({"deviceID": vfs[0].address,
        "runtimeConfig": {"deviceID": vfs[3].address}});
    let (second, place) = taken(stage, "two", keys)?;
    assert_eq!(place, 3);
    // Only one of the PF that is asked for.
    let wrong = json!({"deviceID": vfs[0].address, "master": "pf1"});
    add_refused(
        stage,
        &conf("net", wrong),
        code::CONFIG,
        &["pf0", &vfs[0].address],
    )?;
    first.del()?;
    second.del()
}

fn by_master(stage: &Stage<'_>) -> Result<()> {
    let pf1 = pf_address(&stage.vfs[2])?;
    for master in [json!("pf1"), json!(pf1), json!(["pf1"]), json!([pf1])] {
        let (pod, place) = taken(stage, "one", json!({"master": master}))?;
        assert_eq!(place, 2, "{master}: the first by index");
        pod.del()?;
    }
    let nothing = json!({"master": "uplink0"});
    add_refused(
        stage,
        &conf("net", nothing),
        code::VF_UNUSABLE,
        &["uplink0", "no VFs"],
    )?;
    for gone in ["none0", "0000:99:00.0"] {
        let keys = json!({"master": gone});
        add_refused(stage, &conf("net", keys), code::CONFIG, &[gone])?;
    }
    Ok(())
}

fn by_index(stage: &Stage<'_>) -> Result<()> {
    for (index, wish) in [(0, 2), (2, 4)] {
        let keys = json!({"master": "pf1", "vf": index});
        let (pod, place) = taken(stage, "one", keys.clone())?;
        assert_eq!(place, wish);
        add_refused(
            stage,
            &conf("net", keys),
            code::AGAIN,
            &[&stage.vfs[wish].address, "one"],
        )?;
        pod.del()?;
    }
    let keys = json!({"master": "pf0", "vf": 2});
    add_refused(stage, &conf("net", keys), code::VF_UNUSABLE, &["pf0", "2"])?;
    Ok(())
}

/// Two free at pf0, three at pf1.
fn by_policy(stage: &Stage<'_>) -> Result<()> {
    let both = |keys: Value| with(json!({"master": ["pf0", "pf1"]}), keys);
    let (pod, place) = taken(stage, "one", both(json!({"policy": "pack"})))?;
    assert_eq!(place, 0, "the PF with the fewest free ones");
    pod.del()?;
    let (pod, place) = taken(stage, "two", both(json!({"policy": "spread"})))?;
    assert_eq!(place, 2, "the PF with the most free ones");
    pod.del()?;
    for (cpus, wish) in [("2-3", 0), ("10-11", 2)] {
        let cgroup = Cgroup::with_cpus("sriov-test", cpus)?;
        let keys = json!({"runtimeConfig": {"cgroupPath": cgroup.path()}});
        let (pod, place) = taken(stage, "three", both(keys))?;
        assert_eq!(place, wish, "the PF of the node of CPUs {cpus}");
        pod.del()?;
    }
    Ok(())
}

fn distinct(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.node.pod("one")?;
    let conf = conf(
        "net",
        json!({"master": ["pf0", "pf1"], "policy": "pack", "distinctPf": true}),
    );
    let plugin = plugin()?;
    let mut ports = BTreeSet::new();
    for ifname in ["net1", "net2"] {
        let at = Attachment::of(&pod, "one", ifname);
        let result = plugin.add(&at, &conf)?;
        let address = &result["interfaces"][0]["pciID"];
        let vf = stage.vfs.iter().find(|vf| *address == vf.address.as_str());
        ports.insert(vf.context("a VF of the stage")?.port.name());
    }
    assert_eq!(ports.len(), 2, "both from {ports:?}");
    let third = Attachment::of(&pod, "one", "net3");
    let reply = plugin.call("ADD", &third, &conf)?;
    refused(&reply, code::AGAIN, &["distinctPf"])?;
    for ifname in ["net1", "net2"] {
        plugin.del(&Attachment::of(&pod, "one", ifname), &conf)?;
    }
    Ok(())
}

/// Whoever asks in vain learns who has what.
fn held(stage: &Stage<'_>) -> Result<()> {
    let keys = json!({"master": "pf0"});
    let (one, _) = taken(stage, "one", keys.clone())?;
    let (two, _) = taken(stage, "two", keys.clone())?;
    let (first, second) = (&stage.vfs[0].address, &stage.vfs[1].address);
    add_refused(
        stage,
        &conf("net", keys.clone()),
        code::AGAIN,
        &["pf0", first, "one", second, "two"],
    )?;
    add_refused(
        stage,
        &of_vf(&stage.vfs[0], json!({})),
        code::AGAIN,
        &[first, "one"],
    )?;
    two.del()?;
    let (two, place) = taken(stage, "three", keys)?;
    assert_eq!(place, 1, "the one that is free again");
    one.del()?;
    two.del()
}

/// A VF the host itself uses is not free, and is left as it is.
fn used_by_others(stage: &Stage<'_>) -> Result<()> {
    let (node, vf) = (stage.node, &stage.vfs[0]);
    let name = &vf.name;
    let all = [
        (
            "link add br9 type bridge",
            format!("link set {name} master br9"),
            format!("link set {name} nomaster"),
            "link del br9",
            "br9",
        ),
        (
            "link show lo",
            format!("link add up9 link {name} type macvlan"),
            "link del up9".to_owned(),
            "link show lo",
            "up9",
        ),
        (
            "link show lo",
            format!("addr add 10.99.0.1/24 dev {name}"),
            format!("addr del 10.99.0.1/24 dev {name}"),
            "link show lo",
            "10.99.0.1",
        ),
    ];
    for (before, use_it, leave_it, after, says) in all {
        node.ip(before)?;
        node.ip(&use_it)?;
        add_refused(
            stage,
            &of_vf(vf, json!({})),
            code::AGAIN,
            &[&vf.address, says],
        )?;
        let (pod, place) = taken(stage, "one", json!({"master": "pf0"}))?;
        assert_eq!(place, 1, "with {use_it} the other is taken");
        pod.del()?;
        node.ip(&leave_it)?;
        node.ip(after)?;
    }
    reserved(stage)?;
    // In somebody's namespace it is nowhere to be taken from.
    let away = node.pod("away")?;
    node.move_link(name, &away, "theirs")?;
    add_refused(stage, &of_vf(vf, json!({})), code::AGAIN, &[&vf.address])?;
    away.ip(&format!("link set theirs netns 1 name {name}"))?;
    Ok(())
}

/// `node.json` keeps VFs for other purposes.
fn reserved(stage: &Stage<'_>) -> Result<()> {
    fs::create_dir_all("/run/berth")?;
    let text = json!({"format": 1, "reserved_vfs": [stage.vfs[0].address]}).to_string();
    fs::write("/run/berth/node.json", text)?;
    let keys = of_vf(&stage.vfs[0], json!({}));
    let outcome = add_refused(
        stage,
        &keys,
        code::AGAIN,
        &[&stage.vfs[0].address, "reserved"],
    );
    fs::remove_file("/run/berth/node.json")?;
    outcome.map(|_| ())
}

/// Without a driver, and with one that makes no link.
fn unusable(stage: &Stage<'_>) -> Result<()> {
    let vf = &stage.vfs[0];
    vf.unbind()?;
    let outcome = (|| {
        let keys = of_vf(vf, json!({}));
        add_refused(stage, &keys, code::VF_UNUSABLE, &[&vf.address, "driver"])?;
        let (pod, place) = taken(stage, "one", json!({"master": "pf0"}))?;
        assert_eq!(place, 1);
        pod.del()?;
        with_vfio(stage, vf)
    })();
    vf.bind("igbvf")?;
    outcome?;
    // Its address is another now, since its PF was told none.
    let before = stage
        .before()
        .get(&format!("VF {} PF side address", vf.address));
    let mac = before.unwrap_or_default().trim_matches('"').to_owned();
    stage.node.ip(&format!("link set pf0 vf 0 mac {mac}"))?;
    vf.unbind()?;
    vf.bind("igbvf")
}

/// `vfio-pci` needs an IOMMU to bind; this driver serves a program as well and needs
/// none.
fn with_vfio(stage: &Stage<'_>, vf: &Vf) -> Result<()> {
    stage.node.run("modprobe uio_pci_generic")?;
    let over = vf.sysfs().join("driver_override");
    fs::write(&over, "uio_pci_generic")?;
    let outcome = vf.bind("uio_pci_generic").and_then(|()| {
        let keys = of_vf(vf, json!({}));
        let says = [vf.address.as_str(), "uio_pci_generic"];
        add_refused(stage, &keys, code::VF_UNUSABLE, &says)
    });
    vf.unbind().ok();
    fs::write(&over, "\n")?;
    outcome.map(|_| ())
}

/// Pods of [`crowd`].
const CROWD: usize = 20;

/// Seven succeed, thirteen are told to try again and who has what, nothing is shared.
fn crowd(stage: &Stage<'_>) -> Result<()> {
    let pods = (0..CROWD).map(|n| stage.node.pod(&format!("pod{n}")));
    let pods: Vec<Pod> = pods.collect::<Result<_>>()?;
    let (plugin, conf) = (plugin()?, conf("net", json!({"master": "pf0"})));
    let all = pods.iter().enumerate();
    let all: Vec<Attachment> = all
        .map(|(n, pod)| Attachment::of(pod, &format!("pod{n}"), IFNAME))
        .collect();
    let start = std::time::Instant::now();
    let running = all.iter().map(|at| plugin.start("ADD", at, &conf));
    let running: Vec<Running> = running.collect::<Result<_>>()?;
    let mut owned = Vec::new();
    let mut refusals = Vec::new();
    for (at, one) in all.iter().zip(running) {
        let reply = one.finish_within(crate::LIMIT)?;
        if reply.status.success() {
            let address = reply.result()?["interfaces"][0]["pciID"].clone();
            owned.push((at, address));
        } else {
            refusals.push(refused(&reply, code::AGAIN, &["pf0"])?);
        }
    }
    eprintln!("{CROWD} ADDs took {:.1} s", start.elapsed().as_secs_f64());
    assert_eq!((owned.len(), refusals.len()), (7, 13));
    let different: BTreeSet<String> = owned.iter().map(|(_, a)| a.to_string()).collect();
    assert_eq!(different.len(), 7, "shared: {owned:?}");
    for error in &refusals {
        let text = format!("{}: {}", error.msg, error.details);
        for vf in &stage.vfs {
            ensure!(
                text.contains(&vf.address),
                "{} is not in: {text}",
                vf.address
            );
        }
        ensure!(text.contains("net/pod"), "no holder is named: {text}");
    }
    for vf in &stage.vfs {
        ensure!(claim_file(vf).exists(), "{} has no claim", vf.address);
    }
    // DEL of those that got nothing is as good as that of the others.
    let running = all.iter().map(|at| plugin.start("DEL", at, &conf));
    let running: Vec<Running> = running.collect::<Result<_>>()?;
    for one in running {
        one.finish_within(crate::LIMIT)?.result()?;
    }
    Ok(())
}
